"""The database as it is opened: its version, its pragmas, what is refused and left as it is (promise R12)."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from storage_service.desk.batch import Batch, Journal
from storage_service.rules.facts import AcqSealed
from storage_service.rules.state import State
from storage_service.store import migrate, rows, sqlite
from storage_service.store.interface import StoreError, StoreFaultError
from storage_service.store.lookups import ANY_BELOW, SqliteLookups
from storage_service.store.sqlite import SqliteWriter
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, START, with_acq

NEWEST = migrate.migrations()[-1][0]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "storage.db"


def version(database: Path) -> int:
    db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    found = int(db.pragma("user_version"))
    db.close()
    return found


def a_key() -> Batch:
    batch = Batch(1, State(PLACES), Journal())
    batch.keys.append(("key", b"", b""))
    return batch


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_fresh_database_has_the_newest_version(database: Path) -> None:
    SqliteWriter(database).close()
    assert version(database) == NEWEST


def test_the_versions_are_numbered_without_holes() -> None:
    assert [number for number, _ in migrate.migrations()] == list(range(1, NEWEST + 1))


def test_opening_again_changes_nothing(database: Path) -> None:
    writer = SqliteWriter(database)
    first = writer.snapshot()
    writer.close()
    before = database.read_bytes()
    for _ in range(2):
        writer = SqliteWriter(database)
        assert (writer.snapshot(), writer.journal_id) == (first, first.journal_id)
        writer.close()
    assert database.read_bytes() == before


def test_opening_a_used_database_again_changes_no_row(sqlite_store: SqliteStore) -> None:
    with_acq(store=sqlite_store, convert_script="convert")
    before = sqlite_store.dump()
    assert before["nodes"]
    for _ in range(2):
        sqlite_store.reopen()
        assert sqlite_store.dump() == before


def test_each_journal_has_its_own_id(tmp_path: Path) -> None:
    ids = []
    for name in ("one", "two"):
        writer = SqliteWriter(tmp_path / name)
        ids.append(writer.journal_id)
        writer.close()
    assert len(set(ids)) == 2


def test_the_pragmas_that_keep_promises_are_on(database: Path) -> None:
    writer = SqliteWriter(database)
    db = writer._db
    assert [db.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]
    writer.close()


def test_a_database_that_cannot_keep_them_is_refused() -> None:
    with pytest.raises(StoreError, match="does not keep WAL"):
        SqliteWriter(Path(":memory:"))


# Migrations

ADD = (NEWEST + 1, "CREATE TABLE added (n INTEGER PRIMARY KEY) STRICT; INSERT INTO added VALUES (7);")
BAD = (NEWEST + 2, "CREATE TABLE half (n INTEGER PRIMARY KEY) STRICT; INSERT INTO nowhere VALUES (1);")


def tables(database: Path) -> set[str]:
    db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    found = {str(name) for (name,) in db.execute("SELECT name FROM sqlite_schema").fetchall()}
    db.close()
    return found


def test_an_older_database_is_brought_to_the_newest_version_with_its_rows(
    monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    writer = SqliteWriter(database)
    writer.commit(a_key(), START)
    id = writer.journal_id
    writer.close()
    steps = [*migrate.migrations(), ADD]
    monkeypatch.setattr(migrate, "migrations", lambda: steps)
    for _ in range(2):
        writer = SqliteWriter(database)
        assert writer.journal_id == id
        writer.close()
    assert (version(database), "added" in tables(database)) == (NEWEST + 1, True)
    lookups = SqliteLookups(database)
    ((_, found),) = lookups.look_up([("key", "key")])
    lookups.close()
    assert found is not None


def test_a_migration_that_fails_is_taken_back_whole(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    SqliteWriter(database).close()
    steps = [*migrate.migrations(), ADD, BAD]
    monkeypatch.setattr(migrate, "migrations", lambda: steps)
    with pytest.raises(StoreError, match="nowhere"):
        SqliteWriter(database)
    assert version(database) == NEWEST + 1
    assert ("added" in tables(database), "half" in tables(database)) == (True, False)


# A log that was left


def test_a_log_that_was_left_is_written_again_and_synced_before_anything_is_read_from_it(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    with_acq(store=sqlite_store)
    left = tmp_path / "left"
    shutil.copytree(sqlite_store.database.parent, left)
    log = left / "storage.db-wal"
    before, wrote, synced = log.read_bytes(), bytearray(), list[str]()
    pwrite = os.pwrite

    def write(fd: int, data: bytes, at: int) -> int:
        assert (os.readlink(f"/proc/self/fd/{fd}"), at) == (str(log), len(wrote))
        some = data[:5000]  # a write may be of a part
        wrote.extend(some)
        return pwrite(fd, some, at)

    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    writer = SqliteWriter(left / "storage.db")
    assert (len(before) > 5000, bytes(wrote), synced) == (True, before, [str(log)])
    writer.close()


def test_a_log_that_cannot_be_written_again_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    with_acq(store=sqlite_store)
    left = tmp_path / "left"
    shutil.copytree(sqlite_store.database.parent, left)

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreFaultError, match="Input/output error"):
        SqliteWriter(left / "storage.db")


# A newer service's database, and what is none


@pytest.fixture
def newer(database: Path) -> Iterator[apsw.Connection]:
    """A database that a service two versions ahead is through with, and a connection to it."""
    SqliteWriter(database).close()
    db = apsw.Connection(str(database))
    db.pragma("user_version", NEWEST + 2)
    db.execute("CREATE TABLE future (n INTEGER)")
    yield db
    db.close()


def refused_as_newer(database: Path) -> None:
    with pytest.raises(StoreError) as refused:
        SqliteWriter(database)
    told = str(refused.value)
    assert (f"version {NEWEST + 2}," in told, f"up to {NEWEST}." in told, str(database) in told) == (True,) * 3


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_newer_database_is_refused_and_left_as_it_is(
    tmp_path: Path, database: Path, newer: apsw.Connection, mode: str
) -> None:
    assert newer.pragma("journal_mode", mode) == mode
    newer.close()
    before = files(tmp_path)
    refused_as_newer(database)
    gc.collect()
    after = files(tmp_path)
    assert (after["storage.db"], after.get("storage.db-wal", b"")) == (before["storage.db"], b"")


def test_what_a_killed_newer_service_left_is_refused_and_left_as_it_is(
    tmp_path: Path, database: Path, newer: apsw.Connection
) -> None:
    newer.execute("INSERT INTO future VALUES (1)")
    left = tmp_path / "left"
    left.mkdir()
    for name in ("storage.db", "storage.db-wal"):
        shutil.copy(tmp_path / name, left / name)
    before = files(left)
    assert before["storage.db-wal"]
    refused_as_newer(left / "storage.db")
    gc.collect()
    after = files(left)
    assert (after["storage.db"], after.get("storage.db-wal")) == (before["storage.db"], before["storage.db-wal"])


def test_a_refused_database_is_let_go(
    monkeypatch: pytest.MonkeyPatch, database: Path, newer: apsw.Connection
) -> None:
    newer.close()
    with pytest.raises(StoreError) as refused:
        SqliteWriter(database)
    # The exception is still held, and with it the frames that it went through.
    assert refused.value.__traceback__ is not None
    assert [each for each in apsw.connections() if each.filename == str(database)] == []


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(database: Path) -> None:
    database.write_bytes(b"no database at all, " * 100)
    before = database.read_bytes()
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteWriter(database)
    assert database.read_bytes() == before


def test_a_database_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened") as refused:
        SqliteWriter(tmp_path / "nowhere" / "storage.db")
    assert not isinstance(refused.value, StoreFaultError)


def test_a_database_that_another_program_holds_is_refused(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 20)
    SqliteWriter(database).close()
    other = apsw.Connection(str(database))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFaultError, match="cannot be opened"):
        SqliteWriter(database)
    other.close()
    SqliteWriter(database).close()


def test_what_an_older_service_wrote_has_no_manifests() -> None:
    acq = with_acq().record(("node", "root/g/r/a"))
    older = msgspec.msgpack.decode(rows.encode_node(acq))
    del older["manifest"], older["manifests"]
    found = rows.decode_node(rows.encode(older), {})
    assert found == acq
    assert (found.manifest, found.manifests) == ("off", ())
    sealed = rows.decode_fact(rows.encode({"type": "acquisition.sealed", "acq_id": acq.node_id}))
    assert sealed == AcqSealed(acq.node_id, "off")


def test_what_lies_inside_an_acquisition_is_looked_up_by_its_id_and_not_among_all(tmp_path: Path) -> None:
    SqliteWriter(tmp_path / "storage.db").close()
    plan = apsw.Connection(str(tmp_path / "storage.db")).execute(f"EXPLAIN QUERY PLAN {ANY_BELOW}", ("a/", "a0"))
    assert [row[-1] for row in plan] == [
        "SEARCH nodes USING INDEX sqlite_autoindex_nodes_1 (node_id>? AND node_id<?)"
    ]
