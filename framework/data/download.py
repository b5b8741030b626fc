"""Fetching a file from the first mirror that has it: resumed, checked, put in place in one step."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framework._version import __version__
from framework.data.idx import read_content
from framework.errors import ConfigError, DataError

_PATIENCE = 4.0  # seconds until a machine counts as offline
_GRACE = 1.0  # seconds that slower mirrors get once one has answered
_TIMEOUT = 5.0  # seconds for a connection, and for a read that stalls
_FRUITLESS = 2  # attempts in a row without a new byte before a mirror is given up
_CHUNK = 1 << 16


class DataUnavailable(DataError):  # noqa: N818 - a state of affairs more than a fault
    """Data is neither here nor to be had: no copy on disk, and no mirror that could be reached.

    A copy that is here but damaged is a plain DataError.
    """


class _RefusedError(Exception):
    """A mirror does not give the file."""


class _WrongFileError(_RefusedError):
    """A mirror gives another file."""


class _BrokenOffError(Exception):
    """A connection failed or broke off; another attempt may go on from there."""


def download(name: str, folder: Path, mirrors: Sequence[str], fault: Callable[[bytes], str | None]) -> bytes:
    """Fetch `<mirror>/<name>` to `folder / name`; returns its content, unzipped.

    What arrives goes to `<name>.part`, which a later call continues, and gets its name when it is complete
    and `fault(content)` finds none. Processes that want the same folder take turns.

    Args:
        name: of the file, on the mirrors and in the folder.
        folder: made if it does not exist, once a mirror has been reached.
        mirrors: addresses of folders, tried in order, those that answer first.
        fault: says what is wrong with the content, None if nothing is.

    Raises:
        DataUnavailable: no mirror can be reached or has the file.
        DataError: a mirror sent a wrong file, and none a right one; or the folder cannot be written.
    """
    mirrors, reasons = reachable(mirrors, _PATIENCE)
    if not mirrors:
        raise DataUnavailable(f"no mirror can be reached: {_list(reasons)}")
    wrong = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            final = folder / name
            if final.exists() and fault(content := read_content(final)) is None:
                return content  # another process was faster
            if not sys.stderr.isatty():  # in a terminal there is a bar
                print(f"downloading {name} to {folder}", file=sys.stderr)
            for mirror in mirrors:
                try:
                    return _from_mirror(mirror + name, final, fault)
                except (_BrokenOffError, _RefusedError) as error:
                    reasons[mirror] = str(error)
                    wrong = wrong or isinstance(error, _WrongFileError)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be written: {error.strerror}. "
            "Choose another folder, with root= or $FW_DATA."
        ) from error
    raise (DataError if wrong else DataUnavailable)(f"{name} could not be downloaded: {_list(reasons)}")


def checked_mirrors(mirrors: Sequence[str] | str | None, default: Sequence[str]) -> list[str]:
    """The mirrors to use, each ending in `/`: those given, else `$FW_MIRROR`'s (spaces or commas between), else these.

    Raises:
        ConfigError: one is no http or https address.
    """
    if mirrors is None:
        mirrors = os.environ.get("FW_MIRROR", "").replace(",", " ").split() or default
    chosen = [mirrors] if isinstance(mirrors, str) else list(mirrors)
    for mirror in chosen:
        if not mirror.startswith(("http://", "https://")):
            raise ConfigError(
                f"a mirror is the http or https address of a folder, got {mirror!r}; "
                "for a folder on disk, use root= or $FW_DATA"
            )
    return [mirror.rstrip("/") + "/" for mirror in chosen]


# -- is there a network? ---------------------------------------------------------------------------


def reachable(mirrors: Sequence[str], patience: float) -> tuple[list[str], dict[str, str]]:
    """The mirrors to try, in order, and why others are out of the question.

    All are called at once, so that the verdict on a machine without a network takes `patience` seconds at
    the most, also where names are never resolved and packets vanish without an answer. Mirrors that answer
    come first; once one has, the slower ones get a moment, and go to the end.
    """
    import queue
    import threading

    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    for mirror in mirrors:
        threading.Thread(target=_call, args=(mirror, patience, answers), daemon=True).start()
    up: set[str] = set()
    reasons: dict[str, str] = {}
    deadline = time.monotonic() + patience
    while len(up) + len(reasons) < len(set(mirrors)) and mirrors[0] not in up:
        try:
            mirror, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if reason is not None:
            reasons[mirror] = reason
        else:
            up.add(mirror)
            deadline = min(deadline, time.monotonic() + _GRACE)
    if not up:
        return [], {m: reasons.get(m, f"no answer within {patience:g} s") for m in mirrors}
    return sorted((m for m in mirrors if m not in reasons), key=lambda m: m not in up), reasons


def _call(mirror: str, patience: float, answers: Any) -> None:
    """Any answer will do, as long as it is HTTP: there are networks that accept every connection, and go nowhere."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        _open(mirror, "HEAD", {}, patience).close()
    except HTTPError as error:
        error.close()
    except (OSError, HTTPException, ValueError) as error:
        answers.put((mirror, _reason(error)))
        return
    answers.put((mirror, None))


