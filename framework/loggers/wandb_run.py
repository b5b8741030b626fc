"""The W&B side of the thread: choosing the mode, starting the run, sending rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from framework.loggers.background import Client
from framework.loggers.console import say
from framework.loggers.wandb_items import Checkpoint, Config, Flush, Media

SERVER = "https://api.wandb.ai"
PROBE_S = 5.0


class WandbRun(Client):
    """One W&B run, used from one thread.

    Rows of one step are sent as one, when a later step begins.
    """

    def __init__(
        self, arguments: dict[str, Any], experiment: Any, offline: bool, when_started: Callable[[], None]
    ) -> None:
        self.run: Any = experiment
        self._arguments = arguments
        self._offline = offline
        self._when_started = when_started
        self._ours = False
        self._step: int | None = None
        self._row: dict[str, Any] = {}
        self.extra_s = 0.0

    def start(self) -> None:
        """Use the given run, or the one that is open in this process, or begin one."""
        if self.run is not None:
            return
        arguments = dict(self._arguments)
        mode, why = choose_mode(self._offline, arguments.get("mode"))
        if mode is not None:
            arguments["mode"] = mode
        import wandb

        self.run = getattr(wandb, "run", None)
        if self.run is not None:
            return
        if arguments["dir"] is not None:
            Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(**arguments)
        self._ours = True
        self._when_started()
        if why:
            folder = getattr(self.run, "dir", None)
            say(f"W&B: offline ({why}). Upload it later with: wandb sync {Path(folder).parent if folder else '...'}")
        elif mode is None and getattr(self.run, "url", None):
            say(f"W&B: {self.run.url}")

    def handle(self, item: Any) -> None:
        """Send a config entry or a checkpoint, or the row that an item completes."""
        if isinstance(item, Config):
            self.run.config.update(item.entries, allow_val_change=True)
        elif isinstance(item, Flush):
            self._send()
        elif isinstance(item, Checkpoint):
            self.extra_s += item.limit_s
            item.send(self.run, _wandb())
        else:
            values = {item.key: item.made(_wandb())} if isinstance(item, Media) else item.values
            if self._step is None or item.step > self._step:  # W&B drops what belongs to an earlier step
                self._send()
                self._step = item.step
            self._row.update(values)

    def drop(self, item: Any) -> None:
        """Delete the copy of a checkpoint that will not be sent."""
        if isinstance(item, Checkpoint):
            item.discard()

    def finish(self, ok: bool) -> None:
        """Send the last row and end the run, if it was begun here."""
        self._send()
        if self._ours:
            self.run.finish(exit_code=0 if ok else 1)

    def _send(self) -> None:
        row, self._row = self._row, {}
        if row:
            self.run.log(row, step=self._step)


def _wandb() -> Any:
    import wandb

    return wandb


def choose_mode(offline: bool, mode: str | None = None) -> tuple[str | None, str | None]:
    """W&B's mode, None to leave it to W&B, and for an offline run the reason in words.

    An explicit wish wins (`mode`, `offline`, `WANDB_MODE`); otherwise a run is offline where no key
    is stored or the server does not answer.

    Examples:
        >>> choose_mode(offline=True)
        ('offline', 'as asked')
    """
    wish = os.environ.get("WANDB_MODE", "")
    if mode is not None:
        return mode, "as asked" if mode == "offline" else None
    if wish == "disabled":  # the user's switch to silence W&B altogether
        return None, None
    if offline:
        return "offline", "as asked"
    if wish:
        return None, f"WANDB_MODE={wish}" if wish in ("offline", "dryrun") else None
    from urllib.parse import urlsplit

    server = os.environ.get("WANDB_BASE_URL") or SERVER
    host = urlsplit(server).hostname or server
    if not _has_key(host):
        return "offline", "no API key; `wandb login` stores one"
    return (None, None) if _reachable(server) else ("offline", f"{host} cannot be reached")


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc

    given = os.environ.get("NETRC")
    for path in [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _reachable(server: str) -> bool:
    """Whether something listens at the server, or at the proxy on the way to it."""
    import socket
    import urllib.parse
    import urllib.request

    url = urllib.parse.urlsplit(server)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        socket.create_connection((url.hostname or "", port), timeout=PROBE_S).close()
    except (OSError, ValueError):
        return False
    return True
