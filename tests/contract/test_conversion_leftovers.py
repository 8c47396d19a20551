"""The door to conversion scripts: nothing of them is left, neither by a script nor by a killed service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage_service.doors.conversion import Settings, end_leftovers
from storage_service.doors.process_group import look, send, token_of
from storage_service.rules.work import Ended
from tests.support.polling import eventually, until
from tests.support.scripts import DAEMON, LONG, STAY, USUAL, WAIT_FOR, Bench, lives, open_bench, pid_in, python, sh


@pytest.fixture
def settings() -> Settings:
    return Settings(**USUAL)  # type: ignore[arg-type]


@pytest.fixture
async def bench(tmp_path: Path, settings: Settings) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, settings) as bench:
        yield bench


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
    fork = WAIT_FOR + "pid = os.fork()\nif not pid:\n os.setpgid(0, 0)\n"
    fork += (
        f" os.execve('/bin/sh', ['sh', '-c', 'echo > ready; exec sleep {LONG}'], {{'PATH': os.environ['PATH']}})\n"
    )
    fork += "wait_for('ready')\n"
    await bench.run(python(fork + "open('child', 'w').write(str(pid))"))
    assert not lives(pid_in(bench.folder / "child"))


@pytest.mark.parametrize("manner", ["polite", "deaf"])
async def test_a_daemon_is_ended_with_the_script(bench: Bench, manner: str) -> None:
    ended = await bench.run(python(DAEMON), argv=(manner,))
    assert ended == Ended("c1", 1, "exited", 0)
    assert not lives(pid_in(bench.folder / "daemon.pid"))
    if manner == "deaf":
        assert (bench.folder / "terms").read_text() in ("", "term")  # asked once, if it came to it, then killed


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
LEADER = f"""
{WAIT_FOR}
pid = os.fork()
if not pid:
    os.execve(sys.executable, [sys.executable, "-SEc", "open('mate', 'w'); {STAY}"], {{}})
wait_for("mate")
with open("part", "w") as file:
    file.write(str(pid))
os.rename("part", "mate.pid")
{STAY}
"""


def test_the_process_group_of_what_is_left_is_ended_with_it(left: Left) -> None:
    other = left("conversion-1:1")
    environment = {"STORAGE_CONVERSION_TOKEN": "conversion-2:1"}
    argv = [sys.executable, "-SEc", LEADER]
    with subprocess.Popen(argv, cwd=left.tmp_path, env=environment, start_new_session=True):
        eventually((left.tmp_path / "mate.pid").exists)
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
