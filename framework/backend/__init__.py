"""Floor 0: the contract of a backend, its registry, dtypes."""

from framework.backend.base import Backend as Backend
from framework.backend.kernels import KERNELS as KERNELS
from framework.backend.program import Program as Program
from framework.backend.registry import auto as auto
from framework.backend.registry import get as get
from framework.backend.registry import names as names
from framework.backend.registry import register as register
from framework.errors import BackendError as BackendError
