"""The README's examples, run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", README.read_text(), re.DOTALL))


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_examples_are_here():
    assert set(EXAMPLES) == {"script", "grad", "backend"}
    assert README.read_text().count("```python") == len(EXAMPLES)


def test_script_trains_in_twenty_lines(tmp_path):
    code = EXAMPLES["script"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    run(code + "\nassert trainer.callback_metrics['train_loss'] < 0.3, trainer.callback_metrics", tmp_path)
    assert list(tmp_path.glob("runs/net/version_0/metrics.csv"))


def test_grad(tmp_path):
    forward, reverse = 0, 1
    lines = run(EXAMPLES["grad"], tmp_path).splitlines()
    assert "0.841" in lines[forward]
    assert "1.750" in lines[reverse]


def test_backend_in_thirty_to_forty_lines(tmp_path):
    pytest.importorskip("array_api_strict")
    code = EXAMPLES["backend"]
    assert 30 <= len([line for line in code.splitlines() if line.strip()]) <= 40
    assert float(run(code, tmp_path).split()[0]) < 1e-6


def test_backend_passes_the_conformance_kit(tmp_path):
    """Of the kit's many cases, which are slow on array-api-strict, one in so many where not everything is run."""
    pytest.importorskip("array_api_strict")
    kit = (
        "\n\nfrom framework.testing import BackendConformance\n\n\n"
        "class TestMine(BackendConformance):\n    backend = 'mine'\n    one_in = (('test_', 10),)\n"
    )
    (tmp_path / "test_mine.py").write_text(EXAMPLES["backend"] + kit)
    shutil.copy(README.parent / "tests" / "plugins" / "conftest.py", tmp_path)  # which knows `one_in`
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d+ passed", done.stdout)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
