"""`fw runs`: what run folders tell, broken ones among them, and the upload of offline W&B runs."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from framework.cli.runrecords import choose, find_runs, read_run
from framework.cli.wandbsync import offline_runs

ROWS = [{"step": s, "epoch": 0, "train_loss": 1.0 / s, "wall_s": 0.1} for s in range(1, 9)]


@pytest.fixture
def trained(fw, monkeypatch):
    """Two runs of one configuration name, with different rates."""
    monkeypatch.setenv("COLUMNS", "120")
    for lr in ("0.1", "0.01"):
        fw("train", "my.yaml", "--optimizer.init_args.lr", lr)
    os.utime("runs/my/version_0/config.yaml", (1, 1))
    return fw


def test_the_list_shows_every_run_newest_first(trained):
    done = trained("runs")
    assert done.code == 0
    head, first, second = done.out.splitlines()
    assert head.split() == ["run", "status", "epochs", "steps", "time", "began", "test_acc", "val_acc", "train_loss"]
    assert first.split()[:4] == ["my/version_1", "finished", "2", "6"]
    assert second.split()[:2] == ["my/version_0", "finished"]
    summary = json.loads(Path("runs/my/version_0/summary.json").read_text())
    assert float(second.split()[-1]) == pytest.approx(summary["metrics"]["train_loss"]["best"], rel=1e-3)
    assert trained("runs", "list").out == done.out
    assert trained("runs", "--root", "runs").out == done.out


def test_one_run_with_its_curves_and_checkpoints(trained):
    out = trained("runs", "show", "my").out
    assert "run      my/version_1" in out
    assert "model    mynet.MyNet" in out
    (line,) = [line for line in out.splitlines() if line.startswith("train_loss")]
    assert set(line.split()[-1]) <= set("▁▂▃▄▅▆▇█")
    assert "(last" in out
    assert out.count("runs/my/version_1/checkpoints/epoch=") == 1
    only = trained("runs", "show", "my/version_0", "--metric", "val_acc").out
    assert "val_acc" in only
    assert "train_loss" not in only


def test_two_runs_beside_each_other(trained):
    out = trained("runs", "compare", "my/version_0", "my/version_1").out
    assert "optimizer.init_args.lr  0.1           0.01" in out
    config, metrics = out.split("\n\n")[1:3]
    assert len(config.splitlines()) == 3  # nothing else differs
    (line,) = [line for line in metrics.splitlines() if line.startswith("test_acc")]
    assert line.split()[-1][0] in "+-"
    trained("train", "my.yaml", "--optimizer.init_args.lr", "0.1")
    assert "the configurations are equal" in trained("runs", "compare", "my/version_0", "my/version_2").out


def test_a_page(trained):
    done = trained("runs", "--html", "page.html")
    assert done.err == "fw: wrote page.html\n"
    text = Path("page.html").read_text()
    assert text.count("<path class='curve") >= 2
    assert "href='runs/my/version_1/checkpoints/epoch=" in text
    two = trained("runs", "compare", "my/version_0", "my/version_1", "--html", "two.html")
    assert two.code == 0
    assert "optimizer.init_args.lr" in Path("two.html").read_text()
    message = trained.refused("runs", "--html", "no/such/page.html")
    assert message == "--html no/such/page.html: No such file or directory"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("lst",), "fw runs lst: no such action. Did you mean 'list'?"),
        (("compare", "my"), "fw runs compare takes two runs or more: fw runs compare A B"),
        (("show",), "which run? fw runs show RUN"),
        (("show", "mine"), "no run 'mine'. There are my, my/version_0"),
        (("show", "my/version_7"), "no run 'my/version_7'. Did you mean 'my/version_0'?"),
        (("--metric", "val_ac"), "--metric val_ac: no run has logged it. Did you mean 'val_acc'?"),
        (("--root", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_mistakes(fw, argv, message):
    run = make(fw.folder / "runs" / "my" / "version_0")
    (run / "metrics.jsonl").write_text('{"step": 1, "val_acc": 0.5, "wall_s": 0.1}\n')
    assert fw.refused("runs", *argv) == message


def test_without_runs_it_says_so(fw):
    assert fw("runs").out.startswith("no runs here")


# -- broken folders --------------------------------------------------------------------------------


def make(folder: Path, summary: object = None, rows: list[dict] | None = None) -> Path:
    folder.mkdir(parents=True)
    text = json.dumps({"status": "finished", "epochs": 1, "steps": 8} if summary is None else summary)
    (folder / "summary.json").write_text(text)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS))
    return folder


BROKEN = {
    "none": lambda run: (run / "summary.json").unlink(),
    "empty": lambda run: (run / "summary.json").write_text(""),
    "half": lambda run: (run / "summary.json").write_text('{"status": "fin'),
    "list": lambda run: (run / "summary.json").write_text("[1]"),
    "binary": lambda run: (run / "summary.json").write_bytes(b"\xff\xfe\x00"),
    "folder": lambda run: ((run / "summary.json").unlink(), (run / "summary.json").mkdir()),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_run_is_listed_as_such(fw, how):
    make(fw.folder / "runs" / "good" / "version_0")
    BROKEN[how](make(fw.folder / "runs" / "bad" / "version_0"))
    done = fw("runs", "--html", "page.html")
    assert done.code == 0
    (line,) = [line for line in done.out.splitlines() if line.startswith("bad/version_0")]
    assert line.split()[1] == "broken"
    assert "summary.json" in done.out.splitlines()[-1]
    assert "good/version_0  finished" in done.out
    assert "broken" in Path("page.html").read_text()
    shown = fw("runs", "show", "bad").out
    assert "status   broken: " in shown or "status  broken: " in shown
    assert "train_loss" in shown  # the rows are there all the same


def test_odd_contents_do_no_harm(fw):
    run = make(
        fw.folder / "runs" / "odd" / "version_0",
        {"status": None, "epochs": "many", "steps": [1], "wall_s": "x", "metrics": [1], "test_acc": "good"},
    )
    lines = ["{", "[1]", '{"step": "a"}', '{"step": 1, "x": {"y": 1}}', '{"step": 2, "x": "NaN", "y": 1.0}', '{"st']
    (run / "metrics.jsonl").write_text("\n".join(lines))
    (run / "config.yaml").write_text("a: [")
    (run / "checkpoints").write_text("no folder")
    (fw.folder / "runs" / "odd" / "version_x").mkdir()
    (fw.folder / "runs" / "file").write_text("")
    for argv in ((), ("show", "odd"), ("compare", "odd", "odd/version_0"), ("--html", "page.html")):
        assert fw("runs", *argv).code == 0


def test_a_run_that_nobody_is_at_work_in_was_killed(tmp_path):
    run = make(tmp_path / "runs" / "a" / "version_0", {"status": "running"})
    (run / ".lock").touch()
    assert read_run(run).status == "killed"
    import fcntl

    with open(run / ".lock", "ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert read_run(run).status == "running"
    assert read_run(run).metrics["train_loss"] == {"last": 1 / 8, "min": 1 / 8, "max": 1.0}  # from the rows


def test_which_run_a_word_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (0, 2, 10):
        make(tmp_path / "runs" / "a" / f"version_{number}")
    runs = find_runs(Path())
    assert choose(runs, "a").name == "a/version_10"
    assert choose(runs, "a/version_2").name == "a/version_2"
    assert choose(runs, "runs/a/version_0").name == "a/version_0"
    assert choose(runs, "runs/a").name == "a/version_10"
    monkeypatch.chdir(tmp_path / "runs" / "a" / "version_2")
    assert choose([], ".").name == "a/version_2"


# -- offline W&B runs ------------------------------------------------------------------------------

FAKE = """#!{python}
import pathlib, sys
with open({log!r}, "a") as file:
    print(*sys.argv[1:], file=file)
