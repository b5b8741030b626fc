"""Datasets, the loader that reads them in batches, and the data that comes with the framework."""

from framework.data.collate import collate as collate
from framework.data.dataset import ArrayDataset as ArrayDataset
from framework.data.dataset import Dataset as Dataset
from framework.data.dataset import Subset as Subset
from framework.data.dataset import random_split as random_split
from framework.data.digits import Digits as Digits
from framework.data.download import DataUnavailable as DataUnavailable
from framework.data.idx import read_idx as read_idx
from framework.data.loader import DataLoader as DataLoader
from framework.data.mnist import MNIST as MNIST
