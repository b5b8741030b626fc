"""Objects over a socket between two processes: pickled, with the content of arrays beside the pickle, uncopied."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from socket import socket


def pack(value: Any) -> list[memoryview]:
    """The parts of a message: a pickle, and the arrays that it refers to."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [memoryview(head), *[buffer.raw() for buffer in buffers]]


def send(channel: socket, parts: list[memoryview]) -> None:
    """Send a packed message."""
    channel.sendall(struct.pack(f"<{len(parts) + 1}Q", len(parts), *[part.nbytes for part in parts]))
    for part in parts:
        channel.sendall(part)


def receive(channel: socket) -> Any:
    """The next message; its arrays are fresh and may be written.

    Raises:
        EOFError: the other side is gone.
    """
    parts = receive_parts(channel)
    return pickle.loads(parts[0], buffers=parts[1:])


def receive_parts(channel: socket) -> list[Any]:
    """The next message as it was packed."""
    (count,) = struct.unpack("<Q", _exactly(channel, 8))
    sizes = struct.unpack(f"<{count}Q", _exactly(channel, 8 * count))
    return [_exactly(channel, size) for size in sizes]


def _exactly(channel: socket, size: int) -> Any:
    buffer: Any = np.empty(size, np.uint8)  # filled with zeros, as a bytearray is, it would take longer
    rest = memoryview(buffer)
    while rest:
        try:
            count = channel.recv_into(rest)
        except OSError as error:  # reset, or closed by another thread
            raise EOFError(str(error)) from error
        if not count:
            raise EOFError("the other side closed the connection")
        rest = rest[count:]
    return buffer