def _open(url: str, method: str, headers: dict[str, str], timeout: float) -> Any:
    from urllib.request import Request, build_opener  # urlopen would keep the proxies of its first call

    headers = {"User-Agent": f"fw-framework/{__version__}", **headers}
    return build_opener().open(Request(url, headers=headers, method=method), timeout=timeout)


# -- one mirror ------------------------------------------------------------------------------------


def _from_mirror(url: str, final: Path, fault: Callable[[bytes], str | None]) -> bytes:
    part = final.with_name(final.name + ".part")
    begun = _size(part)  # by an earlier run, perhaps from elsewhere
    _fetch(url, part)
    try:
        content = read_content(part)
        wrong = fault(content)
    except DataError as error:
        wrong = str(error)
    if wrong is None:
        os.replace(part, final)
        return content
    part.unlink()
    if begun:  # the two pieces may not belong together
        return _from_mirror(url, final, fault)
    raise _WrongFileError(f"sent a wrong file: {wrong}")


def _fetch(url: str, part: Path) -> None:
    """Complete `part` from `url`, in several attempts as long as they get on."""
    fruitless = 0
    with _bar(part.name.removesuffix(".part")) as advance:
        while True:
            size = _size(part)
            try:
                _attempt(url, part, advance)
                return
            except _BrokenOffError:
                fruitless = 0 if _size(part) > size else fruitless + 1
                if fruitless == _FRUITLESS:
                    raise
                time.sleep(0.2 * fruitless)


def _attempt(url: str, part: Path, advance: Callable[[int, int | None], None]) -> None:
    """One request for what `part` still lacks.

    Raises:
        _BrokenOffError: it was not answered in full.
        _RefusedError: it was turned down for good.
    """
    size = _size(part)
    response = _request(url, size)
    if response is None:  # there is nothing from this position on: all here, or a part of something else
        part.unlink()
        raise _BrokenOffError("the part kept from before did not fit")
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("answered with another range than asked for")
        length = response.headers.get("Content-Length")
        start = size if resumed else 0
        total = start + int(length) if length is not None and length.isdigit() else None
        with open(part, "ab" if resumed else "wb") as out:
            advance(start, total)
            while chunk := _read(response):
                out.write(chunk)
                advance(out.tell(), total)
            out.flush()
            os.fsync(out.fileno())
            if total is not None and out.tell() != total:
                raise _BrokenOffError(f"the connection broke off at {out.tell():,} of {total:,} bytes")


def _request(url: str, position: int) -> Any:
    """The response with the bytes from `position` on, or all of them; None where there are none."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        return _open(url, "GET", {"Range": f"bytes={position}-"} if position else {}, _TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and position:
                return None
            reason = f"answered {error.code} {error.reason}"
            if error.code in (408, 429) or error.code >= 500:
                raise _BrokenOffError(reason) from error
            raise _RefusedError(reason) from error
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(_reason(error)) from error


def _read(response: Any) -> bytes:
    from http.client import HTTPException

    try:
        return response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(_reason(error)) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)  # URLError wraps what happened
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _list(reasons: dict[str, str]) -> str:
    return "; ".join(f"{mirror}: {reason}" for mirror, reason in reasons.items())


# -- the surroundings ------------------------------------------------------------------------------


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from downloading to this folder; the lock ends with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that downloads to {folder}", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar in a terminal, nothing elsewhere: `advance(bytes here, bytes in all)`."""
    if not sys.stderr.isatty():
        yield lambda here, total: None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def advance(here: int, total: int | None) -> None:
            if bar.total is None:  # the first call; what was there before says nothing about the speed
                bar.n = bar.initial = bar.last_print_n = here
            bar.total = total
            bar.update(here - bar.n)

        yield advance
