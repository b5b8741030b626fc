"""Conformance: the same seed gives the same numbers on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from framework import random
from framework.backend import Backend, registry
from framework.backend import dtypes as dt
from framework.testing.kit import TOLERANCE, Kit, close, offered, on_host

FLOATS = [d.name for d in dt.DTYPES.values() if d.kind == "float"]


class RandomTests(Kit):
    """Random Tensors."""

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("kind", ["normal", "uniform"])
    def test_random_floats(self, b: Backend, kind: str, dtype: str) -> None:
        """Numbers come in the dtype and shape asked for, and are the host stream's, as on the CPU bit for bit."""
        d = offered(b, dtype)
        made = getattr(random, kind)((3, 5), dtype=d, backend=b.name, generator=random.Generator(3))
        expected = getattr(random.Generator(3).host, kind)((3, 5))
        assert (made.backend, made.dtype, made.shape) == (b.name, d, (3, 5))
        close(on_host(b, made._data), expected, TOLERANCE[dtype], kind)
        if d in registry.get("cpu").dtypes:
            on_cpu = getattr(random, kind)((3, 5), dtype=d, backend="cpu", generator=random.Generator(3))
            np.testing.assert_array_equal(made.numpy(), on_cpu.numpy())

    def test_random_integers(self, b: Backend) -> None:
        """Integers and permutations equal the host stream's."""
        g = random.Generator(3)
        np.testing.assert_array_equal(
            random.integers(-4, 9, (20,), backend=b.name, generator=g).numpy(),
            random.Generator(3).host.integers(-4, 9, (20,)),
        )
        assert sorted(random.permutation(9, backend=b.name, generator=g).tolist()) == list(range(9))

    @pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
    def test_random_bernoulli(self, b: Backend, p: float) -> None:
        """Ones and zeros are the host stream's, wherever they are made, and the stream goes on behind them."""
        for d in (dt.float32, dt.bool_):
            g, host = random.Generator(3), random.Generator(3).host
            made = random.bernoulli(p, (3, 50), dtype=d, backend=b.name, generator=g)
            assert (made.backend, made.dtype, made.shape) == (b.name, d, (3, 50))
            np.testing.assert_array_equal(on_host(b, made._data) != 0, host.uniform((3, 50)) < p)
            then = random.integers(0, 2**40, (5,), backend=b.name, generator=g)
            np.testing.assert_array_equal(then.numpy(), host.integers(0, 2**40, (5,)))

    def test_random_streams_continue(self, b: Backend) -> None:
        """A generator continues from its saved state, and two draws differ."""
        g = random.Generator(5)
        first = random.normal((4,), backend=b.name, generator=g)
        state = g.state_dict()
        second = random.normal((4,), backend=b.name, generator=g)
        g.load_state_dict(state)
        again = random.normal((4,), backend=b.name, generator=g)
        assert second.tolist() == again.tolist() != first.tolist()
