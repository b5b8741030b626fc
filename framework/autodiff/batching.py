"""vmap: a function of one sample as a function of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

from framework.autodiff import tree
from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axis
from framework.autodiff.levels import RANDOMNESS, Batch, LeveledTensor, active
from framework.autodiff.namespace import ops
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, GradientError, ShapeError


def vmap(
    fn: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    randomness: Literal["error", "same", "different"] = "error",
) -> Callable[..., Any]:
    """`fn` of one sample as a function of a batch, by batching rules: `fn` runs once, without a loop over samples.

    Args:
        in_axes: the batch axis of every argument; a tuple with one entry per argument; an entry is an axis,
            None for what is the same for every sample, or a dict, list or tuple of entries built like the
            argument. Keyword arguments are batched on axis 0.
        out_axes: where the batch axis of the results goes, built likewise; None for a result that is the
            same for every sample.
        randomness: what a random function inside `fn` does: `"error"`, draw the `"same"` numbers for every
            sample, or `"different"` ones.

    Raises:
        ShapeError: the axes do not fit the arguments or the results, or sizes differ.
        GradientError: `fn` draws random numbers with `"error"`, or reads a value that differs by sample.

    Examples:
        >>> import framework as fw
        >>> fw.vmap(lambda x, y: x * y, in_axes=(0, None))(fw.tensor([1.0, 2.0]), 3.0).tolist()
        [3.0, 6.0]
    """
    if randomness not in RANDOMNESS:
        raise ConfigError(f"vmap: randomness is one of {', '.join(map(repr, RANDOMNESS))}, got {randomness!r}")

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        mapped = _mapped(leaves, _axes_of_arguments(in_axes, args, kwargs), fn, args, kwargs)
        level = Batch(_batch_size(mapped, fn, args, kwargs), randomness)
        with level:
            inside = [x if axis is None else LeveledTensor(ops.moveaxis(x, axis, 0), level) for x, axis in mapped]
            samples, named = tree.unflatten(structure, inside)
            out = fn(*samples, **named)
            results, out_structure = tree.flatten(out)
            to = _entries(out_axes, out, "out_axes")
            results = [_result(level, as_tensor(y), axis) for y, axis in zip(results, to)]
        return tree.unflatten(out_structure, results)

    return wrapped


# -- axes --------------------------------------------------------------------------------------------


def _is_axis(entry: Any) -> bool:
    return hasattr(entry, "__index__") and not isinstance(entry, bool)


def _per_argument(in_axes: Any, count: int) -> tuple[Any, ...]:
    if in_axes is None or _is_axis(in_axes):
        return (in_axes,) * count
    if not isinstance(in_axes, tuple | list):
        raise ShapeError(
            f"vmap: in_axes is an axis, None, or a tuple with one entry per argument, got {in_axes!r}; "
            "for one argument that is a dict write in_axes=({…},)"
        )
    if len(in_axes) != count:
        raise ShapeError(f"vmap with in_axes of {len(in_axes)} arguments was called with {count}")
    return tuple(in_axes)


def _axes_of_arguments(in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int | None]:
    """The batch axis of each leaf of the arguments."""
    axes: list[int | None] = []
    for i, (entry, arg) in enumerate(zip(_per_argument(in_axes, len(args)), args)):
        axes += _entries(entry, arg, f"in_axes[{i}]")
    return axes + [0] * len(tree.flatten(kwargs)[0])


def _entries(entry: Any, node: Any, where: str) -> list[int | None]:
    """The axis of each leaf of `node`: an axis or None holds for all below, a container is built like `node`."""
    if entry is None or _is_axis(entry):
        return [entry] * len(tree.flatten(node)[0])
    if isinstance(entry, dict):
        if not isinstance(node, dict) or entry.keys() != node.keys():
            keys = sorted(map(str, node)) if isinstance(node, dict) else f"a {type(node).__name__}"
            raise ShapeError(f"vmap: {where} is a dict with keys {sorted(map(str, entry))} for {keys}")
        return [axis for key, part in node.items() for axis in _entries(entry[key], part, f"{where}[{key!r}]")]
    if isinstance(entry, list | tuple):
        if not isinstance(node, list | tuple) or len(entry) != len(node):
            parts = f"{len(node)} parts" if isinstance(node, list | tuple) else f"a {type(node).__name__}"
            raise ShapeError(f"vmap: {where} has {len(entry)} parts for {parts}")
        pairs = enumerate(zip(entry, node))
        return [axis for i, (e, part) in pairs for axis in _entries(e, part, f"{where}[{i}]")]
    raise ShapeError(f"vmap: {where} is an axis, None, or a dict, list or tuple of these, got {entry!r}")


def _mapped(
    leaves: list[Any], axes: list[int | None], fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[Any, int | None]]:
    """The leaves with their batch axes as negative numbers; those with one as Tensors."""
    mapped: list[tuple[Any, int | None]] = []
    for i, (x, axis) in enumerate(zip(leaves, axes)):
        if axis is None:
            mapped.append((x, None))
            continue
        x = as_tensor(x)
        try:
            mapped.append((x, negative_axis(int(axis), x.ndim)))
        except ShapeError as error:
            raise ShapeError(
                f"vmap over {_argument_names(fn, args, kwargs)[i]} of shape {x.shape}: {error}. Pass in_axes with None "
                "for what has no batch axis, and bind keyword arguments without one to the function"
            ) from None
    return mapped


def _batch_size(mapped: list[tuple[Any, int | None]], fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    first: dict[int, int] = {}  # of each size, the first leaf
    for i, (x, axis) in enumerate(mapped):
        if axis is not None:
            first.setdefault(x.shape[axis], i)
    if len(first) == 1:
        return next(iter(first))
    if not first:
        raise ShapeError("vmap needs one batch size over all mapped arguments, got none; in_axes maps no array")
    names = _argument_names(fn, args, kwargs)
    told = []
    for size, i in sorted(first.items()):
        x, axis = mapped[i]
        told.append(f"{names[i]} has {size} (axis {x.ndim + axis} of shape {x.shape})")
    raise ShapeError(
        f"vmap needs one batch size over all mapped arguments, got {sorted(first)}: {', '.join(told)}. "
        "Pass in_axes with None for what is the same for every sample"
    )


def _argument_names(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """What a message calls each leaf: the parameter, and the way to the leaf."""
    import inspect

    try:
        parameters = list(inspect.signature(fn).bind(*args, **kwargs).arguments.items())
    except (TypeError, ValueError):
        parameters = []
    names = []
    for i, arg in enumerate(args):
        known = parameters[i][0] if i < len(parameters) and parameters[i][1] is arg else f"argument {i}"
        names += _paths(arg, known)
    for key, value in kwargs.items():
        names += _paths(value, key)
    return names


def _paths(node: Any, name: str) -> list[str]:
    if isinstance(node, dict):
        return [path for key, part in node.items() for path in _paths(part, f"{name}[{key!r}]")]
    if isinstance(node, list | tuple):
        return [path for i, part in enumerate(node) for path in _paths(part, f"{name}[{i}]")]
    return [] if node is None else [name]


def _result(level: Batch, y: Tensor, axis: Any) -> Tensor:
    """A result as it is outside, with the batch on `axis`."""
    is_mapped = y._level is level
    if axis is None:
        if is_mapped:
            raise ShapeError("vmap: out_axes is None for a result that differs by sample; give it an axis")
        return y
    if not -y.ndim - 1 <= axis <= y.ndim:
        raise ShapeError(
            f"vmap: out_axes puts the batch on axis {axis} of a result of shape {y.shape} for one sample; "
            f"it must be from {-y.ndim - 1} to {y.ndim}"
        )
    return ops.moveaxis((y if is_mapped else level.lift(y))._data, 0, int(axis))


# -- random numbers ----------------------------------------------------------------------------------


def drawing_levels() -> tuple[Batch, ...]:
    """The vmaps around that want random numbers of their own for every sample, outermost first.

    Raises:
        GradientError: a vmap around was not told what random functions shall do.
    """
    around = [level for level in active.get() if isinstance(level, Batch)]
    if any(level.randomness == "error" for level in around):
        raise GradientError(
            "a random number is drawn inside vmap. Say vmap(fn, randomness='different') to draw for each sample, "
            "or randomness='same' to draw once for all"
        )
    return tuple([level for level in around if level.randomness == "different"])


def drawn(x: Tensor, levels: tuple[Batch, ...]) -> Tensor:
    """`x`, whose first axes are the samples of `levels`, as a value inside them."""
    for level in levels:
        x = LeveledTensor(x, level)
    return x
