"""Profilers: where the time of a run goes."""

from framework.profilers.advanced import AdvancedProfiler as AdvancedProfiler
from framework.profilers.profiler import PassThroughProfiler as PassThroughProfiler
from framework.profilers.profiler import Profiler as Profiler
from framework.profilers.simple import SimpleProfiler as SimpleProfiler
