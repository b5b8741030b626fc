"""W&B: what the real client writes offline, and what a broken one may cost."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from framework.errors import ConfigError
from framework.loggers import WandbLogger
from framework.loggers.wandb_items import staged
from framework.loggers.wandb_run import choose_mode

ROOT = Path(__file__).resolve().parents[2]
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")


def clean_environment(home: Path, **extra: str) -> dict[str, str]:
    """This environment without anything that W&B reads, and with an empty home."""
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), **extra}


PATIENT = (
    "from framework.loggers.background import Feeder; "
    "Feeder.START_S = Feeder.HANDLE_S = Feeder.FINISH_S = 240.0  # on a busy machine the client is slow\n"
)


def run_child(script: str, tmp_path: Path, timeout: float = 300, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own; a logger that hangs for ever ends in TimeoutExpired."""
    environment = clean_environment(tmp_path / "home", **extra)
    return subprocess.run(
        [sys.executable, "-c", PATIENT + textwrap.dedent(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


# -- the real client -------------------------------------------------------------------------------


def read_back(folder: Path, home: Path) -> tuple[list[dict], dict]:
    """History rows, and the summary with its config, as W&B's own reader gives them."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    environment = clean_environment(home)
    records = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    summary = subprocess.run([*command, "--summary"], env=environment, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in records.stdout.splitlines()]
    return [row["history"]["item"] for row in rows if row["type"] == "history"], json.loads(summary.stdout)


@needs_wandb
def test_the_real_client_keeps_config_every_row_at_its_step_and_the_summary(tmp_path):
    script = """
        from pathlib import Path
        from framework.loggers import WandbLogger
        logger = WandbLogger(tags=["a", "b"], group="g", id="run12345")
        logger.attach(Path("runs/mnist/version_0"))
        logger.log_hyperparams({"hidden": [300, 100], "lr": 0.1, "act": len})
        logger.log_config({"trainer": {"max_epochs": 3}, "seed": 0})
        for step in range(5, 505, 5):
            logger.log_metrics({"epoch": step // 100, "train_loss": 1 / step}, step)
            if step % 100 == 0:
                logger.log_metrics({"epoch": step // 100, "val_loss": 2 / step}, step)
        logger.finalize("success")
        logger.log_metrics({"test_acc": 0.98}, 500)
        logger.finalize("success")
    """
    done = run_child(script, tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "W&B: offline (WANDB_MODE=offline). Upload it later with: wandb sync" in done.stdout
    assert done.stdout.count("\n") == 1
    rows, summary = read_back(tmp_path / "runs/mnist/version_0", tmp_path / "home")
    assert [row["_step"] for row in rows] == list(range(5, 505, 5))
    assert [row["train_loss"] for row in rows] == [1 / step for step in range(5, 505, 5)]
    assert {row["_step"]: row["val_loss"] for row in rows if "val_loss" in row} == {
        step: 2 / step for step in range(100, 505, 100)
    }
    assert summary["config"]["hidden"] == [300, 100]
    assert summary["config"]["act"] == "builtins.len"
    assert summary["config"]["trainer"] == {"max_epochs": 3}
    assert summary["run_id"] == "run12345"
    assert summary["exit_code"] == 0
    assert sorted(summary["tags"]) == ["a", "b"]
    assert summary["summary"]["test_acc"] == 0.98
    assert summary["summary"]["val_loss"] == 2 / 500
    assert summary["summary"]["train_loss"] == 1 / 500


@pytest.mark.slow
@needs_wandb
def test_a_resumed_run_continues_the_same_wandb_run(tmp_path):
    script = """
        import json
        from pathlib import Path
        from framework.loggers import WandbLogger
        logger = WandbLogger(offline=True)
        state = Path("state.json")
        if state.exists():
            logger.load_state_dict(json.loads(state.read_text()))
        logger.attach(Path("run"))
        logger.log_metrics({"x": 1.0}, 2 if state.exists() else 1)
        state.write_text(json.dumps(logger.state_dict()))
        logger.finalize("interrupted")
    """
    for _ in range(2):
        done = run_child(script, tmp_path)
        assert done.returncode == 0, done.stderr
    segments = list((tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb"))
    assert len({path.name for path in segments}) == 1
    assert json.loads((tmp_path / "state.json").read_text())["id"] in segments[0].name


@pytest.mark.slow
@needs_wandb
def test_two_runs_of_one_process_are_two_wandb_runs(tmp_path):
    script = """
        from pathlib import Path
        from framework.loggers import WandbLogger
        for number in range(2):
            logger = WandbLogger(offline=True)
            logger.attach(Path(f"run{number}"))
            logger.log_metrics({"x": float(number)}, 1)
            logger.finalize("success")
    """
    done = run_child(script, tmp_path)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        rows, summary = read_back(tmp_path / f"run{number}", tmp_path / "home")
        assert [row["x"] for row in rows] == [float(number)]
        assert summary["exit_code"] == 0


@pytest.mark.slow
@needs_wandb
def test_the_experiment_is_the_wandb_run_itself(tmp_path):
    script = """
        from pathlib import Path
        from framework.loggers import WandbLogger
        logger = WandbLogger(offline=True)
        logger.attach(Path("run"))
        logger.experiment.config.update({"own": 7})
        logger.log_metrics({"x": 1.0}, 1)
        logger.finalize("failed")
        logger.close()
    """
    done = run_child(script, tmp_path)
    assert done.returncode == 0, done.stderr
    _, summary = read_back(tmp_path / "run", tmp_path / "home")
    assert summary["config"]["own"] == 7
    assert summary["exit_code"] == 1


# -- which mode ------------------------------------------------------------------------------------


@pytest.fixture
def no_wandb_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_an_explicit_wish_wins(no_wandb_environment):
    assert choose_mode(offline=True) == ("offline", "as asked")
    assert choose_mode(offline=False, mode="online") == ("online", None)
    no_wandb_environment.setenv("WANDB_MODE", "offline")
    assert choose_mode(offline=False) == (None, "WANDB_MODE=offline")
    no_wandb_environment.setenv("WANDB_MODE", "disabled")
    assert choose_mode(offline=True) == (None, None)


def test_without_a_key_it_is_offline(no_wandb_environment):
    mode, why = choose_mode(offline=False)
    assert mode == "offline"
    assert "wandb login" in why


@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_with_a_key_the_server_decides(no_wandb_environment, tmp_path, where):
    """A real listener on loopback stands for the server; a closed port for one that is away."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        no_wandb_environment.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        if where == "environment":
            no_wandb_environment.setenv("WANDB_API_KEY", "x" * 40)
        else:
            (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password xxxx\n")
            (tmp_path / ".netrc").chmod(0o600)
        assert choose_mode(offline=False) == (None, None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody else gets the port
        no_wandb_environment.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert choose_mode(offline=False) == ("offline", "127.0.0.1 cannot be reached")


# -- a client that is missing or broken ------------------------------------------------------------


def test_without_wandb_the_error_says_how_to_install_it(tmp_path):
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)  # W&B's own folder is no package
    packages = tmp_path / "packages"  # all that is installed but W&B
    packages.mkdir()
    for folder in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for entry in folder.iterdir():
            if not entry.name.startswith("wandb") and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    script = f"""
        import importlib.util, sys
        others = [p for p in sys.path if "site-packages" not in p]
        sys.path[:] = [*others, {str(packages)!r}, {str(tmp_path)!r}]
        from framework.errors import ConfigError
        from framework.loggers import WandbLogger
        try:
            WandbLogger()
        except ConfigError as error:
            print(error)
    """
    done = run_child(script, tmp_path)
    assert "pip install wandb" in done.stdout, done.stderr


STUB = """
    import threading, sys
    class Config:
        def update(self, entries, allow_val_change=False): pass
    class Artifact:
        def __init__(self, **arguments): {artifact}
        def add_file(self, path, name): pass
    def Image(picture, **more): {image}
    Table = Histogram = lambda *values, **more: None
    class Run:
        id, url, dir = "stub", None, "wandb/run/files"
        config = Config()
        def log_artifact(self, artifact, aliases): {log_artifact}
        def log(self, row, step=None): {log}
        def finish(self, exit_code=0): {finish}
    run = None
    {module}
    def init(**arguments):
        {init}
        return Run()
"""
TRAIN = """
    import warnings
    from pathlib import Path
    from types import SimpleNamespace
    from framework.loggers import SafeLogger, WandbLogger
    wandb = WandbLogger(offline=True, log_model="all")
    logger = SafeLogger(wandb)
    logger.attach(Path("run"))
    logger.log_hyperparams({"lr": 0.1})
    saved = Path("saved").absolute()
    saved.mkdir()
    (saved / "manifest.json").write_text("{}")
    path = str(saved)
    saver = SimpleNamespace(monitor=None, mode="min", save_last=None, save_top_k=1, filename=None,
                            best_model_path=path, last_model_path=path, best_k_models={path: 1.0})
    for step in range(20_000):
        logger.log_metrics({"loss": 1.0}, step)
        if step % 4000 == 0:
            wandb.log_image("picture", [[[0.0]]], caption=["nothing"])
            wandb.log_table("table", ["a"], [[1]])
            wandb.log_histogram("histogram", [1.0, 2.0])
            logger.after_save_checkpoint(saver)
    logger.finalize("success")
    logger.log_metrics({"test_acc": 1.0}, 20_000)
    logger.finalize("success")
    print("trained")
"""
FOREVER = "threading.Event().wait()"
BROKEN = {
    "import raises": {"module": "raise ImportError('no such thing')"},
    "import hangs": {"module": FOREVER},
    "init raises": {"init": "raise RuntimeError('server says no')"},
    "init hangs": {"init": FOREVER},
    "init exits": {"init": "sys.exit(3)"},
    "log raises": {"log": "raise ConnectionError('gone')"},
    "log raises once": {"log": "Run.log = lambda self, row, step=None: None; raise ConnectionError('gone')"},
    "log hangs": {"log": FOREVER},
    "log exits": {"log": "sys.exit(3)"},
    "images raise": {"image": "raise ValueError('no picture')"},
    "images hang": {"image": FOREVER},
    "artifacts raise": {"artifact": "raise OSError('no space left on device')"},
    "artifacts hang": {"log_artifact": FOREVER},
    "finish raises": {"finish": "raise RuntimeError('late')"},
    "finish hangs": {"finish": FOREVER},
}


HANGS = {
    "import hangs": "START_S",
    "init hangs": "START_S",
    "log hangs": "HANDLE_S",
    "images hang": "HANDLE_S",
    "artifacts hang": "HANDLE_S",
    "finish hangs": "FINISH_S",
}
"""Which of the waits is in vain, and is cut short; the others may take their time, for the machine may be busy."""


def impatient(script: str, limit: str) -> str:
    """The script with half a second for what will hang."""
    return script.replace("wandb = WandbLogger(", f"Feeder.{limit} = 0.5; wandb = WandbLogger(")


def stub(folder: Path, **parts: str) -> None:
    words = ("log", "finish", "init", "image", "artifact", "log_artifact")
    filled = {**dict.fromkeys(words, "pass"), "module": "", **parts}
    folder.mkdir()
    (folder / "wandb.py").write_text(textwrap.dedent(STUB).format(**filled))


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_client_costs_one_warning(tmp_path, how):
    stub(tmp_path / "stub", **BROKEN[how])
    script = impatient(TRAIN, HANGS[how]) if how in HANGS else TRAIN
    done = run_child(script, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "stub"), str(ROOT)]))
    assert done.returncode == 0, done.stderr
    assert "trained" in done.stdout
    assert done.stderr.count("RuntimeWarning") == 1, done.stderr
    assert "Traceback" not in done.stderr
    left = list(tmp_path.glob("run/.checkpoint-*"))  # copies of checkpoints
    assert len(left) <= (how == "artifacts hang")  # the one at hand


def test_a_client_that_works_costs_no_warning_and_gets_every_row_once(tmp_path):
    keep = "print('row', step, row, flush=True)"
    stub(tmp_path / "stub", log=keep, finish="print('finish', exit_code, flush=True)")
    script = TRAIN.replace("20_000", "2_000").replace('"loss": 1.0', '"loss": 1.0, "epoch": 0').replace("4000", "500")
    done = run_child(script, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "stub"), str(ROOT)]))
    assert done.stderr == ""
    rows = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("row ")]
    assert rows == [str(step) for step in range(2001)]
    assert done.stdout.splitlines()[-1] == "finish 0"


def test_too_many_waiting_rows_are_dropped_with_one_warning(tmp_path):
    stub(tmp_path / "stub", log=FOREVER)
    script = (
        impatient(TRAIN, "HANDLE_S")
        .replace("logger = ", "Feeder.CAPACITY = 1000; logger = ")
        .replace('logger.finalize("success")', "pass")
    )
    done = run_child(script, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "stub"), str(ROOT)]))
    assert "1000 items behind" in done.stderr
    assert done.stderr.count("RuntimeWarning") == 1


