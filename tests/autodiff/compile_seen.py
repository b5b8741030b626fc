"""Scenarios for `compile`: where a function can find Python values that change between its calls, or by them."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from compile_scenarios import SCENARIOS, Compile, Scenario, linear, pair, rows, scenario

import framework as fw
import framework.numpy as fnp

nn = fw.nn


class Plain:
    """An object with attributes."""

    factor = 1.0

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    @property
    def doubled(self) -> Any:
        return self.value * 2  # type: ignore[attr-defined]


class Below(Plain):
    pass


class Operators(Plain):
    """What Python calls without naming it."""

    value: Any

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __call__(self, x: Any) -> Any:
        return x * self.value["a"]

    def __len__(self) -> int:
        return int(self.value["a"])

    def __iter__(self) -> Any:
        return iter([self.value["a"]])


class Looks(Plain):
    value: Any

    def __getattr__(self, name: str) -> Any:
        return vars(self)["value"][name]


@dataclasses.dataclass(slots=True)
class Slots:
    values: list[float]


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k = 1.0
        self.settings = {"k": 1.0}

    def forward(self, x: Any) -> Any:
        return x


def _hooked() -> Any:
    settings, model = {"k": 1.0}, Scaled()
    model.w = nn.Parameter([1.0, 1.0])
    model.register_forward_hook(lambda module, given, out: out * settings["k"])
    model.w.register_hook(lambda g: g * settings["k"])
    return Plain(hidden=settings, model=model)


def _gradient(box: Any, x: Any) -> Any:
    (box.model.w * x).sum().backward()
    gradient = box.model.w.grad.clone()
    box.model.w.grad = None
    return gradient


def _with_rule() -> Any:
    settings = {"k": 1.0}
    scaled = fw.custom_vjp(lambda x: x * 2)
    scaled.defvjp(lambda x: (x * 2, None), lambda kept, g: (g * settings["k"],))
    return Plain(hidden=settings, scaled=scaled, w=fw.tensor([1.0, 2.0]))


def _gradient_by_rule(box: Any, x: Any) -> Any:
    return fw.grad(lambda w: box.scaled(w * x).sum())(box.w)


def held_by_another(model: Any, x: Any) -> Any:
    """A helper that gets the object as an argument."""
    return x * model.settings["k"]


# each: what is seen, what it is asked for, and how it is set anew
PLACES: dict[str, tuple[Any, Callable[[Any, Any], Any], Callable[[Any, float], Any]]] = {
    "a defaultdict": (
        lambda: collections.defaultdict(lambda: 1.0), lambda s, x: x * s["a"], lambda s, v: s.update(a=v),
    ),
    "an OrderedDict": (
        lambda: collections.OrderedDict(a=1.0), lambda s, x: x * s["a"], lambda s, v: s.update(a=v),
    ),
    "a ChainMap": (
        lambda: collections.ChainMap({}, {"a": 1.0}), lambda s, x: x * s["a"], lambda s, v: s.maps[1].update(a=v),
    ),
    "a deque": (lambda: collections.deque([1.0]), lambda s, x: x * s[0], lambda s, v: s.__setitem__(0, v)),
    "bytes that change": (lambda: bytearray(b"1"), lambda s, x: x * s[0], lambda s, v: s.__setitem__(0, int(v))),
    "a set": (lambda: {1.0}, lambda s, x: x * 2 if 1.0 in s else x, lambda s, v: (s.clear(), s.add(v))),
    "the order of a dict": (
        lambda: {"a": 1.0, "b": 2.0}, lambda s, x: x * next(iter(s.values())),
        lambda s, v: s.update(a=s.pop("a")) if v > 1 else None,
    ),
    "an element of an array": (
        lambda: np.ones(2), lambda s, x: x * float(s[0]), lambda s, v: s.__setitem__(0, v),
    ),
    "a copied array": (
        lambda: np.ones(2, "float32"), lambda s, x: x * fw.tensor(s), lambda s, v: s.__setitem__(0, v),
    ),
    "slots": (lambda: Slots([1.0]), lambda s, x: x * s.values[0], lambda s, v: s.values.__setitem__(0, v)),
    "an item": (lambda: Operators(value={"a": 1.0}), lambda s, x: x * s["a"], lambda s, v: s.value.update(a=v)),
    "a call": (lambda: Operators(value={"a": 1.0}), lambda s, x: s(x), lambda s, v: s.value.update(a=v)),
    "a length": (lambda: Operators(value={"a": 1.0}), lambda s, x: x * len(s), lambda s, v: s.value.update(a=v)),
    "an iteration": (lambda: Operators(value={"a": 1.0}), lambda s, x: x * sum(s), lambda s, v: s.value.update(a=v)),
    "__getattr__": (lambda: Looks(value={"a": 1.0}), lambda s, x: x * s.a, lambda s, v: s.value.update(a=v)),
    "a name as a text": (
        lambda: Plain(value=1.0), lambda s, x: x * getattr(s, "value"), lambda s, v: setattr(s, "value", v),
    ),
    "an attribute that appears": (
        Plain, lambda s, x: x * 2 if hasattr(s, "late") else x, lambda s, v: setattr(s, "late", v) if v > 1 else None,
    ),
    "a property": (lambda: Plain(value=1.0), lambda s, x: x * s.doubled, lambda s, v: setattr(s, "value", v)),
    "an attribute over the class's": (Plain, lambda s, x: x * s.factor, lambda s, v: setattr(s, "factor", v)),
    "an attribute of a class": (
        lambda: type("Made", (Below,), {"__module__": __name__}), lambda s, x: x * s.factor,
        lambda s, v: setattr(s, "factor", v),
    ),
    "a method of a class": (
        lambda: type("Made", (Scaled,), {"__module__": __name__, "forward": lambda self, x: x})(),
        lambda s, x: s(x), lambda s, v: setattr(type(s), "forward", lambda self, x: x * v),
    ),
    "an attribute of a function": (
        lambda: types.FunctionType(doubled.__code__, {"__name__": __name__}), lambda s, x: x * s.factor,
        lambda s, v: setattr(s, "factor", v),
    ),
    "a module in an object": (
        lambda: Plain(model=Scaled()), lambda s, x: x * s.model.k, lambda s, v: setattr(s.model, "k", v),
    ),
    "what a hook sees": (_hooked, lambda s, x: s.model(x), lambda s, v: s.hidden.update(k=v)),
    "what a hook of a parameter sees": (_hooked, _gradient, lambda s, v: s.hidden.update(k=v)),
    "what a rule sees": (_with_rule, _gradient_by_rule, lambda s, v: s.hidden.update(k=v)),
    "a container of a module": (Scaled, held_by_another, lambda s, v: s.settings.update(k=v)),
    "an entry of a mapping proxy": (
        lambda: (made := {"a": 1.0}, types.MappingProxyType(made)), lambda s, x: x * s[1]["a"],
        lambda s, v: s[0].update(a=v),
    ),
}  # fmt: skip


def doubled() -> None:
    """Lends its code."""


def _place(name: str, make: Any, ask: Any, write: Any) -> None:
    def play(compile: Compile, seen: list[Any]) -> None:
        place = make()
        write(place, 1.0)
        run = compile(lambda x: ask(place, x))
        for value in (1.0, 2.0):
            write(place, value)
            seen += [run(pair()) for _ in range(3)]

    play.__name__ = f"seen_{name}"
    SCENARIOS.append(Scenario(play, 2, "", False))


for _name, _parts in PLACES.items():
    _place(_name, *_parts)


# -- what a call changes ---------------------------------------------------------------------------------------------


def _counts(box: Any) -> int:
    box["n"] += 1
    return int(box["n"])


def _adds(box: Any) -> int:
    box["n"] += 1  # in place
    return int(box["n"])


def _appends(box: Any) -> int:
    box.append(box[-1] + 1)
    return int(box[-1])


def _sets(box: Any) -> int:
    box.n = getattr(box, "n", 0) + 1
    return int(box.n)


CHANGES: dict[str, tuple[Any, Callable[[Any], int], str]] = {
    "a count in a Counter": (collections.Counter, _counts, "the call changes"),
    "a count in a defaultdict": (lambda: collections.defaultdict(int), _counts, "the call changes"),
    "a count in an array": (lambda: {"n": np.zeros((), "int64")}, _adds, "the call changes"),
    "a deque that grows": (lambda: collections.deque([0]), _appends, "the call changes"),
    "a deque that is full": (lambda: collections.deque([0] * 3, maxlen=3), _appends, "the call changes"),
    "a count at a function": (lambda: lambda: None, _sets, "the call changes"),
    "an iterator": (lambda: iter(range(99)), next, "is an iterator"),
    "a count of itertools": (itertools.count, next, "is an iterator"),
    "a generator": (lambda: (i for i in range(99)), next, "is an iterator"),
    "NumPy's older generator": (
        lambda: np.random.RandomState(4), lambda r: r.randint(99), "is drawn from in the call",
    ),
    "a class above random.Random": (
        lambda: type("Mine", (random.Random,), {})(5), lambda r: r.randrange(99), "is drawn from in the call",
    ),
    "the system's noise": (random.SystemRandom, lambda r: r.randrange(1), "noise that nobody can draw again"),
}  # fmt: skip


def _change(name: str, make: Any, advance: Any, warns: str) -> None:
    def play(compile: Compile, seen: list[Any]) -> None:
        box = make()
        run = compile(lambda x: x * 2 if advance(box) > 5 else x)
        seen += [run(pair()) for _ in range(9)]

    play.__name__ = f"changes_{name}"
    SCENARIOS.append(Scenario(play, 0, warns, False))


for _name, _parts in CHANGES.items():
    _change(_name, *_parts)


@scenario(3)
def a_table_that_is_made_when_it_is_needed(compile: Compile, seen: list[Any]) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask: Any = None

        def forward(self, x: Any) -> Any:
            if self.mask is None:
                self.mask = fnp.ones((2,)) * 3
            return x * self.mask

    run = compile(Masked())
    seen += [run(pair()) for _ in range(6)]


# -- values of optimizers, schedules and metrics ---------------------------------------------------------------------


def _scheduled() -> Any:
    model = linear()
    optimizer = fw.optim.AdamW(model.parameters(), lr=0.1)
    return model, optimizer, fw.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)


@scenario(10)
def rates_that_are_read(compile: Compile, seen: list[Any]) -> None:
    _, optimizer, schedule = _scheduled()

    def step(x: Any) -> Any:
        group = optimizer.param_groups[0]
        rates = [group["lr"], group.get("lr"), dict(group)["lr"], dict(group.items())["lr"], *schedule.get_last_lr()]
        return x * group["lr"], rates, group["betas"], group.get("nothing", 3)

    run = compile(step)
    for _ in range(12):
        seen.append(run(pair()))
        schedule.step()


@scenario(6)
def a_rate_that_decides(compile: Compile, seen: list[Any]) -> None:
    _, optimizer, schedule = _scheduled()
    run = compile(lambda x: x * 2 if optimizer.param_groups[0]["lr"] > 0.07 else x)
    for _ in range(10):
        seen.append(run(pair()))
        schedule.step()


@scenario(0, "a step of an optimizer or a schedule in the same call may have set")
def a_rate_after_the_schedule(compile: Compile, seen: list[Any]) -> None:
    model, optimizer, schedule = _scheduled()

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.detach() * optimizer.param_groups[0]["lr"]

    run = compile(step)
    seen += [run(rows()) for _ in range(8)]


@scenario(4)
def the_place_of_a_schedule(compile: Compile, seen: list[Any]) -> None:
    _, _, schedule = _scheduled()
    run = compile(lambda x: x * schedule.last_epoch)
    for _ in range(2):
        schedule.step()
        seen += [run(pair()) for _ in range(4)]


class Largest(fw.metrics.Metric):
    def reset(self) -> None:
        self.largest = fw.tensor(0.0)

    def update(self, x: Any) -> None:
        self.largest = fnp.maximum(self.largest, fnp.max(x))

    def compute(self) -> Any:
        return self.largest


@scenario(0, "Largest.compute is called")
def a_metric_that_is_computed(compile: Compile, seen: list[Any]) -> None:
    metric = Largest()

    def step(x: Any) -> Any:
        metric.update(x)
        return metric.compute()

    run = compile(step)
    seen += [run(pair(v, 0.0)) for v in (5.0, 5.0, 5.0, 7.0, 8.0)]


@scenario(0, "Largest.reset is called")
def a_metric_that_is_reset(compile: Compile, seen: list[Any]) -> None:
    metric = Largest()

    def step(x: Any) -> Any:
        metric.reset()
        return x * 2

    run = compile(step)
    for _ in range(4):
        metric.update(pair())
        run(pair())
        seen.append(metric.compute())


@scenario(3)
def a_metric_of_what_no_backward_walks(compile: Compile, seen: list[Any]) -> None:
    model, metric = linear(), fw.metrics.Accuracy()

    def step(x: Any) -> Any:
        scores = model(fnp.exp(x))
        metric.update(scores, target=fnp.zeros((4,), dtype="int64"))
        loss = (model.weight**2).sum()
        loss.backward()
        return loss, scores.detach()

    run = compile(step)
    seen += [run(rows()) for _ in range(5)]
    seen.append(metric.compute())


# -- arguments -------------------------------------------------------------------------------------------------------


@scenario(4)
def numbers_in_a_tuple_in_a_dict(compile: Compile, seen: list[Any]) -> None:
    def step(batch: Any, shift: Any) -> Any:
        return batch["x"] * batch["t"][0] + batch["l"][0][0] + shift

    run = compile(step)
    seen += [run({"x": pair(), "t": (2, 3.0), "l": [(4.0,)]}, shift=i) for i in range(6)]


@scenario(4)
def a_parameter_and_a_tensor(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda w: w.detach() * (2 if isinstance(w, nn.Parameter) else 3))
    parameter, leaf = nn.Parameter([1.0]), fw.tensor([1.0], requires_grad=True)
    for _ in range(4):
        seen += [run(parameter), run(leaf)]


@scenario(0, "a value is read")
def a_tensor_that_is_pickled(compile: Compile, seen: list[Any]) -> None:
    import pickle

    state = pair()
    run = compile(lambda x: x * pickle.loads(pickle.dumps(state)))
    for i in range(5):
        state += float(i > 2)
        seen.append(run(pair()))


@scenario(0, "the call changes")
def numbers_that_are_kept(compile: Compile, seen: list[Any]) -> None:
    import json

    box, last = Plain(listed=[], keyed={}, queue=collections.deque(), n=0, members=set()), 0

    def step(x: Any, n: int) -> Any:
        nonlocal last
        last = n + 1
        box.listed.append(n)
        box.keyed[n] = {"n": n * 2}
        box.queue.append(n)
        box.n = n
        box.members.add(n)
        return x * n

    run = compile(step)
    for n in range(4):
        seen += [run(pair(), n), json.dumps([box.listed, list(box.keyed), list(box.keyed.values()), box.n, last])]
        seen += [json.dumps(list(box.queue)), json.dumps(list(box.members))]


@scenario(0, "an argument is written in place")
def an_error_after_a_write(compile: Compile, seen: list[Any]) -> None:
    state = pair()

    def step(x: Any, n: int) -> Any:
        x *= 0.5
        state.__iadd__(1)
        return x * "text" if n == 0 else x * n

    run = compile(step)
    for n in (0, 1, 0, 2):
        try:
            seen.append(run(pair(), n))
        except TypeError as error:
            seen.append(str(error))
        seen.append(state.clone())
