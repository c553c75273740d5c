"""``minitensor diagnose``: exit status and output; and whatever a learner's code does, it is never marked wrongly for it."""

import io
import json
import os
import re
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minitensor.commands import main, sandbox
from minitensor.commands.inputs import BadInput
from minitensor.commands.learner_file import load
from minitensor.nn.derivation.faults import staged_backward
from minitensor.nn.diagnosis.learner import Learner, Outcome
from minitensor.nn.diagnosis.probes import Probe

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits or signals")
LONG = 100  # seconds, for what should end by itself, however slow the machine

RIGHT = """\
import numpy as np

def backward(x, gamma, beta, eps, dy):
    axes = (2, 3)
    s = np.sqrt(x.var(axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axes, keepdims=True)) / s
    h = dy * gamma.reshape(-1, 1, 1)
    dx = (h - h.mean(axes, keepdims=True) - x_hat * (h * x_hat).mean(axes, keepdims=True)) / s
    return dx, (dy * x_hat).sum((0, 2, 3)), dy.sum((0, 2, 3))
"""
WRONG = RIGHT.replace("- h.mean(axes, keepdims=True)", "")
COURSE = """\
import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    s = np.sqrt(x.var(0) + bn_param["eps"])
    x_hat = (x - x.mean(0)) / s
    return gamma * x_hat + beta, (x_hat, gamma, s)

def batchnorm_backward(dout, cache):
    x_hat, gamma, s = cache
    h = dout * gamma
    return (h - h.mean(0) - x_hat * (h * x_hat).mean(0)) / s, (dout * x_hat).sum(0), dout.sum(0)

def batchnorm_backward_alt(dout, cache):
    dx, dgamma, dbeta = batchnorm_backward(dout, cache)
    return -dx, dgamma, dbeta
"""
FUNCTION = (
    RIGHT
    + """
from minitensor.autograd import Function

class Norm(Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        x_hat = (x - np.mean(x, (2, 3), keepdims=True)) / np.sqrt(np.var(x, (2, 3), keepdims=True) + eps)
        return gamma.reshape(-1, 1, 1) * x_hat + beta.reshape(-1, 1, 1)

    @staticmethod
    def backward(ctx, dy):
        x, gamma, beta = ctx.saved_tensors
        c = x - np.mean(x, (2, 3), keepdims=True)
        s = np.sqrt(np.mean(c * c, (2, 3), keepdims=True) + ctx.eps)
        h = dy * gamma.reshape(-1, 1, 1)
        dx = (h - np.mean(h, (2, 3), keepdims=True) - c / s * np.mean(h * c / s, (2, 3), keepdims=True)) / s
        return dx, np.sum(dy * c / s, (0, 2, 3)), np.sum(dy, (0, 2, 3)), None
"""
)


