"""A table of the modules and the sizes of their parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from framework.callbacks.callback import Callback
from framework.loggers.console import say

if TYPE_CHECKING:
    from framework.nn import Module
    from framework.train import Trainer, TrainModule


class ModelSummary(Callback):
    """Prints what the module is made of when fit begins.

    Args:
        max_depth: how deep to go into nested modules; 0 prints nothing, -1 goes all the way.
    """

    def __init__(self, max_depth: int = 1) -> None:
        self.max_depth = max_depth

    def on_fit_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Print the table."""
        if self.max_depth != 0:
            say(summarize(pl_module, self.max_depth))


def summarize(module: Module, max_depth: int = 1) -> str:
    """The table as text: name, type, number of parameters and mode of each submodule, and the totals.

    A parameter that several modules share is counted in each of them, but once in the totals.

    Examples:
        >>> import framework as fw
        >>> print(summarize(fw.nn.Sequential(fw.nn.Linear(2, 3), fw.nn.ReLU())))
          Name  Type    Params  Mode
          0     Linear       9  train
          1     ReLU         0  train
        9 parameters, all trainable; 36 B
    """
    rows = [("Name", "Type", "Params", "Mode")]
    rows += [
        (name, type(child).__name__, f"{_count(child.parameters()):,}", "train" if child.training else "eval")
        for name, child in module.named_modules()
        if name and (max_depth < 0 or name.count(".") < max_depth)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    if len(rows) > 1:
        name, kind, params, _ = widths
        lines = [f"  {row[0]:<{name}}  {row[1]:<{kind}}  {row[2]:>{params}}  {row[3]}" for row in rows]
    return "\n".join([*lines, _totals(module)])


def _totals(module: Module) -> str:
    parameters = list(module.parameters())
    total = _count(parameters)
    trainable = _count(p for p in parameters if p.requires_grad)
    size = sum(math.prod(p.shape) * p.dtype.itemsize for p in parameters)
    if trainable == total:
        split = "all trainable"
    else:
        split = f"{trainable:,} trainable, {total - trainable:,} frozen"
    return f"{total:,} parameters, {split}; {_bytes(size)}"


def _count(parameters: Any) -> int:
    return sum(math.prod(p.shape) for p in parameters)


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
