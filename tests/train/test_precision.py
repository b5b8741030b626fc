"""Mixed precision: rounded products, and the scale of the loss."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff.rounding import products_rounded
from framework.backend import registry
from framework.callbacks import Callback
from framework.errors import ConfigError, NonFiniteError
from framework.nn import functional as F
from framework.train.precision import FIRST, LossScaler

# NumPy says so where a number is too large; the framework's own filter is not there under pytest.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


class Line(fw.TrainModule):
    """A linear layer; its loss is multiplied by a factor, and infinite at one step where that is wanted."""

    def __init__(self, factor: float = 1.0, lr: float = 0.05, infinite_at: int | None = None) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(3, 1)
        self.factor, self.lr, self.infinite_at = factor, lr, infinite_at

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = F.mse_loss(self.layer(x)[:, 0], y) * self.factor
        if self.infinite_at is not None and self.trainer.global_step == self.infinite_at:
            loss = loss * np.inf
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Scales(Callback):
    """Takes down the scale, and the weights, after each batch."""

    def __init__(self) -> None:
        self.scales: list[float] = []
        self.weights: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.scales.append(trainer._fit.window.scaler.current().item())
        self.weights.append(pl_module.layer.weight.detach().numpy().copy())


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(**arguments: Any) -> fw.Trainer:
        quiet = {
            "backend": "cpu", "max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False,
            "enable_checkpointing": False, "default_root_dir": tmp_path, "precision": "16-mixed",
        }  # fmt: skip
        return fw.Trainer(**{**quiet, **arguments})

    return make


def loader(n: int = 48, batch_size: int = 8) -> fw.data.DataLoader:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, x @ np.float32([1.0, -2.0, 0.5])), batch_size)


# -- products --------------------------------------------------------------------------------------


def test_products_are_of_rounded_operands_and_all_else_is_float32() -> None:
    rng = np.random.default_rng(0)
    x, w, b = (fw.tensor(rng.standard_normal(s).astype("float32"), requires_grad=True) for s in ((5, 4), (3, 4), (3,)))

    def half(a: Any) -> Any:
        return np.asarray(a.detach().numpy()).astype("float16").astype("float32")

    with products_rounded(registry.get("cpu"), "float16"):
        y = F.linear(x, w, b)
        y.sum().backward()
        assert y.dtype == fw.float32
        np.testing.assert_allclose(y.detach().numpy(), half(x) @ half(w).T + b.detach().numpy(), rtol=1e-6)
        product = (x.detach() @ w.detach().T).numpy()
        np.testing.assert_allclose(product, half(x) @ half(w).T, rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), np.ones((5, 3), np.float32) @ half(w), rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), np.ones((3, 5), np.float32) @ half(x), rtol=1e-6)
    exact = (x.detach() @ w.detach().T).numpy()
    assert not np.array_equal(exact, product)
    np.testing.assert_allclose(exact, x.detach().numpy() @ w.detach().numpy().T, rtol=1e-6)


def test_products_of_other_dtypes_are_not_rounded() -> None:
    x = fw.tensor(np.array([[1.0 + 2.0**-20]]), dtype="float64")
    with products_rounded(registry.get("cpu"), "float16"):
        assert (x @ x).item() == (1.0 + 2.0**-20) ** 2


def test_convolution_and_attention_round_too() -> None:
    small = 2.0**-14
    x, w = fw.numpy.ones((1, 1, 3, 3)) + small, fw.numpy.ones((1, 1, 3, 3))
    q = fw.numpy.ones((2, 4)) + small
    with products_rounded(registry.get("cpu"), "float16"):
        assert F.conv2d(x, w).item() == 9.0
        np.testing.assert_array_equal(F.scaled_dot_product_attention(q, q, q).numpy(), np.ones((2, 4)))
    assert F.conv2d(x, w).item() > 9.0


def test_an_overflow_is_an_infinity() -> None:
    x = fw.tensor([[70000.0]])
    with products_rounded(registry.get("cpu"), "float16"):
        assert (x @ fw.tensor([[1.0]])).item() == np.inf
    assert (x @ fw.tensor([[1.0]])).item() == 70000.0


# -- the scale -------------------------------------------------------------------------------------


def test_training_is_that_of_float32_within_rounding(trainer: Any) -> None:
    found = {}
    for precision in ("32-true", "16-mixed"):
        fw.seed_everything(0)
        module = Line()
        trainer(precision=precision, max_epochs=5).fit(module, loader())
        found[precision] = module.layer.weight.detach().numpy()
    np.testing.assert_allclose(found["16-mixed"], found["32-true"], atol=5e-3)
    assert not np.array_equal(found["16-mixed"], found["32-true"])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_overflow_skips_the_update_and_halves_the_scale(trainer: Any, compiled: bool, accumulate: int) -> None:
    """The gradient overflows at a scale of 2^16, and no more at some smaller one."""
    fw.seed_everything(0)
    module, seen = Line(10.0, lr=1e-3), Scales()
    before = module.layer.weight.detach().numpy().copy()
    run = trainer(callbacks=[seen], compile=compiled, accumulate_grad_batches=accumulate, max_epochs=3)
    run.fit(module, loader())
    updates = seen.scales[accumulate - 1 :: accumulate]
    assert updates[0] == FIRST / 2
    assert updates[-1] < FIRST / 2
    assert np.array_equal(seen.weights[accumulate - 1], before)
    weights = seen.weights[accumulate - 1 :: accumulate]
    for (last_scale, last), (scale, after) in pairwise(zip(updates, weights)):
        assert np.array_equal(after, last) == (scale < last_scale)
    assert np.isfinite(seen.weights[-1]).all()
    assert not np.array_equal(seen.weights[-1], before)


def test_the_scale_cancels(trainer: Any) -> None:
    """Scales are powers of two: without an overflow, or products at all, the update is the same to the bit."""

    class Plain(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return F.mse_loss((x * self.layer.weight).sum(axis=-1), y)

    found = []
    for precision in ("32-true", "16-mixed"):
        fw.seed_everything(0)
        module = Plain()
        trainer(precision=precision, gradient_clip_val=0.1).fit(module, loader())
        found.append(module.layer.weight.detach().numpy())
    np.testing.assert_array_equal(*found)


def test_a_loss_that_is_not_finite_stops_the_training(trainer: Any) -> None:
    module = Line(infinite_at=2)
    with pytest.raises(NonFiniteError, match=r"step 3: the loss is (inf|nan)"):
        trainer().fit(module, loader())


def test_gradients_that_no_scale_helps_stop_the_training(trainer: Any) -> None:
    class Steep(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return (self.layer.weight * 3e35).sum()

    with pytest.raises(NonFiniteError, match="a smaller one does not help. None of them was applied"):
        trainer(max_epochs=20).fit(Steep(), loader())


def test_the_scale_grows_and_is_saved_and_resumed(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LossScaler.__init__, "__defaults__", (256.0, 4))
    fw.seed_everything(0)
    whole, seen = Line(), Scales()
    run = trainer(callbacks=[seen], max_epochs=3)
    run.fit(whole, loader())
    assert [a for a, b in zip(seen.scales, [0.0, *seen.scales]) if a != b] == [256.0, 512.0, 1024.0, 2048.0, 4096.0]
    fw.seed_everything(0)
    first = trainer(max_epochs=2, enable_checkpointing=True)
    first.fit(Line(), loader())
    resumed, again = Line(), Scales()
    last = trainer(callbacks=[again], max_epochs=3, enable_checkpointing=True)
    last.fit(resumed, loader(), ckpt_path=first.checkpoint_callback.best_model_path)
    assert again.scales == seen.scales[12:]
    np.testing.assert_array_equal(resumed.layer.weight.detach().numpy(), whole.layer.weight.detach().numpy())


def test_on_a_device_nobody_waits_and_the_same_happens(far: str) -> None:
    """Notes, halvings and growth on a backend that is not synchronous, without reading anything between."""
    b = registry.get(far)
    scaler = LossScaler(b, far, first=8.0, interval=2)
    flags = [True, True, False, True, True, True]
    for step, flag in enumerate(flags):
        scaler.note(b.asarray(flag), step)
        scaler.current()
    assert scaler.state_dict() == {"scale": 16.0, "good": 1}
    scaler.note(b.asarray(True), 9)
    scaler.note(b.asarray(False), 9)  # asked about again, after a module's own clipping
    assert scaler.state_dict() == {"scale": 8.0, "good": 0}
    other = LossScaler(b, far)
    other.load_state_dict(scaler.state_dict())
    assert other.current().item() == 8.0


# -- refusals --------------------------------------------------------------------------------------


def test_what_does_not_go_with_a_scaled_loss_is_refused(trainer: Any) -> None:
    class Own(Line):
        automatic_optimization = False

    class Whole(Line):
        def configure_optimizers(self) -> Any:
            return fw.optim.LBFGS(self.parameters())

    cases = [
        (Own(), {}, "automatic_optimization = False"),
        (Whole(), {}, "LBFGS evaluates the loss itself"),
        (Line(), {"detect_anomaly": True}, "detect_anomaly=True would stop"),
    ]
    for module, arguments, reason in cases:
        with pytest.raises(ConfigError, match=reason):
            trainer(**arguments).fit(module, loader())


def test_a_backend_without_the_dtype_is_refused_by_name(far: str) -> None:
    with pytest.raises(ConfigError, match=r"needs float16, which 'far' does not offer here; .* 32-true, 64-true"):
        fw.Trainer(backend=far, precision="16-mixed", max_epochs=1)


@pytest.mark.parametrize(
    ("first", "then"), [("16-mixed", "32-true"), ("32-true", "16-mixed"), ("16-mixed", "16-mixed")]
)
def test_half_a_window_counts_as_much_in_another_precision(trainer: Any, tmp_path: Path, first: str, then: str) -> None:
    class Saves(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "half")

    whole, again = Line(), Line()
    trainer(precision=first, accumulate_grad_batches=2, callbacks=[Saves()]).fit(whole, loader())
    trainer(precision=then, accumulate_grad_batches=2).fit(again, loader(), ckpt_path=tmp_path / "half")
    np.testing.assert_allclose(
        again.layer.weight.detach().numpy(), whole.layer.weight.detach().numpy(), rtol=0 if first == then else 2e-3
    )
