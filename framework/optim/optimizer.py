"""`Optimizer`: the groups of parameters, the state of each parameter, and the one loop over them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from operator import is_
from typing import Any, ClassVar, NamedTuple

from framework.autodiff import Tensor, enable_grad, versions
from framework.autodiff.lines import Line, user_line
from framework.autodiff.namespace import RawNamespace
from framework.autodiff.tape import mark_written
from framework.errors import ConfigError, did_you_mean
from framework.optim.arena import home_of
from framework.optim.groups import BESIDE, Group, check_parameter
from framework.optim.layout import Layout, selected
from framework.optim.neighbours import Run, State
from framework.optim.saving import state_tree, states_of
from framework.optim.steps import Step, as_effect, is_replaced, told_attribute

Array = Any


class UpdateNode(NamedTuple):
    """An update as one kernel of a program.

    Attributes:
        kernel: its name in the contract.
        state: the entries of the state that it takes after parameter and gradient, in order; one that is not in the
            state is given as None.
        params: what does not change from step to step.
        rates: what may, for a step with this number.
    """

    kernel: str
    state: tuple[str | None, ...]
    params: dict[str, Any]
    rates: Callable[[int], list[float]]


class Optimizer:
    """Base class of optimizers.

    A subclass gives to `super().__init__` its arguments as `defaults`, checks them in `check`, and
    defines `hyper`, the numbers of a group read once a step, `start`, the state of a parameter before
    its first step, and `update`, one step on arrays. Parameters without a gradient are left alone.

    Args:
        params: parameters, or dicts with `"params"` and arguments that differ from the defaults.
        defaults: the arguments of groups that do not give their own.
    """

    needs_closure: ClassVar[bool] = False
    """Whether `step` evaluates the loss itself and so needs a closure."""

    elementwise: ClassVar[bool] = False
    """Whether `update` treats each element by itself: neighbours in memory are then updated as one array."""

    apply_if: Array = None
    """A 0-d bool array: where it is false, the next step changes nothing. Back to None after each step."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._states: dict[Tensor, State] = {}
        self._is_exposed = False
        self._layouts: list[Layout] = []
        self._known: tuple[dict[Tensor, State], list[State]] = (self._states, [])
        if hasattr(params, "parameters") or not hasattr(params, "__iter__"):
            raise ConfigError(
                f"{type(self).__name__}: params are parameters, or dicts with them, got {type(params).__name__}; "
                "pass model.parameters()"
            )
        groups: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        if not groups:
            raise ConfigError(f"{type(self).__name__}: got no parameters; pass model.parameters()")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update" in vars(cls):  # what the base class says was said of another update
            if "elementwise" not in vars(cls):
                cls.elementwise = False
            if "updates_by_kernel" not in vars(cls):
                cls.updates_by_kernel = Optimizer.updates_by_kernel  # type: ignore[method-assign]
        if "step" in vars(cls) and not cls.__module__.startswith("framework."):
            cls.step = as_effect(cls.step)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_states": self._written(), "_layouts": [], "_known": (self._states, [])}

    @property
    def state(self) -> dict[Tensor, State]:
        """What is known of each parameter that has been updated. Arrays may be written, entries replaced."""
        self._is_exposed = True
        return self._written()

    @state.setter
    def state(self, states: dict[Tensor, State]) -> None:
        self._states = states

    def _show_state(self) -> None:
        """Let whoever has asked for the state see the numbers in it that a step has made."""
        if self._is_exposed:
            self._written()

    def _written(self) -> dict[Tensor, State]:
        for layout in self._layouts:
            layout.write_back()
        return self._states

    # -- for subclasses -----------------------------------------------------------------------------

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """The group's arguments as Python numbers, in the order in which `update` wants them.

        Python numbers are weak: they never change the dtype of an array, as NumPy's would.
        """
        raise NotImplementedError

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """The state of a parameter before its first step."""
        return {}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter: the new array. The dict `state` is changed in place.

        `p` and the arrays in `state` may be written in place; `g` never.
        """
        raise NotImplementedError

    # -- groups ---------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with arguments of their own: `{"params": [...], "lr": 0.01}`.

        Raises:
            ConfigError: an unknown argument, a value out of range, or a parameter that is there already.
            DTypeError: something is not a floating-point Tensor.
        """
        name = type(self).__name__
        group = dict(param_group)
        if "params" not in group:
            raise ConfigError(f"{name}: a parameter group needs 'params', got {sorted(group)}")
        given = group.pop("params")
        params = [given] if isinstance(given, Tensor) else list(given)
        params = [p[1] if isinstance(p, tuple) else p for p in params]  # named_parameters() too
        for key in group:
            if key not in self.defaults and key not in BESIDE:
                hint = did_you_mean(key, self.defaults)
                raise ConfigError(f"{name}: unknown argument {key!r} in a parameter group.{hint}")
        for p in params:
            check_parameter(name, p)
        held = {id(p) for old in self.param_groups for p in old["params"]}
        if len({id(p) for p in params}) < len(params) or any(id(p) in held for p in params):
            raise ConfigError(f"{name}: a parameter is given twice; each belongs to one group, once")
        group = Group({"params": params, **self.defaults, **group})
        self.check(group)
        self.param_groups.append(group)

    # -- steps ------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters that have a gradient; returns what `closure` returned, which is called first."""
        recorder = self._listener()
        if recorder is not None and is_replaced(self):  # that one has begun, and would begin again
            recorder.give_up("an optimizer was given another step than that of its class")
        elif recorder is not None:
            if closure is not None:
                recorder.give_up("an optimizer steps with a closure")
            return recorder.barrier("optimizer.step", Step(self, closure), self, self._params())
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        flag, self.apply_if = self.apply_if, None
        if isinstance(flag, Tensor):
            flag = flag._data
        if flag is not None and self._is_synchronous():
            if not flag:
                return loss
            flag = None
        by_itself = None if flag is None else self._where(flag)
        if by_itself is not None:
            with by_itself:
                self._update_all(self.update)
        else:
            self._update_all(self.update if flag is None else selected(self.update, flag))
        self._show_state()
        if len(self._states) != len(self._known[1]):
            self._known = (self._states, list(self._states.values()))
        return loss

    def _update_all(self, update: Any) -> None:
        """One step of all groups."""
        line = user_line()
        for group, layout in zip(self.param_groups, self._arranged()):
            hyper = self.hyper(group)
            params = group["params"]
            for run in layout.runs:
                self._update_run(run, params, update, hyper, group["maximize"], line)
            if layout.singles:
                for i in layout.singles:
                    self._update_single(params[i], update, hyper, group["maximize"], line)
                layout.tend_slots(params)

    def updates_by_kernel(self) -> bool:
        """Whether `update` is one kernel of an update and nothing else, which a backend may bind to a flag."""
        return False

    def as_node(self, group: dict[str, Any]) -> UpdateNode | None:
        """The update as one kernel of a program; None where it is not."""
        return None

    def _where(self, flag: Array) -> Any:
        """A context in which updates look at the flag themselves; None where they do not."""
        backends = {id(p._ns.backend): p._ns.backend for p in self._params()}
        if len(backends) != 1 or not self.updates_by_kernel():
            return None
        return next(iter(backends.values())).updates_where(flag)

    def runs_to_come(self, computed: Collection[Any]) -> list[list[Run]] | None:
        """The runs of each group once these leaves have their gradients; None where that is not known before."""
        if not self.elementwise or len(self._layouts) != len(self.param_groups):
            return None
        same, states = self._is_known(), self._states
        for layout in self._layouts:
            layout.look_after_loans()
        for group, layout in zip(self.param_groups, self._layouts):
            codes = layout.codes_for(group["params"], computed)
            if codes is None:
                return None
            if not (same and layout.is_arranged(codes)):
                layout.arrange(group["params"], codes, states, as_runs=True)
        if not same:
            self._known = (states, list(states.values()))
        return [layout.runs for layout in self._layouts]

    def runs_as_before(self) -> list[list[Run]] | None:
        """The runs of each group, if they will be those of the last step; None where that is not soon seen."""
        layouts, groups = self._layouts, self.param_groups
        if not self.elementwise or len(layouts) != len(groups) or not self._is_known():
            return None
        for layout, group in zip(layouts, groups):
            if not layout.is_ready(group["params"]):
                return None
        return [layout.runs for layout in layouts]

    def _is_known(self) -> bool:
        """Whether the state is what the last step has made of it."""
        states, (known, entries) = self._states, self._known
        same = states is known and len(states) == len(entries)
        if same and self._is_exposed:  # to hands that may have changed it
            return all(map(is_, states.values(), entries)) and all(layout.is_current() for layout in self._layouts)
        return same

    def _arranged(self) -> list[Layout]:
        """The layouts of all groups, as this step's gradients ask for; in steady state what they were."""
        layouts, states, same = self._layouts, self._states, self._is_known()
        if not same:
            self._known = (states, list(states.values()))
        if same and len(layouts) == len(self.param_groups) and all(map(_is_steady, layouts, self.param_groups)):
            return layouts
        found: list[Any] = []
        for i, group in enumerate(self.param_groups):
            params = group["params"]
            layout = layouts[i] if i < len(layouts) else None
            codes = None if layout is None else layout.look(params)
            if layout is None or codes is None:
                layout = Layout(params, states, layout)
                layouts[i : i + 1] = [layout]
                codes = layout.look(params)
            layout.look_after_loans()
            found.append(codes)
        del layouts[len(found) :]
        for group, layout, codes in zip(self.param_groups, layouts, found):  # now that no arena moves any more
            if not (same and layout.is_arranged(codes)):
                layout.arrange(group["params"], codes, states, self.elementwise)
        return layouts

    def _update_run(
        self, run: Run, params: list[Tensor], update: Any, hyper: tuple[Any, ...], maximize: bool, line: Line
    ) -> None:
        """One step of neighbours as one array."""
        ns, p, g, state = run.block.arena.ns, run.p, run.g, run.state
        if state is None:
            state = self.start(ns, p, hyper)
        after = update(ns, p, -g if maximize else g, state, hyper)
        if after is not p:
            p[...] = after
        run.put_back(state, params, self._states)
        mark_written(run.leaves, line)

    def _update_single(self, p: Tensor, update: Any, hyper: tuple[Any, ...], maximize: bool, line: Line) -> None:
        """One step of one parameter."""
        node: Any = p._node
        g = node.grad
        if isinstance(g, Tensor):  # somebody has looked at it, or it is from backward(create_graph=True)
            g = g._data
        state = self._states.get(p)
        if state is None:
            state = self._states[p] = self.start(p._ns, p._data, hyper)
        before = p._data
        after = update(p._ns, before, -g if maximize else g, state, hyper)
        if after is not before and home_of(p) is None:
            p._data = after
            return
        if after is not before:
            before[...] = after
        mark_written((node,), line)

    def gradients(self) -> list[Array]:
        """The gradients of all parameters, as the backend's arrays; those side by side in memory as one, read-only."""
        found: list[Array] = []
        for i, group in enumerate(self.param_groups):
            params = group["params"]
            layout = self._layouts[i] if i < len(self._layouts) else None
            if layout is not None and layout.is_steady(params):
                found += [run.g for run in layout.runs]
                continue
            codes = None if layout is None else layout.look(params)
            if layout is not None and codes is not None and layout.is_arranged(codes):
                found += [run.g for run in layout.runs]
                params = [params[i] for i in layout.singles]
            for p in params:
                g = None if p._node is None else p._node.grad
                if g is not None:
                    found.append(g._data if isinstance(g, Tensor) else g)
        return found

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        recorder = self._listener()
        if recorder is not None:
            recorder.reset(
                "optimizer.zero_grad", lambda: self.zero_grad(set_to_none), lambda: [p._node for p in self._params()]
            )
            return
        for group in self.param_groups:
            for p in group["params"]:
                node = p._node
                if node is None or node.grad is None:
                    continue
                if set_to_none:
                    node.grad = None
                elif isinstance(node.grad, Tensor):
                    node.grad.zero_()
                else:
                    p.grad = Tensor(p._ns.xp.zeros_like(p._data), None, p._ns)

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _listener(self) -> Any:
        """The recorder of the call that this is a part of, if one is; see `compile`."""
        for group in self.param_groups:
            for p in group["params"]:
                return p._ns.listener() if p._ns.recorder is not None else None
        return None

    def _is_synchronous(self) -> bool:
        return all(p._ns.backend.synchronous for p in self._params())

    # -- state ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A state tree of copies: `{"state": {"0": {...}}, "param_groups": [{..., "params": [0, 1]}]}`.

        Parameters are numbered through all groups, in order.
        """
        return state_tree(self.param_groups, self._written())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, with the saved arguments of each group.

        Raises:
            CheckpointError: the groups, or the shapes of the parameters, differ.
        """
        self.state = states_of(state_dict, type(self).__name__, self.param_groups, self.defaults)
        for group, saved in zip(self.param_groups, state_dict["param_groups"]):
            for key, value in saved.items():
                if key != "params":
                    group[key] = tuple(value) if isinstance(group.get(key), tuple) else value

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {value}" for key, value in sorted(group.items()) if key != "params"]
        return "\n".join([*lines, ")"])


versions.while_recorded(Optimizer, {"__setattr__": told_attribute})


def _is_steady(layout: Layout, group: dict[str, Any]) -> bool:
    return layout.is_steady(group["params"])


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    """Python floats of numbers of any kind."""
    return tuple([float(v) for v in values])


def check_range(name: str, what: str, value: Any, low: float, high: float | None = None) -> None:
    """Raise ConfigError unless `value` is a number from `low`, and below `high` where one is given."""
    try:
        ok = float(value) >= low and (high is None or float(value) < high)
    except (TypeError, ValueError):
        ok = False
    if not ok:
        bounds = f"at least {low:g}" + ("" if high is None else f" and below {high:g}")
        raise ConfigError(f"{name}: {what} must be {bounds}, got {value!r}")
