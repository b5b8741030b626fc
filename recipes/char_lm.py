"""A small GPT that writes Python, a character at a time: trained on the standard library's own source text.

    fw train configs/char_lm.yaml
    python recipes/char_lm.py runs/char_lm/version_0/checkpoints/epoch=… "def main("

The second line lets a checkpoint go on with a text. The run's folder has a sample too, in `sample.txt`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import framework as fw

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # printable ASCII; whatever else there is becomes a "?"

# Modules that every Python from 3.11 on has as one file each; those validated and tested on are never trained on.
TRAIN = (
    "_pydecimal", "_pyio", "argparse", "ast", "bdb", "calendar", "cmd", "codecs", "compileall", "configparser",
    "contextlib", "copy", "dataclasses", "difflib", "dis", "doctest", "enum", "filecmp", "fileinput", "fractions",
    "ftplib", "functools", "getopt", "gettext", "gzip", "hashlib", "heapq", "hmac", "imaplib", "inspect", "ipaddress",
    "locale", "mailbox", "mimetypes", "modulefinder", "ntpath", "numbers", "operator", "optparse", "os", "pdb",
    "pickle", "pickletools", "pkgutil", "plistlib", "posixpath", "pprint", "profile", "pstats", "pyclbr", "random",
    "runpy", "sched", "selectors", "shelve", "shutil", "smtplib", "socket", "socketserver", "statistics", "subprocess",
    "symtable", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "trace", "traceback", "turtle",
    "types", "typing", "wave", "weakref", "webbrowser",
)  # fmt: skip
VALIDATION = ("base64", "csv", "fnmatch", "platform", "queue", "uuid")
TEST = ("bisect", "poplib", "reprlib", "shlex", "tabnanny", "zipapp")


class Block(fw.nn.Module):
    """Attention to what came before, then two linear layers; each is normalised first and added (Radford et al. 2019).

    Args:
        width: the features of each character.
        heads: the parts that attention has.
    """

    shares_work = True  # attention by a function: the Trainer cannot see that it is worth several threads

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = fw.nn.LayerNorm(width)
        self.qkv = fw.nn.Linear(width, 3 * width)
        self.proj = fw.nn.Linear(width, width)
        self.norm2 = fw.nn.LayerNorm(width)
        self.up = fw.nn.Linear(width, 4 * width)
        self.down = fw.nn.Linear(4 * width, width)

    def forward(self, x: fw.Tensor) -> fw.Tensor:
        """(batch, time, width) to the same shape."""
        x = x + self.attend(self.norm1(x))
        return x + self.down(fw.nn.functional.gelu(self.up(self.norm2(x))))

    def attend(self, x: fw.Tensor) -> fw.Tensor:
        """What each place finds at those up to its own."""
        n, time, width = x.shape
        parts = fw.numpy.split(self.qkv(x), 3, axis=-1)
        # (batch, heads, time, width of a head) each:
        q, k, v = (part.reshape(n, time, self.heads, -1).permute(0, 2, 1, 3) for part in parts)
        found = fw.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(found.permute(0, 2, 1, 3).reshape(n, time, width))


class CharLM(fw.TrainModule):
    """A transformer that says, at each place of a text, how probable each character is as the next one.

    Args:
        layers: the number of blocks.
        width: the features of each character.
        heads: the parts that attention has.
        context: how many characters it can look back on.
        prompt: what the sample at the end of the training begins with.
        sample: how many characters it goes on for.
    """

    def __init__(
        self,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        context: int = 128,
        prompt: str = "\ndef ",
        sample: int = 400,
    ) -> None:
        super().__init__()
        if width % heads:
            raise fw.errors.ConfigError(f"CharLM: a width of {width} does not make {heads} equal heads")
        self.save_hyperparameters()
        self.context = context
        self.prompt = prompt
        self.sample = sample
        self.token = fw.nn.Embedding(len(CHARACTERS), width)
        self.place = fw.nn.Embedding(context, width)
        self.blocks = fw.nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm = fw.nn.LayerNorm(width)
        self.head = fw.nn.Linear(width, len(CHARACTERS))
        for table in (self.token, self.place):
            fw.nn.init.normal_(table.weight, std=0.02)

    def forward(self, x: fw.Tensor) -> fw.Tensor:
        """Characters (batch, time) to logits of those that follow (batch, time, characters)."""
        if x.shape[1] > self.context:
            raise fw.errors.ShapeError(
                f"CharLM: got {x.shape[1]} characters at once, but it looks back on {self.context} at most; "
                "give model and data the same context"
            )
        h = self.token(x) + self.place.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(h)))

    def measure(self, batch: Any) -> fw.Tensor:
        """The mean of −log p of the characters that really follow: nats per character."""
        x, y = batch
        logits = self(x)
        return fw.nn.functional.cross_entropy(logits.reshape(-1, len(CHARACTERS)), y.reshape(-1))

    def training_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """The loss of one batch."""
        loss = self.measure(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The loss on modules that are not trained on."""
        self.log("val_loss", self.measure(batch), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The loss on yet other modules."""
        self.log("test_loss", self.measure(batch))

    def on_train_end(self) -> None:
        """Compare with a table of pairs of characters, and write a sample."""
        loss = self.trainer.callback_metrics.get("val_loss")
        if loss is not None and isinstance(self.trainer.datamodule, SourceText):
            pairs = bigram_entropy(self.trainer.datamodule.texts["validation"])
            self.print(f"validation: {float(loss):.3f} nats a character; knowing the last one only: {pairs:.3f}")
        sample = self.go_on(self.prompt, self.sample)
        self.print(f"--- sample ---{sample}\n--- end ---")
        if self.trainer.log_dir is not None:
            Path(self.trainer.log_dir, "sample.txt").write_text(sample, encoding="utf-8")

    @fw.no_grad()
    def go_on(self, text: str, length: int = 400, temperature: float = 0.7, seed: int = 0) -> str:
        """The text with `length` more characters, drawn from what the model finds probable.

        A lower temperature keeps to the most probable ones; the seed decides the draws.
        """
        self.eval()
        codes = encode(text or "\n").tolist()
        draws = np.random.default_rng(seed).random(length)
        for draw in draws:
            seen = fw.tensor([codes[-self.context :]], dtype="int64").to(device=self.device)
            probability = fw.nn.functional.softmax(self(seen)[0, -1] / temperature, dim=-1).numpy()
            codes.append(min(int(probability.cumsum().searchsorted(draw)), len(CHARACTERS) - 1))
        return decode(codes)

    def configure_optimizers(self) -> dict[str, Any]:
        """What the config's `optimizer` and `lr_scheduler` say instead, where it has them."""
        optimizer = fw.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.1)
        steps = self.trainer.estimated_stepping_batches
        scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def encode(text: str) -> np.ndarray:
    """The number of each character, int64."""
    table = np.full(128, CHARACTERS.index("?"))
    table[[ord(c) for c in CHARACTERS]] = range(len(CHARACTERS))
    return table[np.frombuffer(text.encode("ascii", "replace"), np.uint8)]


