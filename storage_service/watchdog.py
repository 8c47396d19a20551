"""Watches that the loop turns: a stall is logged with the stack of every thread while it lasts, once.

A thread of its own looks a few times a second when the loop was last round. It takes no lock of ours and reads no
file, so that it can tell even of a loop that hangs in a system call. Stacks are places in files, never values.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from typing import Any

import structlog

BEAT_S = 0.25
STALL_S = 1.0

_log = structlog.get_logger("storage_service")


class Watchdog:
    """`stalls`: how often the loop stood still for longer than `stall_s`; `longest_s`: the longest time so far."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stall_s: float = STALL_S, beat_s: float = BEAT_S) -> None:
        self.stalls = 0
        self.longest_s = 0.0
        self._loop = loop
        self._stall_s = stall_s
        self._beat_s = beat_s
        self._turned = time.monotonic()
        self._told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._timer = loop.call_soon(self._beat)
        self._thread.start()

    def status(self) -> dict[str, Any]:
        """For `get_status`."""
        return {"stalls": self.stalls, "longest_s": round(self.longest_s, 3)}

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        self._stop.set()

    def look(self, now: float) -> None:
        """Tell of a stall, if there is one at this time of the monotonic clock that was not told yet."""
        late = now - self._turned - self._beat_s
        if late > self._stall_s and not self._told:
            self._told = True
            self.stalls += 1
            _log.error("the loop stands still", for_s=round(late, 3), threads=stacks())

    def _beat(self) -> None:
        now = time.monotonic()
        late, self._turned = now - self._turned - self._beat_s, now
        self.longest_s = max(self.longest_s, late)
        if self._told:
            self._told = False
            _log.warning("the loop turns again", after_s=round(late, 3))
        self._timer = self._loop.call_later(self._beat_s, self._beat)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stop.wait(self._beat_s):
            before, looked = looked, time.monotonic()
            if looked - before > self._beat_s + self._stall_s:
                continue  # this thread stood still as well: the process was stopped, or the machine is overloaded
            self.look(looked)


def end_within(seconds: float, exit_code: int) -> None:
    """The process has ended by then: else it is ended, with this exit code, and every stack is logged."""

    def tell() -> None:
        _log.critical("the service does not end: ended by force", after_s=seconds, threads=stacks())
        sys.stderr.flush()

    def end() -> None:
        # Where the log itself hangs, nothing is told.
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        teller.join(1.0)
        os._exit(exit_code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def stacks() -> dict[str, list[str]]:
    """Where each thread of this process is, innermost last: `file:line function`."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found: dict[str, list[str]] = {}
    for ident, frame in sys._current_frames().items():
        summary = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
        places = [f"{each.filename}:{each.lineno} {each.name}" for each in reversed(summary)]
        found[f"{names.get(ident, 'unnamed')} {ident}"] = places
    return found
