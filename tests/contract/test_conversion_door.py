"""The door to conversion scripts, with real scripts: how they are run, how they end, and that nothing is left."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage_service.doors.conversion import Scripts, Settings, end_leftovers
from storage_service.doors.conversion_output import LONGEST, ProgressLines
from storage_service.doors.process_group import look, send, token_of
from storage_service.rules.work import Ended, RunScript

DEADLINE_S = 60.0
LONG = "1000"  # seconds that a test's process would sleep: nothing here waits for it

# Becomes a daemon as the book has it: a session of its own, orphaned, its output given up; says its pid in a file.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        if "deaf" in sys.argv:
            signal.signal(signal.SIGTERM, lambda *_: open("terms", "a").write("term"))
        with open("daemon.part", "w") as file:
            file.write(str(os.getpid()))
        os.rename("daemon.part", "daemon.pid")
        while True:
            time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists("daemon.pid"):
    time.sleep(0.005)
"""


class Bench:
    """A `Scripts` and all that it has told, with a folder to run in and a log for each conversion."""

    def __init__(self, folder: Path, settings: Settings, write: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.settings = settings
        self.write = write
        self.ended: dict[str, Ended] = {}
        self.told: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        self.scripts = Scripts(loop, settings, lambda *progress: self.told.append(progress), self._on_ended)

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
        conversion: str = "c1",
        argv: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        log_fd: int | None = None,
    ) -> None:
        path = text if isinstance(text, Path) else self.script(text, f"script-{conversion}")
        if log_fd is None:
            log_fd = os.open(self.log_of(conversion), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        order = RunScript(conversion, 1, path.name, "file:///", ("run", "acq"), "x.log", argv, env or {})
        self.scripts.start(order, path, self.folder, log_fd, self.write)

    def log_of(self, conversion: str = "c1") -> Path:
        return self.folder.parent / f"{conversion}.log"

    async def end_of(self, conversion: str = "c1") -> Ended:
        await until(lambda: conversion in self.ended)
        return self.ended[conversion]

    async def run(self, text: str | Path, **more: object) -> Ended:
        self.start(text, **more)  # type: ignore[arg-type]
        return await self.end_of()


async def until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not there():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


def wait_until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not there():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def sh(body: str) -> str:
    return f"#!/bin/sh\n{body}\n"


def python(body: str) -> str:
    return f"#!{sys.executable} -SE\n{body}\n"


def pid_in(path: Path) -> int:
    return int(path.read_text())


@contextmanager
def as_standard_input(fd: int) -> Iterator[None]:
    before = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def lives(pid: int) -> bool:
    process = look(pid)
    return process is not None and process.alive


def fds() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def write() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def settings() -> Settings:
    return Settings(timeout_s=1000.0, grace_s=0.2, log_bytes=1 << 20)


@pytest.fixture
async def bench(tmp_path: Path, settings: Settings, write: ThreadPoolExecutor) -> AsyncIterator[Bench]:
    """Checks at the end of each test that no descriptor, no child and no zombie stayed."""
    folder = tmp_path / "acq"
    folder.mkdir()
    before = fds()
    bench = Bench(folder, settings, write)
    yield bench
    await bench.scripts.close()
    await asyncio.sleep(0)
    assert bench.scripts.running() == frozenset()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222
    assert fds() == before


def give(**change: object) -> pytest.MarkDecorator:
    """The test's settings, where they are not the usual ones."""
    usual: dict[str, object] = {"timeout_s": 1000.0, "grace_s": 0.2, "log_bytes": 1 << 20}
    return pytest.mark.parametrize("settings", [Settings(**usual | change)], ids=["settings"])  # type: ignore[arg-type]


# How a script ends


@pytest.mark.parametrize("code", [0, 3])
async def test_a_script_ends_with_its_exit_code(bench: Bench, code: int) -> None:
    assert await bench.run(sh(f"exit {code}")) == Ended("c1", 1, "exited", code)


async def test_a_signal_that_ends_a_script_is_a_negative_exit_code(bench: Bench) -> None:
    ended = await bench.run(sh("kill -SEGV $$"))
    assert (ended.how, ended.exit_code) == ("exited", -signal.SIGSEGV)


async def test_the_end_is_told_from_the_loop_and_not_from_within_the_start(bench: Bench) -> None:
    bench.start(bench.folder / "absent")
    assert bench.ended == {}
    await bench.end_of()


@give(timeout_s=0.2)
async def test_a_script_that_runs_too_long_and_ignores_term_is_killed(bench: Bench) -> None:
    ended = await bench.run(sh(f"trap '' TERM; sleep {LONG} & wait; wait; sleep {LONG}"))
    assert (ended.how, ended.exit_code) == ("timed_out", -signal.SIGKILL)
    assert ended.reason == "it ran longer than 0.2 s"


@give(timeout_s=0.2)
async def test_a_script_that_has_stopped_itself_is_ended_by_the_time_out(bench: Bench) -> None:
    ended = await bench.run(sh("kill -STOP $$"))
    assert (ended.how, ended.exit_code) == ("timed_out", -signal.SIGKILL)


async def test_a_cancelled_script_gets_term_and_may_clean_up(bench: Bench) -> None:
    bench.start(sh(f"trap 'echo cleaned; exit 7' TERM; echo ready; sleep {LONG} & wait"))
    await until(lambda: b"ready\n" in bench.log_of().read_bytes())
    bench.scripts.cancel("c1")
    assert await bench.end_of() == Ended("c1", 1, "cancelled", 7)
    assert bench.log_of().read_bytes() == b"ready\ncleaned\n"


async def test_a_cancelled_script_gets_term_once(bench: Bench) -> None:
    count = "import signal, time\nsignal.signal(15, lambda *_: print('term', flush=True))\n"
    bench.start(python(count + f"print('ready', flush=True)\nwhile True: time.sleep({LONG})"))
    await until(lambda: b"ready\n" in bench.log_of().read_bytes())
    bench.scripts.cancel("c1")
    bench.scripts.cancel("c1")
    ended = await bench.end_of()
    assert (ended.how, ended.exit_code) == ("cancelled", -signal.SIGKILL)
    assert bench.log_of().read_bytes() == b"ready\nterm\n"


async def test_cancelling_what_does_not_run_does_nothing(bench: Bench) -> None:
    bench.scripts.cancel("nobody")
    await bench.run(sh("exit 0"))
    bench.scripts.cancel("c1")
    assert bench.ended["c1"].how == "exited"


@give(grace_s=1000.0)
async def test_a_script_that_is_over_stays_exited_when_cancelled_while_it_leaves_something(bench: Bench) -> None:
    leftover = "trap 'echo > termed; until [ -e go ]; do sleep 0.01; done; exit' TERM; echo > ready; "
    leftover += "while :; do sleep 0.01; done"
    # Its output is given up: the pipe is closed when the script is over.
    bench.start(sh(f"({leftover}) >/dev/null 2>&1 &\nuntil [ -e ready ]; do sleep 0.01; done; exit 4"))
    await until((bench.folder / "termed").exists)  # so the script is over, and this is being ended
    bench.scripts.cancel("c1")
    assert bench.scripts.running() == {"c1"}
    (bench.folder / "go").touch()
    assert await bench.end_of() == Ended("c1", 1, "exited", 4)


async def test_a_script_that_is_over_stays_exited_when_cancelled_before_the_loop_has_seen_it(bench: Bench) -> None:
    bench.start(sh("exit 4"))
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop is to see nothing of it
    bench.scripts.cancel("c1")
    assert await bench.end_of() == Ended("c1", 1, "exited", 4)


@give(grace_s=1000.0)
async def test_the_first_reason_to_end_a_script_stays(bench: Bench) -> None:
    bench.start(sh("trap 'echo > termed; until [ -e go ]; do sleep 0.01; done; exit 6' TERM; echo > ready\n"
                   "while :; do sleep 0.01; done"))  # fmt: skip
    await until((bench.folder / "ready").exists)
    bench.scripts.cancel("c1")
    await until((bench.folder / "termed").exists)
    closing = asyncio.create_task(bench.scripts.close())
    await asyncio.sleep(0)
    (bench.folder / "go").touch()
    await closing
    assert bench.ended["c1"] == Ended("c1", 1, "cancelled", 6)


async def test_a_stop_of_the_service_interrupts_all_and_tells_each_before_it_returns(bench: Bench) -> None:
    bench.start(sh(f"sleep {LONG} & wait"), conversion="polite")
    bench.start(sh(f"trap '' TERM; echo > deaf; sleep {LONG}; sleep {LONG}"), conversion="deaf")
    bench.start(bench.folder / "absent", conversion="absent")
    await until((bench.folder / "deaf").exists)
    await bench.scripts.close()
    assert {name: ended.how for name, ended in bench.ended.items()} == {
        "polite": "interrupted",
        "deaf": "interrupted",
        "absent": "not_started",
    }
    assert bench.ended["polite"].exit_code == -signal.SIGTERM
    assert bench.ended["deaf"].exit_code == -signal.SIGKILL


async def test_a_stop_that_finds_nothing_running_returns(bench: Bench) -> None:
    await bench.scripts.close()
    await bench.scripts.close()
    assert bench.ended == {}


async def test_what_is_asked_for_after_the_stop_is_interrupted_and_never_started(bench: Bench) -> None:
    await bench.scripts.close()
    ended = await bench.run(sh("echo > ran"))
    assert (ended.how, ended.exit_code) == ("interrupted", None)
    assert not (bench.folder / "ran").exists()


# What cannot be started


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0, errno.ENOENT),
        ("#!/bin/sh\nexit 0\n", 0o644, errno.EACCES),
        ("exit 0\n", 0o755, errno.ENOEXEC),
        ("", 0o755, errno.ENOEXEC),
        ("#!/nowhere/sh\nexit 0\n", 0o755, errno.ENOENT),
    ],
    ids=["absent", "not executable", "no shebang", "empty", "no interpreter"],
)
async def test_what_cannot_be_started_has_ended_with_the_reason(
    bench: Bench, text: str | None, mode: int, says: int
) -> None:
    path = bench.folder.parent / "unfit"
    if text is not None:
        bench.script(text, "unfit").chmod(mode)
    ended = await bench.run(path)
    assert (ended.how, ended.exit_code, ended.progress) == ("not_started", None, None)
    assert "unfit" in ended.reason
    assert os.strerror(says) in ended.reason


