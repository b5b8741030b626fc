"""Random Tensors from counter-based generators: the same numbers on every backend and machine.

Numbers are drawn on the host from a stream (seed, name of the backend) and moved to the device. Inside
`vmap` its argument `randomness` says whether every sample gets its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar as _ContextVar
from operator import index as _index
from typing import Any
from weakref import WeakSet

from framework.autodiff import Tensor, get_default_dtype
from framework.autodiff import tensor as _tensor
from framework.autodiff import versions as _versions
from framework.autodiff.batching import drawing_levels as _drawing_levels
from framework.autodiff.batching import drawn as _drawn
from framework.autodiff.calls import register_state as _register_state
from framework.autodiff.convert import resolve_backend as _resolve_backend
from framework.autodiff.kinds import integers as _integers
from framework.autodiff.namespace import namespace_of as _namespace_of
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

    def __new__(cls, *args: Any, **kwargs: Any) -> Generator:
        """A generator that a call made again winds back."""
        made = super().__new__(cls)
        _all_generators.add(made)  # copies and unpickled ones, too
        return made

    def __init__(self, seed: int = 0, *stream: int | str) -> None:
        self.host = _host.HostGenerator(seed, *stream)

    def state_dict(self) -> dict[str, Any]:
        """The key and the position in the stream."""
        return self.host.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position."""
        _versions.told(self, "position")
        self.host.load_state_dict(state)


_generators: dict[str, Generator] = {}
_all_generators: WeakSet[Generator] = WeakSet()


sample_stream: _ContextVar[Callable[[], Generator] | None] = _ContextVar("sample_stream", default=None)
"""Gives the generator of the sample that is being read, while a DataLoader reads one: see `framework.data.reading`."""


def default_generator(backend: Any = None) -> Generator:
    """The generator that functions use when none is given: one per backend, seeded by `seed_everything`.

    In a dataset's code, while a DataLoader reads a sample, it is the sample's own.
    """
    of_sample = sample_stream.get()
    if of_sample is not None:
        return of_sample()
    name = _resolve_backend(backend).name
    found = _generators.get(name)
    if found is None:  # one stream whatever the backend: the same seed gives the same numbers everywhere
        found = _generators[name] = Generator(_host.global_seed(), "default")
    return found


