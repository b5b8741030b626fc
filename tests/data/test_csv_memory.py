"""A table of a million rows: memory holds a few blocks of it, whatever its size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import json, os, sys
import numpy as np
import framework as fw
from framework.data import CSVDataset, DataLoader, random_split

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def fresh_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak()

class Model(fw.TrainModule):
    def __init__(self, width):
        super().__init__()
        self.layers = fw.nn.Sequential(fw.nn.Linear(width, 16), fw.nn.ReLU(), fw.nn.Linear(16, 1))
    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.layers(x)[:, 0] - y) ** 2).mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss
    def configure_optimizers(self):
        return fw.optim.Adam(self.parameters(), lr=0.01)

def train(path, buffer):
    data = CSVDataset(path, target="y", normalize=True, buffer=buffer)
    part, rest = random_split(data, [0.9, 0.1], seed=0)
    trainer = fw.Trainer(max_epochs=1, backend="cpu", enable_progress_bar=False, enable_model_summary=False,
                         enable_checkpointing=False, logger=False)
    trainer.fit(Model(len(data.numeric)), DataLoader(part, 1024, shuffle=True))
    return len(data), len(part) + len(rest), float(trainer.callback_metrics["loss"])

if __name__ == "__main__":
    small, large, buffer = sys.argv[1], sys.argv[2], int(sys.argv[3])
    train(small, buffer)
    base = fresh_peak()
    found = train(large, buffer)
    print(json.dumps({"base": base, "peak": peak(), "found": found}))
"""


def write(path: Path, rows: int, columns: int = 8) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=columns)
    with open(path, "w") as file:
        file.write(",".join(f"c{k}" for k in range(columns)) + ",y\n")
        lines = []
        for _ in range(100):  # few different rows, so that writing is fast
            x = rng.normal(size=columns)
            lines.append(",".join(f"{v:.6f}" for v in (*x, x @ weights)) + "\n")
        block = "".join(lines)
        for _ in range(rows // 100):
            file.write(block)


@pytest.mark.slow
@pytest.mark.parametrize("buffer", [2_000, 10_000])
def test_memory_is_bounded_by_the_buffer(tmp_path, buffer):
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    write(small, 5 * buffer)
    write(large, 1_000_000)
    size = large.stat().st_size
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), str(small), str(large), str(buffer)],
        cwd=tmp_path, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rows, parts, loss = found["found"]
    assert rows == parts == 1_000_000
    assert loss < 3.0
    growth = found["peak"] - found["base"]
    block = size * buffer // rows
    # What the small file needed, whose every block is as large, is nearly all that the large one needs.
    assert size > 70_000_000
    assert growth < 8_000_000 + 16 * block, (growth, block, size)
    assert found["peak"] < 150_000_000, found
    print(f"file {size / 1e6:.1f} MB, buffer {buffer} rows ({block / 1e6:.2f} MB): {found}")
