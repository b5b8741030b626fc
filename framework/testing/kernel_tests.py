"""Conformance: a backend's `kernels` have the contract's names and signatures, and the fallback's values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from framework.autodiff import PRIMITIVES
from framework.autodiff.namespace import RawNamespace
from framework.backend import KERNELS, Backend
from framework.backend import dtypes as dt
from framework.testing.kit import TOLERANCE, Kit, close, on_host, over, parameters_of
from framework.testing.samples import Draw, Sample, observed, samples
from framework.testing.samples_linear import OBSERVED
from framework.testing.samples_reductions import moments

Args = tuple[Any, ...]

UPDATES = {"sgd_update": (0, 2), "adam_update": (0, 2, 3), "rprop_update": (0, 2, 3)}
"""Performance names that may write in place, and which of their arguments."""

ROUNDED = ("attention", "attention_grad", "conv2d", "conv2d_dx", "conv2d_dw")
"""Functions of which there is one of rounded operands with the same arguments, and the dtype by name."""

NARROW = "float16"
"""What operands are rounded to here."""

FORWARD = ("attention", "rounded_attention")
BACKWARD = ("attention_grad", "rounded_attention_grad")
"""Kernels of which each of the second is given what one of the first returned second. What that is, a backend says
itself that offers both of the names that stand first.
"""


class PlainNamespace(RawNamespace):
    """The fallbacks: a backend's namespace as if it offered no kernel."""

    def _resolve(self, name: str) -> Any:
        if name in KERNELS:
            return lambda *args, **kwargs: KERNELS[name](self, *args, **kwargs)
        primitive = PRIMITIVES.get(name)
        if primitive is not None and primitive.forward is not None:
            forward = primitive.forward
            return lambda *args, **kwargs: forward(self, *args, **kwargs)
        return getattr(self.xp, name)


def _rows(*shapes: tuple[int, ...]) -> Callable[[Draw], Args]:
    return lambda d: tuple(d.signed(*shape) for shape in shapes)


def _probabilities(d: Draw, *shape: int) -> Any:
    p = d.positive(*shape, 3)
    return p / p.sum(axis=-1, keepdims=True)


def _sgd(velocity: bool, *hyper: Any) -> Callable[[Draw], Args]:
    return lambda d: (d.signed(3, 4), d.signed(3, 4), d.signed(3, 4) if velocity else None, 0.1, *hyper)


def _adam(step: int, weight_decay: float, decoupled: bool) -> Callable[[Draw], Args]:
    hyper = (step, 0.05, (0.9, 0.99), 1e-6, weight_decay, decoupled)
    return lambda d: (d.signed(3, 4), d.signed(3, 4), d.signed(3, 4), d.positive(3, 4), *hyper)


def _rprop(d: Draw) -> Args:
    g, previous = d.signed(3, 4), d.signed(3, 4)
    g[0, 0] = previous[1, 1] = 0.0
    return d.signed(3, 4), g, previous, d.uniform((3, 4), 0.2, 1.0), (0.5, 1.2), (0.25, 0.9)


_INDEX_SAMPLES: tuple[Callable[[Draw], tuple[Any, tuple[int, ...]]], ...] = (
    lambda d: ((d.integers(-4, 4, 6),), (6, 3)),
    lambda d: ((d.integers(0, 4, 2, 2),), (2, 2, 3)),
    lambda d: ((slice(1, 4), d.integers(0, 3, 5)), (3, 5)),
    lambda d: ((d.integers(0, 4, 5), d.integers(0, 3, 5)), (5,)),
    lambda d: ((2, slice(None)), (3,)),
)


def _latched(squares: float, loss: float | None, before: Any) -> Callable[[Draw], Args]:
    """A sum of squares, a loss, a flag and a count."""
    return lambda d: (np.asarray(squares), None if loss is None else np.asarray(loss), before, np.asarray(3, np.int32))


