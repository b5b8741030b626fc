"""Losses of classes and of probabilities."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from framework.autodiff import Tensor, as_tensor, no_grad, ops
from framework.errors import ConfigError, DataError, DTypeError, ShapeError
from framework.nn.functional.arguments import as_real
from framework.nn.functional.reduction import REDUCTIONS, check_not_empty, check_reduction, pair, reduce


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log softmax(input) at the target's class.

    Args:
        input: logits (N, C), (N, C, d1, …) or (C,).
        target: class numbers of an integer dtype, of input's shape without the class axis; or
            probabilities of input's shape and of a floating-point dtype.
        weight: one factor per class (C,); the mean is then a weighted one.
        ignore_index: targets of this number count neither in the loss nor in the mean. The default is
            looked for only where reading values costs nothing (`Backend.synchronous`).
        reduction: `"mean"`, `"sum"` or `"none"`.
        label_smoothing: the share of the target that is spread over all classes, in [0, 1].

    Raises:
        ShapeError: the shapes do not fit, or the batch is empty.
        DataError: a class number is out of range (where reading values costs nothing).

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.cross_entropy(fw.tensor([[0.0, 0.0]]), fw.tensor([1])).item()
        0.6931471824645996
    """
    logits = input if isinstance(input, Tensor) else as_tensor(input)
    if not isinstance(target, Tensor):
        target = as_tensor(target, logits)
    if logits._node is None:  # what has a gradient has the right dtype
        logits = as_real("cross_entropy", logits)
    check_reduction("cross_entropy", reduction)
    classes_last = _classes_last(logits)
    if weight is None and not label_smoothing and ignore_index == -100 and _all_count(target):
        try:
            return ops.softmax_cross_entropy(classes_last, target, reduction=reduction)
        except (IndexError, ValueError, TypeError):
            pass  # probabilities as targets, or the checks below say what is wrong
    if target.dtype.kind == "float":
        return _soft_cross_entropy(classes_last, logits, target, weight, reduction, label_smoothing)
    _check_targets("cross_entropy", logits, classes_last, target, reduction)
    _check_smoothing(label_smoothing)
    log_p = ops.log_softmax(classes_last, axis=-1)
    return _weighted_nll("cross_entropy", log_p, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """−input at the target's class: input (N, C), (N, C, d1, …) or (C,) of log-probabilities.

    Arguments and errors as for `cross_entropy`, without probabilities as targets.
    """
    log_p = as_real("nll_loss", as_tensor(input))
    target = as_tensor(target, log_p)
    check_reduction("nll_loss", reduction)
    classes_last = _classes_last(log_p)
    _check_targets("nll_loss", log_p, classes_last, target, reduction)
    return _weighted_nll("nll_loss", classes_last, target, weight, ignore_index, reduction, 0.0)


def _classes_last(x: Tensor) -> Tensor:
    """(N, C, d1, …) as (N, d1, …, C)."""
    return x if x._data.ndim <= 2 or x.ndim <= 2 else ops.moveaxis(x, 1, -1)  # inside vmap `_data` has an axis more


def _check_targets(name: str, given: Tensor, classes_last: Tensor, target: Tensor, reduction: str) -> None:
    expected = classes_last.shape[:-1]
    if not given.shape:
        raise ShapeError(f"{name}: got input of shape (); expected (N, C), (N, C, d1, …) or (C,)")
    if target.shape != expected:
        hint = ""
        if target.size == math.prod(expected) and target.shape != expected:
            hint = f" Reshape it: target.reshape({', '.join(map(str, expected)) or '()'})"
        raise ShapeError(
            f"{name}: logits of shape {given.shape} need class numbers of shape {expected}, got {target.shape}.{hint}"
        )
    if target.dtype.kind not in ("int", "uint"):
        raise DTypeError(
            f"{name}: targets are class numbers of an integer dtype, got {target.dtype.name}; use .astype('int64')"
        )
    if not classes_last.shape[-1]:
        raise ShapeError(f"{name}: got input of shape {given.shape}; its axis of classes has no element")
    check_not_empty(name, given, target.size, reduction)


def _all_count(target: Tensor) -> bool:
    """Whether no target is ignored, as far as that can be seen without waiting for a device."""
    if target._level is not None:
        return True
    data, ns = target._data, target._ns
    if 0 in data.shape or not ns.backend.synchronous:
        return 0 not in data.shape
    return _none_below_zero(ns, data) if ns.recorder is None else ns.holds(partial(_none_below_zero, ns), data)


def _none_below_zero(ns: Any, classes: Any) -> bool:
    return not ns.min(classes, axis=None, keepdims=False) < 0


def _all_classes(xp: Any, target: Any, classes: int, ignored: int) -> bool:
    """Whether every target is a class or ignored."""
    return bool(xp.all((target == ignored) | ((target >= 0) & (target < classes))))


def _out_of_range(name: str, target: Tensor, classes: int) -> DataError:
    with no_grad():
        wrong = ops.reshape(ops.logical_or(target < 0, target >= classes), (-1,))
        at = int(ops.argmax(ops.astype(wrong, "int64")))
        value = int(ops.reshape(target, (-1,))[at])
    return DataError(
        f"{name}: target {value} at flat position {at}, but the logits have {classes} classes; "
        f"class numbers must be from 0 to {classes - 1}"
    )


def _check_smoothing(label_smoothing: float) -> None:
    if not 0.0 <= label_smoothing <= 1.0:
        raise ConfigError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing!r}")


def _class_weight(name: str, weight: Any, like: Tensor) -> Tensor:
    weight = as_tensor(weight, like)
    if weight.shape != like.shape[-1:]:
        raise ShapeError(
            f"{name}: {like.shape[-1]} classes need a weight of shape {like.shape[-1:]}, got {weight.shape}"
        )
    return ops.astype(weight, like.dtype)


