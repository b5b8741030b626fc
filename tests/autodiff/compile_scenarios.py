"""Small programs for `compile`: each is played eagerly and compiled, and must see the same.

A scenario is a function of `compile`, which is the identity in the eager run, and of a list to which it adds what
it sees. The decorator says how many of its calls are replays, or with which words the one warning is to say why none is.
Here are the machinery and what a step of training does; `compile_python` and `compile_values` add to the same list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import framework as fw
import framework.numpy as fnp

nn = fw.nn
Compile = Callable[[Callable[..., Any]], Any]
Play = Callable[[Compile, list[Any]], Any]
"""What it returns is kept until the replays are counted: methods are compiled for as long as their objects live."""


@dataclass(frozen=True)
class Scenario:
    """A program, and what becomes of it compiled."""

    play: Play
    replayed: int
    warns: str
    has_line: bool

    @property
    def id(self) -> str:
        return self.play.__name__


SCENARIOS: list[Scenario] = []


def scenario(replayed: int = 0, warns: str = "", has_line: bool = True) -> Callable[[Play], Play]:
    """Add a scenario: calls that are replays, words of the warning, and whether that names a line of the program."""

    def add(play: Play) -> Play:
        SCENARIOS.append(Scenario(play, replayed, warns, has_line))
        return play

    return add


def linear() -> Any:
    return nn.Linear(3, 2)


def rows(n: int = 4) -> Any:
    return fw.random.normal((n, 3))


def pair(a: float = 3.0, b: float = 4.0) -> Any:
    return fw.tensor([a, b])


class Two(nn.Module):
    """Two parameters that are no layers'."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter([1.0, 2.0])
        self.v = nn.Parameter([1.0, 2.0])


# -- steps: `body(model, optimizer, x)` seven times, with the parameters and gradients after each -----------------


def step(replayed: int = 5, warns: str = "", of: Any = fw.optim.Adam, has_line: bool = True) -> Callable[[Any], Any]:
    """Make a scenario of the body of a step."""

    def add(body: Any) -> Any:
        def play(compile: Compile, seen: list[Any]) -> None:
            model = Two()
            optimizer = of(model.parameters(), lr=0.1)
            run = compile(lambda x: body(model, optimizer, x))
            for i in range(7):
                seen.append(run(pair(1.0 + i, 2.0)))
                seen.append(
                    [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in (model.w, model.v)]
                )

        play.__name__ = f"step_{body.__name__.strip('_')}_{of.__name__}"
        SCENARIOS.append(Scenario(play, replayed, warns, has_line))
        return body

    return add


def loss_of(model: Any, optimizer: Any, x: Any) -> Any:
    """The loss of a step, after its backward."""
    optimizer.zero_grad()
    loss = (model.w * model.v * x).sum()
    loss.backward()
    return loss


@step()
@step(of=fw.optim.SGD)
def parameters_by_hand_before(model: Any, optimizer: Any, x: Any) -> Any:
    loss = loss_of(model, optimizer, x)
    with fw.no_grad():
        model.w *= 0.5
    optimizer.step()
    return loss


@step()
def parameters_by_hand_after(model: Any, optimizer: Any, x: Any) -> Any:
    loss = loss_of(model, optimizer, x)
    optimizer.step()
    with fw.no_grad():
        model.w.copy_(fnp.clip(model.w, -0.9, 1.2))
    return loss


