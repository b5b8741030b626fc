"""fw: a small, exact, fast deep-learning framework whose array backends are plugins.

Names are loaded when they are first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework._version import __version__ as __version__

_MODULES = ("backend", "callbacks", "data", "errors", "loggers", "metrics", "nn", "numpy", "optim", "random",
            "strategies", "testing", "train")  # fmt: skip

_NAMES = {
    "Tensor": "framework.autodiff",
    "tensor": "framework.autodiff",
    "no_grad": "framework.autodiff",
    "enable_grad": "framework.autodiff",
    "get_default_dtype": "framework.autodiff",
    "set_default_dtype": "framework.autodiff",
    "use_backend": "framework.autodiff",
    "set_default_backend": "framework.autodiff",
    "grad": "framework.autodiff",
    "value_and_grad": "framework.autodiff",
    "vjp": "framework.autodiff",
    "jvp": "framework.autodiff",
    "gradcheck": "framework.autodiff.gradcheck",
    "seed_everything": "framework.random",
    "TrainModule": "framework.train",
    "DataModule": "framework.train",
    "Trainer": "framework.train",
    "bool": "framework.backend.dtypes",
    **{
        name: "framework.backend.dtypes"
        for name in (
            "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
            "uint8", "uint16", "uint32", "uint64", "complex64", "complex128",
        )
    },
}  # fmt: skip

if TYPE_CHECKING:
    from framework import backend, callbacks, data, errors, loggers, metrics, nn, numpy, optim, random
    from framework import strategies, testing, train
    from framework.autodiff import (
        Tensor,
        enable_grad,
        get_default_dtype,
        grad,
        jvp,
        no_grad,
        set_default_backend,
        set_default_dtype,
        tensor,
        use_backend,
        value_and_grad,
        vjp,
    )
    from framework.autodiff.gradcheck import gradcheck
    from framework.backend.dtypes import (
        bfloat16,
        bool_ as bool,
        complex64,
        complex128,
        float16,
        float32,
        float64,
        int8,
        int16,
        int32,
        int64,
        uint8,
        uint16,
        uint32,
        uint64,
    )
    from framework.random import seed_everything
    from framework.train import DataModule, Trainer, TrainModule

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
