"""Normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor, as_tensor, no_grad, ops
from framework.errors import ConfigError, GradientError, ShapeError
from framework.nn.functional.arguments import as_real


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel brought to mean 0 and variance 1, times `weight`, plus `bias` (Ioffe & Szegedy 2015).

    Args:
        input: (N, C) or (N, C, ...).
        running_mean: (C,); where `training` it is moved in place, by `momentum`, towards the batch's mean;
            otherwise it is the mean that is taken off. Likewise `running_var`, towards the unbiased variance.
        weight: (C,), or None; likewise `bias`.
        training: normalise by the batch's own mean and variance.
        momentum: how much of the batch's statistics goes into the running ones; a number, or a 0-d Tensor.

    Raises:
        ShapeError: the shapes do not fit, or `training` with fewer than two values per channel.
        ConfigError: not `training`, and there are no running statistics.
        GradientError: inside `vmap`, running statistics would have to differ by sample.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.batch_norm(fw.tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
        [[-1.0], [1.0]]
    """
    x = as_tensor(input, next((t for t in (weight, running_mean) if isinstance(t, Tensor)), None))
    x = as_real("batch_norm", x)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: the input has shape (N, C) or (N, C, ...), got {x.shape}")
    channels = x.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, value in given.items():
        if value is not None and tuple(value.shape) != (channels,):
            raise ShapeError(
                f"batch_norm: an input of shape {x.shape} has {channels} channels, so {name} has shape "
                f"({channels},), got {tuple(value.shape)}"
            )
    along = (channels,) + (1,) * (x.ndim - 2)
    factor, shift = (None if t is None else ops.reshape(as_tensor(t, x), along) for t in (weight, bias))
    if not training:
        if running_mean is None or running_var is None:
            raise ConfigError("batch_norm: without training=True it needs running_mean and running_var")
        mean, var = (ops.reshape(as_tensor(t, x), along) for t in (running_mean, running_var))
        return _with_statistics(x, mean, var, factor, shift, eps)
    check_batch(x.shape, "batch_norm")
    axis = tuple(a for a in range(x.ndim) if a != 1)
    out, mean, var = ops.batch_norm(x, factor, shift, axis=axis, eps=eps)
    n = x.size // channels if channels else 2
    for running, new in ((running_mean, mean), (running_var, var)):
        if running is not None:
            _move(running, new if new is mean else new * (n / (n - 1)), momentum)
    return out


def _with_statistics(x: Tensor, mean: Tensor, var: Tensor, weight: Any, bias: Any, eps: float) -> Tensor:
    """`x` normalised by given statistics: one product and one sum."""
    scale = 1.0 / ops.sqrt(var + float(eps))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return x * scale + (shift if bias is None else shift + bias)


def check_batch(shape: tuple[int, ...], name: str) -> None:
    """Raise ShapeError where a batch has no variance.

    Args:
        shape: (N, C, ...).
        name: who asks.
    """
    n = shape[0] * math.prod(shape[2:])
    if n < 2:
        raise ShapeError(
            f"{name}: in training each channel needs more than one value for a variance, got input of shape {shape}. "
            "Use a bigger batch (drop_last=True leaves out a last one that is too small), or eval()"
        )