def _at(values: bool, unique: bool = False) -> list[Callable[[Draw], Args]]:
    def draw(d: Draw, pick: Any) -> Args:
        key, shape = pick(d)
        if unique:  # which of several values stays is not defined
            key = tuple(d.rng.permutation(3)[: k.shape[0]] if isinstance(k, np.ndarray) else k for k in key)
            shape = np.zeros((4, 3))[key].shape
        return (d.signed(4, 3), key, d.signed(*shape)) if values else (d.signed(4, 3), key)

    return [lambda d, pick=pick: draw(d, pick) for pick in _INDEX_SAMPLES]  # type: ignore[misc]


def _into_rows(*shape: int) -> Callable[[Draw], Args]:
    return lambda d: (d.signed(*shape, 2), d.integers(0, 4, *shape), 4)


def _padded_rows(d: Draw) -> Args:
    return d.signed(6, 2), d.integers(0, 4, 6), 4, 1


def _normalized(
    shape: tuple[int, ...], axis: tuple[int, ...], weight: tuple[int, ...] | None = None
) -> Callable[[Draw], Args]:
    """A gradient, what was normalised, its mean and the inverse of its spread, and the weight."""

    def draw(d: Draw) -> Args:
        x = d.signed(*shape)
        mean, var = moments(x, axis)
        return d.signed(*shape), x, mean, 1.0 / np.sqrt(var + 0.1), weight and d.signed(*weight), axis

    return draw


def _attended(lead: tuple[int, ...], queries: int, keys: int, width: int, values: int) -> Callable[[Draw], Args]:
    """A gradient, queries, keys, values, the weights of the values, and the factor of the scores."""

    def draw(d: Draw) -> Args:
        w = d.positive(*lead, queries, keys)
        shapes = ((queries, values), (queries, width), (keys, width), (keys, values))
        return *(d.signed(*lead, *shape) for shape in shapes), w / w.sum(axis=-1, keepdims=True), 0.7

    return draw


class Attended(NamedTuple):
    """A case for `attention` and then `attention_grad`: shapes, that of a bias, and what is asked for."""

    lead: tuple[int, ...]
    queries: int
    keys: int
    width: int
    values: int
    causal: bool = False
    bias: tuple[int, ...] | None = None
    has_bias: bool = False

    def draw(self, d: Draw) -> tuple[Any, ...]:
        """A gradient, and queries, keys, values and a bias, of which the first key of the last query is hidden."""
        shapes = ((self.queries, self.values), (self.queries, self.width), (self.keys, self.width))
        arrays = [d.signed(*self.lead, *shape) for shape in (*shapes, (self.keys, self.values))]
        if self.bias is None:
            return *arrays, None
        bias = d.signed(*self.bias)
        bias[..., -1, 0] = -np.inf
        return *arrays, bias


ATTENDED = (
    Attended((), 3, 4, 2, 5),
    Attended((2,), 1, 3, 4, 4, causal=True),
    Attended((2, 3), 5, 7, 8, 16),
    Attended((2, 3), 7, 7, 16, 16, causal=True),
    Attended((2, 1, 2), 7, 5, 8, 8, causal=True),
    Attended((2, 2), 5, 5, 8, 8, causal=True, bias=(5, 5), has_bias=True),
    Attended((2, 3), 4, 6, 8, 8, bias=(2, 1, 1, 6)),
    Attended((2,), 1, 1, 8, 8, bias=(1, 1), has_bias=True),  # a query that sees no key
    Attended((0, 2), 3, 3, 8, 8),
    Attended((2,), 0, 3, 8, 8),
)


