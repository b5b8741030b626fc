"""The arena: parameters side by side in memory are updated as one array, and nobody can tell."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
from arena_scenarios import OPTIMIZERS, STORIES, Library, Torch, backward, batch, forked, params_of, train
from optimizer_cases import VARIANTS, all_variants, gradients, starts

import framework as fw
from framework import nn, optim
from framework.autodiff import Tensor
from framework.backend import registry
from framework.errors import GradientError
from framework.optim.arena import home_of

stories = pytest.mark.parametrize("story", STORIES)
kinds = pytest.mark.parametrize("kind", OPTIMIZERS)


def outcome(lib: Any, story: str, kind: str) -> list[np.ndarray]:
    return [lib.numpy(p) for p in STORIES[story](lib, kind)]


# -- stories: against arrays that are apart, and against PyTorch ------------------------------------------


@stories
@kinds
def test_a_story_is_the_same_without_an_arena(story: str, kind: str) -> None:
    for mine, other in zip(outcome(Library(), story, kind), outcome(Library("strict"), story, kind), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


@stories
@kinds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbours_as_one_array_make_no_bit_of_difference(story: str, kind: str, dtype: str) -> None:
    together, apart = (outcome(Library(separate=s, dtype=dtype), story, kind) for s in (False, True))
    for mine, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.reference
@stories
@kinds
def test_a_story_is_the_same_in_torch(story: str, kind: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for mine, other in zip(outcome(Library(), story, kind), outcome(Torch(torch), story, kind), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9)


@all_variants
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_optimizer_makes_no_bit_of_difference(variant: str, dtype: str) -> None:
    name, kwargs = VARIANTS[variant]
    cls = getattr(optim, name)
    results = []
    for elementwise in (True, False):
        params = [nn.Parameter(fw.tensor(a)) for a in starts(dtype)]
        params.append(nn.Parameter(np.asfortranarray(np.arange(6, dtype=dtype).reshape(2, 3))))
        params.append(nn.Parameter(np.ones((0, 3), dtype)))
        optimizer = type(name, (cls,), {"elementwise": elementwise})(params, **kwargs)
        for step in range(12):
            given = [
                *gradients(step, dtype),
                np.linspace(-1, 1 + step % 3, 6).reshape(2, 3).astype(dtype),
                np.ones((0, 3), dtype),
            ]
            for p, g in zip(params, given):
                p.grad = g
            optimizer.step()
        results.append(([p.tolist() for p in params], {k: repr(v) for k, v in optimizer.state_dict()["state"].items()}))
    assert results[0] == results[1]


# -- where parameters live --------------------------------------------------------------------------------


def housed(kind: str = "momentum", steps: int = 3) -> tuple[Library, Any, Any]:
    lib = Library()
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(steps):
        train(lib, net, optimizer, step)
    return lib, net, optimizer


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def is_together(net: Any, optimizer: Any) -> bool:
    """Whether the last step updated all parameters as one array."""
    (layout,) = optimizer._layouts
    return len(layout.runs) == 1 and not layout.singles and len(layout.runs[0].leaves) == len(params_of(net))


def test_parameters_gradients_and_state_lie_side_by_side() -> None:
    _, net, optimizer = housed()
    assert is_together(net, optimizer)
    for arrays in (
        [p._data for p in net.parameters()],
        [p._node.grad for p in net.parameters()],
        [optimizer.state[p]["momentum_buffer"] for p in net.parameters()],
    ):
        at = [address(a) for a in arrays]
        assert [a % 64 for a in at] == [0] * 6
        assert [b - a for a, b in itertools.pairwise(at)] == [-(-a.nbytes // 64) * 64 for a in arrays[:-1]]
    assert all(p._node.grad is p._node.slot for p in net.parameters())


def test_homes_keep_the_order_in_memory() -> None:
    p = nn.Parameter(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    p.grad = np.ones((2, 3))
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5)
    optimizer.step()
    assert p.tolist() == [[-1.0, 0.0, 1.0], [2.0, 3.0, 4.0]]
    for array in (p._data, p._node.slot):
        assert array.flags.f_contiguous
        assert not array.flags.c_contiguous
    assert p.detach().clone()._data.flags.c_contiguous
    assert optimizer.state_dict()["state"]["0"]["momentum_buffer"]._data.flags.c_contiguous


def test_backends_without_segments_have_no_arena() -> None:
    lib = Library("strict")
    net = forked(lib)
    optimizer = lib.optimizer("adamw", net.parameters())
    for step in range(3):
        train(lib, net, optimizer, step)
    assert all(home_of(p) is None and p._node.slot is None for p in net.parameters())


def test_setting_values_keeps_the_home() -> None:
    lib, net, optimizer = housed()
    arrays = [p._data for p in net.parameters()]
    held = [id(a) for a in arrays]
    del arrays
    with fw.no_grad():
        net.trunk.weight.fill_(0.5)
        net.trunk.bias += 1.0
        net.side.weight[0] = 2.0
        net.head.bias.zero_()
    nn.init.uniform_(net.side.bias)
    net.head.weight.assign(np.ones((3, 4)))
    net.load_state_dict(net.state_dict())
    assert [id(p._data) for p in net.parameters()] == held
    assert net.trunk.weight.tolist() == [[0.5] * 5] * 4
    assert net.side.weight[0].tolist() == [2.0] * 5
    assert net.head.weight.tolist() == [[1.0] * 4] * 3
    train(lib, net, optimizer, 9)
    assert is_together(net, optimizer)


def test_another_array_of_the_same_kind_goes_into_the_old_home() -> None:
    lib, net, optimizer = housed()
    values = np.full((4, 5), 0.25)
    arena = home_of(net.trunk.weight).arena
    net.trunk.weight.data = values
    assert home_of(net.trunk.weight) is None
    train(lib, net, optimizer, 3)
    assert home_of(net.trunk.weight).arena is arena
    assert (values == 0.25).all()
    train(lib, net, optimizer, 4)
    assert is_together(net, optimizer)


def test_another_dtype_in_the_middle_of_a_run() -> None:
    """State follows its parameter; the same as on a backend without an arena."""
    results = []
    for backend in ("cpu", "strict"):
        lib = Library(backend, dtype="float32")
        net = forked(lib)
        optimizer = lib.optimizer("adamw", net.parameters())
        for step in range(4):
            train(lib, net, optimizer, step)
        net.to("float64")
        lib.dtype = "float64"
        for step in range(4, 9):
            train(lib, net, optimizer, step)
        state = optimizer.state_dict()["state"]
        assert all(own["exp_avg"].dtype == "float64" and own["step"] == 9 for own in state.values())
        results.append([lib.numpy(p) for p in net.parameters()])
        if backend == "cpu":
            assert is_together(net, optimizer)
    for mine, other in zip(*results):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


def test_to_another_backend_and_back() -> None:
    lib, net, optimizer = housed("adamw")
    twin, of_twin = copy.deepcopy((net, optimizer))
    for step in range(3, 12):
        if step in (5, 8):
            lib.backend = "strict" if step == 5 else "cpu"
            net.to(backend=lib.backend)
        train(lib, net, optimizer, step)
        train(Library(), twin, of_twin, step)
    for p, q in zip(net.parameters(), twin.parameters()):
        np.testing.assert_allclose(lib.numpy(p), lib.numpy(q), rtol=1e-9)
    assert is_together(net, optimizer)


def test_two_optimizers_share_homes_and_no_state() -> None:
    lib, net, first = housed("adamw")
    second = lib.optimizer("momentum", net.parameters())
    homes = [home_of(p) for p in net.parameters()]
    for step in range(3):
        train(lib, net, first, step)
        second.step()
        assert is_together(net, first)
        assert is_together(net, second)
    assert [home_of(p) for p in net.parameters()] == homes
    assert list(first.state[net.head.bias]) == ["step", "exp_avg", "exp_avg_sq"]
    assert list(second.state[net.head.bias]) == ["momentum_buffer"]


def test_a_tied_parameter_is_one_segment() -> None:
    lib = Library()
    net = forked(lib)
    net.side.weight = net.trunk.weight
    optimizer = lib.optimizer("momentum", net.parameters())
    for step in range(3):
        train(lib, net, optimizer, step)
    assert net.side.weight is net.trunk.weight
    state = net.state_dict()
    assert len(state) == 6
    assert state["side.weight"].tolist() == state["trunk.weight"].tolist()
    assert len(optimizer.state) == 5


# -- nothing that somebody holds is ever written -----------------------------------------------------------


HOLDERS: dict[str, Any] = {
    "detach": lambda p: p.detach(),
    "detach of detach": lambda p: p.detach().detach(),
    "numpy": lambda p: p.detach().numpy(),
    "slice": lambda p: p[:1],
    "slice of detached": lambda p: p.detach()[:1],
    "transposed": lambda p: p.T,
    "reshaped": lambda p: p.reshape(-1),
    "view of view": lambda p: p.reshape(-1)[1:],
    "expanded": lambda p: p.expand(2, *p.shape),
    "flip": lambda p: fw.numpy.flip(p),
    "asarray of detached": lambda p: fw.numpy.asarray(p.detach()),
    "gradient": lambda p: p.grad,
    "part of the gradient": lambda p: p.grad[:1],
    "gradient as an array": lambda p: p.grad.numpy().T,
    "clone": lambda p: p.clone(),
}


def listed(held: Any) -> Any:
    return held.tolist()


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("no_grad", [False, True])
@pytest.mark.parametrize("homeless", [False, True])
@kinds
def test_what_is_kept_never_changes(holder: str, no_grad: bool, homeless: bool, kind: str) -> None:
    lib, net, optimizer = housed(kind, 1 if homeless else 3)
    if homeless:
        net, optimizer = copy.deepcopy((net, optimizer))
        backward(lib, net, 0)
    twin, of_twin = copy.deepcopy((net, optimizer))
    kept = []
    for step in range(3, 8):
        for p in (net.trunk.weight, net.head.bias):
            if "transposed" not in holder or p.ndim == 2:
                with fw.no_grad() if no_grad else fw.enable_grad():
                    held = HOLDERS[holder](p)
                kept.append((held, listed(held)))
        if step == 5:
            with fw.no_grad():
                net.trunk.weight *= 0.5
                twin.trunk.weight *= 0.5
        train(lib, net, optimizer, step)
        train(lib, twin, of_twin, step)
        for held, before in kept:
            assert listed(held) == before
    assert [p.tolist() for p in net.parameters()] == [p.tolist() for p in twin.parameters()]


@kinds
def test_saved_states_never_change(kind: str) -> None:
    lib, net, optimizer = housed(kind)
    saved = (net.state_dict(), optimizer.state_dict())
    before = repr(saved)
    for step in range(3, 6):
        train(lib, net, optimizer, step)
    assert repr(saved) == before
    assert repr((net.state_dict(), optimizer.state_dict())) != before


def test_the_runs_come_back_when_nobody_holds_anything() -> None:
    lib, net, optimizer = housed()
    kept = [net.trunk.weight.grad, net.side.weight.detach(), net.head.bias[:1]]
    for step in range(3):
        train(lib, net, optimizer, step)
    assert is_together(net, optimizer)
    del kept


def test_a_gradient_that_was_looked_at_stays_in_its_slot() -> None:
    lib, net, optimizer = housed()
    for step in range(3):
        optimizer.zero_grad()
        backward(lib, net, step)
        assert all(p.grad.shape == p.shape for p in net.parameters())
        optimizer.step()
    assert is_together(net, optimizer)


@pytest.mark.parametrize(
    "clip", [lambda ps: optim.clip_grad_norm_(ps, 0.01), lambda ps: optim.clip_grad_value_(ps, 1e-3)]
)
def test_clipping_writes_only_gradients_that_nobody_holds(clip: Any) -> None:
    lib, net, optimizer = housed()
    optimizer.zero_grad()
    backward(lib, net, 7)
    kept = net.side.weight.grad
    part = net.head.weight.grad[1:]
    assert net.trunk.bias.grad is not None  # looked at, not kept
    before = kept.tolist(), part.tolist()
    clip(net.parameters())
    assert (kept.tolist(), part.tolist()) == before
    places = [p._node.grad._data if isinstance(p._node.grad, Tensor) else p._node.grad for p in net.parameters()]
    written = [g is p._node.slot for g, p in zip(places, net.parameters())]
    assert written == [True, True, False, True, False, True]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_norm_that_is_not_finite_leaves_no_traces() -> None:
    lib, net, optimizer = housed()
    for bad in (np.nan, np.inf):
        optimizer.zero_grad()
        backward(lib, net, 7)
        net.head.bias.grad = np.full(3, bad)
        optim.clip_grad_norm_(net.parameters(), 1.0)
        net.zero_grad()
    for step in range(3):
        train(lib, net, optimizer, step)
        assert np.isfinite(home_of(net.head.bias).arena.gradients).all()
    assert optim.clip_grad_norm_(net.parameters(), 1.0).item() > 0


def test_backward_after_a_step_still_says_so() -> None:
    lib, net, optimizer = housed()
    optimizer.zero_grad()
    y = (net(batch(lib, 0)) ** 2).mean()
    y.backward(retain_graph=True)
    optimizer.step()
    assert is_together(net, optimizer)
    with pytest.raises(GradientError, match="overwritten in place"):
        y.backward()


def test_a_write_that_moves_the_arena() -> None:
    """Somebody holds the raw array, so that a write goes elsewhere; the next step goes there, too."""
    lib, net, optimizer = housed()
    twin, of_twin = copy.deepcopy((net, optimizer))
    raw = net.trunk.weight.data
    kept = raw.tolist()
    with fw.no_grad():
        net.trunk.weight *= 0.5
        twin.trunk.weight *= 0.5
    assert raw.tolist() == kept
    for step in range(3, 5):
        train(lib, net, optimizer, step)
        train(lib, twin, of_twin, step)
    assert raw.tolist() == kept
    assert [p.tolist() for p in net.parameters()] == [p.tolist() for p in twin.parameters()]


def test_a_write_inside_a_compiled_call() -> None:
    lib, net, optimizer = housed()
    twin, of_twin = copy.deepcopy((net, optimizer))

    def halve(p: Tensor) -> None:
        with fw.no_grad():
            p *= 0.5

    halve_compiled = fw.compile(lambda: halve(net.trunk.weight))
    for step in range(3, 9):
        halve_compiled()
        halve(twin.trunk.weight)
        for model, of_model in ((net, optimizer), (twin, of_twin)):
            of_model.zero_grad()
            backward(lib, model, step)
            if step % 2:  # after backward, so that the gradients are in their slots
                (halve_compiled if model is net else lambda: halve(twin.trunk.weight))()
            of_model.step()
    assert [p.tolist() for p in net.parameters()] == [p.tolist() for p in twin.parameters()]


def test_a_new_leaf_is_noticed_by_every_optimizer() -> None:
    """Frozen and trained again, a parameter has another leaf, which one of two optimizers meets first."""
    lib, net, first = housed()
    second = lib.optimizer("adamw", net.parameters())
    for step in range(3):
        for optimizer in (first, second):
            train(lib, net, optimizer, step)
    net.zero_grad()
    net.requires_grad_(False)
    net.requires_grad_(True)
    buffer = home_of(net.head.bias).arena.gradients
    train(lib, net, second, 3)
    train(lib, net, second, 4)
    assert is_together(net, second)
    assert home_of(net.head.bias).arena.gradients is buffer
    first.zero_grad()
    y = (net(batch(lib, 0)) ** 2).mean()
    y.backward(retain_graph=True)
    first.step()
    assert is_together(net, first)
    with pytest.raises(GradientError, match="overwritten in place"):
        y.backward()


def test_a_gradient_set_by_hand_goes_into_its_slot() -> None:
    lib, net, optimizer = housed()
    given = fw.tensor(np.full(3, 0.5))
    for step in range(2):
        optimizer.zero_grad()
        backward(lib, net, step)
        net.trunk.weight.grad = net.trunk.weight.grad * 0.5
        net.trunk.bias.grad *= 2.0
        net.side.weight.grad = net.side.weight.grad.detach()
        net.head.bias.grad = given
        before = [p.grad.tolist() for p in net.parameters()]
        optimizer.step()
        assert [p.grad.tolist() for p in net.parameters()] == before
    assert given.tolist() == [0.5] * 3
    (layout,) = optimizer._layouts
    assert layout.singles == [1]  # `*=` made another array, which the gradient's Tensor has


def test_backward_after_a_write_by_hand_has_the_old_values() -> None:
    _, net, _ = housed()
    p = net.head.bias
    expected = (3 * p.detach() ** 2).tolist()
    p.grad = None
    y = (p**3).sum()
    with fw.no_grad():
        p.fill_(7.0)
    y.backward()
    assert p.grad.tolist() == pytest.approx(expected)
    assert p.tolist() == [7.0] * 3


# -- copies, states, and the end ---------------------------------------------------------------------------


@kinds
def test_copies_live_elsewhere(kind: str) -> None:
    lib, net, optimizer = housed(kind)
    for twin, of_twin in (copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps(_pair(net, optimizer)))):
        for p, q in zip(optimizer.param_groups[0]["params"], of_twin.param_groups[0]["params"]):
            assert home_of(q) is None
            assert q._data.base is None
            assert not np.shares_memory(p._data, q._data)
            assert p.tolist() == q.tolist()
            for key, value in of_twin.state[q].items():
                assert not hasattr(value, "shape") or not np.shares_memory(value, optimizer.state[p][key])


def _pair(net: Any, optimizer: Any) -> Any:
    """Without the module, whose class is defined inside a function."""
    return None, optimizer


def test_state_that_the_user_replaces_is_used() -> None:
    results = []
    for separate in (False, True):
        lib = Library(separate=separate)
        net = forked(lib)
        optimizer = lib.optimizer("adamw", net.parameters())
        for step in range(12):
            if step == 4:
                optimizer.state[net.head.bias] = {
                    "step": 9, "exp_avg": np.full(3, 0.5), "exp_avg_sq": np.full(3, 0.25)
                }  # fmt: skip
            if step == 6:
                own = optimizer.state[net.trunk.weight]
                own["exp_avg"] = own["exp_avg"] * 0.5
                own["exp_avg_sq"] *= 2.0
            if step == 8:
                optimizer.state[net.side.bias]["step"] = 2
            if step == 10:
                optimizer.state.clear()
            train(lib, net, optimizer, step)
        results.append(([p.tolist() for p in net.parameters()], repr(optimizer.state_dict())))
    assert results[0] == results[1]


def test_a_replaced_parameter() -> None:
    lib, net, optimizer = housed()
    net.head.bias = nn.Parameter(fw.tensor([1.0, 2.0, 3.0], dtype="float64"))
    params = optimizer.param_groups[0]["params"]
    old, params[5] = params[5], net.head.bias
    before = old.tolist()
    train(lib, net, optimizer, 3)
    assert net.head.bias.tolist() != [1.0, 2.0, 3.0]
    assert old.tolist() == before
    del params[0]
    before = net.trunk.weight.tolist()
    train(lib, net, optimizer, 4)
    assert net.trunk.weight.tolist() == before


def test_an_update_that_is_no_matter_of_elements_is_made_for_each_parameter() -> None:
    class Normed(optim.SGD):
        def update(self, ns: Any, p: Any, g: Any, state: Any, hyper: Any) -> Any:
            return super().update(ns, p, g / np.sqrt((g * g).sum()), state, hyper)

    assert not Normed.elementwise
    params = [nn.Parameter(np.zeros(shape)) for shape in ((2,), (3,))]
    optimizer = Normed(params, lr=1.0)
    for _ in range(3):
        for p in params:
            p.grad = np.ones(p.shape)
        optimizer.step()
    for p in params:
        np.testing.assert_allclose(p.tolist(), -3 / np.sqrt(p.size))


def test_an_update_of_ones_own_is_not_taken_for_the_kernel_of_the_base_class() -> None:
    class Shrinking(optim.SGD):
        def update(self, ns: Any, p: Any, g: Any, state: Any, hyper: Any) -> Any:
            return super().update(ns, p, g, state, hyper) * 0.5

    class Renamed(optim.SGD):
        pass

    params = [nn.Parameter(np.ones(2))]
    assert Renamed(params, lr=1.0).updates_by_kernel()
    assert not Shrinking(params, lr=1.0).updates_by_kernel()


def test_the_memory_goes_with_the_model() -> None:
    _, net, optimizer = housed()
    memory = weakref.ref(net.head.bias._data)
    gradient = weakref.ref(net.head.bias._node.slot)
    arena = home_of(net.head.bias).arena
    segment = weakref.ref(home_of(net.head.bias))
    gc.disable()
    try:
        del net, optimizer
        assert memory() is None
        assert gradient() is None
        assert segment() is None
        assert list(arena.homes()) == []
    finally:
        gc.enable()


def test_segments_own_their_views() -> None:
    """What tells who holds an array: views of a segment refer to it, whatever they are views of."""
    backend = registry.get("cpu")
    like = np.zeros((3, 4), np.float32)
    buffer = backend.buffer(40, np.float32, "cpu")
    assert (buffer == 0).all()
    assert address(buffer) % 64 == 0
    segment = backend.segment(buffer, 16, like)
    assert segment.shape == (3, 4)
    assert address(segment) == address(buffer) + 64
    for view in (segment.T, segment[0], segment.reshape(-1)[2:][1:], np.broadcast_to(segment, (2, 3, 4)).T[1]):
        assert root(view) is segment
    segment[...] = 7.0
    assert buffer[16:28].tolist() == [7.0] * 12
    assert buffer.sum() == 84.0
    fortran = backend.segment(buffer, 0, like.T)
    assert fortran.shape == (4, 3)
    assert fortran.flags.f_contiguous
    assert backend.segment(buffer, 3, np.zeros((), np.float32)).shape == ()
    assert backend.segment(buffer, 40, np.zeros((2, 0), np.float32)).shape == (2, 0)


def root(view: Any) -> Any:
    """The array that a view of views refers to in the end, but for the memory below it."""
    while type(view.base.base) is np.ndarray:
        view = view.base
    return view.base
