"""Kernels of the CUDA backend: one launch where the plain composition takes several.

Written with CuPy's documented kernel classes; the CUDA code of each stands in `ELEMENTWISE`. CuPy
compiles a kernel when it is first called. In those with outputs that are also read, the outputs
are arrays that exist already and are updated in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any

ELEMENTWISE: dict[str, tuple[str, str, str]] = {
    # name: inputs, outputs, code for one element. T is the arrays' dtype, which may be CuPy's float16: its
    # arithmetic gives float, so both sides of a `?:` are cast. NaN passes through.
    "relu": ("T x", "T y", "y = x <= T(0) ? T(0) : x"),
    "relu_grad": ("T g, T out", "T y", "y = out > T(0) ? g : T(0)"),
    "xent_grad": ("T p, I target, J label, T g", "T y", "y = (target == label ? T(p - T(1)) : p) * g"),
    "sgd": (
        "T g, T lr, T weight_decay",
        "T p",
        "p -= lr * (g + weight_decay * p)",
    ),
    "sgd_momentum": (
        "T g, T lr, T momentum, T kept, T weight_decay, bool nesterov, bool first",
        "T p, T v",
        """
        T d = g + weight_decay * p;
        v = first ? d : T(momentum * v + kept * d);
        p -= lr * (nesterov ? T(d + momentum * v) : v);
        """,
    ),
    "adam": (
        "T g, T rate, T b1, T c1, T b2, T c2, T root, T eps, T l2, T shrink",
        "T p, T m, T v",
        """
        T d = g + l2 * p;
        p -= shrink * p;
        m = b1 * m + c1 * d;
        v = b2 * v + c2 * (d * d);
        p -= rate * (m / (T(sqrt(v)) / root + eps));
        """,
    ),
    "rprop": (
        "T g, T down, T up, T least, T most",
        "T p, T previous, T s",
        """
        T agree = g * previous;
        T step = agree > T(0) ? T(s * up) : (agree < T(0) ? T(s * down) : s);
        step = step < least ? least : (step > most ? most : step);
        T d = agree < T(0) ? T(0) : g;
        p -= d > T(0) ? step : (d < T(0) ? T(-step) : T(d * T(0)));
        previous = d;
        s = step;
        """,
    ),
}

NAMES = (
    "relu", "relu_grad", "xent_grad", "scatter_add", "set_item", "get_item", "erf",
    "sum_of_squares", "sgd_update", "adam_update", "rprop_update",
)  # fmt: skip
"""What `table` offers; each is a method of `CudaKernels` with the contract's signature."""


class CudaKernels:
    """The kernels, built on a given `cupy` (so that this module imports without it)."""

    def __init__(self, cupy: Any, erf: Callable[[Array], Array]) -> None:
        self.cupy = cupy
        self._erf = erf
        built = {
            name: cupy.ElementwiseKernel(inputs, outputs, code, f"fw_{name}")
            for name, (inputs, outputs, code) in ELEMENTWISE.items()
        }
        self._relu, self._relu_grad, self._xent_grad = built["relu"], built["relu_grad"], built["xent_grad"]
        self._sgd, self._sgd_momentum = built["sgd"], built["sgd_momentum"]
        self._adam, self._rprop = built["adam"], built["rprop"]
        self._squares = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "fw_squares")

    def table(self) -> dict[str, Callable[..., Any]]:
        """Name to kernel."""
        return {name: getattr(self, name) for name in NAMES}

    # -- forward and pieces of rules ---------------------------------------------------------------

    def relu(self, x: Array) -> Array:
        """max(x, 0)."""
        return self._relu(x)

    def relu_grad(self, g: Array, out: Array) -> Array:
        """`g` where `out > 0`, else zero."""
        return self._relu_grad(g, out)

    def xent_grad(self, probabilities: Array, targets: Array, g: Array) -> Array:
        """`(probabilities − one_hot(targets)) * g` without the one-hot array."""
        labels = self.cupy.arange(probabilities.shape[-1])
        return self._xent_grad(probabilities, targets[..., None], labels, g)

    def erf(self, x: Array) -> Array:
        """The error function."""
        return self._erf(x)

    # -- indexing ------------------------------------------------------------------------------------

    def scatter_add(self, array: Array, key: Any, values: Array) -> Array:
        """A copy of `array` with `values` added at `key`, by atomic additions."""
        cupy = self.cupy
        values = cupy.asarray(values, dtype=array.dtype)
        kind, size = array.dtype.kind, array.dtype.itemsize
        if kind in "iub" and size < 4:  # no atomic addition on fewer bytes
            wide = self.scatter_add(array.astype("int32"), key, values.astype("int32"))
            return wide.astype(array.dtype)
        out = array.copy()
        if kind == "c":
            cupy.add.at(out.real, key, values.real)
            cupy.add.at(out.imag, key, values.imag)
        elif kind == "i" and size == 8:  # two's complement: the same bits as unsigned addition
            cupy.add.at(out.view("uint64"), key, values.view("uint64"))
        else:
            cupy.add.at(out, key, values)
        return out

    def set_item(self, array: Array, key: Any, values: Array) -> Array:
        """A copy of `array` with `values` at `key`."""
        out = array.copy()
        out[key] = values
        return out

    def get_item(self, array: Array, key: Any) -> Array:
        """`array[key]`."""
        return array[key]

    # -- updates, in place ---------------------------------------------------------------------------

    def sum_of_squares(self, x: Array) -> Array:
        """The sum of x², 0-d."""
        if x.dtype.itemsize < 4:  # the reduction would add up in half precision
            return self.cupy.sum(x * x)
        return self._squares(x)

    def sgd_update(
        self,
        p: Array,
        g: Array,
        velocity: Array | None,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> tuple[Array, Array | None]:
        """One step of SGD in one launch."""
        if not momentum:
            self._sgd(g, lr, weight_decay, p)
            return p, velocity
        first = velocity is None
        if velocity is None:
            velocity = self.cupy.empty_like(p)
        self._sgd_momentum(g, lr, momentum, 1.0 - dampening, weight_decay, bool(nesterov), first, p, velocity)
        return p, velocity

    def adam_update(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        step: int,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> tuple[Array, Array, Array]:
        """One step of Adam or AdamW in one launch."""
        b1, b2 = betas
        rate, root = lr / (1.0 - b1**step), (1.0 - b2**step) ** 0.5
        l2, shrink = (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)
        self._adam(g, rate, b1, 1.0 - b1, b2, 1.0 - b2, root, eps, l2, shrink, p, m, v)
        return p, m, v

    def rprop_update(
        self,
        p: Array,
        g: Array,
        previous: Array,
        step_size: Array,
        etas: tuple[float, float],
        step_sizes: tuple[float, float],
    ) -> tuple[Array, Array, Array]:
        """One step of iRprop− in one launch."""
        self._rprop(g, etas[0], etas[1], step_sizes[0], step_sizes[1], p, previous, step_size)
        return p, previous, step_size
