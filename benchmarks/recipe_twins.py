"""Recipes against the same models in PyTorch: the same first weights, batches in the same order, as many updates.

    python -m benchmarks.recipe_twins autoencoder tabular_mlp char_lm
    python -m benchmarks.recipe_twins char_lm --trainer.max_steps 200

trains each by its config (with what is set on the command line), then its twin, and prints the validation loss of both
after the last update. A recipe's run is left in `runs/`, as always.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import framework as fw
from framework.cli.build import Run, build
from framework.cli.config import load_config
from framework.cli.new import examples_folder


@dataclass(slots=True)
class Outcome:
    """What one side came to."""

    loss: float
    steps: int
    seconds: float
    """Of the processor, all threads together."""


@dataclass(slots=True)
class Start(fw.callbacks.Callback):
    """Keeps the weights that the training starts from."""

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    total_steps: int = 0

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Copy them."""
        self.weights = {name: value.numpy().copy() for name, value in pl_module.state_dict().items()}
        self.total_steps = int(trainer.estimated_stepping_batches)


def autoencoder(run: Run) -> tuple[Any, Callable[[Any, Any], Any]]:
    """The twin of `recipes/autoencoder.py`, and its loss on a batch."""
    from torch import nn

    def layers(widths: list[int]) -> list[Any]:
        found: list[Any] = []
        for before, after in pairwise(widths):
            found += [nn.Linear(before, after), nn.ReLU()]
        return found[:-1]

    widths = [784, *run.module.hparams.hidden, run.module.hparams.code]
    net = nn.Module()
    net.encoder = nn.Sequential(nn.Flatten(), *layers(widths))
    net.decoder = nn.Sequential(*layers(widths[::-1]))

    def loss(net: Any, batch: Any) -> Any:
        x = batch[0]
        return nn.functional.binary_cross_entropy_with_logits(net.decoder(net.encoder(x)).reshape(x.shape), x)

    return net, loss


