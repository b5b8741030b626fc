"""Scenarios for `compile`: Python values that a function sees, noise that is not the framework's, and numbers."""

from __future__ import annotations

import datetime
import functools
import math
import random
import types
from typing import Any

import numpy as np
from compile_scenarios import SCENARIOS, Compile, Scenario, linear, pair, rows, scenario

import framework as fw
import framework.numpy as fnp

nn = fw.nn
F = nn.functional

# -- what a function sees ------------------------------------------------------------------------------------------


@scenario(4)
def numbers_in_the_closure(compile: Compile, seen: list[Any]) -> None:
    scale, settings, table = 2.0, types.SimpleNamespace(rate=3.0), {"shift": 1.0}

    def shifted(x: Any) -> Any:
        return x + table["shift"]

    run = compile(lambda x: shifted(x * scale * settings.rate))
    seen += [run(pair()) for _ in range(3)]
    scale = 5.0
    seen += [run(pair()) for _ in range(3)]
    settings.rate = 7.0
    seen += [run(pair()) for _ in range(3)]
    table["shift"] = 4.0
    seen += [run(pair()) for _ in range(3)]


FACTOR = 1.0


def doubled(x: Any) -> Any:
    return x * 2


def multiplied(x: Any) -> Any:
    return [x * FACTOR for _ in range(2)][1]


@scenario(2)
def a_global_number(compile: Compile, seen: list[Any]) -> None:
    global FACTOR
    run = compile(multiplied)
    try:
        for FACTOR in (1.0, 1.0, 1.0, 2.0, 2.0, 2.0):
            seen.append(run(pair()))
    finally:
        FACTOR = 1.0


class Settings:
    factor = 2.0
    __slots__ = ("rate",)

    @property
    def both(self) -> float:
        return self.factor * self.rate


@scenario(4)
def slots_properties_and_values_of_classes(compile: Compile, seen: list[Any]) -> None:
    class Mine(Settings):
        __slots__ = ()
        factor = 3.0

    settings = Mine()
    settings.rate = 2.0
    run = compile(lambda x: x * settings.both)
    seen += [run(pair()) for _ in range(4)]
    settings.rate = 5.0
    seen += [run(pair()) for _ in range(3)]
    Mine.factor = 7.0
    seen += [run(pair()) for _ in range(3)]


@scenario(2)
def containers_of_a_module(compile: Compile, seen: list[Any]) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factors = {"a": 2.0}
            self.shifts = [1.0]

        def forward(self, x: Any) -> Any:
            return x * self.factors["a"] + self.shifts[0]

    model = Scaled()
    run = compile(model)
    seen += [run(pair()) for _ in range(3)]
    model.factors["a"] = 5.0
    seen += [run(pair()) for _ in range(3)]
    model.shifts[0] = 9.0
    seen.append(run(pair()))


@scenario(3)
def helpers_and_models_that_are_set_anew(compile: Compile, seen: list[Any]) -> None:
    box = {"model": linear()}

    helped = doubled
    run = compile(lambda x: helped(box["model"](x)).detach())
    seen += [run(rows()) for _ in range(3)]
    box["model"] = linear()
    seen += [run(rows()) for _ in range(3)]

    helped = multiplied
    seen += [run(rows()) for _ in range(3)]


