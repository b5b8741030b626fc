"""`python -m framework` is `fw`."""

from __future__ import annotations

from framework.cli.main import entry

if __name__ == "__main__":
    entry()
