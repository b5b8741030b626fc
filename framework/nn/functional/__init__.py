"""The functions that modules are made of: the twins of `torch.nn.functional`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.nn.functional.activation import elu as elu
from framework.nn.functional.activation import gelu as gelu
from framework.nn.functional.activation import leaky_relu as leaky_relu
from framework.nn.functional.activation import log_softmax as log_softmax
from framework.nn.functional.activation import relu as relu
from framework.nn.functional.activation import sigmoid as sigmoid
from framework.nn.functional.activation import silu as silu
from framework.nn.functional.activation import softmax as softmax
from framework.nn.functional.activation import softplus as softplus
from framework.nn.functional.activation import tanh as tanh
from framework.nn.functional.classification import binary_cross_entropy as binary_cross_entropy
from framework.nn.functional.classification import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from framework.nn.functional.classification import cross_entropy as cross_entropy
from framework.nn.functional.classification import kl_div as kl_div
from framework.nn.functional.classification import nll_loss as nll_loss
from framework.nn.functional.layer import dropout as dropout
from framework.nn.functional.layer import linear as linear
from framework.nn.functional.regression import huber_loss as huber_loss
from framework.nn.functional.regression import l1_loss as l1_loss
from framework.nn.functional.regression import mse_loss as mse_loss
from framework.nn.functional.regression import smooth_l1_loss as smooth_l1_loss

if TYPE_CHECKING:
    from framework.nn.functional.attention import scaled_dot_product_attention as scaled_dot_product_attention
    from framework.nn.functional.conv import conv1d as conv1d
    from framework.nn.functional.conv import conv2d as conv2d
    from framework.nn.functional.conv import conv_transpose2d as conv_transpose2d
    from framework.nn.functional.lookup import embedding as embedding
    from framework.nn.functional.norm import batch_norm as batch_norm
    from framework.nn.functional.norm import group_norm as group_norm
    from framework.nn.functional.norm import layer_norm as layer_norm
    from framework.nn.functional.norm import rms_norm as rms_norm
    from framework.nn.functional.pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
    from framework.nn.functional.pooling import avg_pool2d as avg_pool2d
    from framework.nn.functional.pooling import max_pool2d as max_pool2d

_LATER = {
    "adaptive_avg_pool2d": "pooling", "avg_pool2d": "pooling", "batch_norm": "norm", "conv1d": "conv", "conv2d": "conv",
    "conv_transpose2d": "conv", "embedding": "lookup", "group_norm": "norm", "layer_norm": "norm",
    "max_pool2d": "pooling", "rms_norm": "norm", "scaled_dot_product_attention": "attention",
}  # fmt: skip
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.nn.functional' has no attribute {name!r}")
    module = import_module(f"framework.nn.functional.{_LATER[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
