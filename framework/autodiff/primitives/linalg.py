"""Products of matrices, the linear layer and its loss, each a single primitive."""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tape import fit, free_slot
from framework.autodiff.tensor import Tensor
from framework.errors import DTypeError, ShapeError

# -- matmul: both inputs have at least two axes here -----------------------------------------------


def _matmul_forward(ns: Any, x: Any, y: Any) -> Any:
    return ns.xp.matmul(x, y)


def _matmul_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, y: Any) -> Any:
    return (
        None if needs[0] is None else ns.matmul(g, ns.matrix_transpose(y)),
        None if needs[1] is None else ns.matmul(ns.matrix_transpose(x), g),
    )


def _matmul_jvp(ns: Any, tangents: Any, out: Any, x: Any, y: Any) -> Any:
    tx, ty = tangents
    a = None if tx is None else ns.matmul(tx, y)
    b = None if ty is None else ns.matmul(x, ty)
    return b if a is None else a if b is None else a + b


def _matmul_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    rank = max(x.ndim - b for x, b in zip(inputs, is_batched))
    full = [
        ops.reshape(x, (x.shape[0],) + (1,) * (rank + 1 - x.ndim) + x.shape[1:]) if b and x.ndim <= rank else x
        for x, b in zip(inputs, is_batched)
    ]
    return fn(*full)


_matmul = primitive(
    "matmul",
    arity=2,
    forward=_matmul_forward,
    vjp=_matmul_vjp,
    jvp=_matmul_jvp,
    batch=_matmul_batch,
    keep=((1,), (0,)),
    promotes=True,
)


@public
def matmul(x: Any, y: Any, /) -> Tensor:
    """The matrix product (..., m, k) @ (..., k, n); a vector counts as a row on the left, a column on the right.

    Raises:
        ShapeError: the shapes do not fit, or one input has no axis.
    """
    like = x if isinstance(x, Tensor) else y if isinstance(y, Tensor) else None
    x, y = as_tensor(x, like), as_tensor(y, like)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"matmul of shapes {x.shape} and {y.shape}: use * for numbers")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        inner = y.shape[-2 if y.ndim > 1 else -1]
        raise ShapeError(
            f"matmul of shapes {x.shape} and {y.shape}: the last axis of the first, {x.shape[-1]}, "
            f"must equal {'the last but one' if y.ndim > 1 else 'the axis'} of the second, {inner}"
        )
    row, column = x.ndim == 1, y.ndim == 1
    if row:
        x = ops.expand_dims(x, axis=0)
    if column:
        y = ops.expand_dims(y, axis=-1)
    try:
        out = _matmul(x, y)
    except ValueError:
        if any(n != m and 1 not in (n, m) for n, m in zip(x.shape[-3::-1], y.shape[-3::-1])):
            raise ShapeError(f"matmul of shapes {x.shape} and {y.shape}: the axes before do not broadcast") from None
        raise
    axes = ((-2,) if row else ()) + ((-1,) if column else ())
    return ops.squeeze(out, axis=axes) if axes else out


# -- linear: x @ weight.T + bias -------------------------------------------------------------------


def _linear_forward(ns: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    out = ns.xp.matmul(x, ns.xp.matrix_transpose(weight))
    return out if bias is None else out + bias


def _linear_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, weight: Any, bias: Any = None
) -> tuple[Any, ...]:
    dx = None if needs[0] is None else ns.linear_dx(g, weight)
    need = needs[1]
    dw = None if need is None else ns.linear_dw(g, x) if need.slot is None else ns.linear_dw(g, x, out=free_slot(need))
    if len(needs) == 2:
        return dx, dw
    need = needs[2]
    if need is None:
        return dx, dw, None
    if len(need.shape) != 1 or need.shape[0] != g.shape[-1]:  # it was broadcast
        return dx, dw, fit(ns, ns.colsum(g), need, need.dtype)
    return dx, dw, ns.colsum(g) if need.slot is None else ns.colsum(g, out=free_slot(need))