@scenario(2)
def a_list_of_layers_that_grows(compile: Compile, seen: list[Any]) -> None:
    layers = [linear(), nn.ReLU()]

    def forward(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x.detach()

    run = compile(forward)
    seen += [run(rows()) for _ in range(3)]
    layers.append(nn.Tanh())
    seen += [run(rows()) for _ in range(3)]


@scenario(0, "the call changes 'n' (")
def a_count_that_decides(compile: Compile, seen: list[Any]) -> None:
    n = 0

    def step(x: Any) -> Any:
        nonlocal n
        n += 1
        return x * 2 if n > 4 else x

    run = compile(step)
    seen += [run(pair()) for _ in range(7)]


@scenario(0, "the call changes 'counts' (")
def a_count_in_a_list(compile: Compile, seen: list[Any]) -> None:
    counts = [0]

    def step(x: Any) -> Any:
        counts.append(1)
        return x * 2 if len(counts) > 4 else x

    run = compile(step)
    seen += [run(pair()) for _ in range(7)]


@scenario(0, "the call changes self.n (")
def a_count_of_an_object(compile: Compile, seen: list[Any]) -> None:
    class Counts:
        n = 0

        @compile
        def step(self, x: Any) -> Any:
            self.n += 1
            return x * (2 if self.n > 3 else 1)

    counts = Counts()
    counts.n = 0
    seen += [counts.step(pair()) for _ in range(6)]


@scenario(0, "'training' of Sequential is set")
def a_mode_that_the_call_sets(compile: Compile, seen: list[Any]) -> None:
    model = nn.Sequential(linear(), nn.Dropout(0.5))

    def step(x: Any) -> Any:
        model.eval()
        out = model(x).detach()
        model.train()
        return out

    run = compile(step)
    seen += [run(rows()) for _ in range(4)]


@scenario(0, "more than 8 recordings: 'shift' (")
def a_tensor_that_is_set_anew_each_time(compile: Compile, seen: list[Any]) -> None:
    shift = pair()
    run = compile(lambda x: x + shift)
    for i in range(12):
        seen.append(run(pair()))
        shift = pair(i, 1.0)


# -- noise -----------------------------------------------------------------------------------------------------------


@scenario(0, "Python's random is drawn from in the call", has_line=False)
def a_choice_by_pythons_random(compile: Compile, seen: list[Any]) -> None:
    random.seed(3)
    run = compile(lambda x: x * 2 if random.random() < 0.2 else x)
    seen += [run(pair()) for _ in range(12)]


@scenario(0, "NumPy's random is drawn from in the call", has_line=False)
def a_choice_by_numpys_random(compile: Compile, seen: list[Any]) -> None:
    np.random.seed(3)
    run = compile(lambda x: x * 2 if np.random.rand() < 0.2 else x)
    seen += [run(pair()) for _ in range(12)]


@scenario(0, "'stream' is drawn from in the call", has_line=False)
def a_choice_by_a_stream_of_ones_own(compile: Compile, seen: list[Any]) -> None:
    stream = random.Random(5)
    run = compile(lambda x: x * 2 if stream.random() < 0.2 else x)
    seen += [run(pair()) for _ in range(12)]


@scenario(3)
def a_generator_of_ones_own(compile: Compile, seen: list[Any]) -> None:
    generator = fw.random.Generator(3)
    run = compile(lambda x: x + fw.random.normal((2,), generator=generator))
    seen += [run(pair()) for _ in range(5)]
    seen += [fw.random.normal((2,), generator=generator), fw.random.normal((2,))]


@scenario(0, "draw got")
def a_generator_made_in_the_call(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x: x + fw.random.normal((2,), generator=fw.random.Generator(3)))
    seen += [run(pair()) for _ in range(5)]


@scenario(0, "'seed' of fw.random is set")
def a_seed_set_in_the_call(compile: Compile, seen: list[Any]) -> None:
    def step(x: Any) -> Any:
        fw.seed_everything(4)
        return x + fw.random.normal((2,))

    run = compile(step)
    seen += [run(pair()) for _ in range(4)]


@scenario(0, "noise is drawn inside a checkpoint")
def dropout_inside_a_checkpoint(compile: Compile, seen: list[Any]) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

    def step(x: Any) -> Any:
        loss = (fw.checkpoint(model)(x) ** 2).sum()
        loss.backward()
        return loss

    run = compile(step)
    seen += [run(rows()) for _ in range(4)]


# -- numbers of the call ----------------------------------------------------------------------------------------------

CALLS = ((3, 2.5), (4, 2.5), (-3, 0.5), (5, -1.5), (0, 3.0), (1, 1.0), (7, 2.0), (7, 2.5)) * 2
NUMBERS: dict[str, tuple[int, Any]] = {
    "arithmetic": (14, lambda x, n, r: (n + x) / (r * x) - n // 2 + n % 3 + abs(-n) * ~n),
    "bits": (14, lambda x, n, r: x * (n << 1) * (n & 1) * (n ^ 1) + (6 & n)),
    "powers": (14, lambda x, n, r: x * pow(n, 2, 5) + n**2),
    "divmod": (0, lambda x, n, r: x * divmod(n, 2)[1] * divmod(9, r + 10)[0]),
    "rounding": (4, lambda x, n, r: x * round(r, 1) * math.trunc(r) * math.floor(r) * math.ceil(r)),
    "weak beside integers": (14, lambda x, n, r: fw.tensor([1, 2, 3]) * r + n),
    "where": (2, lambda x, n, r: fnp.where(x > n, x, n)),
    "comparison": (10, lambda x, n, r: x * (1 if 0 < n < 5 else 2)),
    "clip": (4, lambda x, n, r: fnp.clip(x, -abs(n), abs(n))),
    "slice": (2, lambda x, n, r: x[:n]),
    "index": (10, lambda x, n, r: x[n % 3]),
    "range": (4, lambda x, n, r: sum((x * i for i in range(abs(n))), x)),
    "full and zeros": (0, lambda x, n, r: (fnp.full((2,), r), fnp.zeros((abs(n),)))),
    "tensor of it": (0, lambda x, n, r: fw.tensor(r) * x[:2] + fw.tensor([n, r])),
    "square root": (4, lambda x, n, r: x * math.sqrt(abs(r))),
    "text": (0, lambda x, n, r: x * len(f"{n} {r:.3f} %d" % n)),
    "truth": (12, lambda x, n, r: x * bool(n) * (not r)),
    "NumPy's numbers": (0, lambda x, n, r: x * (np.float32(2) * r) * float(np.float64(1) + n)),
    "largest and smallest": (8, lambda x, n, r: x * max(n, 2) + min(r, 1)),
    "sum": (14, lambda x, n, r: x * sum([n, r, n])),
    "isinstance": (4, lambda x, n, r: x * (2 if isinstance(n, int) else 3) * (5 if r.is_integer() else 7)),
    "key": (2, lambda x, n, r: x * {3: 1, 4: 2}.get(n, 9)),
    "returned": (14, lambda x, n, r: {"n": n, "r": (r * 2, [n + 1]), "t": x}),
    "sign": (4, lambda x, n, r: x * math.copysign(1.0, r)),
    "noise": (14, lambda x, n, r: fw.random.normal((3,)) * r + F.leaky_relu(x, 0.1)),
    "a difference of sets": (2, lambda x, n, r: x if n in {3, 4} else -x),
}


def _numbers(name: str, fn: Any, replayed: int) -> None:
    def play(compile: Compile, seen: list[Any]) -> None:
        run = compile(fn)
        x = fw.tensor([1.5, -2.0, 3.25])
        seen += [run(x, n, r) for n, r in CALLS]

    play.__name__ = f"number_{name}"
    SCENARIOS.append(Scenario(play, replayed, "", False))


for _name, (_replayed, _fn) in NUMBERS.items():
    _numbers(_name, _fn, _replayed)


@scenario(0, "a number of the call is not taken for one")
def a_number_that_is_refused(compile: Compile, seen: list[Any]) -> None:
    run = compile(lambda x, n: x * datetime.timedelta(seconds=n).seconds)
    seen += [run(pair(), n) for n in range(4)]


@scenario(2)
def a_division_that_fails(compile: Compile, seen: list[Any]) -> None:
    def step(x: Any, m: int) -> Any:
        try:
            return x * (1 / m)
        except ZeroDivisionError:
            return x * 100.0

    run = compile(step)
    seen += [run(pair(), m) for m in (0, 0, 5, 5, 0, 7)]


@scenario(6)
def an_error_of_ones_own(compile: Compile, seen: list[Any]) -> None:
    model = linear()

    def step(x: Any, n: int) -> Any:
        loss = model(x).sum()
        loss.backward()
        if n == 3:
            raise ValueError("three")
        return loss

    run = compile(step)
    for n in (0, 1, 2, 3, 4, 3, 5, 3, 6, 7, 8):
        try:
            seen.append(run(rows(), n))
        except ValueError as error:
            seen.append(str(error))
    seen.append(model.weight.grad)


@scenario(2)
def a_partial_function(compile: Compile, seen: list[Any]) -> None:
    settings = {"rate": 1.0}
    run = compile(functools.partial(lambda settings, x: x * settings["rate"], settings))
    seen += [run(pair()) for _ in range(3)]
    settings["rate"] = 5.0
    seen += [run(pair()) for _ in range(3)]
