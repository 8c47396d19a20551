"""A bench for conversion scripts: real ones, run through the door, and all that it tells kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from storage_service.doors.conversion import Scripts, Settings
from storage_service.doors.process_group import look
from storage_service.rules.work import Ended, RunScript

from .polling import until

DEADLINE_S = 60.0
LONG = "1000"  # seconds that a test's process would sleep: nothing here waits for it
# What such a process does: it stays until a signal ends it, and no longer than that.
STAY = f"import signal; signal.alarm({LONG}); signal.pause()"
# The same for one that has handlers of signals.
STAY_ON = f"import signal\nsignal.alarm({LONG})\nwhile True: signal.pause()"
# In a script: look for a file until it is there.
WAIT_FOR = """
import os, sys, time
def wait_for(name):
    deadline = time.monotonic() + 60
    while not os.path.exists(name):
        if time.monotonic() > deadline:
            sys.exit(name + " does not come")
        time.sleep(0.005)
"""
# The locks of a bench are in its own folder.
USUAL: dict[str, object] = {"timeout_s": 1000.0, "grace_s": 0.2, "log_bytes": 1 << 20, "locks": Path("locks")}

# Becomes a daemon as the book has it: a session of its own, orphaned, its output given up; says its pid in a file.
DAEMON = f"""
{WAIT_FOR}
import signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        if "deaf" in sys.argv:
            open("terms", "w").close()
            signal.signal(signal.SIGTERM, lambda *_: open("terms", "a").write("term"))
        with open("daemon.part", "w") as file:
            file.write(str(os.getpid()))
        os.rename("daemon.part", "daemon.pid")
        signal.alarm({LONG})
        while True:
            signal.pause()
    os._exit(0)
os.wait()
wait_for("daemon.pid")
"""


# What a script leaves, as far from it as can be: an orphan in a session of its own, without its environment and,
# unless told otherwise, without its lock. It is found only by its command line, which names the script.
FUGITIVE = f"""
{WAIT_FOR}
def flee(name, keep_lock=False, first=""):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            if not keep_lock:
                os.closerange(3, 1024)
            code = first + "\\nopen({{!r}}, 'w').close()\\n{STAY}".format(name)
            os.execve(sys.executable, [sys.executable, "-ISc", code, "fled", os.path.abspath(sys.argv[0])], {{}})
        os._exit(0)
    os.wait()
    wait_for(name)
"""


def marked(text: str) -> dict[int, int]:
    """The living processes whose command line has that text in it, but for this one: pid to parent."""
    found = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            is_marked = text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            if is_marked and pid != os.getpid() and (process := look(pid)) and process.alive:
                found[pid] = process.parent
    return found


class Bench:
    """A `Scripts` and all that it has told, with a folder to run in and a log for each conversion.

    `usual` is the id of a conversion that is given none.
    """

    def __init__(self, folder: Path, settings: Settings, write: ThreadPoolExecutor) -> None:
        self.usual = "c1"
        self.folder = folder
        self.settings = replace(settings, locks=folder.parent / "locks")
        self.write = write
        self.ended: dict[str, Ended] = {}
        self.told: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        self.scripts = Scripts(loop, self.settings, lambda *progress: self.told.append(progress), self._on_ended)

    def _on_ended(self, ended: Ended) -> None:
        assert ended.conversion_id not in self.ended, "told twice"
        assert ended.conversion_id not in self.scripts.running() or "still running" in ended.reason
        self.ended[ended.conversion_id] = ended

    def script(self, text: str, name: str = "script") -> Path:
        path = self.folder.parent / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(
        self,
        text: str | Path,
        *,
        conversion: str | None = None,
        argv: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        log_fd: int | None = None,
    ) -> None:
        conversion = conversion or self.usual
        path = text if isinstance(text, Path) else self.script(text, f"script-{conversion}")
        if log_fd is None:
            log_fd = os.open(self.log_of(conversion), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        order = RunScript(conversion, 1, path.name, "file:///", ("run", "acq"), "x.log", argv, env or {})
        self.scripts.start(order, path, self.folder, log_fd, self.write)

    def log_of(self, conversion: str | None = None) -> Path:
        return self.folder.parent / f"{conversion or self.usual}.log"

    async def end_of(self, conversion: str | None = None) -> Ended:
        id = conversion or self.usual
        await until(lambda: id in self.ended)
        return self.ended[id]

    async def run(self, text: str | Path, **more: object) -> Ended:
        self.start(text, **more)  # type: ignore[arg-type]
        return await self.end_of()


def sh(body: str) -> str:
    return f"#!/bin/sh\n{body}\n"


def python(body: str) -> str:
    return f"#!{sys.executable} -SE\n{body}\n"


def pid_in(path: Path) -> int:
    return int(path.read_text())


def lives(pid: int) -> bool:
    process = look(pid)
    return process is not None and process.alive


def fds() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def open_bench(tmp_path: Path, settings: Settings) -> AsyncIterator[Bench]:
    """Checks at its end that no descriptor, no child and no zombie stayed."""
    folder = tmp_path / "acq"
    folder.mkdir()
    before = fds()
    with ThreadPoolExecutor(1) as write:
        bench = Bench(folder, settings, write)
        try:
            yield bench
        finally:
            for pid in marked(str(tmp_path)):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        await bench.scripts.close()
        assert bench.scripts.running() == frozenset()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222
        assert fds() == before
        assert not bench.settings.locks.exists() or os.listdir(bench.settings.locks) == []


def give(**change: object) -> pytest.MarkDecorator:
    """The test's settings, where they are not the usual ones."""
    return pytest.mark.parametrize("settings", [Settings(**USUAL | change)], ids=["settings"])  # type: ignore[arg-type]
