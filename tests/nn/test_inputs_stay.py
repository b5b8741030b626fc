"""No function writes what it is given: inputs, weights, targets, masks, states; all but what is meant to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.nn import functional as F


def real(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def share(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32)


CLASSES = np.array([0, 2, 1])
CALLS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 2), (real(2, 3, 5, 5),)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2, padding=1), (real(2, 3, 5, 5),)),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), (real(4, 3), real(3), real(3)),
    ),
    "binary_cross_entropy": (F.binary_cross_entropy, (share(3, 4), share(3, 4), share(4))),
    "binary_cross_entropy_with_logits": (
        lambda x, y, w, p: F.binary_cross_entropy_with_logits(x, y, w, pos_weight=p),
        (real(3, 4), share(3, 4), share(4), share(4)),
    ),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, padding=1), (real(2, 3, 6), real(4, 3, 3), real(4))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), (real(2, 3, 6, 5), real(4, 3, 3, 2), real(4))),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2), (real(2, 3, 4, 4), real(3, 4, 2, 2), real(4)),
    ),
    "cross_entropy": (lambda x, y, w: F.cross_entropy(x, y, w, label_smoothing=0.1), (real(3, 4), CLASSES, share(4))),
    "dropout": (F.dropout, (real(3, 4),)),
    "elu": (lambda x: F.elu(x, inplace=True), (real(3, 4),)),
    "embedding": (lambda i, w: F.embedding(i, w, padding_idx=0), (CLASSES, real(4, 3))),
    "gelu": (F.gelu, (real(3, 4),)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), (real(2, 4, 3), real(4), real(4))),
    "huber_loss": (F.huber_loss, (real(3, 4), share(3, 4))),
    "kl_div": (F.kl_div, (real(3, 4), share(3, 4))),
    "l1_loss": (F.l1_loss, (real(3, 4), share(3, 4))),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (real(3, 4), real(4), real(4))),
    "leaky_relu": (lambda x: F.leaky_relu(x, inplace=True), (real(3, 4),)),
    "linear": (F.linear, (real(3, 4), real(5, 4), real(5))),
    "log_softmax": (lambda x: F.log_softmax(x, 1), (real(3, 4),)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, padding=1), (real(2, 3, 5, 5),)),
    "mse_loss": (F.mse_loss, (real(3, 4), share(3, 4))),
    "nll_loss": (F.nll_loss, (real(3, 4), CLASSES, share(4))),
    "relu": (lambda x: F.relu(x, inplace=True), (real(3, 4),)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w), (real(3, 4), real(4))),
    "scaled_dot_product_attention": (F.scaled_dot_product_attention, (real(2, 3, 4), real(2, 5, 4), real(2, 5, 6), real(3, 5))),
    "sigmoid": (F.sigmoid, (real(3, 4),)),
    "silu": (lambda x: F.silu(x, inplace=True), (real(3, 4),)),
    "smooth_l1_loss": (F.smooth_l1_loss, (real(3, 4), share(3, 4))),
    "softmax": (lambda x: F.softmax(x, 1), (real(3, 4),)),
    "softplus": (F.softplus, (real(3, 4),)),
    "tanh": (F.tanh, (real(3, 4),)),
}  # fmt: skip


def test_every_function_is_here() -> None:
    offered = {name for name in dir(F) if callable(getattr(F, name)) and not name.startswith("_") and name.islower()}
    assert set(CALLS) == offered - {"import_module"}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_given_is_written(name: str) -> None:
    fn, arrays = CALLS[name]
    for is_host in (True, False):
        held = [a.copy() for a in arrays]
        given = held if is_host else [fw.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        out = fn(*given)
        if not is_host:
            (out * out).sum().backward()
            assert all(x.grad is not None for x in given if x.requires_grad)
        for x, a in zip(given, arrays):
            np.testing.assert_array_equal(x if is_host else x.detach().numpy(), a)
