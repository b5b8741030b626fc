"""`recipes/tabular_mlp.py`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.cli.main import main
from framework.train.signals import Interrupted

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "tabular_mlp.yaml")
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.backend=cpu", "--trainer.enable_model_summary=false")
SMALL = {"data__init_args__example_rows": 1200, "data__init_args__buffer": 250, "data__init_args__batch_size": 32}
SMALL_ARGUMENTS = [f"--{key.replace('__', '.')}={value}" for key, value in SMALL.items()]


def table(path: str) -> tuple[list[str], list[list[str]]]:
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def test_the_example_is_the_same_each_time_and_has_gaps(recipe, tmp_path):
    recipe.write_example(tmp_path / "a.csv", 300)
    recipe.write_example(tmp_path / "deep" / "b.csv", 300)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "deep" / "b.csv").read_text()
    header, rows = table(str(tmp_path / "a.csv"))
    assert header == ["area", "rooms", "floor", "year", "district", "heating", "balcony", "rent"]
    assert len(rows) == 300
    empty = {name for row in rows for name, cell in zip(header, row) if not cell}
    assert empty == {"year", "heating"}


def test_a_number_is_estimated_and_predicted_for_new_rows(recipe, capsys):
    assert main(["train", CONFIG, *QUIET, *SMALL_ARGUMENTS, "--trainer.max_epochs=6"]) == 0
    assert "WARNING: there is no flats.csv; writing an example with 1200 rows there" in capsys.readouterr().err
    told = json.loads(Path("runs/tabular_mlp/version_0/summary.json").read_text())
    assert (told["dataset"], told["status"]) == ("flats", "finished")
    header, rows = table("flats.csv")
    rents = np.array([float(row[-1]) for row in rows])
    assert told["test_rmse"] < 0.4 * rents.std()
    assert told["test_rmse"] ** 2 == pytest.approx(told["test_loss"] * rents.var(), rel=1e-3)

    predict = ["predict", CONFIG, *QUIET, *SMALL_ARGUMENTS, "--ckpt=last"]
    assert main([*predict, "--output=tested.csv"]) == 0
    found_header, found = table("tested.csv")
    assert found_header == ["rent"]
    assert 60 < len(found) < 180
    # New rows, without the target, the other way round: predictions in their order.
    for name, part in (("new.csv", rows[:50]), ("back.csv", rows[:50][::-1])):
        with open(name, "w", newline="") as file:
            csv.writer(file).writerows([header[:-1], *[row[:-1] for row in part]])
        assert main([*predict, f"--output=out_{name}", f"--data.init_args.predict_path={name}"]) == 0
    forth, back = (np.array(table(f"out_{name}.csv")[1], float)[:, 0] for name in ("new", "back"))
    assert np.allclose(forth, back[::-1], rtol=1e-4)
    assert np.sqrt(((forth - rents[:50]) ** 2).mean()) < 0.5 * rents.std()


def test_text_is_classified(recipe, made):
    args = SMALL | {"data__init_args__target": "district", "optimizer__init_args__lr": 0.01}
    run = made(**args, trainer__max_epochs=3)
    run.trainer.fit(run.module, datamodule=run.data)
    assert run.module.classes == ["harbour", "hill", "market", "mill", "station"]
    assert {"val_loss", "val_acc"} <= set(run.trainer.callback_metrics)
    (batch,) = run.trainer.predict(run.module, datamodule=run.data)
    names = [f"p({name})" for name in run.module.classes]
    assert list(batch) == ["district", *names]
    probability = np.stack([batch[name].numpy() for name in names], axis=1)
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)
    assert batch["district"].tolist() == [run.module.classes[k] for k in probability.argmax(axis=1)]


def test_a_checkpoint_knows_its_columns(recipe, made):
    run = made(**SMALL, trainer__max_epochs=1)
    run.trainer.fit(run.module, datamodule=run.data)
    model = recipe.TabularMLP.load_from_checkpoint(run.trainer.checkpoint_callback.best_model_path)
    assert model.target == "rent"
    batch = [fw.tensor(a) for a in next(iter(run.data.test_dataloader()))]
    with fw.no_grad():
        mine, theirs = (m.eval().predict_step(batch, 0)["rent"].numpy() for m in (model, run.module))
    assert mine.tolist() == theirs.tolist()


class StopAt(fw.callbacks.Callback):
    """Ctrl-C after so many updates."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_goes_on_within_a_block(made):
    def weights(run):
        return {name: value.numpy().tolist() for name, value in run.module.state_dict().items()}

    whole, first, second = (made(**SMALL, trainer__max_epochs=2) for _ in range(3))
    whole.trainer.fit(whole.module, datamodule=whole.data)
    fw.seed_everything(0)
    first.trainer.callbacks.append(StopAt(37))
    with pytest.raises(Interrupted) as stop:
        first.trainer.fit(first.module, datamodule=first.data)
    second.trainer.fit(second.module, datamodule=second.data, ckpt_path=stop.value.checkpoint)
    assert second.trainer.global_step == whole.trainer.global_step
    assert weights(second) == weights(whole)


