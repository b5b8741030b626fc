"""Floor 1: Tensors, the tape, the primitives with their rules, and transforms of functions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.autodiff import interop as interop
from framework.autodiff import namespace as _namespace
from framework.autodiff import primitives as primitives
from framework.autodiff import reverse as reverse
from framework.autodiff.convert import as_tensor as as_tensor
from framework.autodiff.convert import asarray as asarray
from framework.autodiff.convert import tensor as tensor
from framework.autodiff.lines import record_lines as record_lines
from framework.autodiff.modes import default_backend as default_backend
from framework.autodiff.modes import enable_grad as enable_grad
from framework.autodiff.modes import get_default_dtype as get_default_dtype
from framework.autodiff.modes import no_grad as no_grad
from framework.autodiff.modes import set_default_backend as set_default_backend
from framework.autodiff.modes import set_default_dtype as set_default_dtype
from framework.autodiff.modes import use_backend as use_backend
from framework.autodiff.namespace import ops as ops
from framework.autodiff.reverse import elementwise_grad as elementwise_grad
from framework.autodiff.reverse import grad as grad
from framework.autodiff.reverse import value_and_grad as value_and_grad
from framework.autodiff.reverse import vjp as vjp
from framework.autodiff.tensor import Tensor as Tensor

if TYPE_CHECKING:
    from framework.autodiff.batching import vmap as vmap
    from framework.autodiff.checkpointing import checkpoint as checkpoint
    from framework.autodiff.compiling import compile as compile
    from framework.autodiff.custom import custom_jvp as custom_jvp
    from framework.autodiff.custom import custom_vjp as custom_vjp
    from framework.autodiff.derivatives import hessian as hessian
    from framework.autodiff.derivatives import hvp as hvp
    from framework.autodiff.derivatives import jacobian as jacobian
    from framework.autodiff.equations import implicit as implicit
    from framework.autodiff.forward import jvp as jvp
    from framework.autodiff.function import Function as Function
    from framework.autodiff.namespace import PRIMITIVES as PRIMITIVES

_LATER = {
    "Function": "function", "checkpoint": "checkpointing", "compile": "compiling", "custom_jvp": "custom",
    "custom_vjp": "custom", "hessian": "derivatives", "hvp": "derivatives", "implicit": "equations",
    "jacobian": "derivatives", "jvp": "forward", "vmap": "batching",
}  # fmt: skip
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name == "PRIMITIVES":  # whoever asks here wants all of them
        primitives.declare_all()
        return _namespace.PRIMITIVES
    if name not in _LATER:
        raise AttributeError(f"module 'framework.autodiff' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"framework.autodiff.{_LATER[name]}"), name)
    return value
