"""The counter-based generator: known answers, so that seeds mean the same on every machine and version."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest

from framework.backend import host
from framework.backend.host import HostGenerator, derive_key, random_bits

MASK = 2**64 - 1


def splitmix64(state: int, count: int) -> list[int]:
    """Steele, Lea & Flood (2014), word by word on Python integers."""
    words = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        words.append(z ^ (z >> 31))
    return words


def test_bits_are_splitmix64s_published_values() -> None:
    # the generator's well-known first words for the seed 1234567
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert random_bits(1234567, 0, 5).tolist() == expected == splitmix64(1234567, 5)


@pytest.mark.parametrize("key", [0, 1, 2**63, MASK])
def test_any_position_can_be_had_at_once(key: int) -> None:
    words = splitmix64(key, 40)
    for start in (0, 1, 7, 39):
        assert random_bits(key, start, 40 - start).tolist() == words[start:]
    assert random_bits(key, 3, 0).tolist() == []
    far = random_bits(key, 2**64 - 2, 4).tolist()
    assert far[2:] == words[:2]  # the counter wraps


KNOWN = {
    "key": 10256735203416405186,
    "uniform": [0.0764835518500222, 0.24396602034571802, 0.9000777614253563],
    "normal": [-0.11369538703030807, 1.6386814633384994, -0.8778146243579541],
    "integers": [-1, 2, -2, 3, -1, 4],
    "permutation": [7, 4, 6, 0, 1, 3, 2, 5],
}
"""What HostGenerator(42, "known", 7) gives. A change here changes every run that anybody made with a seed."""


def test_known_answers() -> None:
    g = HostGenerator(42, "known", 7)
    assert g.key == derive_key(42, "known", 7) == KNOWN["key"]
    assert g.uniform((3,)).tolist() == KNOWN["uniform"]
    np.testing.assert_allclose(g.normal((3,)), KNOWN["normal"], rtol=1e-14)
    assert g.integers(-5, 5, (6,)).tolist() == KNOWN["integers"]
    assert g.permutation(8).tolist() == KNOWN["permutation"]


def test_streams_differ_by_every_part_of_their_name() -> None:
    names = [(), (0,), (1,), ("0",), ("a",), ("b",), ("a", "b"), ("ab",), ("b", "a"), ("a", 0), (0, "a"), ("",), (0, 0)]
    names += [(97,), (97, 98), ("a", 98), (97, "b"), (98,), (48,)]  # "a", "b" and "0" have these codes
    keys = {derive_key(seed, *name) for seed in (0, 1, -1, 2**63) for name in names}
    assert len(keys) == 4 * len(names)
    assert all(0 <= key <= MASK for key in keys)


def test_streams_are_independent() -> None:
    n = 20_000
    draws = [HostGenerator(seed, "stream", k).uniform((n,)) for seed in (0, 1) for k in range(4)]
    correlation = np.corrcoef(draws)
    off_diagonal = correlation[~np.eye(len(draws), dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(n)


def test_uniform_is_uniform_and_below_one() -> None:
    n = 200_000
    x = HostGenerator(3, "uniform").uniform((n,))
    assert x.dtype == np.float64
    assert 0.0 <= x.min() < x.max() < 1.0
    counts, _ = np.histogram(x, bins=100, range=(0.0, 1.0))
    chi_squared = float(((counts - n / 100) ** 2 / (n / 100)).sum())
    assert chi_squared < 99 + 5 * math.sqrt(2 * 99)
    assert (x * 2**53 == np.floor(x * 2**53)).all()  # all 53 bits, none rounded


def test_normal_has_the_moments_of_a_normal() -> None:
    n = 200_000
    x = HostGenerator(3, "normal").normal((n,))
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1.0) < 5 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3.0) < 5 * math.sqrt(96 / n)
    assert np.isfinite(x).all()
    assert abs(np.corrcoef(x[: n // 2], x[n // 2 :])[0, 1]) < 5 / math.sqrt(n / 2)  # the two halves of Box-Muller


def test_integers_cover_their_range_evenly() -> None:
    x = HostGenerator(3, "integers").integers(-3, 4, (70_000,))
    assert x.dtype == np.int64
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert np.abs(counts - 10_000).max() < 5 * math.sqrt(10_000)


def test_permutations_are_permutations_and_even() -> None:
    g = HostGenerator(3, "permutation")
    first = np.array([g.permutation(5) for _ in range(5_000)])
    assert (np.sort(first, axis=1) == np.arange(5)).all()
    for place in range(5):
        assert np.abs(np.bincount(first[:, place], minlength=5) - 1_000).max() < 5 * math.sqrt(1_000)
    assert g.permutation(0).tolist() == []
    assert g.permutation(1).tolist() == [0]


def test_shapes() -> None:
    g = HostGenerator(0)
    for shape in ((), (0,), (3,), (2, 0), (2, 3), (5, 1, 1)):
        assert g.uniform(shape).shape == g.normal(shape).shape == g.integers(0, 9, shape).shape == shape


def test_a_generator_continues_from_its_saved_state() -> None:
    g = HostGenerator(-5, "resume")
    g.normal((7,))
    state = json.loads(json.dumps(g.state_dict()))  # plain data
    expected = [g.uniform((3,)).tolist(), g.normal((5,)).tolist(), g.permutation(6).tolist()]
    other = HostGenerator(0)
    other.load_state_dict(state)
    assert [other.uniform((3,)).tolist(), other.normal((5,)).tolist(), other.permutation(6).tolist()] == expected


def test_how_much_is_drawn_at_once_does_not_matter() -> None:
    together = HostGenerator(9).uniform((10,))
    g = HostGenerator(9)
    assert np.concatenate([g.uniform((4,)), g.uniform((0,)), g.uniform((6,))]).tolist() == together.tolist()


def test_two_threads_that_draw_at_once_get_different_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, drawn = HostGenerator(7), []

    def slow(key: int, counter: int, count: int) -> np.ndarray:
        monkeypatch.undo()  # the other thread draws while this one does
        thread = threading.Thread(target=lambda: drawn.append(generator.bits(3)))
        thread.start()
        thread.join()
        return random_bits(key, counter, count)

    monkeypatch.setattr(host, "random_bits", slow)
    mine = generator.bits(3)
    assert np.concatenate([mine, *drawn]).tolist() == HostGenerator(7).bits(6).tolist()
    assert generator.counter == 6


def test_a_permutation_is_the_order_of_the_words() -> None:
    for n in (2, 3, 4, 5, 64, 65, 1_000, 4_097):
        order = HostGenerator(n, "permutation").permutation(n)
        assert order.dtype == np.int64
        np.testing.assert_array_equal(order, np.argsort(HostGenerator(n, "permutation").bits(n)))


def test_words_that_differ_in_their_low_bits_alone_are_ordered_by_these() -> None:
    class Close(HostGenerator):
        def bits(self, count: int) -> np.ndarray:
            return np.array([5, 4, 7, 6, 1 << 63], np.uint64)

    assert Close(0).permutation(5).tolist() == [1, 0, 3, 2, 4]
