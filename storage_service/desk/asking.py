"""What is asked of the store: queries, when their turn has come, and records that a decision needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from storage_protocol import codec, commands, errors

from ..rules import decide
from ..rules.decision import Moment
from ..rules.state import Key, State
from .keyring import Keyring
from .messages import Ticket
from .out import Out
from .peers import COMMIT, Peers
from .replies import Replies
from .residents import TRANSIENT, Residents
from .transactions import Transactions

_NOTHING = codec.encode_value({})


class Asking:
    def __init__(
        self,
        state: State,
        out: Out,
        keyring: Keyring,
        residents: Residents,
        transactions: Transactions,
        replies: Replies,
        peers: Peers,
        describe: bytes,
    ) -> None:
        self._state = state
        self._out = out
        self._keyring = keyring
        self._residents = residents
        self._transactions = transactions
        self._replies = replies
        self._peers = peers
        self._describe = describe

    def query(self, ticket: Ticket, moment: Moment) -> bool:
        """Answer a query, or set it to work once all that its peer did before is durable. False: it waits."""
        command = ticket.request.command
        if type(command) is commands.Ping:
            self._replies.now(ticket, codec.encode_value({"time": moment.time}))
            return True
        if type(command) is commands.Describe:
            self._replies.now(ticket, self._describe)
            return True
        if type(command) is commands.HeartbeatProducer:
            # Heard when it came; the storage may be too new to be told of.
            known = self._state.storage(command.storage_id) is not None
            refusal = errors.not_found("storage", command.storage_id)
            self._replies.when_durable(ticket, _NOTHING if known else refusal)
            return True
        if self._transactions.may_ask(ticket.message.peer):
            ticket.running = True
            self._out.queries.append((ticket, command))
        else:
            self._peers.wait_for(COMMIT, ticket)
        return False

    def has(self, needed: list[Key], ticket: Ticket) -> bool:
        """Whether all these records are in memory; what is not is asked for, and the ticket waits for it."""
        missing = [key for key in needed if not self._state.has(key)]
        if missing:
            self.records(missing)
            self._peers.wait_for(missing[0], ticket)
        return not missing

    def records(self, keys: Iterable[Key]) -> None:
        self._out.look_ups += self._residents.to_ask(keys)

    def wait_for_key(self, key: str, ticket: Ticket) -> None:
        """The ticket waits until the database has said whether its key came before."""
        self.key(key)
        self._peers.wait_for(("key", key), ticket)

    def key(self, key: str) -> None:
        """Ask whether an idempotency key came before, where only the database can tell."""
        if self._keyring.must_look_up(key) and self._keyring.asking(key):
            self._out.look_ups.append(("key", key))

    def is_out(self, what: Hashable) -> bool:
        """Whether this is a record or a key that was asked for, and not answered yet."""
        if not isinstance(what, tuple):
            return False
        return self._keyring.is_asked(what[1]) if what[0] == "key" else self._residents.is_asked(what)

    def ahead(self, ticket: Ticket) -> None:
        """Ask already now for what a waiting command will need, but for what may change until its turn."""
        request = ticket.request
        if not request.mutating:
            return
        needed = decide.needs(self._state, request.command)
        self.records(key for key in needed if key[0] not in TRANSIENT)
        if request.key is not None and request.key not in self._keyring.at_work:
            self.key(request.key)

    def looked_up(self, found: Iterable[tuple[Key, Any]]) -> None:
        """What the store has of what was asked for; who waited for it may have a turn."""
        for key, record in found:
            self._peers.came(key)
            if key[0] == "key":
                self._keyring.looked_up(key[1], record)
            else:
                self._residents.looked_up(key, record)
