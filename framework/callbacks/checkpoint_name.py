"""Folder names of checkpoints, from a template."""

from __future__ import annotations

import string
from collections.abc import Mapping

from framework.errors import ConfigError

POINTERS = ("last", "best")
"""Files that stand beside the checkpoints, so no checkpoint can have these names."""


class NameTemplate:
    """`str.format`-like template of a folder name, such as `{epoch}-{val_loss:.2f}`.

    Args:
        template: text with fields `{name}` or `{name:format}`; names are `epoch`, `step` and metrics.
        insert_names: write each field as `name=value` instead of `value`.
        join, equals: the characters of the default template and between name and value.

    Raises:
        ConfigError: the template is malformed, contains a `/`, or names a pointer file.

    Examples:
        >>> NameTemplate("{epoch}-{val/loss:.2f}").format({"epoch": 3, "val/loss": 0.1234})
        'epoch=3-val_loss=0.12'
        >>> NameTemplate("net-{step:05d}", insert_names=False).format({"step": 42})
        'net-00042'
    """

    def __init__(
        self, template: str | None = None, insert_names: bool = True, join: str = "-", equals: str = "="
    ) -> None:
        self.template = template or f"{{epoch}}{join}{{step}}"
        self._insert_names, self._equals = insert_names, equals
        try:
            self._parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise ConfigError(f"ModelCheckpoint(filename={template!r}): not a template ({error}).") from None
        self.metrics = tuple(
            field for _, field, _, _ in self._parts if field is not None and field not in ("epoch", "step")
        )
        """Names of the metrics that the template needs."""
        self._check()

    def format(self, values: Mapping[str, float]) -> str:
        """The name for these values; raises ConfigError where a value does not fit its format."""
        return "".join(literal + self._field(field, spec, values) for literal, field, spec, _ in self._parts)

    def _field(self, field: str | None, spec: str | None, values: Mapping[str, float]) -> str:
        if field is None:
            return ""
        try:
            text = format(values[field], spec or "")
        except ValueError as error:
            raise ConfigError(
                f"ModelCheckpoint(filename={self.template!r}): "
                f"{{{field}:{spec}}} cannot show {values[field]!r} ({error})."
            ) from None
        return f"{field.replace('/', '_')}{self._equals}{text}" if self._insert_names else text

    def _check(self) -> None:
        literal = "".join(part[0] for part in self._parts)
        if "/" in literal or "\\" in literal or literal.startswith("."):
            raise ConfigError(
                f"ModelCheckpoint(filename={self.template!r}): a checkpoint is one folder inside dirpath, so its name "
                f"has no slash and no leading dot. Give the folder as dirpath=."
            )
        if any(part[1] == "" for part in self._parts):
            raise ConfigError(
                f"ModelCheckpoint(filename={self.template!r}): a field has no name; write {{epoch}} or {{step}}."
            )
        if self.template in POINTERS:
            raise ConfigError(
                f"ModelCheckpoint(filename={self.template!r}): {self.template!r} is the file that points to the "
                f"{'newest' if self.template == 'last' else 'best'} checkpoint, and is kept up to date by itself. "
                f"Leave filename out, or write {self.template + '-{step}'!r}."
            )