def test_the_open_run_of_the_process_is_used_and_left_open(tmp_path):
    stub(tmp_path / "stub", module="pass", init="raise AssertionError('a second run')", finish="print('finished')")
    with open(tmp_path / "stub" / "wandb.py", "a") as file:
        file.write("run = Run()\n")
    done = run_child(TRAIN, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "stub"), str(ROOT)]))
    assert done.stderr == ""
    assert "finished" not in done.stdout


def test_a_run_of_a_sweep_has_the_id_that_the_agent_chose(tmp_path):
    stub(tmp_path / "stub", init="print('id', arguments['id'], flush=True)")
    path = os.pathsep.join([str(tmp_path / "stub"), str(ROOT)])
    sweep = {"WANDB_SWEEP_ID": "sweep", "WANDB_RUN_ID": "chosen"}
    script = "from framework.loggers import WandbLogger; logger = WandbLogger(offline=True{}); logger.log_metrics({{}}, 1); logger.close()"
    assert "id chosen" in run_child(script.format(""), tmp_path, PYTHONPATH=path, **sweep).stdout
    assert "id own" in run_child(script.format(", id='own'"), tmp_path, PYTHONPATH=path, **sweep).stdout


def test_artifacts_are_in_the_order_of_writing_with_the_best_one_last(tmp_path):
    stub(tmp_path / "stub", artifact="print(arguments['metadata']['original_filename'], flush=True)")
    script = """
        import os
        from pathlib import Path
        from types import SimpleNamespace
        from framework.loggers import WandbLogger
        paths = []
        for epoch in (8, 9, 10):
            path = Path(f"epoch={epoch}").absolute()
            path.mkdir()
            (path / "manifest.json").write_text("{}")
            os.utime(path / "manifest.json", (epoch, epoch))
            paths.append(str(path))
        saver = SimpleNamespace(monitor="x", mode="min", save_last=None, save_top_k=-1, filename=None,
                                best_model_path=paths[0], last_model_path=paths[2], best_k_models={p: 1.0 for p in paths})
        logger = WandbLogger(offline=True, log_model=True)
        logger.attach(Path("run"))
        logger.after_save_checkpoint(saver)
        logger.close()
    """
    done = run_child(script, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "stub"), str(ROOT)]))
    assert [line for line in done.stdout.splitlines() if "epoch" in line] == ["epoch=9", "epoch=10", "epoch=8"]


