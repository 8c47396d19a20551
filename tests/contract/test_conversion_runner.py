"""The runner of a conversion: nothing is left, whoever of service, runner, keeper and script is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from storage_service.doors import conversion_attempt, conversion_start, runner
from storage_service.doors.conversion import Protection, Settings
from storage_service.doors.conversion_lock import Locks
from storage_service.doors.conversion_start import RUNNER, as_file
from storage_service.rules.work import Ended
from tests.support.polling import until
from tests.support.scripts import FUGITIVE, LONG, STAY, USUAL, Bench, give, marked, open_bench, python, sh

# What is left of a conversion is looked for on the whole host, where this test may run twice.
C1 = f"c1-{uuid4()}"

NAMESPACE_REFUSED = subprocess.run([*RUNNER, "probe"], check=False).returncode != 0

in_namespace = pytest.mark.skipif(NAMESPACE_REFUSED, reason="this kernel grants no PID namespace")

PLACES = [
    pytest.param(Settings(**USUAL), id="subreaper"),  # type: ignore[arg-type]
    pytest.param(Settings(**USUAL | {"pid_namespace": True}), id="namespace", marks=in_namespace),  # type: ignore[arg-type]
]


@pytest.fixture
def settings() -> Settings:
    return Settings(**USUAL)  # type: ignore[arg-type]


@pytest.fixture
async def bench(tmp_path: Path, settings: Settings) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, settings) as bench:
        bench.usual = C1
        yield bench


def everywhere(test: object) -> object:
    """The test with a subreaper alone, and in a PID namespace."""
    return pytest.mark.parametrize("settings", PLACES)(test)


def of(bench: Bench) -> dict[int, int]:
    return marked(str(bench.folder.parent))


async def flee_and_stay(bench: Bench, *, keep_lock: bool = False) -> None:
    """A conversion `C1` that has a fugitive below it and goes on."""
    bench.start(python(FUGITIVE + f"flee('fled', {keep_lock})\nopen('on', 'w').close()\n{STAY}"))
    await until((bench.folder / "on").exists)


def pair(bench: Bench) -> tuple[int, int]:
    """The pids of runner and keeper."""
    there = of(bench)
    (outer,) = (pid for pid, parent in there.items() if parent == os.getpid())
    (keeper,) = (pid for pid, parent in there.items() if parent == outer)
    return outer, keeper


@everywhere
async def test_a_fugitive_is_ended_with_the_script(bench: Bench) -> None:
    ended = await bench.run(python(FUGITIVE + "flee('fled')\nsys.exit(3)"))
    assert ended == Ended(C1, 1, "exited", 3)
    assert (bench.folder / "fled").exists()
    assert of(bench) == {}


@everywhere
async def test_a_fugitive_is_ended_when_the_conversion_is_cancelled(bench: Bench) -> None:
    await flee_and_stay(bench)
    bench.scripts.cancel(C1)
    assert await bench.end_of() == Ended(C1, 1, "cancelled", -signal.SIGTERM)
    assert of(bench) == {}


@everywhere
async def test_a_script_that_is_killed_leaves_nothing(bench: Bench) -> None:
    await flee_and_stay(bench)
    _, keeper = pair(bench)
    (script,) = (pid for pid, parent in of(bench).items() if parent == keeper and b"fled" not in cmdline(pid))
    os.kill(script, signal.SIGKILL)
    assert await bench.end_of() == Ended(C1, 1, "exited", -signal.SIGKILL)
    assert of(bench) == {}


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@everywhere
@pytest.mark.parametrize("which", ["runner", "keeper"])
async def test_what_a_killed_runner_or_keeper_leaves_is_ended_by_the_other(bench: Bench, which: str) -> None:
    await flee_and_stay(bench)
    outer, keeper = pair(bench)
    os.kill(outer if which == "runner" else keeper, signal.SIGKILL)
    ended = await bench.end_of()
    assert (ended.how, "its runner was" in ended.reason) == ("interrupted", True)
    assert of(bench) == {}


@everywhere
async def test_what_is_left_when_both_are_killed_is_ended_before_the_end_is_told(
    bench: Bench, settings: Settings
) -> None:
    await flee_and_stay(bench, keep_lock=not settings.pid_namespace)
    for pid in pair(bench):
        os.kill(pid, signal.SIGKILL)
    ended = await bench.end_of()
    # The keeper may have noticed that the runner is killed before it is killed itself.
    assert (ended.how, "its runner was" in ended.reason) == ("interrupted", True)
    assert of(bench) == {}


@give(grace_s=1000.0)
async def test_a_result_stands_when_the_runner_is_killed_after_it(bench: Bench) -> None:
    # What the script leaves keeps the keeper at work until it may end.
    left = "(trap 'echo > termed; until [ -e go ]; do sleep 0.01; done; exit' TERM; echo > ready\n"
    left += "while :; do sleep 0.01; done) >/dev/null 2>&1 &\n"
    bench.start(sh(left + "until [ -e ready ]; do sleep 0.01; done; exit 4"))
    await until((bench.folder / "termed").exists)
    os.kill(pair(bench)[0], signal.SIGKILL)
    (bench.folder / "go").touch()
    assert await bench.end_of() == Ended(C1, 1, "exited", 4)
    assert of(bench) == {}


async def test_term_to_the_runner_interrupts_the_conversion(bench: Bench) -> None:
    bench.start(sh(f"echo > on; sleep {LONG}"))
    await until((bench.folder / "on").exists)
    os.kill(pair(bench)[0], signal.SIGTERM)
    assert await bench.end_of() == Ended(C1, 1, "interrupted", -signal.SIGTERM, None, "its runner was ended")


async def test_a_runner_that_does_not_react_is_ended_with_all_below_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_attempt, "LATE_AFTER_S", 0.1)
    bench.start(sh(f"echo > on; sleep {LONG}; sleep {LONG}"))
    await until((bench.folder / "on").exists)
    for pid in pair(bench):
        os.kill(pid, signal.SIGSTOP)
    bench.scripts.cancel(C1)
    assert await bench.end_of() == Ended(C1, 1, "cancelled")
    assert of(bench) == {}


async def test_a_runner_that_cannot_work_is_a_script_that_could_not_be_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_start, "RUNNER", (sys.executable, "-ISc", "raise SystemExit('no memory')"))
    ended = await bench.run(sh("exit 0"))
    assert (ended.how, "exit code 1" in ended.reason) == ("not_started", True)
    assert bench.log_of().read_text() == "no memory\n"


def test_a_runner_imports_nothing_of_the_service_and_little_else() -> None:
    # Every attempt waits for it.
    show = "import sys; sys.path.append(sys.argv[1]); import storage_service.doors.runner; print(*sys.modules)"
    root = str(Path(runner.__file__).parents[2])
    done = subprocess.run([sys.executable, "-ISc", show, root], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    own = {name for name in modules if name.startswith("storage_service")}
    doors = "storage_service.doors"
    assert own == {"storage_service", doors, f"{doors}.runner", f"{doors}.reaper"}
    assert not modules & {"signal", "enum", "re", "typing", "subprocess", "socket", "logging", "asyncio"}


# A service that is killed

# A service's stand-in: it starts a script and knows nothing more.
SERVICE = """
import asyncio, os, sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from storage_service.doors.conversion import Scripts, Settings
from storage_service.rules.work import RunScript

