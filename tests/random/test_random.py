"""Random Tensors: distributions, streams, the same numbers on every backend, states that can be saved."""

from __future__ import annotations

import json
import math
import random as python_random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor
from framework.backend import host
from framework.errors import BackendError, ConfigError, DTypeError
from framework.random import Generator

N = 40_000


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """A known seed, and the process's streams as they were."""
    before, legacy = fw.random.state_dict(), python_random.getstate()
    fw.seed_everything(0)
    yield
    fw.random.load_state_dict(before)
    python_random.setstate(legacy)


def kolmogorov_smirnov(values: Any, cdf: Callable[[Any], Any]) -> float:
    """√n times the largest distance to the distribution; above 1.95 once in a thousand."""
    values = np.sort(np.asarray(values, np.float64).ravel())
    n = len(values)
    expected = cdf(values)
    above, below = np.arange(1, n + 1) / n - expected, expected - np.arange(n) / n
    return float(math.sqrt(n) * max(above.max(), below.max()))


def chi_squared(counts: Any, expected: float) -> float:
    """How many standard deviations the statistic lies above its mean."""
    counts = np.asarray(counts, np.float64)
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    return float((statistic - freedom) / math.sqrt(2 * freedom))


def normal_cdf(x: Any) -> Any:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


# -- the bits --------------------------------------------------------------------------------------------


def test_the_bits_are_splitmix64() -> None:
    """The published outputs for seed 1234567."""
    assert host.random_bits(1234567, 0, 5).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_bits_are_a_function_of_the_position() -> None:
    whole = host.random_bits(7, 0, 100)
    for start in (0, 1, 37, 99):
        np.testing.assert_array_equal(host.random_bits(7, start, 100 - start), whole[start:])
    assert host.random_bits(7, 2**63, 2).shape == (2,)
    assert host.random_bits(2**64 - 1, 5, 0).shape == (0,)


def test_the_numbers_stay_what_they_are() -> None:
    """Saved runs continue with a later version, so these may not change."""
    fw.seed_everything(0)
    # the logarithm and the cosine of normal numbers are the machine's, to the last place
    assert fw.random.normal((2,), dtype="float64").tolist() == pytest.approx([-1.6390718623828342, -0.926168356646434])
    assert fw.random.uniform((2,), dtype="float64").tolist() == [0.9193499493883699, 0.8774466933672542]
    assert fw.random.integers(0, 1000, (4,)).tolist() == [504, 849, 355, 209]
    assert fw.random.permutation(6).tolist() == [0, 2, 5, 4, 1, 3]


def test_streams_differ() -> None:
    first = Generator(0).host.bits(1000)
    for other in (
        Generator(1),
        Generator(0, "init"),
        Generator(0, "order"),
        Generator(0, 1),
        Generator(0, 1, 2),
        Generator(-1),
    ):
        assert np.intersect1d(first, other.host.bits(1000)).size == 0


def test_streams_are_uncorrelated() -> None:
    draws = np.stack([Generator(seed, *stream).host.normal((N,)) for seed in range(3) for stream in ((), ("a",), (1,))])
    off_diagonal = np.corrcoef(draws)[~np.eye(len(draws), dtype=bool)]
    assert np.abs(off_diagonal).max() < 4.5 / math.sqrt(N)