KERNEL_SAMPLES: dict[str, list[Callable[[Draw], Args]]] = {
    "relu_grad": [_rows((3, 4), (3, 4)), _rows((2, 3, 2), (2, 3, 2)), _rows((0, 2), (0, 2)), _rows((), ())],
    "linear_dx": [_rows(shape, (2, 3)) for shape in ((4, 2), (1, 2), (2, 2, 2), (0, 2), (2,))],
    "linear_dw": [_rows((*lead, 2), (*lead, 3)) for lead in ((4,), (1,), (2, 2), (0,), ())],
    "colsum": [_rows(shape) for shape in ((4, 3), (1, 3), (2, 2, 3), (0, 3), (3,))],
    "xent_grad": [
        lambda d: (_probabilities(d, 4), d.integers(0, 3, 4), d.signed()),
        lambda d: (_probabilities(d, 4), d.integers(0, 3, 4), d.signed(4, 1)),
        lambda d: (_probabilities(d, 1), d.integers(0, 3, 1), d.signed()),
        lambda d: (_probabilities(d, 2, 2), d.integers(0, 3, 2, 2), d.signed(2, 2, 1)),
        lambda d: (_probabilities(d), d.integers(0, 3), d.signed()),
    ],
    "embedding_grad": [*(_into_rows(*shape) for shape in ((6,), (2, 3), (), (0,))), _padded_rows],
    "batch_norm_grad": [
        _normalized((4, 3), (-2,)),
        _normalized((4, 3), (-2,), (1, 3)),
        _normalized((3, 2, 2), (-3, -1), (2, 1)),
        _normalized((0, 2), (-2,), (1, 2)),
    ],
    "layer_norm_grad": [
        _normalized((2, 4), (-1,)),
        _normalized((2, 4), (-1,), (4,)),
        _normalized((2, 3, 2), (-2, -1), (3, 2)),
        _normalized((3,), (-1,), (3,)),
        _normalized((0, 3), (-1,), (3,)),
    ],
    "attention_grad": [
        _attended((), 3, 4, 2, 5),
        _attended((2,), 1, 3, 4, 4),
        _attended((2, 2), 3, 3, 2, 2),
        _attended((0, 2), 3, 3, 2, 2),
    ],
    "rounded_matmul": [
        lambda d: (d.signed(3, 4), d.signed(4, 2), "float16"),
        lambda d: (d.signed(2, 3, 4), d.signed(4, 2), "float16"),
        lambda d: (d.signed(0, 4), d.signed(4, 2), "float16"),
    ],
    "gather_normalized": [
        lambda d: (d.integers(0, 256, 5, 2, 3).astype(np.uint8), d.integers(0, 5, 4), d.signed(), d.signed()),
        lambda d: (d.integers(0, 256, 5, 2, 3).astype(np.uint8), d.integers(0, 5, 4), d.signed(2), d.signed(2)),
        lambda d: (d.integers(0, 256, 5, 4).astype(np.uint8), d.integers(0, 5, 0), d.signed(), d.signed()),
        lambda d: (d.signed(5, 3), d.integers(0, 5, 7), d.signed(), d.signed()),
    ],
    "scatter_add": _at(values=True),
    "set_item": _at(values=True, unique=True),
    "get_item": _at(values=False),
    "erf": [_rows((3, 4)), _rows(()), _rows((0,))],
    "sum_of_squares": [_rows((3, 4)), _rows(()), _rows((0, 3))],
    "latch": [
        _latched(a, b, c)
        for a in (1.5, np.inf, np.nan)
        for b in (None, 2.0, -np.inf, np.nan)
        for c in (None, np.asarray(True), np.asarray(False))
    ],
    "sgd_update": [
        _sgd(False, 0.0, 0.0, 0.0, False),
        _sgd(False, 0.0, 0.0, 0.02, False),
        _sgd(False, 0.9, 0.1, 0.02, False),
        _sgd(True, 0.9, 0.0, 0.0, False),
        _sgd(True, 0.9, 0.1, 0.02, False),
        _sgd(True, 0.9, 0.0, 0.02, True),
        _sgd(False, 0.9, 0.0, 0.0, True),
    ],
    "adam_update": [_adam(1, 0.0, False), _adam(7, 0.02, False), _adam(7, 0.02, True)],
    "rprop_update": [_rprop],
}
"""Performance name to arguments, floating-point arrays in float64."""

KNOWN = {*KERNELS, *PRIMITIVES}


def offered_kernels(b: Backend) -> list[str]:
    """The names in `kernels` that the framework knows."""
    return sorted(KNOWN & set(b.kernels))


def pairs_of(b: Backend) -> list[tuple[str, str]]:
    """The kernels with a residual of their own, each with the ones that are given it."""
    own = FORWARD[0] in b.kernels and BACKWARD[0] in b.kernels
    return [(x, y) for x in FORWARD for y in BACKWARD if own and x in b.kernels and y in b.kernels]


