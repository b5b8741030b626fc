"""Small runs of a Trainer whose whole step, the update included, is one program on backends that ask for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import framework as fw
from framework.backend import Backend, Program


class OnHost(Backend):
    """NumPy's arrays; a program is interpreted, and what was given away is spoilt."""

    name = "whole_on_host"
    captures_updates = True
    xp = np
    calls = whole = 0
    programs: ClassVar[list[Program]] = []

    def asarray(self, obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        return np.array(obj, dtype=None if dtype is None else getattr(np, dtype.name), copy=copy)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray | np.generic)

    def synchronize(self) -> None:
        pass

    def capture(self, program: Program) -> Callable[..., tuple[Any, ...]]:
        type(self).programs.append(program)
        given = [program.inputs.index(n) for n in program.state_in]

        def replay(*arrays: Any, into: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
            type(self).calls += 1
            type(self).whole += bool(program.state)
            outputs = [np.array(a) for a in program.run(*arrays)]
            for i in given:
                arrays[i][...] = np.nan if arrays[i].dtype.kind == "f" else 0
            for j, target in enumerate(into or ()):
                if target is not None and self.writable:
                    target[...] = outputs[j]
                    outputs[j] = target
            return tuple(outputs)

        return replay


class WritableOnHost(OnHost):
    """The same, written in place; parameters have homes."""

    name = "whole_writable"
    writable = True
    calls = whole = 0
    programs: ClassVar[list[Program]] = []

    def buffer(self, size: int, native: Any, device: str) -> Any:
        return np.zeros(size, native)

    def segment(self, buffer: Any, start: int, like: Any) -> Any:
        return np.ndarray(like.shape, buffer.dtype, memoryview(buffer), start * buffer.itemsize)


class Net(fw.TrainModule):
    """Two layers; what else there is depends on the feature."""

    def __init__(self, feature: str, make: str) -> None:
        super().__init__()
        self.feature, self.make = feature, make
        nn = fw.nn
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        if feature == "tied":
            self.second.weight = self.first.weight
        if feature == "buffers":
            self.norm = nn.BatchNorm1d(6)
        if feature == "frozen":
            self.second.weight.requires_grad_(False)

    def training_step(self, batch, batch_idx):
        x, y = batch
        if self.feature == "bounded":
            with fw.no_grad():
                self.first.weight.assign(self.first.weight.detach() * 0.9)
        h = fw.numpy.tanh(self.second(fw.nn.functional.relu(self.first(x))))
        if self.feature == "buffers":
            h = self.norm(h)
        loss = fw.nn.functional.cross_entropy(self.last(h), y)
        self.log("loss", loss, prog_bar=False)
        return loss

    def configure_optimizers(self):
        p = list(self.parameters())
        groups: Any = p
        if self.feature == "groups":
            groups = [{"params": p[:3]}, {"params": p[3:], "lr": 0.02, "maximize": True}]
        optimizer = {
            "sgd": lambda: fw.optim.SGD(groups, lr=0.1),
            "momentum": lambda: fw.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
            "nesterov": lambda: fw.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
            "adam": lambda: fw.optim.Adam(groups, lr=0.02, weight_decay=0.01),
            "adamw": lambda: fw.optim.AdamW(groups, lr=0.02),
            "rprop": lambda: fw.optim.Rprop(groups, lr=0.01),
            "amsgrad": lambda: fw.optim.Adam(groups, lr=0.02, amsgrad=True),
            "lion": lambda: fw.optim.Lion(groups, lr=0.01),
        }[self.make]()
        scheduler = fw.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def data(n: int = 40) -> fw.data.ArrayDataset:
    rng = np.random.default_rng(1)
    return fw.data.ArrayDataset(rng.standard_normal((n, 6)).astype("float32"), rng.integers(0, 3, n))


def run(
    backend: str, feature: str, make: str, folder: Path, compiled: bool, strict: bool = True, **arguments: Any
) -> dict[str, Any]:
    """Weights, buffers, gradients and the optimizer's state after ten batches of four."""
    fw.seed_everything(0)
    settings: dict[str, Any] = {"max_epochs": 1, **arguments}
    if feature == "norm":
        settings["gradient_clip_val"] = 0.05
    if feature == "value":
        settings.update(gradient_clip_val=0.01, gradient_clip_algorithm="value")
    if feature == "accumulated":
        settings.update(accumulate_grad_batches=2, max_epochs=3, gradient_clip_val=0.05)
    module = Net(feature, make)
    with warnings.catch_warnings():
        if strict:
            warnings.simplefilter("error", fw.errors.CompileWarning)
        trainer = fw.Trainer(
            backend=backend, compile=compiled, enable_progress_bar=False, enable_model_summary=False, logger=False,
            enable_checkpointing=False, default_root_dir=folder, log_every_n_steps=3, **settings,
        )  # fmt: skip
        trainer.fit(module, fw.data.DataLoader(data(), 4))
    optimizer = trainer.optimizers[0]
    found = {name: value.numpy() for name, value in module.state_dict().items()}
    for name, p in module.named_parameters():
        if p.grad is not None:
            found[f"gradient of {name}"] = p.grad.numpy()
    for number, own in optimizer.state_dict()["state"].items():
        for key, value in own.items():
            found[f"{key} of {number}"] = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return found


def assert_same(ours: dict[str, Any], expected: dict[str, Any], rtol: float = 1e-4, atol: float = 1e-6) -> None:
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, expected[name], rtol=rtol, atol=atol, err_msg=name)
