"""How errors end a command: one message on stderr, an exit code, and a traceback for the user's own code only."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import framework
from framework.cli.nodes import UserCodeError
from framework.errors import DTypeError, FrameworkError, GradientError, ShapeError

DONE, FAILED, REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

EXPLAINED_BY_CODE = (UserCodeError, ShapeError, DTypeError, GradientError)
"""Errors of ours that only the line of the user's code explains."""


class RunFailedError(Exception):
    """Wraps, as its cause, what ended a run after its first step."""


def note(text: str) -> None:
    """One line on stderr beside the results."""
    print(f"fw: {text}", file=sys.stderr, flush=True)


@contextmanager
def short_warnings() -> Iterator[None]:
    """Within the block a warning takes one line, with its place only where that is not the framework's."""
    before = warnings.formatwarning

    def format_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        own = filename.startswith(str(Path(framework.__file__).parent) + os.sep)
        place = "" if own else f"{filename}:{lineno}: {category.__name__}: "
        return f"fw: warning: {place}{message}\n"

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


def report(error: BaseException, *, debug: bool = False) -> int:
    """Say what went wrong, once; gives the exit code."""
    code = REFUSED
    if isinstance(error, RunFailedError) and error.__cause__ is not None:
        code, error = FAILED, error.__cause__
    if debug:
        traceback.print_exception(error)
    else:
        culprit = _user_error(error)
        if culprit is not None:
            traceback.print_exception(type(culprit), culprit, _from_user_code(culprit.__traceback__))
    print(f"fw: error: {message(error)}", file=sys.stderr, flush=True)
    return code


def message(error: BaseException) -> str:
    """The error in one line of text, or as many as a message of ours has."""
    if isinstance(error, FrameworkError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"out of memory. {error}".strip()
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if _user_error(error) else f"{text}\nThis comes from inside the framework; --debug shows where"


def _user_error(error: BaseException) -> BaseException | None:
    """The exception to show with its traceback: raised in the user's own code and not a refusal of ours."""
    while isinstance(error, UserCodeError) and error.__cause__ is not None:
        error = error.__cause__
        if _from_user_code(error.__traceback__) is not None:
            return error
    current: BaseException | None = error
    while isinstance(current, EXPLAINED_BY_CODE) or (current is not None and not isinstance(current, FrameworkError)):
        if _from_user_code(current.__traceback__) is not None:
            return current
        current = current.__cause__
    return None


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the user's own code on; None where there is none."""
    while trace is not None and not is_user_code(trace.tb_frame):
        trace = trace.tb_next
    return trace


def is_called_from_user_code(error: BaseException) -> bool:
    """Whether something that the user's code has called raised an error, not that code itself."""
    trace = _from_user_code(error.__traceback__)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and not is_user_code(trace.tb_frame)


def is_user_code(frame: FrameType) -> bool:
    """Whether a frame belongs to neither the framework, nor Python, nor an installed package."""
    file = frame.f_code.co_filename
    return not file.startswith("<") and not file.startswith(tuple(_foreign()))


def _foreign() -> Iterator[str]:
    yield str(Path(framework.__file__).parent) + os.sep
    paths = sysconfig.get_paths()
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield str(Path(paths[name])) + os.sep
