"""A configuration that a program writes: what it finds, how its end is told, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_service.doors.sources.interface import DOCUMENT_BYTES
from storage_service.doors.sources.program import ProgramOutput
from storage_service.rules.work import Fault
from tests.support.polling import eventually, steps, until
from tests.support.scripts import DAEMON, LONG, lives, marked, pid_in
from tests.support.traces import held, nothing_left


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A word for command lines; whose has it in the end is left over."""
    mark = f"marked-{tmp_path}"
    yield mark
    assert marked(mark) == {}


def sh(body: str, *more: str) -> ProgramOutput:
    return ProgramOutput(["sh", "-c", body, "sh", *more])


# What it finds


async def test_its_environment_is_little_and_what_is_told_of_the_acquisition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"PATH": os.environ["PATH"], "HOME": "/h", "LANG": "C.UTF-8", "SECRET": "x"}.items():
        monkeypatch.setenv(name, value)
    given = await ProgramOutput(["/usr/bin/env"]).fetch({"STORAGE_ID": "s", "ACQ_ID": "a b\nc"})
    lines = {f"PATH={os.environ['PATH']}", "HOME=/h", "LANG=C.UTF-8", "STORAGE_ID=s", "ACQ_ID=a b", "c"}
    assert set(given.decode().splitlines()) == lines


async def test_it_is_started_without_a_shell() -> None:
    words = ["$HOME", "a b", "*", ";", "ö", ""]
    assert await ProgramOutput(["printf", "%s|", *words]).fetch({}) == b"$HOME|a b|*|;|\xc3\xb6||"


async def test_its_standard_input_is_empty_and_nothing_else_is_open() -> None:
    code = (
        "import os, sys\n"
        "fds = {each: os.readlink(f'/proc/self/fd/{each}') for each in os.listdir('/proc/self/fd')\n"
        "       if os.path.exists(f'/proc/self/fd/{each}')}\n"
        "print(len(sys.stdin.read()), os.getcwd(), fds.pop('0'), sorted(set(fds.values()) - {fds['1'], fds['2']}))"
    )
    given = await ProgramOutput([sys.executable, "-c", code]).fetch({})
    assert given == b"0 / /dev/null ['/dev/null']\n"


async def test_it_has_a_session_of_its_own() -> None:
    code = "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())"
    assert await ProgramOutput([sys.executable, "-c", code]).fetch({}) == b"True\n"


