"""Loading a state dict: everything is checked before anything is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from framework.autodiff import Tensor
from framework.errors import CheckpointError, nearest

_SHOWN = 10


class LoadResult(NamedTuple):
    """Names that differed, where `strict=False` let them."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_into(owner: str, own: Mapping[str, Tensor], given: Mapping[str, Any], strict: bool) -> LoadResult:
    """Set the Tensors of `own` to the values of the same names in `given`.

    Raises:
        CheckpointError: names (where `strict`) or shapes differ.
    """
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    wrong = [
        f"{name}: the model has shape {own[name].shape}, the state dict {_shape(value)}"
        for name, value in given.items()
        if name in own and _shape(value) != own[name].shape
    ]
    problems = []
    if strict and missing:
        problems.append(_listed("missing", [_with_hint(name, unexpected) for name in missing]))
    if strict and unexpected:
        problems.append(_listed("unexpected", [_with_hint(name, missing) for name in unexpected]))
    if wrong:
        problems.append(_listed("of another shape", wrong))
    if problems:
        hint = " To load what fits by name, pass strict=False." if strict and not wrong else ""
        raise CheckpointError(
            f"{owner}.load_state_dict: the state dict is not of this model, nothing was loaded.{hint}\n"
            + "\n".join(problems)
        )
    for name, value in given.items():
        if name in own:
            own[name].assign(_widened(value))
    return LoadResult(missing, unexpected)


def _widened(value: Any) -> Any:
    """A host array of bfloat16, which few backends have, as the float32 numbers that it holds."""
    is_narrow = not isinstance(value, Tensor) and str(getattr(value, "dtype", "")) == "bfloat16"
    return value.astype("float32") if is_narrow else value


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _with_hint(name: str, others: list[str]) -> str:
    found = nearest(name, others)
    return f"{name} (nearest on the other side: {found})" if found else name


def _listed(what: str, lines: list[str]) -> str:
    shown = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        shown.append(f"and {len(lines) - _SHOWN} more")
    return f"  {what} ({len(lines)}):\n" + "\n".join(f"    {line}" for line in shown)
