"""What only a GPU can tell of the CUDA backend: graphs of real streams, memory that is handed out again, halves.

`pytest -m cuda`; skipped, with the reason, where there is none. The conformance kit is in test_conformance.py.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import framework as fw
from framework import random
from framework.autodiff.namespace import namespace_of
from framework.autodiff.tracing import graph, on_arrays
from framework.backend import registry
from framework.errors import BackendError
from framework.nn import functional as F

pytestmark = pytest.mark.cuda

NAME = os.environ.get("FW_TEST_CUDA_BACKEND", "cuda")
"""Another backend's name is for trying these tests themselves."""


@pytest.fixture
def backend():
    try:
        return registry.get(NAME)
    except BackendError as error:
        pytest.skip(str(error))


def step(x, targets, *params):
    def loss(w1, b1, w2, b2):
        return F.cross_entropy(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2), targets)

    return fw.value_and_grad(loss, argnums=(0, 1, 2, 3))(*params)


def drawn(backend, seed: int, *shapes: tuple[int, ...]):
    rng = np.random.default_rng(seed)
    return [fw.tensor(rng.standard_normal(shape).astype("float32"), backend=backend) for shape in shapes]


def test_a_hundred_replays_equal_eager_under_other_allocations(backend) -> None:
    params = drawn(backend, 0, (300, 784), (300,), (10, 300), (10,))
    labels = fw.tensor(np.arange(128) % 10, backend=backend)
    run = backend.capture(
        on_arrays(graph(step, *drawn(backend, 1, (128, 784)), labels, *params), namespace_of(backend))
    )
    kept = []
    for i in range(103):
        (x,) = drawn(backend, i, (128, 784))
        given = (x, labels, *params)
        outputs = run(*(t._data for t in given))
        churn = [fw.numpy.ones((n, 1000), backend=backend) * float("nan") for n in range(1, 400, 13)]
        loss, gradients = step(*given)
        for got, expected in zip(outputs, (loss, *gradients), strict=True):
            np.testing.assert_allclose(backend.to_numpy(got), expected.numpy(), rtol=1e-4, atol=1e-5)
        kept.append((outputs[0], loss.item()))
        del churn
    for output, value in kept:  # results are their receiver's own
        np.testing.assert_allclose(backend.to_numpy(output), value, rtol=1e-5)
    assert not run.reason, run.reason
    assert run.launches >= 99


def test_dropout_draws_the_hosts_numbers(backend) -> None:
    device = random.bernoulli(0.3, (1000, 777), backend=NAME, generator=random.Generator(5))
    host = random.bernoulli(0.3, (1000, 777), backend="cpu", generator=random.Generator(5))
    np.testing.assert_array_equal(device.numpy(), host.numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_float32_within_rounding(backend, dtype: str) -> None:
    if dtype not in [d.name for d in backend.dtypes]:
        pytest.skip(f"{NAME!r} does not offer {dtype}")
    x, w, b = drawn(backend, 0, (64, 128), (96, 128), (96,))

    def network(x, w, b):
        return F.layer_norm(F.relu(F.linear(x, w, b)), (96,))

    exact = network(x, w, b).numpy()
    rounded = network(*(t.to(dtype=dtype) for t in (x, w, b))).to(dtype="float32").numpy()
    np.testing.assert_allclose(rounded, exact, atol=0.15)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_halves_is_that_of_the_cpu_within_rounding(backend, causal: bool) -> None:
    if "float16" not in [d.name for d in backend.dtypes]:
        pytest.skip(f"{NAME!r} does not offer float16")
    found = {}
    for name, dtype in (("cpu", "float32"), (NAME, "float16")):
        q, k, v, g = [t.to(dtype="float16") for t in drawn(registry.get("cpu"), 0, *[(2, 4, 64, 32)] * 4)]
        q, k, v, g = [t.to(device=name, dtype=dtype) for t in (q, k, v, g)]
        given = [fw.tensor(t, requires_grad=True) for t in (q, k, v)]
        out = F.scaled_dot_product_attention(*given, is_causal=causal)
        (out * g).sum().backward()
        found[name] = [t.to(dtype="float32").numpy() for t in (out.detach(), *[t.grad for t in given])]
    for ours, expected in zip(found[NAME], found["cpu"], strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-2)


class Captured:
    """What a backend has made of the programs that it was given."""

    def __init__(self, backend, monkeypatch) -> None:
        self.whole = []
        real = type(backend).capture

        def capture(backend, program):
            run = real(backend, program)
            if program.state:
                self.whole.append(run)
            return run

        monkeypatch.setattr(type(backend), "capture", capture)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("make", [fw.optim.SGD, fw.optim.AdamW, fw.optim.Rprop])
def test_a_whole_step_is_one_graph_and_equals_eager(backend, make, clip, tmp_path, monkeypatch) -> None:
    captured = Captured(backend, monkeypatch)

    class Net(fw.TrainModule):
        def __init__(self):
            super().__init__()
            self.net = fw.nn.Sequential(fw.nn.Linear(784, 300), fw.nn.ReLU(), fw.nn.Linear(300, 10))

        def training_step(self, batch, batch_idx):
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            arguments = {"momentum": 0.9} if make is fw.optim.SGD else {}
            optimizer = make(self.parameters(), lr=1e-3, **arguments)
            scheduler = fw.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    rng = np.random.default_rng(0)
    data = fw.data.ArrayDataset(rng.standard_normal((2560, 784)).astype("float32"), rng.integers(0, 10, 2560))
    found = []
    for compiled in (False, True):
        fw.seed_everything(0)
        module = Net()
        trainer = fw.Trainer(
            backend=NAME, compile=compiled, max_epochs=2, gradient_clip_val=clip, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, fw.data.DataLoader(data, 128))
        found.append({name: value.numpy() for name, value in module.state_dict().items()})
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    (run,) = captured.whole
    if hasattr(run, "launches"):
        assert not run.reason, run.reason
        assert run.launches >= 30  # of 40 steps


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_training_reaches_the_accuracy_of_the_cpu(backend, tmp_path, precision: str) -> None:
    if precision == "bf16-mixed" and "bfloat16" not in [d.name for d in backend.dtypes]:
        pytest.skip(f"{NAME!r} does not offer bfloat16")

    class Net(fw.TrainModule):
        def __init__(self):
            super().__init__()
            self.net = fw.nn.Sequential(fw.nn.Linear(16, 64), fw.nn.ReLU(), fw.nn.Dropout(0.1), fw.nn.Linear(64, 4))

        def training_step(self, batch, batch_idx):
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return fw.optim.AdamW(self.parameters(), lr=1e-2)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2048, 16)).astype("float32")
    y = np.argmax(x[:, :4] + 0.5 * x[:, 4:8], axis=1)
    found = {}
    for name, how in (("cpu", "32-true"), (NAME, precision)):
        fw.seed_everything(0)
        module = Net()
        trainer = fw.Trainer(
            backend=name, precision=how, max_epochs=4, compile=True, gradient_clip_val=1.0, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, fw.data.DataLoader(fw.data.ArrayDataset(x, y), 64, shuffle=True, seed=0))
        module.eval()
        logits = module.net(fw.tensor(x, backend=registry.get(name))).detach().numpy()
        found[name] = float((logits.argmax(axis=1) == y).mean())
    assert found["cpu"] > 0.9
    assert abs(found[NAME] - found["cpu"]) < 0.02, found