def run(*arguments):
    """``minitensor diagnose ARGUMENTS``: exit status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(["diagnose", *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
    return status, out.getvalue(), err.getvalue()


def notebook(*cells):
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": cell} for cell in cells]})


@pytest.fixture
def hand_in(tmp_path):
    """Write the code into a file, and be where it is."""

    def write(code, name="hw.py"):
        (tmp_path / name).write_text(code, encoding="utf-8")
        return name

    with chdir(tmp_path):
        yield write


def a_probe():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 6, 4, 5))
    gamma, beta = rng.uniform(0.5, 2, (2, 6))
    return Probe("instance_norm", x, gamma, beta, 0.1, dy)


def of(spec, seconds=LONG):
    return sandbox.outcomes(spec, [a_probe(), replace(a_probe(), eps=0.25)], "instance_norm", seconds=seconds)


@pytest.fixture
def in_process(monkeypatch):
    """Without the sandbox, which takes time to start, where it is not what is tested."""

    def outcomes(spec, probes, layer, forward, seconds, megabytes):
        learner = Learner(*load(spec, forward), layer)
        return sandbox.Result([learner.outcome(probe) for probe in probes], learner.called, "")

    monkeypatch.setattr(sandbox, "outcomes", outcomes)


def is_right(result):
    assert result.problem == ""
    for probe, outcome in zip([a_probe(), replace(a_probe(), eps=0.25)], result.outcomes, strict=True):
        dx, dgamma, dbeta = staged_backward(probe.x, probe.gamma, probe.beta, probe.eps, probe.dy)
        assert outcome.problem == ""
        np.testing.assert_allclose(outcome.dx, dx, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(outcome.dgamma, dgamma, rtol=1e-9)
        np.testing.assert_allclose(outcome.dbeta, dbeta, rtol=1e-9)


# -- the command --------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("code", "arguments", "status"),
    [
        (RIGHT, ["hw.py:backward"], 0),
        (RIGHT, ["hw.py"], 0),
        (WRONG, ["hw.py:backward", "--seed=3"], 1),
        (COURSE, ["hw.py:batchnorm_backward", "--layer=batch_norm"], 0),
        (COURSE, ["hw.py:batchnorm_backward_alt", "--layer=batch_norm"], 1),
        (COURSE, ["hw.py:batchnorm_backward", "--layer=batch_norm", "--forward=batchnorm_forward"], 0),
        (FUNCTION, ["hw.py:Norm"], 0),
        (FUNCTION.replace("return dx, ", "return -dx, "), ["hw.py:Norm"], 1),
        (RIGHT.replace("return dx", "return None"), ["hw.py"], 2),
    ],
)
def test_exit_status(hand_in, code, arguments, status):
    hand_in(code)
    found, out, err = run(*arguments, "--json", "told.json")
    assert (found, err) == (status, "")
    assert out.startswith("called: ")
    told = json.loads(Path("told.json").read_text())
    assert told["verdict"] == ["right", "wrong", "not graded"][status]
    assert told["code"] == arguments[0]


@pytest.mark.parametrize(("code", "expected"), [(RIGHT, 0), (WRONG, 1)])
def test_exit_status_of_the_whole(hand_in, code, expected):
    status, _, err = run(hand_in(code), "--time", LONG)
    assert (status, err) == (expected, "")


@pytest.mark.usefixtures("in_process")
def test_hints_say_less(hand_in):
    hand_in(WRONG)
    whole, *hints = (run("hw.py", *more)[1] for more in ([], ["--hint=1"], ["--hint=2"], ["--hint=3"]))
    assert len({whole, *hints}) >= 3
    assert all(hint.startswith("called: ") for hint in hints)


def test_what_the_code_prints_and_warns_of_is_shown(hand_in):
    code = "import warnings\nprint('at import \\x1b[31m')\n" + RIGHT.replace("axes = (2, 3)", "axes = (2, 3); warnings.warn('careful')")
    status, out, _ = run(hand_in(code), "--time", LONG)
    assert status == 0
    assert "the code warned:\n  | UserWarning: careful\n" in out
    assert "the code printed:\n  | at import \N{REPLACEMENT CHARACTER}[31m\n" in out


def test_not_graded(hand_in):
    status, out, err = run(hand_in("x = 1 /\n"), "--json", "told.json", "--time", LONG)
    assert (status, err) == (2, "")
    assert out == "not graded: hw.py: hw.py cannot be run: SyntaxError: invalid syntax (hw.py:1)\n"
    told = json.loads(Path("told.json").read_text())
    assert told["verdict"] == "not graded"
    assert "SyntaxError" in told["problem"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--time=0"], "--time must be a positive number of seconds, got 0"),
        (["--time=nan"], "--time must be a positive number of seconds, got nan"),
        (["--memory=10"], "--memory must be at least 512, got 10"),
        (["--seed=-1"], "--seed must not be negative, got -1"),
        (["--json=nowhere/x.json"], "the folder nowhere is not there"),
        (["--layer=rms_norm"], "invalid choice: 'rms_norm'"),
        (["--hint=4"], "invalid choice: 4"),
    ],
)
def test_options_that_cannot_be(hand_in, arguments, told):
    status, out, err = run(hand_in(RIGHT), *arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert told in err


# -- finding the function -----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """What is imported from a file leaves no trace in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "__user__", None)


