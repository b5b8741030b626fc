"""How long the framework takes to import, as a ratio to NumPy's own import.

    python benchmarks/imports.py [--rounds 20]

Fresh processes, in turns; whole process time, the interpreter's start included; medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _child

PIECES = {
    "import numpy": "import numpy",
    "import framework, .numpy, .nn, .optim": "import framework, framework.numpy, framework.nn, framework.optim",
    "first result of a Linear": (
        "import framework, framework.numpy, framework.nn, framework.optim\n"
        "framework.nn.Linear(4, 3)(framework.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist()"
    ),
    "fw --help": "import sys; sys.argv = ['fw', '--help']\nfrom framework.cli.main import entry\nentry()",
}


def once(code: str) -> float:
    """Seconds of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=_child.environment(1), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in PIECES}
    for code in PIECES.values():
        once(code)  # byte code and disk cache
    for _ in range(rounds):
        for name, code in PIECES.items():
            times[name].append(once(code))
    base = statistics.median(times["import numpy"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:40} {median * 1e3:7.0f} ms   {median / base:5.2f} x import numpy")


if __name__ == "__main__":
    main()
