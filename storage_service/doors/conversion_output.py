"""What a conversion script writes: kept in its log up to a size, and read for its progress.

Bytes come in on the loop's thread; the log is written on an executor, one write at a time, since a disk may stall.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

ROOM = 256 * 1024  # bytes that may wait for the log's disk before the script has to

LONGEST = 256  # bytes of an unfinished line that are kept: more than the longest progress line has
PROGRESS = re.compile(rb"^::progress[ \t]{1,8}([0-9.][0-9.eE+-]{0,31})[ \t]{0,8}\r?$", re.MULTILINE)

NEVER_RAN = "its writer was shut down"


class ProgressLines:
    """Finds the lines `::progress 0.42` in a stream that comes in pieces; anything else is passed over."""

    def __init__(self) -> None:
        self._unfinished = b""

    def feed(self, data: bytes) -> float | None:
        """The last valid progress (0 to 1) among the lines that `data` completes, or None."""
        finished, newline, rest = (self._unfinished + data).rpartition(b"\n")
        # A line cut at LONGEST bytes is too long to match, whatever is put behind it.
        self._unfinished = rest[:LONGEST]
        if not newline or b"::progress" not in finished:
            return None
        for text in reversed(PROGRESS.findall(finished)):
            with suppress(ValueError):
                value = float(text)
                if 0 <= value <= 1:
                    return value
        return None


class Log:
    """The log file of one attempt: at most `limit` bytes of its output, and a last line that tells of the rest.

    It owns `fd`. `on_room` is called when there is room again after `has_room` was false. A write that fails is
    kept as `fault`, one sentence, and what comes after it is dropped: a full disk does not disturb the script.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        limit: int,
        write: Executor,
        on_room: Callable[[], None],
    ) -> None:
        self.fault = ""
        self._loop = loop
        self._fd = fd
        self._limit = limit
        self._write = write
        self._on_room = on_room
        self._on_closed: Callable[[], None] | None = None
        self._waiting = bytearray()
        self._writing = False
        self._kept = 0
        self._dropped = 0
        self._mid_line = False

    @property
    def has_room(self) -> bool:
        """Whether more should be read now. `add` takes it in any case."""
        return len(self._waiting) < ROOM

    def add(self, data: bytes) -> None:
        """Put `data` behind what was added before; what is over the limit is counted and dropped."""
        kept = data[: self._limit - self._kept]
        self._dropped += len(data) - len(kept)
        if not kept:
            return
        self._kept += len(kept)
        self._mid_line = not kept.endswith(b"\n")
        if not self.fault:
            self._waiting += kept
            self._go_on()

    def close(self, on_closed: Callable[[], None]) -> None:
        """Write what waits and the last line, sync and close the file; `on_closed` is called when that is done.

        Called once, and never from within: `on_closed` comes from the loop.
        """
        self._on_closed = on_closed
        self._go_on()

    def _go_on(self) -> None:
        if self._writing:
            return
        if self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            self._submit(self._written, _write_all, self._fd, data)
        elif self._on_closed is not None:
            self._submit(self._closed, _finish, self._fd, self._last_line())

    def _submit(self, then: Callable[[str], None], job: Callable[..., None], *args: object) -> None:
        self._writing = True
        try:
            future = self._loop.run_in_executor(self._write, job, *args)
        except RuntimeError:  # the executor was shut down
            self._loop.call_soon(then, NEVER_RAN)
        else:
            future.add_done_callback(lambda future: then(_fault(future)))

    def _written(self, fault: str) -> None:
        self._writing = False
        had_room = self.has_room
        self._note(fault)
        if self.fault:
            self._waiting.clear()
        self._go_on()
        if self.has_room and not had_room:
            self._on_room()

    def _closed(self, fault: str) -> None:
        self._note(fault)
        if fault == NEVER_RAN:
            with suppress(OSError):
                os.close(self._fd)
        if self._on_closed is not None:
            self._on_closed()

    def _note(self, fault: str) -> None:
        if fault and not self.fault:
            self.fault = f"its log could not be written: {fault}"

    def _last_line(self) -> bytes:
        if not self._dropped or self.fault:
            return b""
        line = f"[storage-service: output over {self._limit} bytes was dropped: {self._dropped} bytes]\n"
        return b"\n" * self._mid_line + line.encode()


def _fault(future: asyncio.Future[None]) -> str:
    if future.cancelled():
        return NEVER_RAN
    error = future.exception()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if error else ""


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _finish(fd: int, last_line: bytes) -> None:
    try:
        _write_all(fd, last_line)
        os.fsync(fd)
    finally:
        os.close(fd)
