"""Datasets: samples by index, one at a time or a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from framework.autodiff.modes import get_default_dtype
from framework.autodiff.tensor import Tensor
from framework.data.lending import lending_reader
from framework.data.transforms import Normalize, only_normalizes
from framework.errors import DataError, ShapeError

Array = np.ndarray[Any, np.dtype[Any]]
Transform = Callable[[Array], Array]


class Dataset:
    """Base of datasets: override `__len__` and `__getitem__`.

    A dataset that also has `__getitems__(indices)`, with `indices` a 1-D int64 array, is read a batch at
    a time: what it returns *is* the batch, in the structure that one sample has.

    Examples:
        >>> class Squares(Dataset):
        ...     def __len__(self):
        ...         return 3
        ...     def __getitem__(self, index):
        ...         return index, index**2
        >>> Squares()[2]
        (2, 4)
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")


class ArrayDataset(Dataset):
    """Arrays in memory that share their first axis, such as images and labels.

    A sample is the tuple of the arrays' entries at one index; a batch costs one `take` per array. Dtypes
    are kept (uint8 stays uint8), except that lists of Python floats get the default dtype. Arrays are
    used in place, never copied and never written.

    Args:
        *arrays: NumPy arrays, Tensors or lists, each (samples, …).
        transform: called with a whole batch of the first array, as in `framework.data.transforms`;
            what it returns takes its place.

    Raises:
        ShapeError: the arrays differ in length, or one has no axis.
        DataError: an array holds Python objects, or no array was given.

    Examples:
        >>> data = ArrayDataset(np.zeros((4, 28, 28), np.uint8), np.arange(4))
        >>> x, y = data[3]
        >>> x.shape, x.dtype, int(y)
        ((28, 28), dtype('uint8'), 3)
    """

    def __init__(self, *arrays: Any, transform: Transform | None = None) -> None:
        if not arrays:
            raise DataError("ArrayDataset needs at least one array: ArrayDataset(x) or ArrayDataset(x, y)")
        if transform is not None and not callable(transform):
            raise DataError(
                f"ArrayDataset: transform must be callable, got {type(transform).__name__}; "
                "to combine several, use transforms.Compose([...])"
            )
        self.arrays: tuple[Array, ...] = tuple(_host_array(a, k) for k, a in enumerate(arrays))
        self.transform = transform
        lengths = {len(a) for a in self.arrays}
        if len(lengths) > 1:
            shapes = ", ".join(str(a.shape) for a in self.arrays)
            raise ShapeError(f"ArrayDataset: the first axes must be equally long, got arrays of shapes {shapes}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        i = checked_index(index, len(self))
        batch = self.__getitems__(np.array([i]))
        return tuple(a[0] for a in batch)

    def __getitems__(self, indices: Array) -> tuple[Array, ...]:
        """The batch at `indices`, a 1-D integer array: one fresh array for each array."""
        return self.reader()(indices)

    def reader(self) -> Callable[[Array | slice], tuple[Array, ...]]:
        """What reads a batch at a 1-D integer array or a slice, with all that is the same for every batch settled."""
        arrays, transform = self.arrays, self.transform
        takes = [_taker(a) for a in arrays]
        # A view is enough for a Normalize, which never writes to what it is given.
        lend = transform is not None and only_normalizes(transform)

        def read(indices: Array | slice) -> tuple[Array, ...]:
            if type(indices) is slice:
                batch = [a[indices].copy(order="C") for a in arrays[lend:]]
                if lend:
                    batch.insert(0, arrays[0][indices])
            else:
                batch = [take(indices, 0) for take in takes]
            if transform is not None:
                batch[0] = transform(batch[0])
            return tuple(batch)

        return read

    def lending_reader(self) -> Callable[[Array | slice], tuple[Array, ...]] | None:
        """A reader whose arrays are used for a later batch once nobody holds them; None where that cannot be done.

        Indices must be known to lie in 0 … length − 1.
        """
        if not all(a.flags.c_contiguous and a.flags.aligned for a in self.arrays):
            return None
        if self.transform is None:
            return lending_reader(self.arrays, None)
        if type(self.transform) is not Normalize or self.arrays[0].dtype.kind == "c":
            return None
        return lending_reader(self.arrays, self.transform)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{a.dtype}{list(a.shape)}" for a in self.arrays)
        transform = "" if self.transform is None else f", transform={self.transform!r}"
        return f"{type(self).__name__}({arrays}{transform})"

    def check_labels(self, num_classes: int, *, ignore_index: int | None = None) -> bool:
        """Whether there are integer labels (the last of several arrays); if so, checks their range.

        Args:
            num_classes: labels must lie in 0 … num_classes − 1.
            ignore_index: a label allowed besides, as in `CrossEntropyLoss`.

        Raises:
            DataError: a label is out of range; names the first, with its index.
        """
        return _check_labels(self, None, num_classes, ignore_index)


class Subset(Dataset):
    """The samples of a dataset at chosen indices, in their order.

    Raises:
        DataError: the indices are no integers or lie outside the dataset.

    Examples:
        >>> Subset([10, 20, 30], [2, 0])[0]
        30
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | Array) -> None:
        self.dataset = dataset
        self.indices = checked_indices(indices, len(dataset), "Subset")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[checked_index(index, len(self))])]

    def __repr__(self) -> str:
        return f"Subset({self.dataset!r}, {len(self)} of {len(self.dataset)} samples)"

    def check_labels(self, num_classes: int, *, ignore_index: int | None = None) -> bool:
        """As `ArrayDataset.check_labels`, for these samples; False if there is no ArrayDataset below."""
        base, chosen = underlying(self)
        return isinstance(base, ArrayDataset) and _check_labels(base, chosen, num_classes, ignore_index)


def underlying(dataset: Any) -> tuple[Any, Array | None]:
    """The dataset below any Subsets, and which of its samples are meant (None: all, in order)."""
    chosen: Array | None = None
    while type(dataset) is Subset:
        chosen = dataset.indices if chosen is None else dataset.indices.take(chosen)
        dataset = dataset.dataset
    return dataset, chosen


def checked_indices(indices: Any, length: int, owner: str) -> Array:
    """`indices` as a 1-D int64 array, each in 0 … length − 1.

    Raises:
        DataError: they are not.
    """
    array = np.asarray(indices)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype == np.bool_:
        raise DataError(f"{owner}: indices must be integers, got booleans; for a mask, use numpy.flatnonzero(mask)")
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"{owner}: indices must be integers on one axis, got {array.dtype} of shape {array.shape}")
    array = array.astype(np.int64, copy=False)
    bad = np.flatnonzero((array < 0) | (array >= length))
    if bad.size:
        raise DataError(
            f"{owner}: indices must lie in 0 … {length - 1}, the dataset's; got {array[bad[0]]} at position {bad[0]}"
        )
    return array


def host_float() -> np.dtype[Any]:
    """NumPy's dtype for Python floats: the default dtype, float32 where NumPy has no such type."""
    name = get_default_dtype().name
    return np.dtype("float32" if name == "bfloat16" else name)


def _host_array(value: Any, position: int) -> Array:
    """`value` as a NumPy array that a batch can be gathered from."""
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"ArrayDataset: array {position} ({type(value).__name__}) is no array: {error}") from error
    if array.dtype.hasobject:
        raise DataError(
            f"ArrayDataset: array {position} holds Python objects, not numbers; "
            "for samples of different shapes write a Dataset with __len__ and __getitem__"
        )
    if array.ndim == 0:
        raise ShapeError(f"ArrayDataset: array {position} is a single number; it needs an axis of samples")
    if array.dtype == np.float64 and not hasattr(value, "dtype"):  # a list of Python floats
        array = array.astype(host_float())
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _taker(array: Array) -> Callable[[Any, int], Array]:
    """What gathers fresh, C-contiguous entries of `array`, given indices and the axis 0."""
    # `take` moves whole rows, twice as fast as `array[indices]`; but of an array that is not contiguous
    # it would copy all of it each time.
    if array.flags.c_contiguous and array.flags.aligned:
        return array.take
    return lambda indices, axis: np.ascontiguousarray(array[indices])


