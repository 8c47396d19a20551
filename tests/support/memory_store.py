"""A store in dictionaries, fed from batches as the real one is: records, and parameters apart from their nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from storage_protocol import commands as c
from storage_protocol.codec import encode_value, params_bytes
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal, not_found
from storage_protocol.keys import uuid7_ms
from storage_service.desk.batch import Batch, JournalRow, StoredIntent
from storage_service.desk.keyring import AHEAD_S, Remembered, may_be_forgotten
from storage_service.rules import render
from storage_service.rules.logbook_records import Book, Owed
from storage_service.rules.state import Acq, Chain, Conversion, Due, Key, Places, Record, Run, Storage
from storage_service.store.dated import SKEW_S
from storage_service.store.interface import Committed
from storage_service.store.sqlite import EXPIRE_AT_ONCE, KEY_AHEAD_MS

from .fold import folded

_OF_KIND: dict[Any, type] = {render.run: Run, render.acquisition: Acq}
_encode = msgspec.msgpack.Encoder().encode


def _kept(record: Any) -> Any:
    """The record as it comes back from the disk."""
    return msgspec.msgpack.decode(_encode(record), type=type(record))


class MemoryStore:
    def __init__(self, places: Places) -> None:
        self.places = places
        self.journal: list[JournalRow] = []
        self.records: dict[Key, Any] = {}
        self.params: dict[tuple[str, str], Any] = {}
        self.intents: dict[str, StoredIntent] = {}
        self.keys: dict[str, tuple[Remembered, float]] = {}
        self.documents: dict[str, bytes] = {}
        self._newest_ms = 0
        self.forgotten_ms = 0
        self.key_clock = (0.0, 0.0)
        self.commits = 0

    def close(self) -> None:
        """There is nothing to close."""

    def reopen(self) -> None:
        """A restart: dictionaries lose nothing."""

    def commit(self, batch: Batch, wall: float) -> Committed:
        self.commits += 1
        self.journal += batch.rows
        for id in batch.wiped:
            self.records.pop(("node", id), None)
            for place in [place for place in self.params if place[0] == id]:
                del self.params[place]
        for key, record in batch.records.items():
            if record is None:
                self.records.pop(key, None)
            else:
                bare = replace(record, params={}, params_bytes=0) if isinstance(record, Run | Acq) else record
                self.records[key] = _kept(bare)
        self.records.update({key: _kept(each) for key, each in batch.registers.items()})
        self.params.update(batch.params)
        for digest, content in batch.documents.items():
            self.documents.setdefault(digest, content)
        if batch.forgets_documents:
            self.documents = {
                digest: each for digest, each in self.documents.items() if digest in batch.documents_kept
            }
        for intent_id, intent in batch.intents.items():
            self.intents.pop(intent_id, None)
            if intent is not None:
                self.intents[intent_id] = _kept(intent)
        for name, print_, result in batch.keys:
            assert name not in self.keys, f"{name} ran twice"
            self.keys[name] = (Remembered(print_, result), wall)
        if batch.newest_key_ms > self._newest_ms:
            self._newest_ms = batch.newest_key_ms + KEY_AHEAD_MS
        self.key_clock = batch.key_clock or self.key_clock
        return self._expire(batch.expire_keys_before, batch.forget_up_to_ms, wall)

    def _expire(self, before: float | None, up_to_ms: int, wall: float) -> Committed:
        oldest = list(self.keys.items())[:EXPIRE_AT_ONCE]
        due = [(key, at) for key, (_, at) in oldest if before is not None and (at < before or at > wall + AHEAD_S)]
        gone = []
        for key, at in due:
            remembered, _ = self.keys.pop(key)
            if before is not None and at < before and may_be_forgotten(key, up_to_ms):
                gone.append(key)
            else:
                self.keys[key] = (remembered, wall)
        newest = max((uuid7_ms(key) or 0 for key in gone), default=0)
        self.forgotten_ms = max(self.forgotten_ms, newest)
        return Committed(len(due), newest)

    # What a start-up loads, what the desk looks up

    @property
    def newest_key_ms(self) -> int:
        return self._newest_and_ahead()[0]

    @property
    def keys_ahead(self) -> list[str]:
        return self._newest_and_ahead()[1]

    def _newest_and_ahead(self) -> tuple[int, list[str]]:
        """As `store/dated.py` has it: those few that are dated more than a minute ahead are named."""
        if not self.keys:
            return self._newest_ms, []
        _, stored_at = self.keys[next(reversed(self.keys))]
        limit_ms = int((stored_at + SKEW_S) * 1000)
        if self._newest_ms <= limit_ms:
            return self._newest_ms, []
        return limit_ms, sorted(key for key in self.keys if (uuid7_ms(key) or 0) > limit_ms)

    @property
    def last_seq(self) -> int:
        return len(self.journal)

    def topics(self) -> dict[str, int]:
        return {row.topic: row.seq for row in self.journal}

    def record(self, key: Key) -> Any:
        found = self.records.get(key)
        if not isinstance(found, Run | Acq):
            return found
        params = {name: value for (id, name), value in self.params.items() if id == key[1]}
        return replace(found, params=params, params_bytes=params_bytes(params)) if params else found

    def records_of(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """Each key's record, or None."""
        return {key: self.record(key) for key in keys}

    def open_records(self) -> list[tuple[Key, Any]]:
        """Every storage, active conversion, open or unsealed acquisition, and acquisition of such a conversion."""
        found: dict[Key, Any] = {}
        for key, record in self.records.items():
            match record:
                case Storage() | Chain() | Book() | Owed():
                    found[key] = record
                case Due():
                    found[key] = record
                    found["node", record.acq_id] = self.record(("node", record.acq_id))
                case Acq() if not record.sealed:
                    found[key] = self.record(key)
                case Conversion() if record.active:
                    found[key] = record
                    found["node", record.acq_id] = self.record(("node", record.acq_id))
        return [(key, record) for key, record in found.items() if record is not None]

    def look_up(self, keys: Iterable[Key]) -> list[tuple[Key, Any]]:
        return [(key, self._one(*key)) for key in keys]

    def document(self, digest: str) -> bytes | None:
        return self.documents.get(digest)

    def _one(self, table: str, id: str) -> Any:
        if table == "key":
            found = self.keys.get(id)
            return found[0] if found else None
        acqs = [key for key, record in self.records.items() if isinstance(record, Acq)]
        if table == "acqs_of":
            return [self.record(key) for key in acqs if self.records[key].run_id == id]
        if table == "nested":
            inside = (other for _, other in acqs if other != id)
            return next(
                (
                    other
                    for other in inside
                    if f"{other}/".startswith(f"{id}/") or f"{id}/".startswith(f"{other}/")
                ),
                None,
            )
        return self.record((table, id))

    # Queries

    def answer(self, command: Command) -> bytes | Refusal:
        match command:
            case c.GetStorage():
                return self._told("storage", command.storage_id, render.storage)
            case c.GetRun():
                return self._told("node", command.run_id, render.run, self.places)
            case c.GetAcq():
                return self._told("node", command.acq_id, render.acquisition, self.places)
            case c.GetConversion():
                return self._told("conversion", command.conversion_id, render.conversion, self.places)
            case c.ListStorages():
                told = [render.storage(each) for each in self.records.values() if isinstance(each, Storage)]
                return encode_value({"storages": told, "last_seq": self.last_seq})
            case _:
                raise NotImplementedError(command.CMD)

    def _told(self, table: str, id: str, shown: Any, *places: Places) -> bytes | Refusal:
        record = self.record((table, id))
        wrong_kind = shown in _OF_KIND and not isinstance(record, _OF_KIND[shown])
        return not_found(table, id) if record is None or wrong_kind else encode_value(shown(record, *places))

    # The journal, folded

    def everything(self) -> dict[Key, Record]:
        """All records that events tell of, parameters put back."""
        return {key: self.record(key) for key in self.records if key[0] != "variable"}

    def registers(self) -> dict[Key, Record]:
        """The variables: no event tells how they became what they are."""
        return {key: each for key, each in self.records.items() if key[0] == "variable"}

    def folded(self) -> dict[Key, Record]:
        """What the journal alone says that there is."""
        return folded(self.journal, self.places)
