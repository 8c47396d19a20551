"""Which batch is open, which one is out to be committed, and who waits for which.

At most one batch is out; commands that are decided meanwhile share the next one. A reply is attached to the newest
batch that may be behind what it tells.
"""

from __future__ import annotations

from storage_protocol.errors import Refusal

from ..rules.state import State
from .batch import Batch, Journal
from .messages import Ticket

# So many peers are remembered with the batch of their last command; then those whose batch is durable go.
MANY_PEERS = 10_000


# A batch beyond this, while the one before is still being written, takes no more: memory is bounded by it. Bytes
# are those of its events and replies; its records and keys are about as much again.
MAX_REPLIES = 20_000
MAX_BYTES = 32 << 20
# A batch is as long as it is large, and everybody waits for it: beyond this it had better be closed first.
AHEAD_REPLIES = 512
AHEAD_BYTES = 4 << 20


class Transactions:
    """`open` takes what is decided now; `out` is being committed; `durable` is the number of the last that is."""

    def __init__(self, state: State, journal: Journal) -> None:
        self._state = state
        self._journal = journal
        self.open = Batch(1, state, journal)
        self.out: Batch | None = None
        self.durable = 0
        self._last: dict[bytes, int] = {}

    def cut(self) -> Batch | None:
        """Close the open batch and open the next. None when one is out, or there is nothing to commit."""
        if self.out is not None or not self.open.writes:
            return None
        self.out = self.open
        self.open = Batch(self.out.number + 1, self._state, self._journal)
        return self.out

    def committed(self, batch: Batch) -> None:
        """The batch that is out is durable."""
        self.out = None
        self.durable = batch.number
        if len(self._last) > MANY_PEERS:
            self._last = {peer: number for peer, number in self._last.items() if number > batch.number}

    def rolled_back(self, batch: Batch) -> tuple[Batch, Batch]:
        """Take back the batch that was out and what was decided on top of it; returns both, the newer last."""
        newer, self.out = self.open, None
        newer.undo()
        batch.undo()
        self.open = Batch(newer.number + 1, self._state, self._journal)
        # The numbers of what never happened count as durable: nobody waits for them.
        self.durable = newer.number
        return batch, newer

    def attach(self, ticket: Ticket, result: bytes | Refusal) -> bool:
        """Let a reply wait for what may be behind it. False: everything is durable, the reply may go."""
        batch: Batch | None = self.open
        if not self.open.rows and not self.open.writes:
            batch = self.out
        if batch is None:
            return False
        batch.replies.append((ticket, result))
        if type(result) is bytes:
            batch.bytes += len(result)
        self._last[ticket.message.peer] = batch.number
        return True

    def attach_all(self, tickets: list[Ticket], result: bytes) -> None:
        """The same for commands of one peer, at least one, that changed something in the open batch."""
        self.open.replies += [(ticket, result) for ticket in tickets]
        self.open.bytes += len(result) * len(tickets)
        self._last[tickets[0].message.peer] = self.open.number

    def follow(self, peer: bytes) -> None:
        """A query of this peer must tell of the open batch."""
        self._last[peer] = self.open.number

    def may_ask(self, peer: bytes) -> bool:
        """Whether everything that this peer did before is durable."""
        return self._last.get(peer, 0) <= self.durable

    def is_full(self) -> bool:
        """Whether the disk does not keep up with what is decided."""
        return self.open.bytes > MAX_BYTES or len(self.open.replies) > MAX_REPLIES

    def is_ahead(self) -> bool:
        """Whether the open batch is large already, and another one is out."""
        large = self.open.bytes > AHEAD_BYTES or len(self.open.replies) >= AHEAD_REPLIES
        return large and self.out is not None

    def is_quiet(self) -> bool:
        return self.out is None and not self.open.writes

    def uncommitted_keys(self) -> set[tuple[str, str]]:
        """The records that a batch still holds."""
        kept = set()
        for batch in (self.open, self.out):
            if batch is not None:
                kept |= set(batch.records) | set(batch.registers) | {("node", id) for id, _ in batch.params}
        return kept
