"""A layer of the user's, named by where it is defined: ``MODULE:CLASS`` or ``FILE.py:CLASS``."""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from minitensor import Tensor, nn, no_grad
from minitensor.commands.inputs import BadInput
from minitensor.commands.layers import KINDS, Read, Trial, check_slices, randomize, refuse_options
from minitensor.commands.user_code import module_at
from minitensor.errors import describe
from minitensor.nn.comparison.subject import subject_of
from minitensor.nn.diagnosis.learner import raised


def argument(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as a name and the value of a Python literal."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"NAME=VALUE is needed, such as num_groups=4, got {text!r}")
    try:
        return name, ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise argparse.ArgumentTypeError(
            f"{name}: VALUE must be a Python literal, such as 4, 0.1, True, (8, 9) or \"'text'\", got {value!r}"
        ) from None


class OwnLayer:
    """The Module that ``--layer`` names, on the input and on a probe of the same shape.

    What goes wrong in the user's code becomes `BadInput`: one line, with the file and line where it happened.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.spec = options, options.layer
        home, _, name = self.spec.rpartition(":")
        if not home or not name:
            near = difflib.get_close_matches(self.spec, KINDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadInput(
                f"--layer {self.spec}: {', '.join(KINDS)}, or a layer of your own as MODULE:CLASS or FILE.py:CLASS, is needed{hint}"
            )
        refuse_options(options, {"arg"})
        with self.blamed("when imported"):
            module = module_at(home)
        self.layer = self._made(module, name)

    def on_input(self, read: Read, rng: np.random.Generator) -> Trial:
        """The layer with the parameters that it made itself, on what the user gave."""
        given = read()
        advice = "" if self.options.input else "; give a shape that the layer takes as INPUT, such as 4x7"
        with self.blamed(f"on {given.name} {given.array.shape}", advice):
            layer = copy.deepcopy(self.layer).to(self.options.device, given.array.dtype)
            trial = Trial(f"INPUT: {given.name}", layer, Tensor(given.array, device=self.options.device))
            self._check(given.name, trial)
        return trial

    def on_probe(self, read: Read, rng: np.random.Generator) -> Trial:
        """The layer in float64 on random numbers of the input's shape and range, its parameters moved off their initial values.

        Weights of 1 and biases of 0 would hide that a backward forgets them.
        """
        values = read().array
        with self.blamed("on the probe"):
            layer = copy.deepcopy(self.layer).to(self.options.device).double()
            x = Tensor(rng.uniform(values.min(), values.max(), values.shape), device=self.options.device)
            with no_grad():
                layer(x)  # gives lazy parameters their shapes
            for parameter in layer.parameters():
                start = parameter.detach().cpu().numpy()
                parameter.data = np.where(start == 0, rng.uniform(-1, 1, start.shape), start * np.exp(rng.uniform(-0.7, 0.7, start.shape)))
            if isinstance(layer, nn.Norm):
                randomize(layer, rng)
            trial = Trial("PROBE: random float64 numbers of the same shape and range, all parameters moved", layer, x)
            self._check("the probe", trial)
        return trial

    @contextmanager
    def blamed(self, what: str, advice: str = "") -> Iterator[None]:
        """Say of an exception in one line whose it is."""
        try:
            yield
        except (BadInput, MemoryError, BrokenPipeError):
            raise
        except (Exception, SystemExit) as error:
            raise BadInput(f"--layer {self.spec}, {what}: {raised(error)}{advice}") from error

    def _made(self, module: ModuleType, name: str) -> nn.Module:
        with self.blamed(f"when {name} is looked up"):
            try:
                found = operator.attrgetter(name)(module)
            except AttributeError:
                layers = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]
                raise BadInput(f"--layer {self.spec}: there is no {name}; the Modules there are {', '.join(layers) or 'none'}") from None
        arguments = dict(self.options.arg)
        if isinstance(found, nn.Module):
            if arguments:
                raise BadInput(f"--arg is for a constructor; {self.spec} is a Module already")
            return found
        if not callable(found) or (isinstance(found, type) and not issubclass(found, nn.Module)):
            what = "a class, but none derived from minitensor.nn.Module" if isinstance(found, type) else describe(found)
            raise BadInput(f"--layer {self.spec}: a Module, its class or a function that makes one is needed, and {name} is {what}")
        with self.blamed("when made", "; --arg NAME=VALUE gives an argument"):
            layer = found(**arguments)
        if not isinstance(layer, nn.Module):
            raise BadInput(f"--layer {self.spec}: {name} makes {describe(layer)}, and a Module is needed")
        return layer

    def _check(self, name: str, trial: Trial) -> None:
        """Raise what the layer and the comparison raise there, and refuse numbers at which the formula has no value."""
        with no_grad():
            trial.layer(trial.x)
            subject = subject_of(trial.layer, trial.x)
            y = subject.formula({"x": trial.x, **subject.parameters})
        if isinstance(trial.layer, nn.Norm):
            check_slices(name, trial.layer, trial.x.cpu().numpy())
        if not np.isfinite(y.cpu().numpy()).all():
            raise BadInput(f"--layer {self.spec}: the formula gives nan or inf on {name}, so there is nothing to compare")
