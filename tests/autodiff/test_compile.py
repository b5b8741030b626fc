"""`fw.compile`: a replay does what the call would have done, or the call runs as it is and says why."""

from __future__ import annotations

import datetime
import gc
import random
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.autodiff import versions
from framework.autodiff.rounding import products_rounded
from framework.autodiff.visible import Visible
from framework.errors import CompileWarning, DataError, GradientError

nn = fw.nn


def batches(n: int, rows: int = 8, seed: int = 0) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [
        (fw.tensor(rng.normal(size=(rows, 6)), dtype="float32"), fw.tensor(rng.integers(0, 3, rows))) for _ in range(n)
    ]


def network(*extra: Any) -> Any:
    fw.seed_everything(3)
    return nn.Sequential(nn.Linear(6, 5), *extra, nn.ReLU(), nn.Linear(5, 3))


def values(*tensors: Any) -> list[Any]:
    return [t.detach().numpy().copy() for t in tensors]


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, fw.Tensor):
        assert a.dtype == b.dtype
        assert a.requires_grad == b.requires_grad
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b or (a != a and b != b)


def both(make: Callable[[], Callable[..., Any]], calls: list[tuple[Any, ...]], replays: int | None = None) -> Any:
    """The results of calls of what `make` makes, eager and compiled, which must be the same."""
    fw.seed_everything(11)
    eager = make()
    expected = [eager(*args) for args in calls]
    fw.seed_everything(11)
    compiled = fw.compile(make())
    for args, want in zip(calls, expected):
        assert_same(compiled(*args), want)
    assert compiled.replayed == (len(calls) - 2 if replays is None else replays)
    return compiled


# -- what is replayed --------------------------------------------------------------------------------


def test_a_function_of_arrays() -> None:
    def make() -> Any:
        return lambda x, y: {"a": fnp.exp(x) @ y.T, "b": [x.sum(axis=0), (y * 2 + 1).max()]}

    rng = np.random.default_rng(0)
    calls = [tuple(fw.tensor(rng.normal(size=(4, 3))) for _ in range(2)) for _ in range(5)]
    compiled = both(make, calls)
    assert "exp" in str(compiled.programs()[0])


def test_a_step_of_training() -> None:
    """zero_grad, forward, backward, clipping and the update, with dropout and running statistics."""
    results = []
    for compile in (False, True):
        model = network(nn.BatchNorm1d(5), nn.Dropout(0.4))
        optimizer = fw.optim.AdamW(model.parameters(), lr=0.01)
        schedule = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            loss.backward()
            norm = fw.optim.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return loss, norm, logits.detach()

        run = fw.compile(step) if compile else step
        if compile:
            run = fw.autodiff.compiling.Compiled(step, [model])
        fw.seed_everything(5)
        seen = []
        for x, y in batches(15):
            loss, norm, logits = run(x, y)
            schedule.step()
            seen.append(values(loss, norm, logits, *model.parameters(), *model.buffers()))
        results.append(seen)
        if compile:
            assert run.replayed == 13
    assert_same(*results)


def test_gradients_accumulate_as_they_would() -> None:
    results = []
    for compile in (False, True):
        model = network()

        def step(x: Any, y: Any, model: Any = model) -> Any:
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        run = fw.compile(step) if compile else step
        seen = []
        for i, (x, y) in enumerate(batches(9)):
            if i % 3 == 0:
                model.zero_grad()
            seen.append(values(run(x, y), *[p.grad for p in model.parameters()]))
        results.append(seen)
    assert_same(*results)


def test_numbers_of_the_call() -> None:
    def make() -> Any:
        def step(x: Any, i: int, rate: float) -> Any:
            assert isinstance(i, int)
            y = x * (i + 1) / rate - i % 3
            if i % 2 == 0:
                y = y * 2
            return y, i * 2, -rate

        return step

    x = fw.tensor([1.0, 2.0, 3.0])
    both(make, [(x, i, 0.5 + i) for i in range(12)], replays=8)


def test_a_number_where_python_needs_it_holds_alone() -> None:
    def make() -> Any:
        weights = [1.0, 10.0, 100.0]
        return lambda x, i: x * weights[i]

    both(make, [(fw.tensor([2.0]), i % 2) for i in range(10)], replays=6)


def test_each_call_draws_anew() -> None:
    def make() -> Any:
        return lambda x: (x * fw.random.normal((3,)), nn.functional.dropout(x, 0.5))

    both(make, [(fw.tensor([1.0, 2.0, 3.0]),) for _ in range(8)])