async def test_an_absent_folder_is_a_script_that_could_not_be_started(bench: Bench) -> None:
    bench.folder.rmdir()
    ended = await bench.run(sh("exit 0"))
    assert ended.how == "not_started"
    assert str(bench.folder) in ended.reason


async def test_a_word_that_no_program_can_be_given_is_a_script_that_could_not_be_started(bench: Bench) -> None:
    ended = await bench.run(sh("exit 0"), argv=("a\0b",))
    assert ended.how == "not_started"


async def test_a_conversion_never_runs_twice_at_once(bench: Bench) -> None:
    bench.start(sh(f"echo first >> runs; sleep {LONG}"))
    await until((bench.folder / "runs").exists)
    fd = os.open(os.devnull, os.O_WRONLY)
    bench.start(sh("echo second >> runs"), log_fd=fd)
    ended = await bench.end_of()
    assert (ended.how, "still running" in ended.reason) == ("not_started", True)
    assert bench.scripts.running() == {"c1"}
    del bench.ended["c1"]
    bench.scripts.cancel("c1")
    assert (await bench.end_of()).how == "cancelled"
    assert (bench.folder / "runs").read_text() == "first\n"


async def test_a_conversion_can_be_started_anew_from_within_the_telling_of_its_end(
    tmp_path: Path, settings: Settings, write: ThreadPoolExecutor
) -> None:
    script = tmp_path / "script"
    script.write_text(sh("exit $1"))
    script.chmod(0o755)
    told: list[Ended] = []

    def start(attempt: int) -> None:
        order = RunScript("c1", attempt, "script", "file:///", (), "x.log", (str(attempt),), {})
        scripts.start(order, script, tmp_path, os.open(os.devnull, os.O_WRONLY), write)

    def on_ended(ended: Ended) -> None:
        told.append(ended)
        if ended.attempt < 3:
            start(ended.attempt + 1)

    scripts = Scripts(asyncio.get_running_loop(), settings, lambda *_: None, on_ended)
    start(1)
    await until(lambda: len(told) == 3)
    assert [(ended.attempt, ended.how, ended.exit_code) for ended in told] == [
        (attempt, "exited", attempt) for attempt in (1, 2, 3)
    ]
    await scripts.close()


