"""The arena: parameters side by side in one buffer, so that an update is a few operations for all of them.

On a backend whose arrays can be written, an optimizer gives its parameters *homes*: segments of one buffer for
each dtype and device, aligned to 64 bytes. Gradients have their places, the *slots*, in a second buffer laid
out alike, and so has the state of each optimizer. Setting a parameter's values writes into its home; replacing
its array, as `.to("float64")` and `p.data =` do, leaves the home, and the optimizer's next step finds another.

Nothing that somebody else holds is ever written: an arena moves to other memory first. Who holds what is told
by counts of references.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import ref

from framework.autodiff import Tensor
from framework.autodiff.tape import counts_are_exact, free_slot
from framework.backend import Backend

Array = Any

_ALIGNMENT = 64  # bytes: a line of the cache, and the widest registers


def _no_slot() -> None:
    return None


class Home:
    """Where the values of one parameter live.

    Attributes:
        arena: the arena that it is a segment of.
        array: the segment, which the parameter's `_data` is.
        owner: a weak reference to the parameter.
        leaf: the leaf on the tape that the slot was offered to.
        start: its first element in the arena's buffers.
        stop: the one after its last.
        slot_if_any: gives the place of the gradient, if anybody holds it; a weak reference.
    """

    __slots__ = ("__weakref__", "arena", "array", "leaf", "owner", "slot_if_any", "start", "stop")

    slot_if_any: Callable[[], Array]

    def __init__(self, arena: Arena, p: Tensor, start: int) -> None:
        self.arena = arena
        self.owner = ref(p)
        self.start = start
        self.stop = start + p.size
        self.slot_if_any = _no_slot
        self.leaf: Any = None
        self.array = arena.segment(arena.values, start, p._data)
        self.array[...] = p._data
        p._data = self.array
        p._home = self

    def slot(self) -> Array:
        """Where the gradient's place is; the same array for as long as anybody holds it."""
        found = self.slot_if_any()
        if found is None:
            found = self.arena.segment(self.arena.gradients, self.start, self.array)
            self.slot_if_any = ref(found)
        return found

    def end(self) -> int:
        """Where the next home starts, if there is one."""
        return self.arena.rounded(self.stop)

    def is_slot_shared(self) -> bool:
        """Whether somebody beside the leaf holds what was written into the slot, or a view of it."""
        owner = self.owner()
        leaf: Any = None if owner is None else owner._node
        return leaf is not None and free_slot(leaf) is None

    def offer_slot(self, p: Tensor) -> None:
        """Let backward write the gradient of `p`, the owner, into its place."""
        leaf: Any = p._node
        if leaf is None or leaf.prim is not None:
            return
        if self.leaf is not None and self.leaf is not leaf:  # of before it was frozen
            self.leaf.slot = self.leaf.grad = None
        self.leaf = leaf
        leaf.slot = self.slot()
        self.arena.version += 1

    def is_left_by(self, p: Tensor) -> bool:
        """Whether `p`, whose array is another one, is no longer here."""
        return True

    def is_shared(self) -> bool:
        """Whether somebody beside the parameter holds the array or a view of it."""
        return not counts_are_exact or self._references() > _ALONE

    def _references(self) -> int:
        return sys.getrefcount(self.array)

    def has_gradient_alone(self, p: Tensor) -> bool:
        """Whether the gradient of `p`, the owner, is in its slot and nobody else holds it."""
        leaf: Any = p._node
        if not counts_are_exact or leaf.slot is not self.slot():
            return False
        if isinstance(leaf.grad, Tensor):
            if leaf.grad._data is not leaf.slot or sys.getrefcount(leaf.grad) >= _ALONE:
                return False
        elif leaf.grad is not leaf.slot:
            return False
        return sys.getrefcount(leaf.slot) <= _ALONE

    def takes_gradient(self, p: Tensor) -> bool:
        """Whether the next gradient of `p`, the owner, may be written into its slot, or added to what it has there."""
        leaf: Any = p._node
        if leaf.slot is None or leaf.slot is not self.slot_if_any():
            return False
        if leaf.grad is None:
            return free_slot(leaf) is not None
        return leaf.grad is leaf.slot and self.has_gradient_alone(p)

    def fill(self, values: Array) -> Array:
        """Write other values; returns the array that holds them."""
        if self.is_shared():
            self.arena.move()
        self.array[...] = values
        return self.array


