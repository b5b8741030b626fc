"""Products of operands that are rounded to a narrower dtype: what "mixed" precision means here.

Arrays keep their dtype, float32; only what is multiplied is rounded, and sums are float32 again. So a backend whose
hardware multiplies halves with sums in float32 (its kernels `rounded_matmul`, `rounded_conv2d`, …) does exactly what
any other does by rounding first; `rounded_attention` alone may round the weights and the result, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from framework.autodiff.namespace import RawNamespace, namespace_of
from framework.backend import Backend

OPERANDS: dict[str, int] = {
    "matmul": 2, "linear": 2, "linear_dx": 2, "linear_dw": 2, "conv2d": 2, "conv2d_dx": 2, "conv2d_dw": 2,
    "attention": 3, "attention_grad": 4,
}  # fmt: skip
"""Functions that multiply, by name, and how many of their first arguments are operands."""


@contextmanager
def products_rounded(backend: Backend, dtype: str | None) -> Iterator[None]:
    """Within the block, products of this backend's float32 arrays are of operands rounded to `dtype`, if not None."""
    ns = namespace_of(backend)
    before = ns.around
    ns.look_again(before if dtype is None else _around(ns, dtype))
    try:
        yield
    finally:
        ns.look_again(before)


@cache
def _around(ns: RawNamespace, dtype: str) -> Callable[[str, Any], Any]:
    """The same each time, so that a recording of `compile` is known again."""
    return lambda name, fn: rounded(ns, name, fn, dtype)


def rounded(ns: RawNamespace, name: str, fn: Callable[..., Any], dtype: str) -> Callable[..., Any]:
    """A function of a namespace, of rounded operands where it multiplies."""
    if name not in OPERANDS:
        return fn
    xp, wide, narrow = ns.xp, ns.backend.native("float32"), ns.backend.native(dtype)
    count = OPERANDS[name]
    multiply = ns.backend.kernels.get("rounded_matmul")
    kernel = ns.backend.kernels.get(f"rounded_{name}")

    def of_rounded(*args: Any, **kwargs: Any) -> Any:
        if args[0].dtype != wide:
            return fn(*args, **kwargs)
        operands = [xp.astype(_cast(xp, a, narrow), wide) if a.dtype == wide else a for a in args[:count]]
        return fn(*operands, *args[count:], **kwargs)

    def by_kernel(*args: Any, **kwargs: Any) -> Any:
        if any(a.dtype != wide for a in args[:count]):
            return of_rounded(*args, **kwargs)
        return kernel(*args, **kwargs, dtype=dtype)  # type: ignore[misc]

    def product(x: Any, y: Any) -> Any:
        return multiply(x, y, dtype) if x.dtype == wide and y.dtype == wide else fn(x, y)  # type: ignore[misc]

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        out = product(x, xp.matrix_transpose(weight))
        return out if bias is None else out + bias

    def linear_dw(g: Any, x: Any, out: Any = None) -> Any:
        rows = [xp.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1])) for a in (g, x)]
        return product(xp.matrix_transpose(rows[0]), rows[1])

    own: dict[str, Callable[..., Any]] = {
        "matmul": product,
        "linear": linear,
        "linear_dx": product,
        "linear_dw": linear_dw,
    }
    if multiply is not None and name in own:
        return own[name]
    return of_rounded if kernel is None else by_kernel


def _cast(xp: Any, x: Any, narrow: Any) -> Any:
    """`xp.astype`, as a method where there is one: NumPy would warn of an overflow in its own name otherwise."""
    return x.astype(narrow) if hasattr(x, "astype") else xp.astype(x, narrow)
