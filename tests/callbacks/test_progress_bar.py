"""What a run shows: a bar in a terminal, sparse lines in a file. Real trainings, a real pseudo-terminal."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import TQDMProgressBar
from framework.callbacks import progress_views as views
from framework.callbacks.progress_views import Lines
from framework.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
TRAINING = """
    import sys, time
    import numpy as np
    import framework as fw
    from framework.callbacks import *

    class Line(fw.TrainModule):
        def __init__(self, pause=0.0, slow_validation=0.0):
            super().__init__()
            self.layer = fw.nn.Linear(2, 1)
            self.pause, self.slow = pause, slow_validation
        def training_step(self, batch, batch_idx):
            time.sleep(self.pause)
            x, y = batch
            loss = ((self.layer(x) - y) ** 2).mean()
            self.log("train_loss", loss)
            return loss
        def validation_step(self, batch, batch_idx):
            time.sleep(self.slow)
            x, y = batch
            self.log_dict({"val_loss": ((self.layer(x) - y) ** 2).mean(), "val_acc": 0.5})
        test_step = validation_step
        def configure_optimizers(self):
            return fw.optim.SGD(self.parameters(), lr=0.01)

    def loader(batches):
        x = np.random.default_rng(0).normal(size=(2 * batches, 2)).astype(np.float32)
        return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1]), batch_size=2)

    def fit(module, batches=20, val_batches=3, **arguments):
        trainer = fw.Trainer(backend="cpu", enable_model_summary=False, **arguments)
        trainer.fit(module, loader(batches), loader(val_batches))
        return trainer
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(TRAINING) + textwrap.dedent(body)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}


