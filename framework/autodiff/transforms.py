"""The transforms of functions, gathered."""

from __future__ import annotations

from framework.autodiff.batching import vmap as vmap
from framework.autodiff.derivatives import hessian as hessian
from framework.autodiff.derivatives import hvp as hvp
from framework.autodiff.derivatives import jacobian as jacobian
from framework.autodiff.forward import jvp as jvp
from framework.autodiff.reverse import elementwise_grad as elementwise_grad
from framework.autodiff.reverse import grad as grad
from framework.autodiff.reverse import value_and_grad as value_and_grad
from framework.autodiff.reverse import vjp as vjp
