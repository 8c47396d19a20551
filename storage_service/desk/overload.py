"""Too much: what may not wait, and what is not done because of it (SPEC 2.11). Nothing of it was changed."""

from __future__ import annotations

from storage_protocol import codec, errors
from storage_protocol.errors import Refusal

from .ledger import Ledger
from .messages import Opened, Ticket

RETRY_AFTER_S = 1.0


class Overload:
    """`refused`: how many commands were told `overloaded`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.refused = 0

    def refusal(self, why: str) -> Refusal:
        self.refused += 1
        return errors.overloaded(RETRY_AFTER_S, f"Nothing was changed: {why}. Try again in a second.")

    def writable(self, tickets: list[Ticket]) -> list[Ticket]:
        """All of them, or, while the database does not keep up, those that only read."""
        if not self._ledger.transactions.is_full():
            return tickets
        self._refuse([each for each in tickets if each.request.mutating], "too much waits to be written")
        return [each for each in tickets if not each.request.mutating]

    def waitable(self, peer: bytes, tickets: list[Ticket]) -> list[Ticket]:
        """Those of a message's commands that may wait: all, or only one that is at work already."""
        if not tickets or self._ledger.peers.has_room(peer, tickets):
            return tickets
        kept = sum(ticket.running for ticket in tickets[:1])
        self._refuse(tickets[kept:], "too much waits already, of this connection or of all")
        return tickets[:kept]

    def whole(self, opened: Opened) -> None:
        """Nothing of a message is taken: its peer has sent too much ahead of what was done for it."""
        refusal = self.refusal("too much of its connection waits, while others wait for it")
        self.refused += opened.left - 1
        self._ledger.out.replies.append(opened.refused(refusal))

    def _refuse(self, tickets: list[Ticket], why: str) -> None:
        for ticket in tickets:
            self._ledger.let_go(ticket)
            frame = codec.encode_refusal(ticket.request.id, self.refusal(why))
            self._ledger.replies.frame(ticket.message, ticket.index, frame)

    def of_replies(self, ticket: Ticket) -> Refusal | None:
        """Why a command whose turn it is has no room for a reply: replies are memory too."""
        message = ticket.message
        if message.room <= 0:
            return self.refusal("the replies of its message are as large as they may be together")
        if message.order and self._ledger.peers.is_heavy(message.peer):
            return self.refusal("replies of its connection that wait for others are as large as they may be")
        return None
