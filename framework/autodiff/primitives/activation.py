"""Activations that are single operations because their parts would each be a pass over large arrays."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor


def _share(ns: Any, x: Any) -> Any:
    """Φ(x), the normal distribution function."""
    return (ns.erf(x * math.sqrt(0.5)) + 1) * 0.5


def _slope(ns: Any, x: Any, share: Any) -> Any:
    """The derivative, Φ(x) + x·φ(x)."""
    return share + x * ns.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


def _gelu_forward(ns: Any, x: Any) -> Any:
    share = _share(ns, x)
    return x * share, _slope(ns, x, share)


def _gelu_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (g * (_slope(ns, x, _share(ns, x)) if residual is None else residual),)


def _gelu_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return tangents[0] * _slope(ns, x, _share(ns, x))


_gelu = primitive(
    "gelu", arity=1, forward=_gelu_forward, vjp=_gelu_vjp, jvp=_gelu_jvp, keep=((0,),), residual=True, floating=True
)


@public
def gelu(x: Any, /) -> Tensor:
    """x·Φ(x), with Φ the normal distribution function (Hendrycks & Gimpel 2016)."""
    x = as_tensor(x)
    out: Tensor = _gelu(x if x.dtype.is_differentiable else ops.astype(x, ops.get_default_dtype()))
    return out
