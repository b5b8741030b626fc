"""The pages of `docs/` that hold Python: the blocks of a page run in order, as one script."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs"
CODE = {
    page.name: re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.M) for page in PAGES.glob("*.md")
}


def test_there_are_pages_with_code():
    assert len(CODE["primitives.md"]) == 5


@pytest.mark.parametrize("name", sorted(name for name, blocks in CODE.items() if blocks))
def test_page(name, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(CODE[name]))
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "assert " in script.read_text()


@pytest.mark.parametrize("name", sorted(path.name for path in PAGES.glob("*.md")))
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", (PAGES / name).read_text(), flags=re.DOTALL | re.M)
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
        assert (PAGES / target).exists(), f"{name} leads to {target}"
