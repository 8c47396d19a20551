"""What the desk's shell asks of a store. `sqlite.py` is one; the composition root chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import Struct

from ..desk.batch import Batch, StoredIntent
from ..rules.logbook_records import Book, Owed
from ..rules.state import Chain, Conversion, Due, Key, Node, Storage


class StoreError(Exception):
    """The store cannot be used; the message is one sentence for who starts the service."""


class StoreFaultError(StoreError):
    """The disk failed, is full, or another program holds the database: a later start may find it well."""


class NotWrittenError(Exception):
    """The transaction was rolled back: nothing of it is durable. The message says why."""


class UnknownOutcomeError(Exception):
    """The commit failed, and may be durable all the same: only a restart can tell (promise R3)."""


class Snapshot(Struct, frozen=True):
    """What a start-up loads: every storage, and what is open.

    nodes          open and unsealed acquisitions, those of active conversions, and those of due manifests
    topics         the newest seq of each topic
    newest_key_ms  up to here UUIDv7 keys may be stored; forgotten_ms: of the newest ever forgotten; 0: none
    keys_ahead     the UUIDv7 keys that are stored and are dated after newest_key_ms
    key_clock      what `Batch.key_clock` was last
    """

    journal_id: str
    last_seq: int
    topics: dict[str, int]
    storages: list[Storage]
    nodes: list[Node]
    conversions: list[Conversion]
    intents: list[StoredIntent]
    newest_key_ms: int
    forgotten_ms: int
    chains: list[Chain]
    dues: list[Due]
    keys_ahead: list[str]
    books: list[Book]
    owed: list[Owed]
    key_clock: tuple[float, float] = (0.0, 0.0)

    def records(self) -> list[tuple[Key, Any]]:
        """All of them by key, as the desk takes them."""
        found: list[tuple[Key, Any]] = [(("storage", each.storage_id), each) for each in self.storages]
        found += [(("node", each.node_id), each) for each in self.nodes]
        found += [(("conversion", each.conversion_id), each) for each in self.conversions]
        found += [(("chain", each.storage_id), each) for each in self.chains]
        found += [(("due", each.acq_id), each) for each in self.dues]
        found += [(("book", each.storage_id), each) for each in self.books]
        return found + [(("owed", each.id), each) for each in self.owed]


class Committed(Struct, frozen=True):
    """What a commit has to tell: how many keys were due to be forgotten, and if any was there may be more; and the
    time of the newest UUIDv7 that was forgotten."""

    forgotten: int = 0
    forgotten_ms: int = 0


class Writer(Protocol):
    """The one read-write connection. Used by one thread."""

    def snapshot(self) -> Snapshot: ...

    def commit(self, batch: Batch, key_date: float) -> Committed:
        """Make a batch durable; its keys get this date, in seconds.

        Raises NotWrittenError or UnknownOutcomeError.
        """
        ...

    def tidy(self) -> bool:
        """Between the commits: what the store has to do for itself, one step of it. Whether there is more."""
        ...

    def close(self) -> None: ...


class Lookups(Protocol):
    """A read-only connection for records that are not in memory. Used by one thread."""

    def look_up(self, keys: Iterable[Key]) -> list[tuple[Key, Any]]:
        """Each key's record, or None: see `SqliteLookups.look_up`."""
        ...

    def close(self) -> None: ...
