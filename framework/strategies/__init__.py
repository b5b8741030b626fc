"""Strategies: where a run's arrays live and who shares the work."""

from framework.strategies.single_device import SingleDevice as SingleDevice
