"""Random programs: the engine against differences and against a naive second engine, in both walks; and what is planted is found."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import naive
import numpy as np
import pytest
from checks import check_first, check_second
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from naive import Op, Step

import minitensor as mt
from minitensor.arrays import ShapeDtype
from minitensor.autograd import walk as engine
from minitensor.errors import ShapeError
from minitensor.primitive import Node
from minitensor.tensor import DISPATCH

Dice = np.random.Generator
Arrays = tuple[np.ndarray, ...]
Choose = Callable[[Dice, Arrays], dict[str, Any] | None]


class Kind(NamedTuple):
    """An op, how its arguments are brought into its domain, and how parameters are drawn (None: it does not fit these arrays)."""

    op: Op
    guards: tuple[str, ...]
    choose: Choose


def op(function: Callable[..., Any], analytic: Callable[..., Any] | None = None, name: str = "") -> Op:
    return Op(name or getattr(function, "__name__", str(function)), function, analytic or function)


# -- what parameters fit -----------------------------------------------------------------------------------------------------------------


def pick(dice: Dice, values: Sequence[Any]) -> Any:
    return values[int(dice.integers(len(values)))]


def anything(_dice: Dice, _xs: Arrays) -> dict[str, Any]:
    return {}


def broadcastable(_dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    try:
        return {} if math.prod(np.broadcast_shapes(*(x.shape for x in xs))) <= 24 else None
    except ValueError:
        return None


def at_least(ndim: int, alike: bool = False) -> Choose:
    """So many axes, and where ``alike`` the same in all arrays."""
    return lambda _dice, xs: {} if xs[0].ndim >= ndim and (not alike or len({x.shape for x in xs}) == 1) else None


def one_of(**params: list[Any]) -> Choose:
    return lambda dice, _xs: {name: pick(dice, values) for name, values in params.items()}


def one_axis(dice: Dice, x: np.ndarray, none: bool = False) -> int | None:
    """An axis of ``x``, negative or not, or None."""
    return pick(dice, [*range(-x.ndim, x.ndim), *([None] if none or not x.ndim else [])])


def an_axis(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    return {"axis": one_axis(dice, xs[0])} if xs[0].ndim else None


def axes(dice: Dice, xs: Arrays) -> dict[str, Any]:
    several = tuple(int(i) for i in dice.permutation(xs[0].ndim)[: dice.integers(4)])
    return {"axis": pick(dice, [None, several, one_axis(dice, xs[0])]), "keepdims": pick(dice, [False, True])}


def counted(least: int) -> Choose:
    """Axes over which every slice has at least so many elements."""

    def choose(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
        params = axes(dice, xs)
        if xs[0].size < least * np.sum(xs[0], **params).size:
            params["axis"] = None
        return params if xs[0].size >= least else None

    return choose


def with_ddof(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    params = counted(3)(dice, xs)
    return params and {**params, "ddof": pick(dice, [0, 1, 0.5])}


def new_shape(dice: Dice, xs: Arrays) -> dict[str, Any]:
    shape = xs[0].shape
    return {"shape": pick(dice, [shape[::-1], (*shape, 1), (xs[0].size,), (1, xs[0].size, 1)])}


def an_order(dice: Dice, xs: Arrays) -> dict[str, Any]:
    return {"axes": pick(dice, [None, tuple(int(i) for i in dice.permutation(xs[0].ndim))])}


def two_axes(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    if xs[0].ndim < 2:
        return None
    i, j = map(int, dice.permutation(xs[0].ndim)[:2])
    return {"axis1": i, "axis2": j - xs[0].ndim}


def on_a_diagonal(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    axes = two_axes(dice, xs)
    return axes and {**axes, "offset": int(dice.integers(-2, 3))}


def some_places(dice: Dice, length: int) -> np.ndarray:
    return dice.integers(-length, length, dice.integers(1, 4, dice.integers(1, 3)))


def an_index(dice: Dice, xs: Arrays) -> dict[str, Any]:
    """A mask, a list, or for each of some axes a number, a slice, or one of two arrays of places; None and ... between them."""
    (x,) = xs
    if dice.integers(4) == 0:
        return {"index": dice.random(x.shape) < 0.5}
    if x.size and x.ndim and dice.integers(4) == 0:
        return {"index": some_places(dice, x.shape[0]).tolist()}
    common = dice.integers(1, 4)
    parts: list[Any] = []
    for n in x.shape[: dice.integers(4)]:
        kinds = [slice(None, None, -1), slice(1, None), slice(None, -1, 2), slice(5, 0, -2)]
        kinds += [int(dice.integers(-n, n)), dice.integers(-n, n, common), dice.integers(-n, n, (2, 1))] if n else []
        parts += [pick(dice, kinds)] + [None] * int(dice.integers(5) == 0)
    return {"index": (*parts, ...) if dice.integers(3) == 0 else (..., *parts) if len(parts) >= x.ndim else tuple(parts)}


def places(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    if not xs[0].size:
        return None
    axis = one_axis(dice, xs[0], none=True)
    return {"indices": some_places(dice, xs[0].size if axis is None else xs[0].shape[axis]), "axis": axis}


def places_along(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    (x,) = xs
    if not (x.ndim and x.size):
        return None
    axis = int(dice.integers(x.ndim))
    shape = tuple(dice.integers(1, 4) if i == axis else n for i, n in enumerate(x.shape))
    return {"indices": dice.integers(-x.shape[axis], x.shape[axis], shape), "axis": axis}


def a_mask(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    if broadcastable(dice, xs) is None:
        return None
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return {"condition": np.asarray(dice.random(pick(dice, [shape, shape[-1:], ()])) < 0.5)}


def a_join(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    if xs[0].shape == xs[1].shape and xs[0].ndim:
        return {"axis": one_axis(dice, xs[0], none=True)}
    return {"axis": None} if xs[0].size + xs[1].size <= 24 else None


def a_stack(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    return {"axis": int(dice.integers(-xs[0].ndim - 1, xs[0].ndim + 1))} if xs[0].shape == xs[1].shape else None


def a_width(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    pairs = [tuple(int(n) for n in dice.integers(3, size=2)) for _ in xs[0].shape]
    return {"pad_width": pick(dice, [1, pairs[0], tuple(pairs)])} if xs[0].ndim in (1, 2) else None


def a_shape_above(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    return {"shape": (*pick(dice, [(2,), (1, 2), ()]), *xs[0].shape)} if xs[0].size <= 12 else None


def rows_and_columns(_dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    """What matmul takes, and small."""
    try:
        return {} if np.matmul(*xs).size <= 24 else None
    except ValueError:
        return None


def summed_axes(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    a, b = xs
    pairs = [(i, j) for i, n in enumerate(a.shape) for j, m in enumerate(b.shape) if n == m]
    drawn = [pick(dice, pairs)] if pairs else []
    if a.size * b.size > 24 * (a.shape[drawn[0][0]] ** 2 if drawn else 1):
        return None
    return {"axes": ([i for i, _ in drawn], [j for _, j in drawn])}


def letters(dice: Dice, xs: Arrays) -> dict[str, Any] | None:
    """Any letters of a few, so that they repeat within and across operands, provided that NumPy takes them."""
    terms = ["".join(pick(dice, "ijk") for _ in x.shape) for x in xs]
    present = sorted({letter for term in terms for letter in term})
    out = "".join(dice.permutation(present)[: dice.integers(len(present) + 1)]) if present else ""
    dots = pick(dice, ["", "..."])
    lengths = {(letter, n) for term, x in zip(terms, xs, strict=True) for letter, n in zip(term, x.shape, strict=True)}
    if any((letter, 0) in lengths and len({n for other, n in lengths if other == letter}) > 1 for letter in present):
        return None  # NumPy takes "ii" of shape (0, 3), and reads what is not there
    subscripts = ",".join(term + dots for term in terms) + "->" + out + dots
    try:
        return {"subscripts": subscripts} if np.einsum(subscripts, *xs).size <= 24 else None
    except ValueError:
        return None


# -- the table ---------------------------------------------------------------------------------------------------------------------------

FLAT, ANY, POSITIVE, APART = "flat", "any", "positive", "apart"


def _unary(guard: str, *functions: Any) -> list[Kind]:
    return [Kind(op(*pair) if isinstance(pair, tuple) else op(pair), (guard,), anything) for pair in functions]


TABLE = [
    *_unary(ANY, np.negative, np.positive, np.square, np.sin, np.cos, np.arctan, np.tanh, np.copy, np.ravel, np.squeeze, np.transpose),
    *_unary(FLAT, np.exp, np.expm1, np.sinh, np.cosh, np.tan, (mt.erf, naive.erf)),
    *_unary(POSITIVE, np.sqrt, np.log, np.log1p, np.log2, np.log10, np.reciprocal),
    *_unary(APART, (np.absolute, naive.absolute)),
    *_unary(APART, *((f, naive.constant(f)) for f in (np.sign, np.floor, np.ceil, np.trunc, np.rint, np.round))),
    Kind(op(lambda x, exponent: x**exponent, name="whole power"), (ANY,), one_of(exponent=[0, 1, 2, 3, 2.0])),
    Kind(op(lambda x, exponent: x**exponent, name="real power"), (POSITIVE,), one_of(exponent=[-1, -2, 0.5, -1.5])),
    Kind(op(lambda x, base: base**x, name="exponential"), (FLAT,), one_of(base=[2.0, 3, 0.5])),
    *(Kind(op(lambda x, t=t: x.astype(t), lambda z: z, name=f"astype {t.__name__}"), (ANY,), anything) for t in (np.float32, np.float64)),
    *(Kind(op(f), (ANY, ANY), broadcastable) for f in (np.add, np.subtract, np.multiply)),
    Kind(op(lambda a, b: 1 - 2 * a - b / 2, name="numbers"), (ANY, ANY), broadcastable),
    Kind(op(lambda a, b: a * b + a, name="shared"), (ANY, ANY), broadcastable),
    Kind(op(np.divide), (ANY, POSITIVE), broadcastable),
    Kind(op(np.power), (POSITIVE, FLAT), broadcastable),
    *(Kind(op(f), (APART, "apart, between"), broadcastable) for f in (np.maximum, np.minimum)),
    Kind(op(lambda x: np.clip(x, 0.0, 2.0), name="clip"), (APART,), anything),
    Kind(op(lambda a, b, condition: np.where(condition, a, b), name="where"), (ANY, ANY), a_mask),
    Kind(op(np.sum), (ANY,), axes),
    Kind(op(np.prod), (FLAT,), axes),
    Kind(op(np.mean), (ANY,), counted(1)),
    *(Kind(op(f), (APART,), counted(1)) for f in (np.max, np.min)),
    Kind(op(np.linalg.norm, naive.norm), (APART,), lambda dice, xs: {"axis": one_axis(dice, xs[0])} if xs[0].size else None),
    Kind(op(np.var, naive.variance), (ANY,), with_ddof),
    Kind(op(np.std, naive.deviation), (APART,), with_ddof),
    Kind(op(mt.logsumexp, naive.logsumexp), (FLAT,), counted(1)),
    Kind(op(np.cumsum), (ANY,), lambda dice, xs: {"axis": one_axis(dice, xs[0], none=True)}),
    Kind(op(np.sort), (APART,), an_axis),
    Kind(op(np.reshape), (ANY,), new_shape),
    Kind(op(np.transpose), (ANY,), an_order),
    Kind(op(np.swapaxes), (ANY,), two_axes),
    Kind(op(np.diagonal), (ANY,), on_a_diagonal),
    Kind(op(np.trace), (ANY,), on_a_diagonal),
    Kind(op(np.flip), (ANY,), lambda dice, xs: {"axis": one_axis(dice, xs[0], none=True)}),
    Kind(op(np.expand_dims), (ANY,), lambda dice, xs: {"axis": int(dice.integers(-xs[0].ndim - 1, xs[0].ndim + 1))}),
    Kind(op(np.moveaxis), (ANY,), lambda dice, xs: {"source": one_axis(dice, xs[0]), "destination": 0} if xs[0].ndim else None),
    Kind(op(np.broadcast_to), (ANY,), a_shape_above),
    Kind(op(np.tril), (ANY,), at_least(2)),
    Kind(op(np.triu), (ANY,), at_least(2)),
    Kind(op(np.pad), (ANY,), a_width),
    Kind(op(lambda a, b, axis: np.concatenate([a, b, a], axis=axis), name="concatenate"), (ANY, ANY), a_join),
    Kind(op(lambda a, b, axis: np.stack([b, a], axis=axis), name="stack"), (ANY, ANY), a_stack),
    *[Kind(op(lambda x, index: x[index], name="getitem"), (ANY,), an_index)] * 2,
    Kind(op(np.take), (ANY,), places),
    Kind(op(np.take_along_axis), (ANY,), places_along),
    Kind(op(np.matmul), (ANY, ANY), rows_and_columns),
    Kind(op(lambda a, b: a @ np.swapaxes(b, -1, -2), name="a @ b.T"), (ANY, ANY), at_least(2, alike=True)),
    Kind(op(np.inner), (ANY, ANY), at_least(0, alike=True)),
    Kind(op(np.outer), (ANY, ANY), lambda _, xs: {} if xs[0].size * xs[1].size <= 24 else None),
    Kind(op(np.tensordot), (ANY, ANY), summed_axes),
    *(Kind(op(lambda *xs, subscripts: np.einsum(subscripts, *xs), name="einsum"), (ANY,) * n, letters) for n in (1, 2, 3)),
]  # fmt: skip
SHIFT = op(lambda x, by: x + by, name="shift")
SCALE = op(lambda x, by: x * by, name="scale")


class Program(NamedTuple):
    """Steps, the arrays they start from, which of these are constants (and whether as bare arrays), and what is asked of it."""

    steps: list[Step]
    inputs: list[np.ndarray]
    constants: dict[int, bool]  # input -> as a bare array
    outputs: list[int]
    targets: list[int]  # values whose cotangents are asked for, besides the inputs

    def values(self) -> list[np.ndarray]:
        return [np.asarray(value) for value in naive.run(self.steps, self.inputs)]

    def started(self) -> list[Any]:
        """The inputs as new leaves, constants and bare arrays."""
        return [x if self.constants.get(i) else mt.tensor(x, requires_grad=i not in self.constants) for i, x in enumerate(self.inputs)]


def guarded(i: int, guard: str, values: list[np.ndarray], steps: list[Step]) -> int:
    """Steps that bring a value into the domain of an op, whatever the value is: bounded, positive, or apart from each other and from 0."""

    def then(op: Op, *args: int, **params: Any) -> int:
        steps.append(Step(op, args, params))
        values.append(np.asarray(op.function(*(values[j] for j in args), **params)))
        return len(values) - 1

    x = values[i]
    if guard == FLAT or np.max(np.abs(x), initial=0) > 3:
        i = then(op(np.sin), i)
    if guard == POSITIVE:
        i = then(SHIFT, then(op(np.multiply), i, i), by=0.5)
    if guard.startswith(APART):
        spread = np.random.default_rng(x.size).permutation(x.size).reshape(x.shape) - x.size // 2
        i = then(SHIFT, then(SCALE, then(op(np.sin), i), by=0.1), by=(spread + (0.75 if "between" in guard else 0.25)).astype(x.dtype))
    return i


def built(seed: int, length: int, only_leaves: bool, first: str) -> Program:
    """Up to so many ops with their guards, those named ``first`` first; all choices follow from the seed."""
    dice = np.random.default_rng(seed)
    dtypes = [np.float64] if only_leaves else [np.float32, np.float64]
    m, n = pick(dice, [(2, 3), (3, 3), (1, 2), (2, 2), (0, 3), (2, 0)])
    shapes = [(), (n,), (m, n), (m, 1), (1, n), (1,), (2, m, n)]
    inputs = [np.asarray(dice.uniform(-2, 2, pick(dice, shapes))).astype(pick(dice, dtypes)) for _ in range(dice.integers(1, 4))]
    constants = {1: pick(dice, [False, True])} if not only_leaves and dice.random() < 0.5 else {}
    values, steps = list(inputs), []
    kinds = sorted([TABLE[i] for i in dice.permutation(len(TABLE))], key=lambda kind: kind.op.name != first)
    for kind in kinds:
        args = [int(dice.integers(len(values))) for _ in kind.guards]
        params = kind.choose(dice, tuple(values[i] for i in args))
        if params is None or any(values[i].size > 24 for i in args) or (only_leaves and kind.op.name == "astype float32"):
            continue  # differences need float64
        args = [guarded(i, guard, values, steps) for i, guard in zip(args, kind.guards, strict=True)]
        steps.append(Step(kind.op, tuple(args), params))
        values.append(np.asarray(kind.op.function(*(values[i] for i in args), **params)))
        length -= 1
        if length == 0:
            break
    used = {i for step in steps for i in step.args}
    sinks = {i for i in range(len(values)) if i not in used}
    if only_leaves:
        return Program(steps, inputs, {}, sorted(sinks), [])
    depend = set(range(len(inputs))) - constants.keys()
    for i, step in enumerate(steps, start=len(inputs)):
        depend |= {i} if depend.intersection(step.args) else set()
    known = sorted(depend)
    outputs, targets = ([pick(dice, known) for _ in range(dice.integers(3))] for _ in range(2))
    results = sinks.intersection(known[1:]) if dice.random() < 0.5 else ()  # either nearly all that was computed counts, or little
    return Program(steps, inputs, constants, [*outputs, *(sorted(results) or known[-1:])], targets)


def programs(only_leaves: bool = False, longest: int = 8, first: str = "") -> st.SearchStrategy[Program]:
    """Programs whose shapes broadcast, and may be 0-d or without elements."""
    return st.builds(built, st.integers(0, 2**32), st.integers(1, longest), st.just(only_leaves), st.just(first))


# -- against the naive engine ------------------------------------------------------------------------------------------------------------


def check_against_naive(program: Program) -> None:
    """grad() in both walks, of inputs and of values on the way, and backward() once per output, against sums over all paths."""
    values = program.values()
    eps = max(np.finfo(value.dtype).eps for value in values)
    numbers = np.random.default_rng(1)
    cotangents = [numbers.standard_normal(values[i].shape).astype(values[i].dtype) for i in program.outputs]
    seeds: dict[int, Any] = {}
    for i, u in zip(program.outputs, cotangents, strict=True):
        seeds[i] = seeds.get(i, 0) + u.astype(np.float64)
    expected = naive.adjoints(program.steps, values, seeds)
    leaves = [i for i in range(len(program.inputs)) if i not in program.constants]
    asked = [*leaves, *program.targets]

    def compare(found: Any, i: int) -> None:
        value, size, reached = expected(i)
        assert (found is not None) == reached, f"value {i}: a gradient where there is no path, or none where there is one"
        if found is not None:
            assert (found.shape, found.dtype) == (values[i].shape, values[i].dtype)
            error = np.abs(found.detach().numpy() - value)
            assert np.all(error <= 256 * eps * (size + np.max(size, initial=0))), f"value {i}: {found}, but {value}"

    raw: list[Any] = []
    for create_graph in (False, True):
        tensors = naive.run(program.steps, program.started())
        found = mt.grad(
            [tensors[i] for i in program.outputs],
            [tensors[i] for i in asked],
            [mt.tensor(u) for u in cotangents],
            create_graph=create_graph,
            allow_unused=True,
        )
        for g, i in zip(found, asked, strict=True):
            compare(g, i)
        raw.append([None if g is None else g.tolist() for g in found])
    assert raw[0] == raw[1], "the two walks disagree"
    started = program.started()
    tensors = naive.run(program.steps, started)
    for i, u in zip(program.outputs, cotangents, strict=True):
        tensors[i].backward(u, retain_graph=True)
    for i in leaves:
        compare(started[i].grad, i)


def test_the_naive_engine_by_hand() -> None:
    """y = x * x, z = y * x, out = y + z: 2 x + 3 x**2 over all paths; and the sizes of the terms."""
    multiply, add = op(np.multiply), op(np.subtract)
    steps = [Step(multiply, (0, 0), {}), Step(multiply, (1, 0), {}), Step(add, (1, 2), {})]
    values = [np.asarray(value) for value in naive.run(steps, [np.array([3.0, -1.0])])]
    found = naive.adjoints(steps, values, {3: np.array([1.0, 10.0])})(0)
    np.testing.assert_allclose(found.value, [6 - 27, -20 - 30], rtol=1e-15)
    np.testing.assert_allclose(found.size, [6 + 27, 20 + 30], rtol=1e-15)


FEATURES: dict[str, Callable[[Program], bool]] = {
    "without elements": lambda program: any(value.size == 0 for value in program.values()),
    "0-d": lambda program: any(value.ndim == 0 for value in program.values()),
    "both dtypes": lambda program: len({value.dtype for value in program.values()}) == 2,
    "used three times": lambda program: any(sum(step.args.count(i) for step in program.steps) > 2 for i in range(len(program.inputs))),
    "unused input": lambda program: any(all(i not in step.args for step in program.steps) for i in range(len(program.inputs))),
    "several outputs": lambda program: len(set(program.outputs)) > 1,
    "one output twice": lambda program: len(set(program.outputs)) < len(program.outputs),
    "a bare array": lambda program: any(program.constants.values()),
    "asked for on the way": lambda program: any(i >= len(program.inputs) for i in program.targets),
}


def test_any_program_agrees_with_the_naive_engine() -> None:
    """And the programs are as rich as they look: each op and each feature is drawn."""
    seen: set[str] = set()

    @given(programs())
    @settings(max_examples=700)
    def check(program: Program) -> None:
        check_against_naive(program)
        seen.update(step.op.name for step in program.steps)
        seen.update(name for name, there in FEATURES.items() if there(program))

    check()
    missing = {*(kind.op.name for kind in TABLE), *FEATURES} - seen
    assert not missing


# -- against differences ------------------------------------------------------------------------------------------------------------------


def check_against_differences(program: Program, check: Callable[..., None]) -> None:
    """All values that no step uses are outputs, so that every input is used."""

    def call(*tensors: Any) -> Any:
        values = naive.run(program.steps, tensors)
        return np.concatenate([np.ravel(values[i]) for i in program.outputs])

    try:
        check(call, program.inputs)
    except AssertionError as error:
        assume("blind" not in str(error))
        raise


in_float64 = programs(only_leaves=True, longest=5)


@given(in_float64)
def test_any_program_agrees_with_differences(program: Program) -> None:
    check_against_differences(program, check_first)


@given(in_float64)
def test_any_program_agrees_with_differences_at_second_order(program: Program) -> None:
    check_against_differences(program, check_second)


# -- what is planted is found --------------------------------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]


def rule(function: Any, place: int, wrong: Callable[..., Any]) -> Plant:
    """Another rule for one input of a primitive, made of what the right one gives and of what it is called with."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        primitive = DISPATCH[function]
        right = primitive.rules[place]
        rules = list(primitive.rules)
        rules[place] = lambda *args, **params: wrong(right(*args, **params), *args, **params)
        monkeypatch.setattr(primitive, "rules", tuple(rules))

    return plant


