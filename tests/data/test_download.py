"""Downloads from a real server on loopback."""

from __future__ import annotations

import contextlib
import gzip
import os
import pty
import socket
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from framework import errors
from framework.data import DataUnavailable, download
from framework.data.download import checked_mirrors, reachable

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
PACKED = gzip.compress(CONTENT)
NAME = "file.gz"


def fault(content: bytes) -> str | None:
    return None if content == CONTENT else f"{len(content)} strange bytes"


def get(folder: Path, *mirrors: object) -> bytes:
    return download.download(NAME, folder, [m if isinstance(m, str) else m.url for m in mirrors], fault)


@pytest.fixture
def closed_port() -> Iterator[Callable[[], str]]:
    """Gives addresses on this machine where nobody listens, and nobody else may meanwhile."""
    with contextlib.ExitStack() as held:

        def address() -> str:
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{taken.getsockname()[1]}/"

        yield address


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "mnist"


def test_a_file_arrives_under_its_name_with_one_line_of_talk(mirrors, folder, capfd):
    mirror = mirrors(**{NAME: PACKED})
    assert get(folder, mirror) == CONTENT
    assert os.listdir(folder) == [NAME]
    assert (folder / NAME).read_bytes() == PACKED
    assert capfd.readouterr() == ("", f"downloading {NAME} to {folder}\n")