def test_state_from_outside_is_read_anew() -> None:
    def make() -> Any:
        scale, table = fw.tensor([2.0]), fw.tensor([1.0, 2.0])
        calls = iter(range(100))

        def step(x: Any) -> Any:
            return x * scale + table

        def counted(x: Any) -> Any:
            nonlocal scale
            if next(calls) % 2:
                scale += 1
                table.fill_(float(next(calls)))
            return compiled(x)

        compiled = fw.compile(step)
        counted.compiled = compiled  # type: ignore[attr-defined]
        return counted

    first, second = make(), make()
    second_step = second.compiled
    eager = [first.compiled.fn(fw.tensor([1.0])) for _ in range(1)]
    assert_same(second_step(fw.tensor([1.0])), eager[0])
    x = fw.tensor([1.0])
    seen = [second(x).tolist() for _ in range(12)]
    assert second_step.replayed > 5
    assert len({tuple(s) for s in seen}) > 3


def test_a_tensor_written_in_the_call_is_written_in_each() -> None:
    def make() -> Any:
        total = fw.tensor([0.0, 0.0])

        def step(x: Any) -> Any:
            nonlocal total
            total += x
            total *= 2
            return total * 1

        return step

    both(make, [(fw.tensor([1.0, i]),) for i in range(7)])


def test_transforms_inside() -> None:
    def make() -> Any:
        w = fw.tensor([0.5, -1.0], requires_grad=True)

        def step(x: Any) -> Any:
            w.grad = None
            penalty = (fw.grad(lambda v: (v * w).sum() ** 3)(x) ** 2).sum()
            per_sample = fw.vmap(fw.grad(lambda v: fnp.sin(v).sum()))(fnp.stack([x, x * 2]))
            (penalty + (w * x).sum()).backward()
            return penalty.detach(), per_sample, w.grad.detach()

        return step

    both(make, [(fw.tensor([1.0, i]),) for i in range(6)])


def test_hooks_and_checkpoints_inside() -> None:
    def make() -> Any:
        model = network()
        seen = []
        next(iter(model.parameters())).register_hook(lambda g: g * 2)

        def step(x: Any, y: Any) -> Any:
            model.zero_grad()
            h = fw.checkpoint(model)(x)
            loss = nn.functional.cross_entropy(h, y)
            loss.backward()
            return loss, [p.grad.detach() for p in model.parameters()]

        seen.append(step)
        return step

    both(make, batches(6))


def test_indexing_joining_and_other_functions() -> None:
    def make() -> Any:
        w = fw.tensor(np.linspace(-1, 1, 12).reshape(4, 3), requires_grad=True)

        def step(x: Any, places: Any) -> Any:
            w.grad = None
            rows = w[places]
            parts = fnp.concat([rows, x[1:3], fnp.stack([x[0], w[1]])], axis=0)
            y = fnp.where(parts > 0, parts, parts * 0.1)
            top = fnp.sort(y, axis=-1)[:, ::-1]
            loss = (top * fnp.cumulative_sum(y, axis=0)).mean() + fnp.logsumexp(y) + y.var()
            loss.backward()
            return loss, w.grad.detach(), top.detach()

        return step

    rng = np.random.default_rng(1)
    calls = [(fw.tensor(rng.normal(size=(4, 3))), fw.tensor(rng.integers(0, 4, 5))) for _ in range(6)]
    both(make, calls)


def test_embedding_layer_norm_and_losses() -> None:
    def make() -> Any:
        fw.seed_everything(2)
        table, norm = nn.Embedding(7, 4), nn.LayerNorm(4)
        loss_of = nn.CrossEntropyLoss(ignore_index=2, label_smoothing=0.1)

        def step(places: Any, y: Any) -> Any:
            for p in (*table.parameters(), *norm.parameters()):
                p.grad = None
            loss = loss_of(norm(table(places)), y)
            loss.backward()
            return loss, [p.grad.detach() for p in (*table.parameters(), *norm.parameters())]

        return step

    rng = np.random.default_rng(1)
    calls = [(fw.tensor(rng.integers(0, 7, 9)), fw.tensor(rng.integers(0, 4, 9))) for _ in range(6)]
    both(make, calls)


def test_on_the_strict_backend() -> None:
    def make() -> Any:
        model = network().to("strict")

        def step(x: Any, y: Any) -> Any:
            model.zero_grad()
            loss = nn.functional.cross_entropy(nn.functional.dropout(model(x), 0.2), y)
            loss.backward()
            return loss.detach()

        return step

    both(make, [(x.to("strict"), y.to("strict")) for x, y in batches(5)])