@pytest.mark.parametrize(
    ("columns", "categorical"), [("x,y,target", "auto"), ("kind,target", "auto"), ("x,code,target", "[code]")]
)
def test_tables_of_numbers_or_categories_alone(made, columns, categorical):
    values = {"x": "{k}", "y": "{k}.5", "kind": "k{m}", "code": "{m}", "target": "{k}"}
    lines = [columns, *[",".join(values[name].format(k=k, m=k % 3) for name in columns.split(",")) for k in range(90)]]
    Path("flats.csv").write_text("\n".join(lines) + "\n")
    run = made(**SMALL | {"data__init_args__target": "target", "data__init_args__categorical": categorical},
               trainer__max_epochs=2)  # fmt: skip
    run.trainer.fit(run.module, datamodule=run.data)
    (batch,) = run.trainer.predict(run.module, datamodule=run.data)
    assert np.isfinite(batch["target"].numpy()).all()


def test_mistakes_are_explained(capsys):
    train = ["train", CONFIG, *QUIET]
    assert main([*train, "--data.init_args.example_rows=0"]) == 2
    assert "flats.csv" in capsys.readouterr().err
    assert main([*train, *SMALL_ARGUMENTS, "--data.init_args.target=rents"]) == 2
    told = capsys.readouterr().err
    assert "there is no column 'rents', named by target" in told
    assert "Did you mean 'rent'?" in told
    assert not Path("runs").exists()


MEMORY = """
import sys
sys.path.insert(0, {root!r})
from framework.cli.main import main
assert main([{command!r}, {config!r}, *sys.argv[1:]]) == 0
with open("/proc/self/status") as file:  # of this program alone; getrusage counts what was there before it, too
    print(next(int(line.split()[1]) for line in file if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_buffer_not_by_the_file(recipe, tmp_path):
    """Ten times the rows must cost less than what one more block takes while it is read."""
    peaks = []
    for rows in (100_000, 1_000_000):
        recipe.write_example(tmp_path / f"{rows}.csv", rows)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY.format(root=str(ROOT), command="train", config=CONFIG), *QUIET,
             f"--data.init_args.path={rows}.csv", "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0",
             "--data.init_args.buffer=5000", "--data.init_args.batch_size=2000"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]) * 1024)
    data = recipe.Table(str(tmp_path / "100000.csv"), "rent", buffer=5000)
    data.setup("fit")
    tracemalloc.start()
    data.table.read_block(0)
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    file = (tmp_path / "1000000.csv").stat().st_size
    print(f"file {file / 1e6:.1f} MB, peaks {peaks}, reading a block takes {reading}")
    assert file > 30e6
    assert peaks[1] - peaks[0] < reading, (peaks, reading)
