"""Layers, losses and optimizers stay inside the standard, and train alike on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import framework as fw

OPTIMIZERS = {
    "sgd": lambda p: fw.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: fw.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "rprop": lambda p: fw.optim.Rprop(p, lr=0.01),
    "adam": lambda p: fw.optim.Adam(p, lr=0.01, weight_decay=1e-3),
    "adamw": lambda p: fw.optim.AdamW(p, lr=0.01),
}


def data() -> tuple[np.ndarray, np.ndarray]:
    g = fw.random.Generator(7)
    x = g.host.normal((24, 6)).astype(np.float32)
    return x, (x[:, :3].argmax(axis=1)).astype(np.int64)


def trained(device: str, optimizer: str, steps: int = 8) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses and final weights of a small network."""
    fw.seed_everything(3)
    nn = fw.nn
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model.to(device)
    x, y = (fw.tensor(a, device=device) for a in data())
    opt = OPTIMIZERS[optimizer](model.parameters())
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert all(p.device == device for p in model.parameters())
    return losses, {name: value.detach().numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", ["strict", "strict:1"])
def test_training_is_the_same_on_every_backend(device: str, optimizer: str) -> None:
    losses, weights = trained(device, optimizer)
    expected_losses, expected = trained("cpu", optimizer)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert losses[-1] < losses[0]
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_dropout_works_inside_the_standard() -> None:
    x = fw.tensor(np.ones((40, 25), np.float32), device="strict:1", requires_grad=True)
    out = fw.nn.Dropout(0.5)(x)
    out.sum().backward()
    assert out.device == x.grad.device == "strict:1"
    assert set(np.unique(out.detach().numpy())) == {0.0, 2.0}
    np.testing.assert_array_equal(x.grad.numpy(), out.detach().numpy())


def test_the_same_seed_starts_the_same_on_every_backend() -> None:
    starts = []
    for backend in ("cpu", "strict"):
        fw.seed_everything(11)
        with fw.use_backend(backend):
            layer = fw.nn.Linear(5, 4)
        assert layer.weight.backend == backend
        starts.append([p.detach().numpy() for p in layer.parameters()])
    for a, b in zip(*starts):
        np.testing.assert_array_equal(a, b)


class Classifier(fw.TrainModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = fw.nn.Linear(6, 3)
        self.accuracy = fw.metrics.Accuracy()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = fw.nn.functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.accuracy.update(self.net(x), y)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self):
        optimizer = fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def test_the_trainer_runs_inside_the_standard(tmp_path) -> None:
    found = {}
    for backend in ("cpu", "strict"):
        fw.seed_everything(0)
        trainer = fw.Trainer(
            max_epochs=2,
            backend=backend,
            default_root_dir=tmp_path / backend,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Classifier()
        loaders = [fw.data.DataLoader(fw.data.ArrayDataset(*data()), batch_size=8, shuffle=s) for s in (True, False)]
        trainer.fit(module, *loaders)
        assert module.net.weight.backend == backend
        found[backend] = (dict(trainer.callback_metrics), module.net.weight.detach().numpy())
    assert found["cpu"][0].keys() == found["strict"][0].keys() >= {"train_loss", "val_accuracy"}
    for name, value in found["cpu"][0].items():
        assert found["strict"][0][name] == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(found["strict"][1], found["cpu"][1], rtol=1e-4, atol=1e-5)
