"""Tables larger than memory: what is held follows from the rows in a block, whatever the file's size.

Bounds are made of two measurements of one block: what reading it takes at most, as traced, and the size of its arrays.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.data import CSVDataset, DataLoader, random_split

PROGRAM = """
import json, sys, tracemalloc
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
    peaks = []
    for path in (small, large):
        before = fresh_peak()
        found = train(path, buffer)
        peaks.append(peak() - before)
    tracemalloc.start()
    CSVDataset(small, target="y", normalize=True, buffer=buffer).read_block(0)
    print(json.dumps({"small": peaks[0], "large": peaks[1], "all": peak(), "found": found,
                      "reading": tracemalloc.get_traced_memory()[1]}))
"""


def write(path: Path, rows: int, columns: int = 8, has_text: bool = False) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=columns)
    with open(path, "w") as file:
        file.write(",".join(f"c{k}" for k in range(columns)) + (",kind" if has_text else "") + ",y\n")
        lines = []
        for k in range(100):  # few different rows, so that writing is fast
            x = rng.normal(size=columns)
            cells = [*(f"{v:.6f}" for v in x), *(["red", "green", "blue"][k % 3 :][:has_text]), f"{x @ weights:.6f}"]
            lines.append(",".join(cells) + "\n")
        block = "".join(lines)
        for _ in range(rows // 100):
            file.write(block)


def peak(work: Callable[[], Any]) -> tuple[int, Any]:
    """The bytes that are held at most while something is done, beyond those before; and what comes of it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = work()
        return tracemalloc.get_traced_memory()[1] - before, found
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("has_text", [False, True], ids=["numbers", "text"])
def test_what_is_held_follows_from_the_buffer(tmp_path: Path, has_text: bool) -> None:
    for rows in (4_000, 12_000):
        write(tmp_path / f"{rows}.csv", rows, has_text=has_text)
    options: dict[str, Any] = {"categorical": ["kind"] * has_text, "normalize": True, "missing": "mean"}
    reading = {}
    for buffer in (500, 1000):
        for rows in (4_000, 12_000):
            path = tmp_path / f"{rows}.csv"
            places = 150 * rows // buffer  # where each block begins
            text = path.stat().st_size * buffer // rows
            making, data = peak(lambda: CSVDataset(path, "y", buffer=buffer, **options))
            reading[buffer], arrays = peak(lambda: data.read_block(1))
            block = sum(a.nbytes for a in arrays)
            assert reading[buffer] < (20 if has_text else 10) * text
            assert making < 1.5 * reading[buffer] + places
            part, _ = random_split(data, [0.9, 0.1], seed=0)
            epoch, count = peak(lambda: sum(len(batch[-1]) for batch in DataLoader(part, 64, True, seed=0)))
            assert count == len(part)
            # One block is being read; one is ready, one handed out, and one put in order.
            assert epoch < reading[buffer] + 4 * block + places
    assert reading[1000] < 2.1 * reading[500]


@pytest.mark.slow
@pytest.mark.parametrize("buffer", [2_000, 10_000])
def test_a_million_rows_take_no_more_than_a_few_blocks(tmp_path: Path, buffer: int) -> None:
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
    assert size > 70_000_000
    print(f"file {size / 1e6:.1f} MB, buffer {buffer} rows: {found}")
    # Five blocks take as much as hundreds: what the heap has lost to fragments is less than one more.
    assert found["large"] - found["small"] < found["reading"], (found, size)
    assert found["large"] < 3 * found["reading"], (found, size)
    assert found["all"] < size, (found, size)
