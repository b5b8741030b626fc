"""Scenarios for `compile`: arguments, results, methods, and functions that copy or move values."""

from __future__ import annotations

import collections
import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from compile_scenarios import SCENARIOS, Compile, Scenario, linear, pair, rows, scenario

import framework as fw
import framework.numpy as fnp

nn = fw.nn
F = nn.functional

# -- arguments --------------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    x: Any
    y: Any


@scenario(18)
def named_tuples(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda batch: batch.x * batch.y)
    seen += [run(Batch(pair(i, 1.0), pair())) for i in range(20)]


@scenario(3)
def a_tuple_of_numbers(compile: Compile, seen: list[Any]) -> None:
    def step(x: Any, *, scale: Any = (1, 2), options: Any = None) -> Any:
        return x * scale[0] + scale[1]

    run = compile(step)
    seen += [run(pair(), scale=(i, 2 * i), options={"a": None}) for i in range(5)]


@scenario(6)
def slices_and_callables(compile: Compile, seen: list[Any]) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            return True

        def __call__(self, x: Any) -> Any:
            return x * 3

    odd = Odd()
    run = compile(lambda x, part, fn: fn(x[part]))
    for part in (slice(0, 1), slice(1, 2)):
        seen += [run(pair(i, 2.0), part, odd) for i in range(5)]


@scenario(2)
def a_callable_that_changes(compile: Compile, seen: list[Any]) -> None:
    class Scale:
        def __init__(self) -> None:
            self.by = 1.0

        def __call__(self, x: Any) -> Any:
            return x * self.by

    scale = Scale()
    run = compile(lambda x, fn: fn(x) * 2)
    seen += [run(pair(), scale) for _ in range(3)]
    scale.by = 5.0
    seen += [run(pair(), scale) for _ in range(3)]


@scenario(2)
def zeros_of_both_signs(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x, numbers: x * np.copysign(1.0, numbers[0]))
    for zero in (0.0, -0.0):
        seen += [run(pair(), [zero]) for _ in range(3)]


@scenario(4)
def the_default_backend(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda n: fnp.ones(3) * n)
    for name in ("cpu", "strict"):
        with fw.use_backend(name):
            seen += [run(2.0).device for _ in range(4)]


@scenario(0, "an argument is a ndarray, which may change unseen; pass a Tensor", has_line=False)
def a_numpy_array(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x, mask: x * fw.tensor(1.0 - mask))
    seen += [run(pair(), np.ones(2, "float32")) for _ in range(3)]
    seen.append(run(pair(), np.array([0, 1], "float32")))


@scenario(0, "an argument is a Things, which may change unseen; pass Tensors, numbers or text", has_line=False)
def another_object(compile: Compile, seen: list[Any]) -> None:
    @dataclass
    class Things:
        x: Any

    run, things = compile(lambda things: things.x * 2), Things(pair())
    seen += [run(things) for _ in range(3)]
    things.x = pair(7.0)
    seen.append(run(things))


@scenario(0, "more than 8 kinds of calls", has_line=False)
def many_texts(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda batch: batch["x"] * 2)
    seen += [run({"x": pair(), "file": [f"a{i}", "b"]}) for i in range(20)]


@scenario(0, "a list or dict among the arguments is changed", has_line=False)
def a_list_that_is_filled(compile: Compile, seen: list[Any]) -> None:
    def step(x: Any, kept: list[Any]) -> Any:
        kept.append(x * 2)
        return x.sum()

    run = compile(step)
    for _ in range(4):
        kept: list[Any] = []
        seen += [run(pair(), kept), kept]


@scenario(0, "an argument is written in place")
def an_argument_written_in_place(compile: Compile, seen: list[Any]) -> None:
    def step(x: Any) -> Any:
        x += 1
        return x.sum()

    run = compile(step)
    for _ in range(4):
        x = pair()
        seen += [run(x), x]


@scenario(0, "a gradient accumulates in an argument")
def an_argument_with_a_gradient(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x: (x * x).sum().backward())
    for i in range(4):
        x = fw.tensor([1.0 + i], requires_grad=True)
        seen += [run(x), x.grad]