async def main(folder, script, namespace):
    settings = Settings(1000.0, 1000.0, 4096, folder.parent / "locks", pid_namespace=namespace)
    scripts = Scripts(asyncio.get_running_loop(), settings, print, print)
    order = RunScript(sys.argv[4], 1, "script", "file:///", (), "x.log", (), {})
    scripts.start(order, script, folder, os.open(os.devnull, os.O_WRONLY), ThreadPoolExecutor(1))
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"))
"""


@everywhere
@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_nothing_outlives_a_killed_service(bench: Bench, settings: Settings, when: str) -> None:
    deaf = "import signal\nsignal.signal(15, signal.SIG_IGN)\n"
    stay = f"flee('fled')\nopen('on', 'w').close()\n{STAY}"
    script = bench.script(python(FUGITIVE + deaf + stay))
    words = [str(bench.folder), str(script), str(settings.pid_namespace), C1]
    with subprocess.Popen([sys.executable, "-c", SERVICE, *words]) as service:  # noqa: ASYNC220
        if when == "later":
            await until((bench.folder / "on").exists)
        else:
            await until(lambda: len(of(bench)) > 1)
        service.kill()
    # A process that is just being executed has no command line for a moment, but the lock.
    await until(lambda: of(bench) == {} and Locks(bench.settings.locks).held() == [])
    assert bench.scripts.end_leftovers([C1]) == 0


# The lock


async def test_everything_holds_the_lock_and_gives_it_back(bench: Bench) -> None:
    bench.start(sh(f"exec 9>other; echo > on; sleep {LONG} & wait"))
    await until((bench.folder / "on").exists)
    locks = Locks(bench.settings.locks)
    with pytest.raises(BlockingIOError):
        locks.take(C1)
    for pid in of(bench):
        assert os.readlink(f"/proc/{pid}/fd/{runner.LOCK_FD}") == str(bench.settings.locks / C1)
    bench.scripts.cancel(C1)
    await bench.end_of()
    assert locks.is_free(C1)


# Opens the lock as a runner has it and nothing else: no environment, no session of anybody's.
HOLDER = f"""
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
{STAY}
"""


def holder(bench: Bench, conversion: str = C1) -> subprocess.Popen[bytes]:
    bench.settings.locks.mkdir(exist_ok=True)
    path = bench.settings.locks / conversion
    argv = [sys.executable, "-Ic", HOLDER, str(path)]
    held = subprocess.Popen(argv, stdout=subprocess.PIPE, env={}, start_new_session=True)
    assert held.stdout is not None
    assert held.stdout.readline() == b"held\n"
    return held


async def test_what_lives_of_an_earlier_attempt_is_ended_before_a_conversion_is_started(bench: Bench) -> None:
    with holder(bench) as held:
        bench.start(sh(f"[ -e /proc/{held.pid}/exe ] && exit 1; exit 0"))
        assert bench.scripts.running() == {C1}
        assert (await bench.end_of()).exit_code == 0
    assert held.returncode == -signal.SIGTERM


@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
async def test_a_conversion_that_waits_for_an_earlier_attempt_is_not_started_after_a_cancel_or_a_stop(
    bench: Bench, how: str
) -> None:
    with holder(bench) as held:
        bench.start(sh("echo > ran"))
        if how == "cancelled":
            bench.scripts.cancel(C1)
        else:
            await bench.scripts.close()
        ended = await bench.end_of()
        assert (ended.how, ended.exit_code) == (how, None)
    assert held.returncode == -signal.SIGTERM
    assert not (bench.folder / "ran").exists()


async def test_what_cannot_be_ended_keeps_a_conversion_from_being_started(bench: Bench) -> None:
    lock = Locks(bench.settings.locks).take(C1)  # held by this very process, which is never ended
    ended = await bench.run(sh("echo > ran"))
    assert (ended.how, ended.exit_code, "earlier attempt" in ended.reason) == ("interrupted", None, True)
    assert not (bench.folder / "ran").exists()
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
    assert Locks(bench.settings.locks).is_free(C1)


async def test_a_start_ends_what_holds_any_lock_and_takes_the_files_away(bench: Bench) -> None:
    with holder(bench, "unknown") as held:
        (bench.settings.locks / "over").touch()
        assert bench.scripts.end_leftovers([]) == 1
    assert held.returncode == -signal.SIGTERM
    assert os.listdir(bench.settings.locks) == []


# The PID namespace


@in_namespace
@give(pid_namespace=True)
async def test_in_a_namespace_the_script_is_not_the_first_process(bench: Bench) -> None:
    # A shell that is the first process ignores TERM.
    bench.start(sh(f"echo $$ > on; sleep {LONG}"))
    await until(lambda: (bench.folder / "on").exists() and (bench.folder / "on").read_text())
    assert (bench.folder / "on").read_text() == "2\n"
    assert bench.scripts.protection == Protection(pid_namespace=True, reason=None)
    bench.scripts.cancel(C1)
    assert await bench.end_of() == Ended(C1, 1, "cancelled", -signal.SIGTERM)


@in_namespace
@give(pid_namespace=True)
async def test_in_a_namespace_a_script_ends_as_elsewhere(bench: Bench) -> None:
    assert await bench.run(sh("echo here; exit 3")) == Ended(C1, 1, "exited", 3)
    assert bench.log_of().read_text() == "here\n"
    bench.start(bench.folder / "absent", conversion="c2")
    ended = await bench.end_of("c2")
    assert (ended.how, os.strerror(errno.ENOENT) in ended.reason) == ("not_started", True)


async def test_without_a_namespace_configured_nothing_is_missing(bench: Bench) -> None:
    assert bench.scripts.protection == Protection(pid_namespace=False, reason=None)


@in_namespace
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_is_not_root_gets_a_namespace_too() -> None:
    become = f"""
