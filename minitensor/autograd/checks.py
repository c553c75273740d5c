"""gradcheck and gradgradcheck: the walk against numbers that share nothing with it, and whether a mistake would have shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitensor.autograd.experiment import METHODS, Experiment, Options
from minitensor.autograd.result import GradCheck
from minitensor.autograd.subject import Refusal, Subject
from minitensor.autograd.walk import grad
from minitensor.errors import GradcheckError, ShapeError
from minitensor.tensor import Tensor


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    method: str = "richardson",
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    raise_exception: bool = True,
    fast_mode: bool = False,
    nondet_tol: float = 0.0,
    seed: int = 0,
) -> GradCheck:
    """Compare the gradient of ``fn`` at ``inputs``, as the walk gives it, with a numerical one, and say whether a mistake would have shown.

    The walk is asked for u^T J with a random cotangent u and for every row of the Jacobian J; ``method`` gives the numbers::

        "richardson"   central differences at h, h/2, h/4, ..., extrapolated to h = 0, with their own error bar
        "central"      (f(x + h e) - f(x - h e)) / 2h at one step h
        "complex"      Im f(x + i h e) / h, exact to rounding; refused where Richardson disagrees, because fn left the complex world
        "taylor"       |f(x + t d) - f(x) - t <g, d>| falls like t**2 when g is right and like t when it is wrong

    With ``fast_mode`` random cotangents and random directions stand for the full Jacobian; "taylor" always uses them, and so do large
    inputs and outputs. ``eps`` is the step, or the largest of the ladder; without it the step grows with elements above 1. The tolerance
    of every element is computed: the error bar of the numbers plus the rounding of the gradient; ``atol`` and ``rtol`` replace it by
    ``atol + rtol |numerical|``. ``seed`` draws all random numbers.

    ``inputs`` is a Tensor or a tuple; those that require a gradient are checked, all others are constants. ``fn`` gives a Tensor or a
    tuple of Tensors, of which those of integers are left out. The check runs in float64 on copies, whatever the inputs' dtype.

    A check that could not have failed is refused: the cotangent of each recorded operation is scaled by 1.1 in turn, and must be
    noticed; and none may be nearly annihilated on its way to an input, as those of ``sum(y)`` and ``sum(y**2)`` are by a normalisation
    layer. Refused too: elements at a kink, noise that would hide 10 %, results that are not finite or differ from call to call, a
    function that writes into its inputs.

    Returns a `GradCheck`, which is true when all is well, prints itself and draws pictures. Raises `GradcheckError` with the same text
    when all is not well, unless ``raise_exception=False``; and always `GraphError` when no input requires a gradient, `DTypeError` for
    complex inputs, `TypeError` for outputs that are no Tensors, `ValueError` for an unknown method and for a step or
    a tolerance that cannot be one. As ``torch.autograd.gradcheck``; Ridders, Advances in Engineering Software 4 (1982); Squire
    and Trapp, SIAM Review 40 (1998).

    >>> x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> bool(gradcheck(lambda x: x * np.sum(x), x))
    True
    >>> print(gradcheck(lambda x: x * x.detach(), x, raise_exception=False))
    gradcheck by Richardson, full Jacobian (2 x 2) and a random cotangent: WRONG. 4 of 6 derivatives are
    wrong.
    the worst elements
    input    element  output    analytic  numerical  |diff|   tolerance  verdict
    input 0  [0]      [0]       1         2          1.0e+00  ...e-14    WRONG
    input 0  [1]      [1]       2         4          2.0e+00  5e-14      WRONG
    input 0  [1]      random u  1.627732  3.255463   1.6e+00  ...e-14    WRONG
    The tolerance was computed: the error bar of Richardson, and the rounding of the gradient.
    """
    options = Options(method, eps, atol, rtol, fast_mode, nondet_tol, seed)
    return _raised(_check("gradcheck", fn, inputs, (), options), raise_exception)


def gradgradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    method: str = "richardson",
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    raise_exception: bool = True,
    fast_mode: bool = False,
    nondet_tol: float = 0.0,
    seed: int = 0,
) -> GradCheck:
    """`gradcheck` of the gradient: (x, u) -> u^T J(x), with respect to x and to the cotangent u of the outputs.

    u is ``grad_outputs``, a Tensor or one per floating output, or drawn from ``seed``. All else is as in `gradcheck`, errors too; the
    complex step is refused, because the engine differentiates real numbers only. As ``torch.autograd.gradgradcheck``.

    >>> x = Tensor([0.5, 2.0], requires_grad=True)
    >>> bool(gradgradcheck(np.exp, x))
    True
    """
    options = Options(method, eps, atol, rtol, fast_mode, nondet_tol, seed)
    try:
        subject = Subject(fn, inputs)
    except Refusal as refusal:
        return _raised(GradCheck("gradgradcheck", "refused", str(refusal)), raise_exception)
    rng = np.random.default_rng([seed, *b"grad_outputs"])
    if grad_outputs is None:
        grad_outputs = [rng.standard_normal(shape) for shape in subject.output_shapes]
    given = grad_outputs if isinstance(grad_outputs, (list, tuple)) else [grad_outputs]
    devices = subject.output_devices if len(given) == len(subject.output_devices) else [None] * len(given)
    cotangents = [Tensor(u, device=device, requires_grad=True) for u, device in zip(given, devices, strict=True)]
    if [u.shape for u in cotangents] != subject.output_shapes:
        raise ShapeError(f"gradgradcheck: the outputs have shapes {subject.output_shapes}, grad_outputs {[u.shape for u in cotangents]}")

    def gradient(*args: Any) -> tuple[Tensor, ...]:
        call = subject.called(args[: len(subject.inputs)])
        pairs = [pair for pair in zip(call.outputs, args[len(subject.inputs) :], strict=True) if pair[0].requires_grad]
        outputs, us = ([pair[k] for pair in pairs] for k in (0, 1))
        return tuple(g for g in grad(outputs, call.leaves, us, create_graph=True, allow_unused=True) if g is not None)

    names = [*subject.names, *(f"cotangent {k}" for k in range(len(cotangents)))]
    return _raised(_check("gradgradcheck", gradient, (*subject.inputs, *cotangents), names, options), raise_exception)


def _raised(result: GradCheck, raise_exception: bool) -> GradCheck:
    if raise_exception and not result:
        raise GradcheckError(result)
    return result


def _check(title: str, fn: Callable[..., Any], inputs: Any, names: Sequence[str], options: Options) -> GradCheck:
    if options.method not in METHODS:
        raise ValueError(f"{title}: method must be one of {', '.join(METHODS)}, got {options.method!r}")
    if options.eps is not None and not 0 < options.eps < np.inf:
        raise ValueError(f"{title}: eps is a step and must be positive, got {options.eps}")
    for name, value in (("atol", options.atol), ("rtol", options.rtol)):
        if value is not None and not value >= 0:
            raise ValueError(f"{title}: {name} is a tolerance and must not be negative, got {value}")
    title = f"{title} by {METHODS[options.method]}"
    try:
        subject = Subject(fn, inputs, names)
        _refuse_unusable(subject, options.nondet_tol)
    except Refusal as refusal:
        return GradCheck(title, "refused", str(refusal))
    return Experiment(subject, options).result(title)


def _refuse_unusable(subject: Subject, nondet_tol: float) -> None:
    if not subject.x.size:
        raise Refusal("The inputs that require a gradient have no elements, so there is nothing to check.")
    if not subject.y.size:
        raise Refusal("fn gives no floating element, so there is nothing to differentiate.")
    if not np.isfinite(subject.y).all():
        raise Refusal(f"{np.count_nonzero(~np.isfinite(subject.y))} of {subject.y.size} output elements are not finite.")
    again = subject.call(subject.x).y
    if again.shape != subject.y.shape or not np.all(np.abs(again - subject.y) <= nondet_tol):
        raise Refusal("fn gives other values when it is called again with the same inputs: give its random numbers a fixed seed.")
