"""What `fw bench` uses."""

from __future__ import annotations

from benchmarks import rows as rows
from benchmarks.plots import draw as draw
from benchmarks.registry import ROWS as ROWS
from benchmarks.report import write_page as write_page
from benchmarks.run import FORMAT as FORMAT
from benchmarks.run import has_failed as has_failed
from benchmarks.run import measure as measure
from benchmarks.run import replaced as replaced