# -- results ----------------------------------------------------------------------------------------------------------


@scenario(3)
def a_named_tuple_of_a_loss_and_a_number(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x, n: Batch(x.sum(), n + 1))
    seen += [run(pair(i, 1.0), i) for i in range(5)]


@scenario(0, "a OrderedDict is returned; return a dict", has_line=False)
def an_ordered_dict(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x: collections.OrderedDict(a=x * 2))
    seen += [run(pair()) for _ in range(4)]


@scenario(0, "a list or dict is returned that is an argument", has_line=False)
def an_argument_list_returned(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda parts: parts)
    for _ in range(4):
        parts = [pair()]
        seen.append(run(parts) is parts)


@scenario(0, "is returned twice", has_line=False)
def one_dict_twice(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x: (lambda made: [made, made])({"a": x * 2}))
    for _ in range(4):
        first, second = run(pair())
        seen.append(first is second)


@scenario(4)
def one_tensor_twice_and_views(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x: (lambda y: (y, y, x.detach(), fnp.zeros(2) + 1))(x * 2))
    for i in range(6):
        x = pair(i, 1.0)
        first, second, same, ones = run(x)
        seen.append(first is second)
        first += 1
        same += 1
        ones += 1
        seen += [second, x, ones]


@scenario(0, "the returned {1} became set()", has_line=False)
def a_set_that_is_filled_later(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x: (x * 2, set()))
    for _ in range(4):
        _, found = run(pair())
        seen.append(len(found))
        found.add(1)


@scenario(0, "is kept by something else than its result")
def an_object_with_a_tensor(compile: Compile, seen: list[Any]) -> None:
    class Out:
        def __init__(self, loss: Any) -> None:
            self.loss = loss

    run = compile(lambda x: Out(x.sum()))
    seen += [run(pair(i, 1.0)).loss for i in range(4)]


# -- methods ----------------------------------------------------------------------------------------------------------


@scenario(8)
def methods_of_objects_that_are_equal(compile: Compile, seen: list[Any]) -> Any:
    class Scaled:
        def __init__(self, by: float) -> None:
            self.by = fw.tensor([by])

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

        @compile
        def step(self, x: Any) -> Any:
            return x * self.by

    a, b = Scaled(2.0), Scaled(3.0)
    for _ in range(6):
        seen += [a.step(pair()), b.step(pair())]
    return a, b


@scenario(3)
def a_method_of_a_dataclass(compile: Compile, seen: list[Any]) -> Any:
    @dataclass
    class Scaled:
        by: float

        @compile
        def step(self, x: Any) -> Any:
            return x * self.by

    a = Scaled(2.0)
    seen += [a.step(pair()) for _ in range(4)]
    a.by = 3.0
    seen += [a.step(pair()) for _ in range(3)]
    return a


@scenario(0, "add '__weakref__' to its __slots__", has_line=False)
def a_method_of_an_object_with_slots(compile: Compile, seen: list[Any]) -> None:
    class Scaled:
        __slots__ = ("by",)

        @compile
        def step(self, x: Any) -> Any:
            return x * self.by

    a = Scaled()
    a.by = 2.0
    seen += [a.step(pair()) for _ in range(4)]


@scenario(1)
def a_copied_module_computes_with_its_own(compile: Compile, seen: list[Any]) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()
            self.step = compile(self.walked)

        def walked(self, x: Any) -> Any:
            loss = self.inner(x).sum()
            loss.backward()
            return loss

    model = Model()
    seen += [model.step(rows()) for _ in range(3)]
    other = copy.deepcopy(model)
    for m in (model, other):
        m.zero_grad()
    seen += [other.step(rows()) for _ in range(3)]
    seen += [model.inner.weight.grad, other.inner.weight.grad]


# -- copies and moves: the same values in both recorded calls, others later -------------------------------------------