# What a script finds


@give(env={"SITE": "beam line 3", "SHARED": "configured"})
async def test_the_environment_is_what_was_ordered_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "hush")
    monkeypatch.delenv("LANG", raising=False)
    order = {"ACQ_NAME": "a b", "SHARED": "ordered", "STORAGE_CONVERSION_TOKEN": "forged"}
    show = "import os, sys; sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())"
    await bench.run(python(show), env=order)
    entries = bench.log_of().read_bytes().decode().split("\0")
    assert sorted(filter(None, entries)) == sorted([
        f"PATH={os.environ['PATH']}",
        "HOME=/home/somebody",
        "SITE=beam line 3",
        "SHARED=ordered",
        "ACQ_NAME=a b",
        "STORAGE_CONVERSION_TOKEN=c1:1",
    ])  # fmt: skip


async def test_the_arguments_come_as_they_are(bench: Bench) -> None:
    argv = ("a b", "'quoted' \"twice\"", "$HOME `id` ; exit 9", "", "*", "line\nline")
    await bench.run(python("import sys; print(sys.argv[1:])"), argv=argv)
    assert bench.log_of().read_text() == f"{list(argv)}\n"


async def test_a_script_runs_in_the_folder_as_leader_of_its_session_with_nothing_to_read(bench: Bench) -> None:
    show = """
import os, stat
print(os.getcwd(), os.getpid() == os.getsid(0) == os.getpgid(0), os.read(0, 1), os.umask(0o777), sorted(os.listdir("/proc/self/fd")))
print(stat.S_ISFIFO(os.fstat(1).st_mode), os.get_blocking(1), os.path.sameopenfile(1, 2))
"""  # noqa: E501
    umask = os.umask(0)
    os.umask(umask)
    reading, writing = os.pipe()
    os.write(writing, b"what the service reads")
    with open(reading, "rb"), open(writing, "wb"), as_standard_input(reading):
        await bench.run(python(show))
    folder = bench.folder.resolve()
    # 3 is the listing itself.
    assert bench.log_of().read_text() == f"{folder} True b'' {umask} ['0', '1', '2', '3']\nTrue True True\n"


