"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from framework.autodiff import Tensor, as_tensor, get_default_dtype, ops
from framework.backend import dtypes as dt
from framework.errors import ConfigError, ShapeError
from framework.nn import functional as F
from framework.nn import init
from framework.nn.functional.norm import check_batch
from framework.nn.module import Module
from framework.nn.parameter import Parameter


class BatchNorm(Module):
    """What the batch normalisations have in common, whatever the number of axes after the channels."""

    ranks: ClassVar[tuple[int, ...]]
    """The numbers of axes that an input may have."""

    shapes: ClassVar[str]
    """Their shapes, for messages."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not isinstance(num_features, int) or isinstance(num_features, bool) or num_features < 0:
            raise ConfigError(f"{name}: num_features is a number of channels, got {num_features!r}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ConfigError(f"{name}: momentum is from 0 to 1, or None for a cumulative mean; got {momentum!r}")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        kind = {"dtype": dtype or get_default_dtype(), "device": device}
        self.weight = Parameter(ops.ones((num_features,), **kind)) if affine else None
        self.bias = Parameter(ops.zeros((num_features,), **kind)) if affine and bias else None
        tracks = track_running_stats
        self.register_buffer("running_mean", ops.zeros((num_features,), **kind) if tracks else None)
        self.register_buffer("running_var", ops.ones((num_features,), **kind) if tracks else None)
        count = ops.zeros((), dtype=dt.int64, device=device) if tracks else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the batches that were seen."""
        if self.running_mean is not None:
            self.running_mean.zero_()
        if self.running_var is not None:
            self.running_var.fill_(1.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forget the batches that were seen; weight one, bias zero."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Tensor:
        """The input normalised: by the batch in training, by the running statistics after `eval()`."""
        x = as_tensor(input, self._like())
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise self._shape_error(x.shape)
        count = self.num_batches_tracked
        follows = self.training and self.track_running_stats
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        if by_batch:
            check_batch(x.shape, f"{type(self).__name__}({self.num_features})")
        mean, var = (self.running_mean, self.running_var) if follows or not self.training else (None, None)
        seen = None if count is None or not follows else count + 1
        momentum: Any = self.momentum
        if momentum is None:  # computed where the count is, without reading it
            momentum = 0.0 if seen is None or mean is None else 1.0 / ops.astype(seen, mean.dtype)
        out = F.batch_norm(x, mean, var, self.weight, self.bias, by_batch, momentum, self.eps)
        if count is not None and seen is not None:
            ops.write(count, seen)
        return out

    def _like(self) -> Tensor | None:
        return self.weight if self.weight is not None else self.running_mean

    def _shape_error(self, given: tuple[int, ...]) -> ShapeError:
        n = self.num_features
        hint = ""
        if len(given) in self.ranks and given[-1] == n:
            hint = f" Channels come second: permute its axes, or reshape(-1, {n})"
        return ShapeError(
            f"{type(self).__name__}({n}): got input of shape {given}; expected {self.shapes} with C = {n}.{hint}"
        )

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(BatchNorm):
    """Each channel brought to mean 0 and variance 1, times a weight, plus a bias (Ioffe & Szegedy 2015).

    Takes (N, C) or (N, C, L). In training mean and variance are the batch's, and the running ones follow;
    after `eval()` the running ones are used.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how much of a batch's statistics goes into the running ones; None for their mean over all batches.
        affine: whether there are a weight, which starts at one, and a bias, which starts at zero.
        track_running_stats: without them, every batch is normalised by itself, also after `eval()`.
        bias: leaves out the bias where False.

    Raises:
        ShapeError: another shape, or in training fewer than two values per channel.
        GradientError: in training inside `vmap`, where running statistics would have to differ by sample.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> layer = fw.nn.BatchNorm1d(1)
        >>> np.round(layer(fw.tensor([[1.0], [3.0]]))).tolist()
        [[-1.0], [1.0]]
        >>> round(layer.running_mean.item(), 3), round(layer.running_var.item(), 3)
        (0.2, 1.1)
    """

    ranks = (2, 3)
    shapes = "(N, C) or (N, C, L)"


class BatchNorm2d(BatchNorm):
    """Each channel of images brought to mean 0 and variance 1, times a weight, plus a bias (Ioffe & Szegedy 2015).

    Takes (N, C, H, W). Arguments, running statistics and errors as of `BatchNorm1d`.

    Examples:
        >>> import framework as fw
        >>> fw.nn.BatchNorm2d(3)(fw.random.normal((2, 3, 4, 4))).shape
        (2, 3, 4, 4)
    """

    ranks = (4,)
    shapes = "(N, C, H, W)"


class GroupNorm(Module):
    """Each group of channels of each sample brought to mean 0 and variance 1 (Wu & He 2018); takes (N, C, ...).

    Args:
        num_groups: a divisor of `num_channels`.
        num_channels: C.
        eps: added to the variance.
        affine: whether there are a weight for each channel, which starts at one, and a bias, which starts at zero.
        bias: leaves out the bias where False.

    Raises:
        ShapeError: another number of channels.

    Examples:
        >>> import framework as fw
        >>> fw.nn.GroupNorm(2, 4)(fw.random.normal((3, 4, 5))).shape
        (3, 4, 5)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name, n in (("num_groups", num_groups), ("num_channels", num_channels)):
            if not isinstance(n, int) or isinstance(n, bool) or n < 1:
                raise ConfigError(f"GroupNorm: {name} is a number from 1 on, got {n!r}")
        if num_channels % num_groups:
            raise ConfigError(f"GroupNorm: {num_channels} channels do not make {num_groups} equal groups")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        kind = {"dtype": dtype or get_default_dtype(), "device": device}
        self.weight = Parameter(ops.ones((num_channels,), **kind)) if affine else None
        self.bias = Parameter(ops.zeros((num_channels,), **kind)) if affine and bias else None

    def reset_parameters(self) -> None:
        """Weight one, bias zero."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Tensor:
        """(N, C, ...) to the same shape."""
        x = as_tensor(input, self.weight)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"GroupNorm({self.num_groups}, {self.num_channels}): got input of shape {x.shape}; expected "
                f"(N, C, ...) with C = {self.num_channels}"
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def _lengths(name: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The lengths of the axes that are normalised over."""
    shape: tuple[Any, ...] = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not shape or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise ConfigError(f"{name}: normalized_shape is a length or several, got {normalized_shape!r}")
    return shape


class RMSNorm(Module):
    """Each sample divided by the root of the mean of its squares over its last axes (Zhang & Sennrich 2019).

    Args:
        normalized_shape: the lengths of these axes; a number is one axis.
        eps: added to the mean; the dtype's own epsilon where left out.
        elementwise_affine: whether there is a weight, which starts at one.

    Raises:
        ShapeError: the input does not end in `normalized_shape`.

    Examples:
        >>> import framework as fw
        >>> fw.nn.RMSNorm(2)(fw.tensor([[3.0, 3.0]])).tolist()
        [[1.0, 1.0]]
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _lengths("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        kind = {"dtype": dtype or get_default_dtype(), "device": device}
        self.weight = Parameter(ops.ones(self.normalized_shape, **kind)) if elementwise_affine else None

    def reset_parameters(self) -> None:
        """Weight one."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Any) -> Tensor:
        """(..., *normalized_shape) to the same shape."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LayerNorm(Module):
    """Each sample brought to mean 0 and variance 1 over its last axes (Ba, Kiros & Hinton 2016).

    Args:
        normalized_shape: the lengths of these axes; a number is one axis.
        eps: added to the variance.
        elementwise_affine: whether there are a weight, which starts at one, and a bias, which starts at zero.
        bias: leaves out the bias where False.

    Raises:
        ShapeError: the input does not end in `normalized_shape`.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> np.round(fw.nn.LayerNorm(2)(fw.tensor([[1.0, 3.0]]))).tolist()
        [[-1.0, 1.0]]
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = _lengths("LayerNorm", normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        kind = {"dtype": dtype or get_default_dtype(), "device": device}
        self.weight = Parameter(ops.ones(shape, **kind)) if elementwise_affine else None
        self.bias = Parameter(ops.zeros(shape, **kind)) if elementwise_affine and bias else None

    def reset_parameters(self) -> None:
        """Weight one, bias zero."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Tensor:
        """(..., *normalized_shape) to the same shape."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
