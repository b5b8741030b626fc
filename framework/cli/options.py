"""The options of a command: its own, and those that set a key of the configuration."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from framework.cli.examples import EXAMPLES
from framework.cli.layers import ALIASES, TOP_LEVEL
from framework.errors import ConfigError, did_you_mean

SECTIONS = (*TOP_LEVEL, *ALIASES)
CONFIG_COMMANDS = ("train", "check", "validate", "test", "predict")
KEYS = """\
every key of the config can be set on the command line, and wins over the files:
  --trainer.max_epochs 3   --seed 1   --data.init_args.root DIR   --optimizer.init_args.lr 0.05
  --lr_scheduler.class_path StepLR   --trainer.logger WandbLogger   --trainer.callbacks.0.init_args.mode max
"""


class Parser(argparse.ArgumentParser):
    """argparse with whole option names only and one line per mistake."""

    def __init__(self, command: str, *, configures: bool) -> None:
        super().__init__(prog=f"fw {command}", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.configures = configures

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}")

    def options(self) -> dict[str, bool]:
        """The option strings, and whether each takes a value."""
        return {name: action.nargs != 0 for action in self._actions for name in action.option_strings}


def parse(
    command: str, argv: Sequence[str], add_arguments: Callable[[argparse.ArgumentParser], None]
) -> argparse.Namespace | None:
    """The command's arguments; `overrides` holds the (dotted name, text) pairs; None after `--help`.

    Raises:
        ConfigError: an unknown option (the nearest is named) or one without its value.
    """
    parser = Parser(command, configures=command in CONFIG_COMMANDS)
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    parser.set_defaults(command=command)
    add_arguments(parser)
    if "-h" in argv or "--help" in argv:
        _finish_help(parser, command)
        parser.print_help()
        return None
    own, overrides = split(parser, argv)
    args = parser.parse_args(own)
    args.overrides = overrides
    args.argv = list(argv)
    return args


def _finish_help(parser: Parser, command: str) -> None:
    """Lines of a readable length, and examples at the end."""
    parser.description = textwrap.fill(parser.description or "", 100)
    if command in EXAMPLES:
        parser.epilog = "\n".join(filter(None, [parser.epilog, f"examples:\n{EXAMPLES[command]}"]))


def split(parser: Parser, argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The command's own words, and the (dotted name, text) pairs that set keys of the configuration."""
    known = parser.options()
    own: list[str] = []
    positional: list[str] = []  # argparse takes these only in one piece
    overrides: list[tuple[str, str]] = []
    words = iter(range(len(argv)))
    for index in words:
        word = argv[index]
        name, has_value, text = word.partition("=")
        if not word.startswith("-") or word == "-":
            positional.append(word)
        elif name in known:
            own.append(word)
            if known[name] and not has_value and index + 1 < len(argv):
                own.append(argv[next(words)])
        elif parser.configures and name.startswith("--") and name[2:].partition(".")[0] in SECTIONS:
            if not has_value:
                if index + 1 == len(argv) or argv[index + 1].startswith("--"):
                    raise ConfigError(f"{name} needs a value: {name} VALUE or {name}=VALUE")
                text = argv[next(words)]
            overrides.append((name[2:], text))
        else:
            raise ConfigError(f"unknown option {name}.{_hint(parser, name)}")
    return [*own, *positional], overrides


def _hint(parser: Parser, name: str) -> str:
    sections = [f"--{section}" for section in SECTIONS] if parser.configures else []
    head, dot, rest = name.partition(".")
    if dot:
        close = did_you_mean(head, sections)
        return (
            close.replace("'?", f".{rest}'?") if close else f" The sections of a config are {', '.join(SECTIONS[:5])}"
        )
    return did_you_mean(name, [*parser.options(), *sections]) or f" `{parser.prog} --help` lists them"


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of one of the four commands."""
    command = parser.get_default("command")
    parser.epilog = KEYS
    parser.add_argument("configs", nargs="*", metavar="CONFIG.yaml", help="config files; later ones win")
    parser.add_argument("--print_config", action="store_true", help="print the complete config and stop")
    if command == "train":
        parser.description = "Train, then test on the best checkpoint where the data has a test split."
        parser.add_argument(
            "--resume",
            metavar="WHERE",
            help="go on where a run stopped, in its folder: a path of a run or checkpoint; last (the newest run of "
            "this config's name); or auto (the newest unfinished one with an equal config, else a new run; nothing "
            "where it is finished)",
        )
        parser.add_argument("--ckpt", metavar="PATH", help="start from the weights of this checkpoint")
        parser.add_argument("--no-test", action="store_true", help="do not test after training")
    elif command == "check":
        parser.description = (
            "Make everything that the config describes, run one batch forward, backward and through the other steps, "
            "and see that every metric that is watched is logged. Nothing is written."
        )
    else:
        parser.description = f"{command.capitalize()} with the weights of a checkpoint."
        parser.add_argument(
            "--ckpt", metavar="WHERE", help="a path, last or best (the default) of the config's newest run"
        )
    if command == "predict":
        parser.add_argument(
            "--output", metavar="FILE", default="predictions.npz", help="where to write: .npz (default) or .csv"
        )
