"""Right backward functions in thousands of spellings: each stage of each source is written in one of several ways, equal by algebra.

A source is put together from three choices: a *frame*, which is how the slices lie where dx is computed (as they are, as rows, one by one
in loops, ...); a *route*, which is the algebra that leads from h = gamma dy to dx there; and a spelling of every sum, mean, root, name.
"""

from __future__ import annotations

import ast
import random
from typing import NamedTuple


class _Frame(NamedTuple):
    """``x`` and ``h`` are the slices and gamma dy there, arrays of ``ndim`` axes whose slices extend along ``axes``; ``back`` turns such
    an array into the part ``[at]`` of one like the input, or into all of it. What the inner loop gives is stacked along ``stacked``.
    """

    ndim: int
    axes: tuple[int, ...]
    x: str
    h: str
    back: str = "{}"
    loops: tuple[str, ...] = ()
    at: str = ""
    stacked: int = 0


_OPENINGS = {
    "instance_norm": "N, C, H, W = x.shape",
    "batch_norm": "N, D = x.shape",
    "layer_norm": "N, D = x.shape",
    "group_norm": "N, C, H, W = x.shape; K = C // groups",
}
_EACH_N, _EACH_C, _EACH_D, _EACH_G = "for n in range(N):", "for c in range(C):", "for j in range(D):", "for g in range(groups):"
_BLOCK = "g * K:(g + 1) * K"
_FRAMES: dict[str, tuple[_Frame, ...]] = {
    "instance_norm": (
        _Frame(4, (2, 3), "x", "dy * {gamma}"),
        _Frame(3, (2,), "x.reshape(N, C, H * W)", "(dy * {gamma}).reshape(N, C, -1)", "{}.reshape(N, C, H, W)"),
        _Frame(2, (1,), "x.reshape(N * C, -1)", "(dy * {gamma}).reshape(N * C, -1)", "{}.reshape(x.shape)"),
        _Frame(2, (1,), "x.reshape(N * C, H * W)", "dy.reshape(N * C, H * W) * np.tile(gamma, N)[:, None]", "{}.reshape(x.shape)"),
        _Frame(2, (0,), "x.reshape(N * C, H * W).T", "(dy * {gamma}).reshape(N * C, -1).T", "{}.T.reshape(x.shape)"),
        _Frame(4, (1, 2), "x.transpose(0, 2, 3, 1)", "dy.transpose(0, 2, 3, 1) * gamma", "{}.transpose(0, 3, 1, 2)"),
        _Frame(4, (1, 2), "np.moveaxis(x, 1, -1)", "np.moveaxis(dy, 1, -1) * gamma", "np.moveaxis({}, -1, 1)"),
        _Frame(4, (2, 3), "x.swapaxes(0, 1)", "np.swapaxes(dy * {gamma}, 0, 1)", "{}.swapaxes(0, 1)"),
        _Frame(3, (1, 2), "x[n]", "dy[n] * gamma[:, None, None]", "{}", (_EACH_N,), "n"),
        _Frame(3, (1, 2), "x[:, c]", "gamma[c] * dy[:, c]", "{}", (_EACH_C,), ":, c", 1),
        _Frame(2, (0, 1), "x[n, c]", "gamma[c] * dy[n, c]", "{}", (_EACH_N, _EACH_C), "n, c"),
        _Frame(1, (0,), "x[n, c].ravel()", "gamma[c] * dy[n, c].ravel()", "{}.reshape(H, W)", (_EACH_N, _EACH_C), "n, c"),
    ),
    "batch_norm": (
        _Frame(2, (0,), "x", "dy * {gamma}"),
        _Frame(2, (1,), "x.T", "(dy * {gamma}).T", "{}.T"),
        _Frame(2, (1,), "np.transpose(x)", "gamma[:, None] * np.transpose(dy)", "np.transpose({})"),
        _Frame(3, (0,), "x.reshape(N, D, 1)", "(dy * {gamma}).reshape(N, D, 1)", "{}.reshape(N, D)"),
        _Frame(1, (0,), "x[:, j]", "gamma[j] * dy[:, j]", "{}", (_EACH_D,), ":, j", 1),
    ),
    "layer_norm": (
        _Frame(2, (1,), "x", "dy * {gamma}"),
        _Frame(2, (0,), "x.T", "(dy * {gamma}).T", "{}.T"),
        _Frame(2, (0,), "np.transpose(x)", "gamma[:, None] * np.transpose(dy)", "np.transpose({})"),
        _Frame(3, (1,), "x[:, :, None]", "(dy * {gamma})[:, :, None]", "{}[:, :, 0]"),
        _Frame(1, (0,), "x[n]", "gamma * dy[n]", "{}", (_EACH_N,), "n"),
    ),
    "group_norm": (
        _Frame(5, (2, 3, 4), "x.reshape(N, groups, K, H, W)", "(dy * {gamma}).reshape(N, groups, K, H, W)", "{}.reshape(x.shape)"),
        _Frame(3, (2,), "x.reshape(N, groups, -1)", "(dy * {gamma}).reshape(N, groups, -1)", "{}.reshape(x.shape)"),
        _Frame(2, (1,), "x.reshape(N * groups, -1)", "(dy * {gamma}).reshape(N * groups, -1)", "{}.reshape(x.shape)"),
        _Frame(2, (0,), "x.reshape(N * groups, -1).T", "(dy * {gamma}).reshape(N * groups, -1).T", "{}.T.reshape(x.shape)"),
        _Frame(2, (1,), "x[n].reshape(groups, -1)", "(dy * {gamma})[n].reshape(groups, -1)", "{}.reshape(C, H, W)", (_EACH_N,), "n"),
        _Frame(4, (1, 2, 3), f"x[:, {_BLOCK}]", f"(dy * {{gamma}})[:, {_BLOCK}]", "{}", (_EACH_G,), f":, {_BLOCK}", 1),
        _Frame(3, (0, 1, 2), f"x[n, {_BLOCK}]", f"(dy * {{gamma}})[n, {_BLOCK}]", "{}", (_EACH_N, _EACH_G), f"n, {_BLOCK}"),
        _Frame(
            *(1, (0,), f"x[n, {_BLOCK}].ravel()", f"(dy * {{gamma}})[n, {_BLOCK}].ravel()"),
            *("{}.reshape(K, H, W)", (_EACH_N, _EACH_G), f"n, {_BLOCK}"),
        ),
    ),
}
_NAMES = {  # by role; none in two roles, none that a frame uses
    "m": ("m", "M", "count", "size", "n_elem"),
    "X": ("X", "a", "flat", "xs", "parts"),
    "h": ("h", "dxhat", "dx_hat", "dnorm", "gy", "up"),
    "mu": ("mu", "mean", "avg", "x_mean", "mu_x"),
    "centred": ("xmu", "centred", "diff", "dev", "x0", "x_c"),
    "v": ("v", "var", "sigma2", "var_x", "sq_dev"),
    "s": ("s", "std", "sigma", "sqrtvar", "sd"),
    "r": ("r", "rstd", "inv_std", "ivar", "istd"),
    "xhat": ("xhat", "x_hat", "normed", "xn", "x_norm"),
    "z": ("z", "xhat_all", "z_full", "normalized"),
    "dX": ("dX", "da", "out", "dxs", "dslices"),
    "mean_h": ("mean_h", "mh", "avg_g", "h_bar"),
    "mean_hx": ("mean_hx", "p", "corr", "proj"),
    "sum_h": ("sum_h", "total_h", "S1"),
    "sum_hx": ("sum_hx", "total_hx", "S2"),
    "sum_hc": ("sum_hc", "dr", "divar", "S3"),
    "ds": ("ds", "dstd", "dsqrtvar", "dsigma"),
    "dv": ("dv", "dvar", "dsigma2", "dvariance"),
    "dq": ("dq", "dsq", "dsquare"),
    "dc": ("dc", "dxmu", "dcentred", "ddiff"),
    "dmu": ("dmu", "dmean", "davg", "dmu_x"),
    "t": ("t", "tmp", "res", "work"),
    "J": ("J", "jac", "jacobian", "A"),
    "one": ("one_slice", "core", "backward_of", "norm_backward", "helper"),
}

