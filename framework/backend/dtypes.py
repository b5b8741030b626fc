"""Backend-neutral dtypes and the promotion table.

A dtype is a singleton that equals its own name, so `t.dtype == "float32"` is true on every backend.
"""

from __future__ import annotations

from typing import Any, Final

from framework.errors import DTypeError, did_you_mean


class DType:
    """The type of an array's elements: a name, a size in bytes and a kind."""

    __slots__ = ("itemsize", "kind", "name")

    def __init__(self, name: str, itemsize: int, kind: str) -> None:
        self.name: Final = name
        self.itemsize: Final = itemsize
        self.kind: Final = kind  # "bool", "int", "uint", "float" or "complex"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.name == other if isinstance(other, str) else False

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"fw.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype, (self.name,)

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients of this dtype exist: floating point or complex."""
        return self.kind in ("float", "complex")


bool_: Final = DType("bool", 1, "bool")
int8: Final = DType("int8", 1, "int")
int16: Final = DType("int16", 2, "int")
int32: Final = DType("int32", 4, "int")
int64: Final = DType("int64", 8, "int")
uint8: Final = DType("uint8", 1, "uint")
uint16: Final = DType("uint16", 2, "uint")
uint32: Final = DType("uint32", 4, "uint")
uint64: Final = DType("uint64", 8, "uint")
float16: Final = DType("float16", 2, "float")
bfloat16: Final = DType("bfloat16", 2, "float")
float32: Final = DType("float32", 4, "float")
float64: Final = DType("float64", 8, "float")
complex64: Final = DType("complex64", 8, "complex")
complex128: Final = DType("complex128", 16, "complex")

DTYPES: Final = {
    d.name: d
    for d in (
        bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
        float16, bfloat16, float32, float64, complex64, complex128,
    )
}  # fmt: skip


def dtype(name: Any) -> DType:
    """The dtype with this name; also Python's `bool` and `int`, and NumPy's dtypes, which know their names.

    Raises:
        DTypeError: there is none.

    Examples:
        >>> dtype("float32").itemsize, dtype(int)
        (4, fw.int64)
    """
    if isinstance(name, DType):
        return name
    if isinstance(name, str):
        found = DTYPES.get(name)
    elif name is int:
        found = int64
    else:
        found = DTYPES.get(str(getattr(name, "name", None) or getattr(name, "__name__", None)))
    if found is None:
        hint = did_you_mean(name, DTYPES) if isinstance(name, str) else ""
        raise DTypeError(f"unknown dtype {name!r}.{hint} Known: {', '.join(DTYPES)}")
    return found


_KINDS: Final = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": ("complex",),
    "numeric": ("int", "uint", "float", "complex"),
}


def of_kind(kind: str) -> tuple[DType, ...]:
    """All dtypes of one of the standard's kinds, such as "real floating".

    Raises:
        DTypeError: no such kind.
    """
    if kind not in _KINDS:
        raise DTypeError(f"unknown kind of dtypes {kind!r}.{did_you_mean(kind, _KINDS)} Known: {', '.join(_KINDS)}")
    return tuple(d for d in DTYPES.values() if d.kind in _KINDS[kind])


def real_of(d: DType) -> DType:
    """The dtype of a complex dtype's parts; another dtype itself."""
    return {"complex64": float32, "complex128": float64}.get(d.name, d)


FLOATS: Final = {"float16": (11, 15), "bfloat16": (8, 127), "float32": (24, 127), "float64": (53, 1023)}
"""Of each floating-point dtype, the binary digits of the significand and the largest exponent."""


def largest(d: DType) -> float:
    """The largest finite number of a floating-point dtype."""
    digits, exponent = FLOATS[d.name]
    return (2.0 - 2.0 ** (1 - digits)) * 2.0**exponent


def _of_kind(kind: str, itemsize: int) -> DType:
    for candidate in DTYPES.values():
        if candidate.kind == kind and candidate.itemsize >= itemsize and candidate is not bfloat16:
            return candidate
    raise DTypeError(f"no {kind} dtype of {itemsize} bytes; cast one side with .astype first")


def promote(a: DType, b: DType) -> DType:
    """The dtype of an operation on `a` and `b`: the standard's table; float wins over int and bool.

    Raises:
        DTypeError: `uint64` with a signed integer, which no integer dtype can hold.

    Examples:
        >>> promote(int64, float32).name, promote(uint8, int8).name
        ('float32', 'int16')
    """
    if a is b:
        return a
    rank = ("bool", "uint", "int", "float", "complex")
    low, high = sorted((a, b), key=lambda d: (rank.index(d.kind), d.itemsize))
    if low.kind == high.kind:
        # float16 with bfloat16: neither holds the other
        return float32 if low.itemsize == high.itemsize and low is not high else high
    if low.kind == "bool" or (high.kind == "float" and low.kind in ("int", "uint")):
        return high
    if high.kind == "complex":
        if low.kind == "float":
            return _of_kind("complex", max(2 * low.itemsize, high.itemsize))
        return high
    if low.itemsize < high.itemsize:  # unsigned with a wider signed integer
        return high
    if low is uint64:
        raise DTypeError(f"{a.name} with {b.name} fits no integer dtype; cast one side with .astype first")
    return _of_kind("int", 2 * low.itemsize)


def promote_scalar(a: DType, scalar: complex, default: DType) -> DType:
    """The dtype of an operation on an array of dtype `a` and a Python scalar, which is weak.

    Only a scalar of a higher kind changes the dtype: then to `default` (for a complex scalar, to the
    complex dtype that holds `a` or `default`).
    """
    if isinstance(scalar, bool | int):  # an int with a bool array
        return int64 if a is bool_ and not isinstance(scalar, bool) else a
    if isinstance(scalar, float):
        return a if a.is_differentiable else default
    if a.kind == "complex":
        return a
    return promote(a if a.kind == "float" else default, complex64)
