"""A model of streams for the CUDA plugin's copies: what is queued runs late or early, as far as events let it.

It has the names of CuPy that `fw_cuda.sending` uses, on memory of the host. Nothing runs when it is asked for. A test
decides which stream gets ahead of which, and so sees values that are read too early or overwritten too soon.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np


class Memory:
    """Bytes with an address."""

    def __init__(self, size: int) -> None:
        self.bytes = np.zeros(size, np.uint8)
        self.ptr = self.bytes.ctypes.data


def unowned(pointer: int, size: int, owner: Any, device: int = -1) -> Any:
    """Memory at an address, which keeps `owner` for as long as any view of it lives."""
    made = type("Unowned", (ctypes.Array,), {"_type_": ctypes.c_ubyte, "_length_": size}).from_address(pointer)
    made.owner = owner
    return made


def array(shape: Any, dtype: Any, memory: Any) -> np.ndarray:
    size = int(np.prod(shape))
    return np.frombuffer(memory, np.uint8).view(dtype)[:size].reshape(shape)


class Stream:
    """Work in order; `wait_event` holds up what is behind it."""

    def __init__(self, device: Device) -> None:
        self.device, self.queue, self.ptr = device, [], 1 + len(device.streams)
        device.streams.append(self)

    def submit(self, work: Any) -> None:
        self.queue.append(("work", work))

    def wait_event(self, event: Event) -> None:
        self.queue.append(("wait", event.recorded))

    def step(self) -> bool:
        """Do the first thing that is queued, if no event holds it up."""
        if not self.queue:
            return False
        kind, what = self.queue[0]
        if kind == "wait" and what is not None and not what["done"]:
            return False
        self.queue.pop(0)
        if kind == "work":
            what()
        elif kind == "mark":
            what["done"] = True
        return True

    def run(self) -> None:
        """All of it, and of other streams what it waits for."""
        while self.queue:
            if not self.step():
                mark = self.queue[0][1]
                self.device.reach(mark)


class Event:
    """A place in a stream; to wait for it is to wait for the place where it was recorded last."""

    def __init__(self, disable_timing: bool = False) -> None:
        assert disable_timing
        self.recorded: dict[str, Any] | None = None
        self.device: Device | None = None

    def record(self, stream: Stream) -> None:
        self.recorded, self.device = {"done": False, "stream": stream}, stream.device
        stream.queue.append(("mark", self.recorded))

    @property
    def done(self) -> bool:
        return self.recorded is None or self.recorded["done"]

    def synchronize(self) -> None:
        if self.recorded is not None:
            self.device.waits += not self.recorded["done"]
            self.device.reach(self.recorded)


class Device:
    """The module `cupy`, with one device.

    Attributes:
        eager: copies run as soon as events allow; else as late as they do.
    """

    ndarray = staticmethod(array)

    def __init__(self, eager: bool) -> None:
        self.eager, self.streams, self.waits, self.current_device = eager, [], 0, 0
        self.computes = Stream(self)
        self.current = self.computes
        self.allocated: list[Any] = []
        self.cuda = SimpleNamespace(
            Device=self._handle, Stream=lambda non_blocking: Stream(self), Event=Event,
            get_current_stream=lambda: self.current, alloc=self._alloc, alloc_pinned_memory=self._alloc_pinned,
            UnownedMemory=unowned, MemoryPointer=lambda memory, offset: memory,
            runtime=SimpleNamespace(
                getDevice=lambda: self.current_device, memcpyAsync=self._copy, memcpyHostToDevice=1
            ),
        )  # fmt: skip

    def _handle(self, index: int | None = None) -> Any:
        return SimpleNamespace(
            use=lambda: setattr(self, "current_device", index), synchronize=lambda: [s.run() for s in self.streams]
        )

    def _alloc(self, size: int) -> Memory:
        self.allocated.append(Memory(size))
        return self.allocated[-1]

    def _alloc_pinned(self, size: int) -> Any:
        return self._alloc(size).bytes

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        assert kind == 1
        self.streams[stream - 1].submit(lambda: ctypes.memmove(target, source, size))
        if self.eager:
            self.settle()

    def asarray(self, x: Any) -> Any:
        self.allocated.append(np.array(x))
        return self.allocated[-1]

    def settle(self) -> None:
        """Copies go as far as events let them; nothing is computed."""
        for stream in self.streams:
            while stream is not self.computes and stream.step():
                pass

    def compute(self, more: Any) -> None:
        """Compute while `more()` says so, with copies as early as they can; events on the way are passed."""
        while self.computes.queue and (self.computes.queue[0][0] != "work" or more()):
            self.settle()
            if not self.computes.step():
                break
        self.settle()

    def reach(self, mark: dict[str, Any]) -> None:
        """Run the stream in which the mark is, and what it waits for, up to there."""
        stream = mark["stream"]
        while not mark["done"]:
            if not stream.step():
                self.reach(stream.queue[0][1])
