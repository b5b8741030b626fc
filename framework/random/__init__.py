"""Random Tensors from counter-based generators: the same numbers on every backend and machine.

Numbers are drawn on the host from a stream (seed, name of the backend) and moved to the device.
"""

from __future__ import annotations

import math
import random as _python
from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor, get_default_dtype
from framework.autodiff import tensor as _tensor
from framework.autodiff.convert import resolve_backend as _resolve_backend
from framework.backend import dtypes as _dt
from framework.backend import host as _host
from framework.errors import ConfigError

Shape = int | Sequence[int]


class Generator:
    """A stream of random numbers that can be saved and continued.

    Examples:
        >>> import framework as fw
        >>> a = fw.random.normal((2,), generator=fw.random.Generator(0))
        >>> b = fw.random.normal((2,), generator=fw.random.Generator(0))
        >>> a.tolist() == b.tolist()
        True
    """

    def __init__(self, seed: int = 0, *stream: int | str) -> None:
        self.host = _host.HostGenerator(seed, *stream)

    def state_dict(self) -> dict[str, Any]:
        """The key and the position in the stream."""
        return self.host.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position."""
        self.host.load_state_dict(state)


_generators: dict[str, Generator] = {}


def default_generator(backend: Any = None) -> Generator:
    """The generator that functions use when none is given: one per backend, seeded by `seed_everything`."""
    name = _resolve_backend(backend).name
    found = _generators.get(name)
    if found is None:  # one stream whatever the backend: the same seed gives the same numbers everywhere
        found = _generators[name] = Generator(_host.global_seed(), "default")
    return found


def seed_everything(seed: int) -> int:
    """Seed the framework's generators, loaders without a seed of their own, and Python's `random`; returns the seed."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError(f"a seed is an integer, got {seed!r}")
    _host.set_global_seed(seed)
    _generators.clear()
    _python.seed(seed)
    return seed


def state_dict() -> dict[str, Any]:
    """The seed of the process and the positions of all default generators."""
    return {"seed": _host.global_seed(), "generators": {name: g.state_dict() for name, g in _generators.items()}}


def load_state_dict(state: dict[str, Any]) -> None:
    """Continue every default generator from a saved position."""
    _host.set_global_seed(int(state["seed"]))
    _generators.clear()
    for name, saved in state["generators"].items():
        _generators[name] = generator = Generator(0)
        generator.load_state_dict(saved)


def _shape(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _made(values: Any, dtype: Any, backend: Any) -> Tensor:
    target = _resolve_backend(backend)
    d = get_default_dtype() if dtype is None else _dt.dtype(dtype)
    device = str(backend) if backend is not None and ":" in str(backend) else None
    return _tensor(values, dtype=d, backend=target, device=device)


def _stream(generator: Generator | None, backend: Any) -> _host.HostGenerator:
    return (generator or default_generator(backend)).host


def normal(
    shape: Shape = (),
    *,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = None,
    backend: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normally distributed numbers.

    Examples:
        >>> import framework as fw
        >>> fw.random.normal((2, 3)).shape
        (2, 3)
    """
    if std < 0.0:
        raise ConfigError(f"a standard deviation is not negative, got {std!r}")
    values = _stream(generator, backend).normal(_shape(shape))
    if std != 1.0:
        values *= std
    if mean != 0.0:
        values += mean
    return _made(values, dtype, backend)


_PRECISION = {"float32": 24, "float16": 11, "bfloat16": 8}


def uniform(
    shape: Shape = (),
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = None,
    backend: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Numbers spread evenly over [low, high)."""
    values = _stream(generator, backend).uniform(_shape(shape))
    bits = _PRECISION.get((get_default_dtype() if dtype is None else _dt.dtype(dtype)).name)
    if bits is not None:  # cut, where the cast would round up to 1
        values = values * 2.0**bits // 1 / 2.0**bits
    if (low, high) != (0.0, 1.0):
        values = low + values * (high - low)
    return _made(values, dtype, backend)


def integers(
    low: int,
    high: int | None = None,
    shape: Shape = (),
    *,
    dtype: Any = _dt.int64,
    backend: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers from `low` (0 if only one bound is given) up to, not including, `high`."""
    if high is None:
        low, high = 0, low
    if low >= high:
        raise ConfigError(f"no integer is at least {low} and under {high}")
    return _made(_stream(generator, backend).integers(low, high, _shape(shape)), dtype, backend)


def bernoulli(
    p: float, shape: Shape = (), *, dtype: Any = None, backend: Any = None, generator: Generator | None = None
) -> Tensor:
    """Ones with probability `p`, else zeros."""
    if not 0.0 <= p <= 1.0:
        raise ConfigError(f"a probability is from 0 to 1, got {p!r}")
    values = _stream(generator, backend).uniform(_shape(shape)) < p
    return _made(values, dtype, backend)


def permutation(n: int, *, backend: Any = None, generator: Generator | None = None) -> Tensor:
    """0 … n−1 in random order, int64."""
    return _made(_stream(generator, backend).permutation(n), _dt.int64, backend)


def choice(
    n: int,
    shape: Shape = (),
    *,
    replace: bool = True,
    backend: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers under `n`, drawn with or without replacement."""
    if replace:
        return integers(0, n, shape, backend=backend, generator=generator)
    count = math.prod(_shape(shape))
    if count > n:
        raise ConfigError(f"cannot choose {count} of {n} without replacement")
    return _made(_stream(generator, backend).permutation(n)[:count].reshape(_shape(shape)), _dt.int64, backend)


def randn_like(x: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Normal numbers of `x`'s shape, dtype and device."""
    return normal(x.shape, dtype=x.dtype, backend=x.device, generator=generator)


def rand_like(x: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Uniform numbers of `x`'s shape, dtype and device."""
    return uniform(x.shape, dtype=x.dtype, backend=x.device, generator=generator)
