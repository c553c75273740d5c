"""Normalisation as functions of the parameters. As ``torch.nn.functional``.

Every function takes ``backward=``, which says who differentiates: ``"analytic"``, the closed form of `minitensor.nn.norm.formulas`;
``"autograd"``, the rules of mean, subtraction, multiplication, sqrt and division alone; or your own,
``(x, gamma, beta, eps, dy) -> (dx, dgamma, dbeta)`` in NumPy, all arrays in the shapes in which the function took them.
By running statistics y is an affine map of x, which is differentiated the same whatever ``backward`` says.
float16 and float32 are computed in float64 and rounded once, to the input's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitensor import Tensor, no_grad, ones, zeros
from minitensor.errors import DTypeError, ShapeError, describe

from ..arguments import check_floating
from . import formulas, layout, primitives
from .layout import Layout, Shape

Way = str | Callable[..., Any]
_NUMBERS = (int, float, np.number)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    backward: Way = "analytic",
) -> Tensor:
    """``y = (x - mu) / sqrt(v + eps) * weight + bias``, with the mean mu and biased variance v of each instance and channel.

    Shapes: input (N, C, S...) with more than one spatial element; ``weight`` and ``bias`` (C,), or (N, C): one style per instance, as
    StyleGAN and StarGAN v2 do with a style vector, and MUNIT by assigning. The running statistics have shape (C,). Statistics are taken
    from the input, or, without ``use_input_stats``, from the running ones. With both, running statistics move, in place, to
    ``(1 - momentum) old + momentum new``, where new is the mean over the batch of mu and of the *unbiased* variance, v m / (m - 1).
    An empty input gives an empty output, and moves nothing. Where v and eps are both 0, y is the bias, and no gradient reaches x.

    With the closed form, dx = r (h - mean(h) - x_hat mean(h x_hat)), h = weight g and r = 1 / sqrt(v + eps). Raises `ShapeError` for a
    rank, channel count or slice of one element that cannot be normalised, `DTypeError` for numbers that are not floating, `TypeError`
    for arrays that are no Tensors, `ValueError` for one running statistic without the other. Source: Ulyanov et al., arXiv 1607.08022;
    ``torch.nn.functional.instance_norm``.

    >>> x = Tensor([[[1.0, 2.0, 3.0]]])
    >>> instance_norm(x)
    tensor([[[-1.2247,  0.    ,  1.2247]]])
    """
    check_input("instance_norm", input, eps, backward)
    if input.ndim < 2:
        raise ShapeError(f"instance_norm: (N, C, S...) is needed, got shape {input.shape}")
    n, c = input.shape[:2]
    _check_parameters("instance_norm", input, [(c,), (n, c)], weight=weight, bias=bias)
    _check_statistics("instance_norm", input, running_mean, running_var, use_input_stats, momentum)
    where = layout.per_instance(input.shape)
    if not use_input_stats:
        return _fixed(input, running_mean, running_var, weight, bias, where, eps)
    check_slices("instance_norm", input.shape, where)
    y = normalized(input, _per_row(weight, where), _per_row(bias, where), where, (c,), eps, backward)
    _move(running_mean, running_var, input, where, momentum)
    return y


def adaptive_instance_norm(content: Tensor, style: Tensor, eps: float = 1e-5, *, backward: Way = "analytic") -> Tensor:
    """``y = s(style) (x - mu) / s(x) + mu(style)`` with s = sqrt(v + eps), mu and v per instance and channel: AdaIN.

    This is the form of Huang & Belongie, which takes its scale and shift from another picture. (For scale and shift that a network made
    of a style vector, give `instance_norm` a ``weight`` and ``bias`` of shape (N, C).) eps stands on both sides, so
    ``adaptive_instance_norm(x, x)`` is x.

    Shapes: content (N, C, S...), style (N, C, S'...) with any spatial size; the output has the shape and dtype of the content. An input
    of 3 axes is (N, C, L): give one picture as (1, C, H, W). Gradients reach both; where the style is constant and eps is 0, none
    through s. ``backward`` may not be a function of your own, which is made for one scale and shift for all instances (`ValueError`).
    Raises as `instance_norm`, and `ShapeError` when the batch or the channels differ. Source: arXiv 1703.06868.

    >>> x = Tensor([[[1.0, 2.0, 3.0]]])
    >>> adaptive_instance_norm(x, 10 * x, eps=0.0)
    tensor([[[10., 20., 30.]]])
    """
    for name, picture in (("content", content), ("style", style)):
        check_input("adaptive_instance_norm", picture, eps, backward)
        if picture.ndim < 3 or math.prod(picture.shape[2:]) < 2:
            raise ShapeError(f"adaptive_instance_norm: {name} must be (N, C, S...) with more than one element, got shape {picture.shape}")
    if callable(backward):
        raise ValueError(
            "adaptive_instance_norm: scale and shift differ from instance to instance, which a backward of your own is not made for; "
            "give 'analytic' or 'autograd'"
        )
    if content.shape[:2] != style.shape[:2]:
        raise ShapeError(
            f"adaptive_instance_norm: content and style must agree in (N, C), got shapes {content.shape} and {style.shape}; "
            "np.broadcast_to repeats one style for a batch"
        )
    wide, axes = formulas.widen(style), tuple(range(2, style.ndim))
    c = formulas.centre(wide, axes)
    variance = np.mean(c * c, axis=axes) + eps
    weight = variance * formulas.inverse_root(variance, 0)  # the root, with the derivative 0 where a constant style without eps has none
    return instance_norm(content, weight=weight, bias=np.mean(wide, axis=axes), eps=eps, backward=backward)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    backward: Way = "analytic",
) -> Tensor:
    """``y = (x - mu) / sqrt(v + eps) * weight + bias``, with the mean mu and biased variance v of each channel over the whole batch.

    Shapes: input (N, C) or (N, C, S...), all the others (C,). With ``training``, statistics are the input's, and running statistics, if
    given, move in place to ``(1 - momentum) old + momentum new`` with the *unbiased* variance of the batch; without, they are the
    running ones. An empty input gives an empty output and moves nothing. Raises as `instance_norm`. Source: Ioffe & Szegedy, arXiv
    1502.03167; ``torch.nn.functional.batch_norm``.

    >>> batch_norm(Tensor([[1.0], [2.0], [3.0]]), None, None, training=True).tolist()
    [[-1.2247...], [0.0], [1.2247...]]
    """
    check_input("batch_norm", input, eps, backward)
    if input.ndim < 2:
        raise ShapeError(f"batch_norm: (N, C) or (N, C, S...) is needed, got shape {input.shape}")
    _check_parameters("batch_norm", input, [input.shape[1:2]], weight=weight, bias=bias)
    _check_statistics("batch_norm", input, running_mean, running_var, training, momentum)
    where = layout.per_channel(input.shape)
    if not training:
        return _fixed(input, running_mean, running_var, weight, bias, where, eps)
    if where.m == 1:
        raise ShapeError(
            f"batch_norm: each channel of an input of shape {input.shape} has one element, whose variance says nothing; "
            "a larger batch is needed, or eval mode"
        )
    y = normalized(input, weight, bias, where, input.shape[1:2], eps, backward)
    _move(running_mean, running_var, input, where, momentum)
    return y


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    backward: Way = "analytic",
) -> Tensor:
    """``y = (x - mu) / sqrt(v + eps) * weight + bias``, with mu and biased v over the trailing axes, those of ``normalized_shape``.

    ``weight`` and ``bias`` have the shape ``normalized_shape``. Raises `ShapeError` when the input does not end in it, `DTypeError` for
    numbers that are not floating. Source: Ba et al., arXiv 1607.06450; ``torch.nn.functional.layer_norm``.

    >>> layer_norm(Tensor([[1.0, 2.0, 3.0]]), (3,))
    tensor([[-1.2247,  0.    ,  1.2247]])
    """
    where = _over_trailing("layer_norm", input, normalized_shape, eps, backward)
    _check_parameters("layer_norm", input, [where.parameter], weight=weight, bias=bias)
    return normalized(input, weight, bias, where, where.parameter, eps, backward)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    backward: Way = "analytic",
) -> Tensor:
    """``y = (x - mu) / sqrt(v + eps) * weight + bias``, mu and biased v over each of ``num_groups`` groups of neighbouring channels.

    Shapes: input (N, C) or (N, C, S...) with C a multiple of ``num_groups``, ``weight`` and ``bias`` (C,). Raises `ShapeError` for a
    channel count that cannot be divided, and where the whole input has one element per group. Source: Wu & He, arXiv 1803.08494;
    ``torch.nn.functional.group_norm``.

    >>> group_norm(Tensor([[1.0, 2.0, 30.0, 20.0]]), 2)
    tensor([[-1.,  1.,  1., -1.]])
    """
    check_input("group_norm", input, eps, backward)
    if isinstance(num_groups, bool) or not isinstance(num_groups, (int, np.integer)):
        raise TypeError(f"group_norm: num_groups must be an int, got {num_groups!r}")
    if input.ndim < 2:
        raise ShapeError(f"group_norm: (N, C) or (N, C, S...) is needed, got shape {input.shape}")
    c = input.shape[1]
    if num_groups < 1 or c % num_groups:
        raise ShapeError(f"group_norm: C = {c} channels of an input of shape {input.shape} do not divide into num_groups = {num_groups}")
    _check_parameters("group_norm", input, [(c,)], weight=weight, bias=bias)
    where = layout.per_group(input.shape, num_groups)
    if where.m == 1 and input.shape[0] == 1:
        raise ShapeError(
            f"group_norm: each of the {num_groups} groups of an input of shape {input.shape} has one element, whose variance says nothing"
        )
    return normalized(input, weight, bias, where, (c,), eps, backward)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    backward: Way = "analytic",
) -> Tensor:
    """``y = x / sqrt(mean(x x) + eps) * weight``, the mean over the trailing axes, those of ``normalized_shape``.

    ``eps=None`` is the spacing at 1 of the input's dtype, or of float32 for float16. A ``backward`` of your own is given None for beta and
    may return anything for dbeta. Raises as `layer_norm`. Source: Zhang & Sennrich, arXiv 1910.07467; ``torch.nn.functional.rms_norm``.

    >>> rms_norm(Tensor([[3.0, 4.0]]), (2,), eps=0.0)
    tensor([[0.8485, 1.1314]])
    """
    where = _over_trailing("rms_norm", input, normalized_shape, 0.0 if eps is None else eps, backward)
    _check_parameters("rms_norm", input, [where.parameter], weight=weight)
    eps = formulas.default_eps(input.dtype) if eps is None else eps
    return normalized(input, weight, None, where, where.parameter, eps, backward, centred=False)


def normalized(x: Tensor, weight: Any, bias: Any, where: Layout, own: Shape, eps: float, backward: Way, centred: bool = True) -> Tensor:
    """Normalise by the input's statistics; ``own`` is the shape of weight and bias in the layer."""
    if x.size == 0:  # there are no statistics, and the affine part gives the output and the gradients their shapes
        empty: Tensor = formulas.narrow(formulas.affine(where.look(x), where.spread(weight), where.spread(bias)), x)
        return empty.reshape(x.shape)
    if callable(backward):
        for name, parameter in (("weight", weight), ("bias", bias)):
            if parameter is not None and parameter.shape != own:
                raise ShapeError(f"a backward of your own needs a {name} of shape {own}, one for all instances, got {parameter.shape}")
        like: dict[str, Any] = {"dtype": x.dtype, "device": x.device}
        gamma = ones(own, **like) if weight is None else weight
        beta = zeros(own, **like) if bias is None and centred else bias
        own_way: Tensor = primitives.normalize_with(backward, where, eps, centred)(x, gamma, beta)
        return own_way
    way = primitives.normalize if backward == "analytic" else formulas.normalize
    y: Tensor = way(where.look(x), where.spread(weight), where.spread(bias), axes=where.axes, eps=eps, centred=centred)
    return y if y.shape == x.shape else y.reshape(x.shape)


def _fixed(x: Tensor, mean: Any, var: Any, weight: Any, bias: Any, where: Layout, eps: float) -> Tensor:
    """Normalise by running statistics, which are constants: weight and bias (C,) or (N, C)."""
    mean, var, weight, bias = (where.spread(_per_row(value, where)) for value in (mean, var, weight, bias))
    y: Tensor = formulas.normalize_fixed(x, mean, var, weight, bias, eps)
    return y


def _per_row(parameter: Tensor | None, where: Layout) -> Any:
    """(N, C) as (N, C, 1...), which broadcasts; (C,) as it is."""
    if parameter is None or parameter.ndim == 1:
        return parameter
    return parameter.reshape(*parameter.shape, *where.parameter[2:])


def _move(running_mean: Tensor | None, running_var: Tensor | None, x: Tensor, where: Layout, momentum: float) -> None:
    """Move the running statistics towards those of x: the mean over the batch of mu, and of the unbiased variance."""
    if running_mean is None or running_var is None or not x.size:
        return
    wide = formulas.widen(x.detach())
    c = formulas.centre(wide, where.axes)
    with no_grad():
        for buffer, new in ((running_mean, np.mean(wide, axis=where.axes)), (running_var, np.sum(c * c, axis=where.axes) / (where.m - 1))):
            buffer[...] = (1 - momentum) * formulas.widen(buffer) + momentum * np.mean(new.reshape(-1, x.shape[1]), axis=0)


def _over_trailing(name: str, x: Any, normalized_shape: Sequence[int], eps: float, backward: Way) -> Layout:
    check_input(name, x, eps, backward)
    if not isinstance(normalized_shape, (tuple, list)):
        raise TypeError(f"{name}: normalized_shape must be a tuple of ints, got {normalized_shape!r}")
    shape = tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(f"{name}: the input must end in normalized_shape = {shape}, got shape {x.shape}")
    return layout.per_position(x.shape, shape)


def check_options(name: str, eps: Any, backward: Way) -> None:
    """Raise unless eps is a number from 0 up, and backward one of the three ways."""
    if not isinstance(eps, _NUMBERS):
        raise TypeError(f"{name}: eps must be a number, got {eps!r}")
    if not eps >= 0:
        raise ValueError(f"{name}: eps must not be negative, got {eps}")
    if backward not in ("analytic", "autograd") and not callable(backward):
        raise ValueError(f"{name}: backward must be 'analytic', 'autograd' or a function, got {backward!r}")


def check_input(name: str, x: Any, eps: float, backward: Way) -> None:
    """Raise unless x is a floating Tensor, and as `check_options`."""
    check_floating(name, x)
    check_options(name, eps, backward)


def check_slices(name: str, shape: Shape, where: Layout) -> None:
    """Raise if a slice has one element; none at all is fine."""
    if where.m == 1:
        raise ShapeError(f"{name}: each slice of an input of shape {shape} has one element, whose variance says nothing; more are needed")


def _check_parameters(name: str, x: Tensor, shapes: Sequence[Shape], **parameters: Any) -> None:
    for which, parameter in parameters.items():
        if parameter is None:
            continue
        if not isinstance(parameter, Tensor):
            raise TypeError(f"{name}: {which} must be a Tensor, got {describe(parameter)}; mt.tensor(array) makes one")
        if parameter.dtype.kind != "f":
            raise DTypeError(f"{name}: {which} must be of floating numbers, got {describe(parameter)}")
        if parameter.shape not in shapes:
            expected = " or ".join(map(str, shapes))
            raise ShapeError(f"{name}: {which} must have shape {expected} for an input of shape {x.shape}, got {parameter.shape}")


def _check_statistics(name: str, x: Tensor, running_mean: Any, running_var: Any, from_input: bool, momentum: Any) -> None:
    given = {"running_mean": running_mean, "running_var": running_var}
    _check_parameters(name, x, [x.shape[1:2]], **given)
    for which, buffer in given.items():
        if buffer is not None and buffer.requires_grad:
            raise ValueError(f"{name}: {which} must not require grad: no gradient flows through running statistics")
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{name}: running_mean and running_var come together, or not at all")
    if not from_input and running_mean is None:
        flag = "training" if name == "batch_norm" else "use_input_stats"
        raise ValueError(f"{name}: without {flag}, running_mean and running_var are needed")
    if running_mean is not None and not isinstance(momentum, _NUMBERS):
        raise TypeError(f"{name}: momentum must be a number, got {momentum!r}")
