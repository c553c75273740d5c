"""Every primitive in both walks and at second order; and that a wrong rule would be found."""

import pkgutil

import numpy as np
import pytest
from cases import CASES, POSITIVE, Case, spread
from checks import check_first, check_second
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minitensor as mt
from minitensor import ops
from minitensor.autograd import complex_step
from minitensor.primitive import JointPrimitive, ListPrimitive, Primitive

FAMILIES = [getattr(ops, family.name) for family in pkgutil.iter_modules(ops.__path__)]
PRIMITIVES = {value for family in FAMILIES for value in vars(family).values() if isinstance(value, Primitive)}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_every_primitive_has_a_case() -> None:
    assert {case.primitive for case in CASES} == PRIMITIVES


def test_no_two_cases_have_the_same_name() -> None:
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)


@each_case
def test_case_records_its_primitive(case: Case) -> None:
    y = case.call(*(mt.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.inputs))
    nodes, found = [y._node], set()
    while nodes:
        node = nodes.pop()
        found.add(getattr(node, "primitive", None))
        nodes.extend(edge for edge in node.edges if edge is not None)
    assert case.primitive in found


@each_case
def test_first_order(case: Case) -> None:
    check_first(case.call, case.inputs)


@each_case
def test_second_order(case: Case) -> None:
    check_second(case.call, case.inputs)


def _shift(g: object, y: object, a: object, b: object) -> object:
    return np.concatenate([g[1:], g[:1]])


