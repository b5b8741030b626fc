"""The lines of the user's program, for errors that name them.

The line of a write into an array that a backward may need is always kept; that of each operation costs
about as much as a small operation itself, so it is kept inside `record_lines()` only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

Line = tuple[CodeType, int]
"""A piece of code and the place of an instruction in it, from which the number is found when it is asked for."""

recording = False
"""Whether nodes keep their lines: a switch of the whole process, for debugging."""

_OURS = ("framework.", "fw_")


def user_line() -> Line:
    """Where the innermost code outside the framework is."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith(_OURS) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def text(line: Line) -> str:
    """A line as `file.py:12`."""
    code, place = line
    number = next((n for start, end, n in code.co_lines() if start <= place < end), None)
    return f"{code.co_filename}:{number}"


def at(node: Any) -> str:
    """Where the operation of a node was, if its line was recorded."""
    line = getattr(node, "line", None)
    return "" if line is None else f" ({text(line)})"


def overwritten(node: Any, parent: Any) -> str:
    """The message for a node that kept an array of `parent` which was overwritten since."""
    leaf = parent
    while leaf.prim is not None:  # a view of it
        leaf = leaf.parents[0]
    where = "" if leaf.writer is None else f" at {text(leaf.writer)}"
    hint = "" if hasattr(node, "line") else ". Under `with fw.record_lines():` this names the operation's line, too"
    return (
        f"{node.name!r}{at(node)} needs an array of shape {parent.shape} for its gradient that was overwritten in "
        f"place{where} after it was used (by an optimizer step, say). Call backward before the write, or compute "
        f"the forward pass again after it{hint}"
    )


@contextmanager
def record_lines() -> Iterator[None]:
    """Keep the line of every operation, so that errors of a backward name it. Slower: for debugging.

    Examples:
        >>> import framework as fw
        >>> x = fw.tensor([1.0], requires_grad=True)
        >>> with fw.record_lines():
        ...     y = (x * x).sum()
    """
    global recording
    before, recording = recording, True
    try:
        yield
    finally:
        recording = before
