"""Modules: layers, activations, losses and containers, with `functional` and `init`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.nn import functional as functional
from framework.nn import init as init
from framework.nn.activations import ELU as ELU
from framework.nn.activations import GELU as GELU
from framework.nn.activations import LeakyReLU as LeakyReLU
from framework.nn.activations import LogSoftmax as LogSoftmax
from framework.nn.activations import ReLU as ReLU
from framework.nn.activations import Sigmoid as Sigmoid
from framework.nn.activations import SiLU as SiLU
from framework.nn.activations import Softmax as Softmax
from framework.nn.activations import Softplus as Softplus
from framework.nn.activations import Tanh as Tanh
from framework.nn.containers import ModuleDict as ModuleDict
from framework.nn.containers import ModuleList as ModuleList
from framework.nn.containers import Sequential as Sequential
from framework.nn.layers import Dropout as Dropout
from framework.nn.layers import Flatten as Flatten
from framework.nn.layers import Identity as Identity
from framework.nn.layers import Linear as Linear
from framework.nn.losses import BCELoss as BCELoss
from framework.nn.losses import BCEWithLogitsLoss as BCEWithLogitsLoss
from framework.nn.losses import CrossEntropyLoss as CrossEntropyLoss
from framework.nn.losses import HuberLoss as HuberLoss
from framework.nn.losses import KLDivLoss as KLDivLoss
from framework.nn.losses import L1Loss as L1Loss
from framework.nn.losses import MSELoss as MSELoss
from framework.nn.losses import NLLLoss as NLLLoss
from framework.nn.losses import SmoothL1Loss as SmoothL1Loss
from framework.nn.module import Module as Module
from framework.nn.parameter import Parameter as Parameter

if TYPE_CHECKING:
    from framework.nn.attention import MultiheadAttention as MultiheadAttention
    from framework.nn.attention import TransformerEncoderLayer as TransformerEncoderLayer
    from framework.nn.conv import Conv1d as Conv1d
    from framework.nn.conv import Conv2d as Conv2d
    from framework.nn.conv import ConvTranspose2d as ConvTranspose2d
    from framework.nn.embedding import Embedding as Embedding
    from framework.nn.norm import BatchNorm1d as BatchNorm1d
    from framework.nn.norm import BatchNorm2d as BatchNorm2d
    from framework.nn.norm import GroupNorm as GroupNorm
    from framework.nn.norm import LayerNorm as LayerNorm
    from framework.nn.norm import RMSNorm as RMSNorm
    from framework.nn.pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
    from framework.nn.pooling import AvgPool2d as AvgPool2d
    from framework.nn.pooling import MaxPool2d as MaxPool2d
    from framework.nn.recurrent import GRU as GRU
    from framework.nn.recurrent import LSTM as LSTM
    from framework.nn.recurrent import RNN as RNN

_LATER = {
    "AdaptiveAvgPool2d": "pooling",
    "AvgPool2d": "pooling",
    "BatchNorm1d": "norm",
    "BatchNorm2d": "norm",
    "Conv1d": "conv",
    "Conv2d": "conv",
    "ConvTranspose2d": "conv",
    "Embedding": "embedding",
    "GRU": "recurrent",
    "GroupNorm": "norm",
    "LSTM": "recurrent",
    "LayerNorm": "norm",
    "MaxPool2d": "pooling",
    "MultiheadAttention": "attention",
    "RMSNorm": "norm",
    "RNN": "recurrent",
    "TransformerEncoderLayer": "attention",
}
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.nn' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"framework.nn.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
