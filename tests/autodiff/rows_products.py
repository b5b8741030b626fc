"""Rows of products: of matrices and tensors, and Einstein's summation."""

from __future__ import annotations

from typing import Any

import numpy as np
from generated import Call, Draw, Shape, call, row


def _matmul_shapes(d: Draw) -> tuple[Shape, Shape]:
    """A vector or a stack of matrices on either side, with stacks that broadcast."""
    k, n, m = (d.integer(0, 3) for _ in range(3))
    lead_a, lead_b = d.broadcastable(2, 2) if d.chance(0.4) else ((), ())
    a = (k,) if d.chance(0.2) else (*lead_a, n, k)
    b = (k,) if d.chance(0.2) else (*lead_b, k, m)
    return a, b


def _matmul(name: str) -> Any:
    def make(d: Draw) -> Call:
        a, b = _matmul_shapes(d)
        if name.startswith("linalg") and min(len(a), len(b)) < 2:
            a, b = (2, 3), (3, 2)
        return call(name, d.either(a), d.either(b))

    return make


def _tensordot(d: Draw) -> Call:
    a = d.shape(0, 3)
    n = d.integer(0, len(a))
    if d.chance():
        return call("tensordot", d.either(a), d.either((*a[len(a) - n :], *d.shape(0, 2))), axes=n)
    mine = d.permutation(len(a))[:n]
    rest = d.shape(0, 2)
    b = (*[a[i] for i in mine], *rest)
    order = d.rng.permutation(len(b))
    theirs = tuple(int(np.argwhere(order == i)[0, 0]) for i in range(n))
    return call("tensordot", d.either(a), d.either(tuple(b[i] for i in order)), axes=(mine, theirs))


def _vecdot(d: Draw) -> Call:
    """Complex: conjugated on the left."""
    n = d.integer(0, 3)
    a, b = d.broadcastable(2, 2)
    if d.chance() or not a or not b:
        return call("vecdot", d.either((*a, n)), d.either((*b, n)), axis=-1)
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    at = -d.integer(1, rank + 1)
    x, y = (np.moveaxis(d.either((*s, n)), -1, at) for s in (a, b))
    return call("vecdot", x, y, axis=at)


def _outer(d: Draw) -> Call:
    return call("outer", d.either(d.shape(1, 1)), d.either(d.shape(1, 1)))


def _inner(d: Draw) -> Call:
    a = d.shape(0, 2)
    return call("inner", d.either(a), d.either((*d.shape(0, 1), a[-1]) if a else d.shape(0, 2)))


def _dot(d: Draw) -> Call:
    a = d.shape(0, 2)
    b: Shape = d.shape(0, 2) if not a else (a[-1],) if d.chance(0.4) else (*d.shape(0, 1), a[-1], d.integer(0, 3))
    return call("dot", d.either(a), d.either(b))


def _cross(d: Draw) -> Call:
    lead = d.shape(0, 2)
    at = d.axis(len(lead) + 1)
    x, y = (np.moveaxis(d.either((*lead, 3)), -1, at) for _ in range(2))
    return call("cross", x, y, axis=at)


def _kron(d: Draw) -> Call:
    return call("kron", d.either(d.shape(0, 2)), d.either(d.shape(0, 2)))


for _maker in (_tensordot, _vecdot, _outer, _inner, _dot, _cross, _kron):
    row(_maker.__name__[1:], _maker, complex=True)
row("matmul", _matmul("matmul"), complex=True)

_EQUATIONS = """
ij,jk->ik ij,jk ij->ji ii->i ii ij-> i,i i,j->ij ij,ij->i bij,bjk->bik i,ij,j-> ij,jk,kl->il aab->b ijj->ij ij,j->
...i,...i->... i...,i... ...ij->...ji ,i->i abc,cd,bd->a ia,ib->ab ii,i-> i->ii
"""


def _einsum(d: Draw) -> Call:
    equation = d.pick([e for e in _EQUATIONS.split() if e != "i->ii"])
    lengths = {letter: d.integer(1, 3) if d.chance(0.95) else 0 for letter in "abcdijkl"}
    dots = d.shape(0, 1)
    shapes = [
        tuple(n for part in term.replace("...", ".") for n in (dots if part == "." else (lengths[part],)))
        for term in equation.split("->")[0].split(",")
    ]
    return Call(lambda xp, *xs: xp.einsum(equation, *xs), tuple(d.either(s) for s in shapes), f"einsum {equation}")


row("einsum", _einsum, complex=True)


# -- the same functions in `linalg` ------------------------------------------------------------------------


def _renamed(name: str, make: Any) -> Any:
    def made(d: Draw) -> Call:
        c = make(d)
        return Call(_Swapped(c.fn, name), c.arrays, f"linalg.{name} as {c.label}")

    return made


class _Swapped:
    """Calls a function of `linalg` where the call names its twin outside."""

    def __init__(self, fn: Any, name: str) -> None:
        self.fn, self.name = fn, name

    def __call__(self, xp: Any, *xs: Any) -> Any:
        return self.fn(_View(xp, self.name), *xs)


class _View:
    def __init__(self, xp: Any, name: str) -> None:
        self._xp, self._name = xp, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp.linalg if name == self._name else self._xp, name)


for _name, _make in (("cross", _cross), ("outer", _outer), ("tensordot", _tensordot), ("vecdot", _vecdot)):
    row(f"linalg.{_name}", _renamed(_name, _make), complex=True)
row("linalg.matmul", _matmul("linalg.matmul"), complex=True)
row("linalg.matrix_transpose", lambda d: call("linalg.matrix_transpose", d.either(d.shape(2, 3))), complex=True)


def _last_diagonal(name: str) -> Any:
    return lambda d: call(name, d.either(d.shape(2, 3)), offset=d.integer(-2, 2))


for _name in ("linalg.diagonal", "linalg.trace"):
    row(_name, _last_diagonal(_name), complex=True)
