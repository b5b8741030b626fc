"""The recipes and configs that come with the framework, run as a user runs them."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "mnist_mlp.yaml")
RPROP = str(ROOT / "configs" / "mnist_mlp_rprop.yaml")
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.backend", "cpu")


@pytest.fixture
def nowhere(fw, monkeypatch):
    """An empty home and no network."""
    monkeypatch.setenv("HOME", str(fw.folder / "home"))
    monkeypatch.setenv("FW_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.delenv("FW_DATA", raising=False)
    return fw


@pytest.fixture
def mnist_root() -> str:
    folder = Path(os.environ.get("FW_TEST_MNIST") or ROOT.parent / "shared" / "data")
    if not any((folder / sub / "train-images-idx3-ubyte.gz").exists() for sub in ("", "mnist")):
        pytest.skip("MNIST is not here; FW_TEST_MNIST names its folder")
    return str(folder)


def summary(name: str):
    return json.loads((Path("runs") / name / "version_0" / "summary.json").read_text())


# Each recipe in a few steps, and the file that `fw predict` then writes.
TINY = {
    "mnist_cnn": (["--model.init_args.channels=[2,4]", "--data.init_args.batch_size=16"], "labels.csv"),
    "autoencoder": (["--model.init_args.hidden=[16]"], "codes.npz"),
    "tabular_mlp": (["--data.init_args.example_rows=400", "--data.init_args.buffer=90"], "rents.csv"),
    "char_lm": (["--model.init_args.layers=1", "--model.init_args.width=8", "--model.init_args.sample=20",
                 "--data.init_args.limit=4000", "--data.init_args.batch_size=4"], None),
}  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_a_copied_recipe_trains_tests_and_predicts(nowhere, name):
    assert nowhere("new", "recipe", name).code == 0
    small, output = TINY[name]
    config = f"configs/{name}.yaml"
    few = [*QUIET, *small, "--trainer.limit_test_batches=1"]
    done = nowhere("train", config, *few, "--trainer.max_steps=4", "--trainer.limit_val_batches=1")
    assert done.code == 0, done.err
    told = summary(name)
    assert (told["status"], told["steps"]) == ("finished", 4)
    assert {"train_loss", "val_loss"} <= set(told["metrics"])
    assert "test_loss" in told
    assert nowhere("test", config, *few, "--ckpt=last").code == 0
    if output is not None:
        done = nowhere("predict", config, *few, "--trainer.limit_predict_batches=1", "--ckpt=last", "--output", output)
        assert f"wrote {output}: " in done.out
        assert Path(output).stat().st_size > 100


def test_the_fallback_is_loud_and_recorded(nowhere):
    done = nowhere("train", CONFIG, *QUIET, "--trainer.max_steps", "3")
    assert done.code == 0
    assert len(re.findall("^WARNING: MNIST is neither .* using the bundled DIGITS", done.err, re.M)) == 1
    told = summary("mnist_mlp")
    assert (told["dataset"], told["steps"]) == ("digits", 3)


def test_without_a_fallback_missing_data_are_an_error(nowhere):
    done = nowhere("train", CONFIG, *QUIET, "--data.init_args.fallback", "null")
    assert done.code == 2
    assert "fw: error: MNIST: no train-images-idx3-ubyte under" in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_damaged_data_are_an_error_even_with_a_fallback(nowhere, name):
    damaged = b"\x00\x00\x08\x03" + b"\x00" * 100
    file = nowhere.folder / "data" / "mnist" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(damaged)[:-9] if name.endswith("gz") else damaged)
    done = nowhere("train", CONFIG, *QUIET, "--data.init_args.root", "data")
    assert done.code == 2
    assert f"fw: error: data/mnist/{name}" in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))])
def test_digits_are_learned(nowhere, seed):
    assert nowhere("train", CONFIG, *QUIET, "--seed", str(seed)).code == 0
    told = summary("mnist_mlp")
    assert told["test_acc"] >= 0.96
    assert told["steps"] >= 300


def test_rprop_uses_the_whole_set_at_once(nowhere):
    assert nowhere("train", RPROP, *QUIET, "--trainer.max_steps", "2", "--no-test").code == 0
    assert (summary("mnist_mlp_rprop")["epochs"], summary("mnist_mlp_rprop")["steps"]) == (2, 2)


def test_mnist_is_split_alike_whatever_the_seed(fw, mnist_root, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    import framework
    from recipes.mnist_mlp import MnistData

    splits = []
    for seed in (0, 1):
        framework.seed_everything(seed)
        data = MnistData(mnist_root)
        data.setup("fit")
        assert data.dataset_name == "mnist"
        splits.append((data.train_set.indices.tolist(), data.val_set.indices.tolist()))
    assert splits[0] == splits[1]
    assert [len(part) for part in splits[0]] == [55_000, 5_000]
    assert len(data.test_set) == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_mnist_is_learned(fw, mnist_root, seed):
    done = fw("train", CONFIG, *QUIET, "--data.init_args.root", mnist_root, "--seed", str(seed))
    assert done.code == 0
    assert summary("mnist_mlp")["test_acc"] >= 0.982


@pytest.mark.slow
def test_mnist_is_learned_with_rprop(fw, mnist_root):
    assert fw("train", RPROP, *QUIET, "--data.init_args.root", mnist_root).code == 0
    assert summary("mnist_mlp_rprop")["test_acc"] >= 0.975


@pytest.mark.slow
def test_the_script_does_without_a_config(tmp_path, mnist_root):
    script = ROOT / "recipes" / "mnist_script.py"
    done = subprocess.run([sys.executable, str(script), mnist_root], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.search(r"test_acc +([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) >= 0.98
    assert (tmp_path / "runs" / "net" / "version_0" / "summary.json").exists()
