"""The framework: steps of a CNN and of a character-level transformer, and the gradient of an embedding."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from typing import Any

import numpy as np

import framework as fw
import framework.numpy as fnp
from benchmarks.baselines import networks
from benchmarks.contenders.ours import compiler
from benchmarks.worker import Work

nn, functional = fw.nn, fw.nn.functional

SHARING = ExitStack()
"""Held until the process ends."""


def cnn() -> fw.nn.Module:
    """conv 32, conv 64, each with ReLU and pooling; 1600-128-10."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class Block(fw.nn.Module):
    """Attention and two affine maps, each beside a path that leaves the values as they are."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: fw.Tensor) -> fw.Tensor:
        """(batch, time, width) to the same."""
        n, t, c = x.shape
        parts = fnp.split(self.qkv(self.ln1(x)), 3, axis=-1)
        q, k, v = (part.reshape(n, t, self.heads, c // self.heads).permute(0, 2, 1, 3) for part in parts)
        met = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(met.permute(0, 2, 1, 3).reshape(n, t, c))
        return x + self.down(functional.gelu(self.up(self.ln2(x))))


class Transformer(fw.nn.Module):
    """Characters to the scores of the next one."""

    def __init__(self) -> None:
        super().__init__()
        width = networks.WIDTH
        self.token, self.place = nn.Embedding(networks.CHARACTERS, width), nn.Embedding(networks.CONTEXT, width)
        self.blocks = nn.Sequential(*[Block(width, networks.HEADS) for _ in range(networks.LAYERS)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, networks.CHARACTERS)

    def forward(self, x: fw.Tensor) -> fw.Tensor:
        """(batch, time) to (batch · time, characters)."""
        h = self.blocks(self.token(x) + self.place.weight)
        return self.head(self.norm(h)).reshape(-1, networks.CHARACTERS)


def _step(net: fw.nn.Module, optimizer: Any, x: Any, y: Any, kind: str) -> Work:
    """Steps on one batch, by `eager` or `compiled`, or the page `faults` of a compiled one."""
    loss_of = nn.CrossEntropyLoss()
    x, y = fw.tensor(x), fw.tensor(y)
    SHARING.enter_context(x.backend.sharing())  # as a Trainer does; this process has nothing else to do

    def update(x: fw.Tensor, y: fw.Tensor) -> fw.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    chosen = update if kind == "eager" else compiler()(update)

    def check() -> list[float]:
        return [chosen(x, y).item() for _ in range(6)]

    if kind != "faults":
        return Work(lambda: chosen(x, y), check)

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            chosen(x, y)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    return Work(faults, check, warm=False, scale=10, reports_itself=True)


def _with_weights(net: fw.nn.Module) -> fw.nn.Module:
    parameters = list(net.parameters())
    for p, value in zip(parameters, networks.init([tuple(p.shape) for p in parameters])):
        p.assign(value)
    return net


def cnn_step(threads: int, batch: int, kind: str) -> Work:
    """A step of SGD."""
    net = _with_weights(cnn())
    return _step(net, fw.optim.SGD(net.parameters(), lr=0.01), *networks.image_batch(batch), kind)


def transformer_step(threads: int, batch: int, kind: str) -> Work:
    """A step of AdamW."""
    net = _with_weights(Transformer())
    x, y = networks.text_batch(batch)
    return _step(net, fw.optim.AdamW(net.parameters(), lr=1e-3), x, y.reshape(-1), kind)


def embedding_gradient(threads: int, rows: int, width: int, lookups: int, kind: str) -> Work:
    """The gradient of a table's weight, by the `kernel`, or by `add.at`."""
    rng = np.random.default_rng(7)
    indices = rng.integers(0, rows, lookups)
    g = rng.standard_normal((lookups, width)).astype(np.float32)
    kernel = fw.tensor(g)._ns.embedding_grad

    def by_add_at() -> np.ndarray:
        out = np.zeros((rows, width), np.float32)
        np.add.at(out, indices, g)
        return out

    chosen = by_add_at if kind == "add.at" else lambda: kernel(g, indices, rows)
    return Work(chosen, lambda: [float(np.abs(chosen()).sum())])