# What each word may be written as, in the names of the roles: a word alone is a statement, within an expression it is an expression.
# SUM, MEAN and VAR are taken over each slice and broadcast against the slices, and COUNT is the number of a slice's elements.
_GRAMMAR: dict[str, tuple[str, ...]] = {
    "slices": ("m = COUNT; mu = MEAN(X); centre; v = variance; s = root; r = inverse; xhat = standard; route; once_more",),
    "centre": (
        *("centred = X - mu", "centred = -(mu - X)", "centred = np.subtract(X, mu)"),
        *("centred = X - mu; centred = centred - MEAN(centred)", "centred = X - mu; centred -= MEAN(centred)"),
    ),
    "variance": (
        *("MEAN(centred * centred)", "MEAN(centred ** 2)", "MEAN(np.square(centred))", "MEAN(np.abs(centred) ** 2)", "MEAN((X - mu) ** 2)"),
        *("VAR(X)", "VAR(X)", "VAR(centred)", "abs(MEAN(centred * centred))", "MEAN(X * centred)"),
        *("MEAN(X * X) - mu * mu", "MEAN(X ** 2) - mu ** 2", "np.maximum(MEAN(X ** 2) - mu ** 2, 0)"),
    ),
    "root": ("np.sqrt(v + eps)", "(v + eps) ** 0.5", "np.power(v + eps, 1 / 2)"),
    "inverse": (
        *("1 / s", "1.0 / np.sqrt(v + eps)", "(v + eps) ** -0.5", "np.power(v + eps, -0.5)", "np.sqrt(1 / (v + eps))"),
        *("np.reciprocal(s)", "s / (v + eps)", "s ** -1.0", "np.exp(-0.5 * np.log(v + eps))"),
    ),
    "standard": ("centred * r", "deviation * r", "centred / s", "deviation / s", "r * X - r * mu", "np.multiply(r, centred)"),
    "deviation": ("centred", "(X - mu)"),
    "scaled_h": ("h * r", "h / s"),
    "once_more": ("", "", "", "", "dX = dX - MEAN(dX)"),
    "route": ("compact", "compact", "projected", "in_place", "course", "course", "chain", "chain", "squares"),
    # dx = r (h - mean(h) - xhat mean(h xhat)), with means or with sums
    "compact": (
        "mean_h = MEAN(h); mean_hx = MEAN(h * xhat); dX = of_means",
        "sum_h = SUM(h); sum_hx = SUM(h * xhat); dX = of_sums",
    ),
    "of_means": (
        *("r * (h - mean_h - xhat * mean_hx)", "(h - mean_h - xhat * mean_hx) / s", "r * (h - (mean_h + xhat * mean_hx))"),
        *(
            "r * h + -r * mean_h + -r * xhat * mean_hx",
            "-r * (mean_h - h + mean_hx * xhat)",
            "r * (h - mean_h) - centred * r ** 2 * mean_hx",
        ),
        *("r * (h - mean_h) - xhat * (r * mean_hx)", "np.multiply(r, np.subtract(np.subtract(h, mean_h), np.multiply(xhat, mean_hx)))"),
    ),
    "of_sums": (
        *(
            "r / m * (m * h - sum_h - xhat * sum_hx)",
            "(1 / m) * r * (m * h - sum_h - xhat * sum_hx)",
            "r * (h - (sum_h + xhat * sum_hx) / m)",
        ),
        *(
            "(m * h - sum_h - xhat * sum_hx) / (m * s)",
            "scaled_h - r / m * (sum_h + xhat * sum_hx)",
            "r * (h - sum_h / m - xhat * sum_hx / m)",
        ),
    ),
    # The same in two steps: the mean of xhat is 0, so that its component may be taken of the rest
    "projected": ("t = h - MEAN(h); dX = of_rest",),
    "of_rest": (
        *("r * (t - xhat * MEAN(t * xhat))", "r * (t - xhat * MEAN(h * xhat))", "r * t - centred * MEAN(h * centred) * r ** 3"),
        *("r * t - centred * MEAN(t * centred) * r ** 3", "r * (t - centred * MEAN(t * centred) / (v + eps))"),
    ),
    "in_place": (
        "t = own_h; t -= MEAN(h); t -= xhat * MEAN(h * xhat); scaled; dX = t",
        "t = own_h; t -= xhat * MEAN(h * xhat); t -= MEAN(h); scaled; dX = t",
    ),
    "own_h": ("h.copy()", "np.array(h)", "1.0 * h"),
    "scaled": ("t *= r", "t /= s", "t = t * r"),
    # Gradients of variance and mean. The mean's path from the variance may be left out, where the sum of x - mu is 0; and the square may
    # be of x instead of x - mu, where that path is summed.
    "course": (
        "through_v; dmu = direct + dv * SUM(-2 * deviation) / m; dX = scaled_h + dv * 2 * deviation / m + dmu / m",
        "through_v; dmu = direct - 2 * dv * MEAN(centred); dX = scaled_h + deviation * (dv / m) * 2 + 1 / m * dmu",
        "through_v; dmu = direct; dX = scaled_h + 2 / m * deviation * dv + dmu / m",
        "through_v; dmu = direct - SUM(dv * 2 * X / m); dX = scaled_h + dv * 2 * X / m + dmu / m",
        "through_v; dmu = direct - 2 * dv * MEAN(X); dX = scaled_h + 2 / m * X * dv + 1 / m * dmu",
    ),
    "direct": ("-r * SUM(h)", "SUM(-h * r)", "SUM(h * -1 / s)", "-SUM(h * r)"),
    "through_v": (
        *("dv = SUM(h * centred * -0.5 * (v + eps) ** -1.5)", "sum_hc = SUM(h * centred); dv = -1 / 2 * r ** 3 * sum_hc"),
        *("dv = -SUM(h * centred) / (2 * (v + eps) * s)", "dv = -0.5 * SUM(h * xhat) / (v + eps)"),
        *("dv = -SUM(h * centred * r ** 3) / 2", "dv = SUM(-0.5 * h * xhat) * r ** 2"),
    ),
    # v = mean(x^2) - mu^2, both squares differentiated
    "squares": ("through_v; dmu = direct - 2 * mu * dv; dX = scaled_h + 2 * X * dv / m + dmu / m",),
    # The adjoint of every step
    "chain": ("through_s; dq = share; through_c; through_mu",),
    "through_s": ("through_v", "sum_hc = SUM(h * centred); ds = of_inverse; dv = of_root"),
    "of_inverse": ("-sum_hc / s ** 2", "-sum_hc * r * r", "-1 / (v + eps) * sum_hc", "sum_hc * -(r ** 2)"),
    "of_root": ("0.5 * ds / s", "ds / (2 * s)", "ds * r / 2", "0.5 * ds * (v + eps) ** -0.5"),
    "share": ("dv / m", "1 / m * dv", "dv / m * np.ones_like(X)", "np.ones(X.shape) * dv / m"),
    "through_c": ("dc = scaled_h + of_square", "dc = scaled_h; dc += of_square", "dc = scaled_h; dc = dc + of_square"),
    "of_square": ("2 * centred * dq", "centred * dq + centred * dq"),
    "through_mu": (
        *("dX = dc - MEAN(dc)", "dc -= MEAN(dc); dX = dc", "dmu = -SUM(dc); dX = dc + dmu / m"),
        *("dmu = SUM(-dc); dX = dc + np.ones_like(X) * dmu / m", "dmu = -1 * SUM(dc); dX = dc + dmu / m"),
    ),
    # The matrix r (I - 1 1' / m - xhat xhat' / m), of one slice or of each row
    "route_of_vector": ("J = r * (centring - outer / m); dX = product", "J = (centring - outer / m) / s; dX = product", "elements"),
    "route_of_rows": ("J = r[:, :, None] * (centring - outers / m); dX = products",),
    "centring": ("np.eye(m) - np.ones((m, m)) / m", "np.identity(m) - 1 / m", "np.eye(m) - np.full((m, m), 1 / m)"),
    "outer": ("np.outer(xhat, xhat)", "xhat[:, None] * xhat[None, :]", "np.einsum('i,j->ij', xhat, xhat)"),
    "outers": ("xhat[:, :, None] * xhat[:, None, :]", "np.einsum('ri,rj->rij', xhat, xhat)"),
    "product": ("J @ h", "h @ J", "J.T @ h", "np.dot(J, h)", "np.einsum('ij,j->i', J, h)"),
    "products": ("np.einsum('rij,rj->ri', J, h)", "(J @ h[:, :, None])[:, :, 0]", "np.matmul(h[:, None, :], J)[:, 0]"),
    "elements": (
        "both_means; dX = np.array([element for i in range(m)])",
        "both_means; t = made\nfor i in range(m):\n  t[i] = element\ndX = t",
    ),
    "both_means": (
        "mean_h = MEAN(h); mean_hx = MEAN(h * xhat)",
        "mean_h, mean_hx = 0.0, 0.0\nfor i in range(m):\n  mean_h += h[i] / m\n  mean_hx += h[i] * xhat[i] / m",
    ),
    "element": ("r * (h[i] - mean_h - xhat[i] * mean_hx)", "r * h[i] - r * (mean_h + xhat[i] * mean_hx)"),
    "made": ("np.empty(m)", "np.zeros(m)", "np.zeros_like(X)"),
}
_ARRAYS = ("X", "h", "centred", "xhat", "t", "dc")  # roles with the shape of the slices
_MAYBE_UNNAMED = ("mean_h", "mean_hx", "sum_h", "sum_hx", "sum_hc", "ds", "dmu")  # their expression may stand where they are used

