# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Start here
#
# Ten lines to a gradient, the graph behind it, and the question this project answers: *is my analytic backward right?*
#
# Every claim below is asserted in its cell, so this notebook fails when one of them is wrong.

# %%
import numpy as np

import minitensor as mt
from minitensor import nn

# %% [markdown]
# ## A gradient
#
# A `Tensor` is a NumPy array that remembers how it was computed. NumPy's own functions record themselves on it.

# %%
x = mt.tensor([1.0, 2.0, 3.0], requires_grad=True)
loss = np.sum(np.tanh(x) * x)
loss.backward()
print(x.grad)

by_hand = np.tanh(x.data) + x.data * (1 - np.tanh(x.data) ** 2)
assert np.allclose(x.grad.numpy(), by_hand)

# %% [markdown]
# The graph that was recorded: leaves at the top, the output at the bottom.

# %%
mt.draw(np.sum(np.tanh(x) * x), names={"x": x})

# %% [markdown]
# With `create_graph=True` a gradient is recorded too, so it can be differentiated again, as often as you like.

# %%
(first,) = mt.grad(np.sum(x**3), x, create_graph=True)
(second,) = mt.grad(np.sum(first), x)
print(first, second, sep="\n")
assert np.allclose(second.numpy(), 6 * x.data)

# %% [markdown]
# ## The main question
#
# InstanceNorm centres and scales each channel of each picture by its own mean and variance:
#
# $$y = \gamma\,\hat x + \beta, \qquad \hat x = r\,(x - \mu), \qquad r = \frac{1}{\sqrt{v + \varepsilon}}$$
#
# Its backward pass can be derived on paper, and the result is short. With $h = \gamma g$ and means over the slice,
#
# $$dx = r\,\bigl(h - \overline{h} - \hat x\;\overline{h \hat x}\bigr).$$
#
# Is it right? `compare_backward` runs the layer twice, once with this closed form and once with autograd, which sees only means,
# differences, products, a root and a quotient. First on a real photograph:

# %%
from minitensor.commands.inputs import read_input

photograph = read_input(None, size=(120, 102)).array
layer = nn.InstanceNorm2d(3, affine=True)
layer.weight.data = [1.5, -0.7, 0.9]
layer.bias.data = [0.3, -1.0, 0.5]

on_photograph = nn.compare_backward(layer, photograph)
assert on_photograph
on_photograph

# %% [markdown]
# Every difference lies within a tolerance that was *computed*: both ways ran once more on numbers that carry a bound of their
# rounding error. And the last line is the honest one: on a single picture, a sum over the batch that was forgotten could not have
# shown. So look at a probe on which every known mistake does: float64, two instances, $\varepsilon$ comparable with the variance.

# %%
rng = np.random.default_rng(0)
probe = rng.normal(size=(2, 3, 8, 9)) * np.array([0.5, 1.0, 2.0]).reshape(1, 3, 1, 1)


def probe_layer(backward):
    made = nn.InstanceNorm2d(3, eps=0.1, affine=True, dtype=np.float64, backward=backward)
    made.weight.data, made.bias.data = [1.5, -0.7, 0.9], [0.3, -1.0, 0.5]
    return made


on_probe = nn.compare_backward(probe_layer("analytic"), probe)
assert on_probe
assert on_probe.unseen == ()
on_probe

# %% [markdown]
# ## Your own backward
#
# Give the layer a function of your own, in NumPy. This one divides by $m - 1$ in the path through the variance, the way
# `np.var(..., ddof=1)` would; the forward divides by $m$.


# %%
def my_backward(x, gamma, beta, eps, dy):
    axes, m = (2, 3), x.shape[2] * x.shape[3]
    c = x - np.mean(x, axis=axes, keepdims=True)
    r = 1 / np.sqrt(np.mean(c * c, axis=axes, keepdims=True) + eps)
    x_hat, h = c * r, dy * gamma.reshape(1, -1, 1, 1)
    dx = r * (h - np.mean(h, axis=axes, keepdims=True) - x_hat * np.sum(h * x_hat, axis=axes, keepdims=True) / (m - 1))
    return dx, np.sum(dy * x_hat, axis=(0, 2, 3)), np.sum(dy, axis=(0, 2, 3))


mine = nn.compare_backward(probe_layer(my_backward), probe)
assert not mine
assert {row.quantity for row in mine.rows if not row.ok} >= {"dx", "H u"}
mine

# %% [markdown]
# ## Why the cotangent must be random
#
# The usual gradient check takes `sum(y)` as the loss. On a normalisation layer that check is blind: the gradient is zero, whatever
# $\gamma$ and $\beta$ are, because adding a constant to the input changes nothing.

# %%
x = mt.tensor(probe, requires_grad=True)
(dx,) = mt.grad(np.sum(probe_layer("analytic")(x)), x)
print(f"largest |dx| of sum(y): {np.abs(dx.data).max():.0e}")
assert np.abs(dx.data).max() < 1e-14

# %% [markdown]
# The comparison above draws a random cotangent, pushed away from the directions in which the layer sees nothing. On the command line
# the same is `minitensor compare`, with `--plant NAME` to put a known mistake in and `--report DIR` for a page with all of this.