COPIES = {
    "deepcopy": lambda x: copy.deepcopy(x) * 2,
    "copy": lambda x: copy.copy(x) * 2,
    "tensor": lambda x: fw.tensor(x) * 2,
    "tensor of another dtype": lambda x: fw.tensor(x, dtype="float64") * 2,
    "asarray": lambda x: fnp.asarray(x, copy=True) * 2,
    "asarray that shares": lambda x: fnp.asarray(x) * 2,
    "from_dlpack": lambda x: fnp.from_dlpack(x) * 2,
    "a parameter made of it": lambda x: nn.Parameter(x * 2).detach() * 1,
    "to_device": lambda x: fnp.to_device(x, x.device) * 2,
    "assigned to a new one": lambda x: _assigned(fnp.zeros(2), x) * 2,
    "NumPy's function": lambda x: fnp.asarray(np.sin(x)),
    "rows": lambda x: sum(row for row in x),
    "an index": lambda x: fnp.arange(10)[x.astype("int64")],
    "the index of the largest": lambda x: x[x.argmax()],
    "full": lambda x: fnp.full((3,), x[0]),
    "linspace": lambda x: fnp.linspace(0, x[0], 3),
    "jacobian": lambda x: fw.jacobian(lambda a: a**2)(x),
    "hessian": lambda x: fw.hessian(lambda a: (a**3).sum())(x),
}
NOT_TOLD = {
    "to another device": (lambda x: x.to("strict").to("cpu") * 2, "a Tensor moves between devices"),
    "a list of values": (lambda x: fw.tensor([x[0], x[1] * 2]), "a value is read"),
    "a memoryview": (lambda x: x * float(memoryview(x.data)[0]), "a value is read"),
    "a choice": (lambda x: x * (2 if (x > 4).any() else 1), "a value is read"),
    "a layer made in the call": (lambda x: nn.Linear(2, 2)(x).detach(), "of Linear is set"),
}


def _assigned(made: Any, x: Any) -> Any:
    made.assign(x)
    return made


def _of_values(name: str, fn: Any, replayed: int, warns: str) -> None:
    def play(compile: Compile, seen: list[Any]) -> None:
        run = compile(fn)
        seen += [run(pair(3.0 if i < 3 else 5.0 + i / 2)) for i in range(6)]

    play.__name__ = f"values_{name}"
    SCENARIOS.append(Scenario(play, replayed, warns, False))


for _name, _fn in COPIES.items():
    _of_values(_name, _fn, 4, "")
for _name, (_fn, _warns) in NOT_TOLD.items():
    _of_values(_name, _fn, 0, _warns)


# -- networks ---------------------------------------------------------------------------------------------------------

NETWORKS = {
    "lstm": (lambda: nn.LSTM(3, 4), lambda m: (m(fw.random.normal((2, 5, 3)))[0] ** 2).sum()),
    "attention": (lambda: nn.MultiheadAttention(4, 2), lambda m: _attended(m, fw.random.normal((2, 5, 4)))),
    "batch norm": (lambda: nn.Sequential(linear(), nn.BatchNorm1d(2)), lambda m: (m(rows()) ** 3).sum()),
    "embedding": (lambda: nn.Embedding(9, 3), lambda m: (m(fnp.arange(4)) ** 2).sum()),
}


def _attended(model: Any, x: Any) -> Any:
    out = model(x, x, x)
    return ((out[0] if isinstance(out, tuple) else out) ** 2).sum()


def _of_network(name: str, make: Any, loss_of: Any) -> None:
    def play(compile: Compile, seen: list[Any]) -> None:
        model = make()
        optimizer = fw.optim.AdamW(model.parameters(), lr=0.1)

        def step() -> Any:
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
            return loss

        run = compile(step)
        seen += [run() for _ in range(5)]
        seen += [t.detach().clone() for t in model.state_dict().values()]

    play.__name__ = f"network_{name}"
    SCENARIOS.append(Scenario(play, 3, "", False))


for _name, (_make, _loss_of) in NETWORKS.items():
    _of_network(_name, _make, _loss_of)
