"""Rows drawn by chance: for every module, arguments and shapes that fit together, equal for equal seeds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from module_table import Row


class Draw:
    """Choices for one row."""

    def __init__(self, name: str, seed: int) -> None:
        self.rng = np.random.default_rng([zlib.crc32(name.encode()), seed])

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, low: int = 0, high: int = 3) -> tuple[int, ...]:
        """From `low` to `high` axes of length 1 to 4."""
        return tuple(self.integer(1, 4) for _ in range(self.integer(low, high)))

    def some(self, **options: Sequence[Any]) -> dict[str, Any]:
        """About half of these arguments, each with one of its values."""
        return {key: self.pick(*values) for key, values in options.items() if self.chance()}

    def each(self, low: int, high: int, axes: int = 2) -> Any:
        """One number for all axes, or one each."""
        return self.integer(low, high) if self.chance() else tuple(self.integer(low, high) for _ in range(axes))


Maker = Callable[[Draw], Row]
MAKERS: dict[str, Maker] = {}


def maker(name: str) -> Callable[[Maker], Maker]:
    """Adds the rows of a module."""

    def add(make: Maker) -> Maker:
        MAKERS[name] = make
        return make

    return add


def drawn(name: str, seed: int) -> Row:
    """The row of this module and seed."""
    return MAKERS[name](Draw(name, seed))


def numbers(given: Any, axes: int) -> tuple[int, ...]:
    return (given,) * axes if isinstance(given, int) else tuple(given)


BOTH = (True, False)
EPS = (1e-5, 1e-3, 0.1)

# -- layers ----------------------------------------------------------------------------------------


@maker("Linear")
def linear(d: Draw) -> Row:
    n, m = d.integer(1, 6), d.integer(1, 5)
    lead = (0, 3) if d.chance(0.1) else d.shape()
    return Row("Linear", (n, m), d.some(bias=BOTH), shape=(*lead, n))


@maker("Flatten")
def flatten(d: Draw) -> Row:
    shape = d.shape(2, 5)
    start = d.integer(0, len(shape) - 1)
    end = d.integer(start, len(shape) - 1)
    return Row("Flatten", (start, end - d.pick(0, len(shape))), shape=shape)


@maker("Identity")
def identity(d: Draw) -> Row:
    return Row("Identity", shape=d.shape())


@maker("Dropout")
def dropout(d: Draw) -> Row:
    return Row("Dropout", (0.0,), d.some(inplace=BOTH), shape=d.shape())


@maker("Embedding")
def embedding(d: Draw) -> Row:
    rows = d.integer(2, 9)
    kwargs = d.some(padding_idx=(0, -1, 1), scale_grad_by_freq=BOTH, max_norm=(0.5, 2.0), norm_type=(1.0, 2.0, 3.0))
    return Row("Embedding", (rows, d.integer(1, 5)), kwargs, ("index",), d.shape(0, 3))


@maker("Sequential")
def sequential(d: Draw) -> Row:
    width, parts = d.integer(1, 5), []
    for _ in range(d.integer(1, 5)):
        kind = d.pick("Linear", "activation", "LayerNorm")
        if kind == "Linear":
            before, width = width, d.integer(1, 5)
            parts.append(Row("Linear", (before, width), d.some(bias=BOTH)))
        elif kind == "LayerNorm" and width > 1:
            parts.append(Row("LayerNorm", (width,)))
        else:
            parts.append(Row(d.pick("Tanh", "GELU", "SiLU", "Softplus", "Identity")))
    first = next((part.args[0] for part in parts if part.args), width)
    return Row("Sequential", tuple(parts), shape=(*d.shape(1, 2), first))


# -- convolutions and pooling ------------------------------------------------------------------------


def convolution(d: Draw, axes: int) -> Row:
    groups = d.pick(1, 1, 1, 2, 3)
    channels = groups * d.integer(1, 2), groups * d.integer(1, 2)
    kernel, dilation = d.each(1, 3, axes), d.each(1, 2, axes)
    kwargs: dict[str, Any] = {"groups": groups, "dilation": dilation, **d.some(bias=BOTH)}
    around = d.pick(0, "some", "some", "same", "valid")
    if around == "same":
        kwargs["padding"] = "same"
    else:
        kwargs["stride"] = d.each(1, 3, axes)
        kwargs["padding"] = around if around != "some" else d.each(0, 2, axes)
    reach = [w * (k - 1) + 1 for k, w in zip(numbers(kernel, axes), numbers(dilation, axes))]
    sizes = tuple(n + d.integer(0, 4) for n in reach)
    if d.chance(0.4):
        kwargs["padding_mode"] = d.pick("reflect", "replicate", "circular")
        sizes = tuple(max(n, 5) for n in sizes)  # "reflect" needs more than it pads
    lead = () if d.chance(0.2) else (d.pick(1, 2, 2, 3),)
    return Row(f"Conv{axes}d", (*channels, kernel), kwargs, shape=(*lead, channels[0], *sizes))


@maker("Conv1d")
def conv1d(d: Draw) -> Row:
    return convolution(d, 1)


@maker("Conv2d")
def conv2d(d: Draw) -> Row:
    return convolution(d, 2)


@maker("ConvTranspose2d")
def conv_transpose2d(d: Draw) -> Row:
    groups = d.pick(1, 1, 2, 3)
    channels = groups * d.integer(1, 2), groups * d.integer(1, 2)
    kernel, stride, dilation = d.each(1, 3), d.each(1, 3), d.each(1, 2)
    most = [max(s, w) - 1 for s, w in zip(numbers(stride, 2), numbers(dilation, 2))]
    kwargs = {"stride": stride, "dilation": dilation, "groups": groups, **d.some(bias=BOTH)}
    kwargs["output_padding"] = tuple(d.integer(0, n) for n in most)
    kwargs["padding"] = tuple(d.integer(0, min(1, k // 2)) for k in numbers(kernel, 2))
    lead = () if d.chance(0.2) else (d.integer(1, 3),)
    sizes = tuple(d.integer(2, 4) for _ in range(2))
    return Row("ConvTranspose2d", (*channels, kernel), kwargs, shape=(*lead, channels[0], *sizes))


def pooling(d: Draw, name: str, **more: Any) -> Row:
    kernel = d.each(1, 3)
    kwargs = {**d.some(ceil_mode=BOTH), **more}
    if d.chance():
        kwargs["stride"] = d.each(1, 3)
    if d.chance():
        kwargs["padding"] = tuple(d.integer(0, k // 2) for k in numbers(kernel, 2))
    reach = [w * (k - 1) + 1 for k, w in zip(numbers(kernel, 2), numbers(more.get("dilation", 1), 2))]
    lead = () if d.chance(0.2) else (d.integer(1, 2),)
    return Row(name, (kernel,), kwargs, shape=(*lead, d.integer(1, 3), *(n + d.integer(0, 4) for n in reach)))


@maker("MaxPool2d")
def max_pool2d(d: Draw) -> Row:
    return pooling(d, "MaxPool2d", dilation=d.each(1, 2), **d.some(return_indices=BOTH))


@maker("AvgPool2d")
def avg_pool2d(d: Draw) -> Row:
    return pooling(d, "AvgPool2d", **d.some(count_include_pad=BOTH, divisor_override=(2, 5)))


@maker("AdaptiveAvgPool2d")
def adaptive_avg_pool2d(d: Draw) -> Row:
    size = d.integer(1, 6) if d.chance() else (d.pick(None, 1, 2, 5), d.pick(None, 1, 3, 7))
    return Row("AdaptiveAvgPool2d", (size,), shape=(*d.shape(1, 2), d.integer(1, 7), d.integer(1, 7)))


# -- normalisation ---------------------------------------------------------------------------------


def batch_norm(d: Draw, name: str, tail: tuple[int, ...]) -> Row:
    channels = d.integer(1, 4)
    kwargs = d.some(
        eps=EPS, momentum=(0.1, 0.7, 0.0, 1.0, None), affine=BOTH, track_running_stats=BOTH, bias=BOTH
    )  # fmt: skip
    return Row(name, (channels,), kwargs, shape=(d.integer(2, 5), channels, *tail))


@maker("BatchNorm1d")
def batch_norm1d(d: Draw) -> Row:
    return batch_norm(d, "BatchNorm1d", d.shape(0, 1))


@maker("BatchNorm2d")
def batch_norm2d(d: Draw) -> Row:
    return batch_norm(d, "BatchNorm2d", d.shape(2, 2))


@maker("GroupNorm")
def group_norm(d: Draw) -> Row:
    groups = d.integer(1, 3)
    channels = groups * d.integer(1, 3)
    shape = (*d.shape(1, 1), channels, *d.shape(1, 2), d.integer(2, 4))
    return Row("GroupNorm", (groups, channels), d.some(eps=EPS, affine=BOTH, bias=BOTH), shape=shape)


def last_axes(d: Draw) -> tuple[Any, tuple[int, ...]]:
    """What is normalised over, and the shape of an input."""
    over = (*d.shape(0, 1), d.integer(2, 5))
    shape = (*d.shape(0, 2), *over)
    return (over[0] if len(over) == 1 and d.chance() else over), shape


@maker("LayerNorm")
def layer_norm(d: Draw) -> Row:
    over, shape = last_axes(d)
    return Row("LayerNorm", (over,), d.some(eps=EPS, elementwise_affine=BOTH, bias=BOTH), shape=shape)


@maker("RMSNorm")
def rms_norm(d: Draw) -> Row:
    over, shape = last_axes(d)
    return Row("RMSNorm", (over,), d.some(eps=(None, 1e-3, 0.1), elementwise_affine=BOTH), shape=shape)


# -- sequences -------------------------------------------------------------------------------------


def recurrent(d: Draw, name: str, **more: Any) -> Row:
    size, hidden, proj = d.integer(1, 4), d.integer(2, 4), more.get("proj_size", 0)
    kwargs = {**d.some(num_layers=(1, 2, 3), bias=BOTH, batch_first=BOTH, bidirectional=BOTH), **more}
    steps, n = d.integer(1, 4), d.integer(1, 3)
    has_batch = d.chance(0.75)
    shape = (n, steps, size) if kwargs.get("batch_first") else (steps, n, size)
    shape = shape if has_batch else (steps, size)
    if d.chance():
        return Row(name, (size, hidden), kwargs, shape=shape)
    count = kwargs.get("num_layers", 1) * (1 + kwargs.get("bidirectional", False))
    lead = f"{count}x{n}" if has_batch else f"{count}"
    kinds = ("real", f"real:{lead}x{proj or hidden}", *[f"real:{lead}x{hidden}"] * (name == "LSTM"))
    give = (lambda m, x, h, c: m(x, (h, c))) if name == "LSTM" else (lambda m, x, h: m(x, h))
    return Row(name, (size, hidden), kwargs, kinds, shape, give=give)


@maker("RNN")
def rnn(d: Draw) -> Row:
    return recurrent(d, "RNN", **d.some(nonlinearity=("tanh", "relu")))


@maker("GRU")
def gru(d: Draw) -> Row:
    return recurrent(d, "GRU")


@maker("LSTM")
def lstm(d: Draw) -> Row:
    return recurrent(d, "LSTM", **({"proj_size": 1} if d.chance(0.3) else {}))


def masks(d: Draw, n: int, queries: int, keys: int, heads: int) -> dict[str, str]:
    """Kinds of a padding mask and an attention mask, some of the time; numbers with numbers, bools with bools."""
    kind = d.pick("hidden", "real")
    found = {}
    if d.chance(0.4):
        found["key_padding_mask"] = f"{kind}:{n}x{keys}"
    if d.chance(0.4):
        found["attn_mask"] = f"{kind}:{queries}x{keys}" if d.chance() else f"{kind}:{n * heads}x{queries}x{keys}"
    return found


@maker("MultiheadAttention")
def attention(d: Draw) -> Row:
    heads = d.integer(1, 3)
    width, n, queries, keys = heads * d.integer(1, 3), d.integer(1, 3), d.integer(1, 4), d.integer(2, 4)
    kwargs = d.some(bias=BOTH, add_bias_kv=BOTH, add_zero_attn=BOTH, batch_first=BOTH, kdim=(2, 5), vdim=(3, 4))
    first = kwargs.get("batch_first", False)
    of_keys = f"{n}x{keys}" if first else f"{keys}x{n}"
    kdim, vdim = kwargs.get("kdim", width), kwargs.get("vdim", width)
    hidden = masks(d, n, queries, keys, heads)
    rest = d.some(need_weights=BOTH, average_attn_weights=BOTH)
    kinds = ("real", f"real:{of_keys}x{kdim}", f"real:{of_keys}x{vdim}", *hidden.values())
    return Row(
        "MultiheadAttention",
        (width, heads),
        kwargs,
        kinds,
        (n, queries, width) if first else (queries, n, width),
        give=lambda m, q, k, v, *given: m(q, k, v, **dict(zip(hidden, given)), **rest),
        label=f"-{rest}",
    )


@maker("TransformerEncoderLayer")
def transformer(d: Draw) -> Row:
    heads = d.integer(1, 3)
    width, n, steps = heads * d.integer(1, 2) * 2, d.integer(1, 3), d.integer(2, 4)
    kwargs = d.some(
        activation=("relu", "gelu"), layer_norm_eps=EPS, batch_first=BOTH, norm_first=BOTH, bias=BOTH
    )  # fmt: skip
    hidden = {
        ("src_mask" if k == "attn_mask" else "src_key_padding_mask"): v
        for k, v in masks(d, n, steps, steps, heads).items()
    }
    return Row(
        "TransformerEncoderLayer",
        (width, heads, d.integer(1, 6)),
        {"dropout": 0.0, **kwargs},
        ("real", *hidden.values()),
        (n, steps, width) if kwargs.get("batch_first") else (steps, n, width),
        give=lambda m, x, *given: m(x, **dict(zip(hidden, given))),
    )


# -- activations and losses ------------------------------------------------------------------------

ACTIVATIONS: dict[str, dict[str, Sequence[Any]]] = {
    "ReLU": {"inplace": BOTH},
    "LeakyReLU": {"negative_slope": (0.0, 0.3, 2.0), "inplace": BOTH},
    "ELU": {"alpha": (0.3, 2.0), "inplace": BOTH},
    "GELU": {"approximate": ("none", "tanh")},
    "SiLU": {"inplace": BOTH},
    "Softplus": {"beta": (0.5, 3.0), "threshold": (20.0, 0.5)},
    "Tanh": {},
    "Sigmoid": {},
}


def activation(name: str) -> Maker:
    return lambda d: Row(name, (), d.some(**ACTIVATIONS[name]), shape=d.shape())


def along(name: str) -> Maker:
    def make(d: Draw) -> Row:
        shape = d.shape(1, 4)
        return Row(name, (d.integer(-len(shape), len(shape) - 1),), shape=shape)

    return make


MAKERS.update({name: activation(name) for name in ACTIVATIONS})
MAKERS.update({name: along(name) for name in ("Softmax", "LogSoftmax")})
PAIRS: dict[str, tuple[tuple[str, str], dict[str, Sequence[Any]]]] = {
    "MSELoss": (("real", "real"), {}),
    "L1Loss": (("real", "real"), {}),
    "HuberLoss": (("real", "real"), {"delta": (0.3, 2.0)}),
    "SmoothL1Loss": (("real", "real"), {"beta": (0.0, 0.3, 2.0)}),
    "BCELoss": (("probability", "probability"), {}),
    "BCEWithLogitsLoss": (("real", "probability"), {}),
    "KLDivLoss": (("log distribution", "distribution"), {}),
}
REDUCTIONS = ("mean", "sum", "none")


def of_pairs(name: str) -> Maker:
    def make(d: Draw) -> Row:
        kinds, options = PAIRS[name]
        kwargs, shape = d.some(**options, reduction=REDUCTIONS), d.shape(1, 3)
        factors = ("weight", "pos_weight") if name == "BCEWithLogitsLoss" else ("weight",) * (name == "BCELoss")
        for factor in factors:
            if d.chance(0.4):
                kwargs[factor] = d.rng.uniform(0.2, 3.0, shape[d.integer(0, len(shape) - 1) :])
        if name == "KLDivLoss" and d.chance(0.4):
            kinds, kwargs["log_target"] = ("log distribution", "log distribution"), True
        if name == "KLDivLoss" and d.chance(0.2):
            kwargs["reduction"] = "batchmean"
        return Row(name, (), kwargs, kinds, shape)

    return make


MAKERS.update({name: of_pairs(name) for name in PAIRS})


def of_classes(name: str) -> Maker:
    def make(d: Draw) -> Row:
        classes = d.integer(2, 5)
        shape = (classes,) if d.chance(0.15) else (d.integer(1, 4), classes, *d.shape(0, 2))
        kwargs = d.some(reduction=REDUCTIONS)
        if d.chance(0.4):
            kwargs["weight"] = d.rng.uniform(0.2, 3.0, classes)
        target = d.pick("class", "class", "class or -100", "class or 1", "distribution")
        if name == "NLLLoss":
            return Row(name, (), kwargs | ignored(target), ("log distribution", target.replace("distribution", "class")),
                       shape, classes)  # fmt: skip
        kwargs |= d.some(label_smoothing=(0.0, 0.1, 1.0))
        return Row(name, (), kwargs | ignored(target), ("real", target), shape, classes)

    return make


def ignored(target: str) -> dict[str, int]:
    return {"ignore_index": 1} if target == "class or 1" else {}


MAKERS.update({name: of_classes(name) for name in ("CrossEntropyLoss", "NLLLoss")})