def _linear_jvp(ns: Any, tangents: Any, out: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    tx, tw, *tb = tangents
    terms = [] if tx is None else [ns.linear(tx, weight)]
    if tw is not None:
        terms.append(ns.linear(x, tw))
    if tb and tb[0] is not None:
        terms.append(tb[0])
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _linear_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    if not any(is_batched[1:]) and inputs[0].ndim > 1:
        return fn(*inputs)
    x, weight, *bias = inputs  # weights differ by sample: a batched product
    vector = x.ndim - is_batched[0] == 1
    if vector:
        x = ops.expand_dims(x, axis=-2)
    out = ops.matmul(x, ops.matrix_transpose(_between(ops, weight, x, is_batched[0], is_batched[1])))
    if bias:
        b = bias[0]
        rank = out.ndim - any(is_batched[:2])
        out = out + (ops.reshape(b, (n,) + (1,) * (rank - 1) + (b.shape[-1],)) if is_batched[2] else b)
    return ops.squeeze(out, axis=-2) if vector else out


def _between(ops: Any, weight: Any, x: Any, x_batched: bool, w_batched: bool) -> Any:
    """A batched weight with axes of length one where x has more."""
    extra = x.ndim + (not x_batched) - weight.ndim
    if not w_batched or extra <= 0:
        return weight
    return ops.reshape(weight, (weight.shape[0],) + (1,) * extra + weight.shape[1:])


_linear = primitive(
    "linear",
    arity=(2, 3),
    forward=_linear_forward,
    vjp=_linear_vjp,
    jvp=_linear_jvp,
    batch=_linear_batch,
    keep=((1,), (0,), ()),
    promotes=True,
    fits=True,
)


@public
def linear(x: Any, weight: Any, bias: Any = None, /) -> Tensor:
    """`x @ weight.T + bias`: x (..., in), weight (out, in), bias (out,) give (..., out).

    Raises:
        ShapeError: the last axis of x is not the weight's.
    """
    try:
        return _linear(x, weight, bias)
    except Exception:  # the library's own, if shapes do not fit: to look at them first would cost more than a check
        _check_linear(as_tensor(x).shape, as_tensor(weight).shape)
        raise


def _check_linear(given: tuple[int, ...], weight: tuple[int, ...]) -> None:
    if len(weight) != 2 or (given and given[-1] == weight[-1]):
        return
    n_out, n_in = weight
    hint = ""
    size = 1
    for k in range(len(given) - 1, 0, -1):
        size *= given[k]
        if size == n_in:
            lead = ", ".join(str(n) for n in given[:k])
            hint = f" Flatten first: x.reshape({lead}, -1)"
    raise ShapeError(f"Linear({n_in}, {n_out}): got input of shape {given}; last axis must be {n_in}.{hint}") from None


# -- softmax cross-entropy against class numbers -----------------------------------------------------


def _xent_forward(ns: Any, logits: Any, targets: Any, *, reduction: str) -> Any:
    xp = ns.xp
    z = logits - xp.max(logits, axis=-1, keepdims=True)
    e = xp.exp(z)
    total = xp.sum(e, axis=-1, keepdims=True)
    picked = xp.take_along_axis(z, targets[..., None], axis=-1)
    loss = xp.log(total) - picked
    if reduction == "none":
        loss = xp.squeeze(loss, axis=-1)
    else:
        loss = xp.sum(loss) if reduction == "sum" else xp.mean(loss)
    return loss, e / total


def _xent_scale(ns: Any, g: Any, targets: Any, reduction: str) -> Any:
    if reduction == "none":
        return g[..., None]
    if reduction == "sum":
        return g
    count = 1
    for n in targets.shape:
        count *= n
    return g / count


def _xent_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, logits: Any, targets: Any, *, reduction: str
) -> Any:
    probabilities = ns.softmax(logits, axis=-1) if residual is None else residual
    return ns.xent_grad(probabilities, targets, _xent_scale(ns, g, targets, reduction)), None


def _xent_jvp(ns: Any, tangents: Any, out: Any, logits: Any, targets: Any, *, reduction: str) -> Any:
    t = tangents[0]
    if t is None:
        return None
    expected = ns.sum(ns.softmax(logits, axis=-1) * t, axis=-1)
    picked = ns.squeeze(ns.take_along_axis(t, targets[..., None], axis=-1), axis=-1)
    loss = expected - picked
    if reduction == "none":
        return loss
    return ns.sum(loss) if reduction == "sum" else ns.mean(loss)


def _xent_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    logits, targets = [x if b else ops.broadcast_to(x, (n, *x.shape)) for x, b in zip(inputs, is_batched)]
    loss = fn(logits, targets, reduction="none")
    if params["reduction"] == "none" or loss.ndim == 1:
        return loss
    axes = tuple(range(-loss.ndim + 1, 0))
    return ops.sum(loss, axis=axes) if params["reduction"] == "sum" else ops.mean(loss, axis=axes)


_xent = primitive(
    "softmax_cross_entropy",
    arity=2,
    forward=_xent_forward,
    vjp=_xent_vjp,
    jvp=_xent_jvp,
    batch=_xent_batch,
    keep=((0,), (0,)),
    residual=True,
    fits=True,
)


@public
def softmax_cross_entropy(logits: Any, targets: Any, /, *, reduction: str = "mean") -> Tensor:
    """−log softmax(logits)[target]: logits (..., classes), integer targets (...).

    Args:
        reduction: `"mean"` or `"sum"` over all targets, or `"none"`.

    Raises:
        ShapeError: targets are not of the shape of logits without its last axis.
        DTypeError: targets are not integers.
    """
    try:
        plain = logits._level is None and targets._level is None
    except AttributeError:  # one is not a Tensor
        logits = as_tensor(logits)
        targets = as_tensor(targets, logits)
        plain = logits._level is None and targets._level is None
    if (targets._data.shape != logits._data.shape[:-1]) if plain else (targets.shape != logits.shape[:-1]):
        raise ShapeError(
            f"cross-entropy: logits of shape {logits.shape} need targets of shape {logits.shape[:-1]}, "
            f"got {targets.shape}"
        )
    if targets.dtype.kind not in ("int", "uint"):
        raise DTypeError(f"cross-entropy: targets are class numbers of an integer dtype, got {targets.dtype.name}")
    return _xent(logits, targets, reduction=reduction)
