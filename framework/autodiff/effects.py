"""What a call does beside computing, so that a replay of it does it again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from framework.autodiff import lines
from framework.autodiff.convert import resolve_backend
from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.namespace import namespace_of
from framework.autodiff.tape import accumulate
from framework.autodiff.tensor import Tensor

Array = Any


class Effect(NamedTuple):
    """Something that a call did beside computing: `fn(*inputs)` again in every replay.

    `kind` is "source" (it makes arrays out of nothing), "sink" (it takes arrays, and no later operation depends
    on it) or "barrier" (it may write what the call reads, so that order matters).
    """

    kind: str
    name: str
    fn: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    line: lines.Line | None
    detail: Any


class Write:
    """Gives a Tensor another array."""

    def __init__(self, t: Tensor) -> None:
        self.tensor = t

    def __call__(self, array: Array) -> None:
        """Write."""
        self.tensor._write(array)


class Accumulate:
    """Adds a gradient to a leaf; an object, so that a replay can have the gradient computed where it belongs."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf

    def __call__(self, g: Array) -> None:
        """Add `g`."""
        accumulate(self.leaf, g)


class SetGradient:
    """Gives a leaf another gradient."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf

    def __call__(self, g: Array) -> None:
        """Set it."""
        self.leaf.grad = g


def effect(name: str, fn: Callable[..., Any], values: Sequence[Any], detail: Any = None) -> Any:
    """`fn(*values)`, in which they are kept or handed on; inside a call that `compile` records, in each replay too.

    Args:
        name: what it is, for messages.
        fn: gets Tensors without history in a replay; what it returns is not part of the call.
        values: Tensors of one backend, and numbers of the call; with none, the effect belongs to the default
            backend's recording.
        detail: what else `fn` depends on, which must be the same in each call.
    """
    tensors = [v for v in values if isinstance(v, Tensor)]
    ns = tensors[0]._ns if tensors else namespace_of(resolve_backend())
    recorder = ns.listener()
    if recorder is None or any(t._level is not None for t in tensors):
        return fn(*[v._value if type(v) is HostNumber else v for v in values])

    def again(*arrays: Any) -> Any:
        return fn(*[Tensor(array, None, ns) for array in arrays])

    return recorder.sink(name, again, *[recorder.array_of(v) for v in values], detail=detail)


def effect_of_call(fn: Callable[..., None]) -> Callable[..., None]:
    """`fn`, a method that keeps values of its arguments, as an effect of the calls that `compile` records."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> None:
        given = [*args, *kwargs.values()]
        places = [i for i, a in enumerate(given) if isinstance(a, Tensor)]
        if not places or given[places[0]]._ns.recorder is None:
            fn(*args, **kwargs)
            return

        count, names = len(args), tuple(kwargs)  # a recording keeps no Tensor alive

        def again(*tensors: Tensor) -> None:
            filled = list(given)
            for i, t in zip(places, tensors):
                filled[i] = t
            fn(*filled[:count], **dict(zip(names, filled[count:])))

        tensors = [given[i] for i in places]
        for i in places:
            given[i] = None
        effect(fn.__qualname__, again, tensors, detail=given)

    return call
