"""fw: a small, exact, fast deep-learning framework whose array backends are plugins.

Names are loaded when they are first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework._version import __version__ as __version__

_MODULES = ("backend", "callbacks", "data", "errors", "loggers", "metrics", "nn", "numpy", "optim",
            "profilers", "random", "strategies", "testing", "train")  # fmt: skip

_NAMES = {
    "Tensor": "framework.autodiff",
    "tensor": "framework.autodiff",
    "no_grad": "framework.autodiff",
    "enable_grad": "framework.autodiff",
    "record_lines": "framework.autodiff",
    "get_default_dtype": "framework.autodiff",
    "set_default_dtype": "framework.autodiff",
    "use_backend": "framework.autodiff",
    "set_default_backend": "framework.autodiff",
    "grad": "framework.autodiff",
    "value_and_grad": "framework.autodiff",
    "vjp": "framework.autodiff",
    "jvp": "framework.autodiff",
    "elementwise_grad": "framework.autodiff",
    "jacobian": "framework.autodiff",
    "hessian": "framework.autodiff",
    "hvp": "framework.autodiff",
    "vmap": "framework.autodiff",
    "checkpoint": "framework.autodiff",
    "compile": "framework.autodiff",
    "custom_jvp": "framework.autodiff",
    "custom_vjp": "framework.autodiff",
    "Function": "framework.autodiff",
    "implicit": "framework.autodiff",
    "GradientTape": "framework.autodiff.gradient_tape",
    "gradcheck": "framework.autodiff.gradcheck",
    "graph": "framework.autodiff.tracing",
    "linearize": "framework.autodiff.tracing",
    "seed_everything": "framework.random",
    "load": "framework.interchange",
    "save": "framework.interchange",
    "TrainModule": "framework.train",
    "DataModule": "framework.train",
    "Trainer": "framework.train",
    "bool": "framework.backend.dtypes",
    **dict.fromkeys(
        (
            "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
            "uint8", "uint16", "uint32", "uint64", "complex64", "complex128",
        ),
        "framework.backend.dtypes",
    ),
}  # fmt: skip

if TYPE_CHECKING:
    from framework import backend as backend
    from framework import callbacks as callbacks
    from framework import data as data
    from framework import errors as errors
    from framework import loggers as loggers
    from framework import metrics as metrics
    from framework import nn as nn
    from framework import numpy as numpy
    from framework import optim as optim
    from framework import profilers as profilers
    from framework import random as random
    from framework import strategies as strategies
    from framework import testing as testing
    from framework import train as train
    from framework.autodiff import Function as Function
    from framework.autodiff import Tensor as Tensor
    from framework.autodiff import checkpoint as checkpoint
    from framework.autodiff import compile as compile
    from framework.autodiff import custom_jvp as custom_jvp
    from framework.autodiff import custom_vjp as custom_vjp
    from framework.autodiff import elementwise_grad as elementwise_grad
    from framework.autodiff import enable_grad as enable_grad
    from framework.autodiff import get_default_dtype as get_default_dtype
    from framework.autodiff import grad as grad
    from framework.autodiff import hessian as hessian
    from framework.autodiff import hvp as hvp
    from framework.autodiff import implicit as implicit
    from framework.autodiff import jacobian as jacobian
    from framework.autodiff import jvp as jvp
    from framework.autodiff import no_grad as no_grad
    from framework.autodiff import record_lines as record_lines
    from framework.autodiff import set_default_backend as set_default_backend
    from framework.autodiff import set_default_dtype as set_default_dtype
    from framework.autodiff import use_backend as use_backend
    from framework.autodiff import value_and_grad as value_and_grad
    from framework.autodiff import vjp as vjp
    from framework.autodiff import vmap as vmap
    from framework.autodiff.convert import tensor as tensor
    from framework.autodiff.gradcheck import gradcheck as gradcheck
    from framework.autodiff.gradient_tape import GradientTape as GradientTape
    from framework.autodiff.tracing import graph as graph
    from framework.autodiff.tracing import linearize as linearize
    from framework.backend.dtypes import bfloat16 as bfloat16
    from framework.backend.dtypes import bool_ as bool
    from framework.backend.dtypes import complex64 as complex64
    from framework.backend.dtypes import complex128 as complex128
    from framework.backend.dtypes import float16 as float16
    from framework.backend.dtypes import float32 as float32
    from framework.backend.dtypes import float64 as float64
    from framework.backend.dtypes import int8 as int8
    from framework.backend.dtypes import int16 as int16
    from framework.backend.dtypes import int32 as int32
    from framework.backend.dtypes import int64 as int64
    from framework.backend.dtypes import uint8 as uint8
    from framework.backend.dtypes import uint16 as uint16
    from framework.backend.dtypes import uint32 as uint32
    from framework.backend.dtypes import uint64 as uint64
    from framework.interchange import load as load
    from framework.interchange import save as save
    from framework.random import seed_everything as seed_everything
    from framework.train import DataModule as DataModule
    from framework.train import Trainer as Trainer
    from framework.train import TrainModule as TrainModule

__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(import_module(_NAMES[name]), "bool_" if name == "bool" else name)
    elif name in _MODULES:
        value = import_module(f"framework.{name}")
    else:
        raise AttributeError(f"module 'framework' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
