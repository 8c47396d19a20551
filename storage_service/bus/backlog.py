"""Replies that their peers have not taken yet, bounded in bytes: for each peer, and for all of them together.

ZeroMQ bounds what it keeps for a peer by a count of messages, whatever their size. So it is given few, and a large
one is followed until ZeroMQ has let go of it; the rest waits here. What finds no room is dropped and counted: its
reply is in the database.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

import zmq

# From this size on a message is followed. Smaller ones are bounded by the socket's high-water mark.
LARGE_BYTES = 16 << 10
# So much of one peer's large messages is handed to ZeroMQ before it has let go of earlier ones.
HANDED_BYTES = 4 << 20
# What waits for one peer, here and of its large ones in ZeroMQ; and for all peers. When all of it is spent, a peer
# for which nothing waits still gets its reply.
PEER_BYTES = 32 << 20
ALL_BYTES = 256 << 20


# What a message and each of its parts take in memory besides their bytes.
MESSAGE_BYTES = 256
PART_BYTES = 48


class Waiting(NamedTuple):
    """A message that waits, and what it takes in memory."""

    parts: list[bytes]
    size: int


def size_of(parts: list[bytes]) -> int:
    """What a message takes in memory."""
    return sum(map(len, parts)) + MESSAGE_BYTES + PART_BYTES * len(parts)


class Backlog:
    """`bytes`: what waits for all peers. `dropped`: reply messages, since the start."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, deque[Waiting]] = {}
        self._handed: dict[bytes, deque[tuple[zmq.MessageTracker, int]]] = {}
        self._bytes: dict[bytes, int] = {}
        self.bytes = 0
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def waits(self, peer: bytes) -> bool:
        """Whether something waits for this peer, behind which what comes has its place."""
        return peer in self._waiting

    def add(self, peer: bytes, message: Waiting) -> None:
        """Keep a message for later, or drop it."""
        theirs = self._bytes.get(peer, 0)
        if theirs and (theirs + message.size > PEER_BYTES or self.bytes + message.size > ALL_BYTES):
            self.dropped += 1
            return
        self._waiting.setdefault(peer, deque()).append(message)
        self._weigh(peer, message.size)

    def turns(self, most: int) -> list[bytes]:
        """The peers whose turn it is to be tried again, at most so many; afterwards they are the last."""
        peers = list(islice(self._waiting, most))
        for peer in peers:
            self._waiting[peer] = self._waiting.pop(peer)
        return peers

    def first(self, peer: bytes) -> Waiting | None:
        """The oldest message that waits for a peer."""
        theirs = self._waiting.get(peer)
        return theirs[0] if theirs else None

    def sent(self, peer: bytes) -> None:
        """The oldest message of a peer is ZeroMQ's now."""
        theirs = self._waiting[peer]
        self._weigh(peer, -theirs.popleft().size)
        if not theirs:
            del self._waiting[peer]

    def gone(self, peer: bytes) -> None:
        """The peer is gone: what waits for it is dropped."""
        theirs = self._waiting.pop(peer, deque())
        self.dropped += len(theirs)
        self._weigh(peer, -sum(message.size for message in theirs))

    # Large messages that ZeroMQ has

    def handed(self, peer: bytes, tracker: zmq.MessageTracker, size: int) -> None:
        """ZeroMQ has a large message, until its tracker is done."""
        self._handed.setdefault(peer, deque()).append((tracker, size))
        self._weigh(peer, size)

    def may_hand(self, peer: bytes) -> bool:
        """Whether a large message may be handed to ZeroMQ now."""
        theirs = self._handed.get(peer)
        if theirs is None:
            return True
        self._settle(peer, theirs)
        return sum(size for _, size in theirs) < HANDED_BYTES

    def settle(self) -> None:
        """Look at all that was handed: what ZeroMQ let go of weighs no more."""
        for peer, theirs in list(self._handed.items()):
            self._settle(peer, theirs)

    @property
    def is_handed(self) -> bool:
        """Whether ZeroMQ has large messages, as far as is known."""
        return bool(self._handed)

    def _settle(self, peer: bytes, theirs: deque[tuple[zmq.MessageTracker, int]]) -> None:
        while theirs and theirs[0][0].done:
            self._weigh(peer, -theirs.popleft()[1])
        if not theirs:
            self._handed.pop(peer, None)

    def _weigh(self, peer: bytes, size: int) -> None:
        theirs = self._bytes.get(peer, 0) + size
        self.bytes += size
        if theirs > 0:
            self._bytes[peer] = theirs
        else:
            self._bytes.pop(peer, None)
