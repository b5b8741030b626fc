"""`einsum`: parsed by hand into diagonals, sums, transposes and products of two, which carry the derivatives."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import public
from framework.autodiff.primitives.products import last_diagonal
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError

# A label is a letter, or for an axis of the ellipsis its number from the right: -1, -2, ...
Label = str | int
Labels = tuple[Label, ...]
Operand = tuple[Tensor, Labels]


@public
def einsum(subscripts: Any, /, *operands: Any, optimize: Any = None) -> Tensor:
    """Einstein's summation: products of arrays, summed over the labels that the result does not name.

    Two operands at a time are contracted, the pair with the smallest result first; `optimize` is
    taken for NumPy's sake and changes nothing.

    Args:
        subscripts: one term of labels for each operand, such as `"ij,jk->ik"`; a label twice in a term
            is a diagonal, `...` stands for axes that broadcast. Without `->`, the labels that occur
            once are the result's, in alphabetical order, after those of `...`.
        operands: the arrays. NumPy's other form, `einsum(x, [0, 1], y, [1, 2], [0, 2])`, is taken, too.

    Raises:
        ShapeError: the terms do not fit the operands.

    Examples:
        >>> import framework.numpy as np
        >>> x = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> np.einsum("ij,ij->i", x, x).tolist()
        [5.0, 25.0]
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    like = next((x for x in operands if isinstance(x, Tensor)), None)
    tensors = [as_tensor(x, like) for x in operands]
    terms, result = _parse(subscripts, tensors)
    sizes = _sizes(subscripts, tensors, terms)
    missing = [label for label in result if label not in sizes]
    if missing or len(set(result)) < len(result):
        raise ShapeError(f"einsum {subscripts!r}: each label of the result occurs once there and in some term before")
    work = [_simplified(x, term, sizes) for x, term in zip(tensors, terms)]
    while len(work) > 1:
        i, j = _cheapest(work, result, sizes)
        rest = [op for k, op in enumerate(work) if k not in (i, j)]
        keep = set(result).union(*[labels for _, labels in rest])
        work = [*rest, _product(work[i], work[j], keep, sizes)]
    x, labels = _summed(work[0], set(result))
    order = tuple([labels.index(label) for label in result])
    return x if order == tuple(range(x.ndim)) else ops.permute_dims(x, order)


# -- reading the subscripts --------------------------------------------------------------------------


