"""NumPy's own functions called on Tensors: `numpy.exp(t)`, `numpy.concatenate([t, a])`, `array * t`.

They become ours of the same name where we have them, so that gradients go on. What we lack works on
the values of Tensors that nothing is recorded of, and is an error for others. `atleast_1d` and its like
are how SciPy asks for an array of NumPy's, a gradient from `minimize`'s `jac`, say: it gets one.
"""

from __future__ import annotations

from typing import Any

from framework.autodiff import tree
from framework.autodiff.namespace import ops
from framework.autodiff.tensor import Tensor
from framework.errors import GradientError

_NAMES = {
    "absolute": "abs", "amax": "max", "amin": "min", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "concatenate": "concat",
    "conjugate": "conj", "cumsum": "cumulative_sum", "cumprod": "cumulative_prod", "fabs": "abs",
    "invert": "bitwise_invert", "left_shift": "bitwise_left_shift", "power": "pow",
    "right_shift": "bitwise_right_shift", "rint": "round", "transpose": "permute_dims", "true_divide": "divide",
}  # fmt: skip
"""What is named otherwise in the Array API."""

_KEYWORDS = {"ddof": "correction"}
_FACTS = {"ndim", "shape", "size"}
_CONVERSIONS = {"atleast_1d", "atleast_2d", "atleast_3d"}


def from_ufunc(t: Tensor, ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `Tensor.__array_ufunc__` does.

    Raises:
        GradientError: it would lose a gradient.
    """
    ours = _ours(t, "numpy", ufunc.__name__)
    if method == "__call__" and not kwargs and ours is not None:
        return ours(*inputs)
    if method == "__call__" and not kwargs and ufunc.__name__ == "divmod":
        return ops.floor_divide(*inputs), ops.remainder(*inputs)
    if any(isinstance(out, Tensor) for out in kwargs.get("out", ())):
        raise GradientError("NumPy does not write into Tensors; use t.copy_(...) or t[...] = ...")
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    return _by_values(name, getattr(ufunc, method), inputs, kwargs)


def from_function(t: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `Tensor.__array_function__` does.

    Raises:
        GradientError: it would lose a gradient.
    """
    if func.__name__ in _FACTS and len(args) == 1 and not kwargs:
        return getattr(ops.as_tensor(args[0]), func.__name__)
    if func.__name__ in _CONVERSIONS and not any(_is_recorded(x) for x in args):
        return func(*[x.numpy() if isinstance(x, Tensor) else x for x in args])
    ours = _ours(t, func.__module__, func.__name__)
    name = f"{func.__module__}.{func.__name__}"
    if ours is None:
        return _by_values(name, func, args, kwargs)
    given = {_KEYWORDS.get(key, key): value for key, value in kwargs.items() if key != "out" or value is not None}
    wrong = _misfit(ours, args, given)
    if wrong is None:
        return ours(*args, **given)
    return _by_values(name, func, args, kwargs, f" ({wrong})")


def _ours(t: Tensor, module: str, name: str) -> Any:
    """Our function of NumPy's name, or None."""
    place = t.__array_namespace__()
    for part in module.split(".")[1:]:
        place = getattr(place, part, None)
    places = (place, ops) if module == "numpy" else (place,)
    found = (getattr(p, n, None) for p in places for n in (name, _NAMES.get(name, name)))
    return next((f for f in found if callable(f)), None)


def _misfit(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why our function cannot be called so; None if it can."""
    import inspect

    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        return f"ours: {error}"
    return None


def _by_values(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], why: str = "") -> Any:
    """NumPy's result for the values, which it can read but not write."""
    leaves, structure = tree.flatten((list(args), kwargs))
    if any(_is_recorded(x) for x in leaves):
        raise GradientError(
            f"{name} on a Tensor would lose its gradient{why}; use framework.numpy, or .detach().numpy() for the values"
        )
    args, kwargs = tree.unflatten(structure, [_read_only(x) if isinstance(x, Tensor) else x for x in leaves])
    return func(*args, **kwargs)


def _is_recorded(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.requires_grad or x._level is not None)


def _read_only(t: Tensor) -> Any:
    view = t.numpy().view()
    view.flags.writeable = False
    return view


for _function in (from_ufunc, from_function):
    setattr(ops, _function.__name__, _function)
