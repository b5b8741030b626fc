"""`docs/cli.md` and `docs/logging.md`: the session runs as it stands, the configs are understood, W&B's part works."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from framework.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
CLI, LOGGING = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("cli", "logging"))


@pytest.mark.slow
def test_the_session(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FW_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.delenv("FW_DATA", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    session = re.search(r"<!-- session -->\n```sh\n(.*?)```", CLI, re.DOTALL)
    assert session is not None
    lines = session[1].splitlines()
    try:
        for line in lines:
            capsys.readouterr()
            assert main(line.split()[1:]) == 0, (line, capsys.readouterr().err)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "recipes"]:
            del sys.modules[name]
    assert capsys.readouterr().err.endswith("fw: already finished: runs/mnist_mlp/version_1\n")
    assert {"labels.csv", "runs.html"} <= {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.glob("runs/mnist_mlp/version_*"))) == 2


def test_every_command_is_on_the_page():
    table = CLI.partition("## A session")[0]
    assert [name for name in COMMANDS if f"fw {name}" not in table] == []


def test_the_config_for_wandb_is_understood(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", LOGGING, re.DOTALL | re.M)
    (tmp_path / "more.yaml").write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    main(["check", str(ROOT / "configs/mnist_mlp.yaml"), str(tmp_path / "more.yaml")])
    assert "fw: ok" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_python_for_wandb(tmp_path):
    first, second = re.findall(r"^```python(?: wandb)?\n(.*?)^```", LOGGING, re.DOTALL | re.M)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    patient = (
        "from framework.loggers.background import Feeder\nFeeder.START_S = Feeder.HANDLE_S = Feeder.FINISH_S = 150.0"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{patient}\n{first}\nmodel = Net()\n{second}"],
        cwd=tmp_path,
        env={**kept, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("runs/net/version_1/wandb/offline-run-*/run-*.wandb")
    assert file.stat().st_size > 1000
    assert list(tmp_path.glob("runs/net/version_1/wandb/offline-run-*/files/media/images/digits_*.png"))