def in_file(body: str, tmp_path: Path) -> str:
    """The run's output, both streams, as a log file gets it."""
    done = subprocess.run(
        script(body),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def in_terminal(body: str, tmp_path: Path, columns: int = 120) -> str:
    """The run's output in a pseudo-terminal of so many columns; 0 does not tell its width."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    import fcntl
    import struct
    import termios

    own, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30 if columns else 0, columns, 0, 0))
    child = subprocess.Popen(script(body), cwd=tmp_path, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(own, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(own)
    assert child.wait() == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("columns", [200, 120, 80, 0])
def test_a_terminal_gets_a_bar_with_everything_on_it(tmp_path, columns):
    shown = in_terminal("fit(Line(pause=0.02), max_epochs=2)", tmp_path, columns)
    frames = shown.split("\r")
    number = r"\d+\.\d{4}"
    assert any(re.search(rf"^Epoch 0/1 step 1?\d .*it/s, loss={number}\]?$", frame) for frame in frames), shown
    full = rf"^Epoch 1/1 step 40 .*it/s, loss={number} val_loss={number} val_acc=0.5000\]?$"
    assert any(re.search(full, frame) for frame in frames), shown
    seen = [re.sub(r"\x1b\[\w", "", frame).rstrip("\n") for frame in frames]  # a slow validation moves the cursor, too
    assert not columns or max(map(len, seen)) <= columns


def test_a_bar_is_drawn_by_the_clock_not_by_the_step(tmp_path):
    body = """
    began = time.monotonic()
    fit(Line(), batches=1500, max_epochs=1)
    print("took", time.monotonic() - began)
    """
    shown = in_terminal(body, tmp_path)
    seconds = float(shown.rsplit("took", 1)[1])
    assert shown.count("it/s") < 20 + seconds / views.BAR_S  # those of the beginning and the end, and of validations


def test_a_long_validation_gets_a_bar_of_its_own_which_goes_away(tmp_path):
    shown = in_terminal("fit(Line(slow_validation=0.15), batches=2, val_batches=9, max_epochs=1)", tmp_path)
    assert re.search(r"Validation +\d+%\|.*/9 ", shown)
    assert re.search(r"Sanity check|Validation", shown)
    assert "Validation" not in shown.rsplit("Epoch 0/0", 1)[1]


def test_messages_do_not_tear_the_bar(tmp_path):
    body = "fit(Line(pause=0.02), max_epochs=2, callbacks=[ModelCheckpoint(monitor='val_loss', verbose=True)])"
    shown = in_terminal(body, tmp_path)
    whole = [line.rpartition("\r")[2] for line in shown.replace("\r\n", "\n").split("\n")]
    assert (
        sum(bool(re.fullmatch(r"Epoch \d, global step \d+: 'val_loss' is [\d.]+; saved '.*'", line)) for line in whole)
        == 2
    )


def test_an_error_has_the_screen_for_itself(tmp_path):
    body = """
    class Fails(Line):
        def training_step(self, batch, batch_idx):
            if batch_idx == 9:
                raise ZeroDivisionError("by intention")
            return super().training_step(batch, batch_idx)
    try:
        fit(Fails(pause=0.02), max_epochs=1)
    except ZeroDivisionError as error:
        print("the end:", error)
    """
    assert in_terminal(body, tmp_path).endswith("\nthe end: by intention\r\n")


def test_a_file_gets_a_line_an_epoch(tmp_path):
    lines = in_file("fit(Line(), max_epochs=3)", tmp_path).splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines):
        left = "" if epoch == 2 else r"  ETA 0:00:\d\d"
        pattern = (
            rf"Epoch {epoch}/2  step {20 * (epoch + 1)}  [\d.]+ it/s{left}  loss=[\d.e-]+"
            r"  val_loss=[\d.e-]+  val_acc=0.5000"
        )
        assert re.fullmatch(pattern, line), line


@pytest.mark.parametrize(
    ("epochs", "batches"),
    [
        (100, 10),  # as many lines as the next
        pytest.param(100, 100, marks=pytest.mark.slow),
        pytest.param(1, 10_000, marks=pytest.mark.slow),
        pytest.param(10_000, 1, marks=pytest.mark.slow),
    ],
)
def test_ten_thousand_steps_are_less_than_20_kB(tmp_path, epochs, batches):
    body = f"fit(Line(), batches={batches}, val_batches=1, max_epochs={epochs}, enable_checkpointing=False)"
    log = in_file(body, tmp_path)
    assert 0 < len(log) < 20_000
    assert log.splitlines()[-1].startswith(f"Epoch {epochs - 1}/{epochs - 1}  step {epochs * batches}  ")
    assert "\r" not in log


def test_the_last_line_says_where_training_ended(tmp_path):
    log = in_file("fit(Line(), batches=7, max_epochs=-1, max_steps=1000, enable_checkpointing=False)", tmp_path)
    assert "step 1000  " in log.splitlines()[-1]


def test_off_means_silent(tmp_path):
    for off in ("enable_progress_bar=False", "callbacks=[TQDMProgressBar(refresh_rate=0)]"):
        assert in_file(f"fit(Line(), max_epochs=2, {off})", tmp_path) == ""
        assert "\r" not in in_terminal(f"fit(Line(), max_epochs=2, {off})", tmp_path).replace("\r\n", "\n")


def test_only_a_terminal_on_both_streams_gets_the_bar(tmp_path):
    """With standard output in a file, the file gets the lines."""
    with open(tmp_path / "log", "w") as log:
        log.flush()
        body = f"sys.stdout = open({str(tmp_path / 'log')!r}, 'w'); fit(Line(), max_epochs=2); sys.stdout.close()"
        shown = in_terminal(body, tmp_path)
    assert shown == ""
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_metrics_for_the_bar_come_first_and_the_loss_is_not_shown_twice(tmp_path):
    body = """
    class Chosen(Line):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("my_loss", loss, prog_bar=True)
            self.log("other", 3.0)
            return {"loss": loss}
    fit(Chosen(), max_epochs=1)
    """
    (line,) = in_file(body, tmp_path).splitlines()
    assert re.search(r"it/s  my_loss=[\d.e-]+  val_loss=", line), line


def test_tqdm_is_not_imported_where_there_is_no_bar(tmp_path):
    assert "no tqdm" in in_file(
        "fit(Line(), max_epochs=1); print('tqdm' if 'tqdm' in sys.modules else 'no tqdm')", tmp_path
    )


def test_a_long_epoch_has_a_line_every_thirty_seconds_then_rarer(monkeypatch, capsys):
    """The clock is turned by hand: a day of steps of one second each."""
    now = 0.0
    monkeypatch.setattr(views.time, "monotonic", lambda: now)
    lines = Lines()
    lines.start(epochs=1, step=0, steps=86_400)
    lines.begin("Epoch 0/0", 86_400, 0)
    times = []
    for step in range(1, 86_401):
        now = float(step)
        if now >= lines.due:
            lines.draw(step, step, {"loss": 0.5})
            times.append(now)
    log = capsys.readouterr().out
    assert times[:3] == [30.0, 60.0, 90.0]
    assert all(b - a >= 30.0 for a, b in itertools.pairwise(times))
    assert len(log) < 20_000
    assert log.splitlines()[0] == "Epoch 0/0  batch 30/86400  step 30  1.0 it/s  ETA 23:59:30  loss=0.5000"


def test_validation_does_not_count_into_the_rate(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(views.time, "monotonic", lambda: now)
    lines = Lines()
    lines.start(epochs=2, step=0, steps=200)
    lines.begin("Epoch 0/1", 100, 0)
    now = 10.0
    lines.begin_side("Validation", 5)
    now = 55.0
    lines.draw_side(3)
    now = 100.0
    lines.end_side()
    lines.end(100, {})
    assert capsys.readouterr().out.splitlines() == [
        "Validation  batch 3/5",
        "Epoch 0/1  step 100  10.0 it/s  ETA 0:01:40",  # but into the time that is left
    ]


@pytest.mark.parametrize(("first", "last"), [(50, 100), (0, float("inf")), (0, 10**17), (0, sys.maxsize)])
def test_the_time_left_is_that_of_this_process(monkeypatch, capsys, first, last):
    """A resumed run knows nothing of the speed before; one without an end has no time left to tell."""
    now = 0.0
    monkeypatch.setattr(views.time, "monotonic", lambda: now)
    lines = Lines()
    lines.start(epochs=1, step=first, steps=last)
    lines.begin("Epoch 0/0", 100, first)
    now = 10.0
    lines.draw(first + 5, first + 5, {})
    assert capsys.readouterr().out.rstrip().endswith("0.5 it/s  ETA 0:01:30" if first else "0.5 it/s")


NOTEBOOK = """
    import types
    sys.modules["IPython"] = types.ModuleType("IPython")
    sys.modules["IPython"].get_ipython = lambda: types.SimpleNamespace(kernel="a kernel" if %r else None)
    fit(Line(pause=0.02), max_epochs=2)
"""


def test_a_notebook_gets_lines_although_its_streams_say_that_they_are_a_terminal(tmp_path):
    shown = in_terminal(NOTEBOOK % True, tmp_path)
    assert [line.split("  ")[:2] for line in shown.splitlines()] == [["Epoch 0/1", "step 20"], ["Epoch 1/1", "step 40"]]
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|[^\x00-\x7f]", shown)
    assert "\r" in in_terminal(NOTEBOOK % False, tmp_path).replace("\r\n", "\n")  # IPython in a terminal: the bar


@pytest.mark.parametrize("there", [False, True])
def test_a_program_without_streams_trains(tmp_path, monkeypatch, there):
    """As under pythonw, or in a daemon."""
    with open(tmp_path / "closed", "w") as closed:
        pass
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, closed if there else None)
    try:
        trainer = fw.Trainer(backend="cpu", max_epochs=1, default_root_dir=tmp_path)
        trainer.fit(Quiet(), fw.data.DataLoader(fw.data.ArrayDataset(np.ones((6, 2), np.float32)), batch_size=2))
    finally:
        monkeypatch.undo()
    assert trainer.global_step == 3


class Quiet(fw.TrainModule):
    def __init__(self):
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.1)


def test_a_negative_rate_is_refused():
    with pytest.raises(ConfigError, match="refresh_rate=-1"):
        TQDMProgressBar(refresh_rate=-1)


def test_a_resumed_epoch_starts_where_it_was(tmp_path):
    body = """
    class Stops(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 12 and not trainer.resume_source:
                raise ZeroDivisionError
    saver = ModelCheckpoint(every_n_train_steps=10)
    try:
        fit(Line(pause=0.02), max_epochs=1, callbacks=[saver, Stops()])
    except ZeroDivisionError:
        pass
    print("again")
    saver = ModelCheckpoint(every_n_train_steps=10)
    trainer = fw.Trainer(backend="cpu", enable_model_summary=False, max_epochs=1, callbacks=[saver])
    source = fw.train.checkpoint.newest_valid(trainer.default_root_dir + "/runs/line/version_0/checkpoints")
    trainer.fit(Line(pause=0.02), loader(20), loader(3), ckpt_path=source)
    """
    again = in_terminal(body, tmp_path).partition("again")[2]
    counts = [int(n) for n in re.findall(r"\| (\d+)/20 ", again)]
    assert counts[-1] == 20
    assert min(n for n in counts if n) >= 10
    assert np.all(np.diff([n for n in counts if n]) >= 0)


def test_the_trainer_adds_one_unless_there_is_one():
    bars = [c for c in fw.Trainer(backend="cpu", max_epochs=1).callbacks if isinstance(c, TQDMProgressBar)]
    assert len(bars) == 1
    own = TQDMProgressBar(leave=True)
    trainer = fw.Trainer(backend="cpu", max_epochs=1, callbacks=own)
    assert [c for c in trainer.callbacks if isinstance(c, TQDMProgressBar)] == [own]