WRONG = {
    "1 % too large": (Primitive(np.exp, lambda g, y, _x: g * y * 1.01), [(3, 4)]),
    "1 per mille off in one element": (Primitive(np.exp, lambda g, y, _x: g * y * np.where(y == y.max(), 1.001, 1)), [(3, 4)]),
    "the wrong sign": (Primitive(np.cos, lambda g, _y, x: g * np.sin(x)), [(3, 4)]),
    "a missing term": (Primitive(lambda x: x * np.sum(x), lambda g, _y, x: g * np.sum(x)), [(4,)]),
    "inputs exchanged": (Primitive(np.multiply, lambda g, _y, a, _b: g * a, lambda g, _y, _a, b: g * b), [(3,), (3,)]),
    "forgotten division": (Primitive(np.mean, lambda g, _y, _x: g), [(3, 4)]),
    "cotangent ignored": (Primitive(np.exp, lambda _g, y, _x: y), [(3, 4)]),
    "elements shifted": (Primitive(np.add, lambda g, _y, _a, _b: g, _shift), [(3,), (3,)]),
    "one input without": (Primitive(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g * 0), [(3,), (3,)]),
    "transposed": (Primitive(lambda x: x + 0, lambda g, _y, _x: g.swapaxes(0, 1)), [(3, 3)]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found(name: str) -> None:
    primitive, shapes = WRONG[name]
    with pytest.raises(AssertionError, match="against"):
        check_first(primitive, spread(tuple(shapes), *POSITIVE))


def _values(x: object) -> object:
    return x.detach() if isinstance(x, mt.Tensor) else x


DETACHED = {
    "saved output": Primitive(np.exp, lambda g, y, _x: g * _values(y)),
    "saved input": Primitive(lambda x: x * x * x, lambda g, _y, x: 3 * g * _values(x) ** 2),
    "half of it": Primitive(lambda x: x * x * x, lambda g, _y, x: 3 * g * x * _values(x)),
    "detached cotangent": Primitive(np.exp, lambda g, y, _x: _values(g) * y),
}


@pytest.mark.parametrize("name", DETACHED)
def test_a_detached_rule_passes_at_first_order_and_is_found_at_second(name: str) -> None:
    inputs = spread(((3, 4),), *POSITIVE)
    check_first(DETACHED[name], inputs)
    with pytest.raises(AssertionError, match="against"):
        check_second(DETACHED[name], inputs)


def test_walks_that_disagree_are_found() -> None:
    wrong = Primitive(np.exp, lambda g, y, _x: g * y * (1 if isinstance(g, mt.Tensor) else 1 + 1e-15))
    with pytest.raises(AssertionError, match="the two walks disagree"):
        check_first(wrong, spread(((3, 4),)))


def test_the_check_refuses_a_kink() -> None:
    """Differences across a kink have a wide error bar, and a wide bar would accept anything."""
    with pytest.raises(AssertionError, match="blind"):
        check_first(mt.absolute, [np.array([0.0, 1e-4])])


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_any_broadcasting_is_undone(shapes: hnp.BroadcastableShapes) -> None:
    """The gradient of <u, a b> by a is the sum of u b over every place where an element of a was used."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape) for shape in shapes.input_shapes)
    u = rng.standard_normal(shapes.result_shape)
    ta, tb = (mt.tensor(x, requires_grad=True) for x in (a, b))
    found = mt.grad(ta * tb, [ta, tb], u)
    for x, other, g in zip((a, b), (b, a), found, strict=True):
        places = np.broadcast_to(np.arange(x.size).reshape(x.shape), u.shape)
        expected = np.bincount(places.ravel(), (u * np.broadcast_to(other, u.shape)).ravel(), x.size).reshape(x.shape)
        np.testing.assert_allclose(g.numpy(), expected, rtol=1e-12, atol=1e-12)


@given(
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4).flatmap(
        lambda shape: st.tuples(
            st.just(shape),
            hnp.basic_indices(shape, allow_newaxis=True) | hnp.integer_array_indices(shape) | hnp.arrays(bool, shape),
        )
    )
)
def test_any_index_is_undone(drawn: tuple) -> None:
    """The gradient adds the cotangent where an element was read, once for every time."""
    shape, index = drawn
    rng = np.random.default_rng(0)
    places = np.arange(np.prod(shape)).reshape(shape)[index]
    u = rng.standard_normal(np.shape(places))
    x = mt.tensor(rng.standard_normal(shape), requires_grad=True)
    (g,) = mt.grad(x[index], x, u)
    expected = np.bincount(np.ravel(places), np.ravel(u), x.size).reshape(shape)
    np.testing.assert_allclose(g.numpy(), expected, rtol=1e-12, atol=1e-12)


OPERATIONS = [np.add, np.multiply, np.subtract, lambda a, b: np.sin(a) + b, lambda a, b: a * np.tanh(b), lambda a, b: a / (b * b + 3)]


@given(st.lists(st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_any_program_agrees_with_the_complex_step(steps: list[tuple[int, int, int]]) -> None:
    """Random programs that use their intermediate values again and again: reverse mode against Im f(x + ih) / h."""

    def run(x: object) -> object:
        values = [x[0], x[1]]
        for operation, i, j in steps:
            values.append(0.5 * OPERATIONS[operation](values[i % len(values)], values[j % len(values)]))
        return values[-1]

    point, direction = np.array([0.7, -0.4]), np.array([0.6, 0.8])
    x = mt.tensor(point, requires_grad=True)
    (g,) = mt.grad(run(x), x, allow_unused=True)
    expected = complex_step(lambda z: run(point + z * direction))
    np.testing.assert_allclose(float(g.numpy() @ direction), expected, rtol=1e-12, atol=1e-13)


def test_one_rule_for_a_list_and_one_for_all_inputs() -> None:
    """The two other kinds of primitives, made by hand, pass the same checks."""
    join = ListPrimitive(lambda xs: xs[0] * xs[1], lambda g, _y, xs: [g * xs[1], g * xs[0]])
    check_first(lambda a, b: join([a, b]), spread(((3,), (3,))))
    check_second(lambda a, b: join([a, b]), spread(((3,), (3,))))
    ratio = ListPrimitive(lambda xs: xs[0] / xs[1], lambda g, y, xs: [g / xs[1], -g * y / xs[1]])
    check_first(lambda a, b: ratio([a, b]), spread(((3,), (3,)), *POSITIVE))
    check_second(lambda a, b: ratio([a, b]), spread(((3,), (3,)), *POSITIVE))
    both = JointPrimitive(np.multiply, lambda g, _y, a, b: (g * b, g * a), arity=2)
    check_first(both, spread(((2, 3), (3,))))
    check_second(both, spread(((2, 3), (3,))))


def test_a_rule_may_give_a_constant_as_a_plain_array() -> None:
    """Also in the walk that records itself, whose results are Tensors all the same."""
    constant = Primitive(np.positive, lambda _g, _y, _x: np.array([5.0, 6.0]))
    x = mt.tensor([1.0, 2.0], np.float64, requires_grad=True)
    for create_graph in (False, True):
        (g,) = mt.grad(constant(x) * 1.0, x, np.ones(2), create_graph=create_graph)
        assert g.tolist() == [5.0, 6.0]


def test_a_rule_with_too_few_cotangents_is_named() -> None:
    short = JointPrimitive(np.multiply, lambda g, _y, a, b: (g * b,), arity=2)
    x = mt.tensor(2.0, requires_grad=True)
    with pytest.raises(mt.errors.GraphError, match="multiply gave 1 cotangents for 2 inputs"):
        short(x, x).backward()


def test_a_cotangent_of_an_impossible_shape_is_refused() -> None:
    bad = Primitive(np.exp, lambda g, _y, _x: np.ones_like(g, shape=(5,)))
    x = mt.ones(3, requires_grad=True)
    with pytest.raises(mt.errors.ShapeError, match=r"\(5,\).*\(3,\)"):
        bad(x).sum().backward()
