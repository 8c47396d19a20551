"""The store in SQLite: one read-write connection, which alone commits and checkpoints, and read-only look-ups.

A batch is one transaction in WAL mode with `synchronous=FULL`: when `commit` returns, it is on the disk. Rows go
in as few, large statements: each statement takes and gives back the interpreter lock, which the loop needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw

from storage_protocol.keys import uuid7_ms

from ..desk.batch import Batch
from ..desk.keyring import Remembered
from ..rules.state import Acq, Conversion, Counter, Group, Key, Node, Run, Storage
from .interface import Committed, NotWrittenError, Snapshot, StoreError, UnknownOutcomeError
from .migrate import migrate, refuse_newer
from .rows import (
    decode_chain,
    decode_conversion,
    decode_due,
    decode_intent,
    decode_node,
    decode_storage,
    encode,
    encode_node,
    value_of,
    value_row,
)

# Rows of one statement. Larger ones gain nothing more; all sizes between would fill the statement cache.
_CHUNKS = (64, 8, 1)
EXPIRE_AT_ONCE = 1000
# The time of the newest key is stored a second ahead, so that it is written once a second and not in every commit:
# after a restart the keys of that second are looked up, which is always right.
KEY_AHEAD_MS = 1000
BUSY_MS = 5000


class SqliteWriter:
    """The read-write connection. The state folder must be locked by this process.

    Raises StoreError when the database cannot be opened, or is from a newer version.
    """

    def __init__(self, database: Path) -> None:
        try:
            self._db = apsw.Connection(str(database))
        except apsw.Error as error:
            raise StoreError(f"The database {database} cannot be opened: {error}.") from None
        try:
            self._set_up(database)
        except apsw.Error as error:
            self._db.close()
            raise StoreError(f"The database {database} cannot be opened: {error}.") from None
        except StoreError:
            self._db.close()
            raise

    def _set_up(self, database: Path) -> None:
        self._db.set_busy_timeout(BUSY_MS)
        # Looked at before anything is written, and nothing is at the close: the database of a newer service stays.
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        refuse_newer(self._db, str(database))
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        mode = self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "full")
        self._db.pragma("foreign_keys", True)
        self._db.pragma("temp_store", "memory")
        if mode != "wal" or self._db.pragma("synchronous") != 2:
            raise StoreError(f"The database {database} does not keep WAL and synchronous=FULL; it has {mode}.")
        migrate(self._db, str(database))
        self._newest_key_ms = int(self._meta("newest_key_ms", "0"))
        self._forgotten_ms = int(self._meta("forgotten_ms", "0"))
        self.journal_id = self._meta("journal_id", str(uuid4()))

    def _meta(self, name: str, default: str) -> str:
        self._db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", (name, default))
        return str(self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).get)

    def close(self) -> None:
        self._db.close()

    def snapshot(self) -> Snapshot:
        """What is open. Read once, at the start."""
        db = self._db
        conversions = [
            decode_conversion(record)
            for (record,) in db.execute(
                "SELECT record FROM conversions WHERE state IN ('queued', 'running') ORDER BY n"
            )
        ]
        at_work = [
            id for (id,) in db.execute("SELECT node_id FROM nodes WHERE kind = 'acq' AND sealed = 0 ORDER BY n")
        ]
        dues = [decode_due(record) for (record,) in db.execute("SELECT record FROM dues ORDER BY n")]
        of_others = [*(each.acq_id for each in conversions), *(each.acq_id for each in dues)]
        ids = dict.fromkeys([*at_work, *of_others])
        nodes = [node for id in ids if (node := _node(db, id)) is not None]
        return Snapshot(
            journal_id=self.journal_id,
            last_seq=int(str(db.execute("SELECT ifnull(max(seq), 0) FROM topics").get)),
            topics={
                str(topic): int(str(seq)) for topic, seq in db.execute("SELECT topic, seq FROM topics").fetchall()
            },
            storages=[
                decode_storage(record) for (record,) in db.execute("SELECT record FROM storages ORDER BY n")
            ],
            nodes=nodes,
            conversions=conversions,
            intents=[decode_intent(intent) for (intent,) in db.execute("SELECT intent FROM intents ORDER BY n")],
            newest_key_ms=self._newest_key_ms,
            forgotten_ms=self._forgotten_ms,
            chains=[decode_chain(record) for (record,) in db.execute("SELECT record FROM chains")],
            dues=dues,
        )

    def commit(self, batch: Batch, wall: float) -> Committed:
        """Make a batch durable; `wall` (seconds since 1970) dates its keys. One thread at a time.

        Raises NotWrittenError when it was rolled back, UnknownOutcomeError when nobody can tell.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise NotWrittenError(f"the database does not begin a transaction: {error}") from error
        try:
            committed = self._write(batch, wall)
        except apsw.Error as error:
            self._roll_back(error)
            raise NotWrittenError(f"the database does not take the rows: {error}") from error
        except BaseException as error:
            self._roll_back(error)
            raise
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            raise UnknownOutcomeError(str(error)) from error
        if batch.newest_key_ms > self._newest_key_ms:
            self._newest_key_ms = batch.newest_key_ms + KEY_AHEAD_MS
        self._forgotten_ms = max(self._forgotten_ms, committed.forgotten_ms)
        return committed

    def _roll_back(self, why: BaseException) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error as error:
            raise UnknownOutcomeError(f"{why}; and the roll-back failed: {error}") from error

    def _write(self, batch: Batch, wall: float) -> Committed:
        rows = [(row.seq, row.topic, row.subject, row.body, row.fact) for row in batch.rows]
        self._insert("INSERT INTO journal VALUES ", rows)
        upsert = " ON CONFLICT (topic) DO UPDATE SET seq = excluded.seq"
        self._insert("INSERT INTO topics VALUES ", list(batch.topics().items()), upsert)
        self._write_nodes(batch)
        for (table, id), record in batch.records.items():
            match table:
                case "storage":
                    self._write_storage(id, record)
                case "conversion" if isinstance(record, Conversion):
                    self._write_conversion(record)
                case "due" if record is None:
                    self._db.execute("DELETE FROM dues WHERE acq_id = ?", (id,))
                case "due":
                    self._db.execute(_PUT_DUE, (id, encode(record)))
                case "chain":
                    self._db.execute(_PUT_CHAIN, (id, encode(record)))
                case "counter" if isinstance(record, Counter):
                    sql = "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET highest = excluded.highest"
                    self._db.execute(sql, (id, record.highest))
        for intent_id, intent in batch.intents.items():
            self._db.execute("DELETE FROM intents WHERE intent_id = ?", (intent_id,))
            if intent is not None:
                sql = "INSERT INTO intents (intent_id, intent) VALUES (?, ?)"
                self._db.execute(sql, (intent_id, encode(intent)))
        return self._write_keys(batch, wall)

    def _write_keys(self, batch: Batch, wall: float) -> Committed:
        rows = [(key, fingerprint, wall, result) for key, fingerprint, result in batch.keys]
        self._insert("INSERT INTO keys (key, fingerprint, at, result) VALUES ", rows)
        if batch.newest_key_ms > self._newest_key_ms:
            self._set_meta("newest_key_ms", batch.newest_key_ms + KEY_AHEAD_MS)
        if batch.expire_keys_before is None:
            return Committed()
        gone = self._db.execute(
            "DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id LIMIT ?) AND at < ? RETURNING key",
            (EXPIRE_AT_ONCE, batch.expire_keys_before),
        ).fetchall()
        forgotten = max((uuid7_ms(str(key)) or 0 for (key,) in gone), default=0)
        if forgotten > self._forgotten_ms:
            self._set_meta("forgotten_ms", forgotten)
        return Committed(len(gone), forgotten)

    def _set_meta(self, name: str, value: int) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE name = ?", (str(value), name))

    def _write_storage(self, storage_id: str, record: Any) -> None:
        if not isinstance(record, Storage):
            self._db.execute("DELETE FROM storages WHERE storage_id = ?", (storage_id,))
            return
        self._db.execute(
            "INSERT INTO storages (storage_id, record) VALUES (?, ?)"
            " ON CONFLICT (storage_id) DO UPDATE SET record = excluded.record",
            (storage_id, encode(record)),
        )

    def _write_conversion(self, record: Conversion) -> None:
        self._db.execute(
            "INSERT INTO conversions (conversion_id, acq_id, state, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (conversion_id) DO UPDATE SET state = excluded.state, record = excluded.record",
            (record.conversion_id, record.acq_id, record.state, encode(record)),
        )

    def _write_nodes(self, batch: Batch) -> None:
        """Nodes and their parameters. What is wiped goes first: a node made anew gets a place of its own."""
        for id in batch.wiped:
            self._db.execute("DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?)", (id,))
            self._db.execute("DELETE FROM params WHERE node_id = ?", (id,))
            self._db.execute("DELETE FROM derived WHERE node_id = ?", (id,))
            self._db.execute("DELETE FROM nodes WHERE node_id = ?", (id,))
        for (table, _), record in batch.records.items():
            if table == "node" and isinstance(record, Group | Run | Acq):
                self._db.execute(_PUT_NODE, _node_row(record))
        params = [(id, name, *value_row(value)) for (id, name), value in batch.params.items()]
        upsert = " ON CONFLICT (node_id, name) DO UPDATE SET class = excluded.class, value = excluded.value"
        self._insert("INSERT INTO params VALUES ", params, upsert)
        for id, searched in batch.searched.items():
            self._db.execute("DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?)", (id,))
            for table in ("params", "derived") if searched else ():
                self._db.execute(_PUT_SEARCH.format(table), (id,))
        self._write_derived(batch)
        for id, name in batch.run_params:
            self._db.execute(
                "DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?) AND name = ?", (id, name)
            )
            self._db.execute(_PUT_SEARCH.format("params") + " AND name = ?", (id, name))

    def _write_derived(self, batch: Batch) -> None:
        """What is told of nodes besides their parameters; those are in the search rows, as they are closed."""
        for (id, name), value in batch.derived.items():
            self._db.execute(_DROP_SEARCHED, (id, id, name))
            self._db.execute("INSERT OR REPLACE INTO derived VALUES (?, ?, ?, ?)", (id, name, *value_row(value)))
            self._db.execute(_PUT_SEARCH.format("derived") + " AND name = ?", (id, name))

    def _insert(self, head: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
        """INSERT with many rows a statement."""
        at = 0
        for chunk in _CHUNKS:
            while len(rows) - at >= chunk:
                part = rows[at : at + chunk]
                one = "(" + ",".join("?" * len(part[0])) + ")"
                self._db.execute(head + ",".join([one] * chunk) + tail, [value for row in part for value in row])
                at += chunk


_PUT_SEARCH = (
    "INSERT INTO search SELECT name, class, value, n FROM {} JOIN nodes USING (node_id) WHERE node_id = ?"
)
_DROP_SEARCHED = """
DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?)
    AND (name, class, value) IN (SELECT name, class, value FROM derived WHERE node_id = ? AND name = ?)
"""
_PUT_DUE = "INSERT INTO dues (acq_id, record) VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
_PUT_CHAIN = "INSERT INTO chains VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
_PUT_NODE = """
INSERT INTO nodes (node_id, kind, parent_id, visible, at, storage_id, state, verdict, sealed, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (node_id) DO UPDATE SET
    visible = excluded.visible, at = excluded.at, storage_id = excluded.storage_id, state = excluded.state,
    verdict = excluded.verdict, sealed = excluded.sealed, record = excluded.record
"""


def _node_row(node: Node) -> tuple[Any, ...]:
    """The columns of a node, in the order of `_PUT_NODE`."""
    record = encode_node(node)
    if isinstance(node, Acq):
        place = (node.node_id, "acq", node.run_id, node.visible, node.started_at)
        return (*place, node.storage_id, node.state, node.verdict, node.sealed, record)
    kind, storage_id = ("run", node.storage_id) if isinstance(node, Run) else ("group", None)
    place = (node.node_id, kind, node.parent_id, node.visible, node.created_at)
    return (*place, storage_id, None, None, None, record)


def _node(db: apsw.Connection, node_id: str) -> Node | None:
    record = db.execute("SELECT record FROM nodes WHERE node_id = ?", (node_id,)).get
    if record is None:
        return None
    rows = db.execute("SELECT name, class, value FROM params WHERE node_id = ?", (node_id,))
    return decode_node(record, {name: value_of(class_, value) for name, class_, value in rows})


class SqliteLookups:
    """Records that are not in memory, for the desk. Used by one thread."""

    def __init__(self, database: Path) -> None:
        self._db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(BUSY_MS)

    def close(self) -> None:
        self._db.close()

    def look_up(self, keys: Iterable[Key]) -> list[tuple[Key, Any]]:
        """What the database has of each key, None where nothing:

        (`node`, id), (`conversion`, id), (`counter`, id)   the record
        (`acqs_of`, run id)                                 every acquisition of the run, as a list
        (`nested`, acquisition id)                          the id of one that lies inside of it or around it
        (`key`, idempotency key)                            what is remembered of it
        """
        found = []
        with self._db:
            for key in keys:
                found.append((key, self._one(*key)))
        return found

    def _one(self, table: str, id: str) -> Any:
        db = self._db
        match table:
            case "node":
                return _node(db, id)
            case "conversion":
                record = db.execute("SELECT record FROM conversions WHERE conversion_id = ?", (id,)).get
                return decode_conversion(record) if record is not None else None
            case "counter":
                highest = db.execute("SELECT highest FROM counters WHERE counter_id = ?", (id,)).get
                return Counter(highest) if highest is not None else None
            case "acqs_of":
                found = db.execute(
                    "SELECT node_id FROM nodes WHERE parent_id = ? AND kind = 'acq' ORDER BY n", (id,)
                )
                return [_node(db, str(acq_id)) for (acq_id,) in found.fetchall()]
            case "nested":
                return self._nested(id)
            case "key":
                row = db.execute("SELECT fingerprint, result FROM keys WHERE key = ?", (id,)).fetchone()
                return Remembered(*row) if row else None
            case _:
                raise ValueError(table)

    def _nested(self, acq_id: str) -> str | None:
        parts = acq_id.split("/")
        around = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        marks = ",".join("?" * len(around))
        sql = f"SELECT node_id FROM nodes WHERE node_id IN ({marks}) AND kind = 'acq'"  # noqa: S608  marks only
        found = self._db.execute(sql, around).get
        if found is None:
            # "0" is the character after "/": the range is everything below.
            sql = "SELECT node_id FROM nodes WHERE node_id > ? AND node_id < ? AND kind = 'acq' LIMIT 1"
            found = self._db.execute(sql, (f"{acq_id}/", f"{acq_id}0")).get
        return str(found) if found is not None else None