import ctypes, os, sys
sys.path.append({str(Path(runner.__file__).parents[2])!r})
from storage_service.doors import runner
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: as if it had been started so
code = runner.probe()
assert (os.geteuid(), os.getegid()) == (65534, 65534)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-ISc", become], check=False)
    if done.returncode == errno.EPERM:
        pytest.skip("this kernel lets only root have one")
    assert done.returncode == 0


def refusing(*words: str) -> list[str]:
    """A command line under a kernel that grants no PID namespace."""
    unshare = shutil.which("unshare")
    forbid = 'echo 0 > /proc/sys/user/max_pid_namespaces && exec "$@"'
    argv = [unshare or "", "--user", "--map-root-user", "sh", "-c", forbid, "sh"]
    if not unshare or subprocess.run([*argv, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a kernel that refuses cannot be had here")
    return [*argv, *words]


def test_a_kernel_that_refuses_is_told_of(tmp_path: Path) -> None:
    show = f"""
import asyncio
from pathlib import Path
from storage_service.doors.conversion import Scripts, Settings
loop = asyncio.new_event_loop()
settings = Settings(1.0, 1.0, 4096, Path({str(tmp_path)!r}), pid_namespace=True)
protection = Scripts(loop, settings, print, print).protection
print(protection.pid_namespace, protection.reason)
"""
    done = subprocess.run(refusing(sys.executable, "-c", show), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False conversion.pid_namespace is true, but conversions run without one: ")
    assert os.strerror(errno.ENOSPC) in done.stdout


def test_a_namespace_that_is_refused_later_starts_nothing(tmp_path: Path) -> None:
    lock = Locks(tmp_path / "locks").take(C1)
    ours, theirs = socket.socketpair()
    environment = as_file({})
    words = [*RUNNER, *map(str, (lock, environment, 1, 1, tmp_path, "/bin/touch", tmp_path / "ran"))]
    with ours, theirs:
        subprocess.run(refusing(*words), stdin=theirs, pass_fds=[lock, environment], check=True)
        theirs.close()
        assert ours.recv(100) == b"no_namespace %d\n" % errno.ENOSPC
    os.close(lock)
    os.close(environment)
    assert not (tmp_path / "ran").exists()


# A keeper that looks for what is over just before the script ends.
EARLY = """
import os, sys
sys.path.append(sys.argv[1])
from storage_service.doors import runner
really = os.waitid
def early(*args):
    found = really(*args)
    if found is None:
        really(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    return found
os.waitid = early
above = os.pidfd_open(os.getpid())
runner.Keeper(0, 1.0, runner.Signals(), above=above, first=False).keep(b"/", [b"/bin/false"], {})
"""


def test_an_end_right_after_a_look_is_told_too() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            root = str(Path(runner.__file__).parents[2])
            subprocess.run([sys.executable, "-ISc", EARLY, root], stdin=theirs, check=True)
        assert ours.makefile("rb").read() == b"over 1 0\nclear\n"


def test_a_runner_whose_service_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    lock = Locks(tmp_path / "locks").take(C1)
    ours, theirs = socket.socketpair()
    ours.close()
    environment = as_file({})
    words = [*RUNNER, *map(str, (lock, environment, 1, 0, tmp_path, "/bin/touch", tmp_path / "ran"))]
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so that TERM would not be in time
    try:
        with theirs:
            subprocess.run(words, stdin=theirs, pass_fds=[lock, environment], check=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(lock)
        os.close(environment)
    assert not (tmp_path / "ran").exists()
