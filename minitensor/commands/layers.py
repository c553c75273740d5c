"""The layers of the normalisation family by name, each with a probe on which all its known mistakes show."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minitensor import Tensor, nn, no_grad
from minitensor.commands.inputs import BadInput, Input

Shape = tuple[int, ...]
Read = Callable[[], Input]
PROBE_EPS = 0.1  # comparable with the probe's variances, so that a mistake with eps shows


class Trial(NamedTuple):
    """A layer and what it is run on."""

    title: str
    layer: Any
    x: Tensor


def _instance_norm(shape: Shape, options: argparse.Namespace) -> nn.Norm:
    kinds = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}  # by rank, batch included
    rank = len(shape) + options.unbatched
    if rank not in kinds:
        expected = ", ".join(str(kind - options.unbatched) for kind in kinds)
        fix = "" if options.unbatched else "; --unbatched says that the batch axis is missing"
        raise BadInput(f"instance_norm takes arrays of {expected} axes, got shape {shape}{fix}")
    return kinds[rank](options.num_features or shape[0 if options.unbatched else 1], affine=options.affine)


def _batch_norm(shape: Shape, options: argparse.Namespace) -> nn.Norm:
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    if len(shape) not in kinds:
        raise BadInput(f"batch_norm takes arrays of {', '.join(map(str, kinds))} axes, got shape {shape}")
    return kinds[len(shape)](options.num_features or shape[1], affine=options.affine, track_running_stats=False)


def _group_norm(shape: Shape, options: argparse.Namespace) -> nn.Norm:
    if len(shape) < 2:
        raise BadInput(f"group_norm takes arrays of 2 axes or more, (N, C, ...), got shape {shape}")
    channels = options.num_features or shape[1]
    # As many groups as leave two channels to each, and at most the 32 of the paper
    groups = options.groups or max(g for g in range(1, min(32, max(1, channels // 2)) + 1) if channels % g == 0)
    if channels % groups:
        raise BadInput(f"--groups {groups}: {channels} channels do not divide into {groups} groups")
    return nn.GroupNorm(groups, channels, affine=options.affine)


def _layer_norm(shape: Shape, options: argparse.Namespace) -> nn.Norm:
    return nn.LayerNorm(_trailing(shape, options), elementwise_affine=options.affine)


def _rms_norm(shape: Shape, options: argparse.Namespace) -> nn.Norm:
    return nn.RMSNorm(_trailing(shape, options), elementwise_affine=options.affine)


def _trailing(shape: Shape, options: argparse.Namespace) -> Shape:
    count = options.trailing or len(shape) - 1
    if count > len(shape):
        raise BadInput(f"--trailing {count}: an input of shape {shape} has {len(shape)} axes")
    if count == 0:
        raise BadInput(f"{options.layer} normalises all axes but the first, and shape {shape} has no other; --trailing 1 takes that one")
    return shape[-count:]


@dataclass(frozen=True)
class Kind:
    """How a layer is made for an input of some shape, the options that it obeys, and its probe.

    The probe has m >= 6, unlike the other sizes, and more than one instance.
    """

    made: Callable[[Shape, argparse.Namespace], nn.Norm]
    obeys: frozenset[str]
    probe: Shape
    of_probe: dict[str, int]


KINDS = {
    "instance_norm": Kind(_instance_norm, frozenset({"num_features", "unbatched"}), (2, 3, 8, 9), {}),
    "batch_norm": Kind(_batch_norm, frozenset({"num_features"}), (2, 3, 8, 9), {}),
    "group_norm": Kind(_group_norm, frozenset({"num_features", "groups"}), (2, 12, 5, 7), {"groups": 3}),
    "layer_norm": Kind(_layer_norm, frozenset({"trailing"}), (2, 3, 8, 9), {"trailing": 2}),
    "rms_norm": Kind(_rms_norm, frozenset({"trailing"}), (2, 3, 8, 9), {"trailing": 2}),
}
# The options that are for these layers alone, and what stands where they are not given
OF_KINDS: dict[str, Any] = {"eps": None, "affine": None, "num_features": None, "unbatched": False, "groups": None, "trailing": None}


class FamilyLayer:
    """A layer of the family, made to fit the input, and the same on its probe."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.kind = KINDS[options.layer]
        refuse_options(options, self.kind.obeys | {"eps", "affine"})
        self.options = argparse.Namespace(**vars(options) | {"affine": options.affine is not False})

    def on_input(self, read: Read, rng: np.random.Generator) -> Trial:
        """The layer with random gamma and beta, on what the user gave."""
        given, options = read(), self.options
        if given.is_picture and options.unbatched:
            raise BadInput(f"--unbatched is for arrays; the picture {given.name} is read as (1, C, H, W)")
        layer = self._made(given.array.shape, options, given.array.dtype, rng)
        x = Tensor(given.array, device=options.device)
        with no_grad():
            layer(x)  # raises what does not fit
        check_slices(given.name, layer, given.array)
        return Trial(f"INPUT: {given.name}", layer, x)

    def on_probe(self, read: Read, rng: np.random.Generator) -> Trial:
        """The layer on float64 numbers with a scale and an offset per slice."""
        shape, slices = self.kind.probe, (*self.kind.probe[:2], 1, 1)
        x = rng.standard_normal(shape) * np.exp(rng.uniform(np.log(0.3), np.log(3), slices)) + rng.uniform(-3, 3, slices)
        defaults = {**OF_KINDS, "eps": PROBE_EPS, "affine": True, **self.kind.of_probe}
        options = argparse.Namespace(layer=self.options.layer, device=self.options.device, **defaults)
        title = f"PROBE: {shape} in float64, made so that every known mistake shows"
        return Trial(title, self._made(shape, options, x.dtype, rng), Tensor(x, device=options.device))

    def blamed(self, what: str) -> AbstractContextManager[None]:
        """Nothing that goes wrong is the user's."""
        return nullcontext()

    def _made(self, shape: Shape, options: argparse.Namespace, dtype: Any, rng: np.random.Generator) -> nn.Norm:
        layer = self.kind.made(shape, options)
        if options.eps is not None:
            layer.eps = options.eps
        layer.to(options.device, dtype)
        randomize(layer, rng)
        return layer


