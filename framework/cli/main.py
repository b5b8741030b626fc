"""`fw`: picks the command. What a command needs is imported when it is chosen, so that `--help` is quick."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from framework._version import __version__
from framework.errors import ConfigError, did_you_mean

COMMANDS = {
    "train": ("framework.cli.commands", "train a model, then test it on its best checkpoint"),
    "validate": ("framework.cli.commands", "measure a checkpoint on the validation data"),
    "test": ("framework.cli.commands", "measure a checkpoint on the test data"),
    "predict": ("framework.cli.commands", "write a checkpoint's predictions to a file"),
    "check": ("framework.cli.commands", "try everything a config describes on one batch, writing nothing"),
    "runs": ("framework.cli.history", "list, compare and plot runs; upload offline W&B runs"),
    "plugins": ("framework.cli.plugins", "list the backends and whether they work here"),
    "doctor": ("framework.cli.doctor", "show versions, BLAS and threads, and measure the machine"),
    "bench": ("framework.cli.bench", "measure it against NumPy by hand, PyTorch, Lightning, JAX"),
    "new": ("framework.cli.new", "copy a recipe here, or write a plugin, to start from"),
}

USAGE = """\
usage: fw COMMAND ...

commands:
{commands}

to begin:
  fw new recipe mnist_mlp               copies a recipe and its config here
  fw train configs/mnist_mlp.yaml       trains it: about 98.5 % on MNIST
  fw runs                               shows how it went

  fw COMMAND --help    what a command takes, with examples
  fw --version         the version

exit codes: 0 done; 2 refused before the first step; 1 failed after it; 130 Ctrl-C; 143 SIGTERM
"""


def usage() -> str:
    """The text of `fw --help`."""
    return USAGE.format(commands="\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items()))


def entry() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"fw {__version__}")
        return 0
    report = importlib.import_module("framework.cli.report")
    try:
        with report.short_warnings():
            return int(_dispatch(argv[0], list(argv[1:])))
    except KeyboardInterrupt as stop:
        report.note("interrupted")
        return int(getattr(stop, "exit_code", report.INTERRUPTED))
    except Exception as error:
        return int(report.report(error, debug="--debug" in argv))


def _dispatch(command: str, argv: list[str]) -> int:
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS) or f" There are {', '.join(COMMANDS)}"
        raise ConfigError(f"no command {command!r}.{hint}")
    options = importlib.import_module("framework.cli.options")
    name = COMMANDS[command][0]
    if command in options.CONFIG_COMMANDS:
        args = options.parse(command, argv, options.add_config_arguments)
    else:
        args = options.parse(command, argv, importlib.import_module(name).add_arguments)
    return 0 if args is None else importlib.import_module(name).run(args)
