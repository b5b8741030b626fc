"""The table of modules: for each, arguments and inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framework import nn
from framework.autodiff import Tensor, ops


@dataclass
class Row:
    """A module, and inputs made from a generator.

    `kinds` are those of the inputs, after a colon with a shape where that is another. `give` hands them to the module.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("real",)
    shape: tuple[int, ...] = (3, 4)
    classes: int = 4
    give: Callable[..., Any] = lambda module, *inputs: module(*inputs)
    label: str = ""

    @property
    def id(self) -> str:
        extra = ",".join([*map(str, self.args), *(f"{k}={v}" for k, v in self.kwargs.items())])
        return f"{self.name}({extra})-{'x'.join(map(str, self.shape))}-{self.kinds[-1]}{self.label}"

    def run(self, module: Any, *inputs: Any) -> Any:
        """The module's floating-point results, several of them as one."""
        return joined(self.give(module, *inputs))

    def build(self, library: Any = nn, convert: Callable[[Any], Any] = np.asarray) -> Any:
        kwargs = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in self.kwargs.items()}
        return getattr(library, self.name)(*self.args, **kwargs)

    def inputs(self, dtype: str = "float64", seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [self._input(kind, rng, dtype) for kind in self.kinds]

    def _input(self, kind: str, rng: np.random.Generator, dtype: str) -> np.ndarray:
        shape = self.shape
        if ":" in kind:
            kind, _, text = kind.partition(":")
            shape = tuple(int(n) for n in text.split("x") if n)
        if kind == "hidden":  # never all of a row
            return np.asarray((rng.random(shape) < 0.3) & (np.arange(shape[-1]) > 0))
        if kind == "index":
            return rng.integers(0, self.args[0], shape)
        if kind in ("class", "class or -100", "class or 1"):
            lead = () if len(shape) == 1 else (shape[0], *shape[2:])
            out = rng.integers(0, self.classes, lead)
            if kind != "class":
                out[rng.random(lead) < 0.3] = -100 if "100" in kind else 1
            return out
        x = rng.normal(size=shape)
        if kind == "probability":
            x = 1 / (1 + np.exp(-x))
        elif kind in ("distribution", "log distribution"):
            x = np.exp(x) / np.exp(x).sum(axis=min(1, x.ndim - 1), keepdims=True)
            x = np.log(x) if kind.startswith("log") else x
        return x.astype(dtype)


def joined(out: Any) -> Any:
    """The floating-point arrays in nested results as one, of ours or of torch's."""
    leaves: list[Any] = []

    def visit(part: Any) -> None:
        if isinstance(part, tuple | list):
            for item in part:
                visit(item)
        elif part is not None and "float" in str(part.dtype):
            leaves.append(part)

    visit(out)
    if not isinstance(out, tuple):
        return out
    if isinstance(leaves[0], Tensor):
        return ops.concat([ops.ravel(y) for y in leaves])
    import torch

    return torch.cat([y.reshape(-1) for y in leaves])


def losses(name: str, kinds: tuple[str, ...], *kwargs: dict[str, Any], shape: tuple[int, ...] = (3, 4)) -> list[Row]:
    return [
        Row(name, (), {**extra, "reduction": reduction}, kinds, shape)
        for extra in ({}, *kwargs)
        for reduction in ("mean", "sum", "none")
    ]


W = np.array([0.5, 2.0, 1.0, 3.0])

LAYERS = [
    Row("Linear", (4, 3)),
    Row("Linear", (4, 3), {"bias": False}),
    Row("Linear", (4, 3), shape=(4,)),
    Row("Linear", (4, 3), shape=(2, 5, 4)),
    Row("Linear", (4, 3), shape=(1, 4)),
    Row("Flatten", shape=(2, 3, 4)),
    Row("Flatten", (0, 1), shape=(2, 3, 4)),
    Row("Identity"),
    Row("Identity", (54,), {"unused": 1}),
    Row("Dropout", (0.0,)),
    Row("Embedding", (5, 3), kinds=("index",), shape=(4,)),
    Row("Embedding", (5, 3), {"padding_idx": -5}, ("index",), (2, 0)),
    Row("Embedding", (5, 3), {"norm_type": 1.0}, ("index",), (2, 3)),
    Row("Embedding", (50, 3), {"scale_grad_by_freq": True}, ("index",), ()),
]
NORMALISATIONS = [
    *[Row("LayerNorm", (4,), {"elementwise_affine": affine}, shape=shape)
      for affine in (True, False) for shape in ((3, 4), (4,), (2, 1, 4), (0, 4))],
    Row("LayerNorm", ((3, 4),), {"eps": 0.1, "bias": False}, shape=(2, 3, 4)),
    *[Row("BatchNorm1d", (4,), {**kwargs, "track_running_stats": tracks}, shape=shape)
      for shape in ((3, 4), (2, 4, 3), (1, 4, 2))
      for tracks in (True, False)
      for kwargs in ({}, {"affine": False}, {"momentum": None, "eps": 0.1}, {"bias": False})],
    *[Row("BatchNorm2d", (3,), {**kwargs, "track_running_stats": tracks}, shape=shape)
      for shape in ((2, 3, 2, 4), (1, 3, 2, 1))
      for tracks in (True, False)
      for kwargs in ({}, {"affine": False, "momentum": None}, {"eps": 0.1, "bias": False})],
    *[Row("GroupNorm", (groups, 4), kwargs, shape=shape)
      for groups in (1, 2, 4)
      for shape in ((3, 4, 2), (2, 4, 3, 2))
      for kwargs in ({}, {"affine": False, "eps": 0.1})],
    Row("GroupNorm", (2, 4), shape=(3, 4)),
    *[Row("RMSNorm", (shape[-1],), kwargs, shape=shape)
      for shape in ((3, 4), (4,), (2, 1, 5), (0, 4))
      for kwargs in ({}, {"eps": 0.1}, {"elementwise_affine": False})],
    Row("RMSNorm", ((3, 4),), {"eps": 0.1}, shape=(2, 3, 4)),
]  # fmt: skip
CONVOLUTIONS = [
    *[Row("Conv1d", (2, 4, 3), kwargs, shape=shape)
      for shape in ((2, 2, 7), (2, 6))
      for kwargs in ({}, {"stride": 2, "padding": 1}, {"padding": "same", "dilation": 2}, {"groups": 2, "bias": False})],
    *[Row("Conv1d", (2, 2, 3), {"padding": 2, "padding_mode": mode}, shape=(1, 2, 5))
      for mode in ("reflect", "replicate", "circular")],
    *[Row("Conv2d", (2, 4, kernel), kwargs, shape=shape)
      for kernel in (3, (2, 3), 1)
      for shape in ((2, 2, 5, 6), (2, 4, 5))
      for kwargs in ({}, {"stride": 2, "padding": 1}, {"groups": 2, "bias": False},
                     {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)})],
    *[Row("Conv2d", (2, 2, (2, 3)), {"padding": "same", "dilation": dilation, "padding_mode": mode}, shape=(2, 2, 4, 5))
      for mode in ("zeros", "reflect", "replicate", "circular") for dilation in (1, 2)],
    Row("Conv2d", (3, 3, 3), {"groups": 3, "padding": 1}, shape=(2, 3, 4, 4)),
    Row("Conv2d", (3, 6, 2), {"groups": 3, "padding": "valid"}, shape=(0, 3, 4, 4)),
    *[Row("ConvTranspose2d", (4, 2, kernel), kwargs, shape=shape)
      for kernel in (2, (3, 2))
      for shape in ((2, 4, 3, 2), (4, 2, 3))
      for kwargs in ({}, {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2, "bias": False},
                     {"stride": (2, 3), "dilation": (2, 1), "output_padding": (0, 2)},
                     {"dilation": 3, "output_padding": 2})],
    Row("ConvTranspose2d", (4, 2, 3), {"stride": 2, "padding": 1}, shape=(2, 4, 3, 3),
        give=lambda m, x: m(x, output_size=(6, 5)), label="-size"),
]  # fmt: skip
POOLS = [
    *[Row("MaxPool2d", (kernel,), kwargs, shape=shape)
      for kernel in (2, (3, 2))
      for shape in ((2, 2, 6, 5), (1, 5, 7))
      for kwargs in ({}, {"stride": 1}, {"stride": (1, 2), "padding": 1, "ceil_mode": True}, {"stride": 3},
                     {"dilation": 2, "stride": 2, "ceil_mode": True})],
    Row("MaxPool2d", (2,), {"return_indices": True}, shape=(2, 2, 4, 4)),
    *[Row("AvgPool2d", (kernel,), kwargs, shape=shape)
      for kernel in (2, (3, 2))
      for shape in ((2, 2, 6, 5), (1, 5, 7))
      for kwargs in ({}, {"stride": 1, "padding": 1}, {"stride": 3, "padding": 1, "ceil_mode": True},
                     {"stride": 2, "padding": 1, "count_include_pad": False, "ceil_mode": True},
                     {"divisor_override": 3, "padding": (1, 0)})],
    *[Row("AdaptiveAvgPool2d", (size,), shape=shape)
      for size in (1, 2, (3, None), (5, 4), (None, 7))
      for shape in ((2, 2, 6, 5), (1, 5, 7))],
]  # fmt: skip
RECURRENT = [
    *[Row(name, (3, 4), kwargs, shape=shape)
      for name in ("RNN", "LSTM", "GRU")
      for shape in ((4, 2, 3), (5, 3))
      for kwargs in ({}, {"num_layers": 2, "bias": False}, {"bidirectional": True}, {"batch_first": True},
                     {"num_layers": 2, "bidirectional": True, "batch_first": True})],
    Row("RNN", (3, 4), {"nonlinearity": "relu"}, shape=(3, 2, 3)),
    *[Row(name, (3, 4), {"num_layers": 2}, ("real", "real:2x2x4"), (3, 2, 3)) for name in ("RNN", "GRU")],
    Row("GRU", (3, 4), {"bidirectional": True}, ("real", "real:2x4"), (3, 3)),
    Row("LSTM", (3, 4), {"batch_first": True}, ("real", "real:1x2x4", "real:1x2x4"), (2, 5, 3),
        give=lambda m, x, h, c: m(x, (h, c))),
    Row("LSTM", (3, 4), {"proj_size": 2, "num_layers": 2, "bidirectional": True}, shape=(3, 2, 3)),
    Row("LSTM", (3, 4), {"proj_size": 2}, ("real", "real:1x2x2", "real:1x2x4"), (3, 2, 3),
        give=lambda m, x, h, c: m(x, (h, c))),
]  # fmt: skip


