"""`Tensor`: an array of a backend that remembers where it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from framework.autodiff import tape, versions
from framework.autodiff.conversions import Conversions
from framework.autodiff.modes import grad_enabled
from framework.autodiff.namespace import RawNamespace, ops
from framework.autodiff.operators import Operators
from framework.autodiff.tape import Node
from framework.backend import Backend
from framework.backend.dtypes import DTYPES, DType
from framework.errors import DTypeError, GradientError, ShapeError, did_you_mean

Array = Any
KINDS = ("bool", "uint", "int", "float", "complex")  # each may become a later one, never an earlier one


class Tensor(Conversions, Operators):
    """An n-dimensional array on a backend, with an optional place on the tape.

    Made by `fw.tensor`, `fw.random` and the functions of `framework.numpy`. In-place operators rebind
    the Tensor to a new array; no other Tensor ever changes with it, on any backend.
    """

    __slots__ = ("__weakref__", "_data", "_home", "_node", "_ns")  # `_home` is set by the optimizer that gives one

    _home: Any
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
        self._seen()
        return self._array()

    @data.setter
    def data(self, value: Any) -> None:
        self._told()
        before = self.shape, self.dtype, self._ns
        if isinstance(value, Tensor):
            self._data, self._ns = value._data, value._ns
        else:
            self._data = self._ns.backend.asarray(value)
        if before != (self.shape, self.dtype, self._ns):
            versions.changed(self, "data")
        if self._node is not None and self._node.prim is None:
            self._node.shape, self._node.dtype, self._node.ns = self._data.shape, self._data.dtype, self._ns
            self._node.slot = None

    def _told(self) -> None:
        """Tell a recording that this Tensor is about to have another array."""
        if self._ns.recorder is not None:
            self._ns.recorder.writes(self)

    def _array(self) -> Array:
        """The array; NumPy has scalars where an operation leaves no axes."""
        data = self._data
        return data if hasattr(data, "__dlpack__") else self._ns.backend.asarray(data)

    @property
    def T(self) -> Tensor:  # noqa: N802 - the standard's name
        """The transpose of a matrix; a vector stays what it is, as in NumPy."""
        if self.ndim > 2:
            raise ShapeError(f"T is for matrices, got shape {self.shape}; use .mT or .permute")
        return ops.permute_dims(self)

    @property
    def mT(self) -> Tensor:  # noqa: N802 - the standard's name
        """The transpose of the last two axes."""
        return ops.matrix_transpose(self)

    @property
    def real(self) -> Tensor:
        """The real part; the Tensor itself where it is real."""
        return ops.real(self) if self.dtype.kind == "complex" else self

    @property
    def imag(self) -> Tensor:
        """The imaginary part."""
        return ops.imag(self) if self.dtype.kind == "complex" else ops.zeros_like(self.detach())

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
            if self._level is not None:
                raise GradientError("requires_grad is for Tensors outside transforms; inside, use fw.grad or fw.vjp")
            self._data = self._array()
            self._node = tape.Leaf(self._data, self._ns)
        versions.changed(self, "requires_grad")

    @property
    def is_leaf(self) -> bool:
        """Whether this Tensor was not computed from others on the tape."""
        return self._node is None or self._node.prim is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` accumulates here, always the same Tensor until it is None again."""
        node = self._node
        g = None if node is None else node.grad
        if g is not None and not isinstance(g, Tensor):  # an array until somebody looks
            node.grad = g = Tensor(g, None, node.ns)  # type: ignore[union-attr]
        if g is not None and node.ns.recorder is not None:  # type: ignore[union-attr]
            node.ns.recorder.looked_at(node, g)  # type: ignore[union-attr]
        return g

    @grad.setter
    def grad(self, value: Any) -> None:
        node = self._node
        if value is None:
            if node is not None:
                if node.ns.recorder is not None:
                    node.ns.recorder.reset("drop gradient", partial(setattr, node, "grad", None), lambda: (node,))
                node.grad = None
            return
        if node is None or node.prim is not None:
            raise GradientError("only a leaf, a Tensor with requires_grad=True that is no result, has a gradient")
        if value is node.grad:  # `x.grad *= 2` has written into it
            if node.ns.recorder is not None:
                node.ns.recorder.wrote_gradient(node, value)
            return
        value = value if isinstance(value, Tensor) else ops.tensor(value, dtype=self.dtype, device=self.device)
        if value._level is not None:
            raise GradientError("a value inside a transform cannot be the gradient of a Tensor outside; return it")
        if value.shape != self.shape:
            raise ShapeError(f"a gradient has its Tensor's shape {self.shape}, got {value.shape}")
        value = value.to(device=self.device, dtype=self.dtype)
        node.grad = None  # it may be in the slot
        node.grad = value if value.requires_grad else _placed(node, value._data)
        if node.ns.recorder is not None:
            node.ns.recorder.set_gradient(node, value)

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
        owner = tape.owner.get()

        def hook(g: Any) -> Any:
            if owner is not None and owner is not tape.owner.get():
                return g  # the derivative of a gradient, which the hook is a part of
            is_tensor = isinstance(g, Tensor)
            result = fn(g if is_tensor else Tensor(g, None, ns))
            if result is None:
                return g
            return result if is_tensor else result._data

        hook.__wrapped__ = fn  # type: ignore[attr-defined]  # where a recording sees what it depends on
        node.hooks = [*(node.hooks or []), hook]
        if node.prim is None:
            versions.changed(self, "hook")

        def remove() -> None:
            node.hooks = [h for h in node.hooks or [] if h is not hook]
            if node.prim is None:
                versions.changed(node, "hook")

        return remove

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Set `requires_grad` and return this Tensor."""
        self.requires_grad = value
        return self

    def detach(self) -> Tensor:
        """The same array without history."""
        node = self._node
        if node is None or node.prim is None:
            self._lend()
        return Tensor(self._data, None, self._ns)

    def _lend(self) -> None:
        """Note that the array is handed out: before it is written, its home is to see whether it is still held."""
        home = getattr(self, "_home", None)
        if home is not None:
            home.arena.lent = True

    # -- copies and moves -----------------------------------------------------------------------

    def clone(self) -> Tensor:
        """A copy that gradients flow through."""
        return ops.clone(self)

    def to(self, target: Any = None, *, dtype: Any = None, device: str | None = None) -> Tensor:
        """On another backend or device, or of another dtype: `t.to("cuda")`, `t.to("float64")`.

        Gradients flow through. The Tensor itself is returned where nothing changes.

        Raises:
            BackendError: no such backend or device.
            DTypeError: no such dtype.
        """
        if isinstance(target, Backend):
            device = target.name
        elif isinstance(target, str) and target not in DTYPES:
            if hint := did_you_mean(target, DTYPES):
                raise DTypeError(f"{target!r} is neither a dtype nor a device.{hint}")
            device = target
        elif target is not None:
            dtype = ops.named_dtype(target)
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
        if self._ns.listener() is not None:
            token = grad_enabled.set(False)
            try:
                self.copy_(value.detach())  # which is told of
            finally:
                grad_enabled.reset(token)
            return
        array = value.to(device=self.device, dtype=self.dtype)._data
        self._write(array, shared=array is value._data)

    def _write(self, array: Array, shared: bool = False) -> None:
        """Give a leaf other values: into its home, where it has one. Of a `shared` array a copy is kept."""
        home = getattr(self, "_home", None)
        if home is not None and home.array is self._data and self._ns.recorder is None:
            self._data = home.fill(array)
        else:
            self._data = self._ns.backend.copy(array) if shared else array

    def copy_(self, value: Any) -> Tensor:
        """Set the values and return this Tensor; see `assign`."""
        value = ops.as_tensor(value, self).to(device=self.device, dtype=self.dtype)
        return ops.write(self, ops.clone(ops.broadcast_to(value, self.shape)))

    def fill_(self, value: Any) -> Tensor:
        """Set every element to `value`, one number, and return this Tensor.

        Raises:
            DTypeError: a fraction or a complex number for a Tensor that cannot hold it.
        """
        value = ops.as_tensor(value, self)
        if value.size != 1:
            raise ShapeError(f"fill_ takes one element, got shape {value.shape}; use copy_")
        if KINDS.index(value.dtype.kind) > KINDS.index(self.dtype.kind if self.dtype.is_differentiable else "int"):
            raise DTypeError(f"fill_ of a Tensor of {self.dtype.name} got {value.dtype.name}; use .astype")
        return self.copy_(ops.reshape(value, ()))

    def zero_(self) -> Tensor:
        """Set every element to zero and return this Tensor."""
        return ops.write(self, ops.zeros_like(self.detach()))

    def __copy__(self) -> Tensor:
        return self._copied() if self.is_leaf and self._level is None else self.clone()

    def _copied(self) -> Tensor:
        """A leaf like this one, with an array of its own and without a gradient."""
        copied = type(self).__new__(type(self))
        Tensor.__init__(copied, self._ns.clone(self._data), None, self._ns)
        if self._node is not None:
            copied._node = tape.Leaf(copied._data, self._ns)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        self._check_no_result("deep-copied", "use .detach() or .clone()")
        memo[id(self)] = copied = self._copied()
        if self.grad is not None:
            copied.grad = self.grad.detach().clone()
        return copied

    def _check_no_result(self, done: str, instead: str) -> None:
        if not self.is_leaf or self._level is not None:
            raise GradientError(f"a computed Tensor cannot be {done}, since its history cannot; {instead}")

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_no_result("pickled", "use .detach()")
        array = self._ns.backend.to_numpy(self._seen())
        return _rebuild, (type(self), array, self.device, self.requires_grad)


def _rebuild(cls: type[Tensor], array: Any, device: str, requires_grad: bool) -> Tensor:
    made = ops.tensor(array, device=device, requires_grad=requires_grad)
    made.__class__ = cls
    return made


def _placed(leaf: Any, g: Array) -> Array:
    """A leaf's gradient in its slot, where that is free."""
    slot = tape.free_slot(leaf) if leaf.ns.recorder is None else None
    if slot is None:
        return g
    slot[...] = g
    return slot


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
