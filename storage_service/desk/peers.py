"""The order of a peer's commands (SPEC 2), what waits, for what, and how much of it a peer may have.

Commands of one connection that concern the same storage are executed in the order sent; a query that concerns no
storage waits for every command before it. Commands that nothing stands in front of never come here: what waits
is only what waits for a door, a look-up, a commit, or a command before it.

Who waits says for what, and is looked at again when that came, and not before: one event must not cost as much as
everybody that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import islice

from storage_protocol.commands import AnnotateNode

from .messages import ANYWHERE, NOWHERE, Message, Ticket

# How far into a peer's waiting commands is looked for one whose turn it is: the rest waits longer.
WINDOW = 256

# The common room of what waits. One peer may have as much of it as is left free for the others: alone half, and
# whoever comes finds room, however many took theirs before.
MAX_WAITING = 20_000
MAX_BYTES = 32 << 20

COMMIT = "commit"
"""What a query waits for until what its peer did is durable."""

SEALING = "sealing"
"""What a command waits for whose acquisition is being sealed."""


class Peers:
    """Every peer's waiting tickets, in the order sent. `bytes`: of what waits, with the results it has so far."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, dict[Ticket, None]] = {}
        self._bytes: dict[bytes, int] = {}
        self._for: dict[Hashable, dict[bytes, None]] = {}
        self._woken: dict[bytes, None] = {}
        self.count = 0
        self.bytes = 0

    # What waits

    def waits(self, peer: bytes) -> bool:
        return peer in self._waiting

    def has_room(self, peer: bytes, tickets: list[Ticket]) -> bool:
        """Whether so much more of this peer may wait."""
        count = len(self._waiting.get(peer, ())) + len(tickets)
        size = self._bytes.get(peer, 0) + sum(ticket.size for ticket in tickets)
        return count <= MAX_WAITING - self.count and size <= MAX_BYTES - self.bytes

    def is_heavy(self, peer: bytes) -> bool:
        """Whether what waits of this peer came to more than its share."""
        return self._bytes.get(peer, 0) > max(MAX_BYTES - self.bytes, 0)

    def idle(self, but: set[bytes]) -> int:
        """How many wait without being at work, `but` for those of some peers."""
        of_others = (waiting for peer, waiting in self._waiting.items() if peer not in but)
        return sum(not ticket.running for waiting in of_others for ticket in waiting)

    def add(self, peer: bytes, tickets: list[Ticket]) -> None:
        """These commands of a peer wait, in the order of its messages."""
        self._waiting.setdefault(peer, {}).update(dict.fromkeys(tickets))
        self.count += len(tickets)
        for ticket in tickets:
            message = ticket.message
            if not message.order:
                message.next = ticket.index
            message.order.append(ticket.index)
            self.hold(message, ticket.size)

    def hold(self, message: Message, size: int) -> None:
        """A message that waits takes so much memory more."""
        message.held += size
        self.bytes += size
        self._bytes[message.peer] = self._bytes.get(message.peer, 0) + size

    def let_go(self, message: Message) -> None:
        """The message has all its replies."""
        left = self._bytes.get(message.peer, 0) - message.held
        self.bytes -= message.held
        message.held = 0
        if left > 0:
            self._bytes[message.peer] = left
        else:
            self._bytes.pop(message.peer, None)

    def done(self, ticket: Ticket) -> None:
        """The ticket is decided or answered: what is behind it may have its turn."""
        peer = ticket.message.peer
        waiting = self._waiting.get(peer)
        if waiting is None or ticket not in waiting:
            return
        del waiting[ticket]
        self.count -= 1
        if waiting:
            self._woken[peer] = None
        else:
            del self._waiting[peer]

    # For what it waits

    def wait_for(self, what: Hashable, ticket: Ticket) -> None:
        """The ticket's peer is woken when it comes: an intent or a command that lets go, a record, a commit."""
        self._for.setdefault(what, {})[ticket.message.peer] = None

    def waiting_for(self, is_such: Callable[[Hashable], bool]) -> set[bytes]:
        """The peers that are woken when such a thing comes."""
        return {peer for what, peers in self._for.items() if is_such(what) for peer in peers}

    def came(self, what: Hashable) -> None:
        """Who waited for it may have a turn."""
        self._woken.update(self._for.pop(what, {}))

    def wake_all(self) -> None:
        """Everything may be different now."""
        self._for.clear()
        self._woken.update(dict.fromkeys(self._waiting))

    def woken(self) -> Iterator[bytes]:
        """The peers that may have a turn, until there is none."""
        while self._woken:
            peer = next(iter(self._woken))
            del self._woken[peer]
            yield peer

    def advance(self, peer: bytes, attempt: Callable[[Ticket], bool]) -> None:
        """Try each ticket whose turn it is, until none moves. `attempt` decides it, takes it out and says so."""
        moved = True
        while moved:
            self._woken.pop(peer, None)
            moved = False
            for ticket in self._turns(peer):
                moved |= attempt(ticket)

    def _turns(self, peer: bytes) -> list[Ticket]:
        """The tickets that nothing of their own peer stands in front of."""
        turns = []
        changing: set[str] = set()
        asking: set[str] = set()
        # It names a node, and no storage: whatever its peer does before it or after it may be about that node.
        stop = False
        for ticket in islice(self._waiting.get(peer, ()), WINDOW):
            lane, mutating = ticket.lane, ticket.request.mutating
            if lane == NOWHERE:
                free = True
            elif mutating:
                free = not stop and lane not in changing and lane not in asking and ANYWHERE not in asking
                if type(ticket.request.command) is AnnotateNode:
                    free, stop = free and not changing, True
                changing.add(lane)
            else:
                free = not changing if lane == ANYWHERE else lane not in changing and ANYWHERE not in changing
                asking.add(lane)
            if free and not ticket.running and ticket.message.next == ticket.index:
                turns.append(ticket)
        return turns
