"""The door to conversion scripts: how they are started, what they find, and how they end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage_service.doors.conversion import Scripts, Settings
from storage_service.rules.work import Ended, RunScript
from tests.support.polling import steps, until
from tests.support.scripts import LONG, STAY_ON, USUAL, Bench, give, open_bench, pid_in, python, sh


@pytest.fixture
def settings() -> Settings:
    return Settings(**USUAL)  # type: ignore[arg-type]


@pytest.fixture
async def bench(tmp_path: Path, settings: Settings) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, settings) as bench:
        yield bench


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


@contextmanager
def deaf_from_birth() -> Iterator[None]:
    """What is started meanwhile ignores TERM from its first moment: an ignored signal is inherited."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "body", [f"sleep {LONG} & wait; sleep {LONG}", "kill -STOP $$"], ids=["sleeps", "stopped"]
)
@give(timeout_s=0.2)
async def test_a_script_that_runs_too_long_and_ignores_term_is_killed(bench: Bench, body: str) -> None:
    with deaf_from_birth():
        bench.start(sh(body))
    ended = await bench.end_of()
    assert ended == Ended("c1", 1, "timed_out", -signal.SIGKILL, None, "timed out: it ran longer than 0.2 s")


@give(grace_s=1000.0)
async def test_a_cancelled_script_gets_term_and_may_clean_up(bench: Bench) -> None:
    # What cleans up is a program of its own, started after the TERM, which is not its own.
    bench.script(sh("echo cleaning; until [ -e go ]; do sleep 0.01; done; echo cleaned"), "clean")
    # It has no child that lives long: one that is just forked by the shell may miss its TERM.
    bench.start(sh("trap '../clean; exit 7' TERM; echo ready; while :; do sleep 0.01; done"))
    await until(lambda: b"ready\n" in bench.log_of().read_bytes())
    bench.scripts.cancel("c1")
    await until(lambda: b"cleaning\n" in bench.log_of().read_bytes())
    for name in ("1", "2", "3"):  # while it is looked at a few times more
        bench.start(sh("exit 0"), conversion=name)
        await bench.end_of(name)
    (bench.folder / "go").touch()
    assert await bench.end_of() == Ended("c1", 1, "cancelled", 7)
    told_by_shell = b"Terminated\n"
    assert bench.log_of().read_bytes().replace(told_by_shell, b"") == b"ready\ncleaning\ncleaned\n"


async def test_a_cancelled_script_that_ignores_term_is_killed(bench: Bench) -> None:
    with deaf_from_birth():
        bench.start(sh(f"sleep {LONG}; sleep {LONG}"))
    bench.scripts.cancel("c1")
    assert await bench.end_of() == Ended("c1", 1, "cancelled", -signal.SIGKILL)


@give(grace_s=1000.0)
async def test_a_cancelled_script_gets_term_once(bench: Bench) -> None:
    count = "import os, signal\nsignal.signal(15, lambda *_: os.write(1, b'term\\n'))\n"
    bench.start(python(count + f"print(os.getpid(), flush=True)\n{STAY_ON}"))
    await until(lambda: b"\n" in bench.log_of().read_bytes())
    pid = pid_in(bench.log_of())
    bench.scripts.cancel("c1")
    bench.scripts.cancel("c1")
    await until(lambda: b"term\n" in bench.log_of().read_bytes())
    bench.start(sh("exit 0"), conversion="meanwhile")  # while it is looked at a few times more
    await bench.end_of("meanwhile")
    os.kill(pid, signal.SIGKILL)
    assert await bench.end_of() == Ended("c1", 1, "cancelled", -signal.SIGKILL)
    assert bench.log_of().read_text() == f"{pid}\nterm\n"


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
    await steps()
    (bench.folder / "go").touch()
    await closing
    assert bench.ended["c1"] == Ended("c1", 1, "cancelled", 6)


async def test_a_stop_of_the_service_interrupts_all_and_tells_each_before_it_returns(bench: Bench) -> None:
    bench.start(sh(f"sleep {LONG} & wait"), conversion="polite")
    bench.start(sh(f"trap '' TERM; echo > deaf; sleep {LONG}; sleep {LONG}"), conversion="deaf")
    bench.start(bench.folder / "absent", conversion="absent")
    await until((bench.folder / "deaf").exists)
    await bench.scripts.close()
    told = {name: ended.how for name, ended in bench.ended.items()}
    # TERM may have come before the script that is not there was missed.
    assert told.pop("absent") in ("not_started", "interrupted")
    assert told == {"polite": "interrupted", "deaf": "interrupted"}
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


async def test_a_conversion_can_be_started_anew_from_within_the_telling_of_its_end(bench: Bench) -> None:
    script = bench.script(sh("exit $1"))
    told: list[Ended] = []

    def start(attempt: int) -> None:
        order = RunScript("c1", attempt, "script", "file:///", (), "x.log", (str(attempt),), {})
        scripts.start(order, script, bench.folder, os.open(os.devnull, os.O_WRONLY), bench.write)

    def on_ended(ended: Ended) -> None:
        told.append(ended)
        if ended.attempt < 3:
            start(ended.attempt + 1)

    scripts = Scripts(asyncio.get_running_loop(), bench.settings, lambda *_: None, on_ended)
    start(1)
    await until(lambda: len(told) == 3)
    assert [(ended.attempt, ended.how, ended.exit_code) for ended in told] == [
        (attempt, "exited", attempt) for attempt in (1, 2, 3)
    ]
    await scripts.close()


# What a script finds


@contextmanager
def as_standard_input(data: bytes) -> Iterator[None]:
    """What the service itself would read: a script must not."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, data)
    os.dup2(reading, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        for fd in (before, reading, writing):
            os.close(fd)


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
    with as_standard_input(b"what the service reads"):
        await bench.run(python(show))
    folder = bench.folder.resolve()
    # 3 is the listing itself, 200 the lock.
    told = f"{folder} True b'' {umask} ['0', '1', '2', '200', '3']\nTrue True True\n"
    assert bench.log_of().read_text() == told
