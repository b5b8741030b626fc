"""Random steps of training, compiled, with what happens between their calls: bit for bit what they are eagerly.

A program is text: some lines on `v`, a loss, an update, a result. Between its calls the world that it sees is changed
at random: values that it closes over, modes, flags, weights, rates, layers. All that can be seen of the world is
compared after every call: results, parameters, gradients, buffers, optimizers, metrics and generators.
"""

from __future__ import annotations

import collections
import copy  # noqa: F401 - used by events
import os
import random
import warnings
from typing import Any

import numpy as np
import pytest
from test_compile_scenarios import plain

import framework as fw
import framework.numpy as fnp
from framework.errors import CompileWarning

nn, optim = fw.nn, fw.optim
CASES = 2000 if os.environ.get("FW_TEST_CASES") == "full" else 40
CALLS = 8

TERMS = """
v * 2.0; v + 0.5; v ** 2; v * n; v / (n + 1); v + (n % 3); v * abs(n - 3); v * max(n, 2); v * (n if n < 5 else 5)
v * w.buffer; v + w.row; v * w.own; v + w.own.detach(); v * fnp.asarray(w.array); v * fw.tensor([1.0, 2.0, 3.0])
v * w.table["k"]; v * w.table["deep"]["z"][1]; v * w.items[0]; v * w.scale; v + w.inner.a; v * w.counts["q"]; v * w.queue[0]
w.model(v); w.model(v); w.model(v); w.other(v); fw.checkpoint(w.other)(v); v * w.model.k; v + w.model.shift
F.dropout(v, 0.3); v + fw.random.normal(v.shape); v * fw.random.uniform(v.shape, generator=w.generator)
fnp.tanh(v); fnp.exp(-v * v); F.softmax(v, -1); F.relu(v); F.layer_norm(v, (3,)); fnp.abs(v) ** 0.5 + 0.1; fnp.clip(v, -1.0, 1.0)
v.clone(); v.detach(); v[::-1]; fnp.concat([v[:, :1], v[:, 1:]], axis=1); fnp.where(v > 0, v, v * 0.1); fnp.sort(v, axis=1)
fnp.reshape(fnp.reshape(v, (3, -1)), (-1, 3)); v @ fnp.ones((3, 3)); v - fnp.mean(v, axis=0); fnp.cumulative_sum(v, axis=1)
v + fw.grad(lambda q: (q * q * w.buffer).sum())(v.detach()); fw.vmap(lambda r: r * 2 + w.buffer)(v)
v.astype("float64").astype("float32"); helped(v, w); (lambda q: q * w.scale)(v); sum([v, v * 2]); x; v + y * 0.1
v * w.optimizer.param_groups[0]["lr"]; v * w.schedule.get_last_lr()[0]
""".replace("\n", ";").split(";")

LINES = """
if n % 2 == 0: v = v + 1
if n > 3: v = v * 0.5
if w.is_on: v = v - 1
if w.model.training: v = v * 1.5
v = v.clone(); v[0] = 0.25; v += 1; v *= 0.5
w.buffer += 0.125
w.row[0] = n * 0.5
w.buffer[...] = w.buffer * 0.5 + v.detach().mean(axis=0)
with fw.no_grad(): v = w.model(v)
with fw.no_grad(): w.model.shift[:] = v.detach().mean(axis=0)
with fw.no_grad(): w.other.b.bias += 0.01
w.metric.update(v.detach())
u = v.detach(); u *= 2; v = v + u
for _ in range(2): v = v * 1.1
""".strip().split("\n")

NOT_REPLAYED = """
w.count += 1
v = v * float(fnp.sum(v) > 0)
w.kept = v
w.items[1] += 1
w.model.k = w.model.k + 0.5
w.queue.append(2.0)
w.optimizer.param_groups[0]["lr"] *= 0.9
v = v * random.random()
""".strip().split("\n")

UPDATES = """
w.optimizer.zero_grad(); loss.backward(); w.optimizer.step()
loss.backward(); w.optimizer.step(); w.optimizer.zero_grad()
loss.backward()
pass
w.optimizer.zero_grad(); loss.backward(); optim.clip_grad_norm_(w.model.parameters(), 0.5); w.optimizer.step(); w.schedule.step()
w.optimizer.zero_grad(); w.second.zero_grad(); loss.backward(); w.optimizer.step(); w.second.step()
w.optimizer.zero_grad(set_to_none=False); loss.backward(); w.optimizer.step()
w.model.zero_grad(); w.own.grad = None; loss.backward(); more = [p.grad.clone() for p in w.model.parameters() if p.grad is not None]
w.optimizer.zero_grad(); (loss / 2).backward(); (w.model(x) ** 2).mean().backward(); w.optimizer.step()
w.optimizer.zero_grad(); loss.backward(); optim.clip_grad_value_(w.model.parameters(), 0.1); w.optimizer.step()
w.optimizer.zero_grad(); loss.backward(); w.optimizer.step(); more = [p.detach().clone() for p in w.model.parameters()]
more = fw.grad(lambda q: (w.model(q) ** 2).sum())(x)
""".strip().split("\n")

