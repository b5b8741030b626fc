"""Batches of a dataset that is kept on the device: one launch each, in buffers that are used again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fw_cuda.arrays import Array, Loan, computes, count, integer, is_c, name_of
from fw_cuda.sources import OTHERS, Kernels, blocks_for

MOST_BUFFERS = 4
"""Buffers for batches; a consumer that lets go of each batch before it asks for the next uses one."""

_APART = 512
"""Bytes: the arrays of a batch begin at multiples of it, as those from CuPy's pool do."""


class Part(NamedTuple):
    """An array of the dataset, and what becomes of its rows."""

    shape: tuple[int, ...]
    """Of one row."""
    dtype: Any
    """In the batch."""
    rows: int
    """The array's address."""
    width: int
    """Elements of a row."""
    size: int
    """Bytes of an element that is copied."""
    affine: tuple[int, int, int, int] = (0, 0, 1, 1)
    """Addresses of factor and offset, or none; elements of a row in a channel; channels."""


class Gatherer:
    """Batches of arrays on the device: `gather = gatherer(order)` for an epoch, then `gather(start, stop)` for each.

    A batch has the rows `order[start:stop]` of each array. It is one launch on the current stream, and its arrays lie
    in a buffer that is used again when nobody holds one of them, a view or an export any more. So a consumer that
    lets go of each batch before it asks for the next has them all at the same addresses, and a CUDA graph reads them
    there; those of a shorter batch are the beginnings. If the batch before is held, another buffer is taken,
    `MOST_BUFFERS` at most, and then memory of its own for each array.

    What reads a batch is to be asked of the stream that is current when the batch is, before it is let go of, and the
    next launch comes after that on the same stream: there is no event to wait for. If another stream is current than
    at the batch before, the device is waited for, and buffers are new. The arrays' device is made the current one.

    Args:
        cupy: the module.
        kernels: launches.
        arrays: of the dataset, which are to stay as they are.
        parts: the same, as the kernel wants them.
        types: the dtypes of what is normalised, and of what it is computed from.
        held: other arrays whose addresses are in the parts.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        arrays: Sequence[Array],
        parts: Sequence[Part],
        types: tuple[str, str],
        held: Any = None,
    ) -> None:
        self.cupy, self.kernels, self.parts, self.types = cupy, kernels, parts, types
        self._held = tuple(arrays), held
        self._device = arrays[0].device.id
        self._buffers: _Buffers | None = None

    def __call__(self, order: np.ndarray[Any, Any]) -> Callable[[int, int], list[Array]]:
        """What gathers batches of this order, int64 indices that are known to be inside the arrays.

        The order is copied to the device at the first batch. One thread at a time may ask for batches.
        """
        return _Ordered(self, np.ascontiguousarray(order))

    def buffers(self, rows: int) -> _Buffers:
        """Buffers for so many rows on the current stream."""
        cuda = self.cupy.cuda
        if cuda.runtime.getDevice() != self._device:
            cuda.Device(self._device).use()
        found, stream = self._buffers, cuda.get_current_stream().ptr
        if found is not None and found.stream == stream:
            if rows <= found.rows:
                return found
            rows = max(rows, 2 * found.rows)  # lengths differ: not anew for each that is longer
        else:
            cuda.Device().synchronize()  # what fills the arrays, and whatever is done with batches, on other streams
        self._buffers = _Buffers(self, self._device, stream, rows)
        return self._buffers


class _Ordered:
    """Batches of one order."""

    def __init__(self, gatherer: Gatherer, order: np.ndarray[Any, Any]) -> None:
        self._gatherer, self._order = gatherer, order
        self._buffers: _Buffers | None = None
        self._here: Array = None

    def __call__(self, start: int, stop: int) -> list[Array]:
        buffers = self._gatherer.buffers(stop - start)
        if buffers is not self._buffers:  # the first batch; or the memory is to be of another stream's part of the pool
            self._buffers, self._here = buffers, self._gatherer.cupy.asarray(self._order)
        return buffers.batch(self._here, start, stop - start)


class _Buffers:
    """Memory for batches of up to so many rows on one stream, and the table that tells the kernel what goes where."""

    def __init__(self, gatherer: Gatherer, device: int, stream: int, rows: int) -> None:
        self.stream, self.rows = stream, rows
        self._cupy, self._launch, self._types = gatherer.cupy, gatherer.kernels.launch, gatherer.types
        self._device = device
        table, self._layout, place = [], [], 0
        for part in gatherer.parts:
            table.append((part.rows, place, part.width, part.size, *part.affine))
            self._layout.append((part.shape, part.dtype, place))
            place += -(-rows * count(part.shape) * part.dtype.itemsize // _APART) * _APART
        self._size = place
        self._table = self._cupy.asarray(np.array(table, np.int64))
        self._width = sum(part.width for part in gatherer.parts)
        self._fixed = self._table, integer(self._width)
        self._buffers: list[_Buffer] = []

    def batch(self, order: Array, start: int, rows: int) -> list[Array]:
        """The arrays of a batch."""
        cupy, elements = self._cupy, rows * self._width
        if not elements:
            return [cupy.empty((rows, *shape), dtype=dtype) for shape, dtype, _ in self._layout]
        kept = self._free()
        buffer = kept or _Buffer(cupy, self._size)
        computed, stored = self._types
        args = buffer.bytes, *self._fixed, order, integer(start), integer(rows)
        self._launch("batches", "fw_gather", computed, blocks_for(elements), *args, index=stored)
        memory = cupy.cuda.UnownedMemory(buffer.address, self._size, buffer.lent(), self._device)
        pointer = cupy.cuda.MemoryPointer
        found = [cupy.ndarray((rows, *shape), dtype, pointer(memory, place)) for shape, dtype, place in self._layout]
        # Somebody collects batches, or arrays of them, which are not to keep the others.
        return found if kept is not None else [array.copy() for array in found]

    def _free(self) -> _Buffer | None:
        """A buffer that nobody holds: if possible the one used last, so that addresses stay the same."""
        buffers = self._buffers
        for place, buffer in enumerate(buffers):
            if buffer.loan() is None:
                if place:
                    buffers.insert(0, buffers.pop(place))
                return buffer
        if len(buffers) == MOST_BUFFERS:
            return None
        buffers.insert(0, _Buffer(self._cupy, self._size))
        return buffers[0]


class _Buffer:
    """Memory for one batch."""

    def __init__(self, cupy: Any, size: int) -> None:
        self.bytes = cupy.empty(size, dtype="uint8")
        self.address = self.bytes.data.ptr
        self.loan: Callable[[], Loan | None] = _nobody
        """Gives what lives as long as somebody holds an array in this memory."""

    def lent(self) -> Loan:
        """What is to be held by arrays in this memory."""
        loan = Loan(self.bytes)
        self.loan = weakref.ref(loan)
        return loan


def _nobody() -> None:
    """In place of a reference to a loan."""


def gatherer(
    cupy: Any, kernels: Kernels, arrays: Sequence[Array], affine: tuple[Array, Array] | None
) -> Gatherer | None:
    """Batches of arrays, the first of them times a factor plus an offset where these are given.

    None where the kernel does not do it: arrays that are not in the order of reading, products in other dtypes, and a
    factor for each channel that does not fit.
    """
    if not all(is_c(a) for a in arrays):
        return None
    parts = [_copied(a) for a in arrays]
    if affine is None:
        return Gatherer(cupy, kernels, arrays, parts, ("float32", "uint8"))
    first, (factor, offset) = arrays[0], affine
    channels = max(factor.size, offset.size)
    fits = channels == 1 or first.shape[1:2] == (channels,)
    if not fits or not computes(factor) or offset.dtype != factor.dtype or name_of(first) not in OTHERS:
        return None
    factor, offset = (cupy.ascontiguousarray(cupy.broadcast_to(t, (channels,))) for t in (factor, offset))
    shape = first.shape[1:]
    inner = count(shape[1:]) if channels > 1 else count(shape)
    numbers = factor.data.ptr, offset.data.ptr, max(inner, 1), channels
    parts[0] = Part(shape, factor.dtype, first.data.ptr, count(shape), 1, numbers)
    return Gatherer(cupy, kernels, arrays, parts, (name_of(factor), name_of(first)), (factor, offset))


def _copied(array: Array) -> Part:
    """A part of a batch that is an array's rows as they are, in the largest pieces that they consist of."""
    shape, pointer = array.shape[1:], array.data.ptr
    row = count(shape) * array.dtype.itemsize
    size = next(size for size in (8, 4, 2, 1) if (row | pointer) % size == 0)
    return Part(shape, array.dtype, pointer, row // size, size)
