"""`fw train`, `validate`, `test`, `predict` and `new`, with real runs of a small model."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from framework.cli import yaml12
from framework.cli.examples import EXAMPLES
from framework.cli.main import COMMANDS
from framework.cli.nodes import plain

ROOT = Path(__file__).resolve().parents[2]


def rows(run: str | Path):
    with (Path(run) / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(file)]


def summary(run: str | Path):
    return json.loads((Path(run) / "summary.json").read_text())


def config(run: str | Path):
    return plain(yaml12.load((Path(run) / "config.yaml").read_text(), "config.yaml"))


# -- train ----------------------------------------------------------------------------------------


def test_a_run_leaves_its_config_rows_checkpoints_and_summary(fw):
    done = fw("train", "my.yaml")
    assert done.code == 0
    run = fw.folder / "runs" / "my" / "version_0"
    assert {"config.yaml", "metrics.csv", "metrics.jsonl", "checkpoints", "summary.json"} <= {
        p.name for p in run.iterdir()
    }
    told = summary(run)
    assert (told["status"], told["epochs"], told["steps"], told["backend"]) == ("finished", 2, 6, "cpu")
    assert 0 <= told["test_acc"] <= 1
    assert "fw: done: runs/my/version_0" in done.err


def test_a_run_that_leaves_nothing_says_so(fw):
    done = fw("train", "my.yaml", "--trainer.fast_dev_run", "true")
    assert done.code == 0
    assert not (fw.folder / "runs").exists()
    assert done.err.endswith("fw: done; nothing was written\n")


def test_the_written_config_is_complete_and_runs_alike(fw):
    fw("train", "my.yaml", "--trainer.log_every_n_steps", "1")
    written = config("runs/my/version_0")
    assert written["trainer"]["log_every_n_steps"] == 1
    assert written["trainer"]["accumulate_grad_batches"] == 1
    assert written["model"] == {
        "class_path": "mynet.MyNet",
        "init_args": {"width": 5, "num_classes": 2, "hidden": []},
    }
    assert written["optimizer"]["class_path"] == "framework.optim.SGD"
    assert fw("train", "runs/my/version_0/config.yaml").code == 0
    assert config("runs/my/version_1") == written
    assert rows("runs/my/version_1") == rows("runs/my/version_0")


def test_print_config_prints_what_runs_alike_and_makes_nothing(fw):
    printed = fw("train", "my.yaml", "--seed", "5", "--print_config")
    assert printed.code == 0
    assert not Path("runs").exists()
    fw.write("printed.yaml", printed.out)
    fw("train", "my.yaml", "--seed", "5")
    fw("train", "printed.yaml")
    assert rows("runs/printed/version_0") == rows("runs/my/version_0")


def test_the_seed_decides_the_run(fw):
    for seed in ("1", "1", "2"):
        fw("train", "my.yaml", "--seed", seed, "--no-test")
    first, again, other = (rows(f"runs/my/version_{n}") for n in range(3))
    assert first == again != other


def test_several_configs_and_the_command_line_in_order(fw):
    fw.write("more.yaml", "trainer: {max_epochs: 1}\nmodel: {init_args: {width: 7}}\n")
    fw("train", "my.yaml", "more.yaml", "--model.init_args.hidden", "[6, 4]", "--no-test")
    written = config("runs/my/version_0")
    assert written["trainer"]["max_epochs"] == 1
    assert written["model"]["init_args"] == {"width": 7, "num_classes": 2, "hidden": [6, 4]}
    assert "test_acc" not in summary("runs/my/version_0")


def test_another_class_drops_what_it_does_not_take_and_says_so(fw):
    done = fw("train", "my.yaml", "--model.class_path", "mynet.WithTwo", "--model.init_args.hidden", "[2]")
    assert done.code == 2
    assert "WithTwo has no argument 'hidden'" in done.err
    fw.write("hidden.yaml", "model: {init_args: {hidden: [2]}}")
    done = fw("train", "my.yaml", "hidden.yaml", "--model.class_path", "mynet.WithTwo")
    assert done.code == 0
    assert "fw: model is now mynet.WithTwo, not mynet.MyNet: dropped init_args hidden" in done.err


def test_without_sections_the_module_brings_its_own_optimizer(fw):
    assert fw("train", "my.yaml", "--optimizer", "null").code == 0
    assert "optimizer" not in config("runs/my/version_0")


ALONE = """

