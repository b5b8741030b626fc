"""Datasets and functions that worker processes import."""

from __future__ import annotations

import os
import random
import signal
import time

import numpy as np

import framework as fw
from framework.data import BlockDataset, Dataset, IterableDataset, sample_generator
from framework.data.reading import uniform


class Augmented(Dataset):
    """Every sample is random, from the framework's generators."""

    def __len__(self):
        return 23

    def __getitem__(self, index):
        noise = fw.random.normal((3,)).numpy()
        rng = sample_generator()
        return np.float32(index) + noise, rng.integers(0, 1 << 40), uniform(1, 2)[0]


class Globals(Dataset):
    """Every sample is random, from generators that a process has one of."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return random.random(), np.random.random()


class Batched(Dataset):
    """Read a batch at a time, with noise for each sample."""

    def __len__(self):
        return 23

    def __getitems__(self, indices):
        return indices + uniform(len(indices), 1)[:, 0], fw.random.normal((2,)).numpy()

    def __getitem__(self, index):
        raise AssertionError("read in batches")


class Stream(IterableDataset):
    """Noise in the samples and in which of them there are."""

    def __iter__(self):
        for i in range(40):
            if sample_generator().random() < 0.7:
                yield i, fw.random.uniform((2,)).numpy()


class Blocks(BlockDataset):
    sizes = (5, 1, 0, 7, 4, 4)

    @property
    def block_sizes(self):
        return self.sizes

    def read_block(self, number):
        start = sum(self.sizes[:number])
        rows = np.arange(start, start + self.sizes[number])
        return {"row": rows, "noise": uniform(len(rows), 2)}


class Failing(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 7:
            self.fail()
        return index

    def fail(self):
        raise KeyError("the seventh")


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__("cannot be made from this alone")


class OddlyFailing(Failing):
    def fail(self):
        raise OddError(1, 2)


class Dying(Failing):
    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Leaving(Failing):
    def fail(self):
        os._exit(3)


class Hanging(Failing):
    def fail(self):
        time.sleep(1000)


class WhoReads(Dataset):
    """Samples are the process that reads them, and what `initialize` left there."""

    number = -1

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.02)
        return os.getpid(), WhoReads.number


def initialize(number):
    WhoReads.number = number


def doubled(samples):
    return np.array([2 * s for s in samples])


class Unloadable:
    """Is pickled, but cannot be read again."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ImportError("not on this side")


class WithUnloadable(Failing):
    def __init__(self):
        self.part = Unloadable()


class DefaultDtype(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return 0.5


def keep(samples):
    """The samples as text."""
    return [repr(sample) for sample in samples]


class Rows(Dataset):
    """What a small model can be trained on."""

    def __len__(self):
        return 45

    def __getitem__(self, index):
        return sample_generator().normal(size=4).astype(np.float32), np.float32(index / 45)