RESULTS = """
loss; loss.detach(); (loss.detach(), v.detach()); (loss.detach(), n + 1, more); {"loss": loss.detach(), "n": n, "more": more}
[v.detach(), v.detach() * 2, x]; None; (v.detach()[0], v.detach().T); Pair(loss.detach(), w.buffer * 1)
""".replace("\n", ";").split(";")

EVENTS = """
w.table["k"] = r.choice([1.0, 2.0])
w.table["deep"]["z"][1] = r.choice([2.0, 4.0])
w.scale = r.choice([1.0, 0.5])
w.items[0] = r.choice([1.0, 3.0])
w.items.append(1.0)
w.inner.a = r.choice([1.0, 2.0])
w.counts["q"] = r.choice([1.0, 2.0])
w.queue[0] = r.choice([1.0, 2.0])
w.is_on = not w.is_on
w.array[0] = r.choice([1.0, 5.0])
w.model.train(not w.model.training)
w.model.a.requires_grad_(r.random() < 0.5)
w.model.requires_grad_(True)
w.own.requires_grad_(r.random() < 0.5)
w.model.k = r.choice([1.0, 2.0])
w.model.middle = nn.ReLU()
w.model.b = nn.Linear(4, 3)
w.model.shift += 1
w.model.load_state_dict(w.saved)
w.model.a.weight.data = np.full((4, 3), 0.5, "float32")
with fw.no_grad(): w.model.b.weight *= 0.5
w.other.b = w.model.b
w.other.b.weight = w.model.b.weight
w.model.b.bias.grad = None
w.model.zero_grad()
w.own.grad = None
w.buffer += 1
w.buffer = fw.tensor([3.0, 1.0, 2.0])
w.optimizer.param_groups[0]["lr"] *= 0.9
w.optimizer.load_state_dict(copy.deepcopy(w.optimizer.state_dict()))
w.optimizer.add_param_group({"params": [nn.Parameter(fnp.ones((2,)))]})
w.schedule.step()
w.metric.reset()
w.generator = fw.random.Generator(8)
fw.seed_everything(r.randrange(5))
write_into(kept)
""".strip().split("\n")

Pair = collections.namedtuple("Pair", "a b")


class Net(nn.Module):
    def __init__(self, middle: Any) -> None:
        super().__init__()
        self.a, self.middle, self.b = nn.Linear(3, 4), middle(), nn.Linear(4, 3)
        self.k = 1.0
        self.register_buffer("shift", fnp.zeros((3,)))

    def forward(self, x: Any) -> Any:
        return self.b(self.middle(self.a(x))) * self.k + self.shift


class Sum(fw.metrics.Metric):
    def reset(self) -> None:
        self.total, self.batches = fw.tensor(0.0), 0

    def update(self, x: Any) -> None:
        self.total = self.total + x.mean()
        self.batches += 1


MIDDLES = (nn.ReLU, nn.Tanh, nn.GELU, nn.Identity, lambda: nn.BatchNorm1d(4), lambda: nn.LayerNorm(4), nn.Dropout)
OPTIMIZERS = (
    lambda p: optim.SGD(p, lr=0.05), lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    lambda p: optim.Adam(p, lr=0.01), lambda p: optim.AdamW(p, lr=0.01), lambda p: optim.Lion(p, lr=0.01),
    lambda p: optim.RMSprop(p, lr=0.01), lambda p: optim.Adagrad(p, lr=0.01),
)  # fmt: skip
SCHEDULES = (
    lambda o: optim.lr_scheduler.StepLR(o, 2, 0.5), lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 7),
    lambda o: optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
)  # fmt: skip


