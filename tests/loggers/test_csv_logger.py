"""The rows that a run leaves behind, with and without interruptions."""

from __future__ import annotations

import csv
import json
import math
import random
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from framework.errors import ConfigError, DataError
from framework.loggers import CSVLogger
from framework.loggers import csv as csv_logger


def attached(folder: Path, **arguments) -> CSVLogger:
    logger = CSVLogger(**arguments)
    logger.attach(folder)
    return logger


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_wall(folder: Path) -> str:
    """The table's text without the last column, which is the wall time."""
    return "\n".join(line.rpartition(",")[0] for line in (folder / "metrics.csv").read_text().splitlines())


def test_values_of_one_step_are_one_row(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"epoch": 0, "train_loss": 0.5}, 1)
    logger.log_metrics({"lr": 0.1}, 1)
    logger.log_metrics({"epoch": 0, "train_loss": 0.25}, 2)
    logger.finalize("success")
    assert [{k: v for k, v in row.items() if k != "wall_s"} for row in lines(tmp_path)] == [
        {"step": 1, "epoch": 0, "train_loss": 0.5, "lr": 0.1},
        {"step": 2, "epoch": 0, "train_loss": 0.25},
    ]
    assert without_wall(tmp_path).splitlines() == ["step,epoch,train_loss,lr", "1,0,0.5,0.1", "2,0,0.25,"]


def test_columns_come_in_order_of_first_appearance_between_the_fixed_ones(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"z": 1.0}, 1)
    logger.log_metrics({"a": 2.0, "epoch": 1}, 2)
    logger.log_metrics({"m,x": 3.0, "z": 4.0}, 3)
    logger.finalize("success")
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert next(csv.reader(file)) == ["step", "epoch", "z", "a", "m,x", "wall_s"]
    assert table(tmp_path)[2]["m,x"] == "3.0"


def test_numbers_survive_exactly(tmp_path):
    rng = random.Random(0)
    values = [rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300) for _ in range(200)]
    values += [math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324, 0.0, 3]
    logger = attached(tmp_path)
    for step, value in enumerate(values):
        logger.log_metrics({"x": value}, step)
    logger.log_metrics({"x": np.float64(0.1), "y": np.float32(0.1), "n": np.int64(7)}, len(values))
    logger.finalize("success")
    for form in ([row["x"] for row in table(tmp_path)], [row["x"] for row in lines(tmp_path)]):
        assert list(map(repr, map(float, form[: len(values)]))) == list(map(repr, map(float, values)))
    assert table(tmp_path)[-1]["x"] == "0.1"
    assert float(table(tmp_path)[-1]["y"]) == float(np.float32(0.1))
    assert lines(tmp_path)[-1]["n"] == 7


def test_every_json_line_is_strict_json(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"x": math.nan, 'quo"ted': math.inf}, 1)
    logger.finalize("success")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert math.isnan(float(row["x"]))
    assert float(row['quo"ted']) == math.inf


def test_a_lower_step_is_refused(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"x": 1.0}, 5)
    with pytest.raises(DataError, match="step 4 after values for step 5"):
        logger.log_metrics({"x": 1.0}, 4)


def test_a_test_after_the_fit_joins_the_last_row(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 0.5}, 1)
    logger.log_metrics({"loss": 0.25}, 2)
    logger.finalize("success")
    logger.log_metrics({"test_acc": 0.98}, 2)
    logger.finalize("success")
    assert [row["step"] for row in lines(tmp_path)] == [1, 2]
    assert lines(tmp_path)[1]["test_acc"] == 0.98
    assert without_wall(tmp_path).splitlines()[1:] == ["1,,0.5,", "2,,0.25,0.98"]
    logger.log_metrics({"test_acc": 0.99}, 2)  # a second test, and no new column this time
    logger.finalize("success")
    assert without_wall(tmp_path).splitlines()[1:] == ["1,,0.5,", "2,,0.25,0.99"]


def test_without_a_step_the_latest_one_is_meant(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"loss": 0.5}, 3)
    logger.log_metrics({"note": 1.0})
    logger.finalize("success")
    logger.log_metrics({"more": 2.0})
    logger.finalize("success")
    assert [row["step"] for row in lines(tmp_path)] == [3]
    assert set(lines(tmp_path)[0]) == {"step", "loss", "note", "more", "wall_s"}


