"""Floor 1: Tensors, the tape, the primitives with their rules, and transforms of functions."""

from framework.autodiff import primitives as primitives
from framework.autodiff.convert import as_tensor as as_tensor
from framework.autodiff.convert import asarray as asarray
from framework.autodiff.convert import tensor as tensor
from framework.autodiff.modes import default_backend as default_backend
from framework.autodiff.modes import enable_grad as enable_grad
from framework.autodiff.modes import get_default_dtype as get_default_dtype
from framework.autodiff.modes import no_grad as no_grad
from framework.autodiff.modes import set_default_backend as set_default_backend
from framework.autodiff.modes import set_default_dtype as set_default_dtype
from framework.autodiff.modes import use_backend as use_backend
from framework.autodiff.namespace import PRIMITIVES as PRIMITIVES
from framework.autodiff.namespace import ops as ops
from framework.autodiff.tensor import Tensor as Tensor
from framework.autodiff.transforms import grad as grad
from framework.autodiff.transforms import jvp as jvp
from framework.autodiff.transforms import value_and_grad as value_and_grad
from framework.autodiff.transforms import vjp as vjp
from framework.autodiff.transforms import vmap as vmap
