"""The parts of the search: what is a slip, what it makes of a line, and that planted slips are found again, one or two of them."""

import ast
import random
from functools import cache

import numpy as np
import pytest

from minitensor.nn.derivation.expression import Expression
from minitensor.nn.diagnosis.edits import HOLE, Edit, filled, slips
from minitensor.nn.diagnosis.probes import LAYERS, probes
from minitensor.nn.diagnosis.program import Program, environment, evaluate, parts
from minitensor.nn.diagnosis.search import SAME, Space, same
from minitensor.nn.diagnosis.writings import COUNTED, writings

PRECISION = 1e-7
NAMED = [(layer, name) for layer in LAYERS for name in writings(layer)]
C, Q, AXES = Expression("c"), Expression("q_bar"), Expression("axes")


@cache
def space_of(layer, writing):
    with np.errstate(all="ignore"):
        return Space(Program(writings(layer)[writing]), environment(probes(layer)[0]), {})


def lines_of(space, output):
    """The lines in which something can go wrong on the way to an output."""
    return [line for line in space.program.leading_to(output) if space.program[line][0].name is None]


def edits_of(formula, line="q_to_c", scope=("c", "x", "m"), axes=((-1,), (-2, -1))):
    return [slip.edit(line, formula, i) for slip in slips(formula, scope, axes) for i in range(max(1, len(slip.fillers)))]


def likely(sources):
    return [source for source in sources if not source[1].odd]


@np.errstate(all="ignore")
def computed(space, edits):
    """What the program with these edits computes, from the formulas as they are written."""
    written = {edit.name: str(edit.new) for edit in edits}
    env = {name: value for name, value in space.base.items() if name not in space.program.lines}
    for line, formulas in space.program.writing.items():
        env[line] = eval(written.get(line, str(formulas[0])), {"np": np}, env)
    return env


def result(space, edits, output):
    """An output of a program with these edits, or None where it has another shape, or is not finite."""
    like = space.base[output]
    value = np.asarray(computed(space, edits)[output], float)
    if np.broadcast_shapes(value.shape, like.shape) != like.shape or not np.isfinite(value).all():
        return None
    return np.broadcast_to(value, like.shape)[0]


def is_found(space, found, output, target):
    """Whether one of these edits makes the output the target."""
    for edits in found:
        made = result(space, edits, output)
        if made is not None and np.max(np.abs(made - target)) <= 10 * PRECISION * np.max(np.abs(target)):
            return True
    return False


# -- what a slip is ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writing", [name for name in writings("batch_norm") if not name.endswith(COUNTED)])
def test_every_slip_is_a_formula_that_differs_and_is_python(writing):
    program = Program(writings("batch_norm")[writing])
    for line in program.lines:
        for formula in program[line]:
            for edit in edits_of(formula, line):
                assert str(edit.new) != str(formula)
                ast.parse(str(edit.new), mode="eval")
                assert edit.what
                assert not [part for part in parts(edit.new) if part.name == HOLE]
                assert HOLE not in edit.sentence
                assert edit.sentence.endswith(f": `{edit.new}` stands where `{formula}` belongs")


