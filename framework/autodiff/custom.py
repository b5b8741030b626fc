"""Functions with a derivative rule of the user's: `custom_jvp` and `custom_vjp`, as in JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tree
from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.rules import ByJvp, ByVjp, call_with_rule
from framework.autodiff.tensor import Tensor
from framework.errors import GradientError, ShapeError


class _Custom:
    """A function with a rule; the rule is set by a decorator afterwards."""

    _how = ""

    def __init__(self, fn: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self._signature: Any = None
        self.nondiff_argnums = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} function {getattr(self.fn, '__name__', 'call')!r}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = _Call(self._name, self.fn, self._positional(args, kwargs), self.nondiff_argnums)
        outs = call_with_rule(self._operation(call), call.tensors)
        return tree.unflatten(call.structure, outs)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position, defaults filled in, as rules receive them."""
        if self._signature is None:
            import inspect

            try:
                self._signature = inspect.signature(self.fn)
            except (TypeError, ValueError):  # written in C
                if kwargs:
                    raise GradientError(f"{self._name} has no signature; give its arguments by position") from None
                return args
        bound = self._signature.bind(*args, **kwargs)
        if bound.kwargs:
            raise GradientError(
                f"{self._name} takes {', '.join(bound.kwargs)} by keyword only; its rule needs arguments by position"
            )
        bound.apply_defaults()
        return bound.args

    def _operation(self, call: _Call) -> ByJvp | ByVjp:
        raise NotImplementedError


class _Call:
    """One call's arguments, its arrays apart from the rest, and the structure of its results."""

    def __init__(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], nondiff: tuple[int, ...]) -> None:
        self.name = name
        self.fn = fn
        numbers = [n % len(args) for n in nondiff if -len(args) <= n < len(args)]
        if len(numbers) != len(nondiff):
            raise GradientError(f"{name} has nondiff_argnums={nondiff}, but was called with {len(args)} arguments")
        self.static = {n: args[n] for n in sorted(numbers)}
        self.leaves, self.arguments = tree.flatten(tuple(a for n, a in enumerate(args) if n not in self.static))
        self.places = [i for i, x in enumerate(self.leaves) if isinstance(x, Tensor) or hasattr(x, "__array__")]
        self.tensors = [as_tensor(self.leaves[i]) for i in self.places]
        self.structure: Any = None

    def filled(self, tensors: Sequence[Any], rest: Callable[[Any], Any] = lambda x: x) -> tuple[Any, ...]:
        """The differentiable arguments with these arrays."""
        leaves = [rest(x) for x in self.leaves]
        for i, x in zip(self.places, tensors):
            leaves[i] = x
        return tree.unflatten(self.arguments, leaves)

    def run(self, fn: Callable[..., Any], tensors: Sequence[Any]) -> Any:
        """`fn` of all arguments."""
        rest = iter(self.filled(tensors))
        total = len(self.static) + len(self.arguments)
        return fn(*[self.static[n] if n in self.static else next(rest) for n in range(total)])

    def primal(self, tensors: list[Tensor]) -> list[Tensor]:
        """The function itself."""
        return self.results(self.run(self.fn, tensors))

    def results(self, out: Any) -> list[Tensor]:
        """The arrays of a result; its structure is noted."""
        leaves, self.structure = tree.flatten(out)
        return [as_tensor(y) for y in leaves]


class custom_jvp(_Custom):  # noqa: N801 - JAX's name
    """A function with a forward-mode rule of its own; reverse mode transposes the rule.

    `defjvp(rule)` sets `rule(primals, tangents) -> out, tangent of out`, linear in the tangents;
    `defjvps(*rules)` sets one `rule(tangent, out, *primals)` per argument, None for zero. Rules get
    all arguments by position, those in `nondiff_argnums` first and apart. They are differentiated in
    turn for higher orders. What they close over is a constant.

    Raises:
        GradientError: no rule was set, its result does not fit, or the function closes over something
            that is differentiated.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> @fw.custom_jvp
        ... def log1pexp(x):
        ...     return np.log(1.0 + np.exp(x))
        >>> @log1pexp.defjvp
        ... def rule(primals, tangents):
        ...     (x,), (t,) = primals, tangents
        ...     return log1pexp(x), t * (1.0 - 1.0 / (1.0 + np.exp(x)))
        >>> fw.grad(log1pexp)(50.0).item()
        1.0
    """

    rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule `(*nondiff, primals, tangents) -> (out, tangent)`; also a decorator."""
        self.rule = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set one rule `(tangent, out, *primals) -> tangent` per argument, or None where it is zero."""
        if self.nondiff_argnums:
            raise GradientError(f"{self._name}: defjvps is for functions without nondiff_argnums; use defjvp")

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
            if len(rules) != len(primals):
                raise GradientError(f"{self._name} has {len(rules)} rules for {len(primals)} arguments")
            out = self(*primals)
            terms = [r(t, out, *primals) for r, t in zip(rules, tangents) if r is not None]
            if not terms:
                return out, tree.map_leaves(ops.zeros_like, out)
            flat = [tree.flatten(term) for term in terms]
            return out, tree.unflatten(flat[0][1], [sum(parts[1:], parts[0]) for parts in zip(*[f[0] for f in flat])])

        self.rule = rule

    def _operation(self, call: _Call) -> ByJvp:
        rule = self.rule
        if rule is None:
            raise GradientError(f"{self._name} has no rule yet; set it with .defjvp(rule)")

        def push(primals: list[Tensor], tangents: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Any]]:
            directions = [ops.zeros_like(x) if t is None else t for x, t in zip(primals, tangents)]
            along = call.filled(directions, lambda x: 0.0 if isinstance(x, int | float | complex) else None)
            result = rule(*call.static.values(), call.filled(primals), along)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise GradientError(f"the rule of {self._name} returns a pair, (out, tangent), got {_kind(result)}")
            outs = call.results(result[0])
            found = _matched(call.structure, result[1], f"the tangent of {self._name}", "the result")
            return outs, [_derivative(t, y, f"the tangent of {self._name}") for t, y in zip(found, outs)]

        return ByJvp(self._name, call.primal, push)