# -- when another recording is needed ----------------------------------------------------------------


def test_shapes_and_dtypes_and_modes_have_recordings_of_their_own() -> None:
    compiled = fw.compile(lambda x: x * 2)
    for _ in range(4):
        for x in (fw.tensor([1.0]), fw.tensor([1.0, 2.0]), fw.tensor([1]), fw.tensor([1.0], dtype="float64")):
            assert_same(compiled(x), x * 2)
    with fw.no_grad():
        assert compiled(fw.tensor([3.0])).tolist() == [6.0]
    assert compiled.replayed == 8


def test_the_same_array_twice_is_another_call() -> None:
    compiled = fw.compile(lambda x, y: x - y)
    a, b = fw.tensor([3.0]), fw.tensor([1.0])
    for _ in range(4):
        assert compiled(a, a).tolist() == [0.0]
    for _ in range(4):
        assert compiled(a, b).tolist() == [2.0]


def test_modes_flags_and_attributes_of_modules() -> None:
    results = []
    for compile in (False, True):
        model = network(nn.BatchNorm1d(5), nn.Dropout(0.5))
        model.alpha = 1.0
        saved = {name: t.detach().clone() for name, t in model.state_dict().items()}

        def step(x: Any, y: Any, model: Any = model) -> Any:
            model.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y) * model.alpha
            loss.backward()
            return loss

        run = fw.autodiff.compiling.Compiled(step, [model]) if compile else step
        fw.seed_everything(1)
        seen: list[Any] = []
        for i, (x, y) in enumerate(batches(40)):
            if i == 6:
                model.eval()
            if i == 10:
                model.train()
            if i == 14:
                model[0].requires_grad_(False)
            if i == 20:
                model[0].requires_grad_(True)
            if i == 26:
                model.alpha = 3.0
            if i == 32:
                model.load_state_dict(saved)
            if i == 36:
                model.register_forward_hook(lambda module, args, out: out * 2)
            seen.append([run(x, y).item(), *[None if p.grad is None else values(p.grad) for p in model.parameters()]])
        results.append(seen)
        if compile:
            assert run.replayed >= 24
    for a, b in zip(*results):
        assert_same(a, b)


# -- aliasing ------------------------------------------------------------------------------------------


def test_results_and_gradients_that_are_kept_never_change() -> None:
    model = network()

    @fw.compile
    def step(x: Any, y: Any) -> Any:
        model.zero_grad()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        loss.backward()
        return loss, logits.detach(), logits.detach().T, x

    kept, copies = [], []
    for x, y in batches(8):
        out = [*step(x, y), *[p.grad for p in model.parameters()], next(iter(model.parameters())).grad.numpy()[0]]
        kept.append(out)
        copies.append([np.array(t if isinstance(t, np.ndarray) else t.detach().numpy()) for t in out])
    assert step.replayed == 6
    for out, copy in zip(kept, copies):
        for t, c in zip(out, copy):
            np.testing.assert_array_equal(t if isinstance(t, np.ndarray) else t.detach().numpy(), c)


def test_an_argument_comes_back_as_itself() -> None:
    compiled = fw.compile(lambda x, i, name: (x, x * 1, i, name))
    for i in range(4):
        x = fw.tensor([1.0])
        same, other, number, name = compiled(x, i, "a")
        assert same is x
        assert other is not x
        assert (number, name) == (i, "a")
        assert type(number) is int


def test_a_loss_that_was_walked_says_so_when_walked_again() -> None:
    w = fw.tensor([1.0], requires_grad=True)

    @fw.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss

    for _ in range(4):
        loss = step(fw.tensor([2.0]))
        assert loss.requires_grad
        with pytest.raises(GradientError, match="a second time"):
            loss.backward()


# -- what is not replayed ------------------------------------------------------------------------------


class Keeps:
    kept: Any = None

    def __call__(self, x: Any) -> Any:
        self.kept = y = x * 2
        return y + 1


def counting() -> Any:
    n = 0

    def step(x: Any) -> Any:
        nonlocal n
        n += 1
        return x * n

    return step


WEIGHT = fw.tensor([2.0], requires_grad=True)
NOT_REPLAYED = {
    "float": (lambda x: x * float(x.sum()), "a value is read"),
    "if": (lambda x: x if x.sum() > 0 else -x, "a value is read"),
    "numpy": (lambda x: x * fw.tensor(np.cumsum(x.numpy())), "a value is read"),
    "tolist": (lambda x: x * (x + 1).tolist()[0], "a value is read"),
    "kept": (Keeps(), "is kept by something else than its result"),
    "counter": (counting(), "the call changes 'n' ("),
    "random": (lambda x: x * random.random(), "of multiply became"),
    "numpy noise": (lambda x: x + fw.tensor(np.random.default_rng().normal(size=1)), "a constant differs"),
    "graph": (lambda x: x * WEIGHT, "the result requires a gradient"),
    "shape": (lambda x: fnp.nonzero(x)[0], "depends on values"),
}


