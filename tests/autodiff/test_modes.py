"""no_grad, enable_grad and what is in force: as context managers and decorators, nested, raised through, in threads."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap
from framework.autodiff.modes import grad_enabled

X = fw.tensor([1.0, 2.0], requires_grad=True)


def recorded() -> bool:
    return (X * 2).requires_grad


def test_no_grad_and_enable_grad_nest() -> None:
    assert recorded()
    with fw.no_grad():
        assert not recorded()
        with fw.enable_grad():
            assert recorded()
            with fw.no_grad():
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


def test_an_error_restores_the_mode() -> None:
    with pytest.raises(KeyError), fw.no_grad():
        raise KeyError
    assert recorded()

    @fw.no_grad
    def broken() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert recorded()


def test_a_context_manager_can_be_used_again_and_inside_itself() -> None:
    mode = fw.no_grad()
    for _ in range(2):
        with mode:
            with mode:
                assert not recorded()
            assert not recorded()
        assert recorded()


@pytest.mark.parametrize("with_parentheses", [True, False])
def test_decorators(with_parentheses: bool) -> None:
    off = fw.no_grad() if with_parentheses else fw.no_grad
    on = fw.enable_grad() if with_parentheses else fw.enable_grad

    @off
    def without(a: int, *, b: int = 2) -> tuple[bool, int]:
        """Its text."""
        return recorded(), a + b

    @on
    def inside() -> bool:
        return recorded()

    assert without(1, b=5) == (False, 6)
    assert (without.__name__, without.__doc__) == ("without", "Its text.")
    assert list(inspect.signature(without).parameters) == ["a", "b"]
    with fw.no_grad():
        assert inside()
        assert not recorded()


def test_a_decorated_function_may_call_itself() -> None:
    @fw.no_grad()
    def count(n: int) -> int:
        assert not recorded()
        return 0 if n == 0 else 1 + count(n - 1)

    assert count(5) == 5
    assert recorded()


class Model:
    def __init__(self) -> None:
        self.calls = 0

    @fw.no_grad()
    def method(self, value: int) -> tuple[bool, int]:
        self.calls += value
        return recorded(), self.calls

    @fw.no_grad
    def bare(self) -> bool:
        return recorded()

    @classmethod
    @fw.no_grad()
    def of_class(cls) -> tuple[bool, str]:
        return recorded(), cls.__name__

    @staticmethod
    @fw.no_grad()
    def static(value: int) -> tuple[bool, int]:
        return recorded(), value

    @property
    @fw.no_grad()
    def attribute(self) -> bool:
        return recorded()


def test_methods() -> None:
    model = Model()
    assert model.method(3) == (False, 3)
    assert Model.method(model, 2) == (False, 5)
    assert not model.bare()
    assert model.of_class() == (False, "Model")
    assert Model.static(4) == (False, 4)
    assert not model.attribute
    assert recorded()


def test_generators() -> None:
    @fw.no_grad()
    def generate() -> Iterator[bool]:
        for _ in range(2):
            yield recorded()

    seen = []
    for flag in generate():
        seen.append((flag, recorded()))
    assert seen == [(False, True), (False, True)]


def test_generators_take_and_return_values() -> None:
    @fw.no_grad
    def averages() -> Generator[float | None, float, str]:
        total, n, mean = 0.0, 0, None
        while True:
            try:
                value = yield mean
            except KeyError:
                return f"stopped after {n}, {recorded()}"
            assert not recorded()
            total, n = total + value, n + 1
            mean = total / n

    body = averages()
    assert inspect.isgeneratorfunction(averages)
    assert [next(body), body.send(1.0), body.send(3.0)] == [None, 1.0, 2.0]
    assert recorded()
    with pytest.raises(StopIteration, match="stopped after 2, False"):
        body.throw(KeyError)
    assert recorded()


def test_a_generator_that_is_closed_or_dropped_cleans_up_in_its_mode() -> None:
    seen = []

    @fw.no_grad()
    def generate() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(recorded())

    body = generate()
    next(body)
    body.close()
    for _ in generate():
        break
    gc.collect()
    assert seen == [False, False]
    assert recorded()


def test_generators_nest() -> None:
    @fw.enable_grad()
    def inner() -> Iterator[bool]:
        yield recorded()
        yield recorded()

    @fw.no_grad()
    def outer() -> Iterator[bool]:
        for flag in inner():
            yield flag
            yield recorded()
        yield from inner()

    assert list(outer()) == [True, False, True, False, True, True]
    with fw.no_grad():
        assert list(inner()) == [True, True]
    assert recorded()


def test_a_generator_may_go_on_in_another_thread() -> None:
    @fw.no_grad()
    def generate() -> Iterator[bool]:
        with fw.enable_grad():
            yield recorded()
        yield recorded()

    body = generate()
    seen = [next(body)]
    thread = threading.Thread(target=lambda: seen.append(next(body)))
    thread.start()
    thread.join(60)
    assert seen == [True, False]
    assert recorded()


def test_coroutines() -> None:
    @fw.no_grad()
    async def answer(value: int) -> tuple[bool, int]:
        await asyncio.sleep(0)
        return recorded(), value

    async def both() -> list[Any]:
        inside = asyncio.create_task(answer(1))
        seen = []
        while not inside.done():
            await asyncio.sleep(0)
            seen.append(recorded())
        assert recorded()
        return [all(seen), await inside, await answer(2), recorded()]

    assert inspect.iscoroutinefunction(answer)
    assert asyncio.run(both()) == [True, (False, 1), (False, 2), True]


def test_a_coroutine_that_raises_or_is_cancelled() -> None:
    seen = []

    @fw.no_grad()
    async def wait() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            seen.append(recorded())

    @fw.no_grad()
    async def broken() -> None:
        await asyncio.sleep(0)
        raise KeyError

    async def run() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(KeyError):
            await broken()
        assert recorded()

    asyncio.run(run())
    assert seen == [False]


def test_async_generators() -> None:
    @fw.no_grad()
    async def generate() -> AsyncGenerator[tuple[bool, Any], int]:
        got = None
        try:
            for _ in range(3):
                await asyncio.sleep(0)
                got = yield recorded(), got
        except KeyError:
            yield recorded(), "raised"
        finally:
            closed.append(recorded())

    closed: list[bool] = []

    async def run() -> list[Any]:
        seen = [item async for item in generate()]
        body = generate()
        seen += [await body.asend(None), await body.asend(7), await body.athrow(KeyError), recorded()]  # type: ignore[arg-type]
        await body.aclose()
        return seen

    assert inspect.isasyncgenfunction(generate)
    want = [(False, None)] * 4 + [(False, 7), (False, "raised"), True]
    assert asyncio.run(run()) == want
    assert closed == [False, False]


def test_what_cannot_be_decorated() -> None:
    with pytest.raises(TypeError, match="decorates functions, got the class Model; decorate its methods"):
        fw.no_grad()(Model)
    with pytest.raises(TypeError, match="enable_grad decorates functions, got the class Model"):
        fw.enable_grad(Model)
    with pytest.raises(TypeError, match="got bool; `with no_grad\\(\\):` needs no argument"):
        fw.no_grad(True)  # type: ignore[arg-type]


def test_callables_of_other_kinds() -> None:
    class Callable_:
        def __call__(self) -> bool:
            return recorded()

    assert not fw.no_grad()(Callable_())()
    assert not fw.no_grad()(functools.partial(recorded))()
    assert not fw.no_grad()(lambda: recorded())()

    def generate(n: int) -> Iterator[bool]:
        for _ in range(n):
            yield recorded()

    assert list(fw.no_grad()(functools.partial(generate, 2))()) == [False, False]

    class Outside:
        @fw.no_grad()
        @staticmethod
        def static() -> bool:
            return recorded()

        @fw.no_grad()
        @classmethod
        def of_class(cls) -> bool:
            return recorded()

    assert (Outside.static(), Outside.of_class(), Outside().of_class()) == (False, False, False)
    pickled: Any = pickle.loads(pickle.dumps(decorated_at_module_level))
    assert pickled() is False


@fw.no_grad()
def decorated_at_module_level() -> bool:
    return recorded()


def test_one_context_manager_in_many_threads() -> None:
    mode = fw.no_grad()
    gate = threading.Barrier(4)

    def work(k: int) -> list[bool]:
        seen = []
        for _ in range(50):
            gate.wait(600)
            try:
                with mode:
                    seen.append(recorded())
                    with fw.enable_grad():
                        seen.append(not recorded())
                seen.append(not recorded())
            except BaseException:
                gate.abort()
                raise
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert not any(flag for seen in pool.map(work, range(4)) for flag in seen)
    assert recorded()


def test_one_context_manager_that_two_threads_leave_at_once() -> None:
    half_left, left = threading.Event(), threading.Event()

    class Tokens(list[Any]):
        def remove(self, token: Any) -> None:
            if threading.current_thread() is thread:
                half_left.set()  # its token is used up, and is there still
                assert left.wait(60)
            super().remove(token)

    def enter() -> None:
        with mode:
            pass
        seen.append(recorded())

    seen: list[bool] = []
    thread = threading.Thread(target=enter)
    mode = fw.no_grad()
    mode._tokens = Tokens()
    try:
        with mode:
            thread.start()
            assert half_left.wait(60)
            assert not recorded()
        assert recorded()
    finally:
        left.set()
        thread.join(60)
    assert seen == [True]
    assert mode._tokens == []


def test_a_mode_belongs_to_its_task() -> None:
    async def one(gate: asyncio.Event) -> bool:
        with fw.no_grad():
            gate.set()
            await asyncio.sleep(0.01)
            return recorded()

    async def other(gate: asyncio.Event) -> bool:
        await gate.wait()
        return recorded()

    async def both() -> list[bool]:
        gate = asyncio.Event()
        return await asyncio.gather(one(gate), other(gate))

    assert asyncio.run(both()) == [False, True]


# -- threads ---------------------------------------------------------------------------------------------


def test_the_mode_belongs_to_its_thread() -> None:
    inside = threading.Event()
    leave = threading.Event()
    seen: dict[str, bool] = {}

    def without() -> None:
        with fw.no_grad():
            inside.set()
            leave.wait(60)
            seen["without"] = recorded()
        seen["after"] = recorded()

    thread = threading.Thread(target=without)
    thread.start()
    assert inside.wait(60)
    seen["main"] = recorded()
    leave.set()
    thread.join(60)
    assert seen == {"main": True, "without": False, "after": True}


def test_a_new_thread_starts_with_gradients() -> None:
    seen = []
    with fw.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recorded()))
        thread.start()
        thread.join(60)
        assert not recorded()
    assert seen == [True]


def test_transforms_in_threads_do_not_meet() -> None:
    def work(k: int) -> list[Any]:
        x = fw.tensor(np.arange(4.0) + k)
        for _ in range(20):
            hessian = vmap(lambda v: fw.jvp(fw.grad(lambda x: (ops.sin(x) * x).sum()), (x,), (v,))[1])
            rows = hessian(fw.tensor(np.eye(4)))
        return rows.numpy().tolist()

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(work, range(8)))
    assert got == [work(k) for k in range(8)]


def test_backward_in_another_thread() -> None:
    x = fw.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join(60)
    assert x.grad.tolist() == [2.0, 4.0]


def test_the_backend_belongs_to_its_thread() -> None:
    seen = []
    with fw.use_backend("strict"):
        thread = threading.Thread(target=lambda: seen.append(fw.tensor(1.0).backend.name))
        thread.start()
        thread.join(60)
    assert seen == ["cpu"]


# -- with transforms -------------------------------------------------------------------------------------


def test_grad_records_inside_no_grad() -> None:
    x = fw.tensor([1.0, 2.0])
    with fw.no_grad():
        g = fw.grad(lambda x: (x * x).sum())(x)
        assert not grad_enabled.get()
    assert g.tolist() == [2.0, 4.0]
    assert not g.requires_grad


def test_jvp_and_vmap_work_inside_no_grad() -> None:
    with fw.no_grad():
        assert fw.jvp(lambda x: x * x, (fw.tensor(3.0),), (fw.tensor(1.0),))[1].item() == 6.0
        assert vmap(fw.grad(lambda x: x * x))(fw.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]


def test_a_result_made_under_no_grad_is_a_leaf() -> None:
    with fw.no_grad():
        y = X * 2
    assert (y.requires_grad, y.is_leaf) == (False, True)
    y.requires_grad = True
    assert isinstance(y, Tensor)
    (y * 1.0).sum().backward()
    assert y.grad.tolist() == [1.0, 1.0]
    assert X.grad is None
