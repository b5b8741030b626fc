"""What differs between the recordings of two calls, which tells what a recording cannot see."""

from __future__ import annotations

from typing import Any

from framework.autodiff import lines, versions
from framework.autodiff.recorder import Effect, Recorder
from framework.backend.program import Literal, Operation

Array = Any


def difference(a: Recorder, b: Recorder, returned: tuple[Any, Any], returned_now: tuple[Any, Any]) -> str | None:
    """What differs between the recordings of two calls that look alike from outside; None where nothing does."""
    for x, y, line in zip(a.stream, b.stream, b.lines):
        if (found := _difference_of(x, y)) is not None:
            return f"{found}{'' if line is None else f' at {lines.text(line)}'}"
    if len(a.stream) != len(b.stream):
        longer = a if len(a.stream) > len(b.stream) else b
        at = longer.lines[min(len(a.stream), len(b.stream))]
        return f"one call does more than the other{'' if at is None else f', from {lines.text(at)} on'}"
    if a.values != b.values:
        return "shapes or dtypes differ from call to call"
    for number, (kind, what) in a.origin.items():
        kind_now, what_now = b.origin.get(number, ("", None))
        if kind != kind_now or (kind == "state" and what is not what_now):
            return f"an array is {kind} in one call and {kind_now or 'computed'} in the next{used_at(b, number)}"
        if kind == "outside" and what is not what_now and not _equal(a, what, what_now):
            return f"a constant differs from call to call{used_at(b, number)}"
    same = [(r.kind, r.what if isinstance(r.what, int) else None) for r in returned[0]]
    if same != [(r.kind, r.what if isinstance(r.what, int) else None) for r in returned_now[0]]:
        return "what is returned differs from call to call"
    for r, now in zip(returned[0], returned_now[0]):
        if r.kind == "object" and not versions.same(r.what, now.what):
            return f"the returned {r.what!r} became {now.what!r}"
    return None


def _difference_of(x: Operation | Effect, y: Operation | Effect) -> str | None:
    if isinstance(x, Effect) or isinstance(y, Effect):
        if type(x) is not type(y):
            return "one call does what the next does not"
        assert isinstance(x, Effect) and isinstance(y, Effect)  # noqa: PT018
        if (x.kind, x.name, x.inputs, x.outputs) != (y.kind, y.name, y.inputs, y.outputs):
            return f"{x.name} became {y.name}" if x.name != y.name else f"{x.name} of other values"
        return None if _alike(x.detail, y.detail) else f"{x.name} got {x.detail!r}, then {y.detail!r}"
    if x.primitive != y.primitive:
        return f"{x.primitive} became {y.primitive}"
    if len(x.inputs) == len(y.inputs):
        for i, j in zip(x.inputs, y.inputs):
            if isinstance(i, Literal) and isinstance(j, Literal) and not _alike(i.value, j.value):
                return f"the constant {i.value!r} of {x.primitive} became {j.value!r}"
    if x.params.keys() == y.params.keys():
        for key, value in x.params.items():
            if not _alike(value, y.params[key]):
                return f"{key}={value!r} of {x.primitive} became {y.params[key]!r}"
    alike = (
        x.outputs == y.outputs and x.params.keys() == y.params.keys() and _structure(x.inputs) == _structure(y.inputs)
    )
    return None if alike else f"{x.primitive} takes other values"


def _structure(entries: Any) -> Any:
    if isinstance(entries, Literal):
        return Literal
    return [_structure(e) for e in entries] if isinstance(entries, tuple | list) else entries


def _alike(a: Any, b: Any) -> bool:
    """Whether two literals are the same."""
    if a is b:
        return True
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_alike, a, b))
    if callable(a) and callable(b):
        return getattr(a, "__code__", a) is getattr(b, "__code__", b)
    if isinstance(a, slice) and isinstance(b, slice):
        return _alike((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    try:
        return type(a) is type(b) and bool(a == b or (a != a and b != b))
    except (TypeError, ValueError):
        return False


def _equal(recorder: Recorder, a: Array, b: Array) -> bool:
    to_numpy = recorder.ns.backend.to_numpy
    return bool(to_numpy(a).tobytes() == to_numpy(b).tobytes())


def used_at(recorder: Recorder, number: int) -> str:
    """What takes a value, and its line."""
    for item, line in zip(recorder.stream, recorder.lines):
        if number in numbers_in(item.inputs) and line is not None:
            name = item.primitive if isinstance(item, Operation) else item.name
            return f": an argument of {name} at {lines.text(line)}"
    return ""


def numbers_in(entries: Any) -> list[int]:
    """The numbers of the values among an operation's inputs."""
    found: list[int] = []
    for e in entries:
        if isinstance(e, tuple | list) and not isinstance(e, Literal):
            found += numbers_in(e)
        elif isinstance(e, int):
            found.append(e)
    return found