@pytest.mark.parametrize("name", NOT_REPLAYED)
def test_what_cannot_be_replayed_runs_as_it_is_and_says_why_once(name: str) -> None:
    fn, reason = NOT_REPLAYED[name]
    compiled = fw.compile(fn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        random.seed(0)
        for i in range(1, 6):
            out = compiled(fw.tensor([float(i)], dtype="float64"))
            assert type(out) is fw.Tensor
    assert compiled.replayed == 0
    assert [w.category for w in caught] == [CompileWarning]
    assert reason in str(caught[0].message)
    if name not in ("graph", "kept"):
        assert f"{__file__}:" in str(caught[0].message)


def test_the_values_are_those_of_the_call_all_the_same() -> None:
    compiled = fw.compile(lambda x: x * float(x.sum()))
    with pytest.warns(CompileWarning, match="a value is read"):
        assert compiled(fw.tensor([1.0, 2.0])).tolist() == [3.0, 6.0]
    for i in range(4):
        assert compiled(fw.tensor([1.0, i])).tolist() == [1.0 + i, i * (1.0 + i)]


def test_constants_may_be_read() -> None:
    compiled = fw.compile(lambda x: x * float(fw.tensor([1.0, 2.0]).sum()) + len(x) + x.shape[0])
    for i in range(5):
        assert compiled(fw.tensor([i + 1.0])).tolist() == [(i + 1.0) * 3 + 2]
    assert compiled.replayed == 3


def test_state_may_not_be_read() -> None:
    scale = fw.tensor([2.0])
    compiled = fw.compile(lambda x: x * float(scale))
    with pytest.warns(CompileWarning, match="a value is read"):
        compiled(fw.tensor([1.0]))
    scale += 1
    assert compiled(fw.tensor([1.0])).tolist() == [3.0]


def test_many_kinds_of_calls_stay_as_they_are() -> None:
    compiled = fw.compile(lambda x: x + 1)

    def many() -> None:
        for n in (*range(1, 10), 1, 9):
            for _ in range(3):
                assert compiled(fw.tensor([1.0] * n)).tolist() == [2.0] * n

    with pytest.warns(CompileWarning, match="more than 8 kinds of calls") as caught:
        many()
    assert len(caught) == 1
    assert compiled.replayed == 8 + 3


def test_an_error_leaves_everything_as_it_was() -> None:
    compiled = fw.compile(lambda x, y: nn.functional.cross_entropy(x, y))
    x, good, bad = fw.tensor([[1.0, 2.0]]), fw.tensor([1]), fw.tensor([7])
    with pytest.raises(DataError, match="target 7"):
        compiled(x, bad)
    for _ in range(4):
        assert compiled(x, good).item() == nn.functional.cross_entropy(x, good).item()
    assert compiled.replayed == 2
    with pytest.raises(DataError, match="target 7"):
        compiled(x, bad)
    assert compiled(x, good).item() == nn.functional.cross_entropy(x, good).item()
    negative = fw.tensor([-100])
    assert np.isnan(compiled(x, negative).item())


def test_compiled_inside_compiled_and_inside_transforms() -> None:
    inner = fw.compile(lambda x: fnp.sin(x) * 2)
    outer = fw.compile(lambda x: inner(x) + 1)
    for i in range(5):
        x = fw.tensor([float(i)])
        assert_same(outer(x), fnp.sin(x) * 2 + 1)
        assert_same(fw.grad(lambda v: inner(v).sum())(x), 2 * fnp.cos(x))
        assert_same(fw.vmap(inner)(x), fnp.sin(x) * 2)
    assert outer.replayed == 3


def test_other_threads_are_not_recorded() -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            (fw.tensor([1.0, 2.0]) * 3).sum()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            compiled = fw.compile(lambda x: fnp.exp(x).sum())
            for i in range(4):
                assert compiled(fw.tensor([0.0, i])).item() == fnp.exp(fw.tensor([0.0, i])).sum().item()
            assert len(compiled.programs()[0].operations) == 2
    finally:
        stop.set()
        thread.join()


def test_an_interrupt_leaves_no_recording_behind() -> None:
    model, interrupts = network(), [0, 3]
    optimizer = fw.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any, y: Any, n: int) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) * optimizer.param_groups[0]["lr"]
        if n in interrupts:
            raise KeyboardInterrupt
        loss.backward()
        optimizer.step()
        return loss

    compiled = fw.compile(step)
    for n, (x, y) in enumerate(batches(8)):
        if n in interrupts:
            with pytest.raises(KeyboardInterrupt):
                compiled(x, y, n)
            assert versions.recorder is None
            assert model[0].weight._ns.recorder is None
            assert not {"__getitem__", "get", "items"} & set(vars(type(optimizer.param_groups[0])))
        else:
            compiled(x, y, n)
    assert compiled.replayed == 4


