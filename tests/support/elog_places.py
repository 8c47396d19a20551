"""Logbooks that the contract of the ELOG door is held against: the stand-in, and real ones where there are any.

`STORAGE_TEST_ELOG_URL` is the address of a logbook (http://host:port/name) that has the attributes Author, Type,
Subject and Key, Author required, and takes entries from anybody; what is written there stays. Where the program
`elogd` is installed, one is started with a logbook of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

from msgspec import Struct

from storage_service.config_logbooks import LogbookServer
from tests.support.elog_server import Book, ElogServer, Entry, read
from tests.support.polling import eventually

VARIABLE = "STORAGE_TEST_ELOG_URL"
ATTRIBUTES = {"Author": "test", "Type": "Run"}


class ElogPlace(Struct):
    """A logbook, as the door is configured for it; `stand_in` where it is one."""

    given: LogbookServer
    name: str
    stand_in: ElogServer | None = None

    def entry(self, number: int) -> Entry:
        """An entry, downloaded."""
        with urlopen(f"{self.given.url}/{self.name}/{number}?cmd=download", timeout=10) as answer:
            content = answer.read().decode()
        return read(content.replace("\r\n", "\n"))[0]


@contextmanager
def stand_in(folder: Path) -> Iterator[ElogPlace]:
    with ElogServer(demo=Book(options={"Type": ["Run", "Problem"]})) as server:
        yield ElogPlace(LogbookServer(server.url, attributes=ATTRIBUTES, timeout_s=5), "demo", server)


@contextmanager
def of_variable(folder: Path) -> Iterator[ElogPlace]:
    url, _, name = os.environ[VARIABLE].rstrip("/").rpartition("/")
    yield ElogPlace(LogbookServer(url, attributes=ATTRIBUTES), unquote(name))


@contextmanager
def started(folder: Path) -> Iterator[ElogPlace]:
    """A real elogd of the test's own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "elogd.cfg"
    config.write_text(
        f"[global]\nport = {port}\n\n[demo]\nAttributes = Author, Type, Subject, Key\n"
        "Required Attributes = Author\nOptions Type = Run, Problem\n"
    )
    program = shutil.which("elogd") or ""
    words = [program, "-p", str(port), "-c", str(config), "-d", str(folder / "logbooks")]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _listens(port), 20)
            yield ElogPlace(LogbookServer(f"http://127.0.0.1:{port}", attributes=ATTRIBUTES), "demo")
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


PLACES: dict[str, Callable[[Path], object]] = {
    "stand-in": stand_in,
    "an elogd started here": started,
    "the elogd of the environment": of_variable,
}


def why_not(place: str) -> str | None:
    """Why the tests cannot run there; None when they can."""
    if place == "an elogd started here" and shutil.which("elogd") is None:
        return "the program elogd is not installed"
    if place == "the elogd of the environment" and VARIABLE not in os.environ:
        return f"{VARIABLE} is not set"
    return None
