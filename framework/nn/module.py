"""`Module`: parameters, buffers and modules under names, and a function of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from framework.autodiff import Tensor, versions
from framework.backend import Backend
from framework.backend import dtypes as dt
from framework.backend.dtypes import DTYPES, DType
from framework.errors import ConfigError, DTypeError, did_you_mean
from framework.nn.parameter import Parameter
from framework.nn.state import LoadResult, load_into

Self = TypeVar("Self", bound="Module")
Hook = Callable[..., Any]


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: dict[int, Hook], key: int) -> None:
        self._hooks = hooks
        self._key = key

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self._key, None)
        versions.changed(self, "hook")

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Module:
    """Base class of layers and models.

    Parameters, modules and buffers are attributes: what is set as one is found by `parameters()`,
    `modules()` and `state_dict()`, in the order in which it was set. Subclasses call
    `super().__init__()` first and define `forward`.

    Examples:
        >>> import framework as fw
        >>> class Scale(fw.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = fw.nn.Parameter(2.0)
        ...     def forward(self, x):
        ...         return self.factor * x
        >>> Scale()(fw.tensor(3.0)).item(), list(Scale().state_dict())
        (6.0, ['factor'])
    """

    shares_work: ClassVar[bool] = False
    """Whether a Trainer lets kernels share their work among threads (`Backend.sharing`) while there is such a module:
    True of convolutions and attention."""

    training: bool
    # Attributes live in the instance's own dict alone: reading one costs what reading any attribute costs.
    _buffers: dict[str, bool]  # name to whether it is part of the state dict
    _forward_hooks: dict[int, Hook]

    def __init__(self) -> None:
        own = self.__dict__
        own["training"] = True
        own["_buffers"] = {}
        own["_forward_hooks"] = {}

    # -- attributes -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if "_buffers" not in own:
            if isinstance(value, (Parameter, Module)):  # a tuple: a union would be made anew each time
                raise _init_error(self)
        elif isinstance(value, (Parameter, Module)):
            own["_buffers"].pop(name, None)
        elif value is not None:
            _check_not_lost(self, name, own.get(name), value)
        changes = name not in own or not versions.same(own[name], value)
        object.__setattr__(self, name, value)
        if changes:
            versions.changed(self, name)

    def __getattr__(self, name: str) -> Any:  # only for names that are not there
        if "_buffers" not in self.__dict__ and name in ("_buffers", "_forward_hooks", "training"):
            raise _init_error(self)
        hint = "" if name.startswith("__") else did_you_mean(name, dir(self))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.{hint}")

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._buffers.pop(name, None)
        versions.changed(self, name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set a parameter, or None for one that is left out, under a name."""
        self._check_name(name)
        if param is not None and not isinstance(param, Parameter):
            raise ConfigError(f"parameter {name!r} must be an nn.Parameter or None, got {type(param).__name__}")
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Set a Tensor that moves with the module but is not trained.

        Args:
            persistent: whether it is part of the state dict.
        """
        self._check_name(name)
        if tensor is not None and (not isinstance(tensor, Tensor) or isinstance(tensor, Parameter)):
            raise ConfigError(f"buffer {name!r} must be a Tensor or None, got {type(tensor).__name__}")
        self._buffers[name] = persistent
        setattr(self, name, tensor)

    def register_module(self, name: str, module: Module | None) -> None:
        """Set a module, or None for one that is left out, under a name."""
        self._check_name(name)
        if module is not None and not isinstance(module, Module):
            raise ConfigError(f"module {name!r} must be an nn.Module or None, got {type(module).__name__}")
        setattr(self, name, module)

    add_module = register_module

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ConfigError(f"a name must be a string without a dot and not empty, got {name!r}")
        own = self.__dict__
        held, is_free = own.get(name), name not in own and not hasattr(type(self), name)
        if not (
            is_free or name in self._buffers or isinstance(held, Parameter | Module) or (held is None and name in own)
        ):
            raise ConfigError(f"{type(self).__name__} has an attribute {name!r} already; choose another name")

    # -- calling ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; defined by each subclass."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`, and the hooks where there are any."""
        if (recorder := versions.recorder) is not None:
            recorder.called(self)
        if self._forward_hooks:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            replaced = hook(self, args, out)
            out = out if replaced is None else replaced
        return out

    def register_forward_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(module, args, output)` after each forward; what it returns, if not None, replaces the output."""
        hooks = self._forward_hooks
        key = max(hooks, default=-1) + 1
        hooks[key] = hook
        versions.changed(self, "_forward_hooks")
        return RemovableHandle(hooks, key)

    # -- what is inside -----------------------------------------------------------------------------

    def _own(self, kind: type) -> Iterator[tuple[str, Any]]:
        for name, value in tuple(self.__dict__.items()):
            if isinstance(value, kind) and name not in self._buffers:
                yield name, value

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name in tuple(self._buffers):
            value = self.__dict__.get(name)
            if value is not None:
                yield name, value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules set on this one, with their names; each once."""
        seen: set[int] = set()
        for name, child in self._own(Module):
            if id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules set on this one."""
        for _, child in self.named_children():
            yield child

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; each once where `remove_duplicate`."""
        memo = set() if memo is None else memo
        if remove_duplicate and id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, child in self._own(Module):
            yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def _named(
        self, members: Callable[[Module], Iterator[tuple[str, Any]]], prefix: str, recurse: bool, unique: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=unique) if recurse else [(prefix, self)]
        for place, module in modules:
            for name, value in members(module):
                if unique and id(value) in seen:
                    continue
                seen.add(id(value))
                yield (f"{place}.{name}" if place else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names; one that has several names comes once, unless `remove_duplicate=False`."""
        return self._named(lambda m: m._own(Parameter), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, where `recurse`, of all below it, each once."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names."""
        return self._named(Module._own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and, where `recurse`, of all below it."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # -- modes, gradients -----------------------------------------------------------------------------

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training` here and below; Dropout and its like depend on it."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Set `training` to False here and below."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Freeze all parameters (False) or let them train again."""
        for param in self.parameters():
            param.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad.zero_()

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module below, then with this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- moves ----------------------------------------------------------------------------------------

    def to(self: Self, *targets: Any, backend: Any = None, device: str | None = None, dtype: Any = None) -> Self:
        """Move all parameters, gradients and buffers to a backend, a device or a floating-point dtype.

        `m.to("cuda")`, `m.to("float64")`, `m.to("cuda", "float32")`; parameters stay the same objects,
        and Tensors that are not floating point keep their dtype.

        Raises:
            DTypeError: `dtype` is not floating point.
            BackendError: no such backend or device.
        """
        for target in targets:
            if isinstance(target, DType) or target in DTYPES:
                dtype = target
            else:
                device = str(target)
        if backend is not None:
            device = device or (backend.devices[0] if isinstance(backend, Backend) else str(backend))
        wanted = None if dtype is None else dt.dtype(dtype)
        if wanted is not None and wanted.kind != "float":
            raise DTypeError(f"modules are moved to floating-point dtypes, got {wanted.name}")
        for tensor in [*self.parameters(), *self.buffers()]:
            move(tensor, device, wanted)
        return self

    def float(self: Self) -> Self:
        """All floating-point parameters and buffers as float32."""
        return self.to(dt.float32)

    def double(self: Self) -> Self:
        """All floating-point parameters and buffers as float64."""
        return self.to(dt.float64)

    # -- state ------------------------------------------------------------------------------------------

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers under all their names: those of a module before those below it."""
        for name, param in self._own(Parameter):
            yield prefix + name, param
        for name, buffer in self._own_buffers():
            if self._buffers[name]:
                yield prefix + name, buffer
        for name, child in self._own(Module):
            yield from child._named_state(f"{prefix}{name}.")

    def state_dict(self, *, prefix: str = "") -> dict[str, Tensor]:
        """Copies of all parameters and persistent buffers by dotted name; one copy of what has several names."""
        copies: dict[int, Tensor] = {}
        state = {}
        for name, value in self._named_state(prefix):
            if id(value) not in copies:
                copies[id(value)] = value.detach().clone()
            state[name] = copies[id(value)]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Set parameters and persistent buffers to the values of a mapping of names to Tensors or arrays.

        Parameters stay the same objects, with their dtype and device. Nothing is set if anything does not fit.

        Args:
            strict: whether the names must be the same; shapes always must.

        Raises:
            CheckpointError: names or shapes differ; the message lists all of them.
        """
        return load_into(type(self).__name__, dict(self._named_state()), state_dict, strict)

    # -- text -------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands in the parentheses of the module's text; for subclasses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        rows = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._own(Module)]
        if not rows:
            return f"{type(self).__name__}({extra})"
        body = "".join(f"\n  {row}" for row in ([extra, *rows] if extra else rows))
        return f"{type(self).__name__}({body}\n)"


def _check_not_lost(module: Module, name: str, held: Any, value: Any) -> None:
    """Raise ConfigError where a parameter, a module or a buffer would be replaced by something else."""
    place, given = f"{type(module).__name__}.{name}", type(value).__name__
    if isinstance(held, Parameter):
        raise ConfigError(
            f"{place} is a Parameter and cannot become a {given}. "
            f"Set its values with {name}.assign(values), or set a new nn.Parameter, or None"
        )
    if isinstance(held, Module):
        raise ConfigError(f"{place} is a module and cannot become a {given}; use another name, or set None first")
    if name in module._buffers and not isinstance(value, Tensor):
        raise ConfigError(f"{place} is a buffer and must be a Tensor or None, got {given}")


def _init_error(module: Module) -> AttributeError:
    name = type(module).__name__
    return AttributeError(
        f"{name}.__init__ must call super().__init__() before it sets parameters or modules, and before {name} is used"
    )


def move(tensor: Tensor, device: str | None, dtype: DType | None) -> None:
    """Give a leaf another device or floating-point dtype without changing its identity; its gradient follows."""
    if dtype is not None and tensor.dtype.kind != "float":
        dtype = None
    moved = tensor.detach().to(device=device, dtype=dtype)
    if moved._data is tensor._data:
        return
    grad = None if tensor.grad is None else tensor.grad.detach().to(device=device, dtype=dtype)
    tensor.data = moved
    if grad is not None:
        tensor.grad = grad
