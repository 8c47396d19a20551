"""Replies on their way out: held until what they tell of is durable, put into their place, sent whole."""

from __future__ import annotations

from collections.abc import Iterable

from storage_protocol import codec
from storage_protocol.errors import Refusal

from .keyring import Keyring
from .messages import Message, Ticket
from .out import Out
from .peers import Peers
from .transactions import Transactions


class Replies:
    def __init__(self, out: Out, peers: Peers, transactions: Transactions, keyring: Keyring) -> None:
        self._out = out
        self._peers = peers
        self._transactions = transactions
        self._keyring = keyring

    def when_durable(self, ticket: Ticket, result: bytes | Refusal) -> None:
        """Reply, but not before what the reply tells of is durable: all that is decided may be behind it."""
        self._spend(ticket.message, result)
        if not self._transactions.attach(ticket, result):
            self.durable(ticket, result)

    def all_when_durable(self, tickets: list[Ticket], result: bytes) -> None:
        """The same for commands of one peer that were all accepted just now, and have this result. None waited."""
        for ticket in tickets:
            ticket.message.room -= len(result)
        self._transactions.attach_all(tickets, result)

    def now(self, ticket: Ticket, result: bytes | Refusal) -> None:
        """The reply to a ticket: its result as msgpack, or a refusal. The ticket waits no more."""
        self._spend(ticket.message, result)
        self.durable(ticket, result)

    def durable(self, ticket: Ticket, result: bytes | Refusal) -> None:
        """A reply `when_durable`, which it is now."""
        if ticket.running:
            ticket.running = False
            self.passed(ticket)
        id = ticket.request.id
        frame = codec.encode_ok_raw(id, result) if type(result) is bytes else codec.encode_refusal(id, result)  # type: ignore[arg-type]
        self.frame(ticket.message, ticket.index, frame)

    def all_durable(self, results: Iterable[tuple[Ticket, bytes | Refusal]]) -> None:
        """Replies `when_durable`, which they are now."""
        encode, out = codec.encode_ok_raw, self._out.replies
        for ticket, result in results:
            message = ticket.message
            if ticket.running or message.held or type(result) is not bytes:
                self.durable(ticket, result)
                continue
            # By far the most; the same as above, without a call for each.
            message.replies[ticket.index] = encode(ticket.request.id, result)
            message.left -= 1
            if not message.left:
                out.append(message.parts())

    def frame(self, message: Message, index: int, frame: bytes) -> None:
        """One reply frame; the message goes when it has them all."""
        if message.reply(index, frame):
            if message.held:
                self._peers.let_go(message)
            self._out.replies.append(message.parts())

    def _spend(self, message: Message, result: bytes | Refusal) -> None:
        """A result takes from the message's room; while the message waits, it also weighs on its peer."""
        if type(result) is bytes:
            message.room -= len(result)
            if message.order:
                self._peers.hold(message, len(result))

    def to_repeats(self, key: str, result: bytes | Refusal) -> None:
        """The first command with this key has its reply: those that repeat it have the same."""
        first = self._keyring.at_work.pop(key, None)
        for repeat in first.repeats if first is not None else ():
            self.now(repeat, result)

    def passed(self, ticket: Ticket) -> None:
        """The ticket is decided or answered: the next one of its message, and of its peer, may have its turn."""
        self._peers.done(ticket)
        ticket.message.passed()
