"""A learner's code in a process of its own: its loops, crashes and prints stay there, and arrays come back.

Parent and child exchange a line of JSON and the float64 numbers behind it, through files in a folder that is theirs alone. Nothing
is pickled, so what comes back are numbers and text, whatever the code does. This guards against accidents, not against attacks:
the code runs with the rights of the user.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np

import minitensor
from minitensor.commands.inputs import BadInput
from minitensor.commands.learner_file import file_and_name, load
from minitensor.nn.diagnosis.diagnosis import remarks
from minitensor.nn.diagnosis.learner import Learner, Outcome, raised
from minitensor.nn.diagnosis.probes import Probe

LARGEST_ANSWER = 2**26  # bytes
KEPT = 4000  # bytes of what the code prints
STARTING = 60  # seconds for Python to start and to load NumPy, beside the time that the code has
SPARE = 2**26  # bytes for writing the answer of code that has filled its memory
REQUEST, ANSWER, REMARKS, TRACE = "request", "answer", "remarks", "trace"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Result(NamedTuple):
    """One outcome per probe, or the ``problem`` for which there are none; how the code was ``called``, what it ``printed``, and `remarks`
    on code that is right.
    """

    outcomes: list[Outcome]
    called: str
    printed: str
    problem: str = ""
    remarks: Sequence[str] = ()


def outcomes(
    spec: str, probes: Sequence[Probe], layer: str, forward: str | None = None, seconds: float = 20, megabytes: int = 2048
) -> Result:
    """Call the function that ``spec`` names on every probe, in a new process.

    The code has ``seconds`` for all of it, and ``megabytes`` of address space where the system can limit it (Windows cannot; time is
    limited everywhere). Raises nothing that the code does: whatever goes wrong is one sentence in `Result.problem`.
    """
    with tempfile.TemporaryDirectory(prefix="minitensor-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        given = {"spec": spec, "forward": forward, "layer": layer, "seconds": seconds, "megabytes": megabytes}
        (folder / REQUEST).write_bytes(packed(given | {"probes": [dataclasses.asdict(probe) for probe in probes]}))
        status, printed = _run(folder, seconds)
        answer = folder / ANSWER
        if not answer.exists():
            return Result([], "", printed, _ending(folder, spec, status, seconds))
        if answer.stat().st_size > LARGEST_ANSWER:
            return Result([], "", printed, f"it returned more than {LARGEST_ANSWER >> 20} MB")
        try:
            told = unpacked(answer.read_bytes())
            found = [_outcome(**each) for each in told["outcomes"]]
            if len(found) != len(probes) and not told["problem"]:
                raise ValueError(f"{len(probes)} outcomes are needed, got {len(found)}")
            said = folder / REMARKS
            more = said.read_text(errors="replace").splitlines() if said.exists() else []
            return Result(found, str(told["called"]), printed, str(told["problem"]), more)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return Result([], "", printed, f"what came back cannot be read ({type(error).__name__}: {error})")


def packed(value: Any) -> bytes:
    """A value of JSON, with float64 arrays anywhere in it, as a line of text and the numbers of the arrays."""
    arrays: list[Any] = []

    def set_aside(array: Any) -> dict[str, Any]:
        arrays.append(np.asarray(array, "<f8"))
        return {"float64": arrays[-1].shape}

    return json.dumps(value, default=set_aside).encode() + b"\n" + b"".join(array.tobytes() for array in arrays)


def unpacked(data: bytes) -> Any:
    """What was `packed`; raises `ValueError` for anything else.

    >>> unpacked(packed({"eps": 0.5, "x": np.eye(2)}))
    {'eps': 0.5, 'x': array([[1., 0.],
           [0., 1.]])}
    """
    head, _, body = data.partition(b"\n")
    start = 0

    def put_back(found: dict[str, Any]) -> Any:
        nonlocal start
        shape = found.get("float64")
        if len(found) != 1 or not isinstance(shape, list):
            return found
        if not all(type(length) is int and length >= 0 for length in shape) or start + 8 * math.prod(shape) > len(body):
            raise ValueError(f"there is no array of shape {shape}")
        array = np.frombuffer(body, "<f8", math.prod(shape), start).reshape(shape)
        start += array.nbytes
        return array

    return json.loads(head, object_hook=put_back)


def _outcome(**fields: Any) -> Outcome:
    """The outcome of these fields, whose types are looked at; raises `TypeError` for those of no outcome."""
    found = Outcome(**fields)
    arrays = [found.dx, found.dgamma, found.dbeta, found.y, *found.adjoints.values()]
    texts = [found.problem, found.kind, *found.mutated, *found.warnings, *found.dtypes.values()]
    lengths = [length for shape in found.shapes.values() for length in shape]
    for kind, values in ((np.ndarray | None, arrays), (str, texts), (int, lengths)):
        if not all(isinstance(value, kind) for value in values):
            raise TypeError("the outcome holds values of other types")
    shapes = {name: tuple(shape) for name, shape in found.shapes.items()}
    return dataclasses.replace(found, shapes=shapes, mutated=tuple(found.mutated), warnings=tuple(found.warnings))


# -- the parent ---------------------------------------------------------------------------------------------------------------------


def _run(folder: Path, seconds: float) -> tuple[int | None, str]:
    """The exit status of the child, None where it had to be killed, and the beginning of what it printed."""
    home = str(Path(minitensor.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {home!r}); from minitensor.commands.sandbox import child; child()"
    environment = dict.fromkeys(ONE_THREAD, "1") | {"MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-u", "-c", code, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
        start_new_session=True,  # so that what the code starts can be ended with it
    )
    assert process.stdout is not None
    kept = bytearray()
    reading = threading.Thread(target=_drain, args=(process.stdout, kept), daemon=True)
    reading.start()
    try:
        status = process.wait(STARTING + seconds)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        _end(process)
        reading.join(1)
    text = bytes(kept).decode(errors="replace")
    text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return status, text + "\n... (shortened)" * (len(kept) > KEPT)


def _drain(stream: IO[bytes], kept: bytearray) -> None:
    """Read to the end, so that nobody waits for room in the pipe, and keep the beginning."""
    with stream:
        while data := stream.read1(2**16):  # type: ignore[attr-defined]
            kept += data[: KEPT + 1 - len(kept)]


def _end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):  # all may have ended
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(folder: Path, spec: str, status: int | None, seconds: float) -> str:
    """Why there is no answer."""
    trace = (folder / TRACE).read_text(errors="replace") if (folder / TRACE).exists() else ""
    line = _line(trace, str(file_and_name(spec)[0]))
    if status is None or trace.startswith("Timeout") or -status == getattr(signal, "SIGXCPU", None):
        return f"it did not finish within {seconds:g} s" + (f"; the endless loop may be near {line}" if line else "")
    if status < 0:
        return f"it crashed Python ({signal.strsignal(-status)})" + (f" near {line}" if line else "")
    return f"it ended Python with status {status} before there was an answer, as os._exit does"


def _line(trace: str, file: str) -> str:
    """The innermost line of the file in what faulthandler wrote, of the thread that was running or else of the first one."""
    _, current, running = trace.partition("Current thread")
    of_thread = running.split("\n\n")[0] if current else trace.rpartition("(most recent call first):")[2]
    written = re.escape(file.encode("ascii", "backslashreplace").decode())
    found = re.search(rf'File "{written}(, cell \d+)?", line (\d+)', of_thread)
    return f"{file}{found[1] or ''}:{found[2]}" if found else ""


# -- the child ----------------------------------------------------------------------------------------------------------------------


def child() -> NoReturn:
    """Answer the request in the folder that is the last argument, and end, with all threads that the code has left running."""
    folder = Path(sys.argv.pop())
    given = unpacked((folder / REQUEST).read_bytes())
    probes = [Probe(**each) for each in given["probes"]]
    processor = 2 * math.ceil(given["seconds"]) + STARTING  # ends what has left the process group, and so is not killed with it
    memory = given["megabytes"] << 20
    for what, soft, hard in (("CORE", 0, 0), ("CPU", processor, processor), ("FSIZE", memory, memory), ("AS", memory, memory + SPARE)):
        _limit(what, soft, hard)
    with (folder / TRACE).open("w") as trace:
        faulthandler.enable(trace)
        faulthandler.dump_traceback_later(given["seconds"], exit=True, file=trace)
        answer: dict[str, Any] = {"called": "", "problem": "", "outcomes": []}
        try:
            backward, forward = load(given["spec"], given["forward"])
            learner = Learner(backward, forward, given["layer"], out=sys.stdout)
            answer["called"] = learner.called
            answer["outcomes"] = [vars(learner.outcome(probe)) for probe in probes]
        except BadInput as error:
            answer["problem"] = str(error)
        except BaseException as error:  # the code may raise what is no Exception
            answer["problem"] = raised(error)
        faulthandler.cancel_dump_traceback_later()
        _limit("AS", memory + SPARE, memory + SPARE)
        (folder / "unfinished").write_bytes(packed(answer))
        (folder / "unfinished").replace(folder / ANSWER)
        if not answer["problem"]:  # what follows takes no mark away: it is for those whose answer is right
            faulthandler.dump_traceback_later(given["seconds"], exit=True, file=trace)
            (folder / REMARKS).write_text("\n".join(remarks(learner, given["layer"])))
        os._exit(0)


def _limit(what: str, soft: int, hard: int) -> None:
    """Limit what this process may take, unless it is limited further already; does nothing on Windows, which has no such limits."""
    try:
        import resource
    except ImportError:
        return
    kind = getattr(resource, f"RLIMIT_{what}")
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))
