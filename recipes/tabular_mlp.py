"""A table in a CSV file: train on some columns to predict another one, then predict it for new rows.

    fw train configs/tabular_mlp.yaml
    fw predict configs/tabular_mlp.yaml --ckpt last --output rents.csv
    fw predict configs/tabular_mlp.yaml --ckpt last --output rents.csv --data.init_args.predict_path new_flats.csv

For a table of your own, say where it is and which column to predict:

    fw train configs/tabular_mlp.yaml --data.init_args.path mine.csv --data.init_args.target price

Columns of numbers and of text may be mixed, cells may be empty. A target that is text is classified, one of numbers is
estimated. The file may be larger than memory. `python recipes/tabular_mlp.py flats.csv 1000000` writes an example.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

import framework as fw


class TabularMLP(fw.TrainModule):
    """Numbers and embedded categories through linear layers with ReLU between them.

    Args:
        hidden: the widths of the hidden layers.
        dropout: the probability that one of their outputs is dropped, in training.
        columns: what `Table.columns` gives; left out, the data are asked when the work begins.
    """

    def __init__(
        self, hidden: tuple[int, ...] = (128, 64), dropout: float = 0.0, columns: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if columns is not None:
            self.build(columns)

    def setup(self, stage: str) -> None:
        """Make the layers, whose sizes the table decides."""
        if self.hparams.columns is None:
            # As hyper-parameters, they are kept in checkpoints.
            self.save_hyperparameters({**self.hparams, "columns": self.trainer.datamodule.columns()})
            self.build(self.hparams.columns)

    def build(self, columns: dict[str, Any]) -> None:
        """Make the layers for these columns."""
        nn = fw.nn
        self.numbers: int = columns["numbers"]
        self.target: str = columns["target"]
        self.classes: list[str] | None = columns["classes"]
        self.embeddings = nn.ModuleList([nn.Embedding(n, min(16, (n + 1) // 2)) for n in columns["categories"]])
        width = self.numbers + sum(table.weight.shape[1] for table in self.embeddings)
        layers: list[fw.nn.Module] = []
        for size in self.hparams.hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(self.hparams.dropout)]
            width = size
        self.net = nn.Sequential(*layers, nn.Linear(width, 1 if self.classes is None else len(self.classes)))
        # Numbers are estimated in units in which they have mean 0 and deviation 1.
        self.register_buffer("mean", fw.tensor(columns["mean"]))
        self.register_buffer("std", fw.tensor(columns["std"]))
        kind, self.measured = (nn.MSELoss, "rmse") if self.classes is None else (nn.CrossEntropyLoss, "acc")
        self.loss = kind()
        self.metrics = {
            part: fw.metrics.Accuracy() if self.classes else fw.metrics.MeanSquaredError(squared=False)
            for part in ("val", "test")
        }

    def forward(self, *features: fw.Tensor) -> fw.Tensor:
        """Numbers (batch, columns) and codes (batch, columns), if there are such: logits, or estimates (batch,)."""
        parts = list(features[: bool(self.numbers)])
        for k, table in enumerate(self.embeddings):
            parts.append(table(features[-1][:, k]))
        out = self.net(fw.numpy.concat(parts, axis=1))
        return out if self.classes else out.squeeze(-1)

    def measure(self, out: fw.Tensor, y: fw.Tensor) -> fw.Tensor:
        """The loss of a batch."""
        return self.loss(out, y if self.classes else (y - self.mean) / self.std)

    def training_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """The loss of one batch."""
        *features, y = batch
        loss = self.measure(self(*features), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The loss, and the accuracy or the error in the target's own units, on rows that are not trained on."""
        self.evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The same on yet other rows."""
        self.evaluate("test", batch)

    def evaluate(self, part: str, batch: Any) -> None:
        """Log the loss and the metric of a batch."""
        *features, y = batch
        out = self(*features)
        self.log(f"{part}_loss", self.measure(out, y), prog_bar=True)
        self.metrics[part].update(out if self.classes else out * self.std + self.mean, y)
        self.log(f"{part}_{self.measured}", self.metrics[part], prog_bar=True)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """The target of each row; of a class, also how probable each one is."""
        features = batch[: bool(self.numbers) + bool(len(self.embeddings))]  # rows may come with a target
        out = self(*features)
        if self.classes is None:
            return {self.target: out * self.std + self.mean}
        probability = fw.nn.functional.softmax(out, dim=-1)
        label = np.array(self.classes)[probability.argmax(-1).numpy()]
        return {self.target: label, **{f"p({name})": probability[:, k] for k, name in enumerate(self.classes)}}

    def configure_optimizers(self) -> dict[str, Any]:
        """What the config's `optimizer` and `lr_scheduler` say instead, where it has them."""
        optimizer = fw.optim.AdamW(self.parameters(), lr=3e-3)
        steps = self.trainer.estimated_stepping_batches
        scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Table(fw.DataModule):
    """A CSV file with a header: 80 % of its rows to train on, 10 % to validate on, 10 % to test on.

    It is read in blocks, so that memory holds a few of these and never the file. To predict, it is read again for
    what its columns are: keep it as it was.

    Args:
        path: of the file.
        target: the column to predict.
        categorical: the columns that hold categories; "auto" for those whose cells are no numbers.
        batch_size: rows in a training batch.
        buffer: rows in a block; rows are shuffled within blocks, and blocks among themselves.
        predict_path: a file whose rows are predicted, with the same columns but for the target; left out, those
            to test on.
        example_rows: where there is no file at `path`, write an example with so many rows; 0 for an error instead.
    """

    def __init__(
        self,
        path: str,
        target: str,
        categorical: list[str] | str = "auto",
        batch_size: int = 256,
        buffer: int = 10_000,
        predict_path: str | None = None,
        example_rows: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.path = Path(path).expanduser()
        self.predict_path = None if predict_path is None else Path(predict_path).expanduser()
        self.table: fw.data.CSVDataset | None = None

    def prepare_data(self) -> None:
        """Write the example, where it is wanted."""
        rows = self.hparams.example_rows
        if rows and not self.path.exists():
            print(f"WARNING: there is no {self.path}; writing an example with {rows} rows there", file=sys.stderr)
            write_example(self.path, rows)

    def setup(self, stage: str) -> None:
        """Look through the file once, whatever the stage, for its columns, categories and statistics."""
        if self.table is None:
            args = self.hparams
            self.dataset_name = self.path.stem
            self.table = fw.data.CSVDataset(
                self.path, args.target, categorical=args.categorical, missing="mean", normalize=True, buffer=args.buffer
            )
            self.train_set, self.val_set, self.test_set = fw.data.random_split(self.table, [0.8, 0.1, 0.1], seed=0)

    def columns(self) -> dict[str, Any]:
        """What a model has to know of the table."""
        table, target = self.table, self.hparams.target
        statistics = table.statistics.get(target, {"mean": 0.0, "std": 1.0})
        return {
            "numbers": len(table.numeric),
            "categories": table.cardinalities,
            "target": target,
            "classes": table.classes,
            "mean": statistics["mean"],
            "std": statistics["std"] or 1.0,
        }

    def train_dataloader(self) -> fw.data.DataLoader:
        """Rows in an order that the seed and the epoch decide."""
        return fw.data.DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> fw.data.DataLoader:
        """Rows that are not trained on."""
        return fw.data.DataLoader(self.val_set, batch_size=1000)

    def test_dataloader(self) -> fw.data.DataLoader:
        """Yet other rows."""
        return fw.data.DataLoader(self.test_set, batch_size=1000)

    def predict_dataloader(self) -> fw.data.DataLoader:
        """The rows of `predict_path`, in their order; without one, those to test on."""
        rows = self.test_set if self.predict_path is None else fw.data.CSVDataset(self.predict_path, like=self.table)
        return fw.data.DataLoader(rows, batch_size=1000)


def write_example(path: Path, rows: int, seed: int = 0) -> None:
    """Write a table of invented flats, whose rent depends on the other columns and, by 50 either way, on chance."""
    rng = np.random.default_rng(seed)
    districts = {"harbour": 4.0, "hill": 6.0, "market": 3.0, "mill": 1.0, "station": 0.0}
    heatings = {"district": 60.0, "gas": 0.0, "oil": -50.0, "pump": 90.0}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "rooms", "floor", "year", "district", "heating", "balcony", "rent"])
        for start in range(0, rows, 10_000):
            n = min(10_000, rows - start)
            area = 18 + rng.gamma(5.0, 12.0, n)
            rooms = np.clip(np.rint(area / 24 + rng.normal(0, 0.6, n)), 1, 9)
            floor = rng.integers(0, 9, n)
            year = rng.integers(1890, 2025, n)
            district = rng.integers(0, len(districts), n)
            heating = rng.integers(0, len(heatings), n)
            balcony = rng.random(n) < 0.4
            rent = area * (7.0 + np.array(list(districts.values()))[district]) + 12 * floor * (district == 1)
            rent += np.array(list(heatings.values()))[heating] + 70 * balcony + 0.02 * (year - 1965.0) ** 2
            rent += 25 * np.sqrt(rooms) + rng.normal(0, 50, n)
            no_year, no_heating = rng.random((2, n)) < 0.05
            for k in range(n):
                writer.writerow([
                    f"{area[k]:.1f}", int(rooms[k]), floor[k], "" if no_year[k] else year[k],
                    list(districts)[district[k]], "" if no_heating[k] else list(heatings)[heating[k]],
                    "yes" if balcony[k] else "no", f"{rent[k]:.2f}",
                ])  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"to write an example: python {sys.argv[0]} FILE.csv ROWS")
    write_example(Path(sys.argv[1]), int(sys.argv[2]))
