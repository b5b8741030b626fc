"""Scalars, lines and mistakes of the YAML reader, and that what is written reads back."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from framework.cli import yaml12
from framework.cli.nodes import plain, walk
from framework.errors import ConfigError

SCALARS = [
    ("1e-3", 1e-3),
    ("1E5", 1e5),
    (".5", 0.5),
    ("5.", 5.0),
    ("-1.5e+2", -150.0),
    ("1_000", 1000),
    ("1_000.5", 1000.5),
    ("1_0e3", 10e3),
    ("+3", 3),
    ("010", 10),
    ("0x1F", 31),
    ("0o17", 15),
    (".inf", math.inf),
    ("-.Inf", -math.inf),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("yes", "yes"),
    ("y", "y"),
    ("1e", "1e"),
    ("_1", "_1"),
    ("1__0", "1__0"),
    ("1_", "1_"),
    ("1.2.3", "1.2.3"),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    ("0b11", "0b11"),
    ("nan", "nan"),
    ("'3'", "3"),
    ('"true"', "true"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_of_yaml_1_2(text, value):
    found = plain(yaml12.load(f"key: {text}", "f.yaml"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert math.isnan(plain(yaml12.load("a: .nan", "f"))["a"])


def test_every_value_knows_its_line():
    text = "seed: 1\ntrainer:\n  max_epochs: 3\n  callbacks:\n  - class_path: A\n    init_args:\n      x: 1\n"
    lines = {path: node.origin.line for path, node in walk(yaml12.load(text, "c.yaml"), "")}
    assert lines == {
        "": 1,
        "seed": 1,
        "trainer": 2,
        "trainer.max_epochs": 3,
        "trainer.callbacks": 4,
        "trainer.callbacks.0": 5,
        "trainer.callbacks.0.class_path": 5,
        "trainer.callbacks.0.init_args": 6,
        "trainer.callbacks.0.init_args.x": 7,
    }


MISTAKES = [
    ("a: 1\na: 2\n", "f.yaml:2: the key 'a' is given twice; first at f.yaml:1"),
    ("a: {b: 1, b: 2}\n", "f.yaml:1: the key 'b' is given twice"),
    ("a: 1\nb: x: y\n", "f.yaml:2: not valid YAML: mapping values are not allowed here"),
    ("a:\n  - 1\n b: 2\n", "f.yaml:3: not valid YAML"),
    ("a:\n\tb: 2\n", "Indent with spaces, not tabs"),
    ("a: [1, 2\n", "f.yaml:2: not valid YAML"),
    ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: but found another document"),
    (
        "a: !!python/object:os.system x\n",
        "f.yaml:1: the tag tag:yaml.org,2002:python/object:os.system is not supported",
    ),
    ("a: !mine [1]\n", "f.yaml:1: the tag !mine is not supported"),
    ("[a, b]: 1\n", "f.yaml:1: a key must be a name"),
    ("a: &x [*x]\n", "f.yaml:1: this anchor contains itself"),
    ("a: *nope\n", "f.yaml:1: not valid YAML: found undefined alias 'nope'"),
    ("a: \x01\n", "f.yaml: not valid YAML"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_name_file_and_line(text, message):
    with pytest.raises(ConfigError) as caught:
        yaml12.load(text, "f.yaml")
    assert message in str(caught.value)


def test_nested_anchors_do_not_multiply():
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 20)}]" for i in range(1, 12)]
    root = yaml12.load("\n".join(lines), "f")  # 20**11 items if each were copied
    assert root.mapping["a11"].value[0].value is root.mapping["a11"].value[19].value


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_an_empty_mapping_or_null(text):
    assert not plain(yaml12.load(text, "f"))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
TEXTS = st.sampled_from([text for text, _ in SCALARS] + ["a: b", "#x", "- x", "'", '"', "x\ny", " x ", "é", "<<", "="])


@given(st.dictionaries(st.text(min_size=1, max_size=8), PLAIN | TEXTS, max_size=5))
def test_what_is_written_reads_back_here_and_elsewhere(tree):
    text = yaml12.dump(tree)
    assert plain(yaml12.load(text, "f")) == tree
    assert yaml.safe_load(text) == tree


def test_command_line_values_are_yaml_where_they_are_that():
    def value(text):
        return plain(yaml12.parse_value(text, "x"))

    assert value("[300, 100]") == [300, 100]
    assert value("{a: 1}") == {"a": 1}
    assert value("no") == "no"
    assert value("") is None
    assert value("[300, 100") == "[300, 100"
    assert value("a: b: c") == "a: b: c"
    assert value("@file") == "@file"
    assert value("!tag x") == "!tag x"
