"""The page of `fw runs --html`: what is in it, and what a real browser makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

from framework.cli.runrecords import find_runs
from framework.cli.runspage import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def make_run(folder: Path, name: str, number: int, lr: float = 0.1, steps: int = 50, **more) -> Path:
    run = folder / "runs" / name / f"version_{number}"
    checkpoint = run / "checkpoints" / f"epoch=0-step={steps}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    (run / "checkpoints" / "last").write_text(f"{checkpoint.name}\n")
    rows = [
        {"step": s, "epoch": 0, "train_loss": 3.0 / s / (number + 1), "wall_s": 0.1 * s, **more}
        | ({"val_acc": 1 - 1 / s} if s % 10 == 0 else {})
        for s in range(1, steps + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "matrix.png").touch()
    (run / "config.yaml").write_text(f"seed: 0\noptimizer: {{class_path: SGD, init_args: {{lr: {lr}}}}}\n")
    metrics = {"train_loss": {"last": 0.06, "min": 0.06, "max": 3.0, "best": 0.06}}
    summary = {"status": "finished", "epochs": 1, "steps": steps, "wall_s": 5.0, "metrics": metrics, "test_acc": 0.9}
    (run / "summary.json").write_text(json.dumps(summary))
    return run


@pytest.fixture
def runs_here(tmp_path):
    make_run(tmp_path, "net", 0, lr=0.1)
    make_run(tmp_path, "net", 1, lr=0.2, steps=40)
    make_run(tmp_path, "<b>odd & 'name'", 0)
    broken = tmp_path / "runs" / "net" / "version_2"
    broken.mkdir()
    (broken / "summary.json").write_text("{")
    return tmp_path


class Tags(HTMLParser):
    """Every tag with its attributes; refuses a tag that is not closed in order."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_refers_to_nothing_outside(runs_here):
    text = page(find_runs(runs_here), runs_here)
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    assert "http://" not in text
    assert "https://" not in text
    links = [attributes for _, attributes in tags.found if {"href", "src"} & attributes.keys()]
    for link in links:
        target = link.get("href") or link.get("src")
        assert target == "data:," or (runs_here / requote(target)).exists(), target
    assert sum("epoch=0-step=" in (a.get("href") or "") for _, a in tags.found) == 3
    assert sum((a.get("href") or "").endswith("/matrix.png") for _, a in tags.found) == 3
    curves = [attributes for tag, attributes in tags.found if tag == "path" and "curve" in (attributes["class"] or "")]
    assert len(curves) == 6  # train_loss and val_acc of three runs
    assert all(re.match(r"M[\d.]+ [\d.]+h\.1L", str(curve["d"])) for curve in curves)
    assert "optimizer.init_args.lr" in text
    assert "<td>0.1</td>" in text
    assert "summary.json is not JSON" in text
    assert "<b>" not in text.replace("<body>", "")


def requote(address: str) -> str:
    from urllib.parse import unquote

    return unquote(address)


def test_each_drawing_is_valid_xml(runs_here):
    text = page(find_runs(runs_here), runs_here)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(drawing)


def test_gaps_and_values_that_are_not_finite(tmp_path):
    run = make_run(tmp_path, "net", 0)
    rows = [{"step": s, "x": "NaN" if s == 3 else "Infinity" if s == 7 else 1.0 * s} for s in range(1, 10)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = page(find_runs(tmp_path), tmp_path)
    (curve,) = re.findall(r"<path class='curve[^>]*d='([^']*)'", text)
    assert curve.count("M") == 3  # broken twice
    assert "NaN" not in text


def test_constant_and_long_curves(tmp_path):
    run = make_run(tmp_path, "net", 0)
    rows = [{"step": s, "same": 2.0, "long": s % 100} for s in range(1, 20_000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = page(find_runs(tmp_path), tmp_path)
    assert len(re.findall(r"<path class='curve", text)) == 2
    assert len(text) < 100_000


def test_no_runs_make_a_page_too(tmp_path):
    (tmp_path / "runs").mkdir()
    assert "0 runs" in page(find_runs(tmp_path), tmp_path)


# -- in a browser ----------------------------------------------------------------------------------


class Browser:
    """Chromium without a window, spoken to over a pipe in its own protocol."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._buffer, self._next = to, back, b"", 0
        self.events: list[dict] = []
        self.session = ""

    def call(self, method: str, **params):
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._next:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            part = os.read(self._back, 1 << 16)
            assert part, "the browser has gone"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def open(self, address: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")

    def evaluate(self, script: str):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def of(self, method: str) -> list[dict]:
        return [event["params"] for event in self.events if event.get("method") == method]


AT_THREE_AND_FOUR = """
import fcntl, os, sys
pair = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(pair[0], 3)
os.dup2(pair[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextmanager
def browser(folder: Path):
    """The browser, with an own profile and no network traffic of its own, over file descriptors 3 and 4."""
    to_child, to = os.pipe()
    back, from_child = os.pipe()
    arguments = [
        "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={folder}",
        "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-sync", "--disable-default-apps",
    ]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-c", AT_THREE_AND_FOUR, str(to_child), str(from_child), str(BROWSER), *arguments],
        pass_fds=(to_child, from_child),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_child)
    os.close(from_child)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)  # the browser ends with its pipe
        os.close(back)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


DRAWN = """[...document.querySelectorAll("path.curve")].map(c => {
  const box = c.getBoundingClientRect();
  return {length: c.getTotalLength(), width: box.width, ink: getComputedStyle(c).stroke, shown: c.checkVisibility()};
})"""


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_draws_the_curves_and_asks_nobody(runs_here, tmp_path_factory):
    file = runs_here / "page.html"
    file.write_text(page(find_runs(runs_here), runs_here), encoding="utf-8")
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.open(file.as_uri())
        drawn = chromium.evaluate(DRAWN)
        assert len(drawn) == 6
        assert all(curve["length"] > 200 and curve["width"] > 100 and curve["shown"] for curve in drawn), drawn
        assert len({curve["ink"] for curve in drawn}) == 3  # a colour for each run
        chromium.evaluate(
            "document.querySelector(`input[data-run='${document.querySelector('path.curve').dataset.run}']`).click()"
        )
        assert sum(curve["shown"] for curve in chromium.evaluate(DRAWN)) == 4
        chromium.evaluate(
            "(() => {const s = document.querySelector('figure svg'), b = s.getBoundingClientRect();"
            "const at = {clientX: b.x + b.width / 2, clientY: b.y + b.height / 2};"
            "s.dispatchEvent(new PointerEvent('pointermove', at))})()"
        )
        reading = chromium.evaluate("document.querySelector('.reading').textContent")
        assert re.match(r"step \d+: .*version_\d ", reading), reading
        inks = set()
        for scheme in ("light", "dark"):
            chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            ink, paper = chromium.evaluate(
                "(() => {const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]})()"
            )
            light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
            assert abs(light[0] - light[1]) > 450  # readable
            inks.add(ink)
        assert len(inks) == 2
        assert chromium.of("Runtime.consoleAPICalled") == []
        assert chromium.of("Runtime.exceptionThrown") == []
        assert chromium.of("Log.entryAdded") == []
        asked = {request["request"]["url"].partition(":")[0] for request in chromium.of("Network.requestWillBeSent")}
        assert asked <= {"file", "data"}
