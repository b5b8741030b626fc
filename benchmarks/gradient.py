"""The cost of an eager gradient: ours against backpropagation written by hand in NumPy.

    python benchmarks/gradient.py [--threads 1 2] [--batch 1 32 128] [--rounds 41] [--json FILE]

Both compute the loss and the gradient of the 784-300-100-10 MLP with softmax cross-entropy on the same
arrays, in one process, in turns. A round is as many gradients of each as take some 20 ms; the figure is
the median of the rounds' ratios. The baseline is `baselines/mlp_numpy.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _child

CODE = r"""
import json, statistics, sys, time
sys.path.insert(0, "benchmarks/baselines")
import numpy as np
import mlp_numpy
import framework as fw

rounds, sizes = int(sys.argv[1]), [int(n) for n in sys.argv[2:]]
params = mlp_numpy.init()
nn = fw.nn
net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
for p, value in zip(net.parameters(), params):
    p.assign(value)
loss_of = nn.CrossEntropyLoss()
rng = np.random.default_rng(1)

def ours(x, y):
    for p in net.parameters():
        p.grad = None
    loss = loss_of(net(x), y)
    loss.backward()
    return loss

def timed(fn, repeats, *args):
    start = time.perf_counter()
    for _ in range(repeats):
        fn(*args)
    return (time.perf_counter() - start) / repeats

rows = []
for batch in sizes:
    x = rng.standard_normal((batch, 784)).astype(np.float32)
    y = rng.integers(0, 10, batch)
    tx, ty = fw.tensor(x), fw.tensor(y)
    value, grads = mlp_numpy.gradient(params, x, y)
    assert abs(float(ours(tx, ty)) - float(value)) < 1e-5
    for p, g in zip(net.parameters(), grads):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-3, atol=1e-6)
    repeats = max(3, int(0.02 / timed(mlp_numpy.gradient, 20, params, x, y)))
    pairs = [
        (timed(ours, repeats, tx, ty), timed(mlp_numpy.gradient, repeats, params, x, y)) for _ in range(rounds + 2)
    ][2:]
    ratios = [a / b for a, b in pairs]
    q = statistics.quantiles(ratios, n=4)
    rows.append({"batch": batch, "ratio": statistics.median(ratios), "quartiles": [q[0], q[2]],
                 "ours_us": statistics.median(a for a, _ in pairs) * 1e6,
                 "hand_us": statistics.median(b for _, b in pairs) * 1e6})
print(json.dumps({"rows": rows}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for threads in arguments.threads:
        print("environment: " + ", ".join(f"{k} {v}" for k, v in _child.describe(threads).items()))
        found = _child.run(CODE, threads, str(arguments.rounds), *map(str, arguments.batch))
        for row in found["rows"]:
            rows.append({"threads": threads, **row})
            print(
                f"threads {threads}, batch {row['batch']:>3}: eager gradient ÷ hand-written NumPy = {row['ratio']:.2f} "
                f"(quartiles {row['quartiles'][0]:.2f}-{row['quartiles'][1]:.2f}; "
                f"{row['ours_us']:.0f} against {row['hand_us']:.0f} µs)"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
