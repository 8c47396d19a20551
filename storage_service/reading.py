"""What was received, handed to the desk in bites: no message keeps the loop, and no flood makes a commit long.

A bite is a few commands; a turn of the loop is a few bites, and peers take turns at them: another one's long
message is not waited for. While a commit is out and the next one is large enough already, what comes waits for it,
in the sockets, where each peer has its own queue. Only a commit that is late is not waited for: then commands are
read on, and what is too much is refused, so that `ping` is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from storage_protocol.limits import Limits

from .desk.desk import Desk, Now
from .desk.messages import Bite, Opened
from .failpoints import passing

BITE_FRAMES = 64
TURN_S = 0.01
# What is received ahead of what was taken: enough that no peer's long message keeps another's out.
AHEAD_FRAMES = 2048
AHEAD_BYTES = 4 << 20
# A commit that is out for longer is late.
LATE_S = 0.1


class Reading:
    """
    after  carries out what the desk wants and hands its batch over
    more   asks for further messages
    """

    def __init__(self, desk: Desk, limits: Limits, after: Callable[[], None], more: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._desk = desk
        self._limits = limits
        self._after = after
        self._more = more
        self._opened: dict[bytes, deque[Opened]] = {}
        self._frames = 0
        self._bytes = 0
        self._due: asyncio.Handle | None = None
        self._cut_at = 0.0

    def __bool__(self) -> bool:
        """Whether something was received that the desk does not have yet."""
        return bool(self._opened)

    def received(self, messages: list[list[bytes]]) -> None:
        for parts in messages:
            opened = Opened(parts, self._limits)
            self._opened.setdefault(parts[0], deque()).append(opened)
            self._frames += opened.left
            self._bytes += opened.size
        if self._due is None:
            self._turn()

    def cut(self) -> None:
        """A commit is out from now on."""
        self._cut_at = time.monotonic()

    def go_on(self) -> None:
        """A commit is done: what waited for it is taken soon."""
        if self._opened:
            self._turn_at(0.0)

    def _turn(self) -> None:
        self._due = None
        until = time.monotonic() + TURN_S
        waits = False
        while self._opened and not waits:
            passing("reading.came")
            self._desk.take(self._bites(), Now(time.time(), time.monotonic()))
            passing("reading.decided")
            waits = self._desk.is_ahead() and time.monotonic() < self._cut_at + LATE_S
            if time.monotonic() > until:
                break
        self._after()
        if not self._opened:
            self._more()
            return
        self._turn_at(LATE_S if waits else 0.0)
        if not waits and self._frames < AHEAD_FRAMES and self._bytes < AHEAD_BYTES:
            # Also while a long message is on its way: what another peer has sent comes in between.
            self._more()

    def _turn_at(self, wait_s: float) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self._loop.call_later(wait_s, self._turn)

    def _bites(self) -> list[Bite]:
        """The next few commands, of each peer in the order received; peers take turns."""
        bites, room = [], BITE_FRAMES
        while self._opened and room > 0:
            peer, theirs = next(iter(self._opened.items()))
            first = theirs[0]
            bite = first.bite(room)
            bites.append(bite)
            room -= len(bite.requests)
            self._frames -= len(bite.requests)
            if not first.left:
                theirs.popleft()
                self._bytes -= first.size
            del self._opened[peer]
            if theirs:
                self._opened[peer] = theirs
        return bites
