"""Optimizers, schedules of their learning rates in `lr_scheduler`, and clipping of gradients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.optim import lr_scheduler as lr_scheduler
from framework.optim.adam import Adam as Adam
from framework.optim.adam import AdamW as AdamW
from framework.optim.optimizer import Optimizer as Optimizer
from framework.optim.rprop import Rprop as Rprop
from framework.optim.sgd import SGD as SGD

if TYPE_CHECKING:
    from framework.optim.adadelta import Adadelta as Adadelta
    from framework.optim.adagrad import Adagrad as Adagrad
    from framework.optim.adamax import Adamax as Adamax
    from framework.optim.clip import clip_grad_norm_ as clip_grad_norm_
    from framework.optim.clip import clip_grad_value_ as clip_grad_value_
    from framework.optim.lbfgs import LBFGS as LBFGS
    from framework.optim.lion import Lion as Lion
    from framework.optim.nadam import NAdam as NAdam
    from framework.optim.rmsprop import RMSprop as RMSprop
    from framework.optim.scg import SCG as SCG

_LATER = {
    "clip_grad_norm_": "clip", "clip_grad_value_": "clip",
    "Adadelta": "adadelta", "Adagrad": "adagrad", "Adamax": "adamax", "LBFGS": "lbfgs", "Lion": "lion",
    "NAdam": "nadam", "RMSprop": "rmsprop", "SCG": "scg",
}  # fmt: skip
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.optim' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"framework.optim.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
