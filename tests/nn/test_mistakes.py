"""What is said of bad shapes, dtypes, arguments, classes and batches, of every module.

Each message names the module (or the function that it is), what was given, and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework import nn
from framework.errors import AxisError, ConfigError, DataError, DTypeError, FrameworkError, ShapeError


def real(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def whole(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int64)


def complex_(*shape: int) -> np.ndarray:
    return np.ones(shape, np.complex64)


def bools(*shape: int) -> np.ndarray:
    return np.ones(shape, bool)


Mistake = tuple[Callable[[], Any], type[FrameworkError], str]
MISTAKES: dict[str, list[Mistake]] = {
    "Linear": [
        (lambda: nn.Linear(784, 300)(real(128, 28, 28)), ShapeError,
         "Linear(784, 300): got input of shape (128, 28, 28); last axis must be 784. Flatten first: x.reshape(128, -1)"),
        (lambda: nn.Linear(4, 3)(real()), ShapeError, "Linear(4, 3): got input of shape (); last axis must be 4"),
        (lambda: nn.Linear(4.0, 3), ConfigError, "Linear: in_features is a number of features, got 4.0"),
        (lambda: nn.Linear(4, -1), ConfigError, "Linear: out_features is a number of features, got -1"),
        (lambda: nn.Linear(4, 3)("text"), DTypeError, "a Tensor is made of numbers, got str 'text'"),
        (lambda: nn.Linear(4, 3, dtype="int32"), DTypeError, "gradients need a floating-point dtype, got int32"),
    ],
    "Conv1d": [
        (lambda: nn.Conv1d(3, 4, 3)(real(2, 4, 8)), ShapeError,
         "Conv1d(3, 4): got input of shape (2, 4, 8); expected (N, 3, L) or (3, L)"),
        (lambda: nn.Conv1d(3, 4, 3)(real(2, 3, 2)), ShapeError, "a kernel of length 3 with dilation 1 does not fit"),
        (lambda: nn.Conv1d(3, 4, 3, padding=5, padding_mode="circular")(real(3, 4)), ShapeError,
         "padding_mode='circular' continues an axis by at most its length, got input of shape (3, 4) and padding (5,)"),
    ],
    "Conv2d": [
        (lambda: nn.Conv2d(3, 4, 3)(real(2, 8, 8, 3)), ShapeError,
         "got input of shape (2, 8, 8, 3); expected (N, 3, H, W) or (3, H, W). Channels come second: x.permute(0, 3, 1, 2)"),
        (lambda: nn.Conv2d(3, 4, 3)(real(2, 3, 2, 2)), ShapeError, "a kernel of shape (3, 3) with dilation (1, 1) does"),
        (lambda: nn.Conv2d(3, 4, 0), ConfigError, "Conv2d: kernel_size is an integer, or 2 of them, from 1 on; got 0"),
        (lambda: nn.Conv2d(3, 4, (1, 2, 3)), ConfigError, "Conv2d: kernel_size is an integer, or 2 of them"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), ConfigError, "Conv2d: stride is an integer, or 2 of them, from 1 on"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), ConfigError, "Conv2d: padding is an integer, or 2 of them, from 0 on"),
        (lambda: nn.Conv2d(3, 4, 3, padding="sam"), ConfigError, "'valid' or 'same', got 'sam'"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ConfigError, "groups divides in_channels and out_channels, got groups=2"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="reflct"), ConfigError, "Did you mean 'reflect'?"),
        (lambda: nn.Conv2d(1, 2, 3, padding=3, padding_mode="reflect")(real(1, 3, 3)), ShapeError,
         "Conv2d(1, 2): padding_mode='reflect' continues an axis by less than its length, got input of shape (1, 3, 3)"),
    ],
    "ConvTranspose2d": [
        (lambda: nn.ConvTranspose2d(3, 4, 3)(real(2, 4, 8, 8)), ShapeError, "ConvTranspose2d(3, 4): got input of shape"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=2)(real(3, 4, 4)), ConfigError, "output_padding is smaller"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding=9)(real(3, 4, 4)), ShapeError, "would give an output of size (-12, -12)"),
        (lambda: nn.ConvTranspose2d(3, 4, 3)(real(3, 4, 4), output_size=(9, 9)), ShapeError,
         "output_size is between (6, 6) and (6, 6), got (9, 9)"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ConfigError, "padding_mode='reflect'"),
    ],
    "MaxPool2d": [
        (lambda: nn.MaxPool2d(2)(real(4, 4)), ShapeError,
         "max_pool2d: got input of shape (4, 4); expected (N, C, H, W) or (C, H, W)"),
        (lambda: nn.MaxPool2d(3)(real(1, 2, 2)), ShapeError, "max_pool2d: got input of shape (1, 2, 2); a window of shape (3, 3)"),
        (lambda: nn.MaxPool2d(0), ConfigError, "MaxPool2d: kernel_size is an integer"),
        (lambda: nn.MaxPool2d(2, padding=2)(real(1, 4, 4)), ConfigError, "padding is at most half of the kernel, got (2, 2)"),
        (lambda: nn.MaxPool2d(2)(complex_(1, 4, 4)), DTypeError, "max_pool2d: got input of dtype complex64"),
    ],
    "AvgPool2d": [
        (lambda: nn.AvgPool2d(2)(real(4, 4)), ShapeError, "avg_pool2d: got input of shape (4, 4); expected (N, C, H, W)"),
        (lambda: nn.AvgPool2d(3)(real(1, 2, 2)), ShapeError, "avg_pool2d: got input of shape (1, 2, 2); a window of shape"),
        (lambda: nn.AvgPool2d(2, divisor_override=0)(real(1, 4, 4)), ConfigError, "divisor_override is not zero"),
    ],
    "AdaptiveAvgPool2d": [
        (lambda: nn.AdaptiveAvgPool2d(1)(real(4, 4)), ShapeError, "adaptive_avg_pool2d: got input of shape (4, 4)"),
        (lambda: nn.AdaptiveAvgPool2d(1)(real(1, 0, 4)), ShapeError, "there is nothing to take means of"),
        (lambda: nn.AdaptiveAvgPool2d(-1)(real(1, 4, 4)), ConfigError, "output_size is a number or two, each from 0 on"),
    ],
    "BatchNorm1d": [
        (lambda: nn.BatchNorm1d(3)(real(4, 5)), ShapeError,
         "BatchNorm1d(3): got input of shape (4, 5); expected (N, C) or (N, C, L) with C = 3"),
        (lambda: nn.BatchNorm1d(3)(real(1, 3)), ShapeError, "in training each channel needs more than one value"),
        (lambda: nn.BatchNorm1d(3)(real(0, 3)), ShapeError, "got input of shape (0, 3). Use a bigger batch"),
        (lambda: nn.BatchNorm1d(3)(complex_(4, 3)), DTypeError, "batch_norm: got input of dtype complex64"),
        (lambda: nn.BatchNorm1d(3, momentum=2), ConfigError, "momentum is from 0 to 1, or None"),
        (lambda: nn.BatchNorm1d(-3), ConfigError, "num_features is a number of channels, got -3"),
    ],
    "BatchNorm2d": [
        (lambda: nn.BatchNorm2d(3)(real(2, 4, 4, 3)), ShapeError, "Channels come second: permute its axes, or reshape(-1, 3)"),
        (lambda: nn.BatchNorm2d(3)(real(1, 3, 1, 1)), ShapeError, "BatchNorm2d(3): in training each channel needs more"),
    ],
    "LayerNorm": [
        (lambda: nn.LayerNorm(4)(real(4, 3)), ShapeError, "layer_norm over axes of shape (4,): got input of shape (4, 3)"),
        (lambda: nn.LayerNorm(4)(complex_(3, 4)), DTypeError, "layer_norm: got input of dtype complex64"),
        (lambda: nn.LayerNorm("4"), ConfigError, "LayerNorm: normalized_shape is a length or several, got '4'"),
        (lambda: nn.LayerNorm(()), ConfigError, "got ()"),
    ],
    "GroupNorm": [
        (lambda: nn.GroupNorm(2, 4)(real(2, 3)), ShapeError, "GroupNorm(2, 4): got input of shape (2, 3); expected (N, C, ...)"),
        (lambda: nn.GroupNorm(2, 3), ConfigError, "GroupNorm: 3 channels do not make 2 equal groups"),
        (lambda: nn.GroupNorm(0, 3), ConfigError, "GroupNorm: num_groups is a number from 1 on, got 0"),
        (lambda: nn.GroupNorm(2, 4)(complex_(2, 4, 3)), DTypeError, "group_norm: got input of dtype complex64"),
    ],
    "RMSNorm": [
        (lambda: nn.RMSNorm(4)(real(4, 3)), ShapeError, "rms_norm over axes of shape (4,): got input of shape (4, 3)"),
        (lambda: nn.RMSNorm(4)(complex_(3, 4)), DTypeError, "rms_norm: got input of dtype complex64"),
        (lambda: nn.RMSNorm(-1), ConfigError, "RMSNorm: normalized_shape is a length or several, got -1"),
    ],
    "Dropout": [
        *[(lambda p=p: nn.Dropout(p), ConfigError, f"Dropout: p is the probability that an element is dropped, in [0, 1]; got {p!r}")
          for p in (1.5, -0.1, "a", None, float("nan"))],
    ],
    "Flatten": [
        (lambda: nn.Flatten()(real(3)), AxisError, "axis 1 of an array with 1 axes; it must be from -1 to 0"),
        (lambda: nn.Flatten(1, 0)(real(3, 2)), ShapeError, "flatten from axis 1 to axis 0 of (3, 2)"),
        (lambda: nn.Flatten("a"), ConfigError, "Flatten: start_dim is the number of an axis, got 'a'"),
    ],
    "Embedding": [
        (lambda: nn.Embedding(4, 3)(real(2)), DTypeError, "embedding: indices are integers, got float32"),
        (lambda: nn.Embedding(4, 3)(bools(2)), DTypeError, "embedding: indices are integers, got bool"),
        (lambda: nn.Embedding(4, 3)(np.array([1, 4])), AxisError,
         "embedding: index 4 is outside a table of 4 rows; indices are from 0 to 3"),
        (lambda: nn.Embedding(4, 3)(np.array([-1])), AxisError, "embedding: index -1 is outside a table of 4 rows"),
        (lambda: nn.Embedding(4, 3, padding_idx=9), AxisError, "padding_idx 9 is outside a table of 4 rows"),
        (lambda: nn.Embedding(4, 3, sparse=True), ConfigError, "sparse=True is not offered"),
        (lambda: nn.Embedding(-4, 3), ConfigError, "num_embeddings is a number of rows or columns, got -4"),
    ],
    "RNN": [
        (lambda: nn.RNN(3, 4)(real(5, 2, 4)), ShapeError,
         "RNN(3, 4): got input of shape (5, 2, 4); expected (L, N, 3), or (L, 3) of one sequence"),
        (lambda: nn.RNN(3, 4)(real(0, 2, 3)), ShapeError, "RNN: got a sequence of no steps, input of shape (0, 2, 3)"),
        (lambda: nn.RNN(3, 4)(real(5, 2, 3), real(1, 3, 4)), ShapeError, "RNN: h_0 has shape (1, 2, 4) here, got (1, 3, 4)"),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ConfigError, "nonlinearity is 'tanh' or 'relu', got 'gelu'"),
        (lambda: nn.RNN(3, 0), ConfigError, "RNN: hidden_size is a number from 1 on, got 0"),
        (lambda: nn.RNN(3, 4, dropout="a"), ConfigError, "RNN: dropout is the probability"),
    ],
    "LSTM": [
        (lambda: nn.LSTM(3, 4, batch_first=True)(real(5, 2, 4)), ShapeError, "expected (N, L, 3), or (L, 3) of one sequence"),
        (lambda: nn.LSTM(3, 4)(real(5, 2, 3), real(1, 2, 4)), ShapeError, "the first state is a pair (h, c), got 1 arrays"),
        (lambda: nn.LSTM(3, 4)(real(5, 2, 3), (real(1, 2, 4), real(1, 2, 5))), ShapeError, "c_0 has shape (1, 2, 4) here"),
        (lambda: nn.LSTM(3, 4, proj_size=4), ConfigError, "proj_size is smaller than hidden_size 4, got 4"),
    ],
    "GRU": [
        (lambda: nn.GRU(1, 4)(real(5, 2)), ShapeError, "One number a step? x.reshape(5, 2, 1)"),
        (lambda: nn.GRU(3, 4, 0), ConfigError, "GRU: num_layers is a number from 1 on, got 0"),
    ],
    "MultiheadAttention": [
        (lambda: nn.MultiheadAttention(4, 3), ConfigError, "MultiheadAttention: 4 features do not make 3 equal heads"),
        (lambda: nn.MultiheadAttention(4, 2)(*[real(3, 2, 5)] * 3), ShapeError, "the last axes are embed_dim 4, kdim 4, vdim 4"),
        (lambda: nn.MultiheadAttention(4, 2)(*[real(3)] * 3), ShapeError, "have three axes, or two without a batch"),
        (lambda: nn.MultiheadAttention(4, 2)(*[real(0, 2, 4)] * 3), ShapeError, "there is no key to attend to"),
        (lambda: nn.MultiheadAttention(4, 2)(*[real(3, 2, 4)] * 3, attn_mask=bools(2, 2)), ShapeError,
         "attn_mask has shape (3, 3) or (4, 3, 3), got (2, 2)"),
        (lambda: nn.MultiheadAttention(4, 2)(*[real(3, 2, 4)] * 3, attn_mask=whole(3, 3)), DTypeError, "a mask is of bools"),
        (lambda: nn.MultiheadAttention(4, 2, dropout=None), ConfigError, "MultiheadAttention: dropout is the probability"),
    ],
    "TransformerEncoderLayer": [
        (lambda: nn.TransformerEncoderLayer(4, 2, 8)(real(3, 2, 5)), ShapeError, "got query (3, 2, 5)"),
        (lambda: nn.TransformerEncoderLayer(4, 2, 8, activation="selu"), ConfigError, "activation is 'relu', 'gelu' or a function"),
        (lambda: nn.TransformerEncoderLayer(4, 2, 8)(real(3, 2, 4), src_mask=bools(2, 2)), ShapeError, "attn_mask has shape"),
    ],
    "ReLU": [(lambda: nn.ReLU()("a"), DTypeError, "a Tensor is made of numbers, got str 'a'")],
    "SiLU": [(lambda: nn.SiLU()("a"), DTypeError, "a Tensor is made of numbers")],
    "Tanh": [(lambda: nn.Tanh()(None), DTypeError, "a Tensor is made of numbers, got NoneType None")],
    "Sigmoid": [(lambda: nn.Sigmoid()({}), DTypeError, "a Tensor is made of numbers")],
    "GELU": [(lambda: nn.GELU("tan")(real(3)), ConfigError, "gelu: approximate is 'none' or 'tanh', got 'tan'")],
    "LeakyReLU": [(lambda: nn.LeakyReLU(None)(real(3)), ConfigError, "leaky_relu: negative_slope is a number, got None")],
    "ELU": [(lambda: nn.ELU("a")(real(3)), ConfigError, "elu: alpha is a number, got 'a'")],
    "Softplus": [
        (lambda: nn.Softplus(0.0)(real(3)), ConfigError, "softplus: it is divided by beta, which is not zero"),
        (lambda: nn.Softplus()(complex_(3)), DTypeError, "softplus: got input of dtype complex64"),
    ],
    "Softmax": [
        (lambda: nn.Softmax(1)(real(3)), AxisError, "axis 1 of an array with 1 axes; it must be from -1 to 0"),
    ],
    "LogSoftmax": [
        (lambda: nn.LogSoftmax(-3)(real(3, 2)), AxisError, "axis -3 of an array with 2 axes"),
    ],
    "CrossEntropyLoss": [
        (lambda: nn.CrossEntropyLoss()(real(3, 4), real(3)), ShapeError, "class numbers need an integer dtype: target.astype"),
        (lambda: nn.CrossEntropyLoss()(real(3, 4), bools(3)), DTypeError, "of an integer dtype, got bool"),
        (lambda: nn.CrossEntropyLoss()(real(3, 4), whole(3) * 7), DataError,
         "cross_entropy: target 7 at flat position 0, but the logits have 4 classes; class numbers must be from 0 to 3"),
        (lambda: nn.CrossEntropyLoss()(real(), whole()), ShapeError, "cross_entropy: got input of shape (); expected (N, C)"),
        (lambda: nn.CrossEntropyLoss()(real(3, 0), whole(3)), ShapeError, "its axis of classes has no element"),
        (lambda: nn.CrossEntropyLoss()(complex_(3, 4), whole(3)), DTypeError, "cross_entropy: got input of dtype complex64"),
        (lambda: nn.CrossEntropyLoss(real(3))(real(3, 4), whole(3)), ShapeError, "4 classes need a weight of shape (4,)"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2)(real(3, 4), whole(3)), ConfigError, "label_smoothing must be in [0, 1]"),
    ],
    "NLLLoss": [
        (lambda: nn.NLLLoss()(real(3, 4), whole(5)), ShapeError, "logits of shape (3, 4) need class numbers of shape (3,)"),
        (lambda: nn.NLLLoss()(real(3, 4), real(3)), DTypeError, "nll_loss: targets are class numbers of an integer dtype"),
        (lambda: nn.NLLLoss()(real(3, 4), whole(3) * 9), DataError, "nll_loss: target 9 at flat position 0"),
        (lambda: nn.NLLLoss()(complex_(3, 4), whole(3)), DTypeError, "nll_loss: got input of dtype complex64"),
    ],
    "HuberLoss": [
        (lambda: nn.HuberLoss(delta=-1)(real(3), real(3)), ConfigError, "huber_loss: delta must be positive, got -1.0"),
        (lambda: nn.HuberLoss(delta="a")(real(3), real(3)), ConfigError, "huber_loss: delta is a number, got 'a'"),
    ],
    "SmoothL1Loss": [
        (lambda: nn.SmoothL1Loss(beta=-1)(real(3), real(3)), ConfigError, "beta must not be negative, got -1.0"),
    ],
    "BCELoss": [
        (lambda: nn.BCELoss()(real(3) * 4, real(3)), DataError, "input must be probabilities in [0, 1], got values from 2 to 2"),
        (lambda: nn.BCELoss(real(2))(real(3), real(3)), ShapeError, "a weight of shape (2,) does not broadcast to input of"),
    ],
    "BCEWithLogitsLoss": [
        (lambda: nn.BCEWithLogitsLoss(pos_weight=real(2))(real(3), real(3)), ShapeError,
         "pos_weight: a weight of shape (2,) does not broadcast to input of shape (3,)"),
    ],
    "MSELoss": [],
    "L1Loss": [],
    "KLDivLoss": [],
    "Identity": [],
    "Sequential": [
        (lambda: nn.Sequential(nn.ReLU), ConfigError, "Sequential: 0 must be an nn.Module, got type"),
    ],
    "ModuleList": [(lambda: nn.ModuleList([3]), ConfigError, "must be an nn.Module or None, got int")],
    "ModuleDict": [(lambda: nn.ModuleDict({"a.b": nn.ReLU()}), ConfigError, "a string without a dot")],
}  # fmt: skip


def of_losses() -> None:
    """What all losses say of reductions, empty batches, and pairs of different shapes."""
    for name in [name for name in MISTAKES if name.endswith("Loss")]:
        loss = getattr(nn, name)
        of_classes = name in ("CrossEntropyLoss", "NLLLoss")
        empty = (real(0, 4), whole(0)) if of_classes else (real(0, 4), real(0, 4))
        MISTAKES[name] += [
            (lambda loss=loss: loss(reduction="avg"), ConfigError, f"{name}: reduction must be one of none, mean, sum"),
            (lambda loss=loss, empty=empty: loss()(*empty), ShapeError,
             "got an empty batch, input of shape (0, 4); the mean of no losses has no value. Skip empty batches, or use "
             "reduction='sum'"),
        ]  # fmt: skip
        if not of_classes:
            MISTAKES[name] += [
                (lambda loss=loss: loss()(real(3), real(3, 1)), ShapeError,
                 "input of shape (3,) needs a target of that shape, got (3, 1). Reshape it: target.reshape(3,)"),
                (lambda loss=loss: loss()(complex_(3), complex_(3)), DTypeError, "got input of dtype complex64"),
            ]  # fmt: skip


of_losses()


def test_every_module_is_here() -> None:
    exported = {n for n in dir(nn) if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module)}
    assert set(MISTAKES) == exported - {"Module"}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    for call, error, told in MISTAKES[name]:
        with pytest.raises(error, match=re.escape(told)):
            call()