def _alone(**kwargs: Any) -> Callable[..., Any]:
    return lambda m, x, *mask: m(x, x, x, **kwargs, **dict(zip(("key_padding_mask", "attn_mask"), mask)))


ATTENTION = [
    *[Row("MultiheadAttention", (4, 2), kwargs, ("real",), shape, give=_alone(**rest), label=f"-{rest}")
      for shape in ((3, 2, 4), (3, 4))
      for kwargs in ({}, {"bias": False, "batch_first": True}, {"add_bias_kv": True, "add_zero_attn": True})
      for rest in ({}, {"need_weights": False}, {"average_attn_weights": False})],
    *[Row("MultiheadAttention", (4, 2), kwargs, ("real", "hidden:2x3", "hidden:3x3"), (3, 2, 4), give=_alone(**rest),
          label=f"-{rest}")
      for kwargs in ({}, {"add_zero_attn": True})
      for rest in ({}, {"need_weights": False})],
    Row("MultiheadAttention", (4, 2), {"batch_first": True}, ("real", "real:2x3", "real:4x3x3"), (2, 3, 4),
        give=_alone()),
    *[Row("MultiheadAttention", (4, 2), {**kwargs, "batch_first": True}, ("real", "real:2x5x3", "real:2x5x6"), (2, 3, 4))
      for kwargs in ({"kdim": 3, "vdim": 6}, {"kdim": 3, "vdim": 6, "bias": False, "add_bias_kv": True})],
    Row("MultiheadAttention", (4, 4), {"batch_first": True}, ("real", "real:2x5x4", "real:2x5x4"), (2, 3, 4)),
    *[Row("TransformerEncoderLayer", (4, 2, 6), {"dropout": 0.0, **kwargs}, shape=shape)
      for shape in ((3, 2, 4), (3, 4))
      for kwargs in ({}, {"norm_first": True}, {"activation": "gelu", "batch_first": True, "bias": False})],
    Row("TransformerEncoderLayer", (4, 2, 6), {"dropout": 0.0}, ("real", "hidden:3x3", "hidden:2x3"), (3, 2, 4)),
]  # fmt: skip
ACTIVATIONS = [
    *[Row(name, shape=shape) for name in ("ReLU", "SiLU", "LeakyReLU", "ELU", "GELU", "Softplus", "Tanh", "Sigmoid")
      for shape in ((3, 4), (2, 3, 2), ())],
    Row("ReLU", (), {"inplace": True}),
    Row("LeakyReLU", (0.3,)),
    Row("ELU", (0.7,)),
    Row("GELU", (), {"approximate": "tanh"}),
    Row("Softplus", (2.0, 1.0)),
    *[Row(name, (dim,), shape=(2, 3, 4)) for name in ("Softmax", "LogSoftmax") for dim in (0, 1, -1)],
]  # fmt: skip
LOSSES = [
    *losses(
        "CrossEntropyLoss",
        ("real", "class"),
        {"weight": W},
        {"label_smoothing": 0.1},
        {"weight": W, "label_smoothing": 0.3},
        {"ignore_index": 1},
    ),
    *losses("CrossEntropyLoss", ("real", "class or -100"), {"weight": W, "label_smoothing": 0.2}),
    *losses("CrossEntropyLoss", ("real", "distribution"), {"weight": W}, {"label_smoothing": 0.1}),
    *losses("CrossEntropyLoss", ("real", "class"), {"weight": W}, shape=(2, 4, 3)),
    *losses("CrossEntropyLoss", ("real", "class or -100"), shape=(2, 4, 3, 2)),
    *losses("CrossEntropyLoss", ("real", "distribution"), {"label_smoothing": 0.1}, shape=(2, 4, 3)),
    *losses("CrossEntropyLoss", ("real", "class"), {"weight": W}, shape=(4,)),
    *losses("NLLLoss", ("log distribution", "class"), {"weight": W}),
    *losses("NLLLoss", ("log distribution", "class or 1"), {"weight": W, "ignore_index": 1}, {"ignore_index": 1}),
    *losses("NLLLoss", ("log distribution", "class or -100"), {"weight": W}, shape=(2, 4, 3)),
    *losses("MSELoss", ("real", "real")),
    *losses("L1Loss", ("real", "real")),
    *losses("HuberLoss", ("real", "real"), {"delta": 0.3}),
    *losses("SmoothL1Loss", ("real", "real"), {"beta": 0.3}, {"beta": 0.0}),
    *losses(
        "BCEWithLogitsLoss", ("real", "probability"), {"weight": W}, {"pos_weight": W}, {"weight": W, "pos_weight": W}
    ),
    *losses("BCELoss", ("probability", "probability"), {"weight": W}),
    *losses("KLDivLoss", ("log distribution", "distribution")),
    *losses("KLDivLoss", ("log distribution", "log distribution"), {"log_target": True})[3:],
    Row("KLDivLoss", (), {"reduction": "batchmean"}, ("log distribution", "distribution")),
]
ROWS = [*LAYERS, *NORMALISATIONS, *CONVOLUTIONS, *POOLS, *RECURRENT, *ATTENTION, *ACTIVATIONS, *LOSSES]
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict"}  # have tests of their own
