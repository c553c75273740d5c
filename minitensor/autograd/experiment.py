"""One gradient check: gradients by the walk, derivatives by numbers, and what their difference says, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minitensor.arrays import Array
from minitensor.autograd.blindness import MOST_NODES, Unseen, unseen
from minitensor.autograd.differences import Slopes, Taylor, central_difference, one_sided, remembered, slopes, taylor
from minitensor.autograd.result import GradCheck, Row
from minitensor.autograd.subject import SHAKE, Refusal, Subject

METHODS = {"richardson": "Richardson", "central": "central differences", "complex": "the complex step", "taylor": "Taylor's remainder"}
STEPS = {"richardson": 0.125, "central": 1e-6, "complex": 0.125, "taylor": 0.25}
MOST_INPUTS = 2048  # each is moved some twenty times
MOST_OUTPUTS, MOST_CELLS = 1024, 2**20  # a full Jacobian costs one walk per output element
DIRECTIONS = 3  # per input, and as many random cotangents, where the full Jacobian is not compared
SHOWN = 3  # failing elements per input


class Options(NamedTuple):
    """What the user asked for; see `gradcheck`."""

    method: str
    eps: float | None
    atol: float | None
    rtol: float | None
    fast_mode: bool
    nondet_tol: float
    seed: int


class Cells(NamedTuple):
    """One number per row (a cotangent of the outputs) and column (an element of x, or a direction)."""

    analytic: Array
    numerical: Array
    bar: Array  # the tolerance, or by Taylor's remainder its slope
    zero: Array  # whether the derivative is 0, for all that can be told
    marks: Array  # "ok", "WRONG", "kink" or "uncertain"
    origin: str  # where the bar comes from
    notes: tuple[str, ...]
    notices: Callable[[Array], bool]  # whether another gradient of <first cotangent, y> would be seen to be wrong


class Experiment:
    """One function, its random cotangents and directions, and all that is computed from them."""

    def __init__(self, subject: Subject, options: Options) -> None:
        self.subject, self.options = subject, options
        self.rng = np.random.default_rng([options.seed, *b"gradcheck"])
        m, n = subject.y.size, subject.x.size
        self.elementwise = not options.fast_mode and options.method != "taylor" and n <= MOST_INPUTS
        self.whole = self.elementwise and m <= MOST_OUTPUTS and m * n <= MOST_CELLS
        self.cotangents = self.rng.standard_normal((1 if self.whole else DIRECTIONS, m))
        self.directions = None if self.elementwise else self._directions()
        # So small that powers of them vanish, so large that roundings differ: about 1e-7 of x in float64
        self.moves = subject.unit**0.45 * subject.x * self.rng.uniform(0.5, 1, (4, n)) * self.rng.choice([-1, 1], (4, n))
        noise = subject.noise(self.moves)
        self.noise = self._seen(noise, np.abs(self.cotangents))
        self.steps = self._steps()  # per column

    def _directions(self) -> Array:
        """Unit vectors that each move one input only."""
        rows = []
        for start, end in self.subject.places:
            for _ in range(DIRECTIONS if end > start else 0):
                row = np.zeros(self.subject.x.size)
                row[start:end] = self.rng.standard_normal(end - start)
                rows.append(row / np.linalg.norm(row))
        return np.array(rows)

    def _steps(self) -> Array:
        """The step of every column: as given, or in proportion to what it moves where that is more than 1."""
        x = np.abs(self.subject.x)
        if self.directions is not None:
            x = np.max(x * (self.directions != 0), axis=1)
        return STEPS[self.options.method] * np.maximum(x, 1) if self.options.eps is None else np.full(len(x), self.options.eps)

    def _seen(self, y: Array, cotangents: Array) -> Array:
        """The products with the cotangents, and y itself where the whole Jacobian is compared."""
        return np.concatenate([cotangents @ y, y]) if self.whole else cotangents @ y

    def _along(self, column: int) -> Callable[[float], Array]:
        """What is seen of y at x + t times a direction, or times the unit vector of an element."""
        subject = self.subject
        direction = np.eye(1, subject.x.size, column)[0] if self.directions is None else self.directions[column]
        return remembered(lambda t: self._seen(subject.values(subject.x + t * direction), self.cotangents))

    def _cells(self, gradients: Array) -> Array:
        """Gradients, one per row, as derivatives along every column."""
        return gradients if self.directions is None else gradients @ self.directions.T

    def _bars(self, rounding: Array) -> Array:
        """How much the derivatives along every column are off at most, where the gradients are off by ``rounding``."""
        return rounding if self.directions is None else rounding @ np.abs(self.directions.T)

    def _gradients(self, x: Array) -> Array:
        """The gradient of everything that is seen, one walk each."""
        call = self.subject.call(x)
        units = np.eye(self.subject.y.size) if self.whole else ()
        return np.array([self.subject.pullback(call, row) for row in (*self.cotangents, *units)])

    def _rounding(self, gradients: Array) -> Array:
        """How much rounding changes the gradients: of the cotangents, more than the result tells where large ones cancel, and of x."""
        subject = self.subject
        call = subject.call(subject.x)
        units = np.eye(subject.y.size) if self.whole else ()
        shaken = np.array([subject.shaken(call, row, self.rng) for row in (*self.cotangents, *units)])
        size = np.maximum(32 * np.abs(gradients), 8 * np.abs(shaken - gradients) / SHAKE)
        rounding = np.empty_like(size)
        for start, end in subject.places:
            rounding[:, start:end] = subject.unit * _largest(size[:, start:end])
        return rounding + self._second_difference(self._gradients, gradients, self.moves[:1])

    @np.errstate(all="ignore")  # nan, inf and overflow show in the cells
    def result(self, title: str) -> GradCheck:
        """Compare, and where all is well ask whether a mistake would have shown."""
        options, subject = self.options, self.subject
        gradients = self._gradients(subject.x)
        rounding = self._rounding(gradients)
        refused = ""
        try:
            cells = (self._by_taylor if options.method == "taylor" else self._by_numbers)(gradients, rounding)
        except Refusal as refusal:
            refused = f"The complex step cannot judge here: {refusal}. Below, Richardson judges instead."
            cells = self._by_numbers(gradients, rounding, "richardson")
        verdict, reason = self._verdict(cells, refused)
        notes = [*self._notes(), *cells.notes]
        blind: list[Unseen] = []
        if verdict == "ok":
            constant = self._constant(cells)
            names = [name for name, zero in zip(subject.names, constant, strict=True) if zero]
            blind, idle = unseen(subject, self.cotangents[0], cells.notices, constant, rounding[0], self.rng)
            if constant.all():
                verdict, reason = "blind", "The derivative is 0 everywhere here: a rule that is wrong by a factor would not show."
            elif blind:
                verdict, reason = self._advice(blind)
            elif names:
                notes.append(f"The derivative with respect to {', '.join(names)} is 0 everywhere here.")
            if idle:
                notes.append(f"{idle} operation(s) hand on nothing here, because their cotangent or their derivative is 0.")
        return GradCheck(
            f"{title}, {self._size()}",
            verdict,
            reason,
            self._rows(cells),
            cells.origin,
            tuple(notes),
            tuple(blind),
            "slope" if options.method == "taylor" else "tolerance",
            self._maps(cells),
            self._evidence(gradients[0]),
        )

    def _by_numbers(self, gradients: Array, rounding: Array, method: str = "") -> Cells:
        method = method or self.options.method
        subject, options = self.subject, self.options
        columns = range(subject.x.size if self.directions is None else len(self.directions))
        found, far = [], []
        for column in columns:
            along, h = self._along(column), self.steps[column]
            found.append(self._central(along, h) if method == "central" else slopes(along, h, noise=self.noise, unit=subject.unit))
            far.append(np.maximum(np.abs(along(h)), np.abs(along(-h))))
        numbers = Slopes(*(np.stack(part, axis=1) for part in zip(*found, strict=True)))
        analytic, rounding = self._cells(gradients), self._bars(rounding)
        if method == "complex":
            numbers = self._complex(numbers, rounding)
        computed = numbers.error + rounding
        bar = computed
        if options.atol is not None or options.rtol is not None:
            bar = (options.atol or 0.0) + (options.rtol or 0.0) * np.abs(numbers.value)
        difference = np.abs(analytic - numbers.value)
        size = np.maximum(np.abs(analytic), np.abs(numbers.value))
        # A bar may hide 10 % where the derivative is nearly 0 beside others of its row or column, beside the value, or beside rounding
        others = 1e-6 * np.maximum(_largest(numbers.value), _largest(numbers.value.T).T)
        values = 1e-8 * np.abs(self._seen(subject.y, self.cotangents))[:, None]
        noise = np.fmax(self.noise[:, None], 2 * subject.unit * np.stack(far, axis=1))
        nearly = np.maximum(np.maximum(others, values), 100 * noise / self.steps)
        wide = ~(numbers.error <= np.maximum(0.1 * size, nearly)) & (
            (options.atol is None and options.rtol is None) | ~np.isfinite(numbers.error)
        )
        wrong = ~(difference <= bar) & ~(difference <= computed) & np.isfinite(numbers.error)
        uncertain = wide | ~(difference <= bar)
        marks = np.select([numbers.kink, wrong, uncertain], ["kink", "WRONG", "uncertain"], "ok")
        seen = np.where(marks[0] == "ok", bar[0], np.inf)
        return Cells(
            analytic,
            numbers.value,
            bar,
            (np.abs(analytic) <= rounding) & (np.abs(numbers.value) <= computed),
            marks,
            self._origin(method),
            self._kinks(numbers),
            lambda gradient: bool(np.any(~(np.abs(self._cells(gradient[None])[0] - numbers.value[0]) <= seen))),
        )

    def _central(self, along: Callable[[float], Any], h: float) -> Slopes:
        value = central_difference(along, h)
        error = np.abs(central_difference(along, 2 * h) - value) + 2 * self.noise / h
        return Slopes(value, np.where(np.isnan(error), np.inf, error), *one_sided(along, h, self.noise))

    def _complex(self, numbers: Slopes, rounding: Array) -> Slopes:
        """The complex step in the place of Richardson's values, which it must agree with."""
        directions = np.eye(self.subject.x.size) if self.directions is None else self.directions

        def stepped(x: Array) -> Array:
            return np.stack([self._seen(self.subject.complex_slopes(x, row), self.cotangents) for row in directions], axis=1)

        value = stepped(self.subject.x)
        off = ~numbers.kink & ~(np.abs(value - numbers.value) <= numbers.error + rounding)
        if off.any():
            row, column = np.argwhere(off)[np.argmax(np.abs(value - numbers.value)[off])]
            by_step, by_richardson = value[row, column], numbers.value[row, column]
            lost = "a part of the path left the complex world" if value.any() else "the imaginary part was lost"
            raise Refusal(f"{lost} (abs, var, norm, a cast, ...): it gives {by_step:.10g} where Richardson gives {by_richardson:.10g}")
        error = self.noise[:, None] + self._second_difference(stepped, value, self.moves)
        return numbers._replace(value=value, error=np.minimum(numbers.error, error))

    def _second_difference(self, function: Callable[[Array], Array], value: Array, moves: Array) -> Array:
        """What rounding does to ``function`` at x, where it gives ``value``: a smooth function leaves |move|**2 there."""
        x = self.subject.x
        return np.max([2 * np.abs(function(x + move) + function(x - move) - 2 * value) for move in moves], axis=0)

    def _by_taylor(self, gradients: Array, rounding: Array) -> Cells:
        assert self.directions is not None
        columns = list(zip(map(self._along, range(len(self.directions))), self.steps, strict=True))
        analytic, rounding = self._cells(gradients), self._bars(rounding)

        def judged(derivatives: Array, row: int) -> list[Taylor]:
            return [
                taylor(lambda t, f=f: f(t)[row], derivative, step, self.noise[row], self.subject.unit, blur)  # type: ignore[misc]
                for (f, step), derivative, blur in zip(columns, derivatives, rounding[row], strict=True)
            ]

        found = [judged(derivatives, row) for row, derivatives in enumerate(analytic)]
        names = {"right": "ok", "linear": "ok", "wrong": "WRONG", "kink": "kink"}
        marks = np.array([[names[each.verdict] for each in row] for row in found])
        numerical = np.array(
            [[central_difference(f, each.step)[k] for (f, _), each in zip(columns, row, strict=True)] for k, row in enumerate(found)]
        )
        nothing = np.array([[4 * noise / each.step for each in row] for noise, row in zip(self.noise, found, strict=True)]) + rounding
        return Cells(
            analytic,
            numerical,
            np.array([[each.slope for each in row] for row in found]),
            (np.abs(analytic) <= rounding) & (np.abs(numerical) <= nothing),
            marks,
            "Right gradients have slope 2 (nan: the function is linear), wrong ones 1.",
            (),
            lambda gradient: any(each.verdict == "wrong" for each in judged(self._cells(gradient[None])[0], 0)),
        )

    # -- in words -----------------------------------------------------------------------------------------------------------------

    def _verdict(self, cells: Cells, refused: str) -> tuple[str, str]:
        count = {mark: int(np.count_nonzero(cells.marks == mark)) for mark in ("WRONG", "kink", "uncertain")}
        total = f"{cells.marks.size} derivatives"
        if count["WRONG"]:
            return "wrong", f"{refused} {count['WRONG']} of {total} are wrong.".strip()
        if refused:
            return "refused", refused
        if count["kink"]:
            return (
                "uncertain",
                f"{count['kink']} of {total} sit at a kink, where a derivative is a convention: move the input away from it.",
            )
        if count["uncertain"]:
            return "uncertain", f"The numbers for {count['uncertain']} of {total} are too noisy to tell, or a kink is near."
        return "ok", ""

    def _advice(self, blind: Sequence[Unseen]) -> tuple[str, str]:
        given = self.options.atol is not None or self.options.rtol is not None
        if all(each.annihilated for each in blind):
            if self.subject.y.size == 1:
                return "blind", (
                    "Let fn give all its outputs instead of one number made of them: each gets a random cotangent. An input "
                    "whose derivative is 0 for any loss, as of a bias before a normalisation, is then let pass."
                )
            return "blind", "Choose outputs, or inputs, at which the derivative is not nearly 0."
        if given:
            return "blind", "Choose a smaller tolerance, or none: then it is computed."
        return "uncertain", "fn jumps here, is too noisy, or the step does not suit it: the computed tolerance hides 10 %."

    def _size(self) -> str:
        m, n, draws = self.subject.y.size, self.subject.x.size, len(self.cotangents)
        if self.whole:
            return f"full Jacobian ({m} x {n}) and a random cotangent"
        return f"{draws} random cotangents, {'every element' if self.elementwise else f'{DIRECTIONS} random directions per input'}"

    def _origin(self, method: str) -> str:
        options = self.options
        if options.atol is not None or options.rtol is not None:
            return f"The tolerance was given: atol = {options.atol or 0:g}, rtol = {options.rtol or 0:g}."
        bars = {
            "richardson": "the error bar of Richardson",
            "central": "the difference between the steps h and 2h",
            "complex": "the rounding of the complex step",
        }
        return f"The tolerance was computed: {bars[method]}, and the rounding of the gradient."

    def _notes(self) -> list[str]:
        subject = self.subject
        notes = []
        upcast = {
            name: subject.inputs[i].dtype
            for name, i in zip(subject.names, subject.checked, strict=True)
            if subject.inputs[i].dtype != float
        }
        if upcast:
            given = ", ".join(f"{name} is {dtype}" for name, dtype in upcast.items())
            notes.append(f"Checked in float64: {given}, whose numbers are too coarse for differences.")
        if subject.narrow:
            casts = ", ".join(f"{name} ({dtype})" for name, dtype in subject.narrow.items())
            notes.append(
                f"Precision was lost on the way: {casts} computes with {-math.log10(subject.unit):.0f} digits, so the bars are wider."
            )
        if subject.cut:
            notes.append(f"No graph leads from output {', '.join(map(str, subject.cut))} to the inputs: for the walk its derivative is 0.")
        if subject.x.size > MOST_INPUTS and not self.options.fast_mode and self.options.method != "taylor":
            notes.append(
                f"{subject.x.size} input elements are too many to move one by one: {DIRECTIONS} random directions per input stand for them."
            )
        if self.elementwise and not self.whole:
            notes.append(f"{subject.y.size} outputs are too many for a full Jacobian: {DIRECTIONS} random cotangents stand for it.")
        if len(subject.nodes) > MOST_NODES:
            notes.append(f"{MOST_NODES} of the {len(subject.nodes)} operations, drawn at random, were examined for blindness.")
        return notes

    def _kinks(self, numbers: Slopes) -> tuple[str, ...]:
        places = np.argwhere(numbers.kink)
        order = np.argsort([-abs(numbers.above[place] - numbers.below[place]) for place in map(tuple, places)], kind="stable")
        sides = [
            f"{' '.join(self._place(column))} (output {self._output(row)}) has slope {numbers.below[row, column] + 0.0:.4g} below and "
            f"{numbers.above[row, column] + 0.0:.4g} above."
            for row, column in places[order][:SHOWN]
        ]
        return tuple(sides)

    def _rows(self, cells: Cells) -> tuple[Row, ...]:
        """Of every input the element that uses most of its tolerance, or those that fail."""
        rows = []
        difference = np.abs(cells.analytic - cells.numerical)
        used = difference / np.where(cells.bar > 0, cells.bar, np.finfo(float).tiny)
        severity = np.select([cells.marks == "WRONG", cells.marks != "ok"], [2, 1], 0)
        columns = np.array([self._place(column)[0] for column in range(cells.marks.shape[1])])
        for name in self.subject.names:
            own = np.flatnonzero(columns == name)
            order = np.lexsort((-np.nan_to_num(used[:, own], nan=np.inf).ravel(), -severity[:, own].ravel()))
            places = [(k // len(own), own[k % len(own)]) for k in order[:SHOWN]]
            worst = [place for place in places if cells.marks[place] != "ok"] or places[:1]
            for row, column in worst:
                analytic, numerical, off, bar = (
                    float(part[row, column]) for part in (cells.analytic, cells.numerical, difference, cells.bar)
                )
                place = (*self._place(column), self._output(row))
                rows.append(Row(*place, analytic, numerical, off, bar, str(cells.marks[row, column])))
        return tuple(rows)

    def _place(self, column: int) -> tuple[str, str]:
        """The input and the element that a column stands for."""
        filled = [k for k, (start, end) in enumerate(self.subject.places) if end > start]
        if self.directions is not None:
            return self.subject.names[filled[column // DIRECTIONS]], f"direction {column % DIRECTIONS}"
        block = next(k for k in filled if column < self.subject.places[k][1])
        return self.subject.names[block], _index(column - self.subject.places[block][0], self.subject.shapes[block])

    def _output(self, row: int) -> str:
        """The output element that a row stands for."""
        element = row - len(self.cotangents)
        if element < 0:
            return "random u" if len(self.cotangents) == 1 else f"random u {row}"
        shapes = self.subject.output_shapes
        for k, shape in enumerate(shapes):
            if element < math.prod(shape):
                return f"{k} " * (len(shapes) > 1) + _index(element, shape)
            element -= math.prod(shape)
        raise AssertionError("a row beyond the outputs")

    def _constant(self, cells: Cells) -> Array:
        """For every input, whether all its derivatives are 0; also when it has no elements."""
        columns = np.array([self._place(column)[0] for column in range(cells.zero.shape[1])])
        return np.array([cells.zero[:, columns == name].all() for name in self.subject.names])

    def _maps(self, cells: Cells) -> tuple[tuple[str, Array, Array], ...]:
        if not self.elementwise:
            return ()
        errors = np.max(np.abs(cells.analytic - cells.numerical), axis=0)
        ranked = ["ok", "uncertain", "kink", "WRONG"]
        worst = np.max(np.select([cells.marks == mark for mark in ranked], range(4)), axis=0)
        marks = np.array(ranked)[worst]
        parts = zip(self.subject.names, self.subject.places, self.subject.shapes, strict=True)
        return tuple((name, errors[i:j].reshape(shape), marks[i:j].reshape(shape)) for name, (i, j), shape in parts if j > i)

    def _evidence(self, gradient: Array) -> tuple[Subject, Array, Array, float]:
        """A direction through all of x, for the curves of error against step."""
        direction = self.rng.standard_normal(self.subject.x.size)
        return self.subject, self.cotangents[0], direction, float(gradient @ direction)


def _largest(rows: Array) -> Array:
    """The largest finite magnitude of every row."""
    return np.max(np.abs(rows), axis=1, keepdims=True, initial=0, where=np.isfinite(rows))


def _index(flat: int, shape: tuple[int, ...]) -> str:
    return str([int(i) for i in np.unravel_index(flat, shape)]) if shape else "[]"