def alone(b: Backend) -> list[str]:
    """The names in `kernels` that can be called with arguments of the fallback's."""
    given_a_residual = {second for _, second in pairs_of(b)}
    return [name for name in offered_kernels(b) if name not in given_a_residual]


def tolerance_of(name: str, dtype: str) -> float:
    """Of a kernel's values: attention of rounded operands may round its results, too."""
    found = 4 * TOLERANCE[dtype]
    return max(found, 4 * TOLERANCE[NARROW]) if name in (FORWARD[1], BACKWARD[1]) else found


def floats(b: Backend) -> list[str]:
    """The names of the floating-point dtypes."""
    return [d.name for d in b.dtypes if d.kind == "float"]


class KernelTests(Kit):
    """Optional kernels against the fallback."""

    def test_kernel_names(self, b: Backend) -> None:
        """Every kernel is one that the framework would call."""
        unknown = sorted(set(b.kernels) - KNOWN)
        assert not unknown, f"kernels that are no primitive and no performance name: {unknown}"

    def test_every_performance_name_has_samples(self) -> None:
        """A performance name that is added without samples is not tested."""
        assert {*KERNEL_SAMPLES, *(f"rounded_{name}" for name in ROUNDED)} == set(KERNELS)

    @over("name", offered_kernels)
    def test_kernel_signature(self, b: Backend, name: str) -> None:
        """A kernel takes what the reference takes, under the same names, without the namespace in front."""
        kernel = b.kernels[name]
        fallback = KERNELS.get(name) or PRIMITIVES[name].forward
        if fallback is not None:
            assert parameters_of(kernel) == parameters_of(fallback)[1:]
            return
        sample = samples(name)[0]  # the fallback is the library's own function
        try:
            inspect.signature(kernel).bind(*sample.draw(Draw("signature")), **sample.params)
        except ValueError:  # a function in C that does not say what it takes
            return
        except TypeError as error:
            pytest.fail(f"kernel {name!r} does not take what the standard's function takes: {error}")

    @over("name, dtype", lambda b: [(n, d) for n in alone(b) for d in floats(b)])
    def test_kernel_values(self, b: Backend, name: str, dtype: str) -> None:
        """A kernel gives the fallback's values on every layout, and changes only what an update may."""
        kernel, d = b.kernels[name], dt.dtype(dtype)
        plain = PlainNamespace(b)
        for number, (draw, params) in enumerate(_arguments(name, d)):
            for layout in ("C", "transposed"):
                host = draw(Draw(name, number))
                given, kept, expected_of = (_arranged(b, host, d, layout) for _ in range(3))
                expected = getattr(plain, name)(*expected_of, **params)
                got = kernel(*given, **params)
                what = f"{name}, sample {number}, {layout} layout"
                if any(name == first for first, _ in pairs_of(b)):  # the residual is the backend's own
                    got, expected = got[0], expected[0]
                if name in OBSERVED:
                    _same_decomposition(b, name, got, expected, 4 * TOLERANCE[dtype], what)
                else:
                    _same(b, got, expected, tolerance_of(name, dtype), what)
                may_change = UPDATES.get(name, ()) if b.writable else ()
                for i, (now, before) in enumerate(zip(given, kept)):
                    if i not in may_change:
                        _same(b, now, before, 0.0, f"{what}: argument {i} was changed")

    @over("first, second, dtype", lambda b: [(*pair, d) for pair in pairs_of(b) for d in floats(b)])
    def test_kernel_pairs(self, b: Backend, first: str, second: str, dtype: str) -> None:
        """A kernel that is given what another one returned for it gives the fallback's values, on every layout."""
        plain, d = PlainNamespace(b), dt.dtype(dtype)
        own = b.kernels[first], b.kernels[second]
        fallback = getattr(plain, first), getattr(plain, second)
        more = [{} if name in (FORWARD[0], BACKWARD[0]) else {"dtype": NARROW} for name in (first, second)]
        for number, case in enumerate(ATTENDED):
            for layout in ("C", "transposed"):
                found: list[Args] = []
                for forward, gradients in (fallback, own):
                    g, *inputs = given = _arranged(b, case.draw(Draw(first, number)), d, layout)
                    out, residual = forward(*inputs, scale=0.7, causal=case.causal, **more[0])
                    for _ in range(2):  # what is kept stays as it is
                        made = gradients(g, *inputs[:3], residual, 0.7, case.causal, case.has_bias, **more[1])
                    found.append((out, *made))
                what = f"{first} and {second}, {case}, {layout} layout"
                expected, got = found
                _same(b, got, expected, max(tolerance_of(first, dtype), tolerance_of(second, dtype)), what)
                kept = _arranged(b, case.draw(Draw(first, number)), d, layout)
                _same(b, given, kept, 0.0, f"{what}: an argument was changed")

    @over("name", lambda b: [name for name in UPDATES if name in b.kernels])
    def test_updates_in_a_row(self, b: Backend, name: str) -> None:
        """What an update returns is what the next one takes; the gradient survives both."""
        kernel, d = b.kernels[name], dt.float32
        plain = PlainNamespace(b)
        for number, (draw, _) in enumerate(_arguments(name, d)):
            args = list(_arranged(b, draw(Draw(name, number)), d, "C"))
            expected = list(_arranged(b, draw(Draw(name, number)), d, "C"))
            for _ in range(3):
                for place, value in zip(UPDATES[name], kernel(*args)):
                    args[place] = value
                for place, value in zip(UPDATES[name], getattr(plain, name)(*expected)):
                    expected[place] = value
            _same(b, tuple(args), tuple(expected), 1e-4, f"{name}, sample {number}, three steps")