# What it writes


async def test_output_and_errors_are_in_the_log_in_order(bench: Bench) -> None:
    ended = await bench.run(sh("for i in $(seq 500); do echo out $i; echo err $i >&2; done; printf end"))
    assert ended == Ended("c1", 1, "exited", 0)
    lines = [f"{where} {i}\n" for i in range(1, 501) for where in ("out", "err")]
    assert bench.log_of().read_text() == "".join(lines) + "end"


async def test_a_flood_is_cut_at_the_cap_and_the_last_line_says_so(bench: Bench) -> None:
    ended = await bench.run(sh("yes 0123456 | head -c 50000000; exit 5"))
    assert (ended.how, ended.exit_code, ended.reason) == ("exited", 5, "")
    log = bench.log_of().read_bytes()
    cap = 1 << 20
    assert log[:cap] == b"0123456\n" * (cap // 8)
    last = f"[storage-service: output over {cap} bytes was dropped: {50_000_000 - cap} bytes]\n"
    assert log[cap:].decode() == last


@give(log_bytes=10)
async def test_the_line_about_what_was_dropped_stands_on_a_line_of_its_own(bench: Bench) -> None:
    await bench.run(sh("printf 'abc\\ndefghijklm'"))
    last = "[storage-service: output over 10 bytes was dropped: 4 bytes]"
    assert bench.log_of().read_text() == f"abc\ndefghi\n{last}\n"


@give(log_bytes=10)
async def test_a_log_that_is_just_full_says_nothing(bench: Bench) -> None:
    await bench.run(sh("printf 0123456789"))
    assert bench.log_of().read_text() == "0123456789"


@give(log_bytes=10)
async def test_progress_is_seen_behind_the_cap_of_the_log(bench: Bench) -> None:
    ended = await bench.run(sh("echo 0123456789; echo ::progress 0.5"))
    assert ended.progress == 0.5


async def test_the_log_is_synced_before_the_end_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int, bool]] = []  # inode, size, told

    def fsync(fd: int, really: Callable[[int], None] = os.fsync) -> None:
        really(fd)
        synced.append((os.fstat(fd).st_ino, os.fstat(fd).st_size, "c1" in bench.ended))

    monkeypatch.setattr(os, "fsync", fsync)
    await bench.run(sh("echo 0123456"))
    assert synced == [(bench.log_of().stat().st_ino, 8, False)]


