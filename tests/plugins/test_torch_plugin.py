"""The torch plugin: the conformance kit, training, and what it says where PyTorch is absent."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from bundled_beside import accuracy_after_one_epoch, make_known

import framework as fw
from framework.backend import registry
from framework.errors import BackendError
from framework.testing import BackendConformance

make_known("torch", "TorchBackend")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of torch that wait for one another are slow where the tests take all cores."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.reference
class TestTorch(BackendConformance):
    backend = "torch"
    optional = True


@pytest.mark.reference
def test_one_epoch_of_the_main_config_reaches_the_accuracy_of_the_cpu(torch, mnist_root, tmp_path) -> None:
    found = {name: accuracy_after_one_epoch(name, mnist_root, tmp_path) for name in ("cpu", "torch")}
    assert found["cpu"] > 0.95
    assert abs(found["torch"] - found["cpu"]) < 0.005, found


@pytest.mark.reference
def test_numpy_arrays_that_torch_warns_of_are_copied_in_silence(torch) -> None:
    b = registry.get("torch")
    x = np.arange(4.0)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (x, x[::-1], x.astype(">f8")):
            made = b.asarray(source)
            made += 1.0
            np.testing.assert_array_equal(b.to_numpy(made), source + 1.0)
            with pytest.raises(ValueError, match="shares no memory"):
                b.asarray(source, copy=False)
    np.testing.assert_array_equal(x, np.arange(4.0))


@pytest.mark.reference
def test_a_torch_tensor_comes_in_without_a_copy_and_goes_out(torch) -> None:
    given = torch.ones(3)
    x = fw.numpy.asarray(given, backend="torch")
    assert x._data.data_ptr() == given.data_ptr()
    assert (x * 2.0).numpy().tolist() == [2.0, 2.0, 2.0]


def test_without_torch_it_is_missing_and_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match=r"backend 'torch' needs PyTorch .*pip install fw-torch"):
        registry._local["torch"]()