class Alone(MyNet):
    def train_dataloader(self):
        return MyData().train_dataloader()

    val_dataloader = test_dataloader = train_dataloader
"""


def test_a_module_may_bring_its_own_data(fw):
    file = fw.folder / "mynet.py"
    file.write_text(file.read_text() + ALONE)
    assert fw("train", "my.yaml", "--data", "null", "--model.class_path", "mynet.Alone").code == 0
    assert "test_acc" in summary("runs/my/version_0")
    assert fw("train", "--model", "mynet.Alone", "--trainer.max_epochs", "1", "--trainer.backend", "cpu").code == 0
    assert Path("runs/alone/version_0/summary.json").exists()


SCHEDULE = """\
trainer:
  log_every_n_steps: 1
  callbacks: [LearningRateMonitor, {class_path: ModelCheckpoint, init_args: {monitor: val_acc, mode: max}}]
lr_scheduler: {class_path: OneCycleLR, init_args: {max_lr: 0.5, pct_start: 0.5}}
"""


def rates():
    return [float(row["lr-SGD"]) for row in rows("runs/my/version_0") if row.get("lr-SGD")]


def test_one_cycle_steps_with_each_update_over_the_whole_run(fw):
    fw.write("cycle.yaml", SCHEDULE)
    assert fw("train", "my.yaml", "cycle.yaml").code == 0
    assert config("runs/my/version_0")["lr_scheduler"]["interval"] == "step"
    found = rates()
    assert max(found) == pytest.approx(0.5, rel=0.2)
    assert found[-1] < 1e-4 < found[0]


def test_other_schedules_step_with_each_epoch(fw):
    fw.write("cycle.yaml", SCHEDULE)
    step = ("--lr_scheduler.class_path", "StepLR", "--lr_scheduler.init_args.step_size", "1")
    done = fw("train", "my.yaml", "cycle.yaml", *step)
    assert done.code == 0
    assert "dropped init_args max_lr, pct_start" in done.err
    assert config("runs/my/version_0")["lr_scheduler"]["interval"] == "epoch"
    assert sorted(set(rates())) == pytest.approx([0.01, 0.1])


def test_a_schedule_by_updates_of_a_run_without_end(fw):
    fw.write("cycle.yaml", SCHEDULE)
    message = fw.refused("train", "my.yaml", "cycle.yaml", "--trainer.max_epochs", "-1")
    assert message.startswith("cycle.yaml:4: lr_scheduler: OneCycleLR needs total_steps")


# -- where things are found -----------------------------------------------------------------------


def test_a_config_of_another_project_finds_its_modules(fw, tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / "configs").mkdir(parents=True)
    elsewhere.mkdir()
    (project / "pyproject.toml").touch()
    shutil.move(tmp_path / "mynet.py", project / "mynet.py")
    shutil.move(tmp_path / "my.yaml", project / "configs" / "my.yaml")
    monkeypatch.chdir(elsewhere)
    assert fw("train", str(project / "configs" / "my.yaml"), "--no-test").code == 0
    assert (elsewhere / "runs" / "my" / "version_0" / "summary.json").exists()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(project)])
    del sys.modules["mynet"]
    assert fw("train", "runs/my/version_0/config.yaml", "--no-test").code == 0


PLUGIN = """
import framework.backend as backend

Cpu = type(backend.get("cpu"))


@backend.register
class Mine(Cpu):
    name = "mine"