def test_neighbours_in_a_stream_are_uncorrelated() -> None:
    x = Generator(3).host.uniform((N,)) - 0.5
    for lag in (1, 2, 3, 64, N // 2):
        assert abs((x[:-lag] * x[lag:]).mean() * 12) < 4.5 / math.sqrt(N - lag)


# -- distributions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_normal(seed: int) -> None:
    x = fw.random.normal((N,), dtype="float64", generator=Generator(seed)).numpy()
    assert kolmogorov_smirnov(x, normal_cdf) < 1.95
    y = fw.random.normal((N,), mean=3.0, std=0.5, dtype="float64", generator=Generator(seed)).numpy()
    np.testing.assert_allclose(y, 3 + 0.5 * x, rtol=1e-14)
    assert np.isfinite(x).all()
    assert np.abs(x).max() > 3.5  # tails are not cut


@pytest.mark.parametrize("seed", range(3))
def test_uniform(seed: int) -> None:
    x = fw.random.uniform((N,), dtype="float64", generator=Generator(seed)).numpy()
    assert kolmogorov_smirnov(x, lambda x: x) < 1.95
    y = fw.random.uniform((N,), low=-2.0, high=6.0, dtype="float64", generator=Generator(seed)).numpy()
    np.testing.assert_allclose(y, 8 * x - 2, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_is_below_one(dtype: str) -> None:
    """A cast must not round the largest numbers up to the bound, which is not among them."""
    x = fw.random.uniform((200_000,), dtype=dtype).numpy()
    assert x.min() >= 0.0
    assert x.max() < 1.0
    largest = Generator(0)
    largest.host.uniform = lambda shape: np.full(shape, 1 - 2.0**-53)  # type: ignore[method-assign]
    assert fw.random.uniform((3,), dtype=dtype, generator=largest).numpy().max() < 1.0


@pytest.mark.parametrize(("low", "high"), [(0, 7), (-3, 4), (5, 6), (0, 1000)])
def test_integers(low: int, high: int) -> None:
    x = fw.random.integers(low, high, (N,))
    assert x.dtype == "int64"
    counts = np.bincount(x.numpy() - low, minlength=high - low)
    assert len(counts) == high - low
    if high - low > 1:
        assert chi_squared(counts, N / (high - low)) < 4.5


def test_integers_with_one_bound() -> None:
    x = fw.random.integers(5, shape=(1000,), dtype="uint8")
    assert (x.dtype, set(x.tolist())) == ("uint8", {0, 1, 2, 3, 4})


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_bernoulli(p: float) -> None:
    x = fw.random.bernoulli(p, (N,))
    assert x.dtype == "float32"
    assert set(x.tolist()) <= {0.0, 1.0}
    assert abs(x.mean().item() - p) <= 4.5 * math.sqrt(p * (1 - p) / N)
    assert fw.random.bernoulli(p, (3,), dtype="bool").dtype == "bool"


def test_permutation() -> None:
    x = fw.random.permutation(1000)
    assert x.dtype == "int64"
    assert sorted(x.tolist()) == list(range(1000))
    assert (fw.random.permutation(0).tolist(), fw.random.permutation(1).tolist()) == ([], [0])
    counts = Counter(tuple(fw.random.permutation(4).tolist()) for _ in range(4800))
    assert len(counts) == 24
    assert chi_squared(list(counts.values()), 200) < 4.5


def test_choice() -> None:
    assert chi_squared(np.bincount(fw.random.choice(10, (N,)).numpy()), N / 10) < 4.5
    chosen = fw.random.choice(50, (6, 5), replace=False)
    assert chosen.shape == (6, 5)
    assert len(set(chosen.reshape(-1).tolist())) == 30
    assert sorted(fw.random.choice(5, (5,), replace=False).tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match="cannot choose 6 of 5"):
        fw.random.choice(5, (6,), replace=False)


# -- shapes, dtypes, backends ----------------------------------------------------------------------------

DRAWS: dict[str, Callable[..., Tensor]] = {
    "normal": fw.random.normal,
    "uniform": fw.random.uniform,
    "integers": lambda shape, **kw: fw.random.integers(0, 100, shape, **kw),
    "bernoulli": lambda shape, **kw: fw.random.bernoulli(0.3, shape, **kw),
    "choice": lambda shape, **kw: fw.random.choice(100, shape, **kw),
    "choice without replacement": lambda shape, **kw: fw.random.choice(100, shape, replace=False, **kw),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 1)])
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    x = DRAWS[name](shape)
    assert isinstance(x, Tensor)
    assert (x.shape, x.backend, x.requires_grad) == (shape, "cpu", False)


@pytest.mark.parametrize("name", DRAWS)
def test_the_numbers_are_the_same_on_every_backend(name: str) -> None:
    drawn = [DRAWS[name]((5, 3), backend=backend) for backend in ("cpu", "strict")]
    assert [x.backend.name for x in drawn] == ["cpu", "strict"]
    np.testing.assert_array_equal(drawn[0].numpy(), drawn[1].numpy())
    fw.seed_everything(0)
    with fw.use_backend("strict"):
        again = DRAWS[name]((5, 3))
    assert again.backend == "strict"
    np.testing.assert_array_equal(again.numpy(), drawn[0].numpy())


def test_permutation_is_the_same_on_every_backend() -> None:
    assert fw.random.permutation(9, backend="strict").tolist() == fw.random.permutation(9).tolist()


def test_each_backend_has_its_own_default_generator() -> None:
    first = fw.random.normal((4,)).tolist()
    fw.seed_everything(0)
    fw.random.normal((4,), backend="strict")
    assert fw.random.normal((4,)).tolist() == first


def test_like() -> None:
    x = fw.tensor(np.zeros((2, 3)), device="strict:1", dtype="float64")
    for made in (fw.random.randn_like(x), fw.random.rand_like(x, generator=Generator(1))):
        assert (made.shape, made.dtype, made.device) == ((2, 3), "float64", "strict:1")


def test_dtypes() -> None:
    for name in ("float16", "float32", "float64"):
        x = fw.random.normal((100,), dtype=name)
        assert x.dtype == name
    wide = fw.random.normal((100,), dtype="float64", generator=Generator(1)).numpy()
    narrow = fw.random.normal((100,), dtype="float32", generator=Generator(1)).numpy()
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))


