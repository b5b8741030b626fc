"""The commonest mistakes: one clear line that names the place, exit code 2, nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GOLDEN = (Path(__file__).parent / "mistakes.txt").read_text().split("=" * 60 + "\n")[1:]
"""The commonest mistakes: what is written over a sound config, and the whole message."""


@pytest.mark.parametrize("case", GOLDEN, ids=range(1, len(GOLDEN) + 1))
def test_the_whole_message(fw, case):
    """File, line and key path; what was expected and given; the nearest valid name, where one comes close."""
    text, message = case.split("-" * 60 + "\n")
    fw.write("bad.yaml", text)
    told = fw.refused("check", "my.yaml", "bad.yaml").replace(str(fw.folder), "FOLDER")
    assert re.sub(r"Searched .* and the", "Searched … and the", told) == message.rstrip("\n")


def test_there_are_twenty_and_each_names_its_line():
    assert len(GOLDEN) >= 20
    assert all(case.split("-" * 60 + "\n")[1].startswith("bad.yaml:") for case in GOLDEN)


CONFIGS = [
    ("trainer:\n  max_epoch: 3", "bad.yaml:2: trainer.max_epoch: Trainer has no argument 'max_epoch'. Did you mean 'max_epochs'?"),
    ("trainer:\n  max_epochs: three", "bad.yaml:2: trainer.max_epochs: expected int or null, got 'three'"),
    ("trainer:\n  max_epochs: 1.5", "bad.yaml:2: trainer.max_epochs: expected int or null, got 1.5"),
    ("optimizer:\n  class_path: SDG", "bad.yaml:2: optimizer.class_path: no class 'SDG'. Did you mean 'SGD'?"),
    ("optimizer:\n  init_args:\n    lr: fast", "bad.yaml:3: optimizer.init_args.lr: expected float, got 'fast'"),
    ("optimizer:\n  init_args:\n    momentun: 1", "bad.yaml:3: optimizer.init_args.momentun: SGD has no argument 'momentun'. Did you mean 'momentum'?"),
    ("optimizer:\n  class_path: ReLU", "bad.yaml:2: optimizer.class_path: framework.nn.ReLU is not an Optimizer"),
    ("optimizer:\n  init_args: {params: 1}", "SGD gets 'params' from the run; leave it out"),
    ("model:\n  class_path: mynet.MyNt", "bad.yaml:2: model.class_path: no class 'MyNt' in mynet"),
    ("model:\n  class_path: mynett.MyNet", "bad.yaml:2: model.class_path: no module 'mynett'. Did you mean 'mynet'?"),
    ("model:\n  class_path: mynet.MyData", "bad.yaml:2: model.class_path: mynet.MyData is not a TrainModule"),
    ("model:\n  init_args:\n    width: [1]", "bad.yaml:3: model.init_args.width: expected int, got [1]"),
    ("model:\n  init_args:\n    wdth: 1", "bad.yaml:3: model.init_args.wdth: MyNet has no argument 'wdth'. Did you mean 'width'?"),
    ("model:\n  width: 1", "bad.yaml:2: model.width: unknown key 'width'. Arguments of the class go under model.init_args"),
    ("data:\n  class_path: mynet.MyNet", "bad.yaml:2: data.class_path: mynet.MyNet is not a DataModule"),
    ("seed: -1", "bad.yaml:1: seed: expected an int of at least 0, got -1"),
    ("seed: abc", "bad.yaml:1: seed: expected int, got 'abc'"),
    ("sede: 1", "bad.yaml:1: sede: unknown key 'sede'. Did you mean 'seed'?"),
    ("seed: 1\nseed: 2", "bad.yaml:2: the key 'seed' is given twice; first at bad.yaml:1"),
    ("seed: 1\n trainer: {}", "bad.yaml:2: not valid YAML: mapping values are not allowed here"),
    ("trainer:\n  callbacks:\n  - class_path: EarlyStoping", "bad.yaml:3: trainer.callbacks.0.class_path: no class 'EarlyStoping'. Did you mean 'EarlyStopping'?"),
    ("trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args: {moniter: x}", "Did you mean 'monitor'?"),
    ("trainer:\n  callbacks:\n  - class_path: ModelCheckpoint\n    init_args:\n      mode: mx", "bad.yaml:5: trainer.callbacks.0.init_args.mode: expected 'min' or 'max', got 'mx'"),
    ("trainer:\n  callbacks: SGD", "bad.yaml:2: trainer.callbacks: expected"),
    ("trainer:\n  backend: cuppy", "bad.yaml:2: trainer.backend: unknown backend 'cuppy'."),
    ("trainer:\n  precision: bf16-mixed", "bad.yaml:2: trainer.precision: "),
    ("trainer:\n  limit_train_batches: 1.5", "bad.yaml:2: trainer.limit_train_batches: "),
    ("trainer:\n  backend: cpu\n  accelerator: cpu", "trainer.backend: backend='cpu' and accelerator='cpu' mean the same thing") ,
    ("lr_scheduler:\n  class_path: OneCycelLR", "bad.yaml:2: lr_scheduler.class_path: no class 'OneCycelLR'. Did you mean 'OneCycleLR'?"),
    ("lr_scheduler:\n  class_path: StepLR\n  intervall: step", "bad.yaml:3: lr_scheduler.intervall: unknown key 'intervall'. Did you mean 'interval'?"),
    ("lr_scheduler:\n  class_path: StepLR\n  interval: batch\n  init_args: {step_size: 1}", "bad.yaml:3: lr_scheduler.interval: expected 'epoch' or 'step' or null, got 'batch'"),
    ("lr_scheduler:\n  class_path: StepLR", "bad.yaml:2: lr_scheduler.init_args: StepLR needs 'step_size'"),
    ("lr_scheduler:\n  class_path: StepLR\n  init_args: {step_size: 1}\noptimizer: null", "bad.yaml:1: lr_scheduler: needs an optimizer section beside it"),
    ("plugins: [no_such_plugin]", "bad.yaml:1: plugins.0: no module 'no_such_plugin'"),
    ("- 1", "bad.yaml:1: a config is a mapping of seed, trainer, model"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CONFIGS)
def test_in_a_config(fw, text, message):
    fw.write("bad.yaml", text + "\n")
    assert message in fw.refused("train", "my.yaml", "bad.yaml")


OPTIONS = [
    (("--trainer.max_epoch", "3"), "--trainer.max_epoch: Trainer has no argument 'max_epoch'. Did you mean 'max_epochs'?"),
    (("--trainer.max_epochs", "many"), "--trainer.max_epochs: expected int or null, got 'many'"),
    (("--trainr.max_epochs", "3"), "unknown option --trainr.max_epochs. Did you mean '--trainer.max_epochs'?"),
    (("--optimizer", "SDG"), "--optimizer: no class 'SDG'. Did you mean 'SGD'?"),
    (("--optimizer.init_args.lrr", "1"), "--optimizer.init_args.lrr: SGD has no argument 'lrr'. Did you mean 'lr'?"),
    (("--model.width", "1"), "--model.width: unknown key 'width'. Arguments of the class go under model.init_args"),
    (("--model.init_args.width", "wide"), "--model.init_args.width: expected int, got 'wide'"),
    (("--trainer.backend", "cuppy"), "--trainer.backend: unknown backend 'cuppy'."),
    (("--trainer.max_epochs",), "--trainer.max_epochs needs a value"),
    (("--resum", "last"), "unknown option --resum. Did you mean '--resume'?"),
    (("--resume", "last"), "no run of my in runs/my"),
    (("--resume", "nowhere"), "there is no checkpoint at nowhere"),
    (("--ckpt", "nowhere"), "there is no checkpoint at nowhere"),
    (("--resume", "last", "--ckpt", "x"), "give one of them"),
    (("--trainer.callbacks.4.init_args.mode", "max"), "trainer.callbacks has 1 items"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "message"), OPTIONS)
def test_on_the_command_line(fw, argv, message):
    assert message in fw.refused("train", "my.yaml", *argv)


def test_no_config(fw):
    assert fw.refused("train") == "which config? fw train CONFIG.yaml"
    assert fw.refused("train", "mine.yaml") == "no config file mine.yaml. Did you mean 'my.yaml'?"
    assert "class_path is missing" in fw.refused("train", "--model.init_args.x", "3")
    fw.write("empty.yaml", "")
    assert fw.refused("train", "empty.yaml").startswith("empty.yaml: no model section. It names the class to train")


def test_unknown_commands(fw):
    assert fw.refused("trian", "my.yaml") == "no command 'trian'. Did you mean 'train'?"


def test_an_unwritable_folder(fw):
    fw.write("file", "")
    message = fw.refused("train", "my.yaml", "--trainer.default_root_dir", "file/below")
    assert message.startswith("cannot write to file/below/runs/my: ")


def test_a_backend_whose_device_is_absent(fw):
    import framework.backend as backend
    from framework.errors import BackendError

    try:
        backend.get("cuda")
    except BackendError:
        pass
    else:
        pytest.skip("there is a GPU here")
    assert fw.refused("train", "my.yaml", "--trainer.backend", "cuda").startswith("--trainer.backend: ")


def test_a_class_of_another_library_leads_to_ours(fw):
    fw.write("other.py", "class Adam:\n    pass\n")
    message = fw.refused("train", "my.yaml", "--optimizer", "other.Adam")
    assert message == "--optimizer: other.Adam is not an Optimizer. Did you mean 'Adam'?"


def test_labels_out_of_range(fw):
    assert "label" in fw.refused("train", "my.yaml", "--data.init_args.top_label", "7")
