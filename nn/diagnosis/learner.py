"""How a learner's backward pass is called, in whichever way it is written, and what came of it."""

from __future__ import annotations

import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import partial
from traceback import walk_tb
from typing import Any, TextIO

import numpy as np

from minitensor import Tensor, grad
from minitensor.autograd import Function
from minitensor.errors import describe

from .probes import LAYERS, Probe, probes

Array = Any
Shape = tuple[int, ...]

GRADIENTS = ("dx", "dgamma", "dbeta")
_ARRAYS = ("x", "gamma", "beta", "dy")
# What parameters are called in courses, in lower case and without underscores; the order of the keys is that of a call by position
_NAMES = {
    "x": {"x", "xin", "input", "inputs", "inp"},
    "gamma": {"gamma", "weight", "scale"},
    "beta": {"beta", "bias", "shift"},
    "eps": {"eps", "epsilon"},
    "dy": {"dy", "dout", "dldy", "gy", "grad", "grady", "gradout", "gradoutput", "upstream", "upstreamgrad", "upstreamgradient"},
    "groups": {"groups", "numgroups", "ngroups"},
}
_LETTERS = {"w": "gamma", "b": "beta", "g": "dy"}  # which mean this only where every other name is known: g is often gamma
# Names that stand for something else, and so for no parameter by its place
_STRANGE = {"y", "out", "output", "mu", "mean", "var", "variance", "std", "sigma", "xhat", "xnorm", "cache", "axis", "axes", "training"}
_VERBS = {
    SystemExit: "ended the program",
    EOFError: "asked for input, which nobody answers",
    MemoryError: "ran out of memory",
    RecursionError: "called itself without end",
}


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Outcome:
    """What a learner's backward pass gave on one probe.

    ``dx``, ``dgamma``, ``dbeta``, ``y`` (of forward) and ``adjoints`` are float64, and None or missing where nothing was returned.
    Gradients of gamma and beta with axes of length 1 too many are 1-d here; ``shapes`` and ``dtypes`` tell how all three came.
    ``problem`` is one sentence, and ``kind`` its kind: "signature" (no way to call it), "raised", "returned" (something that is no
    gradient), or "changed its input", of which ``mutated`` holds the names. Only beside the last are there gradients.
    """

    dx: Array = None
    dgamma: Array = None
    dbeta: Array = None
    y: Array = None
    adjoints: Mapping[str, Array] = field(default_factory=dict)
    problem: str = ""
    kind: str = ""
    mutated: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Learner:
    """A backward pass of the learner's, with its forward where there is one, ready to be called on probes.

    ==========  ========================================================================================================
    style       written as
    ==========  ========================================================================================================
    plain       ``backward(x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)``, or dx alone, or a dict of these
    cache       ``forward(x, gamma, beta, bn_param) -> (out, cache)`` with ``backward(dout, cache) -> (dx, dgamma, dbeta)``
    Function    a subclass of `minitensor.autograd.Function` for ``apply(x, gamma, beta, eps)``
    ==========  ========================================================================================================

    `style` tells which of them it is, and `called` how the parameters were understood: by name (dout, weight, epsilon, ... too), those
    of names that say nothing in the order above. beta may be missing, group_norm needs ``groups``, and a dict of staged adjoints may
    follow the gradients. gamma and beta are 1-d; where that fails and (1, C, 1, 1) does not, they have that shape. What the code prints
    goes to ``out``. Raises `TypeError` where backward is no function, and nothing that the code raises: that is in the `Outcome`.

    >>> def backward(dout, x, gamma, beta, eps):
    ...     return dout * gamma.reshape(-1, 1, 1)
    >>> print(Learner(backward).called)
    backward(dout=dy, x, gamma, beta, eps)
    """

    def __init__(
        self, backward: Any, forward: Callable[..., Any] | None = None, layer: str = "instance_norm", out: TextIO | None = None
    ) -> None:
        if layer not in LAYERS:
            raise ValueError(f"layer must be one of {', '.join(LAYERS)}, got {layer!r}")
        if not callable(backward):
            alone = "; forward alone has no gradients" if forward else ""
            raise TypeError(f"backward must be a function or a Function class, got {describe(backward)}{alone}")
        if forward is not None and not callable(forward):
            raise TypeError(f"forward must be a function, got {describe(forward)}")
        self._out = out or _Nowhere()
        self._spread: bool | None = None  # whether gamma and beta are wanted as (1, C, 1, 1), once that is known
        self.layer, self._refused = layer, ""
        self.style = self.called = ""
        try:
            self._understand(backward, forward, (*_NAMES,) if layer == "group_norm" else (*_NAMES,)[:-1])
        except Problem as problem:
            self._refused = problem.sentence

    def outcome(self, probe: Probe) -> Outcome:
        """What comes of calling the learner's code on copies of the probe's arrays; never raises what that code raises."""
        if self._refused:
            return Outcome(problem=self._refused, kind="signature")
        return self._attempt(probe, self._spreads(probe))

    def results(self, probe: Probe) -> dict[str, Any]:
        """What the learner's code returns, by name and as it is, on copies of arrays that may hold other numbers than floats.

        Raises `Problem`, whose cause is the error that the code raised, if it did.
        """
        if self._refused:
            raise Problem("signature", self._refused)
        spread = self._spreads(probes(self.layer)[0])
        with self._aside():
            return _parts(self._backward, self._run(_values(probe, spread))[0])

    def _spreads(self, probe: Probe) -> bool:
        if self._spread is None:
            self._spread = probe.x.ndim > 2 and self._wants_spread(probe)
        return self._spread

    def _understand(self, backward: Any, forward: Any, roles: Sequence[str]) -> None:
        of_forward = [role for role in roles if role != "dy"]
        name = getattr(backward, "__name__", "backward")
        self._forward = None if forward is None else _Call(forward, of_forward, getattr(forward, "__name__", "forward"))
        if isinstance(backward, type):
            if not issubclass(backward, Function):
                raise Problem("signature", f"{name} is a class, but none derived from minitensor.autograd.Function")
            self.style, self._run = "Function", self._as_function
            self._backward = _Call(backward.apply, of_forward, f"{name}.apply", partial(backward.forward, None))
        elif _takes_cache(_parameters(backward, roles)):
            self.style, self._run = "cache", self._with_cache
            if forward is None:
                raise Problem("signature", f"{name}(dout, cache) needs the forward that makes its cache: give forward as well")
            self._backward = _Call(backward, ("dy", "cache"), name)
        else:
            self.style, self._run = "plain", self._plainly
            self._backward = _Call(backward, roles, name)
        self.called = " with ".join(str(call) for call in (self._backward, self._forward) if call)

    def _wants_spread(self, probe: Probe) -> bool:
        """Whether the code fails with gamma of shape (C,), and not, or further on, with (1, C, 1, 1)."""
        width, channels = probe.x.shape[-1], len(probe.gamma)
        times = next(times for times in (1, 2, 3) if times * width not in (1, channels))  # else (C,) broadcasts along the wrong axis
        probe = replace(probe, x=np.concatenate((probe.x,) * times, -1), dy=np.concatenate((probe.dy,) * times, -1))
        flat, spread = (self._attempt(probe, each) for each in (False, True))
        went_well = [each.dx is not None and each.dx.shape == probe.x.shape for each in (flat, spread)]
        return went_well == [False, True] or ("broadcast" in flat.problem and "broadcast" not in spread.problem)

    def _attempt(self, probe: Probe, spread: bool) -> Outcome:
        values, before = (_values(probe, spread) for _ in range(2))
        with self._aside() as warned:
            try:
                result, y = self._run(values)
                found = Outcome(**_read(self._backward, result, probe), y=None if y is None else _numbers("y", y))
            except Problem as problem:
                found = Outcome(problem=problem.sentence, kind=problem.kind)
        told = tuple(dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in warned))
        mutated = tuple(name for name in _ARRAYS if not np.array_equal(values[name], before[name]))
        if mutated and not found.problem:
            sentence = f"the code wrote into the caller's {' and '.join(mutated)}: work on a copy, and write a = a - b instead of a -= b"
            found = replace(found, problem=sentence, kind="changed its input")
        return replace(found, mutated=mutated, warnings=told)

    def _plainly(self, values: dict[str, Any]) -> tuple[Any, Any]:
        result = self._backward(values)
        y = None if self._forward is None else self._forward(values)
        return result, y[0] if isinstance(y, tuple) and y else y

    def _with_cache(self, values: dict[str, Any]) -> tuple[Any, Any]:
        assert self._forward is not None, "see _understand"
        made = self._forward(values)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise Problem("returned", f"{self._forward.name} must return (out, cache), got {_listed(made)}")
        y, cache = made
        return self._backward(values | {"cache": cache}), y

    def _as_function(self, values: dict[str, Any]) -> tuple[Any, Any]:
        taken = [role for role in ("x", "gamma", "beta") if role in self._backward.takes.values()]
        tensors = {role: Tensor(values[role], requires_grad=True) for role in taken}
        y = self._backward(values | tensors)
        if not isinstance(y, Tensor):
            raise Problem("returned", f"{self._backward.name} must return one Tensor, got {_listed(y)}")
        found = _guarded(self._backward.name, grad, y, [*tensors.values()], Tensor(values["dy"]), allow_unused=True)
        return {"d" + role: gradient for role, gradient in zip(taken, found, strict=True)}, y

    @contextmanager
    def _aside(self) -> Iterator[list[warnings.WarningMessage]]:
        """Printing, warnings and questions of the learner's code disturb nobody."""
        stdin = sys.stdin
        with (
            warnings.catch_warnings(record=True) as warned,
            np.errstate(all="ignore"),
            redirect_stdout(self._out),
            redirect_stderr(self._out),
        ):
            warnings.simplefilter("default")
            sys.stdin = io.StringIO()
            try:
                yield warned
            finally:
                sys.stdin = stdin