@pytest.mark.parametrize(
    ("code", "spec", "forward", "told"),
    [
        (RIGHT, "hw.py:backwards", None, "hw.py has no backwards; did you mean backward?"),
        (RIGHT, "hw.py:q", None, "hw.py has no q; it holds backward"),
        (RIGHT, "hw.py:backward", "forwards", "hw.py has no forwards; it holds backward"),
        (RIGHT, "other.py:backward", None, "other.py is not there"),
        (RIGHT, "hw.txt:backward", None, "hw.txt:backward: FILE.py:FUNCTION or NOTEBOOK.ipynb:FUNCTION is needed"),
        (RIGHT, "backward", None, "backward: FILE.py:FUNCTION or"),
        (COURSE, "hw.py", None, "the file holds 2 that may be meant, batchnorm_backward, batchnorm_backward_alt"),
        (FUNCTION, "hw.py", None, "the file holds 2 that may be meant, Norm, backward"),
        ("x = 1", "hw.py", None, "the file holds none"),
        ("from math import sqrt\nfrom textwrap import dedent", "hw.py", None, "the file holds none"),
        ("1 / 0", "hw.py:f", None, r"hw.py cannot be run: ZeroDivisionError: division by zero (hw.py:1)"),
        ("import sys\n\nsys.exit('bye')", "hw.py:f", None, "hw.py cannot be run: SystemExit: bye (hw.py:3)"),
        ("import no_such_module", "hw.py:f", None, "hw.py cannot be run: ModuleNotFoundError: No module named 'no_such_module' (hw.py:1)"),
        ("x = '\0'", "hw.py:f", None, "hw.py cannot be run: "),
    ],
)
def test_functions_that_are_not_found(hand_in, code, spec, forward, told):
    hand_in(code)
    with pytest.raises(BadInput) as caught:
        load(spec, forward)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_function_is_found(hand_in):
    hand_in(RIGHT + "\ndef _helper(): pass\n")
    assert load("hw.py").backward.__name__ == "backward"
    assert load("hw.py", "_helper").forward.__name__ == "_helper"
    hand_in("def solution(x, gamma, beta, eps, dy): return x\n")
    assert load("hw.py") == (sys.modules["__user__"].solution, None)
    hand_in(COURSE)
    for name in ("batchnorm_backward", "batchnorm_backward_alt"):
        assert [each.__name__ for each in load(f"hw.py:{name}")] == [name, "batchnorm_forward"]


def test_a_file_is_read_as_it_is_now(hand_in):
    """Of the same length and time as one before."""
    for value in ("1", "2"):
        os.utime(hand_in(f"value = {value}\ndef backward(): return value\n"), (0, 0))
        assert load("hw.py").backward() == int(value)
    assert not Path("__pycache__").exists()


MAGIC = [
    "%matplotlib inline\nimport numpy as np\n!pip install \\\n  nothing\nnp.array?\n?np\nfiles = !ls\nhere = 8",
    "%%time\nvalue = (7\n% 4)\nif value:\n    %pwd\nthere = 5",
    "%%bash\necho this is no Python",
    "text = '''\n%not a magic\n'''",
    "def backward(): return value, text, 1 / 0\ndisplay(backward)\n",
]


def test_notebooks(hand_in):
    cells = [{"cell_type": "markdown", "source": ["text"]}, *json.loads(notebook(*MAGIC))["cells"]]
    hand_in(json.dumps({"nbformat": 4, "cells": cells}), "hw.ipynb")
    found = load("hw.ipynb:backward").backward
    user = sys.modules["__user__"]
    assert (user.here, user.there, user.value, user.text) == (8, 5, 3, "\n%not a magic\n")
    outcome = Learner(lambda x, gamma, beta, eps, dy: found()).outcome(a_probe())
    assert "division by zero (hw.ipynb, cell 6:1)" in outcome.problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            notebook("x = 1", "!ls\nx = 1\ny = 1 / 0"),
            "cell 2 fails when the notebook is run .*: ZeroDivisionError: .*cell 2:3",
        ),
        (notebook("def f(:"), "cell 1 fails .*SyntaxError: invalid syntax .*cell 1:1"),
        (notebook("raise SystemExit"), "cell 1 fails .*SystemExit"),
        ("{}", "hw.ipynb is no notebook of format 4: KeyError: 'cells'"),
        ("[]", "hw.ipynb is no notebook of format 4: TypeError"),
        ("x = 1", "hw.ipynb is no notebook of format 4: JSONDecodeError"),
        ("[" * 10**5, "hw.ipynb is no notebook of format 4: RecursionError"),
        ('{"cells": [{"cell_type": "code"}]}', "hw.ipynb is no notebook of format 4: KeyError: 'source'"),
    ],
)
def test_notebooks_that_cannot_be_run(hand_in, text, told):
    hand_in(text, "hw.ipynb")
    with pytest.raises(BadInput, match=told):
        load("hw.ipynb:f")


# -- the sandbox ----------------------------------------------------------------------------------------------------------------------


