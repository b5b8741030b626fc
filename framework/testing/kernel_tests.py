"""Conformance: a backend's `kernels` have the contract's names and signatures, and the fallback's values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from framework.autodiff import PRIMITIVES
from framework.autodiff.namespace import RawNamespace, namespace_of
from framework.backend import KERNELS, Backend
from framework.backend import dtypes as dt
from framework.backend.kernels import IN_PLACE
from framework.testing.kernel_samples import ATTENDED, KERNEL_SAMPLES, Args
from framework.testing.kit import TOLERANCE, Kit, close, on_host, over, parameters_of
from framework.testing.samples import Draw, Sample, observed, samples
from framework.testing.samples_linear import OBSERVED

UPDATES = {
    "sgd_update": (0, 2), "adam_update": (0, 2, 3), "rprop_update": (0, 2, 3),
    "sgd_step": (0, 2), "adam_step": (0, 2, 3), "rprop_step": (0, 2, 3),
}  # fmt: skip
"""Performance names of updates, and which of their arguments they may write; these they return."""

WRITERS = {**UPDATES, "scaled_to_norm": (0,)}
"""All that may write in place."""

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


KNOWN = {*KERNELS, *PRIMITIVES, *IN_PLACE}


def offered_kernels(b: Backend) -> list[str]:
    """The names in `kernels` that the framework knows."""
    return sorted((KNOWN - set(IN_PLACE)) & set(b.kernels))


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

    @over("name", lambda b: sorted(KNOWN & set(b.kernels)))
    def test_kernel_signature(self, b: Backend, name: str) -> None:
        """A kernel takes what the reference takes, under the same names, without the namespace in front."""
        kernel = b.kernels[name]
        fallback = KERNELS.get(name) or IN_PLACE.get(name) or PRIMITIVES[name].forward
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
                may_change = WRITERS.get(name, ()) if b.writable else ()
                for i, (now, before) in enumerate(zip(given, kept)):
                    if i not in may_change:
                        _same(b, now, before, 0.0, f"{what}: argument {i} was changed")

    def test_parts_of_a_whole_are_filled(self, b: Backend) -> None:
        """Values go to parts that share the memory of a whole, wherever they come from, and nothing else changes."""
        if not b.writable or type(b).buffer is Backend.buffer:
            pytest.skip("the backend has no buffers that are written in place")
        fill = b.kernels.get("fill_parts") or partial(IN_PLACE["fill_parts"], namespace_of(b))
        d, device = dt.float32, b.devices[0]
        values = [b.asarray(np.full(shape, 2.0 + i), dtype=d) for i, shape in enumerate([(2, 3), (), (4,), (0,)])]
        values[2:3] = [b.xp.permute_dims(b.asarray([[5.0, 6.0], [7.0, 8.0]], dtype=d), (1, 0))]
        whole = b.buffer(20, b.native(d.name), device)
        parts = [b.segment(whole, start, value) for start, value in zip((0, 8, 12, 18), values)]
        values[1] = parts[1]
        made = fill(whole, *parts, *values)
        assert b.owns(made)
        close(on_host(b, made), on_host(b, whole), 0.0, "the whole that is returned")
        for part, value in zip(parts, values):
            close(on_host(b, part), on_host(b, value), 0.0, "a part")
        assert sorted(on_host(b, whole)) == [*[0.0] * 10, *[2.0] * 6, 5.0, 6.0, 7.0, 8.0]

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