def checked_index(index: Any, length: int) -> int:
    """An index from the front or, if negative, from the back, as one from the front; IndexError outside."""
    i = index.__index__()
    if not -length <= i < length:
        raise IndexError(f"index {i} is outside a dataset of {length} samples")
    return i % length


def _check_labels(data: ArrayDataset, chosen: Array | None, num_classes: int, ignore_index: int | None) -> bool:
    labels = data.arrays[-1]
    if len(data.arrays) < 2 or labels.dtype.kind not in "iu":
        return False
    if chosen is not None:
        labels = labels.take(chosen, axis=0)
    wrong = (labels < 0) | (labels >= num_classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        row = where[0] if chosen is None else int(chosen[where[0]])
        at = ", ".join(str(i) for i in (row, *where[1:]))
        raise DataError(
            f"labels must lie in 0 … {num_classes - 1} for {num_classes} classes; "
            f"the label at index {at} is {labels[where]}. Give the model more outputs, or correct the labels."
        )
    return True


def reads_batches(kind: type) -> bool:
    """Whether batches are read with `__getitems__`: not if a subclass overrode `__getitem__` alone."""
    for cls in kind.__mro__:
        if "__getitems__" in vars(cls):
            return True
        if "__getitem__" in vars(cls):
            return False
    return False
