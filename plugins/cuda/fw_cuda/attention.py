"""Attention by cuDNN, through `nvidia-cudnn-frontend`; by matrix products where cuDNN has no way."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from framework.backend import KERNELS
from fw_cuda.arrays import Array, count, name_of
from fw_cuda.cudnn import ALIGNMENT, TYPES, Library
from fw_cuda.namespace import narrow

NAMES = ("attention", "attention_grad", "rounded_attention", "rounded_attention_grad")

HALVES = ("float16", "bfloat16")
"""What cuDNN's attention computes in; sums, and the number that is kept of each query, are float32."""

MULTIPLE = 8
"""Queries, keys and values have so many elements, or so many times more: what one load of cuDNN's reads."""

FORWARD = ("q", "k", "v"), ("o", "stats")
BACKWARD = ("q", "k", "v", "o", "dO", "stats"), ("dQ", "dK", "dV")
"""What the two graphs are given and what they make, by cuDNN's names."""

NUMBERS = {name: i for i, name in enumerate((*FORWARD[0], *FORWARD[1], "dO", *BACKWARD[1]), 1)}
"""The numbers of the tensors of a graph."""


class Layout(NamedTuple):
    """Shape (samples, heads, rows, elements) and strides in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Problem(NamedTuple):
    """What a graph is made for, and found by: dtype, layouts by the order of names, the factor of the scores."""

    is_backward: bool
    dtype: str
    layouts: tuple[Layout, ...]
    scale: float
    causal: bool

    def described(self, cudnn: Any, handle: Any) -> Any:
        """The graph, which nothing is planned for yet."""
        io, sums = getattr(cudnn.data_type, TYPES[self.dtype]), cudnn.data_type.FLOAT
        graph = cudnn.pygraph(io_data_type=io, intermediate_data_type=sums, compute_data_type=sums, handle=handle)
        given, made = BACKWARD if self.is_backward else FORWARD
        layouts = dict(zip((*given, *made), self.layouts))
        types = {name: sums if name == "stats" else io for name in layouts}
        settings: dict[str, Any] = {"attn_scale": self.scale}
        if self.causal:  # a query sees the key of its own number, and no later one
            settings |= {"diagonal_alignment": cudnn.diagonal_alignment.TOP_LEFT, "diagonal_band_right_bound": 0}
        settings |= {"use_deterministic_algorithm": True} if self.is_backward else {"generate_stats": True}
        for name in given:
            shape, strides = layouts[name]
            settings[name] = graph.tensor(
                dim=list(shape), stride=list(strides), data_type=types[name], name=name, uid=NUMBERS[name]
            )
        results = (graph.sdpa_backward if self.is_backward else graph.sdpa)(**settings)
        for name, result in zip(made, results):
            shape, strides = layouts[name]
            result.set_output(True).set_data_type(types[name]).set_dim(list(shape)).set_stride(list(strides))
            result.set_uid(NUMBERS[name])
        return graph

    def narrow(self, cudnn: Any, graph: Any) -> None:
        """None is left out: that sums are in one order is part of what is described."""


class Attention:
    """`attention` and its gradients, each one launch of cuDNN's where it has a way, and always the same one.

    cuDNN keeps one number for each query (the logarithm of its sum) and makes the weights again, so what
    `attention_grad` is given is the output and these. Where products make the weights, it is these.

    With a bias it is products: cuDNN gives what is no number for a query that sees no key, and whether there is one
    would have to be read from the device.

    Args:
        cupy: the module.
        matmul: multiplies, where cuDNN has no way.
        library: cuDNN.
    """

    def __init__(self, cupy: Any, matmul: Callable[[Array, Array], Array], library: Library) -> None:
        self._cupy, self._matmul, self._library = cupy, matmul, library

    # -- the contract's names ------------------------------------------------------------------------

    def attention(self, q: Array, k: Array, v: Array, bias: Array, *, scale: float, causal: bool) -> tuple[Array, Any]:
        """The weighted values, and what the gradients need: (output, number of each query), or the weights."""
        found = self._attended(q, k, v, scale, causal) if bias is None and self._fits(q, k, v) else None
        if found is not None:
            return found[0], found
        weights = self._weights(q, k, bias, scale, causal)
        return self._matmul(weights, v), weights

    def attention_grad(
        self,
        g: Array,
        q: Array,
        k: Array,
        v: Array,
        residual: Any,
        scale: float,
        causal: bool = False,
        has_bias: bool = True,
    ) -> tuple[Array, ...]:
        """The gradients of q, k, v and, if there is one whose gradient is wanted, the bias."""
        if isinstance(residual, tuple):
            fits = not has_bias and self._fits(g, q, k, v, residual[0])
            found = self._gradients(g, q, k, v, residual, scale, causal) if fits else None
            if found is not None:
                return found
            residual = self._weights(q, k, None, scale, causal)
        xp = SimpleNamespace(matmul=self._matmul, sum=self._cupy.sum)
        grads: tuple[Array, ...] = KERNELS["attention_grad"](xp, g, q, k, v, residual, scale, causal, has_bias)
        return grads

    def rounded_attention(
        self, q: Array, k: Array, v: Array, bias: Array, *, scale: float, causal: bool, dtype: str
    ) -> tuple[Array, Any]:
        """`attention` of rounded operands; by cuDNN, the weights and the result are rounded, too."""
        halves = self._rounded(dtype, q, k, v)
        found = self._attended(*halves, scale, causal) if bias is None and self._fits(*halves) else None
        if found is not None:
            return found[0].astype(q.dtype), found
        return self.attention(*[x.astype(q.dtype) for x in halves], bias, scale=scale, causal=causal)

    def rounded_attention_grad(
        self,
        g: Array,
        q: Array,
        k: Array,
        v: Array,
        residual: Any,
        scale: float,
        causal: bool = False,
        has_bias: bool = True,
        *,
        dtype: str,
    ) -> tuple[Array, ...]:
        """`attention_grad` of rounded operands."""
        halves = self._rounded(dtype, g, q, k, v)
        if isinstance(residual, tuple) and not has_bias and self._fits(*halves, residual[0]):
            found = self._gradients(*halves, residual, scale, causal)
            if found is not None:
                return tuple([x.astype(q.dtype) for x in found])
        return self.attention_grad(*[x.astype(q.dtype) for x in halves], residual, scale, causal, has_bias)

    def _rounded(self, dtype: str, *arrays: Array) -> list[Array]:
        kind = narrow(self._cupy, dtype)
        return [x.astype(kind) for x in arrays]

    # -- by cuDNN --------------------------------------------------------------------------------------

    def _fits(self, *arrays: Array) -> bool:
        """Whether cuDNN may have a way for arrays of these dtypes and sizes."""
        kind = name_of(arrays[0])
        return (
            not self._library.reason
            and kind in HALVES
            and all(name_of(x) == kind and x.size and x.shape[-1] % MULTIPLE == 0 for x in arrays)
        )

    def _attended(self, q: Array, k: Array, v: Array, scale: float, causal: bool) -> tuple[Array, Array] | None:
        """The output, and the number of each query; None where cuDNN has no way."""
        lead, kind = q.shape[:-2], name_of(q)
        q, k, v = (_ready(_folded(x)) for x in (q, k, v))
        out = self._made((*q.shape[:3], v.shape[3]), like=q)
        stats = self._cupy.empty((*q.shape[:3], 1), dtype="float32")
        arrays = {"q": q, "k": k, "v": v, "o": out, "stats": stats}
        if not self._run(Problem(False, kind, _layouts(arrays, FORWARD), scale, causal), arrays):
            return None
        return out.reshape(*lead, *out.shape[2:]), stats

    def _gradients(
        self, g: Array, q: Array, k: Array, v: Array, residual: tuple[Array, Array], scale: float, causal: bool
    ) -> tuple[Array, ...] | None:
        """The gradients of q, k and v; None where cuDNN has no way."""
        lead, kind = q.shape[:-2], name_of(q)
        out, stats = residual
        out = _ready(_folded(out))
        g, q, k, v = (_ready(_folded(x)) for x in (g, q, k, v))
        if _strides(g) != _strides(out):  # cuDNN before 9.5.1 takes it for granted that they are equal
            given, g = g, self._made(out.shape, like=out)
            g[...] = given
        grads = [self._made(x.shape, like=x) for x in (q, k, v)]
        arrays = {"q": q, "k": k, "v": v, "o": out, "dO": g, "stats": stats, **dict(zip(BACKWARD[1], grads))}
        if not self._run(Problem(True, kind, _layouts(arrays, BACKWARD), scale, causal), arrays):
            return None
        return tuple([x.reshape(*lead, *x.shape[2:]) for x in grads])

    def _run(self, problem: Problem, arrays: dict[str, Array]) -> bool:
        return self._library.run(problem, {NUMBERS[name]: x for name, x in arrays.items()})

    def _made(self, shape: tuple[int, ...], like: Array) -> Array:
        """An empty array, with its heads beside each other if those of the other one are: they go back there."""
        n, heads, rows, elements = shape
        if like.strides[1] < like.strides[2]:
            return self._cupy.empty((n, rows, heads, elements), dtype=like.dtype).swapaxes(1, 2)
        return self._cupy.empty(shape, dtype=like.dtype)

    # -- by matrix products ------------------------------------------------------------------------------

    def _weights(self, q: Array, k: Array, bias: Array, scale: float, causal: bool) -> Array:
        """softmax(q kᵀ · scale + bias) over the keys; zeros for a query that may see none."""
        cupy = self._cupy
        scores = self._matmul(q, k.swapaxes(-1, -2)) * scale
        if bias is not None:
            scores = scores + bias
        if not scores.size:
            return scores
        if causal:
            rows, columns = (cupy.arange(n) for n in scores.shape[-2:])
            scores = cupy.where(columns <= rows[:, None], scores, cupy.full_like(scores, -math.inf))
        top = cupy.max(scores, axis=-1, keepdims=True)
        e = cupy.exp(scores - cupy.where(top == -math.inf, cupy.zeros_like(top), top))
        total = cupy.sum(e, axis=-1, keepdims=True)
        return e / cupy.where(total == 0, cupy.ones_like(total), total)


def _folded(x: Array) -> Array:
    """The array with two axes in front of its rows."""
    if x.ndim == 4:
        return x
    lead = x.shape[:-2]
    return x.reshape(count(lead[:-1]), *(lead[-1:] or (1,)), *x.shape[-2:])


def _strides(x: Array) -> tuple[int, ...]:
    """In elements; along an axis of one element, where any would do, as if there were no gaps."""
    steps = [s // x.itemsize for s in x.strides]
    return tuple([count(x.shape[i + 1 :]) if n == 1 else steps[i] for i, n in enumerate(x.shape)])


def _ready(x: Array) -> Array:
    """The array with rows that lie as cuDNN reads them, or a copy that is so."""
    *steps, last = _strides(x)
    lies_right = last == 1 and all(s > 0 and s % MULTIPLE == 0 for s in steps)
    return x if lies_right and x.data.ptr % ALIGNMENT == 0 else x.copy()


def _layouts(arrays: dict[str, Array], names: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[Layout, ...]:
    return tuple([Layout(arrays[name].shape, _strides(arrays[name])) for name in (*names[0], *names[1])])
