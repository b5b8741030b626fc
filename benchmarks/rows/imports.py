"""How long the framework takes to import."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import figures
from benchmarks.children import environment
from benchmarks.registry import Bar, Result, Settings, row

NUMPY = "import numpy"
FOUR = "import framework, framework.numpy, framework.nn, framework.optim"
PIECES = {
    NUMPY: NUMPY,
    FOUR: FOUR,
    "up to the first result of a Linear": (
        f"{FOUR}\nframework.nn.Linear(4, 3)(framework.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist()"
    ),
    "fw --help": "import sys; sys.argv = ['fw', '--help']\nfrom framework.cli.main import entry\nentry()",
}


def once(code: str) -> float:
    """Seconds of one process, the interpreter's start included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code], env=environment(1), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


NOTES = """
    Fresh processes in turns, from start to exit, the interpreter's own start included; byte code is there already.
"""


@row("imports", "time to import the framework ÷ time to import NumPy", minutes=0.3, notes=NOTES)
def imports(settings: Settings) -> Iterator[Result]:
    """Fresh processes, in turns."""
    times: dict[str, list[float]] = {name: [] for name in PIECES}
    for code in PIECES.values():
        once(code)  # byte code, and files in the system's cache
    for _ in range(settings.rounds_or(31)):
        for name, code in PIECES.items():
            times[name].append(once(code))
    detail = {name: round(figures.median(values) * 1e3, 1) for name, values in times.items()}
    for name in list(PIECES)[1:]:
        ratios, bar = figures.ratios(times[name], times[NUMPY]), Bar(1.3) if name == FOUR else None
        yield Result("imports", f"{name} ÷ {NUMPY}", "", ratios, bar=bar, detail=detail if name == FOUR else {})