def test_no_file_is_made_before_the_first_row(tmp_path):
    logger = attached(tmp_path / "run")
    logger.save()
    logger.finalize("failed")
    logger.state_dict()
    assert not (tmp_path / "run").exists()


def test_without_a_folder_it_says_what_to_do():
    with pytest.raises(ConfigError, match="save_dir"):
        CSVLogger().log_metrics({"x": 1.0}, 1)


def test_own_folder_takes_the_next_free_version(tmp_path):
    for number in range(3):
        logger = attached(tmp_path / "elsewhere", save_dir=tmp_path / "logs", name="exp", prefix="a")
        logger.log_metrics({"x": 1.0}, 1)
        logger.finalize("success")
        assert logger.log_dir == str(tmp_path / "logs" / "exp" / f"version_{number}")
        assert (logger.name, logger.version) == ("exp", number)
    assert table(Path(logger.log_dir))[0]["a-x"] == "1.0"
    assert not (tmp_path / "elsewhere").exists()


def test_a_taken_version_is_refused_before_anything_is_touched(tmp_path):
    first = attached(tmp_path, save_dir=tmp_path, name="exp", version="mine")
    first.log_metrics({"x": 1.0}, 1)
    first.finalize("success")
    before = (tmp_path / "exp" / "mine" / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError, match="already holds the rows"):
        attached(tmp_path, save_dir=tmp_path, name="exp", version="mine")
    assert (tmp_path / "exp" / "mine" / "metrics.csv").read_bytes() == before


def test_hyperparameters_are_written_without_calling_any(tmp_path):
    import yaml

    def explode():
        raise AssertionError("a hyper-parameter was called")

    logger = attached(tmp_path)
    logger.log_hyperparams({"lr": 0.1, "sizes": (3, 4), "act": explode, "cls": Path, "a": np.arange(3), "n": None})
    got = yaml.safe_load((tmp_path / "hparams.yaml").read_text())
    assert got["lr"] == 0.1
    assert got["sizes"] == [3, 4]
    assert got["act"].endswith("explode")
    assert got["cls"] == "pathlib.Path"
    assert got["a"] == [0, 1, 2]
    assert got["n"] is None


# -- interruption and resume -----------------------------------------------------------------------


def events() -> list[tuple[dict[str, float], int]]:
    """What a small training logs: steps, validations, an epoch's means, columns that come late."""
    out: list[tuple[dict[str, float], int]] = []
    for step in range(1, 13):
        epoch = (step - 1) // 4
        out.append(({"epoch": epoch, "train_loss": 1 / step}, step))
        if step % 2 == 0:
            out.append(({"lr": 0.1 / step}, step))
        if step % 4 == 0:
            out.append(({"epoch": epoch, "val_loss": 2 / step}, step))
            out.append(({"epoch": epoch, "train_acc": step / 13}, step))
        if step == 11:
            out.append(({"late": math.nan}, step))
    return out


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    logger = attached(folder)
    for metrics, step in events():
        logger.log_metrics(metrics, step)
    logger.finalize("success")
    return without_wall(folder)


def damage(folder: Path, how: str) -> None:
    """What a SIGKILL, or a later row, leaves in the files after the checkpoint was taken."""
    if how == "torn" and (folder / "metrics.jsonl").exists():
        with open(folder / "metrics.jsonl", "ab") as file:
            file.write(b'{"step":99,"tr')
        with open(folder / "metrics.csv", "ab") as file:
            file.write(b"99,")
    if how == "table lost":
        (folder / "metrics.csv").unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["clean", "torn", "table lost", "finalized"])
@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
@pytest.mark.parametrize("order", ["attach first", "load first"])
def test_resumed_at_any_cut_the_table_is_that_of_a_run_never_stopped(tmp_path, uninterrupted, how, ahead, order):
    """The checkpoint is taken after `cut` calls; the run is killed `ahead` calls later."""
    all_events = events()
    for cut in range(len(all_events) + 1):
        folder = tmp_path / f"{cut}"
        logger = attached(folder)
        for metrics, step in all_events[:cut]:
            logger.log_metrics(metrics, step)
        state = json.loads(json.dumps(logger.state_dict()))
        for metrics, step in all_events[cut : cut + ahead]:
            logger.log_metrics(metrics, step)
        if how == "finalized":
            logger.finalize("interrupted")
        else:
            logger.save()
        damage(folder, how)

        resumed = CSVLogger()
        if order == "attach first":
            resumed.attach(folder)
            resumed.load_state_dict(state)
        else:
            resumed.load_state_dict(state)
            resumed.attach(folder)
        for metrics, step in all_events[cut:]:
            resumed.log_metrics(metrics, step)
        resumed.finalize("success")
        assert without_wall(folder) == uninterrupted, f"cut {cut}"
        assert [row["step"] for row in lines(folder)] == list(range(1, 13))


