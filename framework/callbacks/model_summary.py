"""A table of the modules, the sizes of their parameters and the shapes that go through them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framework import random
from framework.autodiff import Tensor, no_grad, tensor
from framework.callbacks.callback import Callback
from framework.loggers.console import say

if TYPE_CHECKING:
    from framework.nn import Module
    from framework.train import Trainer, TrainModule

UNKNOWN = "?"
"""The shape of what was not called, or is no array."""


class ModelSummary(Callback):
    """Prints what the module is made of when fit begins.

    Where the module has an `example_input_array`, it goes through `forward` once, in evaluation mode and without
    gradients, and the table also has the shapes of what went into each submodule and came out.

    Args:
        max_depth: how deep to go into nested modules; 0 prints nothing, -1 goes all the way.
    """

    def __init__(self, max_depth: int = 1) -> None:
        self.max_depth = max_depth

    def on_fit_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Print the table."""
        if self.max_depth == 0:
            return
        example = getattr(pl_module, "example_input_array", None)
        try:
            text = summarize(pl_module, self.max_depth, example)
        except Exception as error:
            text = summarize(pl_module, self.max_depth)
            warnings.warn(
                f"ModelSummary: {type(pl_module).__name__}.example_input_array does not go through forward: "
                f"{type(error).__name__}: {error}. The table has no shapes",
                UserWarning,
                stacklevel=2,
            )
        say(text)


def summarize(module: Module, max_depth: int = 1, example: Any = None) -> str:
    """The table as text: name, type, number of parameters and mode of each submodule, and the totals.

    A parameter that several modules share is counted in each of them, but once in the totals.

    Args:
        module: what to tell of.
        max_depth: how deep to go into nested modules; 0 is the totals only, -1 goes all the way.
        example: an input of `forward` (a tuple is several, a dict is by name), for the columns of shapes.

    Examples:
        >>> import framework as fw
        >>> net = fw.nn.Sequential(fw.nn.Linear(2, 3), fw.nn.ReLU())
        >>> print(summarize(net, example=fw.tensor([[1.0, 2.0]])))
          | Name | Type   | Params | Mode  | In sizes | Out sizes
        ---------------------------------------------------------
        0 | 0    | Linear | 9      | train | [1, 2]   | [1, 3]
        1 | 1    | ReLU   | 0      | train | [1, 3]   | [1, 3]
        ---------------------------------------------------------
        9         Trainable params
        0         Non-trainable params
        9         Total params
        36 B      Total params size
        2         Modules in train mode
        0         Modules in eval mode
    """
    shown = [
        (name, child)
        for name, child in module.named_modules()
        if name and (max_depth < 0 or name.count(".") < max_depth)
    ]
    sizes = {} if example is None else _sizes(module, [child for _, child in shown], example)
    head = ["", "Name", "Type", "Params", "Mode", *(["In sizes", "Out sizes"] if example is not None else [])]
    rows = [
        [
            str(number),
            name,
            type(child).__name__,
            human(count(child.parameters())),
            _mode(child),
            *(sizes.get(id(child), (UNKNOWN, UNKNOWN)) if example is not None else ()),
        ]
        for number, (name, child) in enumerate(shown)
    ]
    below = {id(p) for _, child in module.named_children() for p in child.parameters()}
    own = count(p for p in module.parameters() if id(p) not in below)
    if own and shown:
        rows.append(["", "other params", "n/a", human(own), *["n/a"] * (len(head) - 4)])
    totals = _totals(module)
    return "\n".join([*(_lines([head, *rows]) if rows else []), *totals])


def _lines(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    text = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    rule = "-" * max(sum(widths) + 3 * (len(widths) - 1), 1)
    return [text[0], rule, *text[1:], rule]


def _totals(module: Module) -> list[str]:
    parameters = list(module.parameters())
    total, trainable = count(parameters), count(p for p in parameters if p.requires_grad)
    inside = [child for name, child in module.named_modules() if name]
    training = sum(child.training for child in inside)
    told = [
        (human(trainable), "Trainable params"),
        (human(total - trainable), "Non-trainable params"),
        (human(total), "Total params"),
        (_bytes(sum(math.prod(p.shape) * p.dtype.itemsize for p in parameters)), "Total params size"),
        (str(training), "Modules in train mode"),
        (str(len(inside) - training), "Modules in eval mode"),
    ]
    return [f"{value:<9} {what}" for value, what in told]


def count(parameters: Iterable[Tensor]) -> int:
    """The number of elements of all of them together."""
    return sum(math.prod(p.shape) for p in parameters)


def human(number: int) -> str:
    """A number in four digits at most.

    Examples:
        >>> [human(n) for n in (123, 1234, 2_000_000, 3_000_000_000, 4 * 10**14)]
        ['123', '1.2 K', '2.0 M', '3.0 B', '400 T']
    """
    if number < 1000:
        return str(number)
    value, units = float(number), ["", "K", "M", "B", "T"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000.0
        units.pop(0)
    return f"{value:.1f} {units[0]}" if value < 99.95 else f"{value:,.0f} {units[0]}"


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def _mode(module: Module) -> str:
    return "train" if module.training else "eval"


# -- shapes ----------------------------------------------------------------------------------------


def _sizes(module: Module, children: Sequence[Module], example: Any) -> dict[int, tuple[str, str]]:
    """What went into each child at its first call, and came out, by the child's id."""
    found: dict[int, tuple[str, str]] = {}

    def note(child: Module, args: tuple[Any, ...], output: Any) -> None:
        found.setdefault(id(child), (_shape(args[0] if len(args) == 1 else args or None), _shape(output)))

    modes = [(part, part.training) for part in module.modules()]
    generators = random.state_dict()
    handles = [child.register_forward_hook(note) for child in children]
    try:
        for part, _ in modes:
            part.training = False  # no running statistics change, nothing is drawn
        example = _placed(example, module)
        with no_grad():
            if isinstance(example, Mapping):
                module(**example)
            elif isinstance(example, tuple):
                module(*example)
            else:
                module(example)
    finally:
        for handle in handles:
            handle.remove()
        for part, training in modes:
            part.training = training
        random.load_state_dict(generators)
    return found


def _shape(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shape(item) for item in value)}]"
    shape = getattr(value, "shape", None)
    return UNKNOWN if shape is None else str(list(shape))


def _placed(value: Any, module: Module) -> Any:
    """The example where the parameters are, its floating-point arrays in their dtype."""
    if isinstance(value, Mapping):
        return {name: _placed(item, module) for name, item in value.items()}
    if isinstance(value, list | tuple):
        placed_items = [_placed(item, module) for item in value]
        return type(value)(*placed_items) if hasattr(value, "_fields") else type(value)(placed_items)
    like = next(iter(module.parameters()), None)
    if not hasattr(value, "shape") or like is None:
        return value
    placed = value if isinstance(value, Tensor) else tensor(value)
    placed = placed.detach().to(device=like.device)
    return placed.to(like.dtype) if placed.dtype.kind == like.dtype.kind == "float" else placed
