"""The spool: a file of commands that wait for the service, in their order, each with its key (SPEC 5).

It is an SQLite database. What `put` has returned is synced. One client has it open, and all that is done to it is
done in one thread of its own, so the event loop never waits for the disk. A lock file beside it says whose it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from storage_protocol import times

from .errors import SpoolError, SpoolInUseError

T = TypeVar("T")

_VERSION = 1
_SCHEMA = """
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cmd TEXT NOT NULL,
    args BLOB NOT NULL,
    key TEXT NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE refused (
    id INTEGER PRIMARY KEY,
    cmd TEXT NOT NULL,
    args BLOB NOT NULL,
    key TEXT NOT NULL,
    since REAL NOT NULL,
    refused_at REAL NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    details BLOB NOT NULL
);
"""
_WAITING = "SELECT id, cmd, args, key, since FROM waiting ORDER BY id LIMIT ?"
_REFUSED = (
    "SELECT id, cmd, args, key, since, refused_at, code, message, details FROM refused ORDER BY refused_at, id"
)
_EVERY = -1

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class Spooled(Struct, frozen=True):
    """A command that waits in the spool: it is on the disk, and will be asked with this key until it is answered.

    id     its place in the spool; ids grow and never come again
    since  when it was put there, RFC 3339, by this machine's clock
    """

    id: int
    cmd: str
    args: dict[str, Any]
    key: str
    since: str


class Refused(Struct, frozen=True):
    """A command that waited in the spool, and to which the service then said no. Times are RFC 3339."""

    id: int
    cmd: str
    args: dict[str, Any]
    key: str
    since: str
    refused_at: str
    code: str
    message: str
    details: dict[str, Any]


class Draft(Struct, frozen=True):
    """A command before it is in the spool."""

    cmd: str
    args: dict[str, Any]
    key: str


class Spool:
    """The file, as its one writer. Every method raises SpoolError when the file fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._lock = -1
        self._database: sqlite3.Connection | None = None

    async def open(self) -> int:
        """Open the file, made new if there is none; how many commands wait in it. Raises SpoolInUseError."""
        try:
            return await self._do(self._open)
        except SpoolError:
            await self._do(self._close)
            raise

    async def close(self) -> None:
        """Give the file free. What waits in it stays there."""
        await self._do(self._close)
        self._thread.shutdown(wait=False)

    async def put(self, drafts: Iterable[Draft]) -> list[Spooled]:
        """Append commands, all or none, synced when this returns."""
        return await self._do(partial(self._put, list(drafts)))

    async def first(self, count: int) -> list[Spooled]:
        """The commands that have waited longest."""
        return await self._do(lambda: _waiting(self._open_database(), count))

    async def waiting(self) -> list[Spooled]:
        """All that wait, in their order."""
        return await self.first(_EVERY)

    async def refused(self) -> list[Refused]:
        """All that were refused and not forgotten yet."""
        return await self._do(lambda: _refused(self._open_database()))

    async def settle(self, answered: Iterable[int], refusal: Refused | None = None) -> None:
        """Forget what was answered, and keep what was refused as refused."""
        await self._do(partial(self._settle, list(answered), refusal))

    async def forget_refused(self, id: int) -> bool:
        """Forget one that was refused. False when there is none of this id."""
        return await self._do(partial(self._forget, id))

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            raise SpoolError(f"The spool file {self.path} fails: {error}.") from None

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise SpoolError(f"The spool file {self.path} is not open.")
        return self._database

    def _open(self) -> int:
        self._lock = _lock(self.path)
        database = self._database = sqlite3.connect(self.path, isolation_level=None)
        _check_version(database, self.path)
        [mode] = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise SpoolError(f"The spool file {self.path} must lie in a local file system.")
        database.execute("PRAGMA synchronous = FULL")
        if _version(database) == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        [count] = database.execute("SELECT count(*) FROM waiting").fetchone()
        return int(count)

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def _put(self, drafts: list[Draft]) -> list[Spooled]:
        database, now = self._open_database(), time.time()
        with _Transaction(database):
            ids = [
                database.execute(
                    "INSERT INTO waiting (cmd, args, key, since) VALUES (?, ?, ?, ?)",
                    (draft.cmd, _encode(draft.args), draft.key, now),
                ).lastrowid
                for draft in drafts
            ]
        since = times.to_wire(now)
        return [
            Spooled(id or 0, draft.cmd, draft.args, draft.key, since)
            for id, draft in zip(ids, drafts, strict=True)
        ]

    def _settle(self, answered: list[int], refusal: Refused | None) -> None:
        database = self._open_database()
        with _Transaction(database):
            if refusal is not None:
                at = times.from_wire(refusal.refused_at)
                database.execute(
                    "INSERT INTO refused SELECT id, cmd, args, key, since, ?, ?, ?, ? FROM waiting WHERE id = ?",
                    (at, refusal.code, refusal.message, _encode(refusal.details), refusal.id),
                )
                answered = [*answered, refusal.id]
            database.executemany("DELETE FROM waiting WHERE id = ?", [(id,) for id in answered])

    def _forget(self, id: int) -> bool:
        return self._open_database().execute("DELETE FROM refused WHERE id = ?", (id,)).rowcount > 0


class _Transaction:
    """`with` a transaction: all of it, or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *more: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def read_spool(path: Path) -> tuple[list[Spooled], list[Refused]]:
    """What waits in a spool file and what was refused, also while a client has it open. Raises SpoolError."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            _check_version(database, path)
            if _version(database) == 0:
                raise SpoolError(f"{path} is no spool file.")
            return _waiting(database, _EVERY), _refused(database)
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
        raise SpoolError(f"The spool file {path} cannot be read: {error}.") from None


def _lock(path: Path) -> int:
    """The descriptor that holds the lock of a spool file: it ends with the process, however that ends."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        message = f"The spool file {path} is in use by process {holder}: each client needs a spool of its own."
        raise SpoolInUseError(message, {"path": str(path), "process": holder}) from None
    except OSError:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    version = _version(database)
    [tables] = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version > _VERSION or (version == 0 and tables):
        raise SpoolError(f"{path} is no spool file that this version can use.", {"version": version})


def _waiting(database: sqlite3.Connection, count: int) -> list[Spooled]:
    return [
        Spooled(id, cmd, _decode(args), key, times.to_wire(since))
        for id, cmd, args, key, since in database.execute(_WAITING, (count,))
    ]


def _refused(database: sqlite3.Connection) -> list[Refused]:
    return [
        Refused(
            id, cmd, _decode(args), key, times.to_wire(since), times.to_wire(at), code, message, _decode(details)
        )
        for id, cmd, args, key, since, at, code, message, details in database.execute(_REFUSED)
    ]
