"""The order of a peer's commands (SPEC 2), and what waits.

Commands of one connection that concern the same storage are executed in the order sent; a query that concerns no
storage waits for every command before it. Commands that nothing stands in front of never come here: what waits
is only what waits for a door, a look-up, a commit, or a command before it.
"""

from __future__ import annotations

from collections.abc import Callable

from .messages import ANYWHERE, NOWHERE, Ticket

# How far into a peer's waiting commands is looked for one whose turn it is: the rest waits longer.
WINDOW = 256


class Peers:
    """Every peer's waiting tickets, in the order sent."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[Ticket]] = {}
        self.count = 0

    def waits(self, peer: bytes) -> bool:
        return peer in self._waiting

    def add(self, ticket: Ticket) -> None:
        self._waiting.setdefault(ticket.message.peer, []).append(ticket)
        self.count += 1

    def done(self, ticket: Ticket) -> None:
        """The ticket is decided or answered: what is behind it may have its turn."""
        waiting = self._waiting.get(ticket.message.peer)
        if waiting is not None and ticket in waiting:
            waiting.remove(ticket)
            self.count -= 1
            if not waiting:
                del self._waiting[ticket.message.peer]

    def peers(self) -> list[bytes]:
        return list(self._waiting)

    def advance(self, peer: bytes, attempt: Callable[[Ticket], bool]) -> None:
        """Try each ticket whose turn it is, until none moves. `attempt` decides it, takes it out and says so."""
        moved = True
        while moved:
            moved = False
            for ticket in self._turns(peer):
                moved |= attempt(ticket)

    def _turns(self, peer: bytes) -> list[Ticket]:
        """The tickets that nothing of their own peer stands in front of."""
        turns = []
        changing: set[str] = set()
        asking: set[str] = set()
        for ticket in self._waiting.get(peer, ())[:WINDOW]:
            lane, mutating = ticket.lane, ticket.request.mutating
            if lane == NOWHERE:
                free = True
            elif mutating:
                free = lane not in changing and lane not in asking and ANYWHERE not in asking
                changing.add(lane)
            else:
                free = not changing if lane == ANYWHERE else lane not in changing and ANYWHERE not in changing
                asking.add(lane)
            if free and not ticket.running and ticket.message.next == ticket.index:
                turns.append(ticket)
        return turns