@pytest.mark.parametrize(
    ("formula", "made", "what"),
    [
        (2 * C * Q, "c * q_bar", "`2` is missing"),
        (2 * C * Q, "2 * c + q_bar", "a sum for a product"),
        (2 * C * Q, "3.0 * c * q_bar", "3.0 for 2"),
        (2 * C * Q, "2 * c * x", "x for q_bar"),
        (2 * C * Q, "2 * -c * q_bar", "the sign of c is wrong"),
        (2 * C * Q, "-1.0 * (2 * c * q_bar)", "a factor -1.0 too many"),
        (2 * C * Q, "2 * c * q_bar / m", "a division by m too many"),
        (2 * C * Q, "x", "x for all of it"),
        (C - Q, "q_bar - c", "a difference the other way round"),
        (C - Q, "-q_bar", "`c` is missing"),
        (C / Expression("m"), "m / c", "a quotient the other way round"),
        (C / Expression("m"), "c / (m - 1)", "m - 1 for m"),
        (-C, "c", "the sign is missing"),
        (C**2, "c", "the power is missing"),
        (C**2, "c * 2", "a product for a power"),
        (C**2, "2 ** c", "a power the other way round"),
        (C**-1.5, "c ** (-0.5)", "-0.5 for -1.5"),
        (np.sqrt(C), "c", "the root is missing"),
        (np.sqrt(C), "np.square(c)", "a square for a root"),
        (np.sqrt(C + Q), "np.sqrt(c) + q_bar", "q_bar stands outside the root"),
        (np.sum(C, axis=AXES), "np.mean(c, axis=axes)", "a mean for a sum"),
        (np.mean(C, axis=AXES), "np.sum(c, axis=axes)", "a sum for a mean"),
        (np.sum(C, axis=AXES), "c", "the sum is missing"),
        (np.sum(C, axis=AXES), "np.sum(c, axis=(-2, -1))", "the sum runs over other axes"),
    ],
)
def test_slips_by_what_they_are(formula, made, what):
    assert (made, what) in [(str(edit.new), edit.what) for edit in edits_of(formula)]


def test_nothing_is_two_slips_away():
    made = {str(edit.new) for edit in edits_of(2 * C * Q)}
    assert not {"3.0 * c + q_bar", "-c / q_bar", "2 * x * m"} & made


def test_an_edit_tells_its_place():
    assert Edit("q_to_c", 2 * C, C, "`2` is missing").sentence == "in q -> c, `2` is missing: `c` stands where `2 * c` belongs"
    assert Edit("v_bar", C, Q, "q_bar for c").place == "the adjoint of v"
    assert Edit("r", C, Q, "q_bar for c").place == "r"


def test_a_hole_is_filled_wherever_it_is():
    hole = Expression(HOLE)
    assert str(filled(np.sum(hole * C, axis=AXES) + hole, Expression("x"))) == "np.sum(x * c, axis=axes) + x"
    assert str(filled(hole - C, 2.0)) == "2.0 - c"
    assert filled(hole, 2.0) == 2.0


# -- what it makes of a line ------------------------------------------------------------------------------------------------------------

TAKEN_APART = [
    ("batch_norm", "course", "v_bar"),
    ("batch_norm", "chain", "s_to_v"),
    ("layer_norm", "closed", "dx"),
    ("group_norm", "means", "bracket"),
]


@pytest.mark.parametrize(("layer", "writing", "line"), TAKEN_APART)
@np.errstate(all="ignore")
def test_every_slip_that_makes_a_difference_is_among_the_variants(layer, writing, line):
    space = space_of(layer, writing)
    right = space.base[line]
    kept = {group.values.shape[1:]: group.values for group in space.variants(line)}
    scope = (*("x", "y_bar", "gamma", "beta", "eps"), *space.sizes, *space.program.names_above(line))
    different = 0
    for formula in space.program[line]:
        for edit in edits_of(formula, line, scope, space.axes):
            try:
                value = np.asarray(evaluate(edit.new, space.base, {}), float)
            except np.exceptions.AxisError:  # a sum of a plain number
                continue
            value = value.reshape((1,) * right.ndim) if value.ndim == 0 else value
            if np.isfinite(value).all() and not (value.shape == right.shape and same(value, right[0], SAME).all()):
                different += 1
                assert same(kept[value.shape[1:]], value[0], 10 * PRECISION).any(), edit
    assert different > 300
    assert sum(map(len, kept.values())) < different  # many are the same