class custom_vjp(_Custom):  # noqa: N801 - JAX's name
    """A function with a reverse-mode rule of its own.

    `defvjp(fwd, bwd)` sets `fwd(*args) -> out, residual` and `bwd(*nondiff, residual, cotangent)`,
    which returns a tuple of one gradient per differentiable argument, None for zero. Arguments in
    `nondiff_argnums` have no gradient and go to `bwd` first. For higher orders both are differentiated,
    for which the arguments are kept. Forward mode transposes `bwd`, which must be linear in the
    cotangent for that, as every derivative is. What the function closes over is a constant.

    Raises:
        GradientError: no rule was set, its result does not fit, or the function closes over something
            that is differentiated.
        ShapeError: a gradient has another shape than its argument.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> @fw.custom_vjp
        ... def clipped(x):
        ...     return x
        >>> clipped.defvjp(lambda x: (x, None), lambda residual, g: (np.clip(g, -1.0, 1.0),))
        >>> fw.grad(lambda x: 10.0 * clipped(x))(3.0).item()
        1.0
    """

    fwd: Callable[..., Any] | None = None
    bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule: `fwd(*args) -> (out, residual)`, `bwd(*nondiff, residual, cotangent) -> gradients`."""
        self.fwd, self.bwd = fwd, bwd

    def _operation(self, call: _Call) -> ByVjp:
        if self.fwd is None or self.bwd is None:
            raise GradientError(f"{self._name} has no rule yet; set it with .defvjp(fwd, bwd)")
        user_fwd, user_bwd = self.fwd, self.bwd

        def fwd(tensors: list[Tensor], needs: Any) -> tuple[list[Tensor], Any]:
            result = call.run(user_fwd, tensors)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise GradientError(f"fwd of {self._name} returns a pair, (out, residual), got {_kind(result)}")
            return call.results(result[0]), (result[1], [(x.shape, x.dtype) for x in tensors])

        def bwd(residual: Any, g: Sequence[Any]) -> list[Any]:
            kept, like = residual
            grads = user_bwd(*call.static.values(), kept, tree.unflatten(call.structure, list(g)))
            n = len(call.arguments)
            if not isinstance(grads, tuple | list) or len(grads) != n:
                raise GradientError(
                    f"bwd of {self._name} returns a tuple of one gradient per argument, {n} in all and None for zero, "
                    f"got {_kind(grads)}"
                )
            flat = _matched(call.arguments, tuple(grads), f"bwd of {self._name}", "the arguments")
            return [_gradient(flat[i], shape, dtype, self._name) for i, (shape, dtype) in zip(call.places, like)]

        return ByVjp(self._name, call.primal, fwd, bwd)


# -- what rules return -----------------------------------------------------------------------------


def _kind(x: Any) -> str:
    return f"{type(x).__name__} of {len(x)}" if isinstance(x, tuple | list) else type(x).__name__


def _matched(structure: Any, value: Any, what: str, of: str) -> list[Any]:
    """The leaves of `value`, which has this structure except that None stands for any part that is zero."""
    if structure is None:
        return []
    if structure is tree.LEAF:
        fits = not isinstance(value, dict | list | tuple)
    elif isinstance(structure, dict):
        fits = value is None or (isinstance(value, dict) and value.keys() == structure.keys())
    else:
        fits = value is None or (isinstance(value, list | tuple) and len(value) == len(structure))
    if not fits:
        raise GradientError(f"{what} has the structure of {of}, here {_shown(structure)}, got {_shown(value)}")
    if structure is tree.LEAF:
        return [value]
    keys = structure if isinstance(structure, dict) else range(len(structure))
    parts = [_matched(structure[k], None if value is None else value[k], what, of) for k in keys]
    return [leaf for part in parts for leaf in part]


def _shown(structure: Any) -> str:
    if isinstance(structure, dict):
        return "{" + ", ".join(f"{k!r}: {_shown(v)}" for k, v in structure.items()) + "}"
    if isinstance(structure, list | tuple):
        return f"{type(structure).__name__}({', '.join(map(_shown, structure))})"
    return "None" if structure is None else "array"


def _derivative(t: Any, y: Tensor, what: str) -> Tensor | None:
    """A rule's tangent of the result `y`."""
    if t is None or not y.dtype.is_differentiable:
        return None
    t = as_tensor(t, y)
    if t.shape != y.shape:
        raise ShapeError(f"{what} has the shape of the result, {y.shape}, got {t.shape}")
    return t


def _gradient(g: Any, shape: tuple[int, ...], dtype: Any, name: str) -> Tensor | None:
    """A rule's gradient of an argument."""
    if g is None or not dtype.is_differentiable:
        return None
    g = as_tensor(g)
    if g.shape != shape:
        raise ShapeError(f"bwd of {name} returns gradients of the arguments' shapes: {shape}, got {g.shape}")
    return g