def test_refusals() -> None:
    for call, error, message in (
        (lambda: fw.random.integers(5, 5), ConfigError, "at least 5 and under 5"),
        (lambda: fw.random.integers(0), ConfigError, "under 0"),
        (lambda: fw.random.bernoulli(1.5), ConfigError, r"from 0 to 1, got 1\.5"),
        (lambda: fw.random.bernoulli(math.nan), ConfigError, "got nan"),
        (lambda: fw.random.normal((2,), std=-1.0), ConfigError, r"not negative, got -1\.0"),
        (lambda: fw.random.normal((2,), dtype="flot32"), DTypeError, "'float32'"),
        (lambda: fw.random.normal((2,), backend="gpu"), BackendError, "gpu"),
        (lambda: fw.seed_everything(1.5), ConfigError, r"a seed is an integer, got 1\.5"),
        (lambda: fw.seed_everything(True), ConfigError, "got True"),
    ):
        with pytest.raises(error, match=message):
            call()


# -- seeds and states ------------------------------------------------------------------------------------


def draw(generator: Generator | None = None) -> list[Any]:
    return [
        fw.random.normal((3,), generator=generator).tolist(),
        fw.random.uniform((2,), generator=generator).tolist(),
        fw.random.permutation(5, generator=generator).tolist(),
        fw.random.integers(0, 9, (4,), generator=generator).tolist(),
    ]


@pytest.mark.parametrize("seed", [0, 1, -5, 2**63, 2**70])
def test_the_same_seed_gives_the_same_numbers(seed: int) -> None:
    assert fw.seed_everything(seed) == seed
    first = draw()
    assert draw() != first
    fw.seed_everything(seed)
    assert draw() == first
    assert draw(Generator(seed)) == draw(Generator(seed))


def test_seed_everything_seeds_python_and_leaves_numpy_alone() -> None:
    np.random.seed(5)
    fw.seed_everything(3)
    mine = [python_random.random() for _ in range(3)]
    theirs = np.random.random(3)
    fw.seed_everything(3)
    assert [python_random.random() for _ in range(3)] == mine
    np.random.seed(5)
    np.testing.assert_array_equal(np.random.random(3), theirs)


def test_a_generator_does_not_move_the_default_one() -> None:
    first = draw()
    fw.seed_everything(0)
    draw(Generator(99))
    assert draw() == first


@pytest.mark.parametrize("before", range(4))
def test_a_generator_continues_from_its_state(before: int) -> None:
    generator = Generator(11, "noise")
    for k in range(before):
        fw.random.normal((2 * k + 1,), generator=generator)
    state = json.loads(json.dumps(generator.state_dict()))
    want = draw(generator)
    other = Generator(0)
    other.load_state_dict(state)
    assert draw(other) == want
    assert generator.state_dict() == other.state_dict()
    assert state != generator.state_dict()


def test_all_default_generators_continue_from_their_state() -> None:
    fw.seed_everything(21)
    draw()
    fw.random.normal((7,), backend="strict")
    state = json.loads(json.dumps(fw.random.state_dict()))
    want = [*draw(), fw.random.normal((3,), backend="strict").tolist()]
    fw.seed_everything(0)
    draw()
    fw.random.load_state_dict(state)
    assert [*draw(), fw.random.normal((3,), backend="strict").tolist()] == want
    assert host.global_seed() == 21


def test_a_generator_that_was_not_used_before_the_state_starts_afresh() -> None:
    fw.seed_everything(21)
    state = fw.random.state_dict()
    want = draw()
    fw.seed_everything(0)
    draw()
    fw.random.load_state_dict(state)
    assert draw() == want


def test_the_state_is_a_state_tree() -> None:
    draw()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            assert all(isinstance(key, str) for key in node)
            for value in node.values():
                walk(value)
        else:
            assert type(node) in (str, int, float, bool, type(None))

    walk(fw.random.state_dict())


@pytest.mark.parametrize(
    "integer", [np.int64, np.uint8, np.array, fw.tensor], ids=["int64", "uint8", "array", "tensor"]
)
def test_integers_of_every_kind(integer: Any) -> None:
    def draw(two: Any, three: Any) -> list[Any]:
        random = fw.random
        fw.seed_everything(7)
        made = [random.normal(three), random.uniform((two, 3, three)), random.bernoulli(0.5, (three,))]
        made += [random.integers(three), random.integers(two, 9, (two, three)), random.permutation(three)]
        made += [random.choice(three, two), random.choice(three, (two,), replace=False)]
        return [t.tolist() for t in made]

    assert draw(integer(2), integer(3)) == draw(2, 3)
