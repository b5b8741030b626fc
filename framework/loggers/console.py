"""Lines for people, printed without tearing a progress bar."""

from __future__ import annotations

import sys
from typing import Any


def is_open(stream: Any) -> bool:
    """Whether a stream can be written to: a program without a console has None, a daemon may have closed its own."""
    return stream is not None and not getattr(stream, "closed", False)


def say(text: str) -> None:
    """Print one line on the standard output, if there is one, above the progress bar where one is drawn.

    Examples:
        >>> say("Epoch 0 done")
        Epoch 0 done
    """
    if not is_open(sys.stdout):
        return
    tqdm = sys.modules.get("tqdm")  # a bar can only be there if somebody has imported it
    if tqdm is not None and getattr(tqdm.tqdm, "_instances", None):
        tqdm.tqdm.write(text, file=sys.stdout)
    else:
        print(text, flush=True)
