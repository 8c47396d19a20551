"""The door to conversion scripts: what they write is kept in a log, and read for progress."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from storage_service.doors.conversion import Scripts, Settings
from storage_service.doors.conversion_output import LONGEST, ProgressLines
from storage_service.doors.process_group import look
from storage_service.rules.work import Ended
from tests.support.polling import until
from tests.support.scripts import LONG, USUAL, Bench, give, open_bench, pid_in, python, sh


@pytest.fixture
def settings() -> Settings:
    return Settings(**USUAL)  # type: ignore[arg-type]


@pytest.fixture
async def bench(tmp_path: Path, settings: Settings) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, settings) as bench:
        yield bench


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
