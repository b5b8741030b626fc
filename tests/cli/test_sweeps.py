"""The example sweeps: what an agent of W&B would run is a command that `fw` understands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from framework.cli import yaml12
from framework.cli.nodes import plain

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))


def test_there_is_a_sweep():
    assert SWEEPS


def choices(parameter: dict) -> list:
    return parameter.get("values") or [parameter[key] for key in ("min", "max", "value") if key in parameter]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_choice_is_a_command_that_fw_understands(fw, file):
    sweep = yaml.safe_load(file.read_text())
    assert sweep["command"][:2] == ["fw", "train"]
    assert sweep["command"][-1] == "${args}"
    words = [str(ROOT / word) if word.startswith("configs/") else word for word in sweep["command"][1:-1]]
    for name, parameter in sweep["parameters"].items():
        for value in choices(parameter):
            done = fw(*words, f"--{name}={value}", "--print_config")
            assert done.code == 0, done.err
            found = plain(yaml12.load(done.out, "printed"))
            for key in name.split("."):
                found = found[key]
            assert found == yaml12.scalar(str(value)) or str(found) == value


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_its_metric_is_logged(fw, file):
    sweep = yaml.safe_load(file.read_text())
    config = next(word for word in sweep["command"] if word.startswith("configs/"))
    logged = fw("check", str(ROOT / config))
    assert logged.code == 0, logged.err
    assert f"{sweep['metric']['name']} " in logged.out
    assert "WandbLogger" in (ROOT / config).read_text()
