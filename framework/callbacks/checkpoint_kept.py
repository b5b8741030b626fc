"""What a `ModelCheckpoint` keeps, as others read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from framework.callbacks.checkpoint_book import Book


class KeptCheckpoints:
    """The part of a `ModelCheckpoint` that tells where its checkpoints are; reading a path waits for the disk."""

    dirpath: str | None
    mode: str

    def _begin_book(self) -> None:
        """Begin with nothing saved."""
        self._book = Book()
        self._finish: Callable[[], object] = lambda: None  # waits for what is written in the background

    @property
    def best_model_path(self) -> str:
        """Path of the best checkpoint (the newest, without `monitor`); "" if there is none."""
        return self._path(self._settled.top(self.mode))

    @property
    def best_model_score(self) -> float | None:
        """The monitored value of the best checkpoint."""
        return self._book.best.get(self._book.top(self.mode))

    @property
    def best_k_models(self) -> dict[str, float]:
        """Paths of the kept checkpoints with their monitored values, in order of saving."""
        return {self._path(name): score for name, score in self._settled.best.items()}

    @property
    def kth_best_model_path(self) -> str:
        """Path of the worst of the kept best; "" if there is none."""
        return self._path(self._settled.worst(self.mode))

    @property
    def kth_value(self) -> float | None:
        """The monitored value of the worst of the kept best."""
        return self._book.best.get(self._book.worst(self.mode))

    @property
    def last_model_path(self) -> str:
        """Path of the newest checkpoint; "" if there is none."""
        return self._path(self._settled.newest)

    @property
    def _settled(self) -> Book:
        """The book, once it tells what is on the disk."""
        self._finish()
        return self._book

    def to_yaml(self, filepath: str | Path | None = None) -> None:
        """Write the kept paths and their monitored values to a YAML file; default `best_k_models.yaml` beside them."""
        import yaml

        path = Path(filepath) if filepath is not None else Path(self.dirpath or ".") / "best_k_models.yaml"
        path.write_text(yaml.safe_dump(self.best_k_models, sort_keys=False), encoding="utf-8")

    def _path(self, name: str) -> str:
        return str(Path(self.dirpath or ".") / name) if name else ""