async def test_it_ignores_and_blocks_no_signals_from_its_start() -> None:
    given = await ProgramOutput(["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]).fetch({})
    masks = [int(line.split()[1], 16) for line in given.decode().splitlines()]
    # Whoever started all this with nohup has it so; what is above is the C library's own.
    hangups = 1 << signal.SIGHUP - 1 if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else 0
    assert [mask & 0x7FFFFFFF & ~hangups for mask in masks] == [0, 0]


# How its end is told


@pytest.mark.parametrize("code", [1, 3, 127])
async def test_an_exit_code_is_a_fault_with_the_last_line_of_its_errors(code: int) -> None:
    body = f"echo half; echo first >&2; echo; echo 'it went wrong' >&2; echo >&2; exit {code}"
    with pytest.raises(Fault, match=rf"^The program sh ended with the exit code {code}: 'it went wrong'\.$"):
        await sh(body).fetch({})


async def test_errors_without_an_end_or_a_form_are_shortened() -> None:
    body = "head -c 1000000 /dev/zero >&2; printf '\\033[1m\\377' >&2; head -c 1000000 /dev/zero >&2; exit 1"
    with pytest.raises(Fault) as caught:
        await sh(body).fetch({})
    assert len(caught.value.message) < 1000
    assert caught.value.message.isprintable()


async def test_errors_of_one_that_did_well_are_passed_over() -> None:
    assert await sh("echo warning >&2; echo '<a/>'").fetch({}) == b"<a/>\n"


async def test_a_signal_that_ended_it_is_told() -> None:
    with pytest.raises(Fault, match=r"^The program sh was ended by SIGSEGV\.$"):
        await sh("kill -SEGV $$").fetch({})


async def test_one_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for words, why in (
        (["no-such-program"], "No such file or directory"),
        ([str(tmp_path / "text")], "Permission denied"),
        (["sh", "a\0b"], "embedded null byte"),
    ):
        with pytest.raises(Fault, match=why):
            await ProgramOutput(words).fetch({})


async def test_what_cannot_be_told_of_the_acquisition_is_a_fault() -> None:
    before = held()
    with pytest.raises(Fault, match="null byte"):
        await sh("true").fetch({"ACQ_ID": "a\0b"})
    await nothing_left(before)


def test_no_program_at_all_is_refused() -> None:
    for words in ([], [""]):
        with pytest.raises(ValueError, match="needs a program"):
            ProgramOutput(words)


async def test_the_last_line_of_many_errors_is_the_one_that_is_told() -> None:
    with pytest.raises(Fault, match=r"code 1: 'the last'\.$"):
        await sh("head -c 1000000 /dev/zero | tr '\\0' '\\n' >&2; echo the last >&2; exit 1").fetch({})


async def test_what_it_wrote_while_the_loop_stood_still_is_there(mark: str) -> None:
    # Its pipe is larger than usual, so that it can end before anything of it is read.
    code = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(1, bytes(1 << 20))"
    fetch = asyncio.ensure_future(ProgramOutput([sys.executable, "-c", code, mark]).fetch({}))
    await steps()
    eventually(lambda: not marked(mark))
    assert len(await fetch) == 1 << 20


async def test_all_that_it_wrote_last_is_there() -> None:
    # More than a pipe holds, written by somebody else a moment before the end.
    assert await sh("head -c 1000000 /dev/zero | cat").fetch({}) == bytes(1000000)


# What is left of it


async def test_a_child_that_holds_its_output_is_ended_with_it(mark: str) -> None:
    assert await sh(f"echo x; sh -c 'sleep {LONG}; :' {mark} &").fetch({}) == b"x\n"
    assert marked(mark) == {}


async def test_a_daemon_that_it_leaves_is_ended_with_it(tmp_path: Path) -> None:
    (tmp_path / "daemon").write_text(f"import os; os.chdir({str(tmp_path)!r})\n{DAEMON}")
    assert await ProgramOutput([sys.executable, str(tmp_path / "daemon")]).fetch({}) == b""
    assert not lives(pid_in(tmp_path / "daemon.pid"))


async def test_one_that_ignores_term_is_killed_when_it_is_given_up(mark: str) -> None:
    before = held()
    source = sh(f"trap '' TERM; echo x; sh -c 'sleep {LONG}; :' {mark}; sleep {LONG}", mark)
    fetch = asyncio.ensure_future(source.fetch({}))
    await until(lambda: len(marked(mark)) >= 2)
    fetch.cancel()
    await asyncio.wait([fetch])
    assert marked(mark) == {}
    await nothing_left(before)


async def test_one_that_writes_too_much_and_does_not_notice_is_killed(mark: str) -> None:
    body = f"trap '' PIPE; head -c {DOCUMENT_BYTES + 1} /dev/zero; sleep {LONG}"
    with pytest.raises(Fault, match="more than"):
        await sh(body, mark).fetch({})
    assert marked(mark) == {}


async def test_one_that_is_stopped_is_killed_when_it_is_given_up(mark: str, tmp_path: Path) -> None:
    source = sh(f"echo $$ > {tmp_path}/pid; kill -STOP $$", mark)
    fetch = asyncio.ensure_future(source.fetch({}))
    await until((tmp_path / "pid").exists)
    fetch.cancel()
    await asyncio.wait([fetch])
    assert marked(mark) == {}


async def test_one_that_is_cancelled_twice_is_gone_all_the_same(mark: str) -> None:
    before = held()
    source = sh(f"sleep {LONG}", mark)
    fetch = asyncio.ensure_future(source.fetch({}))
    await until(lambda: marked(mark))
    fetch.cancel()
    await steps()
    fetch.cancel()
    await asyncio.wait([fetch])
    await until(lambda: not marked(mark))
    await nothing_left(before)


async def test_to_close_the_source_ends_what_runs(mark: str) -> None:
    before = held()
    source = sh(f"sleep {LONG}", mark)
    fetch = asyncio.ensure_future(source.fetch({}))
    await until(lambda: marked(mark))
    await source.close()
    assert marked(mark) == {}
    with pytest.raises(Fault, match="SIG"):
        await fetch
    await nothing_left(before)


async def test_many_run_at_once(mark: str) -> None:
    source = sh('sleep 0.05; echo "$ACQ_ID"', mark)
    given = await asyncio.gather(*(source.fetch({"ACQ_ID": str(number)}) for number in range(20)))
    assert given == [b"%d\n" % number for number in range(20)]


OWNER = """
import asyncio, sys
from storage_service.doors.sources.program import ProgramOutput
asyncio.run(ProgramOutput(sys.argv[1:]).fetch({}))
"""


def test_nothing_outlives_an_owner_that_is_killed(mark: str) -> None:
    body = f"setsid sh -c 'sleep {LONG}; :' {mark} & trap '' TERM; sh -c 'sleep {LONG}; :' {mark}"
    words = [sys.executable, "-c", OWNER, "sh", "-c", body]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as owner:
        eventually(lambda: len(marked(mark)) >= 4)  # with the owner and its runner
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not marked(mark))
