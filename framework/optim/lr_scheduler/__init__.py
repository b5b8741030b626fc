"""Learning rates as functions of the step: the twins of `torch.optim.lr_scheduler`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.optim.lr_scheduler.base import LRScheduler as LRScheduler

if TYPE_CHECKING:
    from framework.optim.lr_scheduler.cosine import CosineAnnealingLR as CosineAnnealingLR
    from framework.optim.lr_scheduler.cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
    from framework.optim.lr_scheduler.decays import ConstantLR as ConstantLR
    from framework.optim.lr_scheduler.decays import ExponentialLR as ExponentialLR
    from framework.optim.lr_scheduler.decays import LambdaLR as LambdaLR
    from framework.optim.lr_scheduler.decays import LinearLR as LinearLR
    from framework.optim.lr_scheduler.decays import MultiStepLR as MultiStepLR
    from framework.optim.lr_scheduler.decays import PolynomialLR as PolynomialLR
    from framework.optim.lr_scheduler.decays import StepLR as StepLR
    from framework.optim.lr_scheduler.onecycle import OneCycleLR as OneCycleLR
    from framework.optim.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
    from framework.optim.lr_scheduler.sequential import SequentialLR as SequentialLR

_LATER = {
    "ConstantLR": "decays", "CosineAnnealingLR": "cosine", "CosineAnnealingWarmRestarts": "cosine",
    "ExponentialLR": "decays", "LambdaLR": "decays", "LinearLR": "decays", "MultiStepLR": "decays",
    "OneCycleLR": "onecycle", "PolynomialLR": "decays", "ReduceLROnPlateau": "plateau",
    "SequentialLR": "sequential", "StepLR": "decays",
}  # fmt: skip
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.optim.lr_scheduler' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"framework.optim.lr_scheduler.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
