"""From config files and command-line values to a `Config`: everything found, typed and checked, nothing made yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from framework._version import __version__
from framework.cli import links, yaml12
from framework.cli.arguments import Argument, arguments_of, typed
from framework.cli.classes import Classes
from framework.cli.layers import Merger, read_file, read_overrides
from framework.cli.nodes import Node, refuse, shown
from framework.cli.paths import extend_sys_path, load_plugins, sys_path_entries
from framework.cli.specs import ClassSpec, SpecReader
from framework.errors import ConfigError
from framework.optim import Optimizer
from framework.optim.lr_scheduler import LRScheduler
from framework.train import DataModule, Trainer, TrainModule
from framework.train.run import snake_case

PREFER = {
    "optimizer": ("framework.optim",),
    "lr_scheduler": ("framework.optim.lr_scheduler",),
}
PER_STEP = ("OneCycleLR",)
"""Schedulers that step after every update unless the config says otherwise."""
TIMING = {
    "interval": Argument("interval", Literal["epoch", "step"] | None, None),
    "frequency": Argument("frequency", int, 1),
    "monitor": Argument("monitor", str | None, None),
}


@dataclass(slots=True)
class SchedulerSpec:
    """A learning-rate scheduler and when it steps."""

    spec: ClassSpec
    interval: str
    frequency: int
    monitor: str | None

    def tree(self) -> dict[str, Any]:
        """The section as plain data."""
        when = {"interval": self.interval, "frequency": self.frequency, "monitor": self.monitor}
        return {**self.spec.tree(), **when}


@dataclass(slots=True)
class Config:
    """A configuration, ready to be built."""

    name: str
    files: list[Path]
    seed: int
    trainer: ClassSpec
    model: ClassSpec
    data: ClassSpec | None
    optimizer: ClassSpec | None
    lr_scheduler: SchedulerSpec | None
    plugins: list[str] | dict[str, str]
    sys_path: list[str]
    notes: list[str]
    lines: dict[str, Node]
    """The sections as they were written, for messages."""

    def tree(self) -> dict[str, Any]:
        """Everything as plain data, defaults included; what two equal runs have in common."""
        tree: dict[str, Any] = {
            "seed": self.seed,
            "trainer": self.trainer.arguments(),
            "model": self.model.tree(),
        }
        for name in ("data", "optimizer", "lr_scheduler"):
            spec = getattr(self, name)
            if spec is not None:
                tree[name] = spec.tree()
        if self.plugins:
            tree["plugins"] = self.plugins
        return tree

    @property
    def text(self) -> str:
        """The complete configuration as YAML; training from it is the same run."""
        return f"# fw {__version__}\n" + yaml12.dump({**self.tree(), "sys_path": self.sys_path})


def load_config(files: Sequence[str], overrides: Sequence[tuple[str, str]] = ()) -> Config:
    """The configuration that files, merged in order, and then (dotted name, text) pairs give.

    Puts the current folder and the configs' projects first in `sys.path` and imports the plugins.

    Raises:
        ConfigError: anything in it is wrong; the message says where.
    """
    layers = [*(read_file(file) for file in files), read_overrides(overrides)]
    paths = [Path(file) for file in files]
    folders = [sys_path_entries(layer.mapping.get("sys_path")) for layer in layers]
    sys_path = extend_sys_path(zip(paths, folders))
    plugins = _plugins_node(layers)
    modules, plugin_names = load_plugins(plugins)
    reader = SpecReader(Classes(modules))
    sections, notes = _merged(layers, reader)
    return Config(
        name=run_name(paths, sections),
        files=paths,
        seed=_seed(sections.get("seed")),
        trainer=reader.read_arguments(Trainer, sections.get("trainer", Node({})), "trainer"),
        model=_model(reader, sections, files),
        data=_optional(reader, sections, "data", DataModule),
        optimizer=_optional(reader, sections, "optimizer", Optimizer, filled=("params",)),
        lr_scheduler=_scheduler(reader, sections),
        plugins=plugin_names,
        sys_path=sys_path,
        notes=notes,
        lines=sections,
    )


def _plugins_node(layers: Sequence[Node]) -> Node | None:
    """The `plugins:` of the last layer that has one."""
    return next((layer.mapping["plugins"] for layer in reversed(layers) if "plugins" in layer.mapping), None)


def _merged(layers: Sequence[Node], reader: SpecReader) -> tuple[dict[str, Node], list[str]]:
    """The sections of all layers, later ones over earlier ones, and notes on what that dropped."""

    def accepts(name: Node, path: str) -> set[str] | None:
        section = path.partition(".")[0]
        cls, _ = reader.classes.find(name, path, PREFER.get(section, ()))
        arguments = arguments_of(cls)
        return None if arguments.open else set(arguments.known)

    merger = Merger(reader.classes.same, accepts)
    root = layers[0]
    for layer in layers[1:]:
        root = merger.merge(root, layer)
    sections = {name: node for name, node in root.mapping.items() if node.value is not None}
    return links.resolve(sections), merger.notes


def run_name(files: Sequence[Path], sections: dict[str, Node]) -> str:
    """The first config's stem; for a run's own `config.yaml` that run's name; without a config the model's."""
    if files:
        first = files[0].absolute()
        if first.name == "config.yaml" and first.parent.name.startswith("version_"):
            return first.parent.parent.name
        return first.stem
    model = sections.get("model", Node({})).mapping.get("class_path")
    name = str(model.value).rpartition(".")[2] if model else "run"
    return snake_case(name)


def _seed(node: Node | None) -> int:
    if node is None:
        return 0
    seed = typed(Argument("seed", int, None), node, "seed")
    if not isinstance(seed, int) or seed < 0:
        raise refuse(node, "seed", f"expected an int of at least 0, got {shown(node.value)}")
    return seed


def _model(reader: SpecReader, sections: dict[str, Node], files: Sequence[str]) -> ClassSpec:
    node = sections.get("model")
    if node is None:
        place = ", ".join(files) or "the command line"
        raise ConfigError(
            f"{place}: no model section. It names the class to train: model: {{class_path: mymodule.MyNet}}"
        )
    return reader.read(node, "model", base=TrainModule)


def _optional(
    reader: SpecReader, sections: dict[str, Node], name: str, base: type, filled: tuple[str, ...] = ()
) -> ClassSpec | None:
    node = sections.get(name)
    return reader.read(node, name, base=base, prefer=PREFER.get(name, ()), filled=filled) if node else None


def _scheduler(reader: SpecReader, sections: dict[str, Node]) -> SchedulerSpec | None:
    node = sections.get("lr_scheduler")
    if node is None:
        return None
    if "optimizer" not in sections:
        raise refuse(node, "lr_scheduler", "needs an optimizer section beside it; the scheduler changes its rate")
    spec = reader.read(
        node,
        "lr_scheduler",
        base=LRScheduler,
        prefer=PREFER["lr_scheduler"],
        filled=("optimizer",),
        later=("total_steps",),
        extra=tuple(TIMING),
    )
    values = {
        name: typed(argument, node.mapping[name], f"lr_scheduler.{name}")
        for name, argument in TIMING.items()
        if name in node.mapping
    }
    if values.get("frequency", 1) < 1:
        raise refuse(
            node.mapping["frequency"],
            "lr_scheduler.frequency",
            f"expected an int of at least 1, got {values['frequency']}",
        )
    if getattr(spec.cls, "needs_metric", False) and values.get("monitor") is None:
        example = "monitor: val_loss beside its class_path"
        raise refuse(node, "lr_scheduler", f"{spec.cls.__name__} watches a metric; name it: {example}")
    per_step = any(cls.__name__ in PER_STEP for cls in spec.cls.__mro__)
    interval = values.get("interval") or ("step" if per_step else "epoch")
    return SchedulerSpec(spec, interval, values.get("frequency", 1), values.get("monitor"))
