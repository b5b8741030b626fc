"""The conformance kit: what a backend has to do, as pytest classes to subclass. Needs pytest."""

from framework.testing.conformance import BackendConformance as BackendConformance
