"""What stands at the end of each command's `--help`: lines to copy."""

from __future__ import annotations

EXAMPLES = {
    "train": """\
  fw new recipe mnist_mlp                              a recipe and its config to start from
  fw train configs/mnist_mlp.yaml                      train, then test; leaves runs/mnist_mlp/version_0/
  fw train configs/mnist_mlp.yaml --trainer.max_epochs 3 --optimizer.init_args.lr 0.05 --seed 1
  fw train base.yaml larger.yaml                       the second file changes what the first one says
  fw train configs/mnist_mlp.yaml --resume auto        go on if it was interrupted, else begin; safe to repeat
  fw train runs/mnist_mlp/version_0/config.yaml        the same run again
  fw train configs/mnist_mlp.yaml --print_config       everything that could be set, with what it is now""",
    "check": """\
  fw check configs/mnist_mlp.yaml
  fw check my.yaml --trainer.backend cuda              whether it would run there
  fw check my.yaml && fw train my.yaml""",
    "validate": """\
  fw validate configs/mnist_mlp.yaml                   the best checkpoint of the newest run
  fw validate configs/mnist_mlp.yaml --ckpt last
  fw validate runs/mnist_mlp/version_2/config.yaml     that very run's best checkpoint""",
    "test": """\
  fw test configs/mnist_mlp.yaml                       the best checkpoint of the newest run
  fw test configs/mnist_mlp.yaml --ckpt runs/mnist_mlp/version_0/checkpoints/epoch=9-step=4300
  fw test configs/mnist_mlp.yaml --data.init_args.root ~/data""",
    "predict": """\
  fw predict configs/mnist_mlp.yaml                    writes predictions.npz
  fw predict configs/mnist_mlp.yaml --output labels.csv --ckpt last""",
    "runs": """\
  fw runs                                              every run below ./runs, newest first
  fw runs show mnist_mlp                               its newest run: metrics, curves, checkpoints
  fw runs compare mnist_mlp/version_0 mnist_mlp/version_1
  fw runs --html runs.html                             a page with the curves of all runs
  fw runs compare A B --html ab.html                   the same for two
  fw runs sync                                         upload the W&B runs that were kept offline""",
    "plugins": """\
  fw plugins
  fw plugins check cpu                                 the conformance kit on one of them
  fw plugins check mybackend -k matmul""",
    "doctor": """\
  fw doctor""",
    "new": """\
  fw new recipe mnist_mlp                              then: fw train configs/mnist_mlp.yaml
  fw new plugin mybackend                              then: cd fw-mybackend; pip install -e .""",
}