@no_grad()
def _move(running: Tensor, new: Tensor, momentum: Any) -> None:
    """Move running statistics towards those of a batch, in place and outside of every derivative."""
    if not isinstance(running, Tensor):
        raise ConfigError(
            f"batch_norm: running statistics are moved in place, so they are Tensors; got {type(running).__name__}"
        )
    new = ops.reshape(ops.stop_gradient(new), running.shape)
    if new._level is not None and new._level.is_batch and running._level is not new._level:
        raise GradientError(
            "batch_norm inside vmap: every sample has statistics of its own, and one running_mean cannot follow them "
            "all. Call eval() to normalise by the running statistics, or make the layer with "
            "track_running_stats=False; to train on the whole batch, call it outside of vmap"
        )
    momentum = momentum if isinstance(momentum, Tensor) else float(momentum)
    ops.write(running, running * (1.0 - momentum) + new * momentum)


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Each sample brought to mean 0 and variance 1 over its last axes (Ba, Kiros & Hinton 2016).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the lengths of the axes over which mean and variance are taken.
        weight: of shape `normalized_shape`, or None; likewise `bias`.

    Raises:
        ShapeError: the shapes do not fit.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.layer_norm(fw.tensor([[1.0, 3.0]]), (2,), eps=0.0).tolist()
        [[-1.0, 1.0]]
    """
    x = as_tensor(input, weight if isinstance(weight, Tensor) else None)
    shape = tuple(normalized_shape)
    x = as_real("layer_norm", x)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm over axes of shape {shape}: got input of shape {x.shape}, which must end in it")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) != shape:
            raise ShapeError(f"layer_norm over axes of shape {shape}: {name} has that shape, got {tuple(value.shape)}")
    out: Tensor = ops.layer_norm(x, weight, bias, axis=tuple(range(-len(shape), 0)), eps=eps)
    return out


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Each group of channels of each sample brought to mean 0 and variance 1 (Wu & He 2018).

    Args:
        input: (N, C, ...).
        num_groups: a divisor of C.
        weight: (C,), or None; likewise `bias`.

    Raises:
        ShapeError: the shapes do not fit.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> np.round(fw.nn.functional.group_norm(fw.tensor([[1.0, 3.0, 8.0, 8.0]]), 2)).tolist()
        [[-1.0, 1.0, 0.0, 0.0]]
    """
    x = as_tensor(input, weight if isinstance(weight, Tensor) else None)
    x = as_real("group_norm", x)
    if x.ndim < 2:
        raise ShapeError(f"group_norm: the input has shape (N, C) or (N, C, ...), got {x.shape}")
    n, channels = x.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ShapeError(
            f"group_norm: got input of shape {x.shape}, whose {channels} channels do not make {num_groups} equal groups"
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) != (channels,):
            raise ShapeError(
                f"group_norm: an input of shape {x.shape} has {channels} channels, so {name} has shape ({channels},), "
                f"got {tuple(value.shape)}"
            )
    each = math.prod(x.shape[1:]) // num_groups
    out = ops.reshape(ops.layer_norm(ops.reshape(x, (n, num_groups, each)), axis=-1, eps=eps), x.shape)
    along = (channels,) + (1,) * (x.ndim - 2)
    if weight is not None:
        out = out * ops.reshape(as_tensor(weight, x), along)
    return out if bias is None else out + ops.reshape(as_tensor(bias, x), along)


def rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """Each sample divided by the root of the mean of its squares over its last axes (Zhang & Sennrich 2019).

    Args:
        input: (..., *normalized_shape).
        weight: of shape `normalized_shape`, or None.
        eps: added to the mean; the dtype's own epsilon where left out.

    Raises:
        ShapeError: the shapes do not fit.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> np.round(fw.nn.functional.rms_norm(fw.tensor([[3.0, -3.0]]), (2,))).tolist()
        [[1.0, -1.0]]
    """
    x = as_tensor(input, weight if isinstance(weight, Tensor) else None)
    x = as_real("rms_norm", x)
    shape = tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(f"rms_norm over axes of shape {shape}: got input of shape {x.shape}, which must end in it")
    if weight is not None and tuple(weight.shape) != shape:
        raise ShapeError(f"rms_norm over axes of shape {shape}: weight has that shape, got {tuple(weight.shape)}")
    mean = ops.mean(ops.square(x), axis=tuple(range(-len(shape), 0)), keepdims=True)
    out: Tensor = x * (1.0 / ops.sqrt(mean + float(_EPSILON[x.dtype.name] if eps is None else eps)))
    return out if weight is None else out * as_tensor(weight, x)


_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
"""The distance from one to the next number of each dtype."""
