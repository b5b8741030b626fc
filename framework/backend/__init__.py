"""Floor 0: the contract of a backend, its registry, dtypes, programs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.backend.base import Backend as Backend
from framework.backend.kernels import KERNELS as KERNELS
from framework.backend.registry import auto as auto
from framework.backend.registry import get as get
from framework.backend.registry import names as names
from framework.backend.registry import register as register
from framework.errors import BackendError as BackendError

if TYPE_CHECKING:
    from framework.backend.program import Program as Program


def __getattr__(name: str) -> Any:
    if name == "Program":  # needed by those who record or run one
        return import_module("framework.backend.program").Program
    raise AttributeError(f"module 'framework.backend' has no attribute {name!r}")