def with_line(statement):
    """The right answer, with this before it on line 4."""
    return RIGHT.replace("    axes = (2, 3)\n", f"    {statement}\n    axes = (2, 3)\n")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("while True: pass", "it did not finish within 1 s; the endless loop may be near hw.py:4"),
        ("__import__('collections').deque(__import__('itertools').repeat(0), 0)", "did not finish within 1 s; the endless loop .*hw.py:4"),
        ("__import__('time').sleep(1000)", "it did not finish within 1 s; the endless loop may be near hw.py:4"),
        ("while True: print('again')", "it did not finish within 1 s; the endless loop may be near hw.py:4"),
    ],
)
def test_what_does_not_end(hand_in, statement, told):
    """A loop in Python, one in C that holds the interpreter's lock, a wait, and one that prints."""
    result = of(hand_in(with_line(statement)), seconds=1)
    assert result.outcomes == []
    assert re.search(told, result.problem), result
    assert len(result.printed) <= sandbox.KEPT + 100


def test_what_does_not_end_when_imported(hand_in):
    assert of(hand_in("while True: pass\n", "schön.py"), seconds=1).problem.endswith("the endless loop may be near schön.py:1")
    cells = notebook("x = 1", "\nwhile True: pass")
    assert of(hand_in(cells, "hw.ipynb"), seconds=1).problem.endswith("the endless loop may be near hw.ipynb, cell 2:2")


def test_what_takes_the_clock_away_is_killed(hand_in, monkeypatch):
    monkeypatch.setattr(sandbox, "STARTING", 2)
    statement = "__import__('faulthandler').cancel_dump_traceback_later(); __import__('time').sleep(1000)"
    assert of(hand_in(with_line(statement)), seconds=1).problem == "it did not finish within 1 s"


@posix
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("__import__('os')._exit(0)", "it ended Python with status 0 before there was an answer, as os._exit does"),
        ("__import__('ctypes').string_at(0)", r"it crashed Python \(Segmentation fault\) near hw.py:4"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", r"it crashed Python \(Killed\)$"),
        ("raise type('Odd', (BaseException,), {})('no Exception')", r"Odd: no Exception \(hw.py:4\)"),
    ],
)
def test_what_ends_python(hand_in, statement, told):
    result = of(hand_in(with_line(statement)))
    assert result.outcomes == []
    assert re.search(told, result.problem), result


IN_ONE_PROBE = [
    ("raise SystemExit(0)", "backward ended the program: SystemExit: 0 (hw.py:4)"),
    ("backward(x, gamma, beta, eps, dy)", "backward called itself without end: RecursionError: "),
    ("input()", "backward asked for input, which nobody answers: EOFError: "),
    ("1 / len(open(0, closefd=False).read())", "ZeroDivisionError: division by zero (hw.py:7)"),
    ("x = np.ones(2**38)", "backward ran out of memory: MemoryError: Unable to allocate 2.00 TiB"),
    ("hoard = [np.empty(2**20) for _ in range(10**6)]", "backward ran out of memory: MemoryError: "),
    ("np.hoard = [np.empty(2**20)]; 1 / 0", "ZeroDivisionError: division by zero (hw.py:10)"),
    ("[np.hoard.append(np.empty(2**12)) for _ in range(10**9)]", "backward ran out of memory: MemoryError: "),
]


@posix
def test_what_goes_wrong_in_one_probe(hand_in):
    """Each is told by its own outcome, and the next probe is none the worse; the last leaves no memory to the process."""
    lines = [f"    if eps == {number}: {statement}" for number, (statement, _) in enumerate(IN_ONE_PROBE)]
    code = "\n".join(["import numpy as np", "", "def backward(x, gamma, beta, eps, dy):", *lines])
    probe = Probe("batch_norm", np.ones((6, 4)), np.ones(4), np.ones(4), 0.0, np.ones((6, 4)))
    result = sandbox.outcomes(
        hand_in(code), [replace(probe, eps=float(i)) for i in range(len(IN_ONE_PROBE))], "batch_norm", None, LONG, 512
    )
    assert result.problem == ""
    for outcome, (_, told) in zip(result.outcomes, IN_ONE_PROBE, strict=True):
        assert outcome.kind == "raised"
        assert told in outcome.problem


