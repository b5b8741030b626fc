"""`fw bench`: what the framework costs, measured against other libraries.

The programs that measure are no part of the framework: they are `benchmarks/` of a checkout, and come
with an installed package beside the recipes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import framework
from framework.cli.report import DONE, FAILED
from framework.errors import ConfigError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "Measure gradients, steps, training and imports against NumPy by hand, bare matrix products and whichever of "
        "PyTorch, Lightning, JAX and autograd are installed; in child processes that take turns."
    )
    parser.epilog = """\
fw bench --list                                 the rows, and how long each takes
fw bench gradient step --rounds 101 --threads 1
fw bench --json figures.json --plot plots --page page.md
fw bench --from figures.json --page page.md     again, without measuring
fw bench cnn --again figures.json               one row in its place among the others
"""
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure; all, if none is named")
    parser.add_argument("--list", action="store_true", help="show the rows, and stop")
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds of each row (default: 15 or more, by row)")
    parser.add_argument(
        "--threads", type=_counts, default=(1, 2), metavar="N[,N]", help="numbers of BLAS threads (default: 1,2)"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds and small sizes, to see that all runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write plots as SVG")
    parser.add_argument(
        "--page",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write a page of Markdown, or the table between the two `fw bench` comments of a page that has them; "
        "may be given again",
    )
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="do not measure: take the figures of an earlier --json"
    )
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="measure, and put the rows into the figures of an earlier --json"
    )


def run(args: argparse.Namespace) -> int:
    """Measure or read, print, write; 1 if something of ours broke while it was measured.

    Raises:
        ConfigError: no such row or file, or this installation has no benchmarks.
    """
    if not hasattr(signal, "SIGSTOP"):
        raise ConfigError("fw bench stops the processes that do not have their turn, which this system cannot do")
    programs = load()
    if args.list:
        for row in programs.ROWS.values():
            print(f"{row.name:<10}{row.minutes:4.1f} min  {row.purpose}")
        return DONE
    names = _checked(args.rows, list(programs.ROWS))
    for target in [args.json, *args.page]:
        if target is not None and not target.absolute().parent.is_dir():
            raise ConfigError(f"cannot write {target}: there is no folder {target.absolute().parent}")
    if args.source is not None:
        told = _read(args.source, programs)
        told["results"] = [result for result in told["results"] if result["row"] in names]
    else:
        told = programs.measure(
            names, rounds=args.rounds, threads=args.threads, quick=args.quick, command=_command(args.argv)
        )
    if args.again is not None:
        told = programs.replaced(_read(args.again, programs), told)
        args.again.write_text(_text(told), encoding="utf-8")
    if args.json is not None:
        args.json.write_text(_text(told), encoding="utf-8")
    plots = programs.draw(told, args.plot) if args.plot is not None else {}
    for page in args.page:
        programs.write_page(page, told, plots)
    return FAILED if programs.has_failed(told) else DONE


def folder() -> Path:
    """The folder of the programs: inside the installed package, else in the checkout.

    Raises:
        ConfigError: this installation came without them.
    """
    package = Path(framework.__file__).parent
    for place in (package / "_examples", package.parent):
        if (place / "benchmarks" / "registry.py").is_file():
            return place / "benchmarks"
    raise ConfigError(
        "this installation of fw-framework has no benchmarks; reinstall it: pip install --force-reinstall fw-framework"
    )


def load() -> ModuleType:
    """The programs, as the package `benchmarks`; whatever else has this name is left alone."""
    place = folder()
    found = sys.modules.get("benchmarks")
    if found is None or Path(found.__file__ or "").parent != place:
        spec = importlib.util.spec_from_file_location(
            "benchmarks", place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return importlib.import_module("benchmarks.command")


def _text(told: dict[str, Any]) -> str:
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _command(argv: list[str]) -> str:
    """What was asked for; of a file elsewhere the name is enough for a page that others read."""
    return shlex.join(["fw", "bench", *[Path(word).name if Path(word).is_absolute() else word for word in argv]])


def _checked(names: list[str], known: list[str]) -> list[str]:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" There are {', '.join(known)}"
            raise ConfigError(f"fw bench: no row {name!r}.{hint}")
    return [name for name in known if name in names] if names else known


def _read(file: Path, programs: ModuleType) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--from {file}: {error}") from None
    if not isinstance(told, dict) or told.get("format") != programs.FORMAT:
        raise ConfigError(f"--from {file}: not what `fw bench --json FILE` of this version writes")
    return told


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))
