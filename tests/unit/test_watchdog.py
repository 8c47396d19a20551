"""A loop that stands still is told of, once, with where every thread is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from structlog.testing import capture_logs

from storage_service.watchdog import Watchdog, stacks
from tests.support.polling import eventually, steps, until


def wait_here(look: Callable[[], object]) -> None:
    """Keep the loop's own thread until something is seen."""
    eventually(look)


async def test_a_stall_is_told_once_while_it_lasts_with_every_stack() -> None:
    watchdog = Watchdog(asyncio.get_running_loop(), stall_s=0.05, beat_s=0.01)
    with capture_logs() as logs:
        try:
            wait_here(lambda: [line for line in logs if line["event"] == "the loop stands still"])
            many = time.monotonic() + 0.2
            wait_here(lambda: time.monotonic() > many)
            await until(lambda: [line for line in logs if line["event"] == "the loop turns again"])
        finally:
            watchdog.close()
    (stall,) = [line for line in logs if line["event"] == "the loop stands still"]
    told = str(stall["threads"])
    assert "wait_here" in told
    assert "MainThread" in told
    assert watchdog.status()["stalls"] == 1
    assert watchdog.status()["longest_s"] > 0.2


async def test_a_loop_that_turns_is_no_stall_and_one_that_does_not_is_one() -> None:
    watchdog = Watchdog(asyncio.get_running_loop(), stall_s=1_000, beat_s=0.001)
    try:
        before = time.monotonic()
        await steps(2)  # its beat is among them
        watchdog.look(before + 1_000)
        assert watchdog.status()["stalls"] == 0
        for later in (2_000, 3_000):
            watchdog.look(before + later)
        assert watchdog.status()["stalls"] == 1
    finally:
        watchdog.close()


def test_stacks_have_places_and_no_values() -> None:
    secret = "hunter2" + "hunter2"
    let_go = threading.Event()
    thread = threading.Thread(target=lambda kept: let_go.wait(30), args=(secret,), name="keeper")
    thread.start()
    try:
        found = stacks()
    finally:
        let_go.set()
        thread.join()
    (places,) = [place for name, place in found.items() if name.startswith("keeper")]
    assert any("test_watchdog.py" in place for place in places)
    assert secret not in str(found)


ENDLESS = """
import signal
from storage_service.watchdog import end_within
end_within(0.05, 75)
signal.pause()
"""


def test_a_process_that_does_not_end_in_time_is_ended_and_says_where_it_hung() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDLESS], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 75
    assert b"ended by force" in ended.stdout + ended.stderr
