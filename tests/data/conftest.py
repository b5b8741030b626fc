"""A real HTTP server on loopback whose faults are scripted."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from framework.data import download


class Mirror(ThreadingHTTPServer):
    """Serves `files`; `cuts` holds, per request to come, after how many body bytes the connection breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int | None] = []
        self.codes: list[int] = []  # per request to come, an error to answer with
        self.ranges = True
        self.shift = 0  # by how much ranges start too late
        self.hold: threading.Event | None = None  # requests wait for it,
        self.hold_after = 0  # all but the first so many
        self.silent = threading.Event()  # if set, the question whether it is there waits too
        self.called = threading.Event()
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Mirror

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:  # "are you there?"
        if self.server.silent.is_set():
            self.server.hold.wait(30)
        self.close_connection = True
        self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.path, asked))
        server.called.set()
        if server.hold is not None and len(server.requests) > server.hold_after:
            server.hold.wait(30)
        self.close_connection = True
        body = server.files.get(self.path.rsplit("/", 1)[-1])
        code = server.codes.pop(0) if server.codes else 404 if body is None else 200
        if code != 200 or body is None:
            self.send_error(code)
            return
        headers = {}
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + server.shift
            if start >= len(body):
                self.send_error(416)
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            code, body = 206, body[start:]
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body if cut is None else body[:cut])


@pytest.fixture
def mirrors(monkeypatch):
    """A function that starts a Mirror with the given files; no proxy and no setting of the machine is in the way."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("FW_MIRROR", "FW_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("_PATIENCE", "_GRACE", "_TIMEOUT"):
        monkeypatch.setattr(download, name, 60.0)  # on a busy machine a mirror is slow
    started: list[tuple[Mirror, threading.Thread]] = []

    def start(**files: bytes) -> Mirror:
        mirror = Mirror()
        mirror.files.update(files)
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        started.append((mirror, thread))
        return mirror

    yield start
    for mirror, thread in started:
        if mirror.hold is not None:
            mirror.hold.set()
        mirror.shutdown()
        mirror.server_close()
        thread.join()
