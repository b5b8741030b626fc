"""The rows of `fw bench`; importing this registers them, in the order in which they are measured."""

from __future__ import annotations

# isort: off
from benchmarks.rows import gradient as gradient
from benchmarks.rows import step as step
from benchmarks.rows import fit as fit
from benchmarks.rows import trainer as trainer
from benchmarks.rows import networks as networks
from benchmarks.rows import program as program
from benchmarks.rows import imports as imports
from benchmarks.rows import faults as faults
from benchmarks.rows import growth as growth
from benchmarks.rows import size as size