for folder in sys.argv[2:]:
    if "bad" in folder:
        sys.exit(3)
    (next(pathlib.Path(folder).glob("run-*.wandb")).with_suffix(".wandb.synced")).touch()
"""


@pytest.fixture
def fake_wandb(fw, monkeypatch):
    """A program `wandb` that keeps a record of how it was called and marks what it was given, as W&B does."""
    log = fw.folder / "calls"
    program = fw.write("bin/wandb", FAKE.format(python=sys.executable, log=str(log)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    return log


def segment(run: Path, stamp: str, identity: str) -> Path:
    folder = run / "wandb" / f"offline-run-{stamp}-{identity}"
    folder.mkdir(parents=True)
    (folder / f"run-{identity}.wandb").touch()
    return folder


def test_sync_uploads_in_order_and_once(fw, fake_wandb):
    one, two = (make(fw.folder / "runs" / "a" / f"version_{n}") for n in range(2))
    later = segment(two, "20260102_000000", "bbbb")
    resumed = segment(one, "20260103_000000", "aaaa")
    first = segment(one, "20260101_000000", "aaaa")
    (one / "wandb" / "latest-run").symlink_to(first)
    done = fw("runs", "sync")
    assert done.code == 0, done.err
    told = [line.split() for line in fake_wandb.read_text().splitlines()]
    places = [[str(path.relative_to(fw.folder)) for path in paths] for paths in ([first, resumed], [later])]
    assert told == [["sync", *paths] for paths in places]
    assert fw("runs", "sync").err == "fw: nothing to upload\n"
    segment(two, "20260104_000000", "bbbb")  # continued meanwhile
    assert fw("runs", "sync", "a/version_1").code == 0
    assert len(fake_wandb.read_text().splitlines()) == 3


def test_sync_goes_on_after_a_failure_and_says_so(fw, fake_wandb):
    run = make(fw.folder / "runs" / "a" / "version_0")
    segment(run, "20260101_000000", "bad1")
    segment(run, "20260102_000000", "good")
    done = fw("runs", "sync")
    assert done.code == 1
    assert "bad1: wandb sync ended with exit code 3" in done.err
    assert len(fake_wandb.read_text().splitlines()) == 2


def test_the_order_is_that_of_the_beginnings(tmp_path):
    for stamp, identity in (("20260103_000000", "a"), ("20260101_000000", "b"), ("20260102_000000", "a-b")):
        segment(tmp_path, stamp, identity)
    assert [run.id for run in offline_runs([tmp_path, tmp_path])] == ["b", "a-b", "a"]


class Server(BaseHTTPRequestHandler):
    """What of W&B's server an upload needs; keeps the history rows that come in."""

    rows: ClassVar[list[dict]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict = {}
        if self.path.endswith("file_stream"):
            streams = json.loads(body).get("files") or {}
            content = streams.get("wandb-history.jsonl", {}).get("content", [])
            self.rows.extend(json.loads(line) for line in content)
        elif b"mutation UpsertBucket" in body:
            project = {"id": "p", "name": "fw", "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": "abc", "displayName": "abc", "historyLineCount": 0, "project": project}
            answer = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        elif b"mutation CreateRunFiles" in body:
            names = json.loads(body)["variables"]["files"]
            place = f"http://127.0.0.1:{self.server.server_port}/"
            files = [{"name": name, "uploadUrl": place + name} for name in names]
            answer = {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        text = json.dumps(answer or {"data": {}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST

    def log_message(self, *args: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to tell of."""


SEGMENTS = """
from pathlib import Path
from framework.loggers import WandbLogger
from framework.loggers.background import Feeder
Feeder.START_S = Feeder.HANDLE_S = Feeder.FINISH_S = 600.0  # on a busy machine the client is slow
logger = WandbLogger(offline=True, id="abc")
logger.attach(Path("runs/a/version_0"))
for step in {steps}:
    logger.log_metrics({{"x": float(step)}}, step)
logger.finalize("interrupted")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_program_uploads_an_interrupted_and_continued_run_in_order(fw, monkeypatch):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment = {**kept, "HOME": str(fw.folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    for steps in ("(1, 2)", "(3, 4)"):
        script = SEGMENTS.format(steps=steps)
        subprocess.run([sys.executable, "-c", script], check=True, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(1.1)  # W&B's folder names hold whole seconds
    make_summary = make(fw.folder / "elsewhere") / "summary.json"
    make_summary.rename(fw.folder / "runs/a/version_0/summary.json")
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(fw.folder))
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    Server.rows.clear()
    with QuietServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        done = fw("runs", "sync")
        server.shutdown()
    assert done.code == 0
    assert [(row["_step"], row["x"]) for row in Server.rows] == [(step, float(step)) for step in range(1, 5)]
    assert fw("runs", "sync").err == "fw: nothing to upload\n"
