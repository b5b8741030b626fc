"""Kernels that share their blocks among threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from fw_cpu import activations, attention, convolution, normalization, pooling, sharing

import framework as fw

Array = Any
nn = fw.nn


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work is shared by three threads, whatever the machine has."""
    pool = sharing._Pool()
    monkeypatch.setattr(sharing, "_pool", pool)
    with sharing.held():
        pool.limit = 3
        yield


def test_every_block_is_done_once_and_by_several(shared: None) -> None:
    done: list[int] = []
    by: set[int] = set()

    def work(i: int) -> None:
        by.add(get_ident())
        np.ones(1 << 16).sum()
        done.append(i)

    for _ in range(20):
        sharing.each(work, range(50))
    assert sorted(done) == sorted([*range(50)] * 20)
    assert 1 < len(by) <= 3


def test_nothing_is_shared_outside() -> None:
    by: set[int] = set()
    sharing.each(lambda _: by.add(get_ident()), range(100))
    assert by == {get_ident()}


def test_work_within_work_is_not_shared_again(shared: None) -> None:
    done: list[tuple[int, int]] = []
    sharing.each(lambda i: sharing.each(lambda j: done.append((i, j)), range(4)), range(6))
    assert sorted(done) == [(i, j) for i in range(6) for j in range(4)]


@pytest.mark.parametrize("bad", [0, 7, 49])
def test_an_error_is_raised_and_the_threads_go_on(shared: None, bad: int) -> None:
    def work(i: int) -> None:
        if i == bad:
            raise ValueError(f"block {i}")

    for _ in range(5):
        with pytest.raises(ValueError, match=f"block {bad}"):
            sharing.each(work, range(50))
    done: list[int] = []
    sharing.each(done.append, range(50))
    assert sorted(done) == [*range(50)]


@pytest.mark.parametrize("helper", [0, 1])
def test_an_interrupt_while_the_threads_are_set_to_work(
    shared: None, monkeypatch: pytest.MonkeyPatch, helper: int
) -> None:
    def interrupted(fn: Callable[[], None]) -> Callable[[], None]:
        if len(begun) == helper:
            raise KeyboardInterrupt
        begun.append(fn)
        return fn

    sharing.each(lambda i: None, range(50))  # the threads are there
    begun: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "_in_context", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sharing.each(lambda i: None, range(50))
    for _ in range(5):
        done: list[int] = []
        sharing.each(done.append, range(50))
        assert sorted(done) == [*range(50)]


def test_what_floating_point_errors_do_holds_in_all_threads(shared: None) -> None:
    zeros = np.zeros(1 << 14)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        sharing.each(lambda _: np.divide(1.0, zeros), range(8))
    with np.errstate(divide="ignore"):
        sharing.each(lambda _: np.divide(1.0, zeros), range(8))  # warnings are errors here


def test_in_order(shared: None) -> None:
    assert list(sharing.in_order(lambda i: i * i, range(20))) == [i * i for i in range(20)]
    assert list(sharing.in_order(lambda i: i, [])) == []


def _threads() -> list[int]:
    return [x["num_threads"] for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas"]


def test_blas_has_its_threads_again_afterwards() -> None:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = _threads()
        with sharing.held(), sharing.held():
            within = _threads()
        assert _threads() == before
        with pytest.raises(ZeroDivisionError), sharing.held():
            raise ZeroDivisionError
        assert _threads() == before
    if any("numpy" in x["filepath"] for x in threadpoolctl.threadpool_info()):
        assert 1 in within


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "k", "n"), [(64, 32, 48), (5, 3, 2), (2, 4, 7), (1, 6, 1)])
def test_product(shared: None, monkeypatch: pytest.MonkeyPatch, transposed: bool, m: int, k: int, n: int) -> None:
    monkeypatch.setattr(sharing, "LARGE", 0)
    rng = np.random.default_rng(0)
    a, b, bias = rng.standard_normal((m, k)), rng.standard_normal((k, n)), rng.standard_normal(n)
    if transposed:
        a = np.asfortranarray(a)
    out = np.full((m, n), np.nan)
    sharing.product(a, b, out, bias)
    np.testing.assert_allclose(out, a @ b + bias, rtol=1e-12, atol=1e-12)
    sharing.product(a, b, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-12, atol=1e-12)


