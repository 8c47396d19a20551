"""The store in SQLite with the interface of `memory_store.MemoryStore`: the desk's tests run on either.

What it shows is read from the tables, through a connection that only reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_service.desk.batch import Batch, JournalRow, StoredIntent
from storage_service.desk.keyring import Remembered
from storage_service.rules.state import Counter, Key, Places, Record, Variable, variable_key
from storage_service.store import rows
from storage_service.store.interface import Committed
from storage_service.store.lookups import SqliteLookups
from storage_service.store.reader import Reader
from storage_service.store.sqlite import SqliteWriter

from .fold import folded


class StoredRows:
    """What stands in a database, looked at through a connection that only reads."""

    _db: apsw.Connection
    _journal: list[JournalRow]

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        return self._db.execute(sql).fetchall()

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, and the schema."""
        tables = [str(name) for (name,) in self.select("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {table: self.select(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}
        return {"schema": self.select("SELECT type, name, sql FROM sqlite_schema ORDER BY name"), **found}

    @property
    def journal(self) -> list[JournalRow]:
        """Every event. A row never changes: only what is new is read."""
        new = f"SELECT seq, topic, subject, body, fact FROM journal WHERE seq > {len(self._journal)} ORDER BY seq"
        self._journal += [JournalRow(*row) for row in self.select(new)]
        return self._journal

    @property
    def keys(self) -> dict[str, tuple[Remembered, float]]:
        rows = self.select("SELECT key, fingerprint, result, at FROM keys ORDER BY id")
        return {key: (Remembered(fingerprint, result), at) for key, fingerprint, result, at in rows}

    @property
    def documents(self) -> dict[str, bytes]:
        return {str(digest): bytes(content) for digest, content in self.select("SELECT * FROM documents")}

    @property
    def records(self) -> dict[Key, Any]:
        return {**self.everything(), **self.registers()}

    def record(self, key: Key) -> Any:
        return self.records.get(key)

    def records_of(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """Each key's record, or None."""
        there = self.records
        return {key: there.get(key) for key in keys}

    def everything(self) -> dict[Key, Record]:
        """All records that events tell of, parameters put back."""
        params: dict[str, dict[str, Any]] = {}
        for id, name, class_, value in self.select("SELECT node_id, name, class, value FROM params"):
            params.setdefault(id, {})[name] = rows.value_of(class_, value)
        found: dict[Key, Record] = {}
        for id, record in self.select("SELECT storage_id, record FROM storages ORDER BY n"):
            found["storage", id] = rows.decode_storage(record)
        for id, record in self.select("SELECT node_id, record FROM nodes ORDER BY n"):
            found["node", id] = rows.decode_node(record, params.get(id, {}))
        for id, record in self.select("SELECT conversion_id, record FROM conversions ORDER BY n"):
            found["conversion", id] = rows.decode_conversion(record)
        for id, highest in self.select("SELECT counter_id, highest FROM counters"):
            found["counter", id] = Counter(highest)
        for id, record in self.select("SELECT acq_id, record FROM dues ORDER BY n"):
            found["due", id] = rows.decode_due(record)
        for id, record in self.select("SELECT storage_id, record FROM chains"):
            found["chain", id] = rows.decode_chain(record)
        for id, record in self.select("SELECT storage_id, record FROM books"):
            found["book", id] = rows.decode_book(record)
        for id, record in self.select("SELECT id, record FROM owed ORDER BY n"):
            found["owed", id] = rows.decode_owed(record)
        for id, record in self.select("SELECT key, record FROM pages"):
            found["page", id] = rows.decode_page(record)
        return found

    def registers(self) -> dict[Key, Record]:
        """The variables: no event tells how they became what they are."""
        found = self.select("SELECT ns, name, class, value FROM variables")
        return {
            variable_key(ns, name): Variable(ns, name, rows.value_of(class_, value))
            for ns, name, class_, value in found
        }


@contextmanager
def reading(database: Path) -> Iterator[StoredRows]:
    """The rows of a database that nobody has open."""
    found = StoredRows()
    found._db, found._journal = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY), []
    try:
        yield found
    finally:
        found._db.close()


class SqliteStore(StoredRows):
    def __init__(self, folder: Path, places: Places) -> None:
        self.places = places
        self.commits = 0
        self._folder, self._starts = folder, 0
        self._home(0).mkdir()
        self._open()

    def _home(self, start: int) -> Path:
        return self._folder / f"state-{start}"

    def _open(self) -> None:
        self.writer = SqliteWriter(self.database)
        self._lookups = SqliteLookups(self.database)
        self._reader = Reader(self.database, self.places, self.writer.journal_id)
        self._db = apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READONLY)
        self._journal: list[JournalRow] = []

    @property
    def database(self) -> Path:
        return self._home(self._starts) / "storage.db"

    def close(self) -> None:
        for each in (self._db, self._reader, self._lookups, self.writer):
            each.close()

    def reopen(self) -> None:
        """A restart; every second one as after a kill: on a copy of the files, made before anybody closed them."""
        before, after = self._home(self._starts), self._home(self._starts + 1)
        killed = self._starts % 2 == 1
        if killed:
            shutil.copytree(before, after)
        self.close()
        if not killed:
            before.rename(after)
        self._starts += 1
        self._open()

    def commit(self, batch: Batch, wall: float) -> Committed:
        self.commits += 1
        return self.writer.commit(batch, wall)

    # What a start-up loads, what the desk looks up

    @property
    def last_seq(self) -> int:
        return self.writer.snapshot().last_seq

    @property
    def newest_key_ms(self) -> int:
        return self.writer.snapshot().newest_key_ms

    @property
    def keys_ahead(self) -> list[str]:
        return self.writer.snapshot().keys_ahead

    @property
    def forgotten_ms(self) -> int:
        return self.writer.snapshot().forgotten_ms

    @property
    def key_clock(self) -> tuple[float, float]:
        return self.writer.snapshot().key_clock

    @property
    def intents(self) -> dict[str, StoredIntent]:
        return {each.intent_id: each for each in self.writer.snapshot().intents}

    def topics(self) -> dict[str, int]:
        return self.writer.snapshot().topics

    def open_records(self) -> list[tuple[Key, Any]]:
        return self.writer.snapshot().records()

    def look_up(self, keys: Iterable[Key]) -> list[tuple[Key, Any]]:
        return self._lookups.look_up(keys)

    def document(self, digest: str) -> bytes | None:
        return self._lookups.document(digest)

    def answer(self, command: Command) -> bytes | Refusal:
        return self._reader.read(command)

    def folded(self) -> dict[Key, Record]:
        """What the journal alone says that there is."""
        return folded(self.journal, self.places)
