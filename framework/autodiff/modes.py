"""What is in force: whether gradients are recorded, the default dtype, the default backend."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from framework.backend import Backend, registry
from framework.backend.dtypes import DType, dtype, float32
from framework.errors import DTypeError

F = TypeVar("F", bound=Callable[..., Any])

grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)
_backend: ContextVar[Backend | None] = ContextVar("backend", default=None)
_process_backend: Backend | None = None
_default_dtype: DType = float32


class _GradMode:
    """Switches recording; a context manager and a decorator, usable with or without parentheses."""

    _value: bool

    def __init__(self, fn: Callable[..., Any] | None = None) -> None:
        self._fn = fn
        self._tokens: list[Any] = []
        if fn is not None:
            functools.update_wrapper(self, fn)

    def __enter__(self) -> None:
        self._tokens.append(grad_enabled.set(self._value))

    def __exit__(self, *exc: object) -> None:
        grad_enabled.reset(self._tokens.pop())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._fn is None:  # @no_grad()
            (fn,) = args
            return type(self)(fn)
        token = grad_enabled.set(self._value)
        try:
            return self._fn(*args, **kwargs)
        finally:
            grad_enabled.reset(token)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:  # decorating a method
        return self if instance is None else functools.partial(self, instance)


class no_grad(_GradMode):  # noqa: N801 - torch's name
    """Record no operations, as a context manager or a decorator.

    Examples:
        >>> import framework as fw
        >>> x = fw.tensor([1.0], requires_grad=True)
        >>> with fw.no_grad():
        ...     (2 * x).requires_grad
        False
    """

    _value = False


class enable_grad(_GradMode):  # noqa: N801 - torch's name
    """Record operations again inside `no_grad`, as a context manager or a decorator."""

    _value = True


def get_default_dtype() -> DType:
    """The dtype of Python floats and of creation functions; float32 at the start."""
    return _default_dtype


def set_default_dtype(d: DType | str) -> None:
    """Set the dtype of Python floats and of creation functions.

    Raises:
        DTypeError: it is not a floating-point dtype.
    """
    global _default_dtype
    d = dtype(d)
    if d.kind != "float":
        raise DTypeError(f"the default dtype must be a floating-point dtype, got {d.name}")
    _default_dtype = d


def default_backend() -> Backend:
    """The backend of new Tensors: what `use_backend` or `set_default_backend` chose, else `$FW_BACKEND`, else cpu."""
    global _process_backend
    backend = _backend.get() or _process_backend
    if backend is None:
        backend = _process_backend = registry.get(os.environ.get("FW_BACKEND") or "cpu")
    return backend


def set_default_backend(name: str) -> None:
    """Set the backend of new Tensors for this process."""
    global _process_backend
    _process_backend = registry.get(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Make new Tensors on this backend inside a `with` block."""
    token = _backend.set(registry.get(name))
    try:
        yield
    finally:
        _backend.reset(token)
