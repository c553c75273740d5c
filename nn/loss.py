"""Losses as layers: `minitensor.nn.functional` with its options kept. As ``torch.nn``.

``reduction`` is ``"none"``, ``"mean"`` or ``"sum"``. Weights, Tensors or arrays, are buffers: saved and moved with the module.
"""

from __future__ import annotations

from typing import Any, ClassVar

from minitensor import Tensor

from . import functional
from .functional.loss import REDUCTIONS, check_ignore_index, check_reduction
from .module import Module


class _Loss(Module):
    """What losses share: the reduction, checked, and weights as buffers."""

    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(type(self).__name__, reduction, self.reductions)
        self.reduction = reduction

    def _keep(self, name: str, weight: Any) -> None:
        self.register_buffer(name, weight if weight is None or isinstance(weight, Tensor) else Tensor(weight))


class MSELoss(_Loss):
    """(x - t)**2: `functional.mse_loss`.

    >>> MSELoss()(Tensor([1.0, 2.0]), [0.0, 4.0])
    tensor(2.5)
    """

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """``|x - t|``: `functional.l1_loss`.

    >>> L1Loss()(Tensor([1.0, 2.0]), [0.0, 4.0])
    tensor(1.5)
    """

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.l1_loss(input, target, self.reduction)


class HuberLoss(_Loss):
    """d**2 / 2 for ``|d|`` < ``delta``, else delta (``|d|`` - delta / 2), with d = x - t: `functional.huber_loss`.

    >>> HuberLoss(reduction="none", delta=2.0)(Tensor([1.0, 3.0]), [0.0, 0.0])
    tensor([0.5, 4. ])
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.huber_loss(input, target, self.reduction, self.delta)


class SmoothL1Loss(_Loss):
    """d**2 / (2 ``beta``) for ``|d|`` < beta, else ``|d|`` - beta / 2, with d = x - t: `functional.smooth_l1_loss`.

    >>> SmoothL1Loss(reduction="none", beta=2.0)(Tensor([1.0, 3.0]), [0.0, 0.0])
    tensor([0.25, 2.  ])
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.smooth_l1_loss(input, target, self.reduction, self.beta)


class BCELoss(_Loss):
    """-(t log(x) + (1 - t) log(1 - x)), for probabilities x: `functional.binary_cross_entropy`.

    >>> BCELoss()(Tensor([0.5]), [1])
    tensor(0.6931)
    """

    weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep("weight", weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """-(p t log(s) + (1 - t) log(1 - s)), with s = sigmoid(x), p = ``pos_weight``: `functional.binary_cross_entropy_with_logits`.

    >>> BCEWithLogitsLoss(pos_weight=[2.0])(Tensor([0.0]), [1])
    tensor(1.3863)
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(_Loss):
    """t (log(t) - x), where x is the logarithm of a probability: `functional.kl_div`, which says what ``"batchmean"`` is.

    >>> KLDivLoss(reduction="batchmean")(Tensor([[-0.6931, -0.6931]]), [[1.0, 0.0]])
    tensor(0.6931)
    """

    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.kl_div(input, target, self.reduction, self.log_target)


class NLLLoss(_Loss):
    """-w_t x_t, where x_t is the logarithm of the probability of the class t: `functional.nll_loss`.

    >>> NLLLoss()(Tensor([[-0.1, -2.0], [-3.0, -0.5]]), [0, 1])
    tensor(0.3)
    """

    weight: Tensor | None

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        check_ignore_index(type(self).__name__, ignore_index)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class CrossEntropyLoss(_Loss):
    """-sum_c q_c w_c log softmax(x)_c, for logits x and a class or probabilities q: `functional.cross_entropy`.

    >>> CrossEntropyLoss(label_smoothing=0.1)(Tensor([[0.0, 0.0]]), [1])
    tensor(0.6931)
    """

    weight: Tensor | None

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        check_ignore_index(type(self).__name__, ignore_index)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return functional.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)