@pytest.mark.parametrize(("layer", "writing", "line"), TAKEN_APART)
@np.errstate(all="ignore")
def test_each_source_of_a_variant_makes_its_value(layer, writing, line):
    space = space_of(layer, writing)
    for group in space.variants(line):
        for value, sources in zip(group.values, group.sources, strict=True):
            assert sources
            spread = np.broadcast_to(value, np.broadcast_shapes(value.shape, space.base[line].shape[1:]))
            assert not same(space.base[line], spread, SAME).all()
            for formula, slip, filler in sources:
                made = eval(str(slip.edit(line, formula, filler).new), {"np": np}, space.base)
                np.testing.assert_allclose(np.broadcast_to(made, (1, *value.shape))[0], value, rtol=1e-6, atol=1e-6 * np.abs(value).max())


# -- what is the same -------------------------------------------------------------------------------------------------------------------


def test_same_looks_at_every_number():
    target = np.array([[1.0, 2.0], [3.0, 4.0]])
    first, last = np.array([[1e-3, 0], [0, 0]]), np.array([[0, 0], [0, 1e-3]])
    value = np.stack([target, target + 1e-9, target + first, target + last, -target])
    assert same(value, target, 1e-8).tolist() == [True, True, False, False, False]
    assert same(value[:, None], target, 1e-8).tolist() == [[True], [True], [False], [False], [False]]
    assert same(value, target, 1e-2).tolist() == [True, True, True, True, False]


def test_same_is_relative_to_the_largest_value():
    target = np.array([1e6, 1.0])
    assert same(np.array([[1e6, 1.005]]), target, 1e-8).tolist() == [True]
    assert same(np.array([[1e6, 1.05]]), target, 1e-8).tolist() == [False]


def test_same_spreads_what_is_smaller():
    assert same(np.array([[[2.0]], [[3.0]]]), np.full((4, 5), 2.0), 1e-8).tolist() == [True, False]


def test_nan_is_the_same_as_nothing():
    with np.errstate(invalid="ignore"):
        assert not same(np.array([[np.nan, 1.0], [np.inf, 1.0]]), np.array([1.0, 1.0]), 1e-2).any()


# -- planted slips are found ------------------------------------------------------------------------------------------------------------

SEARCHED = [
    ("batch_norm", "chain", "dx"),
    ("layer_norm", "course", "dx"),
    ("instance_norm", "closed", "dx"),
    ("group_norm", "means", "dx"),
    ("batch_norm", "chain, counted", "dx"),
    ("batch_norm", "chain", "gamma_bar"),
    ("instance_norm", "course", "y"),
]


def drawn(space, line, rng):
    """A slip in this line, not an odd one: the first that makes its value, which stands for all that do in the search for pairs."""
    group = rng.choice(space.variants(line))
    sources = likely(rng.choice(group.sources))
    return sources[0][1].edit(line, sources[0][0], sources[0][2]) if sources else None


def can_be_told(space, target, output):
    """Whether a result is finite, not right, and not so small or large that rounding is most of it."""
    return target is not None and not same(space.base[output], target, 1e-3).all() and 1e-3 < np.max(np.abs(target)) < 1e6


@pytest.mark.parametrize(("layer", "writing", "output"), SEARCHED)
@np.errstate(all="ignore")
def test_every_planted_slip_is_found(layer, writing, output):
    space, rng, planted = space_of(layer, writing), random.Random(0), 0
    lines = lines_of(space, output)
    while planted < 30:
        edit = drawn(space, rng.choice(lines), rng)
        target = edit and result(space, (edit,), output)
        if can_be_told(space, target, output):
            planted += 1
            assert is_found(space, space.singles(output, target, [edit.name], PRECISION), output, target), edit
            others = [line for line in lines if line != edit.name]
            for (found,) in space.singles(output, target, others, PRECISION):
                assert is_found(space, [(found,)], output, target), (edit, found)