@step(0, "from before an optimizer's step are used after it")
def a_detached_parameter_from_before(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    before = model.w.detach()
    optimizer.step()
    return before


@step(0, "give one of them a .clone()", has_line=False)
def a_detached_parameter_from_after(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    optimizer.step()
    return model.w.detach()


@step()
def a_clone_from_before(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    before = model.w.detach().clone()
    optimizer.step()
    return before


@step()
def a_view_from_before(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    before = model.w.detach().reshape(2, 1)
    optimizer.step()
    return (before * x).sum()


@step()
def a_shared_gradient_clipped_by_norm(model: Any, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    ((model.w + model.v) * x).sum().backward()
    fw.optim.clip_grad_norm_([model.w, model.v], 1.0)
    optimizer.step()


@step()
def a_shared_gradient_clipped_by_value(model: Any, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    ((model.w + model.v) * x).sum().backward()
    fw.optim.clip_grad_value_([model.w, model.v], 1.0)
    optimizer.step()


@step(0, "a gradient is read that is from before the call, or was changed by clipping")
def a_gradient_read_after_clipping(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    fw.optim.clip_grad_norm_([model.w, model.v], 1.0)
    return (model.w.grad**2).sum()


@step()
def backward_three_times(model: Any, optimizer: Any, x: Any) -> Any:
    optimizer.zero_grad()
    loss = (model.w * model.v * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    (model.w**2).sum().backward()
    optimizer.step()
    return loss


@step()
def a_gradient_that_is_set(model: Any, optimizer: Any, x: Any) -> None:
    loss_of(model, optimizer, x)
    model.w.grad = model.w.grad * 0.5
    optimizer.step()


@step()
def gradients_written_in_place(model: Any, optimizer: Any, x: Any) -> None:
    loss_of(model, optimizer, x)
    for p in model.parameters():
        p.grad *= 0.5
    optimizer.step()


@step()
def noise_on_gradients(model: Any, optimizer: Any, x: Any) -> None:
    loss_of(model, optimizer, x)
    for p in model.parameters():
        p.grad = p.grad + 0.1 * fw.random.normal(p.shape)
    optimizer.step()


@step()
def a_gradient_returned(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    gradient = model.w.grad
    optimizer.step()
    return gradient


@step()
def a_parameter_without_gradient(model: Any, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    (model.w * x).sum().backward()
    optimizer.step()


@step()
def gradients_zeroed_not_dropped(model: Any, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad(set_to_none=False)
    (model.w * model.v * x).sum().backward()
    optimizer.step()


@step()
def gradients_dropped_at_the_end(model: Any, optimizer: Any, x: Any) -> Any:
    loss = (model.w * model.v * x).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss


@step()
def two_steps_in_one(model: Any, optimizer: Any, x: Any) -> Any:
    loss_of(model, optimizer, x)
    optimizer.step()
    loss = loss_of(model, optimizer, x)
    optimizer.step()
    with fw.no_grad():
        return loss, (model.w * x).sum()


@step()
def a_penalty_on_gradients(model: Any, optimizer: Any, x: Any) -> Any:
    optimizer.zero_grad()
    slope = fw.grad(lambda a: (model.w * a * a).sum())(x)
    loss = (slope**2).sum() + model.v.sum()
    loss.backward()
    optimizer.step()
    return loss


@step(of=fw.optim.SGD)
def an_average_of_parameters(model: Any, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    (model.w * x).sum().backward()
    optimizer.step()
    with fw.no_grad():
        model.v.copy_(model.v * 0.9 + model.w * 0.1)


@step(0, "an optimizer steps with a closure")
def a_closure(model: Any, optimizer: Any, x: Any) -> Any:
    return optimizer.step(lambda: loss_of(model, optimizer, x))


@step(0, "'lr' of Group is set")
def a_rate_that_is_set(model: Any, optimizer: Any, x: Any) -> None:
    optimizer.param_groups[0]["lr"] = 0.1
    loss_of(model, optimizer, x)
    optimizer.step()


# -- state --------------------------------------------------------------------------------------------------------


@scenario(4)
def a_schedule_inside(compile: Compile, seen: list[Any]) -> None:
    model = linear()
    optimizer = fw.optim.SGD(model.parameters(), lr=0.1)
    schedule = fw.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    run = compile(step)
    for _ in range(6):
        seen.append((run(rows()), optimizer.param_groups[0]["lr"]))


@scenario(4)
def two_optimizers(compile: Compile, seen: list[Any]) -> None:
    maker, judge = linear(), nn.Linear(2, 1)
    of_maker, of_judge = (fw.optim.Adam(m.parameters(), lr=0.01) for m in (maker, judge))

    def step(noise: Any, x: Any) -> Any:
        made = maker(noise)
        of_judge.zero_grad()
        judged = (judge(x) ** 2).mean() - judge(made.detach()).mean()
        judged.backward()
        of_judge.step()
        of_maker.zero_grad()
        loss = judge(made).mean()
        loss.backward()
        of_maker.step()
        return judged, loss

    run = compile(step)
    for _ in range(6):
        seen.append((run(rows(), fw.random.normal((4, 2))), [p.detach().clone() for p in maker.parameters()]))


@scenario(8)
def parameters_set_from_outside(compile: Compile, seen: list[Any]) -> None:
    model = linear()
    optimizer = fw.optim.Adam(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    run = compile(step)
    seen += [run(rows()) for _ in range(4)]
    model.weight.data = fnp.ones((2, 3))
    seen += [run(rows()) for _ in range(2)]
    model.weight.assign(fnp.zeros((2, 3)))
    weights, state = {k: t.clone() for k, t in model.state_dict().items()}, optimizer.state_dict()
    seen += [run(rows()) for _ in range(2)]
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    seen.append(run(rows()))
    model.weight.grad = fnp.ones((2, 3))
    seen.append(run(rows()))
    model.weight = nn.Parameter(fnp.ones((2, 3)))
    seen += [run(rows()), model.weight.grad]


@scenario(3)
def a_state_that_changes_its_shape(compile: Compile, seen: list[Any]) -> None:
    held = fw.tensor([1.0, 2.0, 3.0])
    run = compile(lambda x: x * held.mean())
    seen += [run(pair()) for _ in range(4)]
    held.data = fw.tensor([1.0, 2.0, 3.0, 10.0])
    seen += [run(pair()) for _ in range(3)]


@scenario(3)
def values_copied_from_a_parameter(compile: Compile, seen: list[Any]) -> None:
    weights, target = nn.Parameter([1.0, 2.0]), fw.tensor([0.0, 0.0])

    def step(x: Any) -> Any:
        target.assign(weights.detach())
        return x * 2

    run = compile(step)
    for _ in range(5):
        seen += [run(pair()), target.clone()]
        with fw.no_grad():
            weights += 1


@scenario(0, "give one of them a .clone()", has_line=False)
def an_anchor_that_shares_its_array(compile: Compile, seen: list[Any]) -> None:
    weights = nn.Parameter([1.0, 2.0])
    anchor = weights.detach()

    def step(x: Any) -> Any:
        loss = (weights * x).sum() + ((weights - anchor) ** 2).sum()
        loss.backward()
        return loss

    run = compile(step)
    seen += [run(pair()) for _ in range(4)]


@scenario(0, "give one of them a .clone()", has_line=False)
def an_argument_that_shares_its_array(compile: Compile, seen: list[Any]) -> None:
    held = pair(1.0, 2.0)
    run = compile(lambda x: x * 2 + held)
    seen += [run(held.detach()) for _ in range(3)]
    seen.append(run(pair(5.0, 5.0)))
