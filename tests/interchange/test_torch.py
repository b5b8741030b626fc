"""Models of PyTorch and their twins: a file written by one is read by the other, and both compute the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def mlp(library: Any) -> Any:
    return library.Sequential(
        library.Flatten(), library.Linear(12, 16), library.GELU(), library.LayerNorm(16), library.Dropout(0.5),
        library.Linear(16, 8, bias=False), library.SiLU(), library.Linear(8, 3), library.LogSoftmax(1),
    )  # fmt: skip


def cnn(library: Any) -> Any:
    return library.Sequential(
        library.Conv2d(3, 8, 3, padding=1, bias=False), library.BatchNorm2d(8), library.ReLU(), library.MaxPool2d(2),
        library.Conv2d(8, 8, 3, stride=2, groups=2), library.BatchNorm2d(8, momentum=None), library.ELU(),
        library.ConvTranspose2d(8, 4, 2), library.GroupNorm(2, 4), library.AdaptiveAvgPool2d((2, None)),
        library.Flatten(), library.Linear(16, 5),
    )  # fmt: skip


def transformer(library: Any) -> Any:
    return library.Sequential(
        library.Embedding(11, 8, padding_idx=0),
        library.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu"),
        library.TransformerEncoderLayer(8, 4, 12, batch_first=True, layer_norm_eps=1e-3),
        library.RMSNorm(8), library.Linear(8, 11),
    )  # fmt: skip


def lstm(library: Any) -> Any:
    return library.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True, proj_size=3, dropout=0.3)


def gru(library: Any) -> Any:
    return library.GRU(6, 5, num_layers=2, bias=False)


MODELS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "mlp": (mlp, (7, 3, 4)),
    "cnn": (cnn, (5, 3, 8, 8)),
    "transformer": (transformer, (4, 6)),
    "lstm": (lstm, (3, 6, 6)),
    "gru": (gru, (4, 3, 6)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def data(name: str, dtype: str, seed: int = 0) -> np.ndarray[Any, Any]:
    rng, shape = np.random.default_rng(seed), MODELS[name][1]
    return rng.integers(0, 11, shape) if name == "transformer" else rng.normal(size=shape).astype(dtype)


def numbers(out: Any) -> np.ndarray[Any, Any]:
    """All results of a model, of either library."""
    if isinstance(out, tuple):
        return np.concatenate([numbers(part) for part in out])
    return np.asarray(out.detach().numpy()).ravel()


def trained(torch: Any, name: str, dtype: str) -> Any:
    """A model of PyTorch after some steps, so that no statistic and no bias is as it started."""
    torch.manual_seed(0)
    model = MODELS[name][0](torch.nn).to(getattr(torch, dtype))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for seed in range(5):
        out = model(torch.tensor(data(name, dtype, seed)))
        loss = sum((part**2).sum() for part in ((out,) if name not in ("lstm", "gru") else (out[0],)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("dtype", TOLERANCE)
@every_model
def test_there_and_back(name: str, dtype: str, torch: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs = trained(torch, name, dtype)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = MODELS[name][0](nn).to(dtype).eval()
    assert ours.load_state_dict(fw.load(tmp_path / "theirs.safetensors")) == ([], [])
    x = data(name, dtype, 99)
    expected = numbers(theirs(torch.tensor(x)))
    found = numbers(ours(fw.tensor(x)))
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    fw.save(ours.state_dict(), tmp_path / "ours.safetensors")
    back = load_file(tmp_path / "ours.safetensors")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert back[key].dtype == value.dtype
        assert torch.equal(back[key], value)
    other = MODELS[name][0](torch.nn).to(getattr(torch, dtype)).eval()
    other.load_state_dict(back)
    assert numbers(other(torch.tensor(x))).tolist() == expected.tolist()


@every_model
def test_what_was_trained_here_runs_there(name: str, torch: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    fw.seed_everything(0)
    ours = MODELS[name][0](nn).double()
    optimizer = fw.optim.AdamW(ours.parameters(), 0.01)
    for seed in range(3):
        optimizer.zero_grad()
        out = ours(fw.tensor(data(name, "float64", seed)))
        ((out[0] if isinstance(out, tuple) else out) ** 2).sum().backward()
        optimizer.step()
    fw.save(ours.eval().state_dict(), tmp_path / "ours.safetensors")
    theirs = MODELS[name][0](torch.nn).double().eval()
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    x = data(name, "float64", 99)
    np.testing.assert_allclose(numbers(ours(fw.tensor(x))), numbers(theirs(torch.tensor(x))), rtol=1e-12, atol=1e-12)


def test_half_precision_and_other_dtypes(torch: Any, tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    from safetensors.torch import load_file, save_file

    x = torch.linspace(-3, 3, 24).reshape(2, 3, 4)
    kinds = (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "bool",
        "complex64",
    )
    given = {kind: x.to(getattr(torch, kind)) for kind in kinds}
    save_file(given, tmp_path / "a")
    arrays = fw.load(tmp_path / "a")
    assert {kind: a.dtype.name for kind, a in arrays.items()} == dict(zip(kinds, kinds))
    fw.save({kind: a.transpose(2, 0, 1) for kind, a in arrays.items()}, tmp_path / "b")
    for kind, value in load_file(tmp_path / "b").items():
        assert torch.equal(value, given[kind].permute(2, 0, 1)), kind
    narrow = {"weight": given["bfloat16"][0], "bias": given["bfloat16"][0, :, 0].clone()}
    save_file(narrow, tmp_path / "c")
    ours = nn.Linear(4, 3)
    ours.load_state_dict(fw.load(tmp_path / "c"))
    assert ours.weight.dtype == "float32"
    assert ours.weight.tolist() == narrow["weight"].tolist()


def test_torch_tensors_are_arrays_too(torch: Any, tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    fw.save(model.state_dict(), tmp_path / "a")
    ours = nn.Linear(3, 2)
    ours.load_state_dict(fw.load(tmp_path / "a"))
    assert ours.weight.tolist() == model.weight.tolist()


def test_pickles_of_torch_are_refused(torch: Any, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "new.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(fw.errors.CheckpointError, match="zip archive, as torch.save"):
        fw.load(tmp_path / "new.pt")
    with pytest.raises(fw.errors.CheckpointError, match="is a pickle"):
        fw.load(tmp_path / "old.pt")