def raised(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero (hw.py:12)``: an error in code that is not ours, with the innermost line of that code.

    >>> raised(ValueError("no"))
    'ValueError: no'
    """
    reason = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {reason[:500]}{_line_of(error)}"


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    others = {"minitensor", "numpy", *sys.stdlib_module_names} - {"__main__"}
    lines = [
        f" ({frame.f_code.co_filename}:{line})"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in others
    ]
    return lines[-1] if lines else ""


class Problem(Exception):
    """What stands in the way of an outcome."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind, self.sentence = kind, sentence


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


class _Call:
    """A function of the learner's, with what each of its parameters takes: ``takes`` maps names to roles, such as dout to dy."""

    def __init__(self, function: Callable[..., Any], roles: Sequence[str], name: str, like: Callable[..., Any] | None = None) -> None:
        self.function, self.name = function, name
        self.parameters = _parameters(like or function, roles)
        self.takes = _cache_takes(self.parameters) if "cache" in roles else _takes(self.parameters, roles)
        missing = [role for role in roles if role != "beta" and role not in self.takes.values()]
        if "param" in self.takes.values():
            missing = [role for role in missing if role != "eps"]  # the dict holds it
        if missing:
            own = ", ".join(str(parameter) for parameter in self.parameters)
            raise Problem(
                "signature",
                f"{name}({own}): none of its parameters is known to be {' or '.join(missing)}; call them {', '.join(roles)}",
            )

    def __call__(self, values: Mapping[str, Any]) -> Any:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for parameter in self.parameters:
            role = self.takes.get(parameter.name)
            if parameter.kind is parameter.KEYWORD_ONLY:
                named |= {parameter.name: values[role]} if role else {}
            else:
                positional.append(values[role] if role else parameter.default)
        return _guarded(self.name, self.function, *positional, **named)

    def __str__(self) -> str:
        shown = (name if role in (name, "param") else f"{name}={role}" for name, role in self.takes.items())
        return f"{self.name}({', '.join(shown)})"


def _guarded(name: str, function: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """The call, with whatever the learner's code raises as a `Problem`; not KeyboardInterrupt, which the person at the keys raises."""
    try:
        return function(*values, **named)
    except (Exception, SystemExit) as error:
        verb = next((verb for kind, verb in _VERBS.items() if isinstance(error, kind)), "raised an error")
        raise Problem("raised", f"{name} {verb}: {raised(error)}") from error


def _parameters(function: Callable[..., Any], roles: Sequence[str]) -> list[inspect.Parameter]:
    """Those that can be given one by one; of ``f(*args)`` and of what has no signature, one for each role in order."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (ValueError, TypeError):
        parameters = []
    single = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    return single or [inspect.Parameter(role, inspect.Parameter.POSITIONAL_ONLY) for role in roles if role != "groups"]


def _required(parameters: Sequence[inspect.Parameter]) -> list[str]:
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def _role(name: str, roles: Sequence[str], letters: Mapping[str, str]) -> str | None:
    """What a parameter of this name takes."""
    plain = name.lower().replace("_", "")
    if name == "G" and "groups" in roles:
        return "groups"
    if "param" in plain and "dy" not in roles:
        return "param"
    return next((role for role in roles if plain in _NAMES[role]), letters.get(plain))


def _takes(parameters: Sequence[inspect.Parameter], roles: Sequence[str]) -> dict[str, str]:
    """Name to role: by the names where all are known; else those known, and the others in order, if they are as many as are left."""
    required = _required(parameters)
    known = {name: role for name in required if (role := _role(name, roles, _LETTERS)) in (*roles, "param")}
    if len(known) < len(required) or len(set(known.values())) < len(known):
        known = {name: role for name in required if (role := _role(name, roles, {}))}
        others = [name for name in required if name not in known]
        taken = {*known.values(), "groups"} | ({"eps"} if "param" in known.values() else set())
        left = [role for role in roles if role not in taken]
        strange = any(name.lower().replace("_", "") in _STRANGE for name in others)
        if strange or len(left) != len(others) or len(set(known.values())) < len(known):
            return {}
        known |= dict(zip(others, left, strict=True))
    for parameter in parameters:
        role = _role(parameter.name, roles, {})
        if parameter.name not in known and role and role not in known.values():
            known[parameter.name] = role
    return {parameter.name: known[parameter.name] for parameter in parameters if parameter.name in known}


def _takes_cache(parameters: Sequence[inspect.Parameter]) -> bool:
    """Whether this is backward(dout, cache): two things, none of which is x."""
    required = _required(parameters)
    return len(required) == 2 and all(_role(name, ("x",), {}) != "x" for name in required)


def _cache_takes(parameters: Sequence[inspect.Parameter]) -> dict[str, str]:
    first, second = _required(parameters)
    swapped = _role(second, ("dy",), _LETTERS) == "dy" != _role(first, ("dy",), _LETTERS)
    return {first: "cache", second: "dy"} if swapped else {first: "dy", second: "cache"}


def _values(probe: Probe, spread: bool) -> dict[str, Any]:
    """What each role takes: copies of the arrays, with gamma and beta as (1, C, 1, 1) where they are to be ``spread``."""
    shape = (1, len(probe.gamma), *(1,) * (probe.x.ndim - 2)) if spread else probe.gamma.shape
    arrays = {name: getattr(probe, name).copy() for name in _ARRAYS}
    arrays |= {name: arrays[name].reshape(shape) for name in ("gamma", "beta")}
    return arrays | {"eps": probe.eps, "groups": probe.groups, "param": _settings(probe)}


def _settings(probe: Probe) -> dict[str, Any]:
    """The dict that some courses pass in the place of eps, with the running statistics of a layer that has seen nothing yet."""
    running = {"running_mean": np.zeros(probe.gamma.shape), "running_var": np.ones(probe.gamma.shape)}
    return {"mode": "train", "eps": probe.eps, "momentum": 0.9, **running}


def _listed(value: Any) -> str:
    """``(float64 (2, 3), None)`` for several values, and as `describe` for one."""
    return f"({', '.join(map(describe, value))})" if isinstance(value, (tuple, list)) else describe(value)


def _parts(call: _Call, result: Any) -> dict[str, Any]:
    """What was returned, by name."""
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    arrays = isinstance(result, list) and any(value is None or hasattr(value, "shape") for value in result)
    several = arrays or isinstance(result, tuple)
    gradients = list(result) if several else [result]
    adjoints = _parts(call, gradients.pop()) if gradients and isinstance(gradients[-1], Mapping) else {}
    counts = (1, 3) if "beta" in call.takes.values() or "cache" in call.takes.values() else (1, 2, 3)
    if len(gradients) not in counts:
        raise Problem("returned", f"{call.name} must return (dx, dgamma, dbeta), or dx alone, got {_listed(result)}")
    return {**adjoints, **dict(zip(GRADIENTS, gradients, strict=False))}


def _read(call: _Call, result: Any, probe: Probe) -> dict[str, Any]:
    """The fields of an outcome that are returned."""
    parts = _parts(call, result)
    if parts.get("dx") is None:
        got = f"a dict of {', '.join(parts) or 'nothing'}" if isinstance(result, Mapping) else _listed(result)
        raise Problem("returned", f"{call.name} returned no dx, got {got}")
    found = {name: _numbers(name, value) for name, value in parts.items() if value is not None}
    gradients = {name: found.pop(name) for name in GRADIENTS if name in found}
    shapes = {name: array.shape for name, array in gradients.items()}
    dtypes = {name: str(getattr(parts[name], "dtype", "float64")) for name in gradients}
    for name in gradients.keys() - {"dx"}:
        if _longer(shapes[name]) == _longer(probe.gamma.shape):
            gradients[name] = gradients[name].reshape(probe.gamma.shape)
    return {**gradients, "adjoints": found, "shapes": shapes, "dtypes": dtypes}


def _longer(shape: Shape) -> list[int]:
    """The lengths other than 1."""
    return [length for length in shape if length != 1]


def _numbers(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value.detach() if isinstance(value, Tensor) else value)
        if array.dtype.kind in "fiub":
            return array.astype(np.float64)
    except Exception as error:  # numbers of unequal lists, of a GPU, of a class of the learner's, or too many for the memory
        raise Problem("returned", f"{name} must be an array of real numbers, got {describe(value)}: {raised(error)}") from error
    got = describe(value) if isinstance(value, (np.ndarray, Tensor)) else f"{type(value).__name__} {value!r:.50}"
    raise Problem("returned", f"{name} must be an array of real numbers, got {got}")
