"""Initial values, drawn from the default generator of `framework.random`.

Each function sets the values of a Tensor in place, in its own dtype, and returns it. The numbers come
from the host's counter-based stream, so that a seed gives the same start on every backend.
"""

from __future__ import annotations

import math
from typing import Any

from framework import random
from framework.autodiff import Tensor, ops
from framework.errors import ConfigError, ShapeError, did_you_mean

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_GAINS = (*_LINEAR, "sigmoid", "tanh", "relu", "leaky_relu", "selu")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity's inputs are scaled up to keep the variance.

    Args:
        param: the negative slope of `leaky_relu`; 0.01 where it is left out.

    Examples:
        >>> calculate_gain("relu") ** 2
        2.0000000000000004
    """
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ConfigError(
        f"no gain for nonlinearity {nonlinearity!r}.{did_you_mean(nonlinearity, _GAINS)} Known: {', '.join(_GAINS)}"
    )


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of one unit of a weight (out, in, *kernel)."""
    shape = tensor.shape
    if len(shape) < 2:
        raise ShapeError(f"fan-in and fan-out need a weight of at least two axes (out, in, …), got shape {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """Spread evenly over [a, b)."""
    drawn = random.uniform(tensor.shape, low=a, high=b, dtype=tensor.dtype, backend=tensor.backend, generator=generator)
    tensor.assign(drawn)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """Normally distributed."""
    drawn = random.normal(
        tensor.shape, mean=mean, std=std, dtype=tensor.dtype, backend=tensor.backend, generator=generator
    )
    tensor.assign(drawn)
    return tensor


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: random.Generator | None = None,
) -> Tensor:
    """Normally distributed within [a, b]: what falls outside is drawn again.

    Raises:
        ConfigError: [a, b] holds less than a hundredth of the distribution.
    """
    scale = math.sqrt(2.0) * std
    mass = 0.5 * (math.erf((b - mean) / scale) - math.erf((a - mean) / scale)) if std > 0 else 0.0
    if mass < 0.01:
        raise ConfigError(
            f"trunc_normal_: [{a}, {b}] holds {max(mass, 0.0):.2%} of a normal distribution of mean {mean} and "
            f"standard deviation {std}; choose an interval with at least 1%"
        )
    values = ops.full_like(tensor.detach(), math.inf)
    outside = ops.logical_not(ops.isfinite(values))
    while bool(ops.any(outside)):
        drawn = random.normal(
            tensor.shape, mean=mean, std=std, dtype=tensor.dtype, backend=tensor.backend, generator=generator
        )
        values = ops.where(outside, drawn, values)
        outside = ops.logical_or(values < a, values > b)
    tensor.assign(values)
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere."""
    tensor.assign(ops.full_like(tensor.detach(), val))
    return tensor


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_ is for matrices, got shape {tensor.shape}")
    tensor.assign(ops.eye(*tensor.shape, dtype=tensor.dtype, backend=tensor.backend))
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A weight (out, in, *kernel) with which a convolution gives back as many of its input's channels as it can.

    Args:
        groups: the channels of each group are given back by themselves.

    Raises:
        ShapeError: the weight has not three to five axes, or groups do not divide `out`.
    """
    if tensor.ndim not in (3, 4, 5) or tensor.shape[0] % groups:
        raise ShapeError(f"dirac_ is for weights (out, in, *kernel) of {groups} equal groups, got shape {tensor.shape}")
    out, channels, *kernel = tensor.shape
    kind = {"dtype": tensor.dtype, "device": tensor.device}
    values = ops.concat([ops.eye(out // groups, channels, **kind)] * groups)
    for n in kernel:
        centre = ops.astype(ops.arange(n, device=tensor.device) == n // 2, tensor.dtype)
        values = ops.expand_dims(values, axis=-1) * centre
    tensor.assign(values)
    return tensor


def orthogonal_(tensor: Tensor, gain: float = 1, generator: random.Generator | None = None) -> Tensor:
    """Rows, or columns where there are fewer, orthonormal, times `gain` (Saxe, McClelland & Ganguli 2014).

    Axes after the first count as one. All such matrices are equally likely.

    Raises:
        ShapeError: fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ needs at least two axes, got shape {tensor.shape}")
    if not tensor.size:
        return tensor
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    shape = (max(rows, columns), min(rows, columns))
    drawn = random.normal(shape, dtype=tensor.dtype, backend=tensor.backend, generator=generator)
    q, r = ops.linalg.qr(drawn)
    q = q * ops.sign(ops.linalg.diagonal(r))  # without it, some would be more likely than others
    q = ops.matrix_transpose(q) if rows < columns else q
    tensor.assign(ops.reshape(q, tensor.shape) * float(gain))
    return tensor


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: random.Generator | None = None) -> Tensor:
    """A matrix of normally distributed numbers, a share `sparsity` of each column zeros (Martens 2010).

    Raises:
        ShapeError: not a matrix.
    """
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_ is for matrices, got shape {tensor.shape}")
    kind: dict[str, Any] = {"dtype": tensor.dtype, "backend": tensor.backend, "generator": generator}
    values = random.normal(tensor.shape, std=std, **kind)
    order = ops.argsort(ops.argsort(random.uniform(tensor.shape, **kind), axis=0), axis=0)
    tensor.assign(ops.where(order < math.ceil(sparsity * tensor.shape[0]), 0.0, values))
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """Uniform in ±gain·√(6 / (fan-in + fan-out)) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / max(1, sum(_fans(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """Normal with standard deviation gain·√(2 / (fan-in + fan-out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, sum(_fans(tensor)))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ConfigError(f"mode is 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: random.Generator | None = None,
) -> Tensor:
    """Uniform in ±gain·√(3 / fan) (He, Zhang, Ren & Sun 2015); `a` is leaky_relu's negative slope."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: random.Generator | None = None,
) -> Tensor:
    """Normal with standard deviation gain / √fan (He, Zhang, Ren & Sun 2015); `a` is leaky_relu's negative slope."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)
