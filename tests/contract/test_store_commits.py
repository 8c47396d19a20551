"""A commit that fails: rolled back for certain, or of unknown outcome, and nothing in between (promise R3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from storage_protocol import commands as c
from storage_service.desk.batch import Batch, Journal
from storage_service.rules.state import State
from storage_service.store import sqlite
from storage_service.store.interface import Committed, NotWrittenError, UnknownOutcomeError
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, START, StepShell, close, config, init, new_acq, new_run

TABLES = [
    "journal",
    "topics",
    "storages",
    "nodes",
    "params",
    "search",
    "conversions",
    "counters",
    "intents",
    "keys",
]
ACQ = "root/g/r1/a"
LIFE = [
    init(),
    config(),
    new_run(run_name="r{n}", params={"x": 1}),
    new_acq(run_name="r1", params={"x": 2, "y": "two"}, convert_script="convert"),
    c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=3),
    close(ACQ),
    c.RegisterProducer(storage_id="s"),
]


class FaultyStore(SqliteStore):
    """Once, on the first row that is inserted into a table, the database says no. The fault is over then."""

    not_written: list[str]

    def break_once(self, table: str) -> None:
        self.not_written = []
        abort = "BEGIN SELECT raise(ABORT, 'the table is full'); END"
        other(self, f"CREATE TRIGGER fault BEFORE INSERT ON {table} {abort}")

    def commit(self, batch: Batch, wall: float) -> Committed:
        before = self.dump()
        try:
            return super().commit(batch, wall)
        except NotWrittenError as error:
            assert self.dump() == before, "rolled back, and not whole"
            self.not_written.append(str(error))
            other(self, "DROP TRIGGER fault")
            raise


def other(store: SqliteStore, sql: str) -> None:
    """What another program does to the database."""
    db = apsw.Connection(str(store.database))
    db.execute(sql)
    db.close()


def batch(*keys: str) -> Batch:
    made = Batch(1, State(PLACES), Journal())
    made.keys += [(key, b"fingerprint", b"result") for key in keys]
    return made


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_not_taken_leaves_nothing_and_the_next_commit_works(tmp_path: Path, table: str) -> None:
    store = FaultyStore(tmp_path, PLACES)
    store.break_once(table)
    shell = StepShell(store=store)
    refused = 0
    for n, command in enumerate(LIFE):
        reply = shell.call(command, f"key {n}")
        if not reply.ok:
            assert (reply.error.code, "the table is full" in reply.error.message) == ("unavailable", True)
            refused += 1
            reply = shell.call(command, f"key {n}")
        assert reply.ok, reply
    assert len(store.not_written) == 1
    assert refused <= 1  # what the service does by itself is tried again by itself
    for conversion_id in list(shell.scripts):
        shell.end(conversion_id)
    shell.sound()
    acq = store.record(("node", ACQ))
    assert (acq.params, acq.sealed, acq.conversion) == ({"x": 3, "y": "two"}, True, "succeeded")
    assert store.record(("storage", "s")).producers_unnamed == 1
    before = store.everything()
    shell.restart().sound()
    assert store.everything() == before
    store.close()


@pytest.mark.parametrize("keys", [["new", "there"], ["new", "twice", "twice"]])
def test_a_key_that_is_there_already_is_not_written_a_second_time(
    sqlite_store: SqliteStore, keys: list[str]
) -> None:
    sqlite_store.commit(batch("there"), START)
    before = sqlite_store.dump()
    with pytest.raises(NotWrittenError, match="UNIQUE"):
        sqlite_store.commit(batch(*keys), START)
    assert sqlite_store.dump() == before
    sqlite_store.commit(batch("new", "twice"), START)
    assert list(sqlite_store.keys) == ["there", "new", "twice"]


def test_a_defect_is_told_as_what_it_is_and_leaves_nothing(sqlite_store: SqliteStore) -> None:
    before, broken = sqlite_store.dump(), batch("good")
    nothing: Any = object()
    broken.keys.append((nothing, b"", b""))
    with pytest.raises(TypeError):
        sqlite_store.commit(broken, START)
    assert sqlite_store.dump() == before
    sqlite_store.commit(batch("good"), START)
    assert list(sqlite_store.keys) == ["good"]


def test_times_of_keys_that_were_not_written_are_not_remembered(sqlite_store: SqliteStore) -> None:
    sqlite_store.commit(batch("there"), START)
    lost = batch("there")
    lost.newest_key_ms, lost.expire_keys_before = 5_000_000, START + 1
    with pytest.raises(NotWrittenError):
        sqlite_store.commit(lost, START)
    for _ in range(2):
        assert (sqlite_store.newest_key_ms, sqlite_store.forgotten_ms) == (0, 0)
        sqlite_store.reopen()
    kept = batch()
    kept.newest_key_ms = 5_000_000
    sqlite_store.commit(kept, START)
    sqlite_store.reopen()
    assert sqlite_store.newest_key_ms >= 5_000_000


def test_a_database_that_another_program_holds_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 20)
    store = SqliteStore(tmp_path, PLACES)
    holder = apsw.Connection(str(store.database))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotWrittenError, match="does not begin"):
        store.commit(batch("key"), START)
    holder.close()
    store.commit(batch("key"), START)
    assert list(store.keys) == ["key"]
    store.close()


def test_a_database_that_takes_nothing_is_not_asked_without_a_pause(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: SqliteStore
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    sqlite_store.commit(batch("there"), START)
    for _ in range(7):
        with pytest.raises(NotWrittenError):
            sqlite_store.commit(batch("there"), START)
    for n in range(2):
        sqlite_store.commit(batch(f"new {n}"), START)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


# COMMIT itself


def test_a_commit_that_is_refused_is_of_unknown_outcome(sqlite_store: SqliteStore) -> None:
    nowhere = "CREATE TABLE nowhere (n INTEGER PRIMARY KEY REFERENCES nowhere (n) DEFERRABLE INITIALLY DEFERRED"
    other(sqlite_store, f"{nowhere}, next INTEGER REFERENCES nowhere (n) DEFERRABLE INITIALLY DEFERRED)")
    insert = "INSERT INTO nowhere VALUES (new.id, -1)"
    other(sqlite_store, f"CREATE TRIGGER fault AFTER INSERT ON keys BEGIN {insert}; END")
    with pytest.raises(UnknownOutcomeError, match="FOREIGN KEY"):
        sqlite_store.commit(batch("key"), START)


class Disk(apsw.VFS):
    """The disk, on which so many things of a kind go well with the log file, and the one after fails, once.

    The kinds: `write`; `head` and `page` of the frame that makes a transaction valid, which COMMIT writes; `sync`
    of the log's head, when it begins anew; `commit`, the sync that a COMMIT waits for.
    """

    def __init__(self) -> None:
        self.real = apsw.vfs_names()[0]
        super().__init__("a disk that fails", self.real, makedefault=True)
        self.what = ""
        self.left = 0

    def fail(self, what: str, after: int = 0) -> None:
        self.what, self.left = what, after

    def meet(self, what: str) -> None:
        if what == self.what:
            self.left -= 1
            if self.left < 0:
                self.what = ""
                raise apsw.FullError("no space") if what in ("write", "head", "page") else apsw.IOError("no sync")

    def xOpen(self, name: Any, flags: Any) -> DiskFile:
        return DiskFile(self, name, flags)


FRAME_HEAD = 24


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: Any) -> None:
        super().__init__(disk.real, name, flags)
        self._disk = disk
        self._is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        self._ends = False

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._is_log:
            is_head = len(data) == FRAME_HEAD
            if is_head:
                # The size of the database after a commit; 0 in all frames but the last.
                self._ends = data[4:8] != bytes(4)
            self._disk.meet("write")
            if self._ends:
                self._disk.meet("head" if is_head else "page")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._is_log:
            self._disk.meet("commit" if self._ends else "sync")
            self._ends = False
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.unregister()


@pytest.fixture
def store_on_disk(tmp_path: Path, disk: Disk) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path, PLACES)
    yield store
    store.close()


BEFORE_COMMIT = [
    # (what, those that go well before, commands before)
    ("write", 0, 0),  # the log's head
    ("write", 1, 0),
    ("write", 5, 0),
    ("write", 0, 3),
    ("write", 5, 3),
    ("sync", 0, 0),
]


@pytest.mark.parametrize(("what", "well", "earlier"), BEFORE_COMMIT)
def test_a_disk_that_fails_before_the_commit_leaves_nothing_and_the_next_commit_works(
    store_on_disk: SqliteStore, disk: Disk, what: str, well: int, earlier: int
) -> None:
    store = store_on_disk
    shell = StepShell(store=store)
    for n in range(earlier):
        shell.must(init(f"before{n}"))
    before, seqs = store.everything(), shell.seqs()
    disk.fail(what, well)
    sent = shell.send((init("s"), "k"), init("t"))
    shell.run()
    assert (disk.what, shell.told(sent)) == ("", ["unavailable", "unavailable"])
    shell.sound()
    assert (store.everything(), shell.seqs()) == (before, seqs)
    assert shell.call(init("s"), "k").ok
    shell.sound()
    shell.restart().sound()
    assert shell.seqs() == [*seqs, len(seqs) + 1]


AT_COMMIT = [
    # (what, commands before, whether the batch is lost)
    ("head", 0, True),
    ("page", 0, True),
    ("page", 3, True),
    ("commit", 0, False),  # all of it was written
    ("commit", 3, False),
]


@pytest.mark.parametrize(("what", "earlier", "lost"), AT_COMMIT)
def test_a_disk_that_fails_a_commit_leaves_all_of_it_or_nothing(
    store_on_disk: SqliteStore, disk: Disk, what: str, earlier: int, lost: bool
) -> None:
    store = store_on_disk
    shell = StepShell(store=store)
    for n in range(earlier):
        shell.must(init(f"before{n}"))
    shell.hold_commits = True
    sent = shell.send(init("s"), init("t"))
    shell.run()
    before, seqs = store.everything(), shell.seqs()
    disk.fail(what)
    with pytest.raises(UnknownOutcomeError):
        shell.commit()
    assert (disk.what, shell.run().told(sent)) == ("", ["", ""])
    # The next life, on the same files: the disk is well again.
    shell.restart().sound()
    assert (store.everything() == before) == lost
    assert lost or {key[1] for key in store.everything()} - {key[1] for key in before} == {"s", "t"}
    assert shell.seqs() == (seqs if lost else [*seqs, len(seqs) + 1, len(seqs) + 2])
    shell.must(init("s"), init("t"), config("s")).sound()
