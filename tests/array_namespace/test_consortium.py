"""The suite of the consortium that makes the Array API standard, run on framework.numpy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def documented_failures() -> set[str]:
    """The tests that `docs/array_api.md` lists as failing."""
    return set(re.findall(r"^\| `(array_api_tests/[^`]+)`", (ROOT / "docs" / "array_api.md").read_text(), re.M))


@pytest.mark.slow
def test_what_fails_is_documented(tmp_path: Path) -> None:
    folder = os.environ.get("FW_ARRAY_API_TESTS")
    if not folder:
        pytest.skip("FW_ARRAY_API_TESTS names a checkout of github.com/data-apis/array-api-tests with its submodule")
    environment = os.environ | {
        "ARRAY_API_TESTS_MODULE": "framework.numpy",
        "ARRAY_API_TESTS_VERSION": "2024.12",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "array_api_tests"]
    done = subprocess.run(
        [*command, "--max-examples", "5", "--disable-deadline"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout[-2000:] + done.stderr[-2000:]
    assert int(passed[1]) > 1300
    failed = set(re.findall(r"^(?:FAILED|ERROR) (\S+(?:\[.*?\])?)(?: - |$)", done.stdout, re.M))
    assert failed == documented_failures(), "docs/array_api.md is to be brought up to date"
