"""Losses as modules; each is the function of its name in `framework.nn.functional`."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, tensor
from framework.nn import functional as F
from framework.nn.functional.reduction import REDUCTIONS, check_reduction
from framework.nn.module import Module


class _Loss(Module):
    """A loss with a reduction: `"mean"`, `"sum"` or `"none"`."""

    _reductions: tuple[str, ...] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(type(self).__name__, reduction, self._reductions)
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with a buffer of weights."""

    weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else tensor(weight))


class CrossEntropyLoss(_WeightedLoss):
    """−log softmax(input) at the target's class; arguments as for `functional.cross_entropy`.

    Logits (N, C), (N, C, d1, …) or (C,); targets are class numbers, or probabilities of that shape.

    Examples:
        >>> import framework as fw
        >>> fw.nn.CrossEntropyLoss()(fw.tensor([[0.0, 0.0]]), fw.tensor([1])).item()
        0.6931471824645996
    """

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of logits and class numbers or probabilities."""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_WeightedLoss):
    """−input at the target's class, of log-probabilities; arguments as for `functional.nll_loss`."""

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of log-probabilities and class numbers."""
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(_WeightedLoss):
    """The binary cross-entropy of probabilities; `BCEWithLogitsLoss` is more exact."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of probabilities and targets in [0, 1], of one shape."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """The binary cross-entropy of logits.

    Args:
        weight: factors that broadcast to the input's shape.
        pos_weight: factors of the positive term that broadcast to the input's shape.
    """

    pos_weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", None if pos_weight is None else tensor(pos_weight))

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of logits and targets in [0, 1], of one shape."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class MSELoss(_Loss):
    """(input − target)²."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of input and target of one shape."""
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """|input − target|."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of input and target of one shape."""
        return F.l1_loss(input, target, reduction=self.reduction)


class HuberLoss(_Loss):
    """½d² where |d| ≤ `delta`, else `delta`·(|d| − ½`delta`) (Huber 1964)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of input and target of one shape."""
        return F.huber_loss(input, target, self.reduction, self.delta)


class SmoothL1Loss(_Loss):
    """½d²/`beta` where |d| < `beta`, else |d| − ½`beta` (Girshick 2015)."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of input and target of one shape."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class KLDivLoss(_Loss):
    """target·(log target − input), of log-probabilities; `reduction` may also be `"batchmean"`."""

    _reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of log-probabilities and a target of one shape."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
