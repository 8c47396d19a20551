"""What was received, handed to the desk in bites: no message keeps the loop, and no flood makes a commit long.

A bite is a few commands; a turn of the loop is a few bites. While a commit is out and the next one is large enough
already, what comes waits for it, in the sockets, where each peer has its own queue. Only a commit that is late is
not waited for: then commands are read on, and what is too much is refused, so that `ping` is answered.
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
        self._opened: deque[Opened] = deque()
        self._due: asyncio.Handle | None = None
        self._cut_at = 0.0

    def __bool__(self) -> bool:
        """Whether something was received that the desk does not have yet."""
        return bool(self._opened)

    def received(self, messages: list[list[bytes]]) -> None:
        self._opened += [Opened(parts, self._limits) for parts in messages]
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
        else:
            self._turn_at(LATE_S if waits else 0.0)

    def _turn_at(self, wait_s: float) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self._loop.call_later(wait_s, self._turn)

    def _bites(self) -> list[Bite]:
        """The next few commands, in the order received."""
        bites, room = [], BITE_FRAMES
        while self._opened and room > 0:
            first = self._opened[0]
            bites.append(first.bite(room))
            room -= len(bites[-1].requests)
            if not first.left:
                self._opened.popleft()
        return bites