def tabular_mlp(run: Run) -> tuple[Any, Callable[[Any, Any], Any]]:
    """The twin of `recipes/tabular_mlp.py`, and its loss on a batch."""
    import torch
    from torch import nn

    columns = run.module.hparams.columns
    net = nn.Module()
    net.embeddings = nn.ModuleList([nn.Embedding(n, min(16, (n + 1) // 2)) for n in columns["categories"]])
    width = columns["numbers"] + sum(table.embedding_dim for table in net.embeddings)
    layers: list[Any] = []
    for size in run.module.hparams.hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(run.module.hparams.dropout)]
        width = size
    net.net = nn.Sequential(*layers, nn.Linear(width, len(columns["classes"] or [0])))
    net.register_buffer("mean", torch.zeros(()))
    net.register_buffer("std", torch.zeros(()))

    def loss(net: Any, batch: Any) -> Any:
        *features, y = batch
        parts = list(features[: bool(columns["numbers"])])
        parts += [table(features[-1][:, k]) for k, table in enumerate(net.embeddings)]
        out = net.net(torch.concat(parts, dim=1))
        if columns["classes"]:
            return nn.functional.cross_entropy(out, y)
        return nn.functional.mse_loss(out.squeeze(-1), (y - net.mean) / net.std)

    return net, loss


def char_lm(run: Run) -> tuple[Any, Callable[[Any, Any], Any]]:
    """The twin of `recipes/char_lm.py`, and its loss on a batch."""
    from torch import nn

    args = run.module.hparams
    characters, width, heads = run.module.head.weight.shape[0], args.width, args.heads

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            n, length, _ = x.shape
            parts = self.qkv(self.norm1(x)).reshape(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            found = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
            x = x + self.proj(found.transpose(1, 2).reshape(n, length, width))
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    net = nn.Module()
    net.token, net.place = nn.Embedding(characters, width), nn.Embedding(args.context, width)
    net.blocks = nn.Sequential(*[Block() for _ in range(args.layers)])
    net.norm, net.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def loss(net: Any, batch: Any) -> Any:
        x, y = batch
        h = net.blocks(net.token(x) + net.place.weight[: x.shape[1]])
        return nn.functional.cross_entropy(net.head(net.norm(h)).reshape(-1, characters), y.reshape(-1))

    return net, loss


TWINS: dict[str, Callable[[Run], tuple[Any, Callable[[Any, Any], Any]]]] = {
    "autoencoder": autoencoder,
    "tabular_mlp": tabular_mlp,
    "char_lm": char_lm,
}


def compare(name: str, overrides: Sequence[tuple[str, str]] = ()) -> tuple[Outcome, Outcome]:
    """Train a recipe by its config, then its twin.

    Args:
        name: of the recipe.
        overrides: names and values of what the config shall say instead.
    """
    config = load_config([str(examples_folder() / "configs" / f"{name}.yaml")], list(overrides))
    run, start = build(config), Start()
    run.trainer.callbacks.append(start)
    before = time.process_time()
    run.trainer.fit(run.module, datamodule=run.data)
    seconds = time.process_time() - before
    loss = float(run.trainer.callback_metrics["val_loss"])
    return Outcome(loss, run.trainer.global_step, seconds), train_twin(name, run, start)


def train_twin(name: str, run: Run, start: Start) -> Outcome:
    """Train the twin of a run."""
    import torch

    torch.set_num_threads(int(os.environ.get("OPENBLAS_NUM_THREADS") or len(os.sched_getaffinity(0))))
    net, loss_of = TWINS[name](run)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in start.weights.items()})
    config, trainer = run.config, run.trainer
    assert config.optimizer is not None
    assert config.lr_scheduler is not None
    optimizer = getattr(torch.optim, config.optimizer.cls.__name__)(net.parameters(), **config.optimizer.args)
    schedule = dict(config.lr_scheduler.spec.args, total_steps=start.total_steps)
    scheduler = getattr(torch.optim.lr_scheduler, config.lr_scheduler.spec.cls.__name__)(optimizer, **schedule)
    before = time.process_time()
    for _, batch in zip(range(trainer.global_step), endless(run)):
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        if trainer.gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(net.parameters(), trainer.gradient_clip_val)
        optimizer.step()
        scheduler.step()
    total = count = 0.0
    net.eval()
    with torch.no_grad():
        for _, host in zip(range(int(trainer.num_val_batches)), run.data.val_dataloader()):  # type: ignore[union-attr]
            total += loss_of(net, tensors(host)).item() * len(host[0])
            count += len(host[0])
    return Outcome(total / count, trainer.global_step, time.process_time() - before)


def endless(run: Run) -> Iterator[Any]:
    """The training batches, epoch after epoch, as the run had them."""
    loader = run.data.train_dataloader()  # type: ignore[union-attr]
    batches = run.trainer.num_training_batches
    while True:
        for _, host in zip(range(int(batches) if math.isfinite(batches) else sys.maxsize), loader):
            yield tensors(host)


def tensors(batch: Any) -> list[Any]:
    """Arrays as Tensors of PyTorch."""
    import torch

    return [torch.from_numpy(np.ascontiguousarray(array)) for array in batch]


def main(argv: Sequence[str]) -> int:
    """Compare the recipes that are named, and print what came of it; 1 where two losses differ by more than 2 %."""
    names = [word for word in argv if word in TWINS]
    rest = [word for word in argv if word not in TWINS]
    overrides = [(key.removeprefix("--"), value) for key, value in zip(rest[::2], rest[1::2])]
    if not names or len(rest) % 2 or not all(key.startswith("--") for key in rest[::2]):
        print(f"usage: python -m benchmarks.recipe_twins {{{','.join(TWINS)}}} [--KEY VALUE …]", file=sys.stderr)
        return 2
    worst = 0.0
    for name in names:
        ours, theirs = compare(name, overrides)
        apart = abs(ours.loss / theirs.loss - 1)
        worst = max(worst, apart)
        print(
            f"{name}: val_loss after {ours.steps} updates: fw {ours.loss:.5f}, PyTorch {theirs.loss:.5f}, "
            f"{100 * apart:.2f} % apart; {ours.seconds:.0f} s and {theirs.seconds:.0f} s of the processor",
            flush=True,
        )
    return int(worst > 0.02)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main(sys.argv[1:]))
