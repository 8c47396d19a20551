"""The trash of a mount point: `.storage-trash` at its root, with what was set aside, an entry a folder.

1. What is there is read from the disk, each time; only sizes are kept, since to measure is to walk.
2. An entry that is given up gets a name with a leading dot: nobody lists or restores it from then on. It is
   deleted by the sweep, whenever that finds it.
3. Everything is reached by descriptors from the root, and no link is followed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from storage_protocol.records import TrashEntry
from storage_protocol.times import to_wire
from storage_service.doors.directory import Directory
from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.doors.manifest_headers import listing_of
from storage_service.doors.markers import LIMIT_BYTES, markers_in
from storage_service.failpoints import passing
from storage_service.rules.trash_work import MOST_ENTRIES, GiveUp, Listing, LookIntoTrash, Seen
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER, TRASH, Done

GONE = ".gone-"
"""What the names of entries begin with that were given up."""

MOST_ACQS = 10_000
_DEEPEST = 8  # segments of an acquisition's name
_KINDS = {RUN_MARKER: "run", ACQ_MARKER: "acq"}

Listed = tuple[float, str]
"""When an entry was set aside, in seconds since 1970, and its name."""

Size = tuple[float, int, int]
"""Of an entry: what it was measured for (its time of change), bytes, files."""

Place = tuple[float, str, str]
"""An entry's place among those of all mount points: when it was set aside, its name, its mount point."""


class Measured(msgspec.Struct, frozen=True):
    """What a trash holds: how many entries, their bytes, and when that was measured (RFC 3339; nil: not yet)."""

    entries: int | None = None
    bytes: int | None = None
    measured_at: str | None = None


class Trash:
    """The trash of one mount point. Its methods may be called from several threads at once.

    All of them raise `OSError` as the system reports it, and what `at_root` does.
    """

    def __init__(self, mp: str, root: Path, at_root: Callable[[], Directory] | None = None) -> None:
        """`at_root` opens the mount point's folder, or raises `Fault` where it is not what it has to be."""
        self._mp = mp
        self._at_root = at_root or (lambda: Directory.at(root))
        self.sizes: dict[str, Size] = {}
        self.measured = Measured()
        self.changed = threading.Event()
        """Set when something came, went or was given up: there is something to sweep or to measure."""

    @contextmanager
    def open(self) -> Iterator[Directory | None]:
        """The trash, held open; None when there is none. `NotADirectoryError`: it is a link or a file."""
        with self._at_root() as root:
            try:
                trash = root.enter(TRASH)
            except FileNotFoundError:
                yield None
                return
            with trash:
                yield trash

    def listed(self, trash: Directory) -> list[Listed]:
        """The entries that can be restored, newest first.

        A rename sets the time of change, and nothing sets it back: an entry is never older than this says.
        """
        found = []
        for name in trash.names():
            if not name.startswith("."):
                with suppress(FileNotFoundError):
                    found.append((trash.status(name).st_ctime, name))
        return sorted(found, reverse=True)

    def entry(self, trash: Directory, listed: Listed) -> TrashEntry:
        """An entry as clients see it."""
        return entry_in(trash, self._mp, listed, self.sizes)

    def page(self, before: Place | None, limit: int) -> tuple[list[tuple[Listed, TrashEntry]], bool]:
        """The newest entries older than `before`, and whether there are more."""
        with self.open() as trash:
            if trash is None:
                return [], False
            left = [each for each in self.listed(trash) if before is None or (*each, self._mp) < before]
            return [(each, self.entry(trash, each)) for each in left[:limit]], len(left) > limit

    def look(self, order: LookIntoTrash) -> Seen:
        """What an order asks for."""
        with self.open() as trash:
            if trash is None:
                return Seen(())
            oldest = time.time() - order.older_than_s if order.older_than_s else None
            found = [
                each
                for each in self.listed(trash)
                if order.name in (None, each[1]) and (oldest is None or each[0] < oldest)
            ]
            entries = tuple(self.entry(trash, each) for each in found[:MOST_ENTRIES])
            more = len(found) > MOST_ENTRIES
            if not order.contents or not entries:
                return Seen(entries, more)
            with trash.enter(entries[0].uid) as folder:
                return Seen(entries, more, *contents_of(folder))

    def give_up(self, order: GiveUp) -> Done:
        """Take entries out of the trash, synced. One that is not there any more was given up before."""
        with self.open() as trash:
            if trash is not None:
                for name in order.names:
                    passing("trash.giving_up")
                    with suppress(FileNotFoundError):
                        _give_up(trash, name)
                    passing("trash.given_up")
                trash.sync()
                passing("trash.synced")
        self.changed.set()
        return Done()


