"""Activations as layers: `minitensor.nn.functional` with its options kept. As ``torch.nn``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import minitensor as mt
from minitensor import Tensor

from . import functional, init
from .arguments import named_axis, placement, positive_int
from .module import Module
from .parameter import Parameter


class _Activation(Module):
    """A layer that is a function of its input."""

    function: ClassVar[Callable[..., Tensor]]

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input)


class _ActivationWith(_Activation):
    """A layer that is a function of its input and of options: attributes with the names that the function has for them."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._names = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, **self._options())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())


# -- linear in pieces -----------------------------------------------------------------------------------------------------------------


class ReLU(_Activation):
    """max(x, 0): `functional.relu`.

    >>> ReLU()(Tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    function = staticmethod(functional.relu)


class ReLU6(_Activation):
    """min(max(x, 0), 6): `functional.relu6`.

    >>> ReLU6()(Tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    function = staticmethod(functional.relu6)


class LeakyReLU(_ActivationWith):
    """x for x > 0, else ``negative_slope`` x: `functional.leaky_relu`.

    >>> LeakyReLU(0.1)(Tensor([-1.0, 2.0]))
    tensor([-0.1,  2. ])
    """

    function = staticmethod(functional.leaky_relu)

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope=negative_slope)


class PReLU(Module):
    """x for x > 0, else ``weight`` x: `functional.prelu`, with a learned slope for all or, given their number, for each channel (axis 1).

    The parameter ``weight`` has shape (``num_parameters``,) and starts at ``init``. Constructing raises `TypeError` or `ValueError` for a
    number that is no positive int; calling raises `ShapeError` for another number of channels. He et al., arXiv 1502.01852.

    >>> PReLU()(Tensor([-1.0, 2.0])).tolist()
    [-0.25, 2.0]
    """

    weight: Parameter

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = positive_int(self, "num_parameters", num_parameters)
        self.init = init
        self.weight = Parameter(mt.zeros(self.num_parameters, **placement(self, device, dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The slope ``init`` again."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Threshold(_ActivationWith):
    """x for x > ``threshold``, else ``value``: `functional.threshold`.

    >>> Threshold(0.5, 9.0)(Tensor([-1.0, 0.5, 2.0]))
    tensor([9., 9., 2.])
    """

    function = staticmethod(functional.threshold)

    def __init__(self, threshold: float, value: float) -> None:
        super().__init__(threshold=threshold, value=value)


class Hardtanh(_ActivationWith):
    """min(max(x, ``min_val``), ``max_val``): `functional.hardtanh`.

    >>> Hardtanh(0.0, 2.0)(Tensor([-1.0, 0.5, 3.0]))
    tensor([0. , 0.5, 2. ])
    """

    function = staticmethod(functional.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__(min_val=min_val, max_val=max_val)


class Hardsigmoid(_Activation):
    """min(max(x / 6 + 1 / 2, 0), 1): `functional.hardsigmoid`.

    >>> Hardsigmoid()(Tensor([-1.0, 2.0]))
    tensor([0.3333, 0.8333])
    """

    function = staticmethod(functional.hardsigmoid)


class Hardswish(_Activation):
    """x min(max(x / 6 + 1 / 2, 0), 1): `functional.hardswish`.

    >>> Hardswish()(Tensor([-1.0, 2.0]))
    tensor([-0.3333,  1.6667])
    """

    function = staticmethod(functional.hardswish)


class Hardshrink(_ActivationWith):
    """x where ``|x|`` > ``lambd``, else 0: `functional.hardshrink`.

    >>> Hardshrink(1.0)(Tensor([-2.0, 0.5]))
    tensor([-2.,  0.])
    """

    function = staticmethod(functional.hardshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Softshrink(_ActivationWith):
    """x - lambd for x > ``lambd``, x + lambd for x < -lambd, else 0: `functional.softshrink`.

    >>> Softshrink(1.0)(Tensor([-2.0, 0.5]))
    tensor([-1.,  0.])
    """

    function = staticmethod(functional.softshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


# -- smooth, or with one exponential branch -------------------------------------------------------------------------------------------


class ELU(_ActivationWith):
    """x for x > 0, else ``alpha`` (exp(x) - 1): `functional.elu`.

    >>> ELU(2.0)(Tensor([-1.0, 2.0]))
    tensor([-1.2642,  2.    ])
    """

    function = staticmethod(functional.elu)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)


class SELU(_Activation):
    """s x for x > 0, else s a (exp(x) - 1), with a = 1.6733 and s = 1.0507: `functional.selu`.

    >>> SELU()(Tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """

    function = staticmethod(functional.selu)


class CELU(_ActivationWith):
    """x for x > 0, else ``alpha`` (exp(x / alpha) - 1): `functional.celu`.

    >>> CELU(2.0)(Tensor([-1.0, 2.0]))
    tensor([-0.7869,  2.    ])
    """

    function = staticmethod(functional.celu)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)


class GELU(_ActivationWith):
    """x Phi(x), Phi the distribution function of N(0, 1), or its approximation by ``"tanh"``: `functional.gelu`.

    >>> GELU(approximate="tanh")(Tensor([-1.0, 2.0]))
    tensor([-0.1588,  1.9546])
    """

    function = staticmethod(functional.gelu)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)


class SiLU(_Activation):
    """x sigmoid(x): `functional.silu`.

    >>> SiLU()(Tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """

    function = staticmethod(functional.silu)


class Mish(_Activation):
    """x tanh(log(1 + exp(x))): `functional.mish`.

    >>> Mish()(Tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.944 ])
    """

    function = staticmethod(functional.mish)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x)): `functional.sigmoid`.

    >>> Sigmoid()(Tensor([-1.0, 2.0]))
    tensor([0.2689, 0.8808])
    """

    function = staticmethod(functional.sigmoid)


class LogSigmoid(_Activation):
    """log(1 / (1 + exp(-x))): `functional.logsigmoid`.

    >>> LogSigmoid()(Tensor([-1.0, 2.0]))
    tensor([-1.3133, -0.1269])
    """

    function = staticmethod(functional.logsigmoid)


class Softplus(_ActivationWith):
    """log(1 + exp(``beta`` x)) / beta, and x itself where beta x > ``threshold``: `functional.softplus`.

    >>> Softplus(2.0)(Tensor([0.0, 50.0]))
    tensor([ 0.3466, 50.    ])
    """

    function = staticmethod(functional.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Tanh(_Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)): `functional.tanh`.

    >>> Tanh()(Tensor([-1.0, 2.0]))
    tensor([-0.7616,  0.964 ])
    """

    function = staticmethod(functional.tanh)


class Tanhshrink(_Activation):
    """x - tanh(x): `functional.tanhshrink`.

    >>> Tanhshrink()(Tensor([-1.0, 2.0]))
    tensor([-0.2384,  1.036 ])
    """

    function = staticmethod(functional.tanhshrink)


class Softsign(_Activation):
    """x / (1 + ``|x|``): `functional.softsign`.

    >>> Softsign()(Tensor([-1.0, 2.0]))
    tensor([-0.5   ,  0.6667])
    """

    function = staticmethod(functional.softsign)


# -- along an axis --------------------------------------------------------------------------------------------------------------------


class Softmax(_ActivationWith):
    """exp(x_i) / sum_j exp(x_j), j along ``axis``, which must be told: `functional.softmax`.

    >>> Softmax(axis=1)(Tensor([[0.0, 0.0]]))
    tensor([[0.5, 0.5]])
    """

    function = staticmethod(functional.softmax)

    @named_axis
    def __init__(self, axis: int) -> None:
        super().__init__(axis=axis)


class LogSoftmax(_ActivationWith):
    """x_i - log(sum_j exp(x_j)), j along ``axis``, which must be told: `functional.log_softmax`.

    >>> LogSoftmax(axis=1)(Tensor([[0.0, 0.0]]))
    tensor([[-0.6931, -0.6931]])
    """

    function = staticmethod(functional.log_softmax)

    @named_axis
    def __init__(self, axis: int) -> None:
        super().__init__(axis=axis)


class Softmin(_ActivationWith):
    """exp(-x_i) / sum_j exp(-x_j), j along ``axis``, which must be told: `functional.softmin`.

    >>> Softmin(axis=1)(Tensor([[0.0, 1000.0]]))
    tensor([[1., 0.]])
    """

    function = staticmethod(functional.softmin)

    @named_axis
    def __init__(self, axis: int) -> None:
        super().__init__(axis=axis)


class GLU(_ActivationWith):
    """a sigmoid(b), where a and b are the halves of the input along ``axis``: `functional.glu`.

    >>> GLU()(Tensor([1.0, 2.0, 0.0, 100.0]))
    tensor([0.5, 2. ])
    """

    function = staticmethod(functional.glu)

    @named_axis
    def __init__(self, axis: int = -1) -> None:
        super().__init__(axis=axis)