def test_interrupted_many_times_in_a_row(tmp_path, uninterrupted):
    rng = random.Random(1)
    all_events = events()
    for trial in range(50):
        folder = tmp_path / f"{trial}"
        position, state = 0, {}
        while position < len(all_events):
            logger = CSVLogger()
            if state:
                logger.load_state_dict(state)
            logger.attach(folder)
            save_at = min(position + rng.randint(0, 5), len(all_events))
            for metrics, step in all_events[position:save_at]:
                logger.log_metrics(metrics, step)
            position, state = save_at, logger.state_dict()
            for metrics, step in all_events[save_at : save_at + rng.randint(0, 6)]:
                logger.log_metrics(metrics, step)
            if rng.random() < 0.5:
                logger.save()
        logger = CSVLogger()
        logger.load_state_dict(state)
        logger.attach(folder)
        logger.finalize("success")
        assert without_wall(folder) == uninterrupted


def test_a_resumed_run_that_logs_nothing_still_drops_what_came_after(tmp_path):
    logger = attached(tmp_path)
    logger.log_metrics({"x": 1.0}, 1)
    state = logger.state_dict()
    logger.log_metrics({"x": 2.0}, 2)
    logger.finalize("failed")
    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    resumed.finalize("success")
    assert [row["step"] for row in lines(tmp_path)] == [1]


def test_rows_lost_from_the_file_are_counted_in_a_warning(tmp_path):
    logger = attached(tmp_path)
    for step in range(1, 6):
        logger.log_metrics({"x": 1.0}, step)
    state = logger.state_dict()
    kept = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:2]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(kept))
    resumed = attached(tmp_path)
    resumed.load_state_dict(state)
    with pytest.warns(RuntimeWarning, match="lost 2 of the 4 rows"):
        resumed.log_metrics({"x": 1.0}, 6)
    resumed.finalize("success")
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 5, 6]


def test_resumed_in_another_folder_it_begins_there_quietly(tmp_path):
    logger = attached(tmp_path / "a")
    logger.log_metrics({"x": 1.0}, 1)
    logger.log_metrics({"x": 1.0}, 2)
    state = logger.state_dict()
    resumed = attached(tmp_path / "b")
    resumed.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.log_metrics({"x": 1.0}, 3)
        resumed.finalize("success")
    assert [row["step"] for row in lines(tmp_path / "b")] == [2, 3]


def test_resumed_with_an_own_folder_it_continues_that_version(tmp_path):
    logger = CSVLogger(tmp_path, name="exp")
    logger.log_metrics({"x": 1.0}, 1)
    state = logger.state_dict()
    logger.finalize("interrupted")
    resumed = CSVLogger(tmp_path, name="exp")
    resumed.load_state_dict(state)
    resumed.attach(tmp_path / "run")
    resumed.log_metrics({"x": 2.0}, 2)
    resumed.finalize("success")
    assert sorted(path.name for path in (tmp_path / "exp").iterdir()) == ["version_0"]
    assert [row["step"] for row in lines(tmp_path / "exp" / "version_0")] == [1, 2]


def test_a_full_disk_leaves_whole_rows_and_loses_none_when_there_is_room_again(tmp_path, monkeypatch):
    """The kernel's own limit on file size stands for the full disk."""
    import resource
    import signal

    monkeypatch.setattr(csv_logger, "time", SimpleNamespace(perf_counter=lambda: 0.0))  # rows wait until they are saved
    logger = attached(tmp_path)
    logger.log_metrics({"x": 1.0}, 1)
    logger.log_metrics({"x": 1.0}, 2)
    logger.save()
    size = (tmp_path / "metrics.jsonl").stat().st_size
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
        for step in (3, 4):
            logger.log_metrics({"x": 1.0}, step)
        with pytest.raises(OSError):
            logger.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert (tmp_path / "metrics.jsonl").stat().st_size == size
    logger.log_metrics({"x": 1.0}, 5)
    logger.finalize("success")
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in table(tmp_path)] == ["1", "2", "3", "4", "5"]