def _kernels() -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(1)

    def some(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    images, weight, one = some(24, 8, 20, 20), some(6, 8, 3, 3), some(8, 1, 3, 3)
    large, small = some(2, 16, 160, 160), some(4, 16, 3, 3)
    g, g_large = some(24, 6, 18, 18), some(2, 4, 158, 158)
    plain: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    windows = {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    q, k, v, up = (some(16, 4, 96, 16) for _ in range(4))
    w = attention.attention(q, k, v, None, scale=0.3, causal=True)[1]
    rows, row = some(40, 64, 96), some(96)
    moments = normalization.layer_norm(rows, row, row, axis=(-1,), eps=1e-5)[1]
    pooled = some(24, 8, 10, 10)
    return {
        "conv2d": lambda: convolution.conv2d(images, weight, some(6) * 0 + 1, **plain),
        "conv2d of few large ones": lambda: convolution.conv2d(large, small, None, **plain),
        "depthwise": lambda: convolution.conv2d(images, one, None, **{**plain, "groups": 8}),
        "conv2d_dx": lambda: convolution.conv2d_dx(g, weight, size=(20, 20), **plain),
        "conv2d_dx of few large ones": lambda: convolution.conv2d_dx(g_large, small, size=(160, 160), **plain),
        "conv2d_dw": lambda: convolution.conv2d_dw(g, images, kernel=(3, 3), **plain),
        "conv2d_dw of few large ones": lambda: convolution.conv2d_dw(g_large, large, kernel=(3, 3), **plain),
        "max_pool2d": lambda: pooling.max_pool2d(images, **windows),
        "max_pool2d_put": lambda: pooling.max_pool2d_put(pooled, images, **windows),
        "attention": lambda: attention.attention(q, k, v, None, scale=0.3, causal=True),
        "attention_grad": lambda: attention.attention_grad(up, q, k, v, w, 0.3, True, False),
        "attention of one sample": lambda: attention.attention(q[:1], k[:1], v[:1], None, scale=0.3, causal=True),
        "attention_grad of one": lambda: attention.attention_grad(up[:1], q[:1], k[:1], v[:1], w[:1], 0.3, True, False),
        "gelu": lambda: activations.gelu(rows * 2),
        "layer_norm": lambda: normalization.layer_norm(rows, row, row, axis=(-1,), eps=1e-5),
        "layer_norm_grad": lambda: normalization.layer_norm_grad(rows * 2, rows, *moments, row, (-1,)),
    }


def _flat(x: Any) -> list[Array]:
    return [a for part in x for a in _flat(part)] if isinstance(x, tuple) else [x]


@pytest.mark.parametrize("name", _kernels())
def test_kernels_give_the_same_bits_shared_or_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = _kernels()[name]
    for module in (convolution, attention, activations, normalization, pooling):
        monkeypatch.setattr(module, "_BLOCK", 1 << 15)  # so that there are many
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        want = _flat(kernel())
        pool = sharing._Pool()
        monkeypatch.setattr(sharing, "_pool", pool)
        runs: list[int] = []
        run = pool.run
        monkeypatch.setattr(pool, "run", lambda work, blocks: (runs.append(len(blocks)), run(work, blocks)))
        pool.hold()
        pool.limit = 3
        try:
            got = [_flat(kernel()) for _ in range(3)]
        finally:
            pool.release()
    assert max(runs) > 1
    for found in got:
        for a, b in zip(found, want, strict=True):
            np.testing.assert_array_equal(a, b)


def _network(kind: str) -> tuple[nn.Module, Array, Array]:
    rng = np.random.default_rng(2)
    if kind == "images":
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(16 * 121, 10),
        )  # fmt: skip
        return net, rng.standard_normal((64, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 64)
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, activation="gelu", batch_first=True)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(64 * 64, 10))
    return net, rng.standard_normal((64, 64, 64)).astype(np.float32), rng.integers(0, 10, 64)


@pytest.mark.parametrize("kind", ["images", "sequences"])
def test_compiled_steps_that_share_give_the_same_bits_as_eager_ones(kind: str) -> None:
    trained = []
    for compiled in (False, True):
        fw.seed_everything(0)
        net, x, y = _network(kind)
        optimizer = fw.optim.SGD(net.parameters(), lr=0.01)

        def step(x: Any, y: Any, net: Any = net, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        call = fw.compile(step) if compiled else step
        with threadpoolctl.threadpool_limits(2, user_api="blas"), fw.tensor(x).backend.sharing():
            losses = [float(call(fw.tensor(x), fw.tensor(y))) for _ in range(5)]
        assert not compiled or call.replayed == 3  # type: ignore[attr-defined]
        trained.append((losses, [p.detach().numpy() for p in net.parameters()]))
    (eager, weights), (replayed, replayed_weights) = trained
    assert replayed == eager
    for a, b in zip(replayed_weights, weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("convolves", [False, True])
def test_a_trainer_shares_where_there_is_a_layer_that_pays(convolves: bool, tmp_path: Path) -> None:
    limits: list[int] = []

    class Net(fw.TrainModule):
        def __init__(self) -> None:
            super().__init__()
            first = [nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)]
            self.net = nn.Sequential(*(first if convolves else [nn.Flatten(), nn.Linear(64, 2)]))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            limits.append(sharing._pool.limit)
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return fw.optim.SGD(self.parameters(), lr=0.1)

    data = fw.data.ArrayDataset(np.ones((4, 1, 8, 8), np.float32), np.zeros(4, np.int64))
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        blas = max(_threads())
        trainer = fw.Trainer(
            max_epochs=1, backend="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(Net(), fw.data.DataLoader(data, batch_size=4))
        assert max(_threads()) == blas
    assert limits == [min(blas, 2) if convolves else 1]
    assert sharing._pool.limit == 1


FORKED = """
import os
from fw_cpu import sharing

def done():
    found = []
    with sharing.held():
        sharing._pool.limit = 3
        sharing.each(found.append, range(20))
    return sorted(found) == [*range(20)]

assert done()
child = os.fork()
if not child:
    os._exit(0 if done() else 3)
assert os.waitpid(child, 0)[1] == 0 and done()
"""


NOTICED = """
import random, threading, warnings
import framework as fw
from fw_cpu import sharing

with sharing.held():
    sharing._pool.limit = 3
    sharing.each(len, ["a"] * 9)
assert threading.active_count() == 3
random.seed(3)
step = fw.compile(lambda x: x * 2 if random.random() < 0.2 else x)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(12):
        step(fw.tensor([1.0]))
(warned,) = caught
assert "Python's random is drawn from in the call" in str(warned.message)
"""


def test_the_threads_do_not_hide_a_draw_from_compile() -> None:
    subprocess.run([sys.executable, "-c", NOTICED], check=True, timeout=300)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=300)