def seed_everything(seed: int) -> int:
    """Seed the framework's generators, loaders without a seed of their own, and Python's `random`; returns the seed."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError(f"a seed is an integer, got {seed!r}")
    import random as python  # who never draws from it does not pay for it

    _versions.told("fw.random", "seed")
    _host.set_global_seed(seed)
    _generators.clear()
    python.seed(seed)
    return seed


def state_dict() -> dict[str, Any]:
    """The seed of the process and the positions of all default generators."""
    return {"seed": _host.global_seed(), "generators": {name: g.state_dict() for name, g in _generators.items()}}


def load_state_dict(state: dict[str, Any]) -> None:
    """Continue every default generator from a saved position."""
    _versions.told("fw.random", "seed")
    _host.set_global_seed(int(state["seed"]))
    _generators.clear()
    for name, saved in state["generators"].items():
        _generators[name] = generator = Generator(0)
        generator.load_state_dict(saved)


def _save_streams() -> Any:
    return _host.global_seed(), dict(_generators), [(g, g.host.key, g.host.counter) for g in _all_generators]


def _restore_streams(saved: Any) -> None:
    seed, default, positions = saved
    _host.set_global_seed(seed)
    _generators.clear()  # one that was made since is made again
    _generators.update(default)
    for g, key, counter in positions:
        g.host.key, g.host.counter = key, counter


_register_state(_save_streams, _restore_streams)  # a call made again, by checkpoint, draws the same numbers


def _shape(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else _integers(shape)


def _draw(
    values: Callable[[_host.HostGenerator, tuple[int, ...]], Any],
    shape: Shape,
    dtype: Any,
    backend: Any,
    generator: Generator | None,
    p: float | None = None,
) -> Tensor:
    """A Tensor of `values(stream, shape)`; the samples of vmaps that draw for each are further axes in front."""
    levels = _drawing_levels()
    target = _resolve_backend(backend)
    d = get_default_dtype() if dtype is None else _dt.dtype(dtype)
    device = str(backend) if backend is not None and ":" in str(backend) else None
    whole = (*[level.size for level in levels], *_shape(shape))

    def make() -> Tensor:
        stream = (generator or default_generator(backend)).host
        if p is not None:  # a device may make these itself
            made = target.bernoulli(stream.key, stream.counter, whole, p, d, device)
            if made is not None:
                stream.counter += math.prod(whole)
                return Tensor(made, None, _namespace_of(target))
        made = values(stream, whole)
        return _tensor(made, dtype=d, backend=target, device=device)

    recorder = _namespace_of(target).recorder
    return _drawn(make() if recorder is None else recorder.source("draw", make, generator), levels)


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

    def values(stream: _host.HostGenerator, whole: tuple[int, ...]) -> Any:
        made = stream.normal(whole)
        if std != 1.0:
            made *= std
        if mean != 0.0:
            made += mean
        return made

    return _draw(values, shape, dtype, backend, generator)


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
    bits = _PRECISION.get((get_default_dtype() if dtype is None else _dt.dtype(dtype)).name)

    def values(stream: _host.HostGenerator, whole: tuple[int, ...]) -> Any:
        made = stream.uniform(whole)
        if bits is not None:  # cut, where the cast would round up to 1
            made = made * 2.0**bits // 1 / 2.0**bits
        return made if (low, high) == (0.0, 1.0) else low + made * (high - low)

    return _draw(values, shape, dtype, backend, generator)


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
    low, high = _index(low), _index(high)
    if low >= high:
        raise ConfigError(f"no integer is at least {low} and under {high}")
    return _draw(lambda stream, whole: stream.integers(low, high, whole), shape, dtype, backend, generator)


def bernoulli(
    p: float, shape: Shape = (), *, dtype: Any = None, backend: Any = None, generator: Generator | None = None
) -> Tensor:
    """Ones with probability `p`, else zeros."""
    if not 0.0 <= p <= 1.0:
        raise ConfigError(f"a probability is from 0 to 1, got {p!r}")
    return _draw(lambda stream, whole: stream.uniform(whole) < p, shape, dtype, backend, generator, p)


def permutation(n: int, *, backend: Any = None, generator: Generator | None = None) -> Tensor:
    """0 … n−1 in random order, int64."""
    return _draw(_orders, (n,), _dt.int64, backend, generator)


def _orders(stream: _host.HostGenerator, whole: tuple[int, ...]) -> Any:
    """Random orders along the last axis, each as `stream.permutation` makes one."""
    return stream.bits(math.prod(whole)).reshape(whole).argsort(axis=-1)


def choice(
    n: int,
    shape: Shape = (),
    *,
    replace: bool = True,
    backend: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers under `n`, drawn with or without replacement."""
    n = _index(n)
    if replace:
        return integers(0, n, shape, backend=backend, generator=generator)
    sample = _shape(shape)
    count = math.prod(sample)
    if count > n:
        raise ConfigError(f"cannot choose {count} of {n} without replacement")

    def values(stream: _host.HostGenerator, whole: tuple[int, ...]) -> Any:
        around = whole[: len(whole) - len(sample)]
        return _orders(stream, (*around, n))[..., :count].reshape(whole)

    return _draw(values, shape, _dt.int64, backend, generator)


def randn_like(x: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Normal numbers of `x`'s shape, dtype and device."""
    return normal(x.shape, dtype=x.dtype, backend=x.device, generator=generator)


def rand_like(x: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Uniform numbers of `x`'s shape, dtype and device."""
    return uniform(x.shape, dtype=x.dtype, backend=x.device, generator=generator)