def _arguments(name: str, d: dt.DType) -> list[tuple[Callable[[Draw], Args], dict[str, Any]]]:
    plain = name.removeprefix("rounded_")
    if plain != name and plain in ROUNDED:
        return [(draw, {**params, "dtype": NARROW}) for draw, params in _arguments(plain, d)]
    if name in KERNEL_SAMPLES:
        return [(draw, {}) for draw in KERNEL_SAMPLES[name]]
    floats: list[Sample] = [s for s in samples(name) if s.kind == "float" and "dtype" not in s.params]
    return [(s.draw, s.params) for s in floats if s.half or d.itemsize > 2]


def _arranged(b: Backend, obj: Any, d: dt.DType, layout: str) -> Any:
    """Host arguments on the backend: floating-point arrays in the dtype and layout under test."""
    if isinstance(obj, tuple):
        return tuple(_arranged(b, item, d, layout) for item in obj)
    if not isinstance(obj, np.ndarray | np.generic):
        return obj
    obj = np.asarray(obj)
    dtype = d if obj.dtype.kind == "f" else None
    if layout == "C" or obj.ndim < 2:
        return b.asarray(obj, dtype=dtype, copy=True)
    axes = tuple(range(obj.ndim))[::-1]
    return b.xp.permute_dims(b.asarray(np.ascontiguousarray(obj.transpose(axes)), dtype=dtype, copy=True), axes)


def _same(b: Backend, got: Any, expected: Any, tolerance: float, what: str) -> None:
    if isinstance(expected, tuple):
        assert isinstance(got, tuple), what
        assert len(got) == len(expected), what
        for x, y in zip(got, expected):
            _same(b, x, y, tolerance, what)
    elif b.owns(expected):
        assert b.owns(got), f"{what}: {b.name!r} does not own the result, a {type(got)}"
        assert b.dtype_of(got) is b.dtype_of(expected), f"{what}: dtype {got.dtype}, expected {expected.dtype}"
        close(on_host(b, got), on_host(b, expected), tolerance, what)
    else:
        assert got is expected or got == expected, what


def _same_decomposition(b: Backend, name: str, got: Any, expected: Any, tolerance: float, what: str) -> None:
    assert [(b.dtype_of(x), x.shape) for x in got] == [(b.dtype_of(x), x.shape) for x in expected], what
    sides = [observed(name, np, tuple(on_host(b, x) for x in outs)) for outs in (got, expected)]
    for x, y in zip(*sides):
        close(x, y, tolerance, what)
