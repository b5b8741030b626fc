"""Transforms as levels on the one Tensor.

A Tensor with a level holds in `_data` a Tensor one level down, and in `_extra` what its transform
adds: a tangent (`Dual`), nothing but a batch axis in front (`Batch`); a `Tape` level uses `_node`.
An operation is taken by the innermost level among its inputs, computed one level down, and given
what belongs to it. When no transform is active none of this costs anything.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from itertools import count
from typing import Any, NoReturn

from framework.autodiff.modes import grad_enabled
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import Primitive
from framework.autodiff.tape import Node, Output
from framework.autodiff.tensor import Tensor
from framework.backend.dtypes import DType
from framework.errors import GradientError

_depth = count(1).__next__
active: ContextVar[tuple[Level, ...]] = ContextVar("active_levels", default=())
recording: ContextVar[Level | None] = ContextVar("recording", default=None)
"""The innermost level that takes all operations below it, whatever their inputs; see `GradientTape`."""


class LeveledTensor(Tensor):
    """A Tensor inside a transform."""

    __slots__ = ("_extra", "_level")

    def __init__(self, data: Tensor, level: Level, extra: Any = None, node: Node | None = None) -> None:
        Tensor.__init__(self, data, node, data._ns)
        self._level = level  # type: ignore[misc]
        self._extra = extra

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis; inside `vmap`, those of one sample."""
        return self._data.shape[1:] if self._level.is_batch else self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def dtype(self) -> DType:
        """The backend-neutral dtype."""
        return self._data.dtype

    @property
    def native_dtype(self) -> Any:
        """The library's own dtype object."""
        return self._data.native_dtype

    @property
    def device(self) -> str:
        """The device that the array is on."""
        return self._data.device

    def detach(self) -> Tensor:
        """The same values as a constant of every transform but `vmap`."""
        return ops.stop_gradient(self)

    def _read(self) -> Any:
        if self._level.is_batch:
            raise GradientError(
                "a value is read inside vmap, where it stands for a whole batch; use where() instead of if"
            )
        return self._data

    def item(self) -> Any:
        """The only element, as a Python number; not inside `vmap`."""
        return self._read().item()

    def tolist(self) -> Any:
        """The elements as nested lists; not inside `vmap`."""
        return self._read().tolist()

    def numpy(self) -> NoReturn:
        """Raises: NumPy would lose the derivative."""
        raise GradientError("this Tensor is inside a transform, which NumPy would leave; use framework.numpy")

    def __repr__(self) -> str:
        return f"<{type(self._level).__name__.lower()} of {self._data!r}>"


class Level:
    """One active transform."""

    is_batch = False
    is_recording = False

    def __init__(self) -> None:
        self.depth = _depth()
        self.open = True

    def __enter__(self) -> Level:
        self._token = active.set((*active.get(), self))
        return self

    def __exit__(self, *exc: object) -> None:
        self.open = False
        active.reset(self._token)

    def lower(self, x: Any) -> Any:
        """`x` one level down; a value of an outer level or a constant is there already."""
        if isinstance(x, Tensor) and x._level is self:
            return x._data
        return x

    def lift(self, x: Tensor) -> LeveledTensor:
        """A value of an outer level as a constant of this one."""
        return LeveledTensor(x, self)

    def constant_of(self, x: LeveledTensor) -> Tensor:
        """`x` without what this transform adds; see `stop_gradient`."""
        return ops.stop_gradient(x._data)

    def process(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Apply a primitive to inputs of which this is the innermost level."""
        if not self.open:
            raise GradientError(
                f"a Tensor left its {type(self).__name__.lower()} transform; return it from the function"
            )
        above = recording.get()
        if above is not None and above.depth > self.depth:
            return above.apply(p, inputs, params)
        return self.apply(p, inputs, params)

    def below(self) -> AbstractContextManager[Any]:
        """Inside, a computation on values one level down is not seen by this level."""
        return nullcontext()

    def taken_up(self, x: Any) -> Any:
        """`x` as an operation of this level sees it: a recording takes up what has a node below."""
        return x

    def settled(self, x: LeveledTensor) -> Tensor:
        """`x` as the result of a function: of this level, unless the level is over and its values go on below."""
        return x

    def apply(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute one level down and add what belongs to this transform."""
        raise NotImplementedError


class Dual(Level):
    """Forward mode: values carry tangents."""

    def lift(self, x: Tensor) -> LeveledTensor:
        """A constant has a tangent of zero."""
        return LeveledTensor(x, self, ops.zeros_like(x))

    def apply(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The value, and the tangent by the primitive's jvp."""
        primals = [self.lower(x) for x in inputs]
        tangents = tuple([x._extra if isinstance(x, LeveledTensor) and x._level is self else None for x in inputs])
        out = p.apply(*primals, **params)
        if p.jvp is None:
            return out
        tangent = p.jvp(ops, tangents, out, *primals, **params)
        if p.outputs > 1:
            return out if tangent is None else tuple([self._with_tangent(o, t) for o, t in zip(out, tangent)])
        return self._with_tangent(out, tangent)

    def _with_tangent(self, out: Tensor, tangent: Tensor | None) -> Tensor:
        if tangent is None:
            return out
        if tangent.shape != out.shape:
            tangent = ops.broadcast_to(tangent, out.shape)
        if tangent.dtype is not out.dtype:
            tangent = ops.astype(tangent, out.dtype)
        return LeveledTensor(out, self, tangent)


RANDOMNESS = ("error", "same", "different")
"""What a random function does inside `vmap`: raise, draw once for all samples, draw for each."""


class Batch(Level):
    """Batching: values carry an axis of `size` samples in front."""

    is_batch = True

    def __init__(self, size: int, randomness: str = "error") -> None:
        super().__init__()
        self.size = size
        self.randomness = randomness

    def lift(self, x: Tensor) -> LeveledTensor:
        """A constant is the same for every sample."""
        return LeveledTensor(ops.broadcast_to(x, (self.size, *x.shape)), self)

    def constant_of(self, x: LeveledTensor) -> Tensor:
        """A constant of other transforms still has its batch."""
        return LeveledTensor(ops.stop_gradient(x._data), self)

    def apply(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The whole batch at once, by the primitive's batching rule."""
        is_batched = tuple([isinstance(x, Tensor) and x._level is self for x in inputs])
        args = tuple([self.lower(x) for x in inputs])
        out = p.batch(ops, self.size, is_batched, args, params, p.apply)
        return LeveledTensor(out, self) if p.outputs == 1 else tuple([LeveledTensor(o, self) for o in out])


class Tape(Level):
    """Reverse mode above another level; the rules run on the Tensors of that level."""

    def apply(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The value, recorded."""
        raw = [self.lower(x) for x in inputs]
        out = p.apply(*raw, **params)
        parents = tuple([x._node if isinstance(x, Tensor) and x._level is self else None for x in inputs])
        mask = tuple([node is not None for node in parents])
        if p.vjp is None or True not in mask or not grad_enabled.get():
            return out
        keep_out, *keep_in = p.kept(mask)
        saved = (out if keep_out else None, None, *[a if k else None for a, k in zip(raw, keep_in)])
        if p.outputs == 1:
            return LeveledTensor(out, self, node=Node(p, parents, saved, params, out, ops))
        node = Node(p, parents, saved, params, out[0], ops)
        return tuple([LeveledTensor(o, self, node=Output(node, i, o)) for i, o in enumerate(out)])
