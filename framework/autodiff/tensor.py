"""`Tensor`: an array of a backend that remembers where it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from framework.autodiff import tape
from framework.autodiff.modes import default_backend, grad_enabled
from framework.autodiff.namespace import RawNamespace, ops
from framework.autodiff.operators import Operators
from framework.autodiff.tape import Node
from framework.backend import Backend
from framework.backend.dtypes import DTYPES, DType
from framework.errors import DTypeError, GradientError, ShapeError

Array = Any


class Tensor(Operators):
    """An n-dimensional array on a backend, with an optional place on the tape.

    Made by `fw.tensor`, `fw.random` and the functions of `framework.numpy`. In-place operators rebind
    the Tensor to a new array; no other Tensor ever changes with it, on any backend.
    """

    __slots__ = ("__weakref__", "_data", "_node", "_ns")

    _level: ClassVar[Any] = None  # a transform's Tensors have one
    __array_priority__ = 1000  # NumPy arrays and scalars on the left defer to us

    def __init__(self, data: Array, node: Node | None, ns: RawNamespace) -> None:
        self._data = data
        self._node = node
        self._ns = ns

    # -- what it is -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return tuple(self._data.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._data.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self._data.shape:
            size *= n
        return size

    @property
    def dtype(self) -> DType:
        """The backend-neutral dtype."""
        return self._ns.backend.dtype_of(self._data)

    @property
    def native_dtype(self) -> Any:
        """The library's own dtype object."""
        return self._data.dtype

    @property
    def backend(self) -> Backend:
        """The backend that the array belongs to; equals its own name."""
        return self._ns.backend

    @property
    def device(self) -> str:
        """The device that the array is on, such as `"cpu"` or `"cuda:1"`."""
        return self._ns.backend.device_of(self._data)

    @property
    def data(self) -> Array:
        """The backend's own array, without history. Setting it replaces the array."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._data, self._ns = value._data, value._ns
        else:
            self._data = self._ns.backend.asarray(value)
        if self._node is not None and self._node.prim is None:
            self._node.shape, self._node.dtype, self._node.ns = self._data.shape, self._data.dtype, self._ns

    @property
    def T(self) -> Tensor:  # noqa: N802 - the standard's name
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ShapeError(f"T is for matrices, got shape {self.shape}; use .mT or .permute")
        return ops.matrix_transpose(self)

    @property
    def mT(self) -> Tensor:  # noqa: N802 - the standard's name
        """The transpose of the last two axes."""
        return ops.matrix_transpose(self)

    # -- gradients ------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this Tensor are recorded. Can be set on a leaf."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not value:
            if self._node is not None and self._node.prim is not None:
                raise GradientError("requires_grad of a result cannot be unset; use .detach()")
            self._node = None
        elif self._node is None:
            if not self.dtype.is_differentiable:
                raise DTypeError(f"gradients need a floating-point dtype, got {self.dtype.name}; use .astype first")
            self._node = tape.Leaf(self._data, self._ns)

    @property
    def is_leaf(self) -> bool:
        """Whether this Tensor was not computed from others on the tape."""
        return self._node is None or self._node.prim is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` accumulated here, or None."""
        g = None if self._node is None else self._node.grad
        return g if g is None or isinstance(g, Tensor) else Tensor(g, None, self._ns)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is None:
            if self._node is not None:
                self._node.grad = None
            return
        if self._node is None:
            raise GradientError("only a Tensor with requires_grad=True has a gradient")
        value = value if isinstance(value, Tensor) else ops.tensor(value, dtype=self.dtype, backend=self.backend)
        if value.shape != self.shape:
            raise ShapeError(f"a gradient has its Tensor's shape {self.shape}, got {value.shape}")
        self._node.grad = value if value.requires_grad else value._data

    def backward(
        self,
        gradient: Any = None,
        *,
        create_graph: bool = False,
        retain_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Accumulate the gradients of this Tensor in the `.grad` of the leaves it depends on.

        Args:
            gradient: the gradient that starts here, of this Tensor's shape; may be left out for one element.
            create_graph: record the walk, so that gradients can be differentiated again.
            retain_graph: keep the graph for another call.
            inputs: leaves that are wanted; others are left alone. Default: all.

        Raises:
            GradientError: nothing here requires a gradient, or `gradient` is missing for several elements.

        Examples:
            >>> import framework as fw
            >>> x = fw.tensor([1.0, 2.0], requires_grad=True)
            >>> (x * x).sum().backward()
            >>> x.grad.tolist()
            [2.0, 4.0]
        """
        ops.run_backward(self, gradient, create_graph, retain_graph, inputs)

    def register_hook(self, fn: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `fn` with this Tensor's gradient when backward passes; what it returns replaces it.

        Returns a function that removes the hook.
        """
        if self._node is None:
            raise GradientError("only a Tensor with requires_grad=True can have a hook")
        node, ns = self._node, self._node.ns  # the hook must not hold its node: that would be a cycle

        def hook(g: Any) -> Any:
            is_tensor = isinstance(g, Tensor)
            result = fn(g if is_tensor else Tensor(g, None, ns))
            if result is None:
                return g
            return result if is_tensor else result._data

        node.hooks = [*(node.hooks or []), hook]

        def remove() -> None:
            node.hooks = [h for h in node.hooks or [] if h is not hook]

        return remove

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Set `requires_grad` and return this Tensor."""
        self.requires_grad = value
        return self

    def detach(self) -> Tensor:
        """The same array without history."""
        return Tensor(self._data, None, self._ns)

    # -- out to the host ------------------------------------------------------------------------

    def numpy(self) -> Any:
        """The values as a NumPy array, which may share memory.

        Raises:
            GradientError: the Tensor is on the tape; write `.detach().numpy()`.
        """
        if self._node is not None:
            raise GradientError("this Tensor requires a gradient, which NumPy would lose; use .detach().numpy()")
        return self._ns.backend.to_numpy(self._data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("a cast needs a copy, and copy=False forbids it")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy functions called on Tensors become ours, where we have them."""
        function = getattr(ops, _UFUNC_NAMES.get(ufunc.__name__, ufunc.__name__), None)
        if method != "__call__" or kwargs or function is None:
            raise GradientError(
                f"numpy.{ufunc.__name__} on a Tensor would lose its gradient; "
                f"use framework.numpy, or .detach().numpy() for the values"
            )
        return function(*inputs)

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            ShapeError: there is not exactly one.
        """
        if self.size != 1:
            raise ShapeError(f"item() needs one element, got shape {self.shape}")
        return self._ns.backend.to_numpy(self._data).item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self._ns.backend.to_numpy(self._data).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in ("int", "uint"):
            raise DTypeError(f"only an integer Tensor can be an index, got {self.dtype.name}")
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-d Tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self._node is not None:
            raise GradientError("this Tensor requires a gradient, which DLPack would lose; use .detach()")
        return self._data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._data.__dlpack_device__()

    def __repr__(self) -> str:
        text = str(self._ns.backend.to_numpy(self._data).__repr__())
        body = text[text.index("(") + 1 : -1] if "(" in text else text
        body = body.rpartition(", dtype=")[0] or body
        where = "" if self.backend is default_backend() else f", device={self.device!r}"
        grad = ", requires_grad=True" if self._node is not None else ""
        return f"tensor({body}, dtype={self.dtype.name}{where}{grad})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and not self.shape else format(str(self), spec)

    # -- copies and moves -----------------------------------------------------------------------

    def clone(self) -> Tensor:
        """A copy that gradients flow through."""
        return ops.clone(self)

    def to(self, target: Any = None, *, dtype: Any = None, device: str | None = None) -> Tensor:
        """On another backend or device, or of another dtype: `t.to("cuda")`, `t.to("float64")`.

        Gradients flow through. The Tensor itself is returned where nothing changes.
        """
        if target is not None:
            if isinstance(target, DType) or target in DTYPES:
                dtype = target
            else:
                device = str(target)
        result = self
        if device is not None and device != self.device:
            result = ops.to_device(result, device)
        if dtype is not None and result.dtype != dtype:
            result = ops.astype(result, dtype)
        return result

    def to_device(self, device: str, /, *, stream: Any = None) -> Tensor:
        """The standard's name of `.to(device)`."""
        return self.to(device=device)

    def assign(self, value: Any) -> None:
        """Set the values without recording: a leaf keeps its identity, shape and dtype.

        Raises:
            ShapeError: the shapes differ.
        """
        if not isinstance(value, Tensor):
            value = ops.tensor(value, backend=self.backend)
        if value.shape != self.shape:
            raise ShapeError(f"cannot set a Tensor of shape {self.shape} to values of shape {value.shape}")
        array = value.to(device=self.device, dtype=self.dtype)._data
        self._data = self._ns.backend.copy(array) if array is value._data else array

    def copy_(self, value: Any) -> Tensor:
        """Set the values and return this Tensor; see `assign`."""
        check_inplace(self)
        self.assign(ops.broadcast_to(ops.as_tensor(value, self), self.shape))
        return self

    def fill_(self, value: float) -> Tensor:
        """Set every element to `value` and return this Tensor."""
        check_inplace(self)
        self.assign(ops.full_like(self.detach(), value))
        return self

    def zero_(self) -> Tensor:
        """Set every element to zero and return this Tensor."""
        return self.fill_(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._node is not None and self._node.prim is not None:
            raise GradientError("a computed Tensor cannot be deep-copied; use .detach() or .clone()")
        copied = type(self).__new__(type(self))
        Tensor.__init__(copied, self._ns.backend.copy(self._data), None, self._ns)
        if self._node is not None:
            copied._node = tape.Leaf(copied._data, self._ns)
            if self._node.grad is not None:
                copied.grad = self.grad.detach().clone()  # type: ignore[union-attr]
        memo[id(self)] = copied
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        array = self._ns.backend.to_numpy(self._data)
        return _rebuild, (type(self), array, self.device, self.requires_grad)


def _rebuild(cls: type[Tensor], array: Any, device: str, requires_grad: bool) -> Tensor:
    made = ops.tensor(array, device=device, requires_grad=requires_grad)
    made.__class__ = cls
    return made


_UFUNC_NAMES = {"true_divide": "divide", "power": "pow", "absolute": "abs", "arctan": "atan", "arcsin": "asin",
                "arccos": "acos", "invert": "bitwise_invert"}  # fmt: skip


def check_inplace(t: Tensor) -> None:
    """Refuse an in-place write that the tape would not see.

    Raises:
        GradientError: `t` is a leaf that requires a gradient, and operations are recorded.
    """
    if t._node is not None and t._node.prim is None and grad_enabled.get():
        raise GradientError(
            "a leaf that requires a gradient is written in place while operations are recorded; "
            "write inside `with fw.no_grad():`"
        )