"""


def test_a_backend_from_a_file(fw, monkeypatch):
    from framework.backend import registry

    monkeypatch.setattr(registry, "_local", dict(registry._local))
    monkeypatch.setattr(registry, "_instances", dict(registry._instances))
    fw.write("extra/extra_backend.py", PLUGIN)
    done = fw("train", "my.yaml", "--plugins", "[extra/extra_backend.py]", "--trainer.backend", "mine")
    assert done.code == 0
    assert summary("runs/my/version_0")["backend"] == "mine"
    assert config("runs/my/version_0")["plugins"] == [str(fw.folder / "extra" / "extra_backend.py")]


# -- resume and weights ---------------------------------------------------------------------------


EVERY = "trainer: {callbacks: [{class_path: ModelCheckpoint, init_args: {save_top_k: -1}}]}"


def cut_short(run: Path) -> None:
    """Make a finished run look as if it had been killed in its second epoch."""
    file = run / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "status": "running"}))
    shutil.rmtree(run / "checkpoints" / "epoch=1-step=6")


def test_resume_auto_starts_then_goes_on_then_is_done(fw):
    fw.write("every.yaml", EVERY)
    args = ("train", "my.yaml", "every.yaml", "--resume", "auto")
    assert fw(*args).code == 0
    whole = rows("runs/my/version_0")
    cut_short(fw.folder / "runs/my/version_0")
    going_on = fw(*args)
    assert going_on.code == 0
    assert "fw: resuming from runs/my/version_0/checkpoints/epoch=" in going_on.err
    assert rows("runs/my/version_0") == whole
    done = fw(*args)
    assert (done.code, done.err) == (0, "fw: already finished: runs/my/version_0\n")
    assert fw(*args, "--seed", "9").code == 0
    assert sorted(p.name for p in Path("runs/my").iterdir()) == ["version_0", "version_1"]


def test_resume_auto_passes_over_a_run_without_a_whole_checkpoint(fw):
    fw.write("every.yaml", EVERY)
    args = ("train", "my.yaml", "every.yaml", "--resume", "auto")
    fw(*args)
    cut_short(fw.folder / "runs/my/version_0")
    for weights in Path("runs/my/version_0/checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    assert fw(*args).code == 0
    assert Path("runs/my/version_1").exists()


def test_resume_last_takes_the_newest_run_and_raises_the_limit(fw):
    fw("train", "my.yaml", "--no-test")
    fw("train", "my.yaml", "--no-test")
    done = fw("train", "my.yaml", "--resume", "last", "--trainer.max_epochs", "3")
    assert done.code == 0
    assert (summary("runs/my/version_0")["epochs"], summary("runs/my/version_1")["epochs"]) == (2, 3)
    assert not Path("runs/my/version_2").exists()


def test_resume_from_a_run_folder_and_from_a_damaged_checkpoint(fw):
    fw("train", "my.yaml", "--no-test")
    assert fw("train", "my.yaml", "--resume", "runs/my/version_0", "--trainer.max_epochs", "3").code == 0
    checkpoint = next(Path("runs/my/version_0/checkpoints").glob("epoch=*"))
    (checkpoint / "state.json").write_text("{}")
    assert "is damaged" in fw.refused("train", "my.yaml", "--resume", str(checkpoint))
    for other in Path("runs/my/version_0/checkpoints").glob("epoch=*"):
        (other / "state.json").write_text("{}")
    message = fw.refused("train", "my.yaml", "--resume", "last")
    assert message == "--resume last: runs/my/version_0 has no undamaged checkpoint"


def test_ckpt_gives_the_weights_alone(fw):
    fw("train", "my.yaml", "--no-test")
    still = ("--optimizer.init_args.lr", "0", "--trainer.max_epochs", "1")
    assert fw("train", "my.yaml", "--ckpt", "runs/my/version_0", *still).code == 0
    from safetensors.numpy import load_file

    before, after = (
        load_file(next(Path(f"runs/my/version_{n}/checkpoints").glob("epoch=*")) / "model.safetensors") for n in (0, 1)
    )
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert summary("runs/my/version_1")["steps"] == 3


def test_a_checkpoint_of_another_model(fw):
    fw("train", "my.yaml", "--no-test")
    wide = ("--model.init_args.width", "9")
    for args in (("train", "--ckpt", "runs/my/version_0"), ("train", "--resume", "last"), ("test", "--ckpt", "best")):
        done = fw(args[0], "my.yaml", *args[1:], *wide)
        assert done.code == 2
        assert "version_0/checkpoints/epoch=" in done.err
        assert "net.0.weight: the model has shape (9, 3), the state dict (5, 3)" in done.err
        assert "Traceback" not in done.err
    assert [path.name for path in Path("runs/my").iterdir()] == ["version_0"]


# -- validate, test, predict ----------------------------------------------------------------------


def test_evaluation_of_a_checkpoint(fw):
    fw("train", "my.yaml")
    expected = summary("runs/my/version_0")["test_acc"]
    for ckpt in ((), ("--ckpt", "best"), ("--ckpt", "runs/my/version_0")):
        done = fw("test", "my.yaml", *ckpt)
        assert done.code == 0
        assert f"{expected:g}" in done.out + done.err
        assert "fw: checkpoint runs/my/version_0/checkpoints/epoch=" in done.err
    assert fw("validate", "runs/my/version_0/config.yaml", "--ckpt", "last").code == 0
    assert len(list(Path("runs/my").iterdir())) == 1


def test_predictions_as_an_archive_and_as_a_table(fw):
    fw("train", "my.yaml", "--no-test")
    assert fw("predict", "my.yaml").code == 0
    with np.load("predictions.npz") as archive:
        arrays = dict(archive)
    assert {name: array.shape for name, array in arrays.items()} == {"label": (24,), "logits": (24, 2)}
    assert np.array_equal(arrays["label"], arrays["logits"].argmax(1))
    done = fw("predict", "my.yaml", "--output", "table.csv")
    assert done.out.endswith("wrote table.csv: label (24,), logits (24, 2)\n")
    with open("table.csv") as file:
        table = list(csv.DictReader(file))
    assert [int(row["label"]) for row in table] == arrays["label"].tolist()
    assert [float(row["logits_1"]) for row in table] == pytest.approx(arrays["logits"][:, 1].tolist())


def test_predictions_that_cannot_be_written(fw):
    fw("train", "my.yaml", "--no-test")
    assert "expected a name that ends in .npz or .csv" in fw.refused("predict", "my.yaml", "--output", "p.txt")
    assert "No such file or directory" in fw.refused("predict", "my.yaml", "--output", "nowhere/p.csv")


def test_no_run_to_evaluate(fw):
    assert fw.refused("test", "my.yaml") == "no run of my in runs/my"
    assert fw.refused("test", "my.yaml", "--ckpt", "nowhere") == "there is no checkpoint at nowhere"


def test_no_best_checkpoint(fw):
    fw("train", "my.yaml", "--no-test")
    Path("runs/my/version_0/checkpoints/best").unlink()
    assert "--ckpt best: runs/my/version_0 has none" in fw.refused("test", "my.yaml", "--ckpt", "best")
    assert fw("test", "my.yaml").code == 0


# -- what goes wrong later ------------------------------------------------------------------------

BROKEN = """

