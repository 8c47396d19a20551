"""A disk for SQLite that can lose its power: what was written and what was synced are kept apart.

    disk = CrashDisk(Random(1))
    disk.arm(7)             the power goes at the 7th thing that happens to a file from now on
    files = disk.left       what is found on the disk afterwards, by path; None as long as the power is there

The file system below goes on as if nothing had happened, as a page cache does: a test stops when `left` is there,
and begins again with those files elsewhere. What a real disk may do is done at random:

- what was written and not synced is kept, lost, or torn: sector by sector, in any order, or up to a point;
- a file that grew may have grown without its content: zeros, or what lay there before;
- a file that was made, or deleted, is so for certain once its folder was synced. SQLite does that with the first
  sync of a log or journal, and where it deletes one and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512
_OWN_FOLDER = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_numbers = itertools.count(1)

Write = tuple[int, bytes]


class Inode:
    """A file without its name: what is on the disk for certain, and what was done since, in order.

    An entry of `pending` is a write, or the size that the file was cut to.
    """

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = bytearray(synced)
        self.pending: list[Write | int] = []

    def sync(self) -> None:
        for each in self.pending:
            _do(self.synced, each)
        self.pending.clear()

    def after_power_loss(self, random: Random) -> bytes:
        """What may be left of it."""
        found = bytearray(self.synced)
        how = random.choice(["none", "all", "up to", "any", "any", "torn"])
        end = random.randrange(len(self.pending) + 1)
        keep = random.choice([0.1, 0.5, 0.9])
        for at, each in enumerate(self.pending):
            if how == "none" or (how == "up to" and at > end):
                break
            if isinstance(each, int):
                if how == "all" or at < end or random.random() < keep:
                    _do(found, each)
            elif how == "torn" or (how == "up to" and at == end):
                _tear(found, each, random, keep)
            elif how != "any" or random.random() < keep:
                _do(found, each)
        longest = max((each[0] + len(each[1]) for each in self.pending if not isinstance(each, int)), default=0)
        if longest > len(found) and random.random() < 0.3:
            more = longest - len(found)
            found += random.choice([bytes, random.randbytes])(more)
        return bytes(found)


def _do(content: bytearray, what: Write | int) -> None:
    if isinstance(what, int):
        del content[what:]
        return
    offset, data = what
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _tear(content: bytearray, write: Write, random: Random, keep: float) -> None:
    """Some sectors of a write, those of the disk, not of the write."""
    offset, data = write
    at = 0
    while at < len(data):
        end = min(len(data), (offset + at) // SECTOR * SECTOR + SECTOR - offset)
        if random.random() < keep:
            _do(content, (offset + at, data[at:end]))
        at = end


class CrashDisk(apsw.VFS):
    """Every connection goes through it from now on, until it is unregistered. Nothing is synced for real."""

    def __init__(self, random: Random) -> None:
        self.below = "unix"
        super().__init__(f"crash disk {next(_numbers)}", self.below, makedefault=True)
        self.random = random
        self.on_loss: Callable[[], None] = lambda: None
        self._until_loss = 0
        self.begin({})

    def begin(self, files: dict[Path, bytes]) -> None:
        """The power is on; these files are there, for certain."""
        self.current = {str(path): Inode(content) for path, content in files.items()}
        self.durable = dict(self.current)
        self.left: dict[Path, bytes] | None = None

    def arm(self, happenings: int) -> None:
        """Lose the power when so many things have happened to files, from 1; 0: not before `lose_power`."""
        self._until_loss = happenings

    def lose_power(self) -> dict[Path, bytes]:
        """Now, if it is not gone already; what is found afterwards."""
        if self.left is None:
            self.left = {}
            for name in sorted({*self.current, *self.durable}):
                inode = self.random.choice([self.current.get(name), self.durable.get(name)])
                if inode is not None:
                    self.left[Path(name)] = inode.after_power_loss(self.random)
            self.on_loss()
        return self.left

    def happens(self) -> None:
        """Something happens to a file."""
        self._until_loss -= 1
        if self._until_loss == 0:
            self.lose_power()

    def sync_folder(self) -> None:
        self.durable = dict(self.current)

    def xOpen(self, name: Any, flags: Any) -> CrashFile:
        return CrashFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.current.pop(filename, None)
        self.happens()
        if syncdir:
            self.sync_folder()


class CrashFile(apsw.VFSFile):
    def __init__(self, disk: CrashDisk, name: Any, flags: Any) -> None:
        super().__init__(disk.below, name, flags)
        self._disk = disk
        self._syncs_folder = bool(flags[0] & _OWN_FOLDER and flags[0] & apsw.SQLITE_OPEN_CREATE)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            self._inode = Inode()
        else:
            self._inode = disk.current.setdefault(path, Inode())

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._inode.pending.append((offset, bytes(data)))
        self._disk.happens()

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._inode.pending.append(newsize)
        self._disk.happens()

    def xSync(self, flags: int) -> None:
        self._disk.happens()
        self._inode.sync()
        if self._syncs_folder:
            self._syncs_folder = False
            self._disk.sync_folder()