async def test_a_full_disk_does_not_disturb_the_script_and_is_told(bench: Bench) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    ended = await bench.run(sh("seq 100000; echo ::progress 1; echo > finished"), log_fd=full)
    assert (ended.how, ended.exit_code, ended.progress) == ("exited", 0, 1.0)
    assert os.strerror(errno.ENOSPC) in ended.reason
    assert (bench.folder / "finished").exists()


async def test_a_full_disk_is_not_the_reason_of_a_script_that_failed(bench: Bench) -> None:
    ended = await bench.run(sh("echo x; exit 3"), log_fd=os.open("/dev/full", os.O_WRONLY))
    assert (ended.exit_code, ended.reason) == (3, "")


async def test_a_writer_that_was_shut_down_is_told_and_leaks_nothing(bench: Bench) -> None:
    bench.write.shutdown()
    ended = await bench.run(sh("echo x"))
    assert (ended.how, ended.exit_code) == ("exited", 0)
    assert "log could not be written" in ended.reason


FLOOD = """
import os
with open("pid", "w") as file:
    file.write(str(os.getpid()))
written = 0
while True:
    written += os.write(1, b"x" * 4096)
    with open("part", "w") as file:
        file.write(str(written))
    os.rename("part", "written")
"""


async def test_a_disk_that_hangs_holds_the_flood_and_its_end_waits_for_the_log(bench: Bench) -> None:
    gate = threading.Event()
    bench.write.submit(gate.wait)
    seen: list[int] = []

    def is_held() -> bool:
        seen.append(pid_in(bench.folder / "written"))
        return len(seen) > 40 and len(set(seen[-40:])) == 1

    try:
        bench.start(python(FLOOD))
        await until((bench.folder / "written").exists)
        await until(is_held)
        assert seen[-1] < 1 << 20  # what the pipe takes, and what is kept for the disk
        bench.scripts.cancel("c1")
        await until(lambda: look(pid_in(bench.folder / "pid")) is None)
        assert bench.scripts.running() == {"c1"}
        assert bench.ended == {}
    finally:
        gate.set()
    assert (await bench.end_of()).how == "cancelled"
    assert bench.log_of().stat().st_size >= seen[-1]


async def test_a_stop_does_not_wait_for_a_disk_that_hangs_for_ever(bench: Bench) -> None:
    gate = threading.Event()
    bench.write.submit(gate.wait)
    try:
        bench.start(sh("exit 0"))
        await bench.scripts.close()
        ended = bench.ended["c1"]
        assert (ended.how, "log" in ended.reason) == ("interrupted", True)
    finally:
        gate.set()
    bench.write.shutdown()  # the log's last job closes its descriptor


async def test_small_scripts_end_while_another_floods(bench: Bench) -> None:
    bench.start(sh("exec yes"), conversion="flood")
    await until(lambda: bench.log_of("flood").stat().st_size)
    for name in ("small-1", "small-2", "small-3"):
        bench.start(sh("echo done"), conversion=name)
        assert (await bench.end_of(name)).exit_code == 0
    assert bench.scripts.running() == {"flood"}
    bench.scripts.cancel("flood")
    assert await bench.end_of("flood") == Ended("flood", 1, "cancelled", -signal.SIGTERM)


# What it says of its progress


async def test_the_last_progress_is_told_and_kept(bench: Bench) -> None:
    bench.start(sh(f"echo ::progress 0.25; echo ::progress 2; echo more; sleep {LONG}"))
    await until(lambda: bench.told)
    await until(lambda: b"more" in bench.log_of().read_bytes())
    assert bench.scripts.last_progress("c1") == 0.25
    assert bench.scripts.last_progress("nobody") is None
    bench.scripts.cancel("c1")
    assert (await bench.end_of()).progress == 0.25
    assert bench.told == [("c1", 0.25)]


