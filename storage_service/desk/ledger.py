"""What every room of the desk reads and writes: the state, the open batch, what goes out, who waits.

The rooms (`work`, `seals`, `attempts`) and the desk itself take the ledger and not each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from storage_protocol import codec, errors
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits

from ..rules import render
from ..rules.decision import Answer, Moment
from ..rules.facts import Event
from ..rules.state import Places, State
from .asking import Asking
from .batch import Batch, Journal
from .keyring import Keyring
from .out import Out
from .peers import Peers
from .replies import Replies
from .residents import Residents
from .scopes import Holder, Scopes
from .timers import Timers
from .transactions import Transactions


class Ledger:
    """
    fresh   gives a new UUID at each call
    defect  hears of an exception that nobody expected: its incident's id, and the exception
    follow  hears of every event that became true in memory
    manifest_kind  by storage id: `blake3`, `sizes` or `off`
    fetches        by storage id: whether the service has a source of its own for its configurations
    entries_of     by storage id: which entries go into its logbook
    """

    def __init__(
        self,
        places: Places,
        limits: Limits,
        keyring: Keyring,
        journal: Journal,
        describe: bytes,
        fresh: Callable[[], str],
        defect: Callable[[str, Exception], None],
        manifest_kind: Callable[[str], str],
        fetches: Callable[[str], bool],
        entries_of: Callable[[str], str],
    ) -> None:
        self.manifest_kind = manifest_kind
        self.state = State(places, fetches, lambda: journal.last_seq, entries_of)
        self.limits = limits
        self.keyring = keyring
        self.fresh = fresh
        self.follow: Callable[[Event, Moment], None] = lambda event, moment: None
        self.out = Out()
        self.timers = Timers()
        self.scopes = Scopes()
        self.peers = Peers()
        self.residents = Residents(self.state)
        self.transactions = Transactions(self.state, journal)
        self.replies = Replies(self.out, self.peers, self.transactions, keyring)
        self.asking = Asking(
            self.state,
            self.out,
            keyring,
            self.residents,
            self.transactions,
            self.replies,
            self.peers,
            describe,
        )
        self._defect = defect

    @property
    def batch(self) -> Batch:
        """The open batch."""
        return self.transactions.open

    def apply(self, events: Iterable[Event], moment: Moment) -> None:
        """Make events true, in the open batch."""
        for event in events:
            self.transactions.open.apply(event, moment.time)
            self.follow(event, moment)

    def let_go(self, holder: Holder) -> None:
        """An intent or a command holds its scope no more: who waited for it may have a turn."""
        if self.scopes.release(holder):
            self.peers.came(holder)

    def answer(self, answer: Answer) -> bytes:
        """The result of a reply, from the state as it is now."""
        return codec.encode_value(render.answer(self.state, answer))

    def remember(self, key: str, fingerprint: bytes, result: bytes) -> None:
        """The reply under its key goes into the transaction of its effect."""
        self.transactions.open.keys.append((key, fingerprint, result))

    def defect(self, error: Exception) -> Refusal:
        """A rule failed: nothing was changed, somebody is told."""
        incident = self.fresh()
        self._defect(incident, error)
        return errors.internal(incident)