@pytest.mark.parametrize(
    "code",
    [
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n",
        "print('x' * 10**7)\nimport os; os.write(1, b'\\xff' * 10**6)\n",
        "import atexit, os, sys\natexit.register(os._exit, 3); sys.stdout.close(); sys.stdout = None; sys.argv.clear(); os.chdir('/')\n",
    ],
    ids=["thread", "print", "exit"],
)
def test_what_is_graded_all_the_same(hand_in, code):
    result = of(hand_in(RIGHT + code))
    is_right(result)
    assert len(result.printed) <= sandbox.KEPT + 100
    assert result.printed.endswith("... (shortened)") == ("10**" in code)


@posix
def test_processes_left_running_end_with_it(hand_in):
    code = RIGHT + "import subprocess, sys\nchild = subprocess.Popen(['sleep', '1000'])\nprint(child.pid)\n"
    result = of(hand_in(code))
    is_right(result)
    status = Path(f"/proc/{int(result.printed)}/stat")
    for _ in range(100):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the process is still there")


def test_code_that_imports_its_neighbours_and_hides_ours(hand_in):
    """As with ``python FILE.py``: what lies beside the file is found, and what it hides is hidden from it alone."""
    hand_in("raise LookupError('hidden')\n", "json.py")
    hand_in("axes = (2, 3)\n", "helper.py")
    is_right(of(hand_in(RIGHT.replace("axes = (2, 3)", "from helper import axes"))))


@pytest.mark.parametrize(
    "value",
    [{"a": np.eye(2), "float64": [1, 2], "b": [np.zeros((0, 3)), np.array(3.0), None]}, {"float64": np.ones(2)}, np.ones((1, 2)), []],
    ids=repr,
)
def test_packed(value):
    def same(found, expected):
        if isinstance(expected, dict):
            return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
        if isinstance(expected, list):
            return len(found) == len(expected) and all(map(same, found, expected))
        return np.array_equal(found, expected) and np.shape(found) == np.shape(expected)

    assert same(sandbox.unpacked(sandbox.packed(value)), value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\x80\x04N.", b'{"float64": [2]}\n' + b"0" * 8, b'{"float64": [-1]}\n', b'{"float64": [true]}\n', b'{"float64": [1e9]}'],
)
def test_what_was_not_packed_is_refused(data):
    with pytest.raises(ValueError, match=r"Expecting|no array|decode"):
        sandbox.unpacked(data)


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"called": "", "problem": "", "outcomes": []},
        {"called": "", "problem": "", "outcomes": [1, 2]},
        {"called": "", "problem": "", "outcomes": [{"dx": "1.0"}] * 2},
        {"called": "", "problem": "", "outcomes": [{"dx": np.ones(2), "kind": 3}] * 2},
        {"called": "", "problem": "", "outcomes": [{"adjoints": [1]}] * 2},
        {"called": "", "problem": "", "outcomes": [{"verdict": "right"}] * 2},
    ],
    ids=repr,
)
def test_answers_that_are_none(monkeypatch, told):
    """Forged, or cut: not graded."""

    def write(folder, seconds):
        (folder / sandbox.ANSWER).write_bytes(sandbox.packed(told))
        return 0, ""

    monkeypatch.setattr(sandbox, "_run", write)
    result = of("hw.py:f")
    assert result.outcomes == []
    assert result.problem.startswith("what came back cannot be read (")


def test_an_answer_that_is_too_large(hand_in, monkeypatch):
    code = "import numpy as np\ndef backward(x, gamma, beta, eps, dy): return np.ones(2**20)\n"
    monkeypatch.setattr(sandbox, "LARGEST_ANSWER", 2**22)
    assert of(hand_in(code)).problem == "it returned more than 4 MB"


def test_all_of_an_outcome_comes_back(hand_in):
    code = RIGHT.replace("    return dx", "    x += 1\n    return dx[None]").replace("dy.sum((0, 2, 3))", "None, {'s_bar': s}")
    code = code.replace("    axes", "    __import__('warnings').warn('careful')\n    axes")
    found = of(hand_in(code)).outcomes[0]
    backward = load("hw.py").backward
    expected = Learner(backward).outcome(a_probe())
    for name in Outcome.__dataclass_fields__:
        np.testing.assert_equal(getattr(found, name), getattr(expected, name))
    assert (found.mutated, found.shapes["dx"], found.warnings) == (("x",), (1, 2, 6, 4, 5), ("UserWarning: careful",))
