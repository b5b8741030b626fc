"""Batches that travel to the device while it computes: page-locked buffers, a stream for copies, and events."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

import numpy as np

from fw_cuda.arrays import Array, Loan

MOST_BUFFERS = 8
"""Buffers of one size; a batch of two arrays of a size uses four, and more where the host is far ahead."""

_LEAST = 512  # bytes: what CuPy's pool hands out is a multiple of it


class Sender:
    """Copies of NumPy arrays on the device: `sender(array)`, which waits for nothing that is computed.

    The values are copied to a page-locked buffer, so that the array may be changed at once, and from there by a
    stream of its own. The current stream waits for that copy, by an event; what was asked of it before goes on
    meanwhile. An array that is given lies in a buffer on the device, which is used again

    - when nobody holds the array, a view of it or an export of it any more,
    - by a copy that waits for all that had been asked of the current stream when that was first seen.

    It is first seen at the call after the last use, so the copy of a batch waits for the step before the last one,
    and travels while the last one is computed.

    Args:
        cupy: the module.
        device: the index of the device that becomes the current one; None to stay on the current one.
    """

    def __init__(self, cupy: Any, device: int | None) -> None:
        self._cupy = cupy
        self._device = device
        self._streams: dict[int, Any] = {}
        self._buffers: dict[tuple[int, int], list[_Buffer]] = {}
        self.copies = 0
        """Copies on the streams for copies so far."""

    def __call__(self, array: np.ndarray[Any, Any]) -> Array:
        """A C-contiguous array on the device; one thread at a time may ask for it."""
        cupy = self._cupy
        if self._device is not None:
            cupy.cuda.Device(self._device).use()
        if not array.nbytes or array.dtype.kind not in "biufc" or not array.dtype.isnative:
            return cupy.asarray(array)
        device = cupy.cuda.runtime.getDevice()
        computes = cupy.cuda.get_current_stream()
        buffer = self._free(device, max(_LEAST, 1 << (array.nbytes - 1).bit_length()), computes)
        if buffer is None:  # somebody collects the batches
            return cupy.asarray(array)
        self.copies += 1
        return buffer.filled(array, self._stream(device), computes, device)

    def _stream(self, device: int) -> Any:
        found = self._streams.get(device)
        if found is None:  # one that does not wait for the null stream, nor lets it wait
            found = self._streams[device] = self._cupy.cuda.Stream(non_blocking=True)
        return found

    def _free(self, device: int, size: int, computes: Any) -> _Buffer | None:
        """A buffer that nobody holds: if possible one that was free before and whose last copy has arrived."""
        buffers = self._buffers.setdefault((device, size), [])
        ready, usable = None, None
        for buffer in buffers:  # the one used longest ago first
            if not buffer.is_free:
                if buffer.is_held:
                    continue
                buffer.release(computes)
            elif ready is None and buffer.copied.done:
                ready = buffer
            usable = usable or buffer
        found = ready
        if found is None and len(buffers) < MOST_BUFFERS:
            found = _Buffer(self._cupy, size, computes)
            buffers.append(found)
        found = found or usable
        if found is not None:
            buffers.remove(found)
            buffers.append(found)
        return found


class _Buffer:
    """Memory for one array, page-locked and on the device, and where its use stands.

    Args:
        cupy: the module.
        size: bytes of either.
        computes: the stream that computes, in whose part of the pool the memory on the device is.
    """

    def __init__(self, cupy: Any, size: int, computes: Any) -> None:
        self._cupy = cupy
        self._host = cupy.cuda.alloc_pinned_memory(size)
        self._memory = cupy.cuda.alloc(size)
        self._loan: weakref.ref[Loan] | None = None
        self._lent_on = computes.ptr
        self.copied = cupy.cuda.Event(disable_timing=True)
        self._released = cupy.cuda.Event(disable_timing=True)
        self.is_free = False
        self.release(computes)  # the memory may be that of an array which is still read

    @property
    def is_held(self) -> bool:
        """Whether somebody holds the array that was given."""
        return self._loan is not None and self._loan() is not None

    def release(self, computes: Any) -> None:
        """From here on nothing new reads the array; the next copy waits for what does already."""
        if computes.ptr != self._lent_on:  # read on another stream, of which no event is known
            self._cupy.cuda.Device().synchronize()
        self._released.record(computes)
        self.is_free = True

    def filled(self, array: np.ndarray[Any, Any], copies: Any, computes: Any, device: int) -> Array:
        """The array's values on the device."""
        cupy = self._cupy
        self.copied.synchronize()  # the copy before: its page-locked memory is written now
        place = np.frombuffer(self._host, array.dtype, array.size).reshape(array.shape)
        np.copyto(place, array)
        copies.wait_event(self._released)
        runtime = cupy.cuda.runtime
        runtime.memcpyAsync(self._memory.ptr, place.ctypes.data, array.nbytes, runtime.memcpyHostToDevice, copies.ptr)
        self.copied.record(copies)
        computes.wait_event(self.copied)
        loan = Loan(self._memory)
        self._loan, self._lent_on, self.is_free = weakref.ref(loan), computes.ptr, False
        memory = cupy.cuda.UnownedMemory(self._memory.ptr, array.nbytes, loan, device)
        return cupy.ndarray(array.shape, array.dtype, cupy.cuda.MemoryPointer(memory, 0))

    def __del__(self) -> None:
        """The page-locked memory goes back to CuPy's pool, which hands it out at once: the copy has to be over."""
        with suppress(Exception):
            self.copied.synchronize()
