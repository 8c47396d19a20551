"""Fair turns between peers: whoever asks for much waits for itself, and not the others for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .messages import Ticket


class Turns:
    """Queries that wait for a reader. Peers take turns, each with its oldest query; one that is at a reader has no
    further turn until that is answered. `reads` says whether a peer takes its replies: one that does not has no
    turn until it does."""

    def __init__(self, reads: Callable[[bytes], bool] = lambda peer: True) -> None:
        self._reads = reads
        self._waiting: dict[bytes, deque[Ticket]] = {}
        self._served: dict[bytes, deque[Ticket]] = {}
        self.count = 0

    def add(self, ticket: Ticket) -> None:
        peer = ticket.message.peer
        self.count += 1
        if peer in self._served:
            self._served[peer].append(ticket)
        else:
            self._waiting.setdefault(peer, deque()).append(ticket)

    def bite(self, most: int) -> list[Ticket]:
        """The next queries, at most so many, to be answered in this order."""
        taken: list[Ticket] = []
        silent = [peer for peer in self._waiting if not self._reads(peer)]
        held = {peer: self._waiting.pop(peer) for peer in silent}
        while self._waiting and len(taken) < most:
            peer = next(iter(self._waiting))
            theirs = self._waiting.pop(peer)
            taken.append(theirs.popleft())
            if theirs:
                self._waiting[peer] = theirs
        self._waiting |= held
        for ticket in taken:
            peer = ticket.message.peer
            if peer not in self._served:
                self._served[peer] = self._waiting.pop(peer, deque())
        self.count -= len(taken)
        return taken

    def done(self, taken: list[Ticket], left: list[Ticket]) -> None:
        """A bite comes back; those `left` of it were not answered and come first."""
        for ticket in reversed(left):
            self._served[ticket.message.peer].appendleft(ticket)
        self.count += len(left)
        for peer in {ticket.message.peer: None for ticket in taken}:
            theirs = self._served.pop(peer)
            if theirs:
                self._waiting[peer] = theirs
