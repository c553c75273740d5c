"""Right backward functions as learners write them, by layer and then by style; ``np`` is in scope.

Each takes x, gamma, beta, eps and dy, computes its forward again, and returns dx, dgamma and dbeta. Images are (N, C, H, W), matrices
(N, D), gamma and beta (C,) or (D,). The styles: every small step and its adjoint (*steps*), the gradients of variance and mean as courses
teach them (*course*), a walk back through the graph with a name for each edge (*graph*), and the closed form (*compact*).
"""

from __future__ import annotations

HAND_INS: dict[str, dict[str, str]] = {
    "instance_norm": {
        "steps": """\
def backward(x, gamma, beta, eps, dy):
    N, C, H, W = x.shape
    m = H * W

    # forward, one step at a time
    mu = np.sum(x, axis=(2, 3), keepdims=True) / m
    c = x - mu
    q = c * c
    v = np.sum(q, axis=(2, 3), keepdims=True) / m
    s = np.sqrt(v + eps)
    r = 1 / s
    xhat = c * r

    # y = gamma * xhat + beta
    dbeta = np.sum(dy, axis=(0, 2, 3))
    dgamma = np.sum(dy * xhat, axis=(0, 2, 3))
    dxhat = dy * gamma.reshape(1, C, 1, 1)

    # xhat = c * r
    dc = dxhat * r
    dr = np.sum(dxhat * c, axis=(2, 3), keepdims=True)
    # r = 1 / s, s = sqrt(v + eps)
    ds = -dr / (s * s)
    dv = ds / (2 * s)
    # v = mean of q, q = c * c
    dq = np.ones_like(x) * dv / m
    dc = dc + 2 * c * dq
    # c = x - mu
    dmu = -np.sum(dc, axis=(2, 3), keepdims=True)
    dx = dc + dmu / m
    return dx, dgamma, dbeta
""",
        "course": """\
def backward(x, gamma, beta, eps, dy):
    N, C, H, W = x.shape
    m = H * W
    mean = x.mean(axis=(2, 3), keepdims=True)
    var = x.var(axis=(2, 3), keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + eps)

    dx_hat = dy * gamma[None, :, None, None]
    dvar = np.sum(dx_hat * (x - mean) * -0.5 * (var + eps) ** -1.5, axis=(2, 3), keepdims=True)
    dmean = np.sum(dx_hat * -1 / np.sqrt(var + eps), axis=(2, 3), keepdims=True)
    dmean += dvar * np.sum(-2 * (x - mean), axis=(2, 3), keepdims=True) / m
    dx = dx_hat / np.sqrt(var + eps) + dvar * 2 * (x - mean) / m + dmean / m
    dgamma = np.sum(dy * x_hat, axis=(0, 2, 3))
    dbeta = np.sum(dy, axis=(0, 2, 3))
    return dx, dgamma, dbeta
""",
        "graph": """\
def backward(x, gamma, beta, eps, dy):
    N, C, H, W = x.shape
    M = H * W
    axes = (2, 3)
    mu = x.sum(axis=axes, keepdims=True) / M
    xmu = x - mu
    sq = xmu**2
    var = sq.sum(axis=axes, keepdims=True) / M
    sqrtvar = np.sqrt(var + eps)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar

    dbeta = dy.sum(axis=(0, 2, 3))
    dgammax = dy
    dgamma = (dgammax * xhat).sum(axis=(0, 2, 3))
    dxhat = dgammax * gamma[:, None, None]
    divar = (dxhat * xmu).sum(axis=axes, keepdims=True)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / (sqrtvar**2) * divar
    dvar = 0.5 * 1.0 / np.sqrt(var + eps) * dsqrtvar
    dsq = 1.0 / M * np.ones((N, C, H, W)) * dvar
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -1 * (dxmu1 + dxmu2).sum(axis=axes, keepdims=True)
    dx2 = 1.0 / M * np.ones((N, C, H, W)) * dmu
    dx = dx1 + dx2
    return dx, dgamma, dbeta
""",
        "compact": """\
def backward(x, gamma, beta, eps, dy):
    m = x.shape[2] * x.shape[3]
    mu = np.mean(x, axis=(2, 3), keepdims=True)
    inv_std = 1 / np.sqrt(np.var(x, axis=(2, 3), keepdims=True) + eps)
    x_hat = (x - mu) * inv_std
    g = dy * gamma.reshape(1, -1, 1, 1)
    sum_g = np.sum(g, axis=(2, 3), keepdims=True)
    sum_gx = np.sum(g * x_hat, axis=(2, 3), keepdims=True)
    dx = (1 / m) * inv_std * (m * g - sum_g - x_hat * sum_gx)
    dgamma = np.sum(dy * x_hat, axis=(0, 2, 3))
    dbeta = np.sum(dy, axis=(0, 2, 3))
    return dx, dgamma, dbeta
""",
        "rows": """\
def backward(x, gamma, beta, eps, dy):
    N, C, H, W = x.shape
    m = H * W
    rows = x.reshape(N * C, m)
    centred = rows - rows.mean(axis=1)[:, None]
    std = np.sqrt((centred**2).mean(axis=1) + eps)[:, None]
    normed = centred / std
    grad = (dy * gamma.reshape(C, 1, 1)).reshape(N * C, m)
    dstd = (-grad * centred).sum(axis=1)[:, None] / std**2
    dcentred = grad / std + dstd * centred / (m * std)
    drows = dcentred - dcentred.mean(axis=1)[:, None]
    dx = drows.reshape(N, C, H, W)
    x_hat = normed.reshape(N, C, H, W)
    dgamma = (dy * x_hat).sum(axis=3).sum(axis=2).sum(axis=0)
    dbeta = dy.sum(axis=3).sum(axis=2).sum(axis=0)
    return dx, dgamma, dbeta
""",
        "loops": """\
def backward(x, gamma, beta, eps, dy):
    N, C, H, W = x.shape
    m = H * W
    dx = np.zeros_like(x)
    dgamma = np.zeros(C)
    dbeta = np.zeros(C)
    for n in range(N):
        for c in range(C):
            xs = x[n, c]
            g = dy[n, c]
            mean = xs.sum() / m
            var = ((xs - mean) ** 2).sum() / m
            rstd = 1 / np.sqrt(var + eps)
            xh = (xs - mean) * rstd
            dgamma[c] += (g * xh).sum()
            dbeta[c] += g.sum()
            gh = gamma[c] * g
            dvar = (gh * (xs - mean)).sum() * -0.5 * rstd**3
            dmean = -rstd * gh.sum()
            dx[n, c] = gh * rstd + dvar * 2 * (xs - mean) / m + dmean / m
    return dx, dgamma, dbeta
""",
    },
    "batch_norm": {
        "steps": """\
def backward(x, gamma, beta, eps, dy):
    N, D = x.shape
    mu = np.sum(x, axis=0) / N
    c = x - mu
    q = c * c
    v = np.mean(q, axis=0)
    s = np.sqrt(v + eps)
    r = 1 / s
    xhat = c * r

    dbeta = np.sum(dy, axis=0)
    dgamma = np.sum(dy * xhat, axis=0)
    dxhat = dy * gamma
    dc = dxhat * r
    dr = np.sum(dxhat * c, axis=0)
    ds = -dr / s**2
    dv = ds * 0.5 / s
    dq = np.ones((N, D)) * dv / N
    dc += 2 * c * dq
    dmu = -np.sum(dc, axis=0)
    dx = dc + np.ones((N, D)) * dmu / N
    return dx, dgamma, dbeta
""",
        "course": """\
def backward(x, gamma, beta, eps, dy):
    m = x.shape[0]
    mu_B = np.mean(x, axis=0)
    var_B = np.mean((x - mu_B) ** 2, axis=0)
    x_hat = (x - mu_B) / np.sqrt(var_B + eps)
    dx_hat = gamma * dy
    dvar = np.sum(dx_hat * (x - mu_B) * (-1 / 2) * (var_B + eps) ** (-3 / 2), axis=0)
    dmu = np.sum(dx_hat * (-1 / np.sqrt(var_B + eps)), axis=0) + dvar * np.sum(-2 * (x - mu_B), axis=0) / m
    dx = dx_hat * (1 / np.sqrt(var_B + eps)) + dvar * (2 * (x - mu_B) / m) + dmu * (1 / m)
    dgamma = np.sum(dy * x_hat, axis=0)
    dbeta = np.sum(dy, axis=0)
    return dx, dgamma, dbeta
""",
        "graph": """\
def backward(x, gamma, beta, eps, dy):
    n, d = x.shape
    mean = 1 / n * x.sum(axis=0)
    xmu = x - mean
    sq = xmu**2
    var = 1 / n * sq.sum(axis=0)
    sqrtvar = np.sqrt(var + eps)
    ivar = 1 / sqrtvar
    xhat = xmu * ivar

    dbeta = dy.sum(axis=0)
    dgamma = (dy * xhat).sum(axis=0)
    dxhat = dy * gamma
    dxmu1 = dxhat * ivar
    divar = (dxhat * xmu).sum(axis=0)
    dsqrtvar = divar * (-1 / sqrtvar**2)
    dvar = dsqrtvar * (1 / (2 * sqrtvar))
    dsq = dvar * (1 / n) * np.ones((n, d))
    dxmu2 = dsq * 2 * xmu
    dxmu = dxmu1 + dxmu2
    dx1 = dxmu
    dmean = -dxmu.sum(axis=0)
    dx2 = dmean * (1 / n) * np.ones((n, d))
    dx = dx1 + dx2
    return dx, dgamma, dbeta
""",
        "compact": """\
def backward(x, gamma, beta, eps, dy):
    N = len(x)
    std = np.sqrt(x.var(axis=0) + eps)
    z = (x - x.mean(axis=0)) / std
    dbeta = dy.sum(axis=0)
    dgamma = (z * dy).sum(axis=0)
    dx = gamma / (N * std) * (N * dy - dbeta - z * dgamma)
    return dx, dgamma, dbeta
""",
    },
    "layer_norm": {
        "steps": """\
def backward(x, gamma, beta, eps, dy):
    D = x.shape[1]
    mu = np.sum(x, axis=1, keepdims=True) / D
    c = x - mu
    q = np.square(c)
    v = np.sum(q, axis=1, keepdims=True) / D
    t = v + eps
    s = np.sqrt(t)
    r = 1 / s
    xhat = c * r

    dbeta = dy.sum(axis=0)
    dgamma = (dy * xhat).sum(axis=0)
    dxhat = dy * gamma
    dr = np.sum(dxhat * c, axis=1, keepdims=True)
    ds = -dr * r**2
    dt = ds * 0.5 * r
    dv = dt
    dq = dv / D
    dc1 = dxhat * r
    dc2 = dq * 2 * c
    dc = dc1 + dc2
    dmu = -np.sum(dc, axis=1, keepdims=True)
    dx = dc + dmu / D
    return dx, dgamma, dbeta
""",
        "course": """\
def backward(x, gamma, beta, eps, dy):
    n, d = x.shape
    mean = x.mean(1).reshape(n, 1)
    var = ((x - mean) ** 2).mean(1).reshape(n, 1)
    std_inv = 1.0 / np.sqrt(var + eps)
    x_norm = (x - mean) * std_inv
    dx_norm = dy * gamma
    dvar = (dx_norm * (x - mean) * -0.5 * std_inv**3).sum(1).reshape(n, 1)
    dmean = (dx_norm * -std_inv).sum(1).reshape(n, 1) + dvar * (-2.0 * (x - mean)).mean(1).reshape(n, 1)
    dx = dx_norm * std_inv + dvar * 2.0 * (x - mean) / d + dmean / d
    dgamma = (dy * x_norm).sum(0)
    dbeta = dy.sum(0)
    return dx, dgamma, dbeta
""",
        "graph": """\
def backward(x, gamma, beta, eps, dy):
    xt = x.T
    D, N = xt.shape
    mu = xt.mean(axis=0)
    xmu = xt - mu
    sq = xmu * xmu
    var = sq.mean(axis=0)
    sqrtvar = np.sqrt(var + eps)
    ivar = 1 / sqrtvar
    xhat = xmu * ivar

    dbeta = dy.sum(axis=0)
    dgamma = (dy.T * xhat).sum(axis=1)
    dxhat = dy.T * gamma[:, np.newaxis]
    dxmu1 = dxhat * ivar
    divar = np.sum(dxhat * xmu, axis=0)
    dsqrtvar = -divar / sqrtvar**2
    dvar = 0.5 * dsqrtvar / sqrtvar
    dsq = np.ones_like(xt) * dvar / D
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -np.sum(dx1, axis=0)
    dx2 = np.ones_like(xt) * dmu / D
    dx = (dx1 + dx2).T
    return dx, dgamma, dbeta
""",
        "compact": """\
def backward(x, gamma, beta, eps, dy):
    D = x.shape[-1]
    c = x - x.mean(axis=-1, keepdims=True)
    rstd = (np.mean(c * c, axis=-1, keepdims=True) + eps) ** -0.5
    xhat = c * rstd
    g = dy * gamma
    a = g.sum(axis=-1, keepdims=True)
    b = (g * xhat).sum(axis=-1, keepdims=True)
    dx = rstd * (g - (a + xhat * b) / D)
    return dx, np.sum(dy * xhat, axis=0), np.sum(dy, axis=0)
""",
    },
    "group_norm": {
        "steps": """\
def backward(x, gamma, beta, eps, dy, groups):
    N, C, H, W = x.shape
    m = C // groups * H * W
    xg = x.reshape(N, groups, m)
    mu = np.sum(xg, axis=2, keepdims=True) / m
    c = xg - mu
    q = c * c
    v = np.sum(q, axis=2, keepdims=True) / m
    s = np.sqrt(v + eps)
    r = 1 / s
    xhat = c * r

    dbeta = np.sum(dy, axis=(0, 2, 3))
    dgamma = np.sum(dy * xhat.reshape(N, C, H, W), axis=(0, 2, 3))
    dxhat = (dy * gamma.reshape(1, C, 1, 1)).reshape(N, groups, m)
    dr = np.sum(dxhat * c, axis=2, keepdims=True)
    dc = dxhat * r
    ds = -dr / (s * s)
    dv = ds / (2 * s)
    dq = dv / m
    dc = dc + dq * 2 * c
    dmu = -np.sum(dc, axis=2, keepdims=True)
    dxg = dc + dmu / m
    dx = dxg.reshape(N, C, H, W)
    return dx, dgamma, dbeta
""",
        "course": """\
def backward(x, gamma, beta, eps, dy, groups):
    N, C, H, W = x.shape
    size = (N, groups, C // groups, H, W)
    xg = x.reshape(size)
    dyg = dy.reshape(size)
    w = gamma.reshape(1, groups, C // groups, 1, 1)
    ax = (2, 3, 4)
    m = C // groups * H * W
    mean = xg.mean(axis=ax, keepdims=True)
    var = xg.var(axis=ax, keepdims=True)
    xhat = (xg - mean) / np.sqrt(var + eps)
    dxhat = dyg * w
    dvar = np.sum(dxhat * (xg - mean), axis=ax, keepdims=True) * -0.5 * (var + eps) ** (-1.5)
    dmean = np.sum(-dxhat / np.sqrt(var + eps), axis=ax, keepdims=True) + dvar * np.mean(-2 * (xg - mean), axis=ax, keepdims=True)
    dxg = dxhat / np.sqrt(var + eps) + 2 * dvar * (xg - mean) / m + dmean / m
    dgamma = np.sum(dyg * xhat, axis=(0, 3, 4)).reshape(C)
    dbeta = np.sum(dyg, axis=(0, 3, 4)).reshape(C)
    return dxg.reshape(x.shape), dgamma, dbeta
""",
        "graph": """\
def backward(x, gamma, beta, eps, dy, groups):
    N, C, H, W = x.shape
    flat = x.reshape(N * groups, -1)
    R, M = flat.shape
    mu = flat.mean(axis=1).reshape(R, 1)
    xmu = flat - mu
    sq = xmu**2
    var = sq.mean(axis=1).reshape(R, 1)
    sqrtvar = np.sqrt(var + eps)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar

    dbeta = np.einsum("nchw->c", dy)
    dgamma = np.einsum("nchw,nchw->c", dy, xhat.reshape(x.shape))
    dxhat = (dy * gamma[:, None, None]).reshape(R, M)
    divar = (dxhat * xmu).sum(axis=1).reshape(R, 1)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / sqrtvar**2 * divar
    dvar = 0.5 * ivar * dsqrtvar
    dsq = np.ones((R, M)) / M * dvar
    dxmu2 = 2.0 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -dx1.sum(axis=1).reshape(R, 1)
    dx2 = np.ones((R, M)) / M * dmu
    dx = (dx1 + dx2).reshape(x.shape)
    return dx, dgamma, dbeta
""",
        "compact": """\
def backward(x, gamma, beta, eps, dy, groups):
    n, c, h, w = x.shape
    shape = (n, groups, -1)
    X = x.reshape(shape)
    m = X.shape[2]
    rstd = 1 / np.sqrt(X.var(2, keepdims=True) + eps)
    Z = (X - X.mean(2, keepdims=True)) * rstd
    G = (gamma[None, :, None, None] * dy).reshape(shape)
    dX = rstd / m * (m * G - G.sum(2, keepdims=True) - Z * (G * Z).sum(2, keepdims=True))
    dgamma = (dy * Z.reshape(x.shape)).sum((0, 2, 3))
    dbeta = dy.sum((0, 2, 3))
    return dX.reshape(x.shape), dgamma, dbeta
""",
    },
}
