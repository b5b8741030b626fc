"""Conformance: construction, dtypes, devices, transfer, ownership, DLPack."""

from __future__ import annotations

from inspect import isfunction
from sys import getrefcount
from typing import Any

import numpy as np
import pytest

from framework.autodiff import tensor
from framework.backend import Backend, registry
from framework.backend import dtypes as dt
from framework.errors import BackendError, DTypeError
from framework.testing.kit import Kit, offered, on_host, over, parameters_of

ON_NUMPY = [name for name in dt.DTYPES if name != "bfloat16"]
"""The dtypes that NumPy has."""

CONTRACT = [name for name, member in vars(Backend).items() if not name.startswith("_") and isfunction(member)]
"""The contract's methods."""


def values_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of a dtype with values that it holds exactly."""
    count = int(np.prod(shape))
    kind = dt.dtype(dtype).kind
    x: Any = np.arange(count).reshape(shape)
    if kind == "bool":
        return np.asarray(x % 2 == 0)
    if kind == "complex":
        return np.asarray((x + 1j * (x - 2)).astype(dtype))
    return np.asarray((x - 3 if kind == "int" else x / 4 - 1 if kind == "float" else x).astype(dtype))


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same values in every layout that NumPy has."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "C": np.ascontiguousarray(x),
        "Fortran": np.asfortranarray(x),
        "strided": wide[..., ::2],
        "reversed": x[::-1].copy()[::-1],
        "read-only": read_only,
    }


class ArrayTests(Kit):
    """Arrays: made, moved, named, recognised."""

    def test_contract(self, b: Backend) -> None:
        """Name, devices, dtypes, requirements are what the contract says."""
        assert isinstance(b, Backend)
        assert b.name == self.backend
        assert b.devices
        assert b.devices[0] == b.name
        assert all(device.partition(":")[0] == b.name for device in b.devices)
        assert len(set(b.devices)) == len(b.devices)
        assert all(isinstance(d, dt.DType) for d in b.dtypes)
        assert {"bool", "int64", "float32"} <= {d.name for d in b.dtypes}
        assert isinstance(b.synchronous, bool)
        assert isinstance(b.writable, bool)
        assert b.synchronize() is None
        assert all(isinstance(k, str) and isinstance(v, int) and v >= 0 for k, v in b.memory_stats().items())
        assert isinstance(b.room(), int)
        assert b.room() >= 0
        registry.probe(b)

    @over("name", lambda b: [name for name in CONTRACT if getattr(type(b), name) is not getattr(Backend, name)])
    def test_method_signature(self, b: Backend, name: str) -> None:
        """A method of the contract takes what the contract says, under the same names."""
        own = parameters_of(getattr(type(b), name))
        wanted = parameters_of(getattr(Backend, name))
        assert own[: len(wanted)] == wanted, f"{name}() takes {own}, the contract says {wanted}"
        assert all(default != "required" for _, _, default in own[len(wanted) :]), f"{name}() needs more: {own}"

    # -- construction --------------------------------------------------------------------------------

    def test_lists_and_scalars(self, b: Backend) -> None:
        """Nested lists and Python numbers become arrays of their shape."""
        for obj in ([[1.5, 2.0], [3.0, 4.0]], [1, 2, 3], [[True], [False]], [], 3, 2.5, True, (1.0, 2.0)):
            array = b.asarray(obj)
            assert tuple(array.shape) == np.asarray(obj).shape
            np.testing.assert_array_equal(b.to_numpy(array), np.asarray(obj))
        assert b.dtype_of(b.asarray(True)) is dt.bool_
        assert b.dtype_of(b.asarray([1, 2])).kind == "int"
        assert b.dtype_of(b.asarray([1.0])).kind == "float"

    @pytest.mark.parametrize("dtype", dt.DTYPES)
    def test_dtype_asked_for(self, b: Backend, dtype: str) -> None:
        """Lists, scalars and arrays come in the dtype asked for, and it is named back."""
        d = offered(b, dtype)
        for obj in ([0, 1], 1, np.array([[1, 0]], dtype=np.int32), b.asarray([1, 0])):
            array = b.asarray(obj, dtype=d)
            assert b.dtype_of(array) is d
            assert array.dtype == b.native(d)
        assert b.native(dtype) == b.native(d)

    def test_dtype_not_offered(self, b: Backend) -> None:
        """A dtype that is not offered is refused, and the offered ones are named."""
        missing = [d for d in dt.DTYPES.values() if d not in b.dtypes]
        for d in missing:
            with pytest.raises(DTypeError, match=f"does not offer {d.name}; it computes in .*float32"):
                b.native(d)

    @pytest.mark.parametrize("dtype", ON_NUMPY)
    @pytest.mark.parametrize("shape", [(3, 4), (1, 2), (2, 0, 3)])
    def test_numpy_round_trip(self, b: Backend, dtype: str, shape: tuple[int, ...]) -> None:
        """NumPy arrays of every layout come back bit for bit, in their dtype."""
        d = offered(b, dtype)
        x = values_of(dtype, shape)
        for layout, source in layouts(x).items():
            array = b.asarray(source)
            assert b.dtype_of(array) is d, layout
            back = b.to_numpy(array)
            assert isinstance(back, np.ndarray), layout
            assert back.dtype == x.dtype, layout
            np.testing.assert_array_equal(back, x, err_msg=layout)

    @pytest.mark.parametrize("dtype", ON_NUMPY)
    def test_numpy_zero_dimensional(self, b: Backend, dtype: str) -> None:
        """0-d arrays and NumPy scalars become 0-d arrays."""
        d = offered(b, dtype)
        x = values_of(dtype, (5,))
        for source in (x[4:].reshape(()), x[4]):
            array = b.asarray(source)
            assert tuple(array.shape) == ()
            assert b.dtype_of(array) is d
            np.testing.assert_array_equal(b.to_numpy(array), x[4])

    def test_sent_arrays_keep_their_values(self, b: Backend) -> None:
        """What `sender` gives is what `asarray` does, and stays so: whatever is sent later, or done to the original."""
        send = b.sender(None) or b.asarray
        views, wanted = [], []
        for number in range(24):
            x = values_of(("float32", "int64")[number % 2], (5, 3)) + number
            array = send(x)
            assert b.owns(array)
            assert b.dtype_of(array).name == x.dtype.name
            np.testing.assert_array_equal(b.to_numpy(array), x)
            if number % 3:  # of others nothing is held, so that their memory may be used again
                views.append(array[1:, :])
                wanted.append(x[1:, :].copy())
            if b.sender(None) is not None:
                x.fill(0)
        for view, values in zip(views, wanted):
            np.testing.assert_array_equal(b.to_numpy(view), values)
        turned = values_of("float32", (3, 4)).T
        np.testing.assert_array_equal(b.to_numpy(send(turned)), turned)

    def test_overwrite(self, b: Backend) -> None:
        """Numbers that are written are there for all that is asked afterwards, and for nothing before."""
        if not b.writable:
            pytest.skip("its arrays are not written")
        for dtype in ("float32", "float64"):
            array = b.asarray([1.0, 2.0, 3.0], dtype=offered(b, dtype))
            before = b.copy(array)
            b.overwrite(array, [4.0, 5.5, -6.0])
            after = b.copy(array)
            b.overwrite(array, (7.0, 8.0, 9.0))
            for found, values in ((before, [1, 2, 3]), (after, [4, 5.5, -6]), (array, [7, 8, 9])):
                assert b.dtype_of(found).name == dtype
                np.testing.assert_array_equal(b.to_numpy(found), values)

    def test_gathered_batches_keep_their_values(self, b: Backend) -> None:
        """What `gatherer` gives are the entries at the indices, and stays so: whatever is gathered later."""
        images, labels, weights = values_of("uint8", (9, 3, 2)), values_of("int64", (9,)), values_of("float32", (9, 5))
        tables: list[Any] = [None, *((np.float32(0.1), np.float32(-0.3)), (values_of("float32", (3,)), np.float32(2)))]
        for table in tables:
            affine = None if table is None else tuple([b.asarray(np.asarray(t)) for t in table])
            gatherer = b.gatherer([b.asarray(a) for a in (images, labels, weights)], affine)
            if gatherer is None:
                continue
            wanted = images
            if table is not None:
                factor, offset = (np.reshape(t, (-1, 1)) for t in table)
                wanted = images.astype("float32") * factor + offset
            held = []
            for order in (np.arange(9)[::-1], np.array([4, 4, 0, 8, 2, 1, 7])):
                gather = gatherer(np.ascontiguousarray(order))
                for start, stop in ((0, 4), (4, 7), (7, 7), (1, 7)):
                    expected = [x[order[start:stop]] for x in (wanted, labels, weights)]
                    given = gather(start, stop)
                    for array, values in zip(given, expected, strict=True):
                        assert b.dtype_of(array).name == values.dtype.name
                        np.testing.assert_array_equal(on_host(b, array), values)
                    if start:  # of others nothing is held, so that their memory may be used again
                        held += [(array[:2, ...], values[:2]) for array, values in zip(given, expected)]
                    del array, given
            for view, values in held:
                np.testing.assert_array_equal(on_host(b, view), values)

    def test_copy_is_a_copy(self, b: Backend) -> None:
        """`copy=True`, and `copy()`, share no memory with their source."""
        source = np.array([1.0, 2.0, 3.0], dtype=np.float32)
        array = b.asarray(source, copy=True)
        b.synchronize()
        source[:] = 9.0
        np.testing.assert_array_equal(b.to_numpy(array), [1.0, 2.0, 3.0])
        for made in (b.asarray(array, copy=True), b.copy(array)):
            assert made is not array
            assert b.owns(made)
            np.testing.assert_array_equal(b.to_numpy(made), [1.0, 2.0, 3.0])
            if b.writable:
                made[...] = b.asarray(7.0, dtype=dt.float32)
                np.testing.assert_array_equal(b.to_numpy(array), [1.0, 2.0, 3.0])
                np.testing.assert_array_equal(b.to_numpy(made), [7.0, 7.0, 7.0])

    @over("dtype", lambda b: [d.name for d in b.dtypes if d.kind == "float" and d.name in ON_NUMPY])
    def test_segments(self, b: Backend, dtype: str) -> None:
        """Segments of a buffer begin as zeros, write into it, and own the views of themselves."""
        buffer = b.buffer(40, b.native(dtype), b.devices[0]) if b.writable else None
        if buffer is None:
            return
        assert tuple(buffer.shape) == (40,)
        np.testing.assert_array_equal(on_host(b, buffer), np.zeros(40))
        like = b.asarray(values_of(dtype, (3, 4)))
        segment = b.segment(buffer, 16, like)
        assert tuple(segment.shape) == (3, 4)
        assert b.dtype_of(segment).name == dtype
        segment[...] = like
        np.testing.assert_array_equal(on_host(b, buffer[16:28]), on_host(b, like).reshape(-1))
        assert not on_host(b, buffer[:16]).any()
        assert not on_host(b, buffer[28:]).any()
        turned = b.segment(buffer, 0, b.xp.permute_dims(like, (1, 0)))
        turned[...] = b.xp.permute_dims(like, (1, 0))
        np.testing.assert_array_equal(on_host(b, buffer[:12]), on_host(b, like).reshape(-1))
        assert tuple(b.segment(buffer, 39, b.xp.reshape(like, (-1,))[0]).shape) == ()
        assert tuple(b.segment(buffer, 40, like[:0]).shape) == (0, 4)
        alone = getrefcount(segment)
        view = b.xp.permute_dims(segment, (1, 0))[1:]
        assert getrefcount(segment) > alone
        del view
        assert getrefcount(segment) == alone

    def test_copy_of_a_view(self, b: Backend) -> None:
        """Copies of transposed and broadcast arrays have the right values."""
        x = b.asarray(values_of("float32", (3, 4)))
        turned = b.xp.permute_dims(x, (1, 0))
        wide = b.xp.broadcast_to(x, (2, 3, 4))
        np.testing.assert_array_equal(b.to_numpy(b.copy(turned)), values_of("float32", (3, 4)).T)
        np.testing.assert_array_equal(b.to_numpy(b.copy(wide)), np.stack([values_of("float32", (3, 4))] * 2))

    def test_no_copy_where_one_is_forbidden(self, b: Backend) -> None:
        """`copy=False` gives the array itself, or raises where that cannot be."""
        array = b.asarray([1.0, 2.0], dtype=dt.float32)
        same = b.asarray(array, copy=False)
        np.testing.assert_array_equal(b.to_numpy(same), [1.0, 2.0])
        with pytest.raises(Exception, match=r"."):
            b.asarray([1.0, 2.0], copy=False)
        with pytest.raises(Exception, match=r"."):
            b.asarray(array, dtype=dt.int32, copy=False)

    # -- ownership, devices ----------------------------------------------------------------------------

    def test_owns(self, b: Backend) -> None:
        """Its own arrays, results of operations among them, and nobody else's."""
        x = b.asarray([[1.0, 2.0]], dtype=dt.float32)
        for own in (x, x + x, x[0, 0], b.xp.sum(x), b.xp.zeros((0,), dtype=b.native("float32"))):
            assert b.owns(own)
        others: list[Any] = [None, 1, 1.0, True, "x", [1.0], (x,), {"x": x}, tensor([1.0], backend="cpu")]
        if not isinstance(x, np.ndarray):
            others += [np.zeros(2), np.float32(1.0)]
        for other in others:
            assert not b.owns(other), f"owns({other!r})"

    def test_devices(self, b: Backend) -> None:
        """Arrays are made on, moved to, and stay on the device that is named."""
        x = values_of("float32", (2, 3))
        for device in b.devices:
            array = b.asarray(x, device=device)
            assert b.device_of(array) == device
            assert b.device_of(array + array) == device
            assert b.device_of(b.asarray([1, 2], device=device)) == device
            np.testing.assert_array_equal(b.to_numpy(array), x)
            for other in b.devices:
                moved = b.asarray(array, device=other)
                assert b.device_of(moved) == other
                np.testing.assert_array_equal(b.to_numpy(moved), x)
        assert b.check_device(None) == b.devices[0]
        assert registry.get(b.devices[-1]) is b

    def test_unknown_device(self, b: Backend) -> None:
        """A device that is not there is refused, and those that are there are named."""
        for device in (f"{b.name}:99", "nowhere"):
            with pytest.raises(BackendError, match=f"has no device '{device}'; it has .*{b.devices[0]}"):
                b.asarray([1.0], device=device)

    # -- transfer ------------------------------------------------------------------------------------------

    def test_tensors_move_and_gradients_come_back(self, b: Backend) -> None:
        """A Tensor goes to the backend and back; its gradient arrives where it came from."""
        x = tensor([[1.0, 2.0], [3.0, 4.0]], backend="cpu", requires_grad=True)
        home = x.device
        for device in b.devices:
            x.grad = None
            there = x.to(device)
            assert there.device == device
            assert there.backend == b.name
            (there * there).to(home).sum().backward()
            assert x.grad is not None
            assert x.grad.device == home
            np.testing.assert_array_equal(x.grad.numpy(), [[2.0, 4.0], [6.0, 8.0]])

    @pytest.mark.parametrize("dtype", ON_NUMPY)
    def test_dlpack(self, b: Backend, dtype: str) -> None:
        """Where arrays offer DLPack, another consumer sees their values, and `asarray` takes what others offer."""
        offered(b, dtype)
        x = values_of(dtype, (3, 4))
        array = b.asarray(x)
        if not hasattr(array, "__dlpack__"):
            pytest.skip(f"arrays of backend {b.name!r} offer no DLPack")
        on_cpu = int(array.__dlpack_device__()[0]) == 1
        taken = np.from_dlpack(array) if on_cpu else b.xp.from_dlpack(array)
        np.testing.assert_array_equal(taken if on_cpu else b.to_numpy(taken), x)

        back = tensor(_Exporter(x), backend=b.name)
        assert back.backend == b.name
        np.testing.assert_array_equal(back.numpy(), x)


class _Exporter:
    """An array of a library that nobody has heard of: it speaks DLPack and nothing else."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self.dtype = x.dtype

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.x.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()
