"""Every module and every optimizer: init, forward, backward, state dict, compile, on every backend that is installed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from registry_table import REGISTRY, Entry, assert_equal, backends, entries, numbers

import framework as fw
from framework import nn, optim

BACKENDS = backends()
ROWS = {"cpu": 1000}
"""How many rows of a name a backend runs where not everything is run; others a few."""
ABSTRACT = {"Module", "ModuleList", "ModuleDict", "Optimizer"}
each_name = pytest.mark.parametrize("name", sorted(REGISTRY))
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def test_the_table_is_complete() -> None:
    exported = {
        name
        for room, base in ((nn, nn.Module), (optim, optim.Optimizer))
        for name in dir(room)
        if isinstance(getattr(room, name), type) and issubclass(getattr(room, name), base)
    }
    assert set(REGISTRY) == exported - ABSTRACT
    assert {"cpu", "strict"} <= set(BACKENDS)


@each_backend
@each_name
def test_init_forward_backward_state_dict(name: str, backend: str) -> None:
    with fw.use_backend(backend):
        for entry in entries(name, ROWS.get(backend, 4)):
            check_entry(entry, backend)


def check_entry(entry: Entry, backend: str) -> None:
    fw.seed_everything(1)
    module, optimizer = entry.trained()
    start = numbers(*module.parameters())
    assert all(t.backend == backend for t in (*module.parameters(), *module.buffers()))
    given = entry.inputs(backend)
    out = entry.row.run(module, *given)
    assert (out.backend, out.dtype) == (backend, "float32")
    step = entry.step(module, optimizer)
    assert np.isfinite(step(*given).item())
    for x, a in zip(given, entry.row.inputs("float32")):
        np.testing.assert_array_equal(x.detach().numpy(), a, err_msg="an input was written")
    for p, before in zip(module.parameters(), start):
        assert (p.backend, p.dtype, p.shape) == (backend, "float32", before.shape)
        assert (p.grad.shape, p.grad.dtype) == (p.shape, "float32")
        assert np.isfinite(p.detach().numpy()).all()
        moved = (p.detach().numpy() != before).any()
        assert moved or not p.grad.detach().numpy().any() or entry.name in SLOW_STARTERS
    saved = module.state_dict(), optimizer and optimizer.state_dict()
    fw.seed_everything(2)
    other, twin = entry.trained()
    assert other.load_state_dict(saved[0]) == ([], [])
    if twin is not None:
        twin.load_state_dict(saved[1])
    assert_equal(numbers(*other.state_dict().values()), numbers(*saved[0].values()))
    more = entry.inputs(backend, seed=5)
    expected = [step(*more), *module.parameters(), *module.buffers()]
    assert_equal(numbers(entry.step(other, twin)(*more), *other.parameters(), *other.buffers()), numbers(*expected))


SLOW_STARTERS = {"Adadelta"}
"""Move by so little at first that a float32 may stay what it is."""


@each_name
def test_one_seed_one_start_on_every_backend(name: str) -> None:
    for entry in entries(name, 2):
        starts = []
        for backend in BACKENDS:
            with fw.use_backend(backend):
                fw.seed_everything(7)
                starts.append(numbers(*entry.module().state_dict().values()))
        for start in starts[1:]:
            assert_equal(start, starts[0])


@each_backend
@each_name
def test_compiled_equals_eager(name: str, backend: str) -> None:
    """Losses, parameters, gradients and buffers of four steps, recorded and replayed ones among them: bit for bit."""
    with fw.use_backend(backend):
        for entry in entries(name, 2 if backend == "cpu" else 1):
            check_compiled(entry, backend)


def check_compiled(entry: Entry, backend: str) -> None:
    runs: list[list[Any]] = []
    for compiled in (False, True):
        fw.seed_everything(3)
        module, optimizer = entry.trained()
        step = entry.step(module, optimizer)
        call = fw.compile(step) if compiled else step
        found: list[Any] = []
        with warnings.catch_warnings():
            if entry.reads:
                warnings.simplefilter("ignore")
            for seed in range(4):
                found += numbers(call(*entry.inputs(backend, seed)), *module.parameters(), *module.buffers())
                found += numbers(*[p.grad for p in module.parameters()])
        runs.append(found)
        if compiled and not entry.reads:
            decides = "100" in entry.row.kinds[-1]  # whether any target is ignored: two recordings, one for each answer
            assert call.replayed == 2 or decides
    if fw.backend.get(backend).synchronous:
        assert_equal(runs[1], runs[0])
    else:
        for a, b in zip(*runs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
