"""The JAX plugin: the conformance kit, training, compiled programs, and what it says where JAX is absent."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from bundled_beside import accuracy_after_one_epoch, make_known

import framework as fw
from framework.backend import registry
from framework.errors import BackendError
from framework.testing import BackendConformance

make_known("jax", "JaxBackend")


@pytest.fixture(scope="module", autouse=True)
def settings() -> Iterator[None]:
    """XLA compiles for thousands of small cases here: quickly is better than well. The switches are put back."""
    try:
        import jax
    except ImportError:
        yield
        return
    before = {name: jax.config.values[name] for name in ("jax_enable_x64", "jax_disable_most_optimizations")}
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


@pytest.mark.reference
class TestJax(BackendConformance):
    backend = "jax"
    optional = True
    one_in = (("test_forward", 30), ("test_kernel", 8), ("test_capture", 30), ("", 150))  # XLA compiles for each


@pytest.mark.reference
def test_one_epoch_of_the_main_config_reaches_the_accuracy_of_the_cpu(jax, mnist_root, tmp_path) -> None:
    found = {name: accuracy_after_one_epoch(name, mnist_root, tmp_path) for name in ("cpu", "jax")}
    assert found["cpu"] > 0.95
    assert abs(found["jax"] - found["cpu"]) < 0.005, found


@pytest.mark.reference
def test_a_compiled_step_is_one_xla_program(jax, monkeypatch) -> None:
    """A step is captured once, and what is replayed computes what eager steps do."""

    def step(w, x):
        loss, g = fw.value_and_grad(lambda w: ((x @ w) ** 2).mean())(w)
        return w - 0.1 * g, loss

    captured = []
    b = registry.get("jax")
    monkeypatch.setattr(b, "capture", lambda program: captured.append(program) or type(b).capture(b, program))
    compiled = fw.compile(step)
    start = fw.tensor(np.ones((3, 2), np.float32), backend="jax")
    x = fw.tensor(np.arange(12, dtype=np.float32).reshape(4, 3) / 10.0, backend="jax")
    w = expected = start
    for _ in range(5):
        w, loss = compiled(w, x)
        expected, expected_loss = step(expected, x)
        np.testing.assert_allclose(w.numpy(), expected.numpy(), rtol=1e-5)
        assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    assert len(captured) == 1


@pytest.mark.reference
def test_compiled_training_keeps_no_array_beside_parameters_and_state(jax) -> None:
    """Gradients are freed by zero_grad, and what an update replaces with it; what is held from before stays."""
    with fw.use_backend("jax"):
        fw.seed_everything(0)
        model = fw.nn.Linear(64, 64)
        optimizer = fw.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x = fw.random.normal((8, 64))
        others = sum(array.nbytes for array in jax.live_arrays() if array.size >= 64) - (64 * 64 + 64) * 4

        @fw.compile
        def step():
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        losses, found = [], []
        for _ in range(8):
            losses.append(step().item())
            optimizer.zero_grad()
            registry.get("jax").synchronize()
            found.append(sum(array.nbytes for array in jax.live_arrays() if array.size >= 64))
        kept, before = model.weight.detach(), model.weight.detach().numpy().copy()
        step()
        np.testing.assert_array_equal(kept.numpy(), before)
    assert step.replayed > 3
    assert losses == sorted(losses, reverse=True)
    parameters = (64 * 64 + 64) * 4
    assert len(set(found[3:])) == 1
    assert found[-1] - others < 2.5 * parameters  # they, their velocities, and what a replay has for constants


def test_without_jax_it_is_missing_and_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(BackendError, match=r"backend 'jax' needs JAX: pip install fw-jax"):
        registry._local["jax"]()