def _from_lists(args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """NumPy's form with lists of numbers as subscripts: operand, list, operand, list, ..., result."""
    operands, lists = args[: len(args) // 2 * 2 : 2], args[1::2]

    def term(numbers: Any) -> str:
        letters = [n if n is Ellipsis else "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[n] for n in numbers]
        return "".join(["..." if c is Ellipsis else c for c in letters])

    text = ",".join(map(term, lists))
    return (f"{text}->{term(args[-1])}" if len(args) % 2 else text), operands


def _parse(subscripts: str, tensors: list[Tensor]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(tensors):
        raise ShapeError(f"einsum {subscripts!r} has {len(parts)} terms for {len(tensors)} operands")
    terms = [_labels(subscripts, part, x.ndim) for part, x in zip(parts, tensors)]
    depth = max((-min((n for n in term if isinstance(n, int)), default=0) for term in terms), default=0)
    dots: Labels = tuple(range(-depth, 0))
    if not arrow:
        everything = [label for term in terms for label in term]
        once = sorted(c for c in set(everything) if isinstance(c, str) and everything.count(c) == 1)
        return terms, (*dots, *once)
    before, dotted, after = right.partition("...")
    _check_letters(subscripts, before + after)
    if depth and not dotted:
        dots = ()  # summed over, as in NumPy
    return terms, ((*before, *dots, *after) if dotted else tuple(before))


def _labels(subscripts: str, part: str, ndim: int) -> Labels:
    before, dotted, after = part.partition("...")
    _check_letters(subscripts, before + after)
    free = ndim - len(before) - len(after)
    if free < 0 or (free and not dotted):
        raise ShapeError(f"einsum {subscripts!r}: the term {part!r} is for {ndim - free} axes, its operand has {ndim}")
    return (*before, *range(-free, 0), *after)


def _check_letters(subscripts: str, letters: str) -> None:
    for c in letters:
        if not (c.isascii() and c.isalpha()):
            raise ShapeError(f"einsum {subscripts!r}: {c!r} is no label; labels are letters")


def _sizes(subscripts: str, tensors: list[Tensor], terms: list[Labels]) -> dict[Label, int]:
    """The length of each label; axes of length one broadcast."""
    sizes: dict[Label, int] = {}
    for x, term in zip(tensors, terms):
        for label, n in zip(term, x.shape):
            known = sizes.setdefault(label, n)
            if known == 1:
                sizes[label] = n
            elif n not in (1, known):
                name = "..." if isinstance(label, int) else repr(label)
                raise ShapeError(f"einsum {subscripts!r}: {name} is {known} long in one operand and {n} in another")
    return sizes


# -- contracting -----------------------------------------------------------------------------------


def _simplified(x: Tensor, labels: Labels, sizes: dict[Label, int]) -> Operand:
    """The operand with each label once; an axis of length one that broadcasts is left out."""
    short = [i for i, label in enumerate(labels) if x.shape[i] == 1 != sizes[label]]
    if short:
        x = ops.squeeze(x, axis=tuple(short))
        labels = tuple([label for i, label in enumerate(labels) if i not in short])
    for label in [c for c in dict.fromkeys(labels) if labels.count(c) > 1]:
        while labels.count(label) > 1:
            i, j = [k for k, c in enumerate(labels) if c == label][:2]
            rest = [k for k in range(x.ndim) if k not in (i, j)]
            x = last_diagonal(ops.permute_dims(x, (*rest, i, j)), 0)
            labels = (*[labels[k] for k in rest], label)
    return x, labels


def _summed(operand: Operand, keep: set[Label]) -> Operand:
    """The operand summed over the labels that nobody else needs."""
    x, labels = operand
    gone = tuple([i for i, label in enumerate(labels) if label not in keep])
    if not gone:
        return operand
    total = ops.sum(x, axis=gone)
    if total.dtype is not x.dtype:  # small integers, which a sum widens and a product does not
        total = ops.astype(total, x.dtype)
    return total, tuple([label for label in labels if label in keep])


def _cheapest(work: list[Operand], result: Labels, sizes: dict[Label, int]) -> tuple[int, int]:
    """The pair whose product has the fewest elements; the first of equals."""
    pairs = [(i, j) for j in range(len(work)) for i in range(j)]
    if len(pairs) == 1:
        return pairs[0]

    def size(pair: tuple[int, int]) -> int:
        others = set(result).union(*[labels for k, (_, labels) in enumerate(work) if k not in pair])
        both = {*work[pair[0]][1], *work[pair[1]][1]}
        return math.prod(sizes[label] for label in both & others)

    return min(pairs, key=size)


def _product(a: Operand, b: Operand, keep: set[Label], sizes: dict[Label, int]) -> Operand:
    """The product of two operands, summed over what neither the result nor another operand needs."""
    a, b = _summed(a, keep | set(b[1])), _summed(b, keep | set(a[1]))
    shared = [label for label in a[1] if label in b[1]]
    batch = [label for label in shared if label in keep]
    inner = [label for label in shared if label not in keep]
    free_a = [label for label in a[1] if label not in shared]
    free_b = [label for label in b[1] if label not in shared]
    shape = [sizes[label] for label in batch]
    left = _arranged(a, (batch, free_a, inner), sizes)
    right = _arranged(b, (batch, inner, free_b), sizes)
    out = ops.matmul(left, right) if inner else left * right
    labels = (*batch, *free_a, *free_b)
    return ops.reshape(out, (*shape, *[sizes[label] for label in free_a + free_b])), labels


def _arranged(operand: Operand, groups: tuple[list[Label], ...], sizes: dict[Label, int]) -> Tensor:
    """The operand as a stack of matrices: one axis for each label of the first group, then two."""
    x, labels = operand
    first, *others = groups
    order = tuple([labels.index(label) for group in groups for label in group])
    if order != tuple(range(x.ndim)):
        x = ops.permute_dims(x, order)
    return ops.reshape(x, (*[sizes[c] for c in first], *[math.prod(sizes[c] for c in group) for group in others]))
