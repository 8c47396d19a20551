"""What was received, handed to the desk in bites: no message keeps the loop, and no flood makes a commit long.

A bite is a few commands; a turn of the loop is a few bites, and peers take turns at them: another one's long
message is not waited for. While a commit is out and the next one is large enough already, what comes waits for it,
in the sockets, where each peer has its own queue. Only a commit that is late is not waited for: then commands are
read on, and what is too much is refused, so that `ping` is answered.

Peers that send much more than the others (`desk/pacing.py`) have one small bite together, behind all others, and
then rest; after each rest only little more of them is received. What they have ahead beyond a bound is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from itertools import chain

from storage_protocol.limits import Limits

from .desk.desk import Desk, Now
from .desk.messages import Bite, Opened
from .desk.pacing import FRAME_BYTES
from .failpoints import passing

BITE_FRAMES = 64
# Of short messages a peer has so many commands in its turn: in a row they cost less.
SHORT_FRAMES = 8
TURN_S = 0.01
# What is received ahead of what was taken: enough that no peer's long message keeps another's out.
AHEAD_FRAMES = 2048
AHEAD_BYTES = 4 << 20
# A commit that is out for longer is late.
LATE_S = 0.1
# The bite of the peers that are held back, and the rest behind it: as short as may be, for whoever sends something
# waits for its end, and long enough that they come to stand in their own sockets.
HELD_FRAMES = 16
HELD_BYTES = 16 * FRAME_BYTES
REST_S = 0.001


class _Waiting:
    """What was received of some peers and not taken. `frames` that are left, `bytes` of their messages."""

    def __init__(self, messages: Iterable[Opened] = ()) -> None:
        self.peers: dict[bytes, deque[Opened]] = {}
        self.frames = 0
        self.bytes = 0
        for opened in messages:
            self.add(opened.message.peer, opened)

    def __bool__(self) -> bool:
        return bool(self.peers)

    def __iter__(self) -> Iterator[Opened]:
        return chain.from_iterable(self.peers.values())

    def add(self, peer: bytes, opened: Opened) -> None:
        theirs = self.peers.get(peer)
        if theirs is None:
            theirs = self.peers[peer] = deque()
        theirs.append(opened)
        self.frames += opened.left
        self.bytes += opened.size

    def is_much(self) -> bool:
        """Whether it is as much as may be received ahead."""
        return self.frames >= AHEAD_FRAMES or self.bytes >= AHEAD_BYTES

    def bites(self, room: int, most_bytes: int) -> list[Bite]:
        """The next few commands, of each peer in the order received; peers take turns, at a long message or a few
        short ones. The last one may have more bytes than there is room for."""
        bites = []
        while self.peers and room > 0 and most_bytes > 0:
            peer, theirs = next(iter(self.peers.items()))
            least = max(room - SHORT_FRAMES, 0)
            while theirs and room > least and most_bytes > 0:
                first = theirs[0]
                bite, size = first.bite(room, most_bytes)
                bites.append(bite)
                taken = len(bite.requests)
                room -= taken
                most_bytes -= size
                self.frames -= taken
                if not first.left:
                    theirs.popleft()
                    self.bytes -= first.size
            del self.peers[peer]
            if theirs:
                self.peers[peer] = theirs
        return bites


class Reading:
    """
    after  carries out what the desk wants and hands its batch over
    more   asks for further messages, but for few of these peers
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        desk: Desk,
        limits: Limits,
        after: Callable[[], None],
        more: Callable[[Set[bytes]], None],
    ) -> None:
        self._loop = loop
        self._desk = desk
        self._limits = limits
        self._pacing = desk.pacing
        self._after = after
        self._more = more
        self._opened = _Waiting()
        self._held = _Waiting()
        # Peers of which all is refused, and what of it was not answered yet.
        self._refusing: set[bytes] = set()
        self._refused: list[Opened] = []
        self._due: asyncio.Handle | None = None
        self._rested_at = 0.0
        self._cut_at = 0.0

    def __bool__(self) -> bool:
        """Whether something was received that the desk does not have yet."""
        return bool(self._opened or self._held or self._refused)

    def received(self, messages: list[list[bytes]]) -> None:
        """Messages came, in this order."""
        now, heavy, limits = self._loop.time(), self._pacing.heavy, self._limits
        weights: dict[bytes, int] = {}
        add = self._opened.add
        for parts in messages:
            opened, peer = Opened(parts, limits), parts[0]
            weights[peer] = weights.get(peer, 0) + opened.left + opened.size // FRAME_BYTES
            if peer not in heavy:
                add(peer, opened)
            elif self._is_too_much(peer):
                self._refused.append(opened)
            else:
                self._held.add(peer, opened)
        self._pacing.came(weights, now)
        self._judge(now)
        if self._due is None or (self._opened and now < self._rested_at):
            self._turn()

    def cut(self) -> None:
        """A commit is out from now on."""
        self._cut_at = self._loop.time()

    def go_on(self) -> None:
        """A commit is done: what waited for it is taken soon."""
        if self._opened:
            self._at(0.0, self._turn)

    def _is_too_much(self, peer: bytes) -> bool:
        """Whether more of a peer that is held back is refused. Once it was, so is all that comes of it until what
        waits is worked off: of what was sent in a row, the first part is done and the rest refused."""
        if peer not in self._held.peers:
            self._refusing.discard(peer)
        elif self._held.is_much():
            self._refusing.add(peer)
        return peer in self._refusing

    def _judge(self, now: float) -> None:
        if self._pacing.look(now):
            heavy, waiting = self._pacing.heavy, [*self._held, *self._opened]
            self._opened = _Waiting(opened for opened in waiting if opened.message.peer not in heavy)
            self._held = _Waiting(opened for opened in waiting if opened.message.peer in heavy)
            self._refusing &= heavy

    def _turn(self) -> None:
        now = self._loop.time()
        waits = self._waits()
        while self._opened and not waits:
            self._take(self._opened.bites(BITE_FRAMES, AHEAD_BYTES))
            waits = self._waits()
            if self._loop.time() > now + TURN_S:
                break
        if self._held and not waits and now >= self._rested_at:
            self._take(self._held.bites(HELD_FRAMES, HELD_BYTES))
            self._rested_at = self._loop.time() + REST_S
        self._after()
        if self._opened:
            self._refuse()
            self._at(self._loop.time() + LATE_S if waits else 0.0, self._turn)
            if not waits and not self._opened.is_much():
                # Also while a long message is on its way: what another peer has sent comes in between.
                self._more(self._pacing.heavy)
        elif self._held or self._refused or now < self._rested_at:
            self._at(self._rested_at if now < self._rested_at else now + REST_S, self._rested)
        else:
            if self._due is not None:
                self._due.cancel()
                self._due = None
            self._more(self._pacing.heavy)

    def _take(self, bites: list[Bite]) -> None:
        passing("reading.came")
        self._desk.take(bites, self._now())
        passing("reading.decided")

    def _waits(self) -> bool:
        """Whether what came waits for the commit that is out."""
        return self._desk.is_ahead() and self._loop.time() < self._cut_at + LATE_S

    def _rested(self) -> None:
        """Read on: what others have sent comes before what is held back."""
        self._refuse()
        self._judge(self._loop.time())
        self._more(self._pacing.heavy)
        self._at(0.0, self._turn)

    def _refuse(self) -> None:
        """Answer what is too much; as late as may be, for it takes time in which others would wait."""
        for opened in self._refused:
            self._desk.refuse(opened, self._now())
        self._refused.clear()

    def _at(self, when: float, what: Callable[[], None]) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self._loop.call_at(when, what)

    def _now(self) -> Now:
        return Now(time.time(), self._loop.time())