def decode(codes: list[int]) -> str:
    """The text of numbers."""
    return "".join(CHARACTERS[code] for code in codes)


def bigram_entropy(codes: np.ndarray) -> float:
    """The entropy of a character given the one before it, in nats, by the counts of pairs in this very text."""
    n = len(CHARACTERS)
    pairs = np.bincount(codes[:-1] * n + codes[1:], minlength=n * n).reshape(n, n)
    first = np.broadcast_to(pairs.sum(axis=1, keepdims=True), pairs.shape)
    seen = pairs > 0
    return float(-(pairs[seen] * np.log(pairs[seen] / first[seen])).sum() / pairs.sum())


class Windows(fw.data.Dataset):
    """A text in pieces of `context` characters, each with the same piece one character on.

    Args:
        codes: the text.
        context: characters in a piece.
    """

    def __init__(self, codes: np.ndarray, context: int) -> None:
        self.codes = codes
        self.context = context

    def __len__(self) -> int:
        return (len(self.codes) - 1) // self.context

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.__getitems__(np.array([index]))
        return x[0], y[0]

    def __getitems__(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A whole batch at once."""
        places = indices[:, None] * self.context + np.arange(self.context)
        return self.codes[places], self.codes[places + 1]


class SourceText(fw.DataModule):
    """The source text of Python's standard library, as this Python has it.

    Args:
        context: characters in a sample; not more than the model's.
        batch_size: samples in a training batch.
        folder: where the modules are; left out, those of this Python.
        limit: use so many characters of each part at most.
    """

    dataset_name = "stdlib"

    def __init__(
        self, context: int = 128, batch_size: int = 16, folder: str | None = None, limit: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.context = context
        self.batch_size = batch_size
        self.folder = Path(os.__file__).parent if folder is None else Path(folder).expanduser()
        self.limit = limit
        self.texts: dict[str, np.ndarray] = {}

    def setup(self, stage: str) -> None:
        """Read the modules; once, whatever the stage."""
        if not self.texts:
            for part, modules in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
                self.texts[part] = encode("\n".join(map(self.source, modules)))[: self.limit]

    def source(self, module: str) -> str:
        """The text of a module.

        Raises:
            DataError: it is not there.
        """
        file = self.folder / f"{module}.py"
        try:
            return file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise fw.errors.DataError(
                f"cannot read {file}: {error.strerror}. This Python comes without its source text; "
                "set data.init_args.folder to the folder of one that has it (where its os.py is)"
            ) from None

    def train_dataloader(self) -> fw.data.DataLoader:
        """Batches in an order that the seed and the epoch decide."""
        windows = Windows(self.texts["train"], self.context)
        return fw.data.DataLoader(windows, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> fw.data.DataLoader:
        """Modules that are not trained on."""
        return fw.data.DataLoader(Windows(self.texts["validation"], self.context), batch_size=32)

    def test_dataloader(self) -> fw.data.DataLoader:
        """Yet other modules."""
        return fw.data.DataLoader(Windows(self.texts["test"], self.context), batch_size=32)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"which checkpoint? python {sys.argv[0]} CHECKPOINT [TEXT]")
    print(CharLM.load_from_checkpoint(sys.argv[1]).go_on(*sys.argv[2:3] or ["\ndef "]))