def test_half_a_copy_of_a_checkpoint_is_not_left(tmp_path):
    (tmp_path / "saved" / "a_folder_is_no_file").mkdir(parents=True)
    with pytest.raises(OSError):
        staged(tmp_path / "saved", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_arguments_that_make_no_sense():
    experiment = object()
    with pytest.raises(ConfigError, match="expected true, false or 'all'"):
        WandbLogger(experiment=experiment, log_model="some")
    with pytest.raises(ConfigError, match="are the same thing"):
        WandbLogger(experiment=experiment, save_dir="a", dir="b")
    with pytest.raises(ConfigError, match="Did you mean 'gradients'"):
        WandbLogger(experiment=experiment, watch="gradient")
    with pytest.raises(ConfigError, match="takes a list of pictures, got int"):
        WandbLogger(experiment=experiment).log_image("x", 3)
    with pytest.raises(ConfigError, match="one entry for each of 2 images"):
        WandbLogger(experiment=experiment).log_image("x", [[], []], caption=["a"])
    with pytest.raises(ConfigError, match="whole number of updates"):
        WandbLogger(experiment=experiment).watch(None, log_freq=0)
    assert WandbLogger(experiment=experiment, dir="b").save_dir == "b"


def test_two_names_of_one_thing():
    if importlib.util.find_spec("wandb") is None:
        with pytest.raises(ConfigError):
            WandbLogger()
        return
    assert WandbLogger(version="abc").version == "abc"
    assert WandbLogger(id="abc").state_dict() == {"id": "abc"}
    logger = WandbLogger()
    logger.load_state_dict({"id": "from-checkpoint"})
    assert logger.version == "from-checkpoint"
