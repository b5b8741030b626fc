"""What the words of a command line mean."""

from __future__ import annotations

import pytest

from framework.cli.options import parse
from framework.errors import ConfigError


def words(*argv, command="train"):
    def add_arguments(parser):
        parser.add_argument("configs", nargs="*")
        parser.add_argument("--resume")
        parser.add_argument("--no-test", action="store_true")

    return parse(command, argv, add_arguments)


def test_configs_options_and_keys_in_any_order():
    args = words("--seed", "3", "a.yaml", "--trainer.max_epochs=5", "--resume", "last", "b.yaml", "--no-test")
    assert args.configs == ["a.yaml", "b.yaml"]
    assert (args.resume, args.no_test, args.debug) == ("last", True, False)
    assert args.overrides == [("seed", "3"), ("trainer.max_epochs", "5")]


def test_values_may_be_negative_empty_or_hold_an_equals_sign():
    args = words("--optimizer.init_args.lr", "-1", "--data.init_args.root=", "--model.init_args.x", "a=b")
    assert args.overrides == [
        ("optimizer.init_args.lr", "-1"),
        ("data.init_args.root", ""),
        ("model.init_args.x", "a=b"),
    ]


MISTAKES = [
    (("--resum", "last"), "unknown option --resum. Did you mean '--resume'?"),
    (("--trainr.max_epochs", "3"), "unknown option --trainr.max_epochs. Did you mean '--trainer.max_epochs'?"),
    (("--xyzzy.a", "3"), "unknown option --xyzzy.a. The sections of a config are seed, trainer, model"),
    (("--res", "last"), "unknown option --res."),
    (("-x",), "unknown option -x. `fw train --help` lists them"),
    (("--trainer.max_epochs",), "--trainer.max_epochs needs a value: --trainer.max_epochs VALUE"),
    (("--seed", "--no-test"), "--seed needs a value"),
    (("--resume",), "fw train: argument --resume: expected one argument"),
    (("--no-test=1",), "fw train: argument --no-test: ignored explicit argument '1'"),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES)
def test_mistakes_are_named(argv, message):
    with pytest.raises(ConfigError) as caught:
        words(*argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_commands_without_a_config_take_no_keys():
    with pytest.raises(ConfigError, match="unknown option --seed"):
        words("--seed", "3", command="doctor")


def test_help_is_printed(capsys):
    assert words("--help") is None
    assert "--no-test" in capsys.readouterr().out