class InConstructor(MyNet):
    def __init__(self):
        raise RuntimeError("no such luck")


class InStep(MyNet):
    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            raise RuntimeError("bad step")
        return super().training_step(batch, batch_idx)


class NaN(MyNet):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * (float("nan") if self.global_step == 1 else 1)


class Slow(MyNet):
    def training_step(self, batch, batch_idx):
        import time

        time.sleep(0.05)
        return super().training_step(batch, batch_idx)
"""


@pytest.fixture
def broken(fw):
    file = fw.folder / "mynet.py"
    file.write_text(file.read_text() + BROKEN)
    return fw


def test_an_exception_in_a_users_constructor(broken):
    done = broken("train", "my.yaml", "--model", "mynet.InConstructor")
    assert done.code == 2
    assert 'mynet.py", line' in done.err
    assert done.err.endswith("fw: error: --model: InConstructor(…) raised RuntimeError: no such luck\n")
    assert not Path("runs").exists()


def test_an_exception_in_a_users_step(broken):
    done = broken("train", "my.yaml", "--model.class_path", "mynet.InStep")
    assert done.code == 1
    assert "framework/train" not in done.err.partition("mynet.py")[0]
    assert done.err.endswith("fw: error: RuntimeError: bad step\n")
    assert summary("runs/my/version_0")["status"] == "failed"


def test_a_loss_that_is_not_finite(broken):
    done = broken("train", "my.yaml", "--model.class_path", "mynet.NaN")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "fw: error: step 2: the loss is nan" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_saves_and_says_how_to_go_on(broken, number, code):
    args = ["my.yaml", "--model.class_path", "mynet.Slow", "--trainer.max_epochs", "200"]
    command = [sys.executable, "-m", "framework", "train", *args]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=broken.folder)
    deadline = time.monotonic() + 300
    while not list(broken.folder.glob("runs/my/version_0/checkpoints/epoch=*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert "Traceback" not in err
    assert "to go on: fw train my.yaml --model.class_path=mynet.Slow --trainer.max_epochs=200 --resume auto" in err
    assert summary(broken.folder / "runs/my/version_0")["status"] == "interrupted"
    done = broken("train", *args[:3], "--resume", "last", "--trainer.max_epochs", "1", "--no-test")
    assert done.code in (0, 2)  # more than an epoch may be done already


# -- new, help, version ---------------------------------------------------------------------------


def test_a_recipe_is_copied_with_its_configs_and_never_overwritten(fw):
    done = fw("new", "recipe", "mnist_mlp")
    assert done.code == 0
    for name in ("recipes/mnist_mlp.py", "configs/mnist_mlp.yaml", "configs/mnist_mlp_rprop.yaml"):
        assert Path(name).read_text() == (ROOT / name).read_text()
        assert f"wrote {name}\n" in done.out
    assert fw("new", "recipe", "mnist_mlp").code == 0  # nothing differs
    Path("recipes/mnist_mlp.py").write_text("# mine")
    assert "recipes/mnist_mlp.py already here and different" in fw.refused("new", "recipe", "mnist_mlp")
    assert Path("recipes/mnist_mlp.py").read_text() == "# mine"
    assert fw("new", "recipe", "mnist_mlp", "--force").code == 0
    assert fw.refused("new", "recipe", "mnist_mpl") == "no recipe 'mnist_mpl'. Did you mean 'mnist_mlp'?"


def test_a_copied_recipe_is_found(fw):
    fw("new", "recipe", "mnist_mlp")
    done = fw("train", "configs/mnist_mlp.yaml", "--print_config")
    assert done.code == 0
    assert str(fw.folder) == sys.path[0]
    assert "class_path: recipes.mnist_mlp.MnistMLP" in done.out


@pytest.mark.parametrize("config_name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_every_config_is_valid(fw, config_name):
    done = fw("train", str(ROOT / "configs" / config_name), "--print_config")
    assert done.code == 0, done.err
    again = fw.write("again.yaml", done.out)
    assert fw("train", str(again), "--print_config").out == done.out


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from framework.cli.main import main; a = main(['--help']); b = main(['--version']);"
        "heavy = {'numpy', 'yaml', 'jsonargparse', 'argparse', 'tqdm', 'importlib.metadata'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(a or b)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage: fw COMMAND" in done.stdout


def test_no_command_shows_the_usage_on_stderr(fw):
    done = fw()
    assert (done.code, done.out) == (2, "")
    assert "usage: fw COMMAND" in done.err


def test_a_finished_run_that_is_resumed_keeps_its_summary(fw):
    fw("train", "my.yaml")
    before = summary("runs/my/version_0")
    with pytest.warns(UserWarning, match="nothing to train"):
        assert fw("train", "my.yaml", "--resume", "last").code == 0
    after = summary("runs/my/version_0")
    assert after["metrics"].keys() == before["metrics"].keys() > {"val_acc"}
    assert after["steps"] == before["steps"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(fw, command):
    done = fw(command, "--help")
    assert done.code == 0
    assert f"usage: fw {command}" in done.out
    assert re.search(rf"^ *fw {command} ?.*$", done.out.partition("options:")[2], re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 120


def test_the_examples_of_a_command_are_understood(fw):
    """Each line is split into options as the command itself would; an unknown one would be refused."""
    from framework.cli import options

    for command, text in EXAMPLES.items():
        for line in text.splitlines():
            words = re.split(r"  +| && ", line.strip())[0].split()
            if words[1] == command and command in options.CONFIG_COMMANDS:
                args = options.parse(command, words[2:], options.add_config_arguments)
                assert args is not None
                assert args.configs
