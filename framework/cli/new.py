"""`fw new recipe NAME` and `fw new plugin NAME`: files written here, to start from."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import framework
from framework.cli.newplugin import plugin_files
from framework.errors import ConfigError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "recipe: copy one to recipes/ and its configs to configs/ of the current folder. "
        "plugin: write a package fw-NAME/ with a backend that can be installed, trains, and passes its tests."
    )
    parser.add_argument("kind", choices=["recipe", "plugin"], help="what to make")
    parser.add_argument("name", help=f"of a recipe: {', '.join(recipe_names())}; of a plugin: its backend's")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there and differ")


def run(args: argparse.Namespace) -> int:
    """Write the files, or none where one of them is there already and differs.

    Raises:
        ConfigError: no such recipe, a name that no backend can have, or a file is in the way.
    """
    files = recipe_files(args.name) if args.kind == "recipe" else plugin_files(args.name)
    here = Path.cwd()
    in_the_way = [str(name) for name, text in files.items() if _differs(here / name, text)]
    if in_the_way and not args.force:
        raise ConfigError(
            f"{', '.join(in_the_way)} already here and different; --force overwrites, nothing was written"
        )
    for name, text in files.items():
        target = here / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {target}: {error.strerror}") from None
        print(f"wrote {name}")
    print(f"try: {what_to_try(args, list(files))}")
    return 0


def what_to_try(args: argparse.Namespace, files: Sequence[Path]) -> str:
    """The command that uses what was written."""
    if args.kind == "plugin":
        return f"pip install -e ./{files[0].parts[0]} && fw plugins check {args.name}"
    config = next((name for name in files if name.suffix == ".yaml"), None)
    return f"fw train {config}" if config else f"python {files[0]}"


def examples_folder() -> Path:
    """The folder that holds `recipes/` and `configs/`: inside the installed package, else the checkout.

    Raises:
        ConfigError: this installation came without them.
    """
    package = Path(framework.__file__).parent
    for folder in (package / "_examples", package.parent):
        if (folder / "recipes").is_dir() and (folder / "configs").is_dir():
            return folder
    raise ConfigError("this installation of fw-framework has no recipes; reinstall it: pip install --force-reinstall")


def recipe_names() -> list[str]:
    """The names of the recipes that come with the framework."""
    return sorted(file.stem for file in (examples_folder() / "recipes").glob("[!_]*.py"))


def recipe_files(name: str) -> dict[Path, str]:
    """The recipe and the configs that use it: path to write to, and text.

    Raises:
        ConfigError: there is no such recipe.
    """
    folder = examples_folder()
    known = recipe_names()
    if name not in known:
        hint = did_you_mean(name, known) or f" There are {', '.join(known)}"
        raise ConfigError(f"no recipe {name!r}.{hint}")
    files = {Path("recipes", f"{name}.py"): (folder / "recipes" / f"{name}.py").read_text(encoding="utf-8")}
    uses = re.compile(rf"\brecipes\.{re.escape(name)}\.")
    configs = sorted((folder / "configs").glob("*.yaml"), key=lambda file: (len(file.stem), file.stem))
    for file in configs:
        text = file.read_text(encoding="utf-8")
        if uses.search(text):
            files[Path("configs", file.name)] = text
    return files


def _differs(path: Path, text: str) -> bool:
    return path.exists() and (not path.is_file() or path.read_text(encoding="utf-8") != text)