async def test_progress_is_told_at_most_once_a_second_and_the_latest_wins(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    values: list[float] = []

    def on_progress(_: str, value: float) -> None:
        times.append(loop.time())
        values.append(value)

    bench.scripts = Scripts(loop, bench.settings, on_progress, bench._on_ended)
    bench.start(sh(f"for i in 1 2 3 4 5 6 7 8; do echo ::progress 0.$i; sleep 0.01; done; sleep {LONG}"))
    await until(lambda: values and values[-1] == 0.8)
    assert len(values) < 8
    assert all(later - earlier > 0.99 for earlier, later in itertools.pairwise(times))
    await bench.scripts.close()


async def test_progress_without_an_end_of_line_counts_when_the_script_is_over(bench: Bench) -> None:
    assert (await bench.run(sh("printf '::progress 1'"))).progress == 1.0


@pytest.mark.parametrize(
    "line",
    ["::progress", "::progress x", "::progress nan", "::progress inf", "::progress -0.1", "::progress 1.01",
     "::progress 0.5 of it", "x ::progress 0.5", "::progress0.5", "::progress 1_0e-9", "::progress 1e999",
     "::progress ..", "::progress 0." + "1" * 100, "::progress" + " " * 500 + "0.5"],
)  # fmt: skip
def test_what_only_looks_like_progress_is_passed_over(line: str) -> None:
    lines = ProgressLines()
    assert lines.feed(f"::progress 0.1\n{line}\n".encode()) == 0.1
    assert lines.feed(f"{line}\n".encode()) is None


@pytest.mark.parametrize("value", ["0", "1", "0.42", ".5", "1e-3", "0.420000"])
def test_progress_is_found_wherever_the_stream_is_split(value: str) -> None:
    stream = f"noise\n::progress {value}\r\nnoise".encode()
    for at in range(len(stream)):
        lines = ProgressLines()
        found = [lines.feed(stream[:at]), lines.feed(stream[at:])]
        assert [seen for seen in found if seen is not None] == [float(value)]
    lines = ProgressLines()
    found = [lines.feed(bytes([byte])) for byte in stream]
    assert [seen for seen in found if seen is not None] == [float(value)]


def test_the_last_of_several_valid_values_counts() -> None:
    assert ProgressLines().feed(b"::progress 0.1\n::progress 0.2\n::progress 7\n::progress 0.9") == 0.2


def test_an_endless_line_takes_no_memory_and_hides_no_progress() -> None:
    lines = ProgressLines()
    for _ in range(1000):
        assert lines.feed(b"::progress 0.3" * 1000) is None
    assert len(lines._unfinished) <= LONGEST
    assert lines.feed(b"\n") is None
    assert lines.feed(b"::progress 0.7\n") == 0.7


# What it leaves


async def test_a_child_in_the_background_that_holds_the_pipe_is_ended_with_the_script(bench: Bench) -> None:
    ended = await bench.run(sh(f"echo begun; sleep {LONG} & echo $! > child; exit 0"))
    assert ended == Ended("c1", 1, "exited", 0)
    assert not lives(pid_in(bench.folder / "child"))
    assert bench.log_of().read_bytes() == b"begun\n"


async def test_a_child_that_ignores_term_is_killed_after_the_script(bench: Bench) -> None:
    deaf = f"(trap '' TERM; echo > ready; sleep {LONG}; sleep {LONG}) &\necho $! > child\n"
    ended = await bench.run(sh(deaf + "until [ -e ready ]; do sleep 0.01; done"))
    assert ended.exit_code == 0
    assert not lives(pid_in(bench.folder / "child"))


async def test_a_child_in_a_process_group_of_its_own_is_ended_with_the_script(bench: Bench) -> None:
    # Without its token, too: it is in the script's session.
    fork = "import os, time\npid = os.fork()\nif not pid:\n os.setpgid(0, 0)\n"
    fork += (
        f" os.execve('/bin/sh', ['sh', '-c', 'echo > ready; exec sleep {LONG}'], {{'PATH': os.environ['PATH']}})\n"
    )
    fork += "while not os.path.exists('ready'): time.sleep(0.005)\n"
    await bench.run(python(fork + "open('child', 'w').write(str(pid))"))
    assert not lives(pid_in(bench.folder / "child"))


@pytest.mark.parametrize("manner", ["polite", "deaf"])
async def test_a_daemon_is_ended_with_the_script(bench: Bench, manner: str) -> None:
    ended = await bench.run(python(DAEMON), argv=(manner,))
    assert ended == Ended("c1", 1, "exited", 0)
    assert not lives(pid_in(bench.folder / "daemon.pid"))
    if manner == "deaf":
        assert (bench.folder / "terms").read_text() == "term"  # asked once, then killed


async def test_a_flood_from_a_child_ends_with_the_script(bench: Bench) -> None:
    ended = await bench.run(sh("yes & exit 0"))
    assert (ended.how, ended.exit_code) == ("exited", 0)


async def test_another_conversion_goes_on_when_one_is_ended(bench: Bench) -> None:
    bench.start(sh(f"echo $$ > other; sleep {LONG}"), conversion="other")
    await until(lambda: (bench.folder / "other").exists() and (bench.folder / "other").read_text())
    assert (await bench.run(python(DAEMON))).exit_code == 0
    assert lives(pid_in(bench.folder / "other"))
    assert bench.scripts.running() == {"other"}


# What a killed service has left


class Left:
    """Daemons left by a service that is no more, each in a folder of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.pids: list[int] = []

    def __call__(self, token: str | None, *manner: str) -> int:
        folder = self.tmp_path / f"left-{len(self.pids)}"
        folder.mkdir()
        environment = {} if token is None else {"STORAGE_CONVERSION_TOKEN": token}
        subprocess.run([sys.executable, "-SEc", DAEMON, *manner], cwd=folder, env=environment, check=True)
        self.pids.append(pid_in(folder / "daemon.pid"))
        return self.pids[-1]


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Left]:
    left = Left(tmp_path)
    yield left
    for pid in left.pids:
        if process := look(pid):
            send(process, signal.SIGKILL)


def test_what_a_killed_service_has_left_is_found_by_its_token_and_ended(left: Left) -> None:
    first, deaf = left("conversion-1:1"), left("conversion-2:17", "deaf")
    others = [left("conversion-3:1"), left("conversion-1"), left("conversion-1:1:1"), left(None)]
    assert end_leftovers(["conversion-1", "conversion-2"], 0.2) == 2
    assert not lives(first)
    assert not lives(deaf)
    assert all(map(lives, others))
    assert end_leftovers(["conversion-1", "conversion-2"], 0.2) == 0


# Leader of a group, in which is a process that has cleared its environment.
LEADER = """
import os, sys, time
pid = os.fork()
if not pid:
    os.execve(sys.executable, [sys.executable, "-SEc", "open('mate', 'w'); import time; time.sleep(1000)"], {})
while not os.path.exists("mate"):
    time.sleep(0.005)
with open("part", "w") as file:
    file.write(str(pid))
os.rename("part", "mate.pid")
time.sleep(1000)
"""


def test_the_process_group_of_what_is_left_is_ended_with_it(left: Left) -> None:
    other = left("conversion-1:1")
    environment = {"STORAGE_CONVERSION_TOKEN": "conversion-2:1"}
    argv = [sys.executable, "-SEc", LEADER]
    with subprocess.Popen(argv, cwd=left.tmp_path, env=environment, start_new_session=True):
        wait_until((left.tmp_path / "mate.pid").exists)
        mate = pid_in(left.tmp_path / "mate.pid")
        left.pids.append(mate)
        assert token_of(mate) == ""
        assert end_leftovers({"conversion-2"}, 0.2) == 2
        assert not lives(mate)
    assert lives(other)


def test_the_service_itself_and_those_above_it_are_never_ended() -> None:
    # A process that carries the token, with one below it that looks for what is left: neither may be signalled.
    inner = "from storage_service.doors.conversion import end_leftovers as e; raise SystemExit(e(['c'], 0.0))"
    outer = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {inner!r}]).returncode)"
    environment = os.environ | {"STORAGE_CONVERSION_TOKEN": "c:1"}
    assert subprocess.run([sys.executable, "-c", outer], env=environment).returncode == 0


def test_nothing_is_looked_for_without_a_conversion(left: Left) -> None:
    pid = left(":1")
    assert end_leftovers([], 0.0) == 0
    assert lives(pid)


def test_a_process_that_came_later_under_the_same_pid_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", LONG]) as sleeper:
        now = look(sleeper.pid)
        assert now is not None
        send(now._replace(started=now.started - 1), signal.SIGKILL)
        send(now, signal.SIGTERM)
    assert sleeper.returncode == -signal.SIGTERM
    send(now, signal.SIGTERM)  # nobody is there any more


def test_a_process_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen(["sleep", LONG], executable=odd) as sleeper:
        process = look(sleeper.pid)
        assert process is not None
        assert process[:4] == (sleeper.pid, os.getpid(), os.getpgid(0), os.getsid(0))
        assert process.alive
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert not lives(sleeper.pid)
    assert look(sleeper.pid) is None