def refuse_options(options: argparse.Namespace, obeyed: Collection[str]) -> None:
    """Refuse an option that was given and would not be obeyed."""
    for name, default in {**OF_KINDS, "arg": []}.items():
        value = getattr(options, name)
        if value == default or name in obeyed:
            continue
        option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        if options.layer not in KINDS:
            raise BadInput(f"{option} is not for a layer of your own: what its constructor takes is given as --arg NAME=VALUE")
        fitting = [kind for kind in KINDS if name in KINDS[kind].obeys]
        whose = f"--layer {', '.join(fitting)}" if fitting else "a layer of your own (--layer MODULE:CLASS or FILE.py:CLASS)"
        raise BadInput(f"{option} is for {whose}; {options.layer} has no use for it")


def randomize(layer: nn.Norm, rng: np.random.Generator) -> None:
    """gamma and beta of sizes between 0.5 and 2; gamma of both signs, however few there are."""
    for parameter, alternate in ((layer.weight, True), (layer.bias, False)):
        if parameter is not None:
            signs = rng.permutation(np.resize([1.0, -1.0], parameter.size)) if alternate else rng.choice([-1, 1], parameter.size)
            parameter.data = (rng.uniform(0.5, 2, parameter.size) * signs).reshape(parameter.shape)


def check_slices(name: str, layer: nn.Norm, values: Any) -> None:
    """Refuse slices of one element, and what leaves the range of the dtype that is computed in: the layer would be blamed for it."""
    limits, where = np.finfo(np.float64), layer.layout(values.shape)
    if where.m == 1 and layer.centred:
        raise BadInput(f"{name}: each slice of shape {values.shape} has one element, whose variance says nothing")
    eps, seen = layer.epsilon(values.dtype), where.look(values.astype(np.float64))
    squares = np.sum((seen - np.mean(seen, axis=where.axes, keepdims=True) * layer.centred) ** 2, axis=where.axes)
    if not np.all(squares + eps < limits.max):
        raise BadInput(f"{name}: with eps = {eps:g} and values up to {np.max(np.abs(seen)):.1e}, variance + eps overflows {limits.dtype}")
    if not np.all(squares + eps >= limits.tiny):
        raise BadInput(
            f"{name}: with eps = {eps:g} and a slice that is (nearly) constant, 1 / sqrt(variance + eps) overflows {limits.dtype}"
        )