@pytest.mark.parametrize(("layer", "writing", "output"), SEARCHED)
@np.errstate(all="ignore")
def test_every_planted_pair_is_found(layer, writing, output):
    """All but those whose second slip puts in a value that the first has changed and nobody reads any more: it is not carried along."""
    space, rng, planted = space_of(layer, writing), random.Random(0), 0
    leading, lines = space.program.leading_to(output), lines_of(space, output)
    while planted < 40:
        first, second = sorted(rng.sample(lines, 2), key=leading.index)
        pair = drawn(space, first, rng), drawn(space, second, rng)
        if None in pair:
            continue
        read = {part.name for part in parts(pair[1].new) if part.name}
        carried = space.program.read_below(leading[leading.index(second) - 1], output)
        if read & {first, *space.program.readers[first]} <= set(carried):
            target = result(space, pair, output)
            if can_be_told(space, target, output):
                planted += 1
                assert is_found(space, space.pairs(output, target, [first, second], PRECISION), output, target), pair


def test_what_no_slip_makes_is_not_found(rng):
    """A control: the search finds nothing where there is nothing, and takes nothing for something else."""
    space = space_of("batch_norm", "closed")
    noise = rng.standard_normal(space.base["dx"].shape[1:])
    lines = lines_of(space, "dx")
    with np.errstate(all="ignore"):
        assert list(space.singles("dx", noise, lines, PRECISION)) == []
        assert list(space.pairs("dx", noise, lines, PRECISION)) == []


def test_a_slip_is_not_found_in_another_line():
    space = space_of("batch_norm", "chain")
    edit = next(edit for edit in edits_of(space.program["x_hat_to_r"][0], "x_hat_to_r") if edit.what == "the sum is missing")
    target = result(space, (edit,), "dx")
    assert is_found(space, space.singles("dx", target, ["x_hat_to_r"], PRECISION), "dx", target)
    assert list(space.singles("dx", target, ["mu_to_x"], PRECISION)) == []


@np.errstate(all="ignore")
def test_one_more_slip_is_found_beside_those_that_are_known():
    space = space_of("batch_norm", "chain")
    lines = lines_of(space, "dx")
    known = next(edit for edit in edits_of(space.program["s"][0], "s") if edit.what == "the root is missing")
    more = next(edit for edit in edits_of(space.program["q_to_c"][0], "q_to_c") if edit.what == "3.0 for 2")
    target = result(space, (known, more), "dx")
    found = list(space.with_one_more("dx", target, (known,), [line for line in lines if line != "s"], PRECISION))
    assert all(edits[0] == known for edits in found)
    assert is_found(space, found, "dx", target)
    assert not list(space.with_one_more("dx", target + 1, (known,), [line for line in lines if line != "s"], PRECISION))


# -- the programs -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "writing"), NAMED)
def test_every_spelling_of_every_line_gives_the_same(layer, writing):
    space = space_of(layer, writing)
    for line in space.program.lines:
        for formula in space.program[line]:
            value = np.broadcast_to(evaluate(formula, space.base, {}), space.base[line].shape)
            np.testing.assert_allclose(value, space.base[line], rtol=1e-9, atol=1e-12, err_msg=f"{line}: {formula}")


@pytest.mark.parametrize("layer", LAYERS)
def test_all_writings_compute_the_same(layer):
    right = space_of(layer, "chain").base
    for writing in writings(layer):
        for output in ("dx", "gamma_bar", "beta_bar", "y"):
            np.testing.assert_allclose(space_of(layer, writing).base[output], right[output], rtol=1e-9, atol=1e-12, err_msg=writing)


def test_a_program_goes_on_from_a_line():
    space = space_of("layer_norm", "course")
    program = space.program
    edit = next(edit for edit in edits_of(program["v"][0], "v") if edit.what == "a sum for a mean")
    after = program.after("v", evaluate(edit.new, space.base, {}), space.base)
    again = program.edited({"v": edit.new}).run(environment(probes("layer_norm")[0]))
    for line in program.lines:
        np.testing.assert_array_equal(after[line], again[line])
    changed = [line for line in program.lines if not np.array_equal(after[line], space.base[line])]
    assert set(changed) <= {"v", *program.readers["v"]}
    assert {"s", "dx"} <= set(changed)
    assert "mu" not in program.readers["v"]