def test_a_number_that_is_refused_after_a_write_is_an_error_with_a_note() -> None:
    state = fw.tensor([0.0])

    def step(x: Any, n: int) -> Any:
        state.__iadd__(1)
        return x * datetime.timedelta(seconds=n).seconds

    compiled = fw.compile(step)
    with pytest.raises(TypeError) as caught:
        compiled(fw.tensor([1.0]), 3)
    assert "write int(n)" in caught.value.__notes__[0]
    assert state.tolist() == [1.0]


def test_threads_record_at_once() -> None:
    optimizer = fw.optim.SGD([nn.Parameter([1.0])], lr=0.5)
    wrong = []

    def work(k: int) -> None:
        for n in range(10):
            compiled = fw.compile(lambda x: fnp.exp(x) * optimizer.param_groups[0]["lr"] + k + n)
            for i in range(4):
                x = fw.tensor([float(i)])
                if compiled(x).item() != (fnp.exp(x) * 0.5 + k + n).item():
                    wrong.append((k, n, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert versions.recorder is None
    assert "__getitem__" not in vars(type(optimizer.param_groups[0]))


def test_installed_libraries_are_not_looked_into() -> None:
    assert len(Visible([lambda x: pytest.approx(x) if hypothesis.given else x]).values()) < 10


def test_rounded_products_have_recordings_of_their_own() -> None:
    model = nn.Linear(3, 2)
    compiled = fw.compile(lambda x: model(x).detach())
    x = fw.random.normal((4, 3))
    for dtype in (None, "float16") * 3:
        with products_rounded(x.backend, dtype):
            for _ in range(3):
                assert compiled(x).tolist() == model(x).tolist()
    assert compiled.replayed == 2 * 1 + 4 * 3


HIDDEN: list[Any] = [None] * 40  # long enough not to be looked into


def test_a_tensor_that_the_collector_does_not_show_is_no_constant() -> None:
    HIDDEN[35] = fw.tensor([2.0])
    gc.freeze()
    compiled = fw.compile(lambda x: x * HIDDEN[35])
    with pytest.warns(CompileWarning, match=rf"gc.freeze\(\) hides.*{__file__}:"):
        compiled(fw.tensor([1.0]))
    HIDDEN[35] += 1
    assert compiled(fw.tensor([1.0])).tolist() == [3.0]


def test_an_array_that_numpy_writes_is_read_anew() -> None:
    array = np.ones(2, "float32")
    compiled = fw.compile(lambda x: x * (fnp.asarray(array) + 1))
    for _ in range(4):
        assert compiled(fw.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]
    array[:] = 4
    assert compiled(fw.tensor([1.0, 2.0])).tolist() == [5.0, 10.0]
    assert compiled.replayed == 3


def test_a_method_keeps_no_object_alive() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 2)

        @fw.compile
        def step(self, x: Any) -> Any:
            return self.inner(x).detach()

    model = Model()
    for _ in range(4):
        model.step(fnp.ones((1, 3)))
    assert model.step.replayed == 2
    ref = weakref.ref(model)
    del model
    gc.collect()
    assert ref() is None


def test_a_step_of_training_looks_through_no_heap() -> None:
    """Nothing of the heap is looked through where the counts of references say who holds the arrays."""
    model = network()
    optimizer = fw.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "get_objects", lambda: pytest.fail("the heap is looked through"))
        compiled = fw.compile(step)
        for x, y in batches(4):
            compiled(x, y)
    assert compiled.replayed == 2


def test_nothing_is_kept_alive() -> None:
    class Thing:
        pass

    thing = Thing()
    model = network()
    model.thing = thing
    compiled = fw.compile(model)
    with fw.no_grad():
        for x, _ in batches(4):
            compiled(x)
    ref = weakref.ref(thing)
    del thing, model, compiled, x
    gc.collect()
    assert ref() is None