def test_a_cut_connection_is_resumed_where_it_broke(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.cuts = [100_000, 50_000]
    assert get(folder, mirror) == CONTENT
    assert [asked for _, asked in mirror.requests] == [None, "bytes=100000-", "bytes=150000-"]


def test_an_earlier_run_is_continued(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.cuts = [70_000, 0, 0]
    with pytest.raises(DataUnavailable, match="broke off at 70,000 of"):
        get(folder, mirror)
    assert os.listdir(folder) == [NAME + ".part"]
    assert (folder / f"{NAME}.part").read_bytes() == PACKED[:70_000]
    mirror.requests.clear()
    assert get(folder, mirror) == CONTENT
    assert [asked for _, asked in mirror.requests] == ["bytes=70000-"]
    assert os.listdir(folder) == [NAME]


def test_a_server_without_ranges_starts_over(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.ranges = False
    mirror.cuts = [100_000]
    assert get(folder, mirror) == CONTENT
    assert len(mirror.requests) == 2


def test_a_server_that_sends_another_range_than_asked_for(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.shift = 7
    mirror.cuts = [100_000]
    assert get(folder, mirror) == CONTENT
    assert [asked for _, asked in mirror.requests] == [None, "bytes=100000-", None]


def test_a_part_longer_than_the_file_is_thrown_away(mirrors, folder):
    folder.mkdir(parents=True)
    (folder / f"{NAME}.part").write_bytes(PACKED + b"more")
    assert get(folder, mirrors(**{NAME: PACKED})) == CONTENT


def test_a_part_of_something_else_is_thrown_away(mirrors, folder):
    folder.mkdir(parents=True)
    (folder / f"{NAME}.part").write_bytes(b"another file's beginning")
    mirror = mirrors(**{NAME: PACKED})
    assert get(folder, mirror) == CONTENT
    assert [asked for _, asked in mirror.requests] == ["bytes=24-", None]
    assert os.listdir(folder) == [NAME]


@pytest.mark.parametrize("code", [404, 403, 500, 503])
def test_an_error_leads_to_the_next_mirror(mirrors, folder, code):
    first, second = mirrors(**{NAME: PACKED}), mirrors(**{NAME: PACKED})
    first.codes = [code] * 5
    assert get(folder, first, second) == CONTENT
    assert len(first.requests) == (1 if code < 500 else 2)


def test_a_passing_error_is_tried_again(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.codes = [503]
    assert get(folder, mirror) == CONTENT


def test_mirrors_are_tried_in_order(mirrors, folder):
    first, second = mirrors(**{NAME: PACKED}), mirrors(**{NAME: PACKED})
    get(folder, first, second)
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_a_mirror_that_is_down_is_passed_over(mirrors, folder, closed_port):
    assert get(folder, closed_port(), mirrors(**{NAME: PACKED})) == CONTENT


def test_the_next_mirror_continues_what_one_began(mirrors, folder):
    first, second = mirrors(**{NAME: PACKED}), mirrors(**{NAME: PACKED})
    first.cuts = [90_000, 0, 0, 0]
    assert get(folder, first, second) == CONTENT
    assert second.requests == [(f"/{NAME}", "bytes=90000-")]


def test_no_mirror_has_it(mirrors, folder):
    first, second = mirrors(), mirrors()
    with pytest.raises(DataUnavailable) as caught:
        get(folder, first, second)
    assert f"{first.url}: answered 404" in str(caught.value)
    assert f"{second.url}: answered 404" in str(caught.value)


def test_a_wrong_file_is_no_absent_file(mirrors, folder, closed_port):
    wrong = mirrors(**{NAME: gzip.compress(b"something else")})
    with pytest.raises(errors.DataError, match="sent a wrong file: 14 strange bytes") as caught:
        get(folder, wrong, closed_port(), mirrors())
    assert not isinstance(caught.value, DataUnavailable)
    assert os.listdir(folder) == []


def test_a_right_file_after_a_wrong_one(mirrors, folder):
    wrong, damaged = mirrors(**{NAME: gzip.compress(b"something else")}), mirrors(**{NAME: PACKED[:-4] + b"oops"})
    assert get(folder, wrong, damaged, mirrors(**{NAME: PACKED})) == CONTENT
    assert os.listdir(folder) == [NAME]


def test_a_file_that_was_unzipped_on_the_way_is_as_good(mirrors, folder):
    assert get(folder, mirrors(**{NAME: CONTENT})) == CONTENT


def test_a_server_that_says_nothing_is_given_up(mirrors, folder, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.1)
    mirror = mirrors(**{NAME: PACKED})
    mirror.hold = threading.Event()
    with pytest.raises(DataUnavailable, match="no answer in time"):
        get(folder, mirror)
    deadline = time.monotonic() + 60.0
    while len(mirror.requests) < 2 and time.monotonic() < deadline:  # it may see them after the client has given up
        time.sleep(0.01)
    assert len(mirror.requests) == 2


def test_without_a_network_nothing_is_written(mirrors, folder, closed_port):
    with pytest.raises(DataUnavailable, match=r"no mirror can be reached: .*: Connection refused"):
        get(folder, closed_port(), closed_port())
    assert not folder.parent.exists()


def test_silence_is_no_network(mirrors):
    # Nobody has these addresses: packets to them vanish, or are turned back, as the machine likes.
    urls = ["http://192.0.2.1/", "https://198.51.100.7:444/x/", "http://mirror.invalid/"]
    up, reasons = reachable(urls, patience=0.3)
    assert up == []
    assert list(reasons) == urls
    assert all(reasons.values())


def test_a_connection_without_an_answer_is_no_network(mirrors):
    mirror = mirrors()
    mirror.hold = threading.Event()
    mirror.silent.set()
    found, reasons = reachable([mirror.url], patience=0.2)
    assert found == []
    assert reasons[mirror.url] in ("no answer within 0.2 s", "no answer in time")  # on a busy machine the latter


def test_a_mirror_that_answers_goes_before_one_that_does_not(mirrors, monkeypatch):
    monkeypatch.setattr(download, "_GRACE", 0.5)
    mirror = mirrors()
    up, reasons = reachable(["http://192.0.2.1/", mirror.url], patience=5.0)
    assert up[0] == mirror.url
    assert set(up) | set(reasons) == {"http://192.0.2.1/", mirror.url}


def test_a_folder_that_cannot_be_made(mirrors, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.DataError, match=r"cannot be written: .*\$FW_DATA") as caught:
        get(tmp_path / "file" / "mnist", mirrors(**{NAME: PACKED}))
    assert not isinstance(caught.value, DataUnavailable)


def test_a_full_disk(mirrors, folder):
    folder.mkdir(parents=True)
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (folder / f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(errors.DataError, match="No space left on device") as caught:
        get(folder, mirrors(**{NAME: PACKED}))
    assert not isinstance(caught.value, DataUnavailable)


def test_a_proxy_is_used(mirrors, folder, monkeypatch):
    proxy = mirrors(**{NAME: PACKED})
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    assert get(folder, "http://mirror.invalid/mnist/") == CONTENT
    assert proxy.requests == [(f"http://mirror.invalid/mnist/{NAME}", None)]


def test_mirrors_given_come_before_the_environments_and_those_before_the_default(monkeypatch):
    monkeypatch.delenv("FW_MIRROR", raising=False)
    assert checked_mirrors(None, ("https://default/x/",)) == ["https://default/x/"]
    monkeypatch.setenv("FW_MIRROR", "http://a/b, https://c/ http://d")
    assert checked_mirrors(None, ("https://default/",)) == ["http://a/b/", "https://c/", "http://d/"]
    assert checked_mirrors(["http://e"], ("https://default/",)) == ["http://e/"]
    assert checked_mirrors("http://f/", ()) == ["http://f/"]
    with pytest.raises(errors.ConfigError, match=r"got '/data/mnist'.*FW_DATA"):
        checked_mirrors(["/data/mnist"], ())


# -- in processes of their own ---------------------------------------------------------------------

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path
    from framework.data import download
    download._PATIENCE = download._TIMEOUT = 60.0  # a server that is slow, or made to wait, is not given up
    content = download.download("file.gz", Path(sys.argv[1]), sys.argv[2:], lambda content: None)
    print(len(content))
""")


def start(folder, *urls, **options):
    command = [sys.executable, "-c", SCRIPT, str(folder), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_processes_take_turns_and_the_second_finds_the_file(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.hold = threading.Event()
    with start(folder, mirror.url, stderr=subprocess.DEVNULL) as first:
        assert mirror.called.wait(60)
        with start(folder, mirror.url, stderr=subprocess.PIPE) as second:
            assert second.stderr.readline() == f"waiting for another process that downloads to {folder}\n"
            mirror.hold.set()
            assert [p.communicate(timeout=60)[0] for p in (first, second)] == [f"{len(CONTENT)}\n"] * 2
    assert len(mirror.requests) == 1


def test_a_killed_process_leaves_a_part_that_the_next_continues(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.cuts = [80_000]
    mirror.hold, mirror.hold_after = threading.Event(), 1
    process = start(folder, mirror.url, stderr=subprocess.DEVNULL)
    while len(mirror.requests) < 2:  # it asks again once all that the first answer brought is on disk
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert (folder / f"{NAME}.part").stat().st_size == 80_000
    mirror.hold.set()
    mirror.requests.clear()
    assert get(folder, mirror) == CONTENT
    assert mirror.requests == [(f"/{NAME}", "bytes=80000-")]


def test_a_terminal_gets_a_progress_bar(mirrors, folder):
    mirror = mirrors(**{NAME: PACKED})
    mirror.cuts = [100_000]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with start(folder, mirror.url, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other end is closed
            pass
        assert process.communicate(timeout=60)[0] == f"{len(CONTENT)}\n"
    os.close(ours)
    last = shown.decode().rstrip().split("\r")[-1]
    assert last.startswith(f"{NAME}: 100%")
    assert "downloading" not in shown.decode()