_GAMMA = {
    "images": (
        *("gamma.reshape(1, -1, 1, 1)", "gamma[None, :, None, None]", "gamma[:, None, None]", "np.expand_dims(gamma, (0, 2, 3))"),
        *("gamma.reshape((1, gamma.size, 1, 1))", "np.broadcast_to(gamma[:, np.newaxis, np.newaxis], x.shape)"),
    ),
    "matrices": ("gamma", "gamma[None, :]", "gamma.reshape(1, -1)", "np.ones((len(x), 1)) * gamma", "np.outer(np.ones(len(x)), gamma)"),
}
# The sum over all but the channels: of one array, of a product
_PER_CHANNEL = {
    "images": (
        *("np.sum({0}, axis=(0, 2, 3))", "({0}).sum((0, 2, 3))", "({0}).sum(axis=3).sum(axis=2).sum(axis=0)", "np.einsum('nchw->c', {0})"),
        *("np.array([np.sum(({0})[:, k]) for k in range(C)])", "np.stack([({0})[:, k].sum() for k in range(C)])"),
        *("np.tensordot(np.ones((N, H, W)), {0}, axes=([0, 1, 2], [0, 2, 3]))", "np.add.reduce({0}, axis=(0, 2, 3))"),
        *(
            "({0}).swapaxes(0, 1).reshape(C, -1).sum(axis=1)",
            "({0}).reshape(N, C, -1).sum(axis=(0, 2))",
            "N * H * W * np.mean({0}, axis=(0, 2, 3))",
        ),
    ),
    "matrices": (
        *("np.sum({0}, axis=0)", "({0}).sum(0)", "np.einsum('nd->d', {0})", "np.ones(N) @ ({0})", "np.add.reduce({0})", "sum({0})"),
        *("np.array([np.sum(({0})[:, j]) for j in range(D)])", "np.tensordot(np.ones(N), {0}, axes=1)", "({0}).T @ np.ones(N)"),
        *("N * np.mean({0}, axis=0)",),
    ),
}
_PRODUCT_PER_CHANNEL = {
    "images": (
        *("np.einsum('nchw,nchw->c', {0}, {1})", "np.array([np.vdot({0}[:, k], {1}[:, k]) for k in range(C)])"),
        *("np.diag(np.tensordot({0}, {1}, axes=([0, 2, 3], [0, 2, 3])))",),
    ),
    "matrices": ("np.einsum('nd,nd->d', {0}, {1})", "np.diag({0}.T @ {1})"),
}


