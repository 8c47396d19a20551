"""The records in memory: what is missing for a decision, what was looked up, what may be forgotten again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..rules.logbook_records import Book, Owed
from ..rules.state import Acq, Chain, Conversion, Due, Key, State, Storage

MAX_RESIDENT = 20_000
TRANSIENT = ("nested", "acqs_of")
"""What is looked up for one decision, and may be another a moment later."""


class Residents:
    def __init__(self, state: State) -> None:
        self._state = state
        self._asked: dict[Key, int] = {}
        self._evictions = 0
        self._stayed = 0

    def to_ask(self, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that are not in memory and that nobody asked for yet; they are asked for now."""
        fresh = [key for key in keys if key not in self._asked and not self._state.has(key)]
        self._asked.update(dict.fromkeys(fresh, self._evictions))
        return fresh

    def is_asked(self, key: Key) -> bool:
        """Whether the store has not answered yet what it has of this key."""
        return key in self._asked

    def looked_up(self, key: Key, record: Any) -> None:
        """What the store has of a key. What came into memory meanwhile is newer.

        When records were forgotten since it was asked for, what is read may be older than one of them was: it is
        thrown away, and asked for again.
        """
        state, (table, id) = self._state, key
        if self._asked.pop(key, -1) != self._evictions:
            return
        if table == "acqs_of":
            state.complete.add(id)
            for acq in record:
                state.records.setdefault(("node", acq.node_id), acq)
        elif table == "nested":
            state.nested[id] = record
        else:
            state.records.setdefault(key, record)

    def forget_transient(self, keys: Iterable[Key]) -> None:
        """What was looked up for one decision must not serve another one. What others had looked up for theirs
        stays true until then: they hold a scope that keeps off whoever could change it."""
        for table, id in keys:
            if table == "acqs_of":
                self._state.complete.discard(id)
            elif table == "nested":
                self._state.nested.pop(id, None)

    def forget_all_transient(self) -> None:
        """Who could not decide yet asks once more."""
        self._state.complete.clear()
        self._state.nested.clear()

    def evict(self, uncommitted: Callable[[], set[Key]]) -> None:
        """Keep memory bounded: what is closed, durable and not at work can be looked up again."""
        state = self._state
        # Where most of it has to stay, it is not gone through again before it has doubled.
        if len(state.records) > max(MAX_RESIDENT, 2 * self._stayed):
            self._evictions += 1
            kept = uncommitted() | self._needed()
            state.records = {
                key: record for key, record in state.records.items() if key in kept or _at_work(record)
            }
            self._stayed = len(state.records)

    def _needed(self) -> set[Key]:
        """What is not at work itself and belongs to what is: runs, acquisitions of conversions and manifests."""
        kept: set[Key] = set()
        for record in self._state.records.values():
            if isinstance(record, Acq) and _at_work(record):
                kept.add(("node", record.run_id))
            elif (isinstance(record, Conversion) and record.active) or isinstance(record, Due):
                kept.add(("node", record.acq_id))
        return kept


def _at_work(record: Any) -> bool:
    match record:
        case Storage() | Chain() | Due() | Book() | Owed():
            return True
        case Conversion():
            return record.active
        case Acq():
            return record.state == "open" or not record.sealed
        case _:
            return False