def entry_in(trash: Folder, mp: str, listed: Listed, sizes: Mapping[str, Size]) -> TrashEntry:
    """An entry of the trash of a mount point as clients see it. Raises OSError."""
    when, name = listed
    id = kind = path = storage_id = None
    with suppress(FileNotFoundError, NotADirectoryError), trash.enter(name) as folder:
        for marker in markers_in(folder)[:1]:
            if marker.id is not None:
                id, kind = marker.id, _KINDS[marker.name]
                path, storage_id = _place(folder.read(marker.name, LIMIT_BYTES))
    size = sizes.get(name)
    known = size if size is not None and size[0] == when else None
    return TrashEntry(
        mp=mp,
        uid=name,
        id=id,
        kind=kind,
        path=path,
        storage_id=storage_id,
        set_aside_at=to_wire(when),
        bytes=known[1] if known else None,
        files=known[2] if known else None,
    )


def _give_up(trash: Directory, name: str) -> None:
    number = 0
    while True:
        try:
            trash.move(name, trash, f"{GONE}{name}.{number}" if number else f"{GONE}{name}")
            return
        except FileExistsError:  # an earlier one of that name is still being deleted
            number += 1


def _place(marker: bytes | None) -> tuple[str | None, str | None]:
    """The path below the mount point and the storage, as a marker says."""
    try:
        said = msgspec.json.decode(marker or b"")
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None, None
    location = said.get("location") if isinstance(said, dict) else None
    path = location.get("path") if isinstance(location, dict) else None
    storage_id = said.get("storage_id") if isinstance(said, dict) else None
    return path if isinstance(path, str) else None, storage_id if isinstance(storage_id, str) else None


def contents_of(folder: Folder) -> tuple[bytes, tuple[bytes, ...] | None, tuple[Listing, ...]]:
    """The marker of an entry, and those of the acquisitions in it, of which none lies inside another; with what
    manifests they have."""
    own = next((text for name in _KINDS if (text := _text(folder, name))), b"")
    found: list[bytes] = []
    listings: list[Listing] = []
    try:
        if _text(folder, ACQ_MARKER):
            complete = True
            _list(folder, own, listings)
        else:
            complete = _collect(folder, found, listings, _DEEPEST)
    except OSError:  # what is in the entry is not for us to read: files only
        complete = False
    return own, tuple(found) if complete else None, tuple(listings)


def _list(folder: Folder, marker: bytes, listings: list[Listing]) -> None:
    listing = listing_of(folder, marker)
    if listing is not None:
        listings.append(listing)


def _collect(folder: Folder, found: list[bytes], listings: list[Listing], depth: int) -> bool:
    """Gather the markers below a folder. False: there are too many."""
    for name in folder.names():
        if name.startswith(".") or folder.kind(name) != "folder":
            continue
        with folder.enter(name) as below:
            text = _text(below, ACQ_MARKER)
            if text:
                found.append(text)
                _list(below, text, listings)
            elif depth > 1 and not _collect(below, found, listings, depth - 1):
                return False
        if len(found) > MOST_ACQS:
            return False
    return True


def _text(folder: Folder, name: str) -> bytes:
    try:
        return folder.read(name, LIMIT_BYTES) or b""
    except NotPlainFileError:
        return b""
