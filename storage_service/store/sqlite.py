"""The store in SQLite: the one read-write connection, which alone commits and checkpoints.

A batch is one transaction in WAL mode with `synchronous=FULL`: when `commit` returns, it is on the disk. Rows go
in as few, large statements: each statement takes and gives back the interpreter lock, which the loop needs.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw

from storage_protocol.keys import uuid7_ms

from ..desk.batch import Batch
from ..desk.keyring import AHEAD_S, may_be_forgotten
from ..failpoints import passing
from ..rules.state import Conversion, Counter, Storage
from .dated import newest_and_ahead
from .inserting import insert
from .interface import Committed, NotWrittenError, Snapshot, StoreError, UnknownOutcomeError
from .lookups import read_node
from .migrate import migrate, refuse_newer
from .node_rows import write_nodes
from .opening import cannot_open, write_log_again
from .pruning import Pruning
from .rows import (
    decode_book,
    decode_chain,
    decode_conversion,
    decode_due,
    decode_intent,
    decode_owed,
    decode_storage,
    encode,
    value_row,
)

EXPIRE_AT_ONCE = 1000
# The time of the newest key is stored a second ahead, so that it is written once a second and not in every commit:
# after a restart the keys of that second are looked up, which is always right.
KEY_AHEAD_MS = 1000
BUSY_MS = 5000
# The write-ahead log is taken up when it has so many pages of 4 KiB: each time costs two syncs.
CHECKPOINT_PAGES = 1000
# After a transaction was rolled back the next one waits, twice as long each time: what has to be done is tried
# again and again, and a disk that takes nothing must not be asked without a pause.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0


class SqliteWriter:
    """The read-write connection. The state folder must be locked by this process.

    Raises StoreError when the database cannot be opened, or is from a newer version, and StoreFaultError when that
    may pass.
    """

    def __init__(self, database: Path) -> None:
        try:
            self._db = apsw.Connection(str(database))
        except apsw.Error as error:
            raise cannot_open(database, error) from None
        try:
            self._set_up(database)
        except (apsw.Error, OSError) as error:
            self._db.close()
            raise cannot_open(database, error) from None
        except StoreError:
            self._db.close()
            raise

    def _set_up(self, database: Path) -> None:
        self._db.set_busy_timeout(BUSY_MS)
        # Looked at before anything is written, and nothing is at the close: the database of a newer service stays.
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        refuse_newer(self._db, str(database))
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        write_log_again(Path(f"{database}-wal"))
        passing("store.opened")
        mode = self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "full")
        self._db.pragma("foreign_keys", True)
        self._db.pragma("temp_store", "memory")
        self._pause_s = 0.0
        if mode != "wal" or self._db.pragma("synchronous") != 2:
            raise StoreError(f"The database {database} does not keep WAL and synchronous=FULL; it has {mode}.")
        migrate(self._db, str(database))
        self._newest_key_ms = int(self._meta("newest_key_ms", "0"))
        self._forgotten_ms = int(self._meta("forgotten_ms", "0"))
        self._key_clock = _clock(self._meta("key_clock", "0 0"))
        self.journal_id = self._meta("journal_id", str(uuid4()))
        self._pruning = Pruning(self._db)
        self._log_pages = 0
        self.checkpoint_pages = CHECKPOINT_PAGES
        # In place of SQLite's own checkpoints, which would be part of a commit: see `tidy`.
        self._db.set_wal_hook(self._logged)
        passing("store.ready")

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
        nodes = [node for id in ids if (node := read_node(db, id)) is not None]
        newest_key_ms, keys_ahead = newest_and_ahead(db, self._newest_key_ms)
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
            newest_key_ms=newest_key_ms,
            forgotten_ms=self._forgotten_ms,
            keys_ahead=keys_ahead,
            key_clock=self._key_clock,
            chains=[decode_chain(record) for (record,) in db.execute("SELECT record FROM chains")],
            dues=dues,
            books=[decode_book(record) for (record,) in db.execute("SELECT record FROM books")],
            owed=[decode_owed(record) for (record,) in db.execute("SELECT record FROM owed ORDER BY n")],
        )

    def commit(self, batch: Batch, key_date: float) -> Committed:
        """Make a batch durable; `key_date` (seconds) is the date of its keys. One thread at a time.

        Raises NotWrittenError when it was rolled back, UnknownOutcomeError when nobody can tell.
        """
        if self._pause_s:  # a sleep of nothing gives the processor away
            time.sleep(self._pause_s)
        self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LAST_PAUSE_S)
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise NotWrittenError(f"the database does not begin a transaction: {_said(error)}") from error
        passing("store.begun")
        try:
            committed = self._write(batch, key_date)
            # All pages but one go into the log now. A full or broken disk says so here, where it can be rolled
            # back; said at the COMMIT it would leave nothing but to end the process.
            self._db.cache_flush()
        except apsw.Error as error:
            self._roll_back(error)
            raise NotWrittenError(f"the database does not take the rows: {_said(error)}") from error
        except BaseException as error:
            self._roll_back(error)
            raise
        passing("store.written")
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            raise UnknownOutcomeError(_said(error)) from error
        passing("store.committed")
        self._pause_s = 0.0
        self._pruning.committed()
        if batch.newest_key_ms > self._newest_key_ms:
            self._newest_key_ms = batch.newest_key_ms + KEY_AHEAD_MS
        self._forgotten_ms = max(self._forgotten_ms, committed.forgotten_ms)
        self._key_clock = batch.key_clock or self._key_clock
        return committed

    def _logged(self, db: apsw.Connection, name: str, pages: int) -> int:
        """After each commit: so many pages are in the write-ahead log."""
        self._log_pages = pages
        return apsw.SQLITE_OK

    def tidy(self) -> bool:
        """Between the commits: take the log up into the database when it is long enough, and delete some rows of
        events that were given up. Whether there may be more to delete.

        Raises UnknownOutcomeError when the disk fails at that."""
        if self._log_pages >= self.checkpoint_pages:
            self._log_pages = 0
            passing("tidy.checkpoint")
            # One that fails loses nothing: the log stays, and the next one takes it up.
            with suppress(apsw.Error):
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            passing("tidy.checkpointed")
        if self._pruning.has_rows:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                passing("tidy.prune")
                self._pruning.bite()
                self._db.execute("COMMIT")
            except apsw.Error as error:
                # Tried again after the next commit; a disk that fails is met there.
                self._roll_back(error)
                return False
            passing("tidy.pruned")
        return self._pruning.has_rows

    def _roll_back(self, why: BaseException) -> None:
        self._pruning.rolled_back()
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error as error:
            raise UnknownOutcomeError(f"{why}; and the roll-back failed: {error}") from error

    def _write(self, batch: Batch, key_date: float) -> Committed:
        rows = [(row.seq, row.topic, row.subject, row.body, row.fact) for row in batch.rows]
        insert(self._db, "INSERT INTO journal VALUES ", rows)
        upsert = " ON CONFLICT (topic) DO UPDATE SET seq = excluded.seq"
        insert(self._db, "INSERT INTO topics VALUES ", list(batch.topics().items()), upsert)
        if batch.rows:
            self._pruning.note(key_date, batch.rows[0].seq - 1)
        if batch.prune_before or batch.expire_events_before is not None:
            self._pruning.give_up(batch.prune_before, batch.expire_events_before)
        write_nodes(self._db, batch)
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
                case "book" | "owed" | "page":
                    forget, put = _LOGBOOK_ROWS[table]
                    self._db.execute(*(forget, (id,)) if record is None else (put, (id, encode(record))))
                case "counter" if isinstance(record, Counter):
                    sql = "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET highest = excluded.highest"
                    self._db.execute(sql, (id, record.highest))
        variables = [(each.ns, each.name, *value_row(each.value)) for each in batch.registers.values()]
        upsert = " ON CONFLICT (ns, name) DO UPDATE SET class = excluded.class, value = excluded.value"
        insert(self._db, "INSERT INTO variables VALUES ", variables, upsert)
        self._write_documents(batch)
        for intent_id, intent in batch.intents.items():
            self._db.execute("DELETE FROM intents WHERE intent_id = ?", (intent_id,))
            if intent is not None:
                sql = "INSERT INTO intents (intent_id, intent) VALUES (?, ?)"
                self._db.execute(sql, (intent_id, encode(intent)))
        return self._write_keys(batch, key_date)

    def _write_documents(self, batch: Batch) -> None:
        for digest, content in batch.documents.items():
            self._db.execute("INSERT INTO documents VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, content))
        if batch.forgets_documents:
            kept = json.dumps(sorted(batch.documents_kept))
            sql = "DELETE FROM documents WHERE blake3 NOT IN (SELECT value FROM json_each(?))"
            self._db.execute(sql, (kept,))

    def _write_keys(self, batch: Batch, key_date: float) -> Committed:
        rows = [(key, fingerprint, key_date, result) for key, fingerprint, result in batch.keys]
        insert(self._db, "INSERT INTO keys (key, fingerprint, at, result) VALUES ", rows)
        if batch.newest_key_ms > self._newest_key_ms:
            self._set_meta("newest_key_ms", batch.newest_key_ms + KEY_AHEAD_MS)
        if batch.key_clock is not None:
            self._set_meta("key_clock", "{!r} {!r}".format(*batch.key_clock))
        before = batch.expire_keys_before
        return Committed() if before is None else self._expire(before, batch.forget_up_to_ms, key_date)

    def _expire(self, before: float, up_to_ms: int, key_date: float) -> Committed:
        """Forget a bite of the keys stored before a date. Those that may not go yet are stored anew, at the end of
        the queue; so are those whose date is still to come: neither holds up the others."""
        due = self._db.execute(
            "DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id LIMIT ?) AND (at < ? OR at > ?)"
            " RETURNING key, fingerprint, at, result",
            (EXPIRE_AT_ONCE, before, key_date + AHEAD_S),
        ).fetchall()
        stay = [row for row in due if float(str(row[2])) >= before or not may_be_forgotten(str(row[0]), up_to_ms)]
        rows = [(key, fingerprint, key_date, result) for key, fingerprint, _, result in stay]
        insert(self._db, "INSERT INTO keys (key, fingerprint, at, result) VALUES ", rows)
        kept = {row[0] for row in stay}
        forgotten = max((uuid7_ms(str(row[0])) or 0 for row in due if row[0] not in kept), default=0)
        if forgotten > self._forgotten_ms:
            self._set_meta("forgotten_ms", forgotten)
        return Committed(len(due), forgotten)

    def _set_meta(self, name: str, value: int | str) -> None:
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


def _clock(stored: str) -> tuple[float, float]:
    at, wall = stored.split()
    return float(at), float(wall)


def _said(error: apsw.Error) -> str:
    """What the database said; a flush that fails leaves no text of its own."""
    if str(error) != "not an error":
        return str(error)
    return "database or disk is full" if isinstance(error, apsw.FullError) else "disk I/O error"


_PUT_DUE = "INSERT INTO dues (acq_id, record) VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
_PUT_CHAIN = "INSERT INTO chains VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
# Of each table of logbooks: how a row goes, and how one is put.
_LOGBOOK_ROWS = {
    "book": (
        "DELETE FROM books WHERE storage_id = ?",
        "INSERT INTO books VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
    ),
    "owed": (
        "DELETE FROM owed WHERE id = ?",
        "INSERT INTO owed (id, record) VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
    ),
    "page": (
        "DELETE FROM pages WHERE key = ?",
        "INSERT INTO pages VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
    ),
}
