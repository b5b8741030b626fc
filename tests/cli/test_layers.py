"""Merging of files and command line, and what a change of class keeps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.cli import yaml12
from framework.cli.layers import Merger, checked, read_file, read_overrides
from framework.cli.nodes import Node, plain
from framework.errors import ConfigError

KNOWN = {"A": {"x", "y"}, "B": {"y", "z"}, "Open": None}


def merger() -> Merger:
    return Merger(same=lambda a, b: a == b, accepts=lambda name, path: KNOWN[str(name.value)])


def merged(*texts: str, overrides: tuple[tuple[str, str], ...] = ()):
    notes = merger()
    root = checked(yaml12.load(texts[0], "1.yaml"))
    for index, text in enumerate(texts[1:], start=2):
        root = notes.merge(root, checked(yaml12.load(text, f"{index}.yaml")))
    return plain(notes.merge(root, read_overrides(overrides))), notes.notes


def test_later_layers_win_key_by_key():
    tree, _ = merged(
        "trainer: {max_epochs: 1, min_epochs: 0}\nseed: 1",
        "trainer: {max_epochs: 2}",
        overrides=(("trainer.max_epochs", "3"), ("seed", "7")),
    )
    assert tree == {"trainer": {"max_epochs": 3, "min_epochs": 0}, "seed": 7}


def test_lists_are_replaced_and_items_are_set_by_index():
    base = "trainer:\n  callbacks:\n  - {class_path: A, init_args: {x: 1}}\n  - {class_path: B}\n"
    assert merged(base, "trainer: {callbacks: []}")[0] == {"trainer": {"callbacks": []}}
    tree, _ = merged(base, overrides=(("trainer.callbacks.0.init_args.y", "5"),))
    assert tree["trainer"]["callbacks"][0] == {"class_path": "A", "init_args": {"x": 1, "y": 5}}
    with pytest.raises(ConfigError, match=r"--trainer.callbacks.2: trainer.callbacks has 2 items"):
        merged(base, overrides=(("trainer.callbacks.2.init_args.y", "5"),))


def test_null_takes_a_section_away():
    assert merged("data: {class_path: A}", overrides=(("data", "null"),))[0] == {"data": None}


def test_a_new_class_keeps_only_arguments_it_accepts_and_says_so():
    tree, notes = merged("model: {class_path: A, init_args: {x: 1, y: 2}}", "model: {class_path: B}")
    assert tree == {"model": {"class_path": "B", "init_args": {"y": 2}}}
    assert notes == ["model is now B, not A: dropped init_args x"]


def test_the_same_class_keeps_everything():
    tree, notes = merged("model: {class_path: A, init_args: {x: 1}}", "model: {class_path: A, init_args: {y: 3}}")
    assert tree == {"model": {"class_path": "A", "init_args": {"x": 1, "y": 3}}}
    assert notes == []


def test_a_class_that_takes_anything_keeps_everything():
    assert merged("model: {class_path: A, init_args: {x: 1}}", "model: Open")[0]["model"]["init_args"] == {"x": 1}


def test_arguments_of_the_new_layer_are_never_dropped():
    tree, _ = merged("model: {class_path: A, init_args: {x: 1}}", "model: {class_path: B, init_args: {x: 2}}")
    assert tree["model"]["init_args"] == {"x": 2}  # refused later, with its line


def test_nested_classes_change_alike():
    tree, notes = merged(
        "trainer: {logger: {class_path: A, init_args: {x: 1, y: 2}}}", "trainer: {logger: {class_path: B}}"
    )
    assert tree == {"trainer": {"logger": {"class_path": "B", "init_args": {"y": 2}}}}
    assert notes == ["trainer.logger is now B, not A: dropped init_args x"]


@given(st.permutations(["class_path: B", "init_args: {z: 1, y: 9}"]), st.permutations(["x: 1", "y: 2"]))
def test_key_order_in_files_does_not_matter(upper, lower):
    base = f"model: {{init_args: {{{', '.join(lower)}}}, class_path: A}}"
    assert merged(base, f"model: {{{', '.join(upper)}}}")[0] == {
        "model": {"class_path": "B", "init_args": {"y": 9, "z": 1}}
    }


OPTIONS = (
    ("model.class_path", "B"),
    ("model.init_args.z", "1"),
    ("trainer.logger", "A"),
    ("trainer.logger.init_args.x", "no"),
)


@pytest.mark.parametrize("options", list(itertools.permutations(OPTIONS)))
def test_order_on_the_command_line_does_not_matter(options):
    tree, _ = merged("model: {class_path: A, init_args: {x: 1, y: 2}}", overrides=options)
    assert tree == {
        "model": {"class_path": "B", "init_args": {"y": 2, "z": 1}},
        "trainer": {"logger": {"class_path": "A", "init_args": {"x": "no"}}},
    }


def test_short_forms_of_classes():
    assert merged("optimizer: SGD")[0] == {"optimizer": {"class_path": "SGD"}}
    tree, _ = merged("trainer: {logger: A}", overrides=(("trainer.logger.init_args.x", "1"),))
    assert tree == {"trainer": {"logger": {"class_path": "A", "init_args": {"x": 1}}}}


def test_seed_everything_is_seed():
    assert merged("seed_everything: 3", overrides=(("seed", "4"),))[0] == {"seed": 4}
    with pytest.raises(ConfigError, match=r"1.yaml:2: seed: 'seed' is another name of 'seed'|another name"):
        merged("seed_everything: 3\nseed: 4")


MISTAKES = [
    ("trainr: {}", "1.yaml:1: trainr: unknown key 'trainr'. Did you mean 'trainer'?"),
    ("xyzzy: {}", "A config has seed, trainer, model, data, optimizer, lr_scheduler, plugins"),
    ("seed: 1\nmodel:\n  class: A", "1.yaml:3: model.class: unknown key 'class'. Did you mean 'class_path'?"),
    ("model:\n  class_path: A\n  width: 3", "1.yaml:3: model.width: unknown key 'width'. Arguments of the class go"),
    ("model: {class_path: A, init_args: 3}", "model.init_args: expected a mapping, got 3"),
    ("model: {class_path: [A]}", "model.class_path: expected a class name, got"),
    ("trainer: [1]", "1.yaml:1: trainer: expected a mapping of its arguments, got"),
    ("data: 3", "1.yaml:1: data: expected a class: class_path and init_args, got 3"),
    ("lr_scheduler: {class_path: A, intervall: step}", "Did you mean 'interval'?"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_in_sections(text, message):
    with pytest.raises(ConfigError) as caught:
        merged(text)
    assert message in str(caught.value)


def test_mistakes_on_the_command_line_name_the_option():
    with pytest.raises(ConfigError, match=r"^--model.width: unknown key 'width'"):
        read_overrides([("model.width", "3")])
    with pytest.raises(ConfigError, match=r"^--trainer: expected a mapping of its arguments, got 3"):
        read_overrides([("trainer", "3")])
    with pytest.raises(ConfigError, match=r"--seed.x: an empty name|--model..x: an empty name"):
        read_overrides([("model..x", "3")])
    with pytest.raises(ConfigError, match="set both as a whole and in parts"):
        read_overrides([("trainer.max_epochs", "3"), ("trainer.max_epochs.x", "3")])


def test_merging_changes_no_layer():
    base = checked(yaml12.load("model: {class_path: A, init_args: {x: 1}}", "1"))
    over = checked(yaml12.load("model: {class_path: B, init_args: {z: 1}}", "2"))
    before = plain(base), plain(over)
    merger().merge(base, over)
    assert (plain(base), plain(over)) == before


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "mnist_mlp.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match=r"no config file .*mnist_mpl.yaml. Did you mean '.*mnist_mlp.yaml'\?"):
        read_file(str(tmp_path / "mnist_mpl.yaml"))
    with pytest.raises(ConfigError, match="There is no folder"):
        read_file(str(tmp_path / "nope" / "a.yaml"))
    with pytest.raises(ConfigError, match="is a folder"):
        read_file(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="not a text file in UTF-8"):
        read_file(str(tmp_path / "latin.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="a config is a mapping"):
        read_file(str(tmp_path / "list.yaml"))
    (tmp_path / "empty.yaml").write_text("")
    assert read_file(str(tmp_path / "empty.yaml")).value == {}


def test_base_of_another_shape_is_replaced():
    assert plain(merger().merge(Node(3), Node({"a": Node(1)}))) == {"a": 1}
