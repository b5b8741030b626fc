"""What comes along with `import framework.data`."""

from __future__ import annotations

import json
import subprocess
import sys

LATE = [
    "tqdm",
    "urllib.request",
    "http.client",
    "ssl",
    "socket",
    "gzip",
    "zipfile",
    "hashlib",
    "queue",
    "subprocess",
    "multiprocessing",
    "csv",
    "framework.data.csvdata",
    "framework.data.sharded",
    "framework.data.concat",
    "framework.data.imagetransforms",
    "framework.data.worker",
    "wandb",
    "yaml",
]


def test_heavy_modules_are_imported_when_needed():
    code = (
        "import sys, numpy; before = set(sys.modules); import framework.data, json; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = json.loads(out)
    assert "framework.data.loader" in loaded
    assert [name for name in LATE if name in loaded] == []
    upper = ("framework.train", "framework.cli", "framework.nn", "framework.optim", "framework.callbacks")
    assert [name for name in loaded if name.startswith(upper)] == []
