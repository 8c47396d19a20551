"""The trash of a mount point elsewhere: `.storage-trash` below it, with what was set aside, an entry a folder.

A move may take several steps there, and no file system dates it. So each entry has a note beside it, a small file
whose name tells its state and whose own time tells since when:

    .moving-NAME.json   it is on its way into the trash or back, as its content says; nobody sees it meanwhile
    .here-NAME.json     it was set aside
    .gone-NAME.json     it was given up: nothing brings it back, and the sweep deletes it

The first one is written before the first step and taken away after the last, so that whoever comes after a crash
goes on with the move, into the same place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from storage_protocol.records import TrashEntry
from storage_service.doors.remote_files import RemoteFiles, RemoteFolder
from storage_service.doors.trash import Listed, Measured, Place, Size, contents_of, entry_in
from storage_service.rules.trash_work import MOST_ENTRIES, GiveUp, LookIntoTrash, Seen
from storage_service.rules.work import TRASH, Done

MOVING, HERE, GONE = "moving", "here", "gone"
_STATES = (MOVING, HERE, GONE)
_NOTE_BYTES = 64 << 10


class Move(msgspec.Struct, frozen=True):
    """What is under way with an entry: from or to this place below the mount point."""

    place: str
    back: bool = False


class _Entries(NamedTuple):
    """What one look found: the folders with their own time, and for each state when an entry got into it."""

    folders: dict[str, float]
    notes: dict[str, dict[str, float]]


class RemoteTrash:
    """The trash of one mount point. Its methods may be called from several threads at once, and raise OSError."""

    def __init__(self, mp: str, files: RemoteFiles) -> None:
        self._mp = mp
        self._files = files
        self.sizes: dict[str, Size] = {}
        self.measured = Measured()
        self.changed = threading.Event()
        """As of `Trash`."""

    @contextmanager
    def open(self) -> Iterator[RemoteFolder | None]:
        """The trash; None when there is none. NotADirectoryError: it is a link or a file."""
        self._files.reach()
        try:
            with RemoteFolder(self._files, "").enter(TRASH) as trash:
                yield trash
        except FileNotFoundError:
            yield None

    def listed(self, trash: RemoteFolder) -> list[Listed]:
        """The entries that can be restored, newest first. Without a note nobody can tell since when one is there:
        it counts as new."""
        found, now = self._entries(), time.time()
        return sorted(
            (
                (found.notes[HERE].get(name, now), name)
                for name in found.folders
                if name not in found.notes[MOVING] and name not in found.notes[GONE]
            ),
            reverse=True,
        )

    def entry(self, trash: RemoteFolder, listed: Listed) -> TrashEntry:
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
        """Take entries out of the trash. One that is not there any more was given up before."""
        found = self._entries()
        for name in order.names:
            if name in found.folders:
                self._note(GONE, name, b"{}")
        self.changed.set()
        return Done()

    # Moving

    def set_aside(self, place: str, name: str) -> None:
        """Move a folder into the trash, under this name or the next of `name.1`, `name.2`, ... that is free; or go
        on with that."""
        found = self._entries()
        again = 0
        while True:
            tried = f"{name}.{again}" if again else name
            if tried in found.notes[MOVING] and self._move(tried) == Move(place):
                break
            if tried not in found.folders and not any(tried in found.notes[state] for state in _STATES):
                self._note(MOVING, tried, msgspec.json.encode(Move(place)))
                break
            again += 1
        self._files.move(place, f"{TRASH}/{tried}")
        self._note(HERE, tried, b"{}")
        self._forget(MOVING, tried)
        self.changed.set()

    def is_unfinished(self, place: str, name: str) -> bool:
        """Whether an earlier try to set this place aside under that name did not come to its end."""
        found = self._entries().notes[MOVING]
        mine = [each for each in found if each == name or each.startswith(f"{name}.")]
        return any(self._move(each) == Move(place) for each in mine)

    def has(self, name: str) -> bool:
        """Whether there is an entry of this name that can be restored, or is on its way back."""
        found = self._entries()
        if name in found.notes[GONE]:
            return False
        if name in found.notes[MOVING]:
            move = self._move(name)
            return move is not None and move.back
        return name in found.folders

    def is_on_its_way(self, name: str, place: str) -> bool:
        """Whether an earlier try to bring this entry back there did not come to its end."""
        return self._move(name) == Move(place, back=True)

    def bring_back(self, name: str, place: str) -> None:
        """Move an entry to a place that is free, or go on with that. FileExistsError: it is not free."""
        self._note(MOVING, name, msgspec.json.encode(Move(place, back=True)))
        try:
            self._files.move(f"{TRASH}/{name}", place)
        except FileExistsError:
            self._forget(MOVING, name)
            raise
        self._forget(HERE, name)
        self._forget(MOVING, name)
        self.changed.set()

    # For the sweep

    def given_up(self) -> list[str]:
        """The entries that are to be deleted."""
        return list(self._entries().notes[GONE])

    def delete(self, name: str) -> None:
        """Delete an entry that was given up, and its notes last."""
        self._files.clear(f"{TRASH}/{name}")
        self._forget(HERE, name)
        self._forget(GONE, name)

    def date(self) -> None:
        """Give a note to each entry that has none: somebody moved it here by hand."""
        found = self._entries()
        for name in found.folders:
            if not any(name in found.notes[state] for state in _STATES):
                self._note(HERE, name, b"{}")

    def size(self, name: str) -> tuple[int, int]:
        """Bytes and number of the files of an entry."""
        size = files = 0
        for each in self._files.walk(f"{TRASH}/{name}"):
            size, files = size + each.size, files + 1
        return size, files

    # Notes

    def _entries(self) -> _Entries:
        folders, notes = dict[str, float](), {state: dict[str, float]() for state in _STATES}
        for each in self._files.listed(TRASH):
            if each.kind == "folder" and not each.name.startswith("."):
                folders[each.name] = each.mtime
            state, _, name = each.name.removeprefix(".").partition("-")
            if each.kind == "file" and state in notes and name.endswith(".json"):
                notes[state][name.removesuffix(".json")] = each.mtime
        return _Entries(folders, notes)

    def _move(self, name: str) -> Move | None:
        content = self._files.read(_note(MOVING, name), _NOTE_BYTES)
        try:
            return None if content is None else msgspec.json.decode(content, type=Move)
        except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
            return None

    def _note(self, state: str, name: str, content: bytes) -> None:
        self._files.make_folder(TRASH)
        self._files.replace(_note(state, name), content)

    def _forget(self, state: str, name: str) -> None:
        self._files.remove(_note(state, name))


def _note(state: str, name: str) -> str:
    return f"{TRASH}/.{state}-{name}.json"