class World:
    """What a program sees."""

    def __init__(self, r: random.Random) -> None:
        self.model, self.other = Net(r.choice(MIDDLES)), Net(r.choice(MIDDLES[:3]))
        self.optimizer = r.choice(OPTIMIZERS)(self.model.parameters())
        self.second = r.choice(OPTIMIZERS)(self.other.parameters())
        self.schedule, self.metric, self.generator = r.choice(SCHEDULES)(self.optimizer), Sum(), fw.random.Generator(7)
        self.buffer, self.row = fw.tensor([1.0, 2.0, 3.0]), fw.tensor([0.5, 0.25, 4.0])
        self.own = fw.tensor([1.0, -1.0, 0.5], requires_grad=True)
        self.table: Any = {"k": 1.0, "deep": {"z": [1.0, 2.0]}}
        self.items, self.queue, self.counts = [1.0, 2.0], collections.deque([1.0]), collections.defaultdict(lambda: 1.0)
        self.scale, self.is_on, self.count, self.kept = 1.0, True, 0, None
        self.inner: Any = type("Inner", (), {"a": 1.0})()
        self.array = np.array([1.0, 2.0, 3.0], "float32")
        self.saved = {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def looks(self) -> Any:
        """All that can be seen of it."""
        leaves = [*self.model.parameters(), *self.other.parameters(), self.own]
        generators = self.generator.state_dict(), fw.random.state_dict()
        python = self.table, self.items, list(self.queue), self.scale, self.count, self.metric.batches, self.model.k
        tensors = [*leaves, self.buffer, self.row, self.model.shift, self.metric.total, [p.grad for p in leaves]]
        return plain([tensors, self.optimizer.state_dict(), self.second.state_dict(), generators, repr(python)])


def helped(v: Any, w: Any) -> Any:
    return v * w.scale + w.inner.a


def write_into(kept: list[Any]) -> None:
    """Write into results of earlier calls."""
    for result in kept[-2:]:
        parts = (
            result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else [result]
        )
        for t in parts:
            if isinstance(t, fw.Tensor) and t.shape and not t.requires_grad and t.dtype == "float32":
                t += 1


def program(r: random.Random) -> str:
    """The text of a step."""
    lines = ["v, more = x, None"]
    for _ in range(r.randint(1, 7)):
        kind = r.random()
        terms = [term.strip() for term in TERMS if term.strip()]
        lines.append(f"v = {r.choice(terms)}" if kind < 0.75 else r.choice(LINES if kind < 0.985 else NOT_REPLAYED))
    loss = r.choice(["(v * v).mean()", "(v * v).mean()", "v.sum() * 0.1"])
    lines += [f"loss = {loss} + 0.01 * (w.model.b.bias ** 2).sum()", r.choice(UPDATES)]
    lines.append("return " + r.choice([result.strip() for result in RESULTS if result.strip()]))
    return "def step(x, n, y):\n    " + "\n    ".join(lines)


def play(seed: int, compile: bool) -> tuple[list[Any], list[Any], int]:
    """What is seen of a program and its world, the warnings, and the number of replays."""
    r = random.Random(seed)
    text = program(r)
    fw.seed_everything(seed)
    random.seed(seed)
    w, kept, seen = World(r), [], []  # type: ignore[var-annotated]
    known = {**globals(), "F": nn.functional, "w": w, "r": r, "kept": kept}
    exec(text, known)
    step = fw.compile(known["step"]) if compile else known["step"]
    eventful, sizes = r.choice([0.0, 0.1, 0.25, 0.5]), r.choice([[4], [4], [4, 3], [1], [4, 0]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(CALLS):
            happens = r.choice(EVENTS) if r.random() < eventful else ""
            rows, n = r.choice(sizes) if i % 3 == 2 else sizes[0], r.choice([i, i, i % 3, i + 0.5])
            values = np.random.default_rng([seed, i]).normal(size=(2, rows, 3)).astype("float32")
            try:
                exec(happens, known)
                kept.append(step(fw.tensor(values[0]), n, fw.tensor(values[1])))
            except Exception as error:
                kept.append(repr(error))
            seen.append((happens, plain(kept[-1]), w.looks()))
    seen.append(plain(kept))  # nothing that was kept has changed
    return seen, [w.message for w in caught if w.category is CompileWarning], step.replayed if compile else 0


@pytest.mark.parametrize("part", range(CASES // 20))
def test_random_programs_see_the_same(part: int) -> None:
    replayed = 0
    for seed in range(20 * part, 20 * part + 20):
        eager, _, _ = play(seed, False)
        compiled, told, replays = play(seed, True)
        replayed += replays
        assert len(told) <= 1
        for i, (a, b) in enumerate(zip(eager, compiled, strict=True)):
            assert a == b, f"seed {seed}, call {i}, after {a[0]!r}:\n{program(random.Random(seed))}"
    assert replayed > 20 * CALLS / 5
