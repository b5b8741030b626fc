"""Datasets, samplers, the loader that reads them in batches, and the data that comes with the framework."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.data.collate import collate as collate
from framework.data.dataset import ArrayDataset as ArrayDataset
from framework.data.dataset import Dataset as Dataset
from framework.data.dataset import Subset as Subset
from framework.data.digits import Digits as Digits
from framework.data.download import DataUnavailable as DataUnavailable
from framework.data.idx import read_idx as read_idx
from framework.data.iterable import BlockDataset as BlockDataset
from framework.data.iterable import IterableDataset as IterableDataset
from framework.data.loader import DataLoader as DataLoader
from framework.data.mnist import MNIST as MNIST
from framework.data.reading import sample_generator as sample_generator
from framework.data.sampler import BatchSampler as BatchSampler
from framework.data.sampler import RandomSampler as RandomSampler
from framework.data.sampler import Sampler as Sampler
from framework.data.sampler import SequentialSampler as SequentialSampler
from framework.data.sampler import WeightedRandomSampler as WeightedRandomSampler
from framework.data.split import random_split as random_split

if TYPE_CHECKING:
    from framework.data.concat import ConcatDataset as ConcatDataset
    from framework.data.csvdata import CSVDataset as CSVDataset
    from framework.data.sharded import ShardedDataset as ShardedDataset
    from framework.data.sharded import write_shards as write_shards

_LATER = {"ConcatDataset": "concat", "CSVDataset": "csvdata", "ShardedDataset": "sharded", "write_shards": "sharded"}
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.data' has no attribute {name!r}")
    value = getattr(import_module(f"framework.data.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
