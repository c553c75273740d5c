"""Style transfer: weight and bias from outside, and AdaIN."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constructor import arguments
from .reasons import STYLES
from .row import Theme
from .seeing import agree, noise, normalised, outcome, shape
from .systems import System

replaced = Theme("Weight and bias from outside")
adain = Theme("AdaIN", peers=())

CONTENT, STYLE = noise(2, 3, 4, 5), 3 + 2 * noise(2, 3, 6, 7, seed=1)


def with_weight(lib: System, value: Any) -> str:
    """What an affine layer does with another weight."""

    def call() -> str:
        layer = lib.nn.InstanceNorm2d(3, affine=True, dtype=lib.dtype("float64")).eval()
        layer.weight = value
        weight = lib.array(value)
        return "y " + agree(lib.array(layer(lib.tensor(CONTENT))), normalised(CONTENT) * weight.reshape(-1, 3, 1, 1))

    return outcome(call)


@replaced.row("a Parameter (C,) assigned to `layer.weight`, eval", "y right", lucid="its way to AdaIN")
def one_style(lib: System) -> str:
    return with_weight(lib, lib.parameter(noise(3, seed=2)))


@replaced.row(
    "a Parameter (N, C) assigned to `layer.weight`, eval",
    "y right",
    STYLES,
    lucid="one style per call",
)
def style_per_instance(lib: System) -> str:
    return with_weight(lib, lib.parameter(noise(2, 3, seed=2)))


@replaced.row("a tensor that is no Parameter assigned to `layer.weight`", "TypeError")
def no_parameter(lib: System) -> str:
    return with_weight(lib, lib.tensor(noise(3, seed=2)))


@replaced.row("None assigned to `layer.bias`", "y right")
def bias_taken_away(lib: System) -> str:
    def call() -> str:
        layer = lib.nn.InstanceNorm2d(3, affine=True, dtype=lib.dtype("float64"))
        layer.bias = None
        return "y " + agree(lib.array(layer(lib.tensor(CONTENT))), normalised(CONTENT))

    return outcome(call)


@replaced.row("gradients to a style network, weight and bias (N, C)", "right", STYLES, lucid="shape (C,) only")
def to_a_network(lib: System) -> str:
    def call() -> str:
        w, z = lib.tensor(noise(6, 4, seed=2), requires_grad=True), noise(2, 4, seed=3)
        style = lib.tensor(z) @ w.T
        y = lib.functional.instance_norm(lib.tensor(CONTENT), weight=style[:, :3], bias=style[:, 3:])
        g = noise(2, 3, 4, 5, seed=4)
        (found,) = lib.grad(y, [w], lib.tensor(g))
        of_style = np.concatenate([(g * normalised(CONTENT)).sum((2, 3)), g.sum((2, 3))], 1)
        return agree(lib.array(found), of_style.T @ z)

    return outcome(call)


def adapted(content: np.ndarray, style: np.ndarray, eps: float = 1e-5, ddof: int = 0, eps_of_style: bool = True) -> np.ndarray:
    """s(style) (x - mu) / s(x) + mu(style)."""
    mean, var = style.mean((2, 3), keepdims=True), style.var((2, 3), ddof=ddof, keepdims=True)
    x_hat = (content - content.mean((2, 3), keepdims=True)) / np.sqrt(content.var((2, 3), ddof=ddof, keepdims=True) + eps)
    return np.sqrt(var + (eps if eps_of_style else 0)) * x_hat + mean


@adain.row("arguments, order, defaults, of the function", "content, style, eps=1e-05, *, backward='analytic'")
def arguments_of_the_function(lib: System) -> str:
    return arguments(lib.functional.adaptive_instance_norm)


@adain.row("arguments of the layer", "eps=1e-05, *, backward='analytic'")
def arguments_of_the_layer(lib: System) -> str:
    return arguments(lib.nn.AdaIN)


@adain.row("parameters and buffers of the layer", "none", lucid="no such layer")
def nothing_held(lib: System) -> str:
    return ", ".join(lib.nn.AdaIN().state_dict()) or "none"


@adain.row("form", "Huang & Belongie, biased variances, eps on both sides", lucid="weight and bias replaced by style tensors (C,)")
def form(lib: System) -> str:
    y = lib.array(lib.functional.adaptive_instance_norm(lib.tensor(CONTENT), lib.tensor(STYLE), 0.5))
    for ddof, variances in ((0, "biased"), (1, "unbiased")):
        for both, sides in ((True, "on both sides"), (False, "on the content alone")):
            if agree(y, adapted(CONTENT, STYLE, 0.5, ddof, both)) == "right":
                return f"Huang & Belongie, {variances} variances, eps {sides}"
    return "another"


@adain.row("layer against function", "the same")
def layer_is_function(lib: System) -> str:
    content, style = lib.tensor(CONTENT), lib.tensor(STYLE)
    one, other = lib.nn.AdaIN(0.5)(content, style), lib.functional.adaptive_instance_norm(content, style, 0.5)
    return "the same" if np.array_equal(lib.array(one), lib.array(other)) else "different"


@adain.row("content in its own style", "itself")
def own_style(lib: System) -> str:
    y = lib.array(lib.nn.AdaIN()(lib.tensor(CONTENT), lib.tensor(CONTENT)))
    return "itself" if np.allclose(y, CONTENT, 1e-12, 1e-12) else "another picture"


@adain.row("style of another spatial size", "in the content's shape")
def other_size(lib: System) -> str:
    y = lib.nn.AdaIN()(lib.tensor(CONTENT), lib.tensor(STYLE))
    return "in the content's shape" if y.shape == CONTENT.shape else f"in the shape {tuple(y.shape)}"


def refused(lib: System, content: np.ndarray, style: np.ndarray) -> str:
    naming = {"the content's shape": shape(*content.shape), "the style's shape": shape(*style.shape)}
    return outcome(lambda: tuple(lib.nn.AdaIN()(lib.tensor(content), lib.tensor(style)).shape), naming)


@adain.row("style of another batch or channel count", "ValueError naming the content's shape and the style's shape")
def other_channels(lib: System) -> str:
    return refused(lib, CONTENT, STYLE[:1])


@adain.row("style of one spatial element", "ValueError naming the style's shape")
def one_element(lib: System) -> str:
    return refused(lib, CONTENT, STYLE[:, :, :1, :1])


@adain.row("an input of 3 axes", "as (N, C, L)")
def three_axes(lib: System) -> str:
    content, style = CONTENT[0], STYLE[1, :, :4, :5]
    y = lib.array(lib.nn.AdaIN()(lib.tensor(content), lib.tensor(style)))
    readings = {
        "as (N, C, L)": adapted(content[..., None], style[..., None])[..., 0],
        "as (C, H, W)": adapted(content[None], style[None])[0],
    }
    return next((reading for reading, expected in readings.items() if agree(y, expected) == "right"), "otherwise")


@adain.row("gradients", "right for content and style")
def gradients(lib: System) -> str:
    pictures = {"content": CONTENT, "style": STYLE}
    right = []
    g = noise(2, 3, 4, 5, seed=2)
    tensors = {name: lib.tensor(picture, requires_grad=True) for name, picture in pictures.items()}
    found = lib.grad(lib.nn.AdaIN(0.5)(*tensors.values()), list(tensors.values()), lib.tensor(g))
    for (name, picture), gradient in zip(pictures.items(), found, strict=True):
        v, h = noise(*picture.shape, seed=3), 1e-4
        ahead, behind = (adapted(**(pictures | {name: picture + t * v}), eps=0.5) for t in (h, -h))
        if agree((lib.array(gradient) * v).sum(), ((ahead - behind) * g).sum() / (2 * h)) == "right":
            right.append(name)
    return f"right for {' and '.join(right)}" if right else "wrong"


@adain.row("dtype of the output, content float32 and style float64", "float32")
def dtype(lib: System) -> str:
    return str(lib.array(lib.nn.AdaIN()(lib.tensor(CONTENT.astype(np.float32)), lib.tensor(STYLE))).dtype)


@adain.row("`eps=-1`", "ValueError naming eps")
def negative_eps(lib: System) -> str:
    return outcome(lambda: lib.nn.AdaIN(-1.0), {"eps": "eps"})


@adain.row("`repr`", "AdaIN(eps=1e-05)")
def printed(lib: System) -> str:
    return repr(lib.nn.AdaIN())
