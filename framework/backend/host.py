"""Host arrays: the one place below floor 3 that imports NumPy.

Holds the counter-based generator, from which initial weights and data order come on every backend,
and the reference fallbacks of extended primitives that the Array API standard lacks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF
_TEXT = 0x100  # no byte


def _mix(x: int) -> int:
    """SplitMix64's finalizer on a Python integer (Steele, Lea & Flood 2014)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def derive_key(seed: int, *stream: int | str) -> int:
    """A 64-bit key for one stream of numbers, from a seed and names or numbers of the stream, all modulo 2**64.

    Different streams have different keys: `"a"` is not its code 97, nor are `"ab"` and `"a", "b"` one.
    """
    key = _mix((seed + _GOLDEN) & _MASK)
    for part in stream:
        words = [part & _MASK] if isinstance(part, int) else list(part.encode())
        if len(words) == 1 and isinstance(part, str):
            words.append(_TEXT)  # a number is one word, too
        for word in words:
            key = _mix((key ^ word) + _GOLDEN & _MASK)
        key = _mix((key + len(words)) & _MASK)
    return key


def random_bits(key: int, counter: int, count: int) -> np.ndarray:
    """`count` 64-bit words: positions `counter`, `counter + 1`, … of the stream `key` (SplitMix64)."""
    start = (key + (counter + 1) * _GOLDEN) & _MASK
    x = np.arange(count, dtype=np.uint64)
    x *= np.uint64(_GOLDEN)
    x += np.uint64(start)
    t = x >> np.uint64(30)
    x ^= t
    x *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(x, np.uint64(27), out=t)
    x ^= t
    x *= np.uint64(0x94D049BB133111EB)
    np.right_shift(x, np.uint64(31), out=t)
    x ^= t
    return x


class HostGenerator:
    """A counter-based stream of random numbers on the host, the same on every machine and version.

    Args:
        seed: any integer.
        stream: names or numbers that tell independent streams of one seed apart.

    Examples:
        >>> HostGenerator(0, "init").permutation(3).shape
        (3,)
    """

    def __init__(self, seed: int, *stream: int | str) -> None:
        self.key = derive_key(seed, *stream)
        self.counter = 0

    def bits(self, count: int) -> np.ndarray:
        """The next `count` 64-bit words, uint64."""
        start = self.counter
        self.counter = start + count  # before they are made: meanwhile another thread may draw
        return random_bits(self.key, start, count)

    def uniform(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        """float64 in [0, 1), 53 bits each."""
        bits = self.bits(math.prod(shape))
        bits >>= np.uint64(11)
        return (bits.astype(np.float64) * 2.0**-53).reshape(shape)

    def normal(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Standard normal float64 (Box & Muller 1958)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u = self.uniform((2, half))
        radius = np.sqrt(-2.0 * np.log1p(-u[0]))
        angle = (2.0 * math.pi) * u[1]
        out = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
        return out[:count].reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """int64 in [low, high); the bias of the multiplication is under 2**-53 × (high − low)."""
        return low + np.floor(self.uniform(shape) * (high - low)).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray:
        """A random order of 0 … n−1, int64."""
        words = self.bits(n)  # all different, as the words of one stream are, so any sort will do
        # Words whose low bits give way to their positions are sorted two to three times faster than positions
        # by words. The order is the same unless two words agree in all other bits.
        width = np.uint64(max(n - 1, 0).bit_length())
        low = (np.uint64(1) << width) - np.uint64(1)
        packed = words & ~low
        packed |= np.arange(n, dtype=np.uint64)
        packed.sort()
        high = packed >> width
        if (high[1:] == high[:-1]).any():
            return np.argsort(words)
        packed &= low
        return packed.view(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream; the key as text, since it may exceed a signed integer."""
        return {"key": str(self.key), "counter": self.counter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position."""
        self.key = int(state["key"])
        self.counter = int(state["counter"])


# -- reference fallbacks of extended primitives: through the host, correct on every backend --------


def scatter_add(array: Any, index: Any, values: Any) -> np.ndarray:
    """A copy of `array` with `values` added at `index`; repeated indices add up."""
    out = np.array(array, copy=True)
    np.add.at(out, index, values)
    return out


def set_item(array: Any, index: Any, values: Any) -> np.ndarray:
    """A copy of `array` with `values` at `index`; where a place is named several times, the last of them."""
    out = np.array(array, copy=True)
    # NumPy writes in the order of memory, which is to be that of reading
    index = tuple([np.asarray(i, order="C") if isinstance(i, np.ndarray) else i for i in index])
    out[index] = np.asarray(values, order="C")
    return out


_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Any) -> np.ndarray:
    """The error function, element by element."""
    x = np.asarray(x)
    return np.asarray(_erf(x.astype(np.float64))).astype(np.float64).astype(x.dtype)


# -- the seed of the process -----------------------------------------------------------------------

_seed = 0


def global_seed() -> int:
    """The seed that `seed_everything` set; 0 at the start."""
    return _seed


def set_global_seed(seed: int) -> None:
    """Set the seed from which generators and loaders without one of their own derive theirs."""
    global _seed
    _seed = seed
