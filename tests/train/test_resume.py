from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback
from framework.train import checkpoint
from framework.train.signals import Interrupted, StopSignals

PROGRAM = Path(__file__).with_name("toy_run.py")


def assert_equal(a: Any, b: Any, place: str = "") -> None:
    """Bit for bit, with the place of the first difference."""
    if isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_equal(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), place
        for i, (x, y) in enumerate(zip(a, b)):
            assert_equal(x, y, f"{place}[{i}]")
    elif hasattr(a, "shape"):
        x, y = (np.asarray(v.detach().numpy() if isinstance(v, fw.Tensor) else v) for v in (a, b))
        assert x.dtype == y.dtype, place
        assert x.tobytes() == y.tobytes(), place
    else:
        assert a == b or (a != a and b != b), (place, a, b)


def run(toy: ModuleType, root: Path, source: Path | None = None) -> tuple[fw.Trainer, dict[str, Any]]:
    fw.seed_everything(3)
    train, val = toy.loaders()
    trainer = toy.make_trainer(root)
    trainer.fit(toy.ToyModule(), train, val, ckpt_path=source)
    return trainer, toy.final_state(trainer)


@pytest.fixture(scope="module")
def whole(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("whole")
    trainer, state = run(toy, root)
    return Path(trainer.log_dir), state


def test_from_every_checkpoint_the_run_ends_in_the_same_bits(
    toy: ModuleType, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = whole
    sources = [p.name for p in checkpoint.valid_checkpoints(folder / "checkpoints")]
    assert any(name.endswith("-s") for name in sources)
    assert any(name.endswith("-v") for name in sources)
    assert len(sources) > 15
    for name in sources:
        root = tmp_path / name
        shutil.copytree(folder, root / "version_0")
        source = root / "version_0" / "checkpoints" / name
        for other in checkpoint.valid_checkpoints(source.parent):  # only what was there when the run was killed
            if checkpoint._manifest(other)["saved_at"] > checkpoint._manifest(source)["saved_at"]:
                shutil.rmtree(other)
        fw.seed_everything(99)  # whatever has happened in this process before
        trainer, state = run(toy, root, source)
        assert trainer.log_dir == str(root / "version_0")
        assert trainer.callbacks[0].batches == expected["progress"]["total_batches"]
        assert_equal(expected, state, name)


# -- processes that are killed ---------------------------------------------------------------------


def child(root: Path, **environment: str) -> subprocess.Popen[str]:
    """The program, going on from the newest valid checkpoint where there is one."""
    source = checkpoint.newest_valid(root / "runs" / "toy" / "version_0" / "checkpoints")
    command = [sys.executable, str(PROGRAM), str(root), *([str(source)] if source else [])]
    if source is None:
        shutil.rmtree(root / "runs", ignore_errors=True)  # it died before its first checkpoint: a new run
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> int:
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


@pytest.mark.parametrize(
    "moments",
    [["write 9 KILL", "validation 6 KILL", "train 4 KILL"], ["train 2 KILL", "train 9 KILL", "write 31 KILL"]],
)
def test_killed_in_a_write_a_validation_and_a_window_it_ends_in_the_same_bits(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, moments: list[str]
) -> None:
    for moment in moments:
        assert finish(child(tmp_path, TOY_SIGNAL=moment)) == -signal.SIGKILL
    assert finish(child(tmp_path)) == 0
    assert_equal(whole[1], checkpoint.load(tmp_path / "final")["state"])


@pytest.mark.parametrize(
    ("moment", "code"),
    [("train 5 INT", 130), ("train 11 TERM", 143), ("validation 7 INT", 130), ("write 14 TERM", 143)],
)
def test_a_signal_stops_after_the_step_saves_and_the_rest_is_the_same(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, moment: str, code: int
) -> None:
    process = child(tmp_path, TOY_SIGNAL=moment)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert f"{moment.split()[-1]}: stopping after this step" in errors
    checkpoints = tmp_path / "runs" / "toy" / "version_0" / "checkpoints"
    saved = checkpoint.read_pointer(checkpoints, "last")
    assert saved is not None
    assert saved == checkpoint.newest_valid(checkpoints)
    assert output.splitlines()[-1] == f"Interrupted {saved}"
    assert f"saved {saved}" in output
    assert f"ckpt_path='{saved}'" in output
    assert json.loads((checkpoints.parent / "summary.json").read_text())["status"] == "interrupted"
    assert finish(child(tmp_path)) == 0
    assert_equal(whole[1], checkpoint.load(tmp_path / "final")["state"])
    assert json.loads((checkpoints.parent / "summary.json").read_text())["status"] == "finished"


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    process = child(tmp_path, TOY_SIGNAL="train 5 INT INT")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert output.splitlines()[-1] == "KeyboardInterrupt None"
    folder = tmp_path / "runs" / "toy" / "version_0"
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    saved = {p.name for p in checkpoint.valid_checkpoints(folder / "checkpoints")}
    assert saved == {"epoch=0-step=1-s", "epoch=0-step=1", "epoch=0-step=1-v"}  # those from before


def test_a_signal_saves_also_where_nobody_reads_what_is_said_of_it(tmp_path: Path) -> None:
    """As in `… 2> >(tee log)`, where the same Ctrl-C ends the reader."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "TOY_SIGNAL": "train 5 INT"}
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(tmp_path)], env=environment, stderr=writer)
    os.close(writer)
    assert process.wait() == 130
    folder = tmp_path / "runs" / "toy" / "version_0"
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    saved = checkpoint.read_pointer(folder / "checkpoints", "last")
    assert saved is not None
    assert checkpoint.load(saved)["progress"]["total_batches"] == 5


def test_a_signal_while_the_handlers_are_put_back_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    class Before(dict[signal.Signals, Any]):
        def popitem(self) -> tuple[signal.Signals, Any]:
            if not stop.received:
                signal.raise_signal(signal.SIGINT)
            return super().popitem()

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        stop._before = Before(stop._before)
    assert stop.received == signal.SIGINT
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert "SIGINT: stopping after this step" in capfd.readouterr().err


def test_a_signal_that_comes_at_once_is_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real, before = signal.signal, signal.getsignal(signal.SIGINT)

    def install(number: signal.Signals, handler: Any) -> Any:
        replaced = real(number, handler)
        if not stop.received and number == signal.SIGINT:
            signal.raise_signal(number)
        return replaced

    stop = StopSignals()
    monkeypatch.setattr(signal, "signal", install)
    with stop:
        assert stop.received == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is before  # the second one acts as it always does


def test_a_signal_before_the_saved_state_is_in_place_loses_nothing(
    toy: ModuleType, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "version_0")
    source = tmp_path / "version_0" / "checkpoints" / "epoch=1-step=5-s"
    early = tmp_path / "early"

    class Early(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(early)
            os.kill(os.getpid(), signal.SIGINT)

    trainer = toy.make_trainer(tmp_path)
    trainer.callbacks.append(Early())
    fw.seed_everything(3)
    with pytest.raises(Interrupted) as caught:
        trainer.fit(toy.ToyModule(), *toy.loaders(), ckpt_path=source)
    assert caught.value.checkpoint == source
    assert caught.value.exit_code == 130
    shutil.copytree(early, source.parent / "early")
    _, state = run(toy, tmp_path, source.parent / "early")
    assert_equal(whole[1], state)


@pytest.mark.slow
@pytest.mark.soak
def test_killed_at_twenty_random_moments_it_ends_in_the_same_bits(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    began = time.monotonic()  # how long a whole run takes here, so that kills land inside it
    assert finish(child(tmp_path)) == 0
    duration = time.monotonic() - began
    kills = 0
    for round_ in range(40):
        root = tmp_path / str(round_)
        root.mkdir()
        while True:
            process = child(root)
            if kills >= 20:
                assert finish(process) == 0
                break
            try:
                process.wait(timeout=float(rng.uniform(0.4, 1.0)) * duration)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            if finish(process) == 0:
                break
        assert_equal(whole[1], checkpoint.load(root / "final")["state"], f"round {round_}")
        if kills >= 20:
            return
    raise AssertionError(f"only {kills} kills in 40 runs")