class Arena:
    """Two buffers laid out alike, one of values and one of gradients.

    Elements between the homes are zero in the buffer of gradients, and of no meaning in that of values.

    Attributes:
        ns: the raw namespace of the backend.
        values: the buffer that homes are segments of.
        gradients: the buffer that slots are segments of.
        version: how often one of them was replaced, or a slot was offered.
        like: makes another buffer of the same kind, of a given length.
        lent: whether a parameter's array was handed out since the last look.
    """

    __slots__ = ("_homes", "_step", "gradients", "lent", "like", "ns", "segment", "size", "values", "version")

    values: Array
    gradients: Array

    def __init__(self, params: list[Tensor]) -> None:
        first = params[0]
        backend, native, device = first.backend, first.native_dtype, first.device
        self._step = max(1, _ALIGNMENT // first.dtype.itemsize)
        starts, size = [], 0
        for p in params:
            starts.append(size)
            size += self.rounded(p.size)
        self.ns = first._ns
        self.segment = backend.segment
        self.like: Callable[[int], Any] = lambda n: backend.buffer(n, native, device)
        self.size = size
        self.values, self.gradients = self.like(size), self.like(size)
        self.version = 0
        self.lent = False
        self._homes: list[ref[Home]] = []
        for p, start in zip(params, starts):
            home = Home(self, p, start)
            self._homes.append(ref(home))
            home.offer_slot(p)

    def rounded(self, n: int) -> int:
        """The next place from `n` on where a home may start."""
        return -(-n // self._step) * self._step

    def homes(self) -> Iterator[tuple[Home, Tensor]]:
        """The homes that belong to a parameter, each with it; its array may be another at present."""
        for found in self._homes:
            home = found()
            p = None if home is None else home.owner()
            belongs = getattr(p, "_home", None) is home
            if home is not None and p is not None and belongs:
                yield home, p

    def move(self) -> None:
        """Take other memory for the values; whoever holds views of the old one keeps them as they are."""
        old, self.values = self.values, self.like(self.size)
        self.values[...] = old
        for home, p in self.homes():
            lives_here = p._data is home.array
            home.array = self.segment(self.values, home.start, home.array)
            if lives_here:
                p._data = home.array
        self.version += 1

    def move_gradients(self) -> None:
        """Take other memory for the gradients of backward passes to come."""
        self.gradients = self.like(self.size)
        for home, p in self.homes():
            home.slot_if_any = _no_slot
            home.offer_slot(p)
        self.version += 1

    def look_after_loans(self) -> None:
        """Move if one of the arrays that were handed out is still held: the values are about to be written."""
        self.lent = False
        if any(home.is_shared() for home, p in self.homes() if p._data is home.array):
            self.move()


def _alone() -> int:
    """The count of references to an array that its home and its parameter hold."""
    home = Home.__new__(Home)
    home.array = parameter = object()
    return home._references() if parameter is home.array else 0


_ALONE = _alone()


def home_of(p: Tensor) -> Home | None:
    """The home that a parameter lives in."""
    home = getattr(p, "_home", None)
    return home if home is not None and home.array is p._data else None


def can_house(p: Tensor) -> bool:
    """Whether parameters on the backend of `p` can have homes."""
    return p._ns.backend.writable and type(p._ns.backend).buffer is not Backend.buffer


def house(params: Iterable[Tensor]) -> None:
    """Give homes to parameters that have none: side by side, in the order in which they come."""
    kinds: dict[Any, list[Tensor]] = {}
    for p in params:
        home = getattr(p, "_home", None)
        if home is not None and _goes_back(p, home):
            continue
        kinds.setdefault((p._ns, p.dtype, p.device), []).append(p)
    for members in kinds.values():
        Arena(members)


def writable_gradients(params: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of parameters, which all have one, as flat Tensors that may be written, one for neighbours.

    Also returns the parameters whose gradients may not be written, since somebody may hold them.
    """
    parts: list[tuple[Arena, int, int]] = []
    others: list[Tensor] = []
    for p in params:
        home = home_of(p)
        if home is None or not home.has_gradient_alone(p):
            others.append(p)
        elif parts and parts[-1][0] is home.arena and home.start == home.arena.rounded(parts[-1][2]):
            parts[-1] = (home.arena, parts[-1][1], home.stop)
        else:
            parts.append((home.arena, home.start, home.stop))
    return [Tensor(arena.gradients[start:stop], None, arena.ns) for arena, start, stop in parts], others


def _goes_back(p: Tensor, home: Home) -> bool:
    """Whether a parameter that was given another array of the same kind took its home again."""
    array, backend = p._data, p._ns.backend
    if home.owner() is not p or home.arena.ns is not p._ns or array.shape != home.array.shape:
        return False
    if array.dtype != home.array.dtype or backend.device_of(array) != backend.device_of(home.array):
        return False
    p._data = home.array
    if home.is_shared():  # by somebody who read `.data` before, say
        p._data = array
        return False
    p._data[...] = array
    home.offer_slot(p)
    return True