def part(name: str, wrong: Callable[..., Any]) -> Plant:
    """Another function in the walk; ``wrong`` gets the right one first."""
    return lambda monkeypatch: monkeypatch.setattr(engine, name, partial(wrong, getattr(engine, name)))


def line(name: str, old: str, new: str) -> Plant:
    """Other words in one line of a function of the walk."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        right = getattr(engine, name)
        source = inspect.getsource(right)
        assert source.count(old) == 1
        namespace = dict(vars(engine))
        exec(compile("from __future__ import annotations\n" + source.replace(old, new), f"planted {name}", "exec"), namespace)
        monkeypatch.setattr(engine, name, namespace[name])
        for function, served in DISPATCH.items():
            if served is right:
                monkeypatch.setitem(DISPATCH, function, namespace[name])

    return plant


def without_sum(right: Any, g: Any, like: Any, giver: str) -> Any:
    """The first of the summands instead of the sum."""
    extra = (0,) * (g.ndim - like.ndim)
    kept = g[extra] if extra else g
    wide = [i for i, n in enumerate(like.shape) if n == 1 < kept.shape[i]]
    return right(kept[tuple(slice(0, 1) if i in wide else slice(None) for i in range(kept.ndim))], like, giver)


def without_cast(right: Any, g: Any, like: Any, giver: str) -> Any:
    return right(g, ShapeDtype(like.shape, g.dtype), giver)


def seeing_first_inputs_only(_right: Any, targets: set[Any], nodes: list[Any]) -> set[Any]:
    wanted: set[Any] = set()
    for node in reversed(nodes):
        wanted |= {node} if node in targets or (node.edges and node.edges[0] in wanted) else set()
    return wanted


def each_output_once(right: Any, outputs: list[Any], gradients: list[Any], traced: bool) -> Any:
    once = {id(output): (output, gradient) for output, gradient in zip(outputs, gradients, strict=True)}
    return right(*map(list, zip(*once.values(), strict=True)), traced)


def overwritten(_right: Any, g: Any, _y: Any, _x: Any, index: Any) -> Any:
    """An element that was read several times gets one of the cotangents instead of their sum."""
    whole = np.zeros(_x.shape, g.dtype)
    whole[index] = g._array if isinstance(g, mt.Tensor) else g
    return whole


PLANTED = {
    "exp, 1 per mille too large": rule(np.exp, 0, lambda right, *_: right * 1.001),
    "multiply, once too often": rule(np.multiply, 0, lambda right, _g, _y, _a, b: right * b),
    "divide, a sign": rule(np.divide, 1, lambda right, *_: -right),
    "where, the other side": rule(np.where, 1, lambda _right, g, _y, condition, *_: np.where(condition, 0, g)),
    "var, ddof forgotten": rule(np.var, 0, lambda right, *_, ddof=0, **__: right * (1 + ddof)),
    "mean, not divided": rule(np.mean, 0, lambda right, g, _y, _x, **_: right * (_x.size // g.size)),
    "cumsum, not reversed": rule(np.cumsum, 0, lambda _right, g, _y, _x, axis=None: np.cumsum(g, axis).reshape(_x.shape)),
    "sort, in the sorted order": rule(np.sort, 0, lambda _right, g, *_, axis=-1, **__: g),
    "transpose, the order not inverted": rule(np.transpose, 0, lambda _right, g, _y, _x, axes=None: np.transpose(g, axes)),
    "getitem, overwritten": rule(operator.getitem, 0, overwritten),
    "a later cotangent replaces an earlier one": line("walk", "total = before + cotangent", "total = cotangent"),
    "added into what is shared": line("walk", "elif edge in owned:", "elif not traced and before.flags.writeable and before.ndim:"),
    "a walk that ends where it is asked": line(
        "walk", "edge if edge in wanted else", "edge if edge in wanted and node not in targets else"
    ),
    "a leaf keeps the latest gradient alone": line("backward", "is None else owner.grad + gradient", "is None else gradient"),
    "nodes in the order in which they were found": part("_TIME", lambda _right, _node: 0),
    "broadcasting not summed": part("fit", without_sum),
    "dtypes not cast": part("fit", without_cast),
    "paths through the first input alone": part("_leading_to", seeing_first_inputs_only),
    "an output counted once": part("_roots", each_output_once),
    "the traced walk alone": lambda patch: patch.setattr(
        Node, "vjp_traced", lambda *args, right=Node.vjp_traced: [None if c is None else c * 2.0 for c in right(*args)]
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mistake in the engine one of the programs above fails; to be quick, the op in question comes first in each."""
    PLANTED[name](monkeypatch)

    def fails(program: Program) -> bool:
        try:
            check_against_naive(program)
        except (AssertionError, ShapeError):
            return True
        return False

    find(programs(first=name.partition(",")[0]), fails, settings=settings(max_examples=350, phases=[Phase.generate], database=None))


def detached(right: Any, *_: Any, **__: Any) -> Any:
    return right.detach() if isinstance(right, mt.Tensor) else right


DETACHED = {
    "exp": rule(np.exp, 0, lambda _right, g, y, _x: g * detached(y)),
    "multiply, in a": rule(np.multiply, 0, lambda _right, g, _y, _a, b: g * detached(b)),
    "tanh, the whole": rule(np.tanh, 0, detached),
}


@pytest.mark.parametrize("name", DETACHED)
def test_what_is_cut_off_is_found_at_second_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that hides a value from the traced walk is right at first order; differences of the gradient find it."""
    DETACHED[name](monkeypatch)

    def fails(program: Program) -> bool:
        check_against_naive(program)
        try:
            check_against_differences(program, check_second)
        except AssertionError:
            return True
        return False

    find(in_float64, fails, settings=settings(max_examples=200, phases=[Phase.generate], database=None))
