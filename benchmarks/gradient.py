"""The cost of an eager gradient: ours against backpropagation written by hand in NumPy.

    python benchmarks/gradient.py [--threads 1 2] [--batch 1 32 128] [--rounds 101] [--json FILE]

All compute the loss and the gradient of the 784-300-100-10 MLP with softmax cross-entropy on the same
arrays, in one process, in turns: by hand (`baselines/mlp_numpy.py`), by the functions `linear`, `relu`,
`softmax_cross_entropy` and `backward`, and by the modules of `nn`. A round is five gradients of each; the
figure is the median of the rounds' ratios.
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
from framework.autodiff import ops

rounds, sizes = int(sys.argv[1]), [int(n) for n in sys.argv[2:]]
params = mlp_numpy.init()
nn = fw.nn
net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
for p, value in zip(net.parameters(), params):
    p.assign(value)
loss_of = nn.CrossEntropyLoss()
linear, relu, softmax_cross_entropy = ops.linear, ops.relu, ops.softmax_cross_entropy
rng = np.random.default_rng(1)

w1, b1, w2, b2, w3, b3 = parameters = list(net.parameters())

def modules(x, y):
    for p in parameters:
        p.grad = None
    loss = loss_of(net(x), y)
    loss.backward()
    return loss

def functions(x, y):
    for p in parameters:
        p.grad = None
    h = relu(linear(relu(linear(x, w1, b1)), w2, b2))
    loss = softmax_cross_entropy(linear(h, w3, b3), y)
    loss.backward()
    return loss

def timed(fn, *args):
    start = time.perf_counter()
    for _ in range(5):
        fn(*args)
    return (time.perf_counter() - start) / 5

rows = []
for batch in sizes:
    x = rng.standard_normal((batch, 784)).astype(np.float32)
    y = rng.integers(0, 10, batch)
    tx, ty = fw.tensor(x), fw.tensor(y)
    value, grads = mlp_numpy.gradient(params, x, y)
    for ours in (functions, modules):
        assert abs(float(ours(tx, ty)) - float(value)) < 1e-5
        for p, g in zip(parameters, grads):
            np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-3, atol=1e-6)
    times = [
        (timed(mlp_numpy.gradient, params, x, y), timed(functions, tx, ty), timed(modules, tx, ty))
        for _ in range(rounds + 10)
    ][10:]
    row = {"batch": batch, "hand_us": statistics.median(t[0] for t in times) * 1e6}
    for k, name in enumerate(("functions", "modules"), 1):
        ratios = [t[k] / t[0] for t in times]
        q = statistics.quantiles(ratios, n=4)
        row[name] = {"ratio": statistics.median(ratios), "quartiles": [q[0], q[2]],
                     "us": statistics.median(t[k] for t in times) * 1e6}
    rows.append(row)
print(json.dumps({"rows": rows}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for threads in arguments.threads:
        print("environment: " + ", ".join(f"{k} {v}" for k, v in _child.describe(threads).items()))
        found = _child.run(CODE, threads, str(arguments.rounds), *map(str, arguments.batch))
        for row in found["rows"]:
            rows.append({"threads": threads, **row})
            for name in ("functions", "modules"):
                found_here = row[name]
                print(
                    f"threads {threads}, batch {row['batch']:>3}: by {name:9} ÷ by hand = {found_here['ratio']:.2f} "
                    f"(quartiles {found_here['quartiles'][0]:.2f}-{found_here['quartiles'][1]:.2f}; "
                    f"{found_here['us']:.0f} against {row['hand_us']:.0f} µs)"
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
