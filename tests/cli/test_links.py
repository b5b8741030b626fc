"""Values that stand for others in the same configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from framework.cli import links, yaml12
from framework.cli.nodes import Node, plain
from framework.errors import ConfigError


def resolved(text: str) -> object:
    return plain(Node(links.resolve(yaml12.load(text, "my.yaml").mapping)))


def test_a_link_is_the_value_it_names_with_its_type() -> None:
    text = """
data: {class_path: Data, init_args: {batch: 32, shape: [28, 28]}}
model:
  class_path: Net
  init_args: {batch: "${data.init_args.batch}", shape: "${ data.init_args.shape }", height: "${model.init_args.shape.0}"}
"""
    model = resolved(text)["model"]  # type: ignore[index]
    assert model["init_args"] == {"batch": 32, "shape": [28, 28], "height": 28}


def test_other_text_stays() -> None:
    text = "model: {class_path: Net, init_args: {a: '$x', b: 'x-${seed}', c: '${}', d: '{seed}'}}"
    assert resolved(text)["model"]["init_args"] == {"a": "$x", "b": "x-${seed}", "c": "${}", "d": "{seed}"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nmodel: {a: '${sed}'}", r"my.yaml:2: model.a: the config sets no sed. Did you mean \$\{seed\}\?"),
        ("model: {a: '${trainer.max_epochs}'}", "the config sets no trainer.max_epochs. Only what the config sets"),
        ("model: {a: '${model.b}', b: '${model.a}'}", "the link to model.b goes in a circle"),
        ("model: {a: '${model}'}", "the link to model goes in a circle"),
        ("model: {a: [1], b: '${model.a.1}'}", "the config sets no model.a.1"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(text)


def test_a_link_follows_later_files_and_the_command_line(fw) -> None:
    fw.write("linked.yaml", "model: {init_args: {num_classes: '${model.init_args.width}'}}\n")
    assert fw("train", "my.yaml", "linked.yaml", "--model.init_args.width", "6", "--no-test").code == 0
    written = yaml.safe_load(Path("runs/my/version_0/config.yaml").read_text())
    assert written["model"]["init_args"] == {"width": 6, "num_classes": 6, "hidden": []}