def right_variants(layer: str, count: int, seed: int) -> list[str]:
    """That many different sources of a right ``backward`` of ``instance_norm``, ``batch_norm``, ``layer_norm`` or ``group_norm``, with
    ``np`` in scope. The last takes ``groups`` too, the second and third matrices (N, D), the others images (N, C, H, W).
    """
    rng = random.Random(seed)
    found: dict[str, None] = {}  # a dict keeps the order
    while len(found) < count:
        found[_source(layer, rng)] = None
    return list(found)


def _source(layer: str, rng: random.Random) -> str:
    one_of = rng.choice
    frame = one_of(_FRAMES[layer])
    names = {role: one_of(pool) for role, pool in _NAMES.items()}
    kind = "images" if layer in ("instance_norm", "group_norm") else "matrices"
    h, z, pair = frame.h.format(gamma=one_of(_GAMMA[kind])), names["z"], f"{names['dX']}, {names['xhat']}"
    at = f"[{frame.at}]" if frame.at else ""
    results = [f"dx{at} = {frame.back.format(names['dX'])}", f"{z}{at} = {frame.back.format(names['xhat'])}"]
    helper: list[str] = []
    if one_of((True, False)):
        names["X"] = "x" if frame.x == "x" else names["X"]
        given = [f"{names['h']} = {h}"] + ([f"{names['X']} = {frame.x}"] if frame.x != "x" else [])
        body = _looped(frame, z, [*given, *_Speller(frame, names, rng).slices(), *results], rng)
    else:
        slices = _Speller(frame, names, rng).slices()
        helper = [f"def {names['one']}({names['X']}, {names['h']}, eps):", *_indented([*slices, f"return {pair}"])]
        call = f"{names['one']}({frame.x}, {h}, eps)"
        stacked = frame.loops and one_of((True, False))
        body = _stacked(frame, z, call) if stacked else _looped(frame, z, [f"{pair} = {call}", *results], rng)
    outer, inner = one_of(((helper, []), ([], helper)))
    product = one_of(
        [each.format(f"dy * {z}") for each in _PER_CHANNEL[kind]] + [each.format("dy", z) for each in _PRODUCT_PER_CHANNEL[kind]]
    )
    gradients = [f"dgamma = {product}", f"dbeta = {one_of(_PER_CHANNEL[kind]).format('dy')}"]
    rng.shuffle(gradients)
    lines = [
        _OPENINGS[layer],
        one_of(("", "", "", "x = np.asarray(x, dtype=np.float64)", "x, dy = x.copy(), np.array(dy)")),
        *inner,
        *body,
        one_of(("", "", "", "dx = dx + 0 * x", "dx = 1.0 * dx", "dx += 0.0")),
        *gradients,
        "return dx, dgamma, dbeta",
    ]
    head = f"def backward(x, gamma, beta, eps, dy{', groups' if layer == 'group_norm' else ''}):"
    text = "\n".join([*outer, head, *_indented(lines)])
    return ast.unparse(ast.parse(text)) + "\n"  # without the parentheses that the templates put to be safe


