"""PyTorch, eagerly: steps of a CNN and of a character-level transformer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.baselines import networks
from benchmarks.worker import Work


class Block(nn.Module):
    """Attention and two affine maps, each beside a path that leaves the values as they are."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, width) to the same."""
        n, t, c = x.shape
        parts = self.qkv(self.ln1(x)).split(c, dim=-1)
        q, k, v = (part.reshape(n, t, self.heads, c // self.heads).permute(0, 2, 1, 3) for part in parts)
        met = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(met.permute(0, 2, 1, 3).reshape(n, t, c))
        return x + self.down(nn.functional.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    """Characters to the scores of the next one."""

    def __init__(self) -> None:
        super().__init__()
        width = networks.WIDTH
        self.token, self.place = nn.Embedding(networks.CHARACTERS, width), nn.Embedding(networks.CONTEXT, width)
        self.blocks = nn.Sequential(*[Block(width, networks.HEADS) for _ in range(networks.LAYERS)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, networks.CHARACTERS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time) to (batch · time, characters)."""
        h = self.blocks(self.token(x) + self.place.weight)
        return self.head(self.norm(h)).reshape(-1, networks.CHARACTERS)


def _step(net: nn.Module, optimizer: Any, x: Any, y: Any) -> Work:
    loss_of = nn.CrossEntropyLoss()
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def once() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Work(once, lambda: [once().item() for _ in range(6)])


def _with_weights(net: nn.Module) -> nn.Module:
    parameters = list(net.parameters())
    with torch.no_grad():
        for p, value in zip(parameters, networks.init([tuple(p.shape) for p in parameters])):
            p.copy_(torch.from_numpy(value))
    return net


def cnn_step(threads: int, batch: int) -> Work:
    """A step of SGD."""
    torch.set_num_threads(threads)
    net = _with_weights(
        nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
        )
    )  # fmt: skip
    return _step(net, torch.optim.SGD(net.parameters(), lr=0.01), *networks.image_batch(batch))


def transformer_step(threads: int, batch: int) -> Work:
    """A step of AdamW."""
    torch.set_num_threads(threads)
    net = _with_weights(Transformer())
    x, y = networks.text_batch(batch)
    return _step(net, torch.optim.AdamW(net.parameters(), lr=1e-3), x, y.reshape(-1))
