"""Lines for people, printed without tearing a progress bar."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print one line on the standard output, above the progress bar where one is drawn.

    Examples:
        >>> say("Epoch 0 done")
        Epoch 0 done
    """
    tqdm = sys.modules.get("tqdm")  # a bar can only be there if somebody has imported it
    if tqdm is not None and getattr(tqdm.tqdm, "_instances", None):
        tqdm.tqdm.write(text, file=sys.stdout)
    else:
        print(text, flush=True)