def _looped(frame: _Frame, z: str, part: list[str], rng: random.Random) -> list[str]:
    """``part`` in the frame's loops, which write into arrays made before."""
    for loop in reversed(frame.loops):
        part = [loop, *_indented(part)]
    made = ("np.zeros_like(x)", "np.empty_like(x)", "np.zeros(x.shape)", "np.empty(x.shape)")
    return [f"{name} = {rng.choice(made)}" for name in ("dx", z) if frame.loops] + part


def _stacked(frame: _Frame, z: str, call: str) -> list[str]:
    """The loops as list comprehensions over ``call``, which gives a pair."""
    lines = []
    for k, name in enumerate(("dx", z)):
        made = f"{call}[{k}]"
        for loop in reversed(frame.loops):
            made = f"np.stack([{made} {loop.rstrip(':')}], axis={frame.stacked})"
        lines.append(f"{name} = {made}.reshape(x.shape)")
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


class _Speller(ast.NodeTransformer):
    """Writes the words of the grammar out, the operands of sums and products in any order, and puts names for the roles."""

    def __init__(self, frame: _Frame, names: dict[str, str], rng: random.Random) -> None:
        self.frame, self.names, self.rng = frame, names, rng
        self.arrays = [names[role] for role in _ARRAYS]
        self.unnamed: dict[str, str] = {}
        self.letters = "abcde"[: frame.ndim]
        self.whole = len(frame.axes) == frame.ndim  # one slice at a time: sums are numbers
        self.axis = frame.axes[0] if len(frame.axes) == 1 else frame.axes

    def slices(self) -> list[str]:
        """Lines that compute dX and xhat of the slices X and their cotangent h."""
        return ast.unparse(self.visit(ast.parse("slices"))).split("\n")

    def alternatives(self, word: str) -> tuple[str, ...]:
        """What the word may be written as, which for the route and the count depends on the frame."""
        if word == "COUNT":
            sizes = " * ".join(f"X.shape[{axis}]" for axis in self.frame.axes)
            return (sizes, "X.size") if self.whole else (sizes,)
        more = {(1, (0,)): "route_of_vector", (2, (1,)): "route_of_rows"}.get((self.frame.ndim, self.frame.axes))
        return _GRAMMAR[word] + (_GRAMMAR[more] if word == "route" and more else ())

    def visit_Expr(self, node: ast.Expr) -> list[ast.stmt]:
        """A word as a statement."""
        return self.visit(ast.parse(self.rng.choice(self.alternatives(node.value.id)))).body

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        """An assignment, which may vanish: its right-hand side then stands where the name was."""
        role = ast.unparse(node.targets)
        if role in _MAYBE_UNNAMED and self.rng.random() < 0.35:
            self.unnamed[role] = ast.unparse(node.value)
            return None
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A word as an expression, or a role."""
        if node.id in self.unnamed:
            return self.written(self.unnamed[node.id])
        if node.id in _GRAMMAR or node.id == "COUNT":
            return self.written(self.rng.choice(self.alternatives(node.id)))
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def written(self, e: str) -> ast.expr:
        """An expression in words and roles, written out."""
        return self.visit(ast.parse(e, mode="eval").body)

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        """Sums and products commute."""
        self.generic_visit(node)
        swap = isinstance(node.op, (ast.Add, ast.Mult)) and self.rng.random() < 0.3
        return ast.BinOp(node.right, node.op, node.left) if swap else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """SUM, MEAN and VAR, or a function that NumPy has."""
        self.generic_visit(node)
        spelled = {"SUM": self.total, "MEAN": self.mean, "VAR": self.variance}.get(ast.unparse(node.func))
        if spelled is None:
            return node
        (argument,) = node.args
        factors = []
        if isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.Mult):
            factors = [side.id for side in (argument.left, argument.right) if isinstance(side, ast.Name) and side.id in self.arrays]
        return ast.parse(spelled(ast.unparse(argument), factors), mode="eval").body

    def total(self, e: str, factors: list[str]) -> str:
        """The sum of e over each slice; ``factors`` are two arrays whose product e is, or fewer."""
        ndim, axes, axis, m = self.frame.ndim, self.frame.axes, self.axis, self.names["m"]
        kept = "".join(letter for k, letter in enumerate(self.letters) if k not in axes)
        einsum = f"np.einsum('{self.letters}->{kept}', {e})"
        if len(factors) == 2:
            einsum = f"np.einsum('{self.letters},{self.letters}->{kept}', {', '.join(factors)})"
        if self.whole:
            options = [f"np.sum({e})", f"({e}).sum()", f"np.add.reduce({e}, axis=None)", einsum]
            options += [f"sum({e})", f"np.ones({m}) @ ({e})"] if ndim == 1 else []
            options += [" @ ".join(factors), f"np.dot({', '.join(factors)})"] if ndim == 1 and len(factors) == 2 else []
            return self.rng.choice(options)
        options = [f"np.sum({e}, axis={axis}, keepdims=True)", f"({e}).sum(axis={axis}, keepdims=True)"] * 2
        options += [f"np.add.reduce({e}, axis={axis}, keepdims=True)", f"np.apply_over_axes(np.sum, {e}, {list(axes)})"]
        options += [self.spread(short) for short in (f"np.sum({e}, axis={axis})", f"({e}).sum({axis})", einsum)]
        options += [f"({e})" + "".join(f".sum(axis={k}, keepdims=True)" for k in reversed(axes))]
        if ndim == 2:
            options += [f"({e}) @ np.ones(({m}, 1))" if axes == (1,) else f"np.ones((1, {m})) @ ({e})"]
        return self.rng.choice(options)

    def spread(self, e: str) -> str:
        """e, which has lost the axes of the slices, with axes of length 1 in their place."""
        ndim, axes = self.frame.ndim, self.frame.axes
        new = self.rng.choice(("None", "np.newaxis"))
        options = [f"{e}[{', '.join(new if k in axes else ':' for k in range(ndim))}]", f"np.expand_dims({e}, {axes})"]
        options += [e] if axes == (0,) else []  # broadcasting puts a first axis by itself
        options += [f"{e}.reshape(-1, 1)"] if (ndim, axes) == (2, (1,)) else []
        return self.rng.choice(options)

    def mean(self, e: str, factors: list[str]) -> str:
        """The mean of e over each slice."""
        m, where = self.names["m"], self.where()
        options = [f"np.mean({e}{where})", f"np.average({e}{where})", f"np.mean({e}{where})"]
        options += [f"({self.total(e, factors)}) / {m}", f"1 / {m} * ({self.total(e, factors)})", self.total(f"({e}) / {m}", [])]
        return self.rng.choice(options)

    def variance(self, e: str, _factors: list[str]) -> str:
        """The biased variance of e over each slice."""
        where = self.where()
        return self.rng.choice((f"np.var({e}{where})", f"np.std({e}{where}) ** 2", f"np.var({e}{where}, ddof=0)"))

    def where(self) -> str:
        """The arguments that say over what to reduce."""
        return "" if self.whole else f", axis={self.axis}, keepdims=True"