def _weighted_nll(
    name: str, log_p: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """−log_p (…, C) at the targets (…), with weights per class, ignored targets and smoothing."""
    classes = log_p.shape[-1]
    smoothing = float(smoothing)
    valid = target != ignore_index
    safe = ops.where(valid, target, 0)
    ns = target._ns
    if target._level is None and ns.backend.synchronous:
        fits = partial(_all_classes, ns.xp, classes=classes, ignored=ignore_index)
        if not ns.holds(fits, target._array()):
            raise _out_of_range(name, safe, classes)
    factor = ops.astype(valid, log_p.dtype)
    loss = -ops.squeeze(ops.take_along_axis(log_p, ops.expand_dims(safe, axis=-1), axis=-1), axis=-1)
    spread = log_p
    if weight is not None:
        weight = _class_weight(name, weight, log_p)
        factor = factor * ops.take(weight, safe, axis=0)
        spread = log_p * weight
    loss = ops.where(valid, loss * factor, 0.0)  # a choice: a row that is ignored may hold inf or NaN
    if smoothing:
        even = ops.where(valid, -ops.sum(spread, axis=-1), 0.0)
        loss = loss * (1 - smoothing) + even * (smoothing / classes)
    if reduction != "mean":
        return reduce(loss, reduction)
    total = ops.sum(factor)
    return ops.sum(loss) / ops.where(total == 0, math.nan, total)  # nothing counted: NaN


def _soft_cross_entropy(
    logits: Tensor, given: Tensor, target: Tensor, weight: Any, reduction: str, smoothing: float
) -> Tensor:
    """Cross-entropy against probabilities of the shape of the logits."""
    if target.shape != given.shape:
        raise ShapeError(
            f"cross_entropy: probabilities as targets have the logits' shape {given.shape}, got {target.shape}; "
            f"class numbers need an integer dtype: target.astype('int64')"
        )
    _check_smoothing(smoothing)
    check_not_empty("cross_entropy", given, given.size, reduction)
    smoothing = float(smoothing)
    classes = logits.shape[-1]
    target = _classes_last(target)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    if weight is not None:
        target = target * _class_weight("cross_entropy", weight, logits)
    return reduce(-ops.sum(ops.log_softmax(logits, axis=-1) * target, axis=-1), reduction)


def _factors(name: str, weight: Any, like: Tensor) -> Tensor:
    """A weight, in the dtype of `like` and broadcast to its shape."""
    weight = as_tensor(weight, like)
    try:
        return ops.broadcast_to(ops.astype(weight, like.dtype), like.shape)
    except ShapeError:
        raise ShapeError(
            f"{name}: a weight of shape {weight.shape} does not broadcast to input of shape {like.shape}"
        ) from None


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """−target·log σ(input) − (1 − target)·log(1 − σ(input)), without overflow; target in [0, 1].

    Args:
        weight: factors that broadcast to the input's shape.
        pos_weight: factors of the first term that broadcast to the input's shape.
    """
    x, y = pair("binary_cross_entropy_with_logits", input, target, reduction)
    positive = ops.logaddexp(-x, 0.0)
    if pos_weight is not None:
        positive = positive * ((_factors("binary_cross_entropy_with_logits: pos_weight", pos_weight, x) - 1) * y + 1)
    loss = (1 - y) * x + positive
    name = "binary_cross_entropy_with_logits"
    return reduce(loss if weight is None else loss * _factors(name, weight, loss), reduction)


_LOWEST_LOG = -100.0


def _bounded_log(x: Tensor) -> Tensor:
    """log x, but not below −100."""
    inside = x > math.exp(_LOWEST_LOG)
    return ops.where(inside, ops.log(ops.where(inside, x, 1.0)), _LOWEST_LOG)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Tensor:
    """−target·log(input) − (1 − target)·log(1 − input); probabilities in [0, 1], logarithms not below −100.

    From logits, `binary_cross_entropy_with_logits` is more exact.

    Raises:
        DataError: the input leaves [0, 1] (where reading values costs nothing).
    """
    x, y = pair("binary_cross_entropy", input, target, reduction)
    if x._level is None and x._ns.backend.synchronous and x.size:
        low, high = (float(f(x.detach())) for f in (ops.min, ops.max))
        if low < 0 or high > 1:
            raise DataError(
                f"binary_cross_entropy: input must be probabilities in [0, 1], got values from {low:g} to {high:g}; "
                "for logits use binary_cross_entropy_with_logits"
            )
    loss = -(y * _bounded_log(x) + (1 - y) * _bounded_log(1 - x))
    return reduce(loss if weight is None else loss * _factors("binary_cross_entropy", weight, loss), reduction)


def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target·(log target − input), the divergence of `exp(input)` from the target (Kullback & Leibler 1951).

    Args:
        input: log-probabilities, of any shape.
        target: probabilities of that shape, or their logarithms where `log_target`.
        reduction: also `"batchmean"`: the sum divided by the length of the first axis, the divergence proper.
    """
    check_reduction("kl_div", reduction, (*REDUCTIONS, "batchmean"))
    x, y = pair("kl_div", input, target, "sum" if reduction == "batchmean" else reduction)
    if log_target:
        loss = ops.exp(y) * (y - x)
    else:
        positive = y > 0
        loss = ops.where(positive, y * ops.log(ops.where(positive, y, 1.0)), 0.0) - y * x
    if reduction == "batchmean":
        return ops.sum(loss) / x.shape[0] if x.ndim else loss
    return reduce(loss, reduction)
