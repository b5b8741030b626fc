"""The cost of a training step: `Trainer.fit` against the loop written by hand in NumPy.

    python benchmarks/step.py [--threads 1 2] [--rounds 15] [--json FILE]

Both train the 784-300-100-10 MLP at batch 128 on the same 12,800 random images (uint8 gathered and
normalised for us, float32 gathered by hand), in one process, in turns. A round is 100 steps of each;
the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _child

CODE = r"""
import json, statistics, sys, tempfile, time, warnings, logging
sys.path.insert(0, "benchmarks/baselines"); sys.path.insert(0, ".")
import numpy as np
import mlp_numpy
import framework as fw
from recipes.mnist_mlp import MnistMLP

rounds, steps, batch = int(sys.argv[1]), 100, 128
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (steps * batch, 28, 28), dtype=np.uint8)
labels = rng.integers(0, 10, steps * batch)
flat = ((images.reshape(len(images), -1) / 255 - 0.1307) / 0.3081).astype(np.float32)
data = fw.data.ArrayDataset(images, labels, transform=fw.data.transforms.Normalize(0.1307, 0.3081))

class Timed(fw.callbacks.Callback):
    def on_train_epoch_start(self, trainer, module):
        self.start = time.perf_counter()
    def on_train_epoch_end(self, trainer, module):
        ours.append(time.perf_counter() - self.start)
        hand.append(by_hand())

params = mlp_numpy.init()
velocity = [np.zeros_like(p) for p in params]

def by_hand():
    start = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(flat))
    for i in range(steps):
        mlp_numpy.step(params, velocity, flat, labels, order[i * batch : (i + 1) * batch], 1e-3)
    return time.perf_counter() - start

ours, hand = [], []
module = MnistMLP()
module.configure_optimizers = lambda: fw.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
with tempfile.TemporaryDirectory() as folder:
    trainer = fw.Trainer(max_epochs=rounds + 2, backend="cpu", callbacks=[Timed()], default_root_dir=folder,
                         enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer.fit(module, fw.data.DataLoader(data, batch_size=batch, shuffle=True))
ours, hand = ours[2:], hand[2:]
ratios = [a / b for a, b in zip(ours, hand)]
q = statistics.quantiles(ratios, n=4)
print(json.dumps({"ratio": statistics.median(ratios), "quartiles": [q[0], q[2]],
                  "fit_us": statistics.median(ours) / steps * 1e6, "hand_us": statistics.median(hand) / steps * 1e6}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for threads in arguments.threads:
        print("environment: " + ", ".join(f"{k} {v}" for k, v in _child.describe(threads).items()))
        row = {"threads": threads, **_child.run(CODE, threads, str(arguments.rounds))}
        rows.append(row)
        print(
            f"threads {threads}: Trainer.fit ÷ hand-written NumPy = {row['ratio']:.2f} "
            f"(quartiles {row['quartiles'][0]:.2f} to {row['quartiles'][1]:.2f}; "
            f"{row['fit_us']:.0f} and {row['hand_us']:.0f} µs a step)"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
