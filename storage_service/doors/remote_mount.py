"""The door to mount points elsewhere in the network: folders, their marker files, and what is set aside.

It keeps the promises of the door to folders of this host, as far as the other side can:

1. A folder belongs to whom its marker names. Another's folder is never built in, changed or moved.
2. A folder without our uid was never made by us. Where there are no folders, its marker makes it.
3. An order that was interrupted is carried out again from its start, with the same result.
4. Done means that the other side has said so of every file. What it does with them is its own affair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from storage_protocol.records import DiskUse, TrashEntry
from storage_service.doors.beside import add_block, keep
from storage_service.doors.conversion_scratch import COPY_BYTES, copied
from storage_service.doors.folder_faults import belongs_to, in_the_way, no_folder, unavailable
from storage_service.doors.marker_walk import MarkerWalk
from storage_service.doors.markers import markers_in
from storage_service.doors.remote_files import RemoteFiles, RemoteFolder
from storage_service.doors.remote_sweep import RemoteSweep
from storage_service.doors.remote_trash import RemoteTrash
from storage_service.doors.segments import check_segments
from storage_service.rules.rebuild_work import FindMarkers, Found
from storage_service.rules.trash_work import GiveUp, LookIntoTrash, RestoreFolder
from storage_service.rules.work import (
    ACQ_MARKER,
    TRASH,
    Done,
    Failed,
    Fault,
    KeepFile,
    Kept,
    MakeFolder,
    Order,
    ReachMount,
    Result,
    SyncData,
    Synced,
    Taken,
    WriteMarker,
)

Segments = tuple[str, ...]
OwnFolder = SyncData | WriteMarker | KeepFile


class RemoteMount:
    """One mount point that lies elsewhere. Its methods may be called from several threads at once."""

    def __init__(self, mp: str, files: RemoteFiles) -> None:
        self._mp = mp
        self._files = files
        # As of `FolderMount`: from the look at the markers until ours is in place.
        self._lock = threading.Lock()
        self.trash = RemoteTrash(mp, files)

    def carry_out(self, order: Order) -> Result:
        """Carry out an order; see `FolderMount.carry_out`."""
        try:
            with self._outside():
                match order:
                    case ReachMount():
                        self._files.reach()
                        return Done()
                    case MakeFolder():
                        return self._make(order)
                    case SyncData():
                        return self._sync(order)
                    case WriteMarker():
                        return self._write(order)
                    case KeepFile():
                        return self._keep(order)
                    case LookIntoTrash():
                        return self.trash.look(order)
                    case RestoreFolder():
                        return self._restore(order)
                    case GiveUp():
                        return self.trash.give_up(order)
                    case FindMarkers():
                        return self._find(order)
        except Fault as fault:
            return Failed(fault.code, fault.message, fault.details)

    def open_log(self, path: Segments, name: str) -> int:
        """Raises `Fault`: there is no descriptor of a file elsewhere."""
        raise self._unavailable("it lies elsewhere in the network, and no program can be started in it")

    def local_path(self, path: Segments) -> Path:
        """Raises `Fault`: this host has none."""
        raise self._unavailable("it lies elsewhere in the network, and has no folder on this host")

    def free_bytes(self) -> int | None:
        """How many bytes are free, where the other side tells. Raises OSError."""
        return self._files.free_bytes()

    def sweep(self, keep_s: float, expired: Callable[[tuple[TrashEntry, ...]], None]) -> RemoteSweep:
        """The sweep of its trash."""
        return RemoteSweep(self.trash, self._mp, keep_s, expired)

    def close(self) -> None:
        self._files.close()

    def fetch(self, path: Segments, to: Path) -> None:
        """Copy every file of a folder into one of this host. `Fault`, too, for a name that leads out of it."""
        with self._outside():
            folder = self._folder(path)
            for each in self._files.walk(folder.path):
                if each.kind == "file":
                    if {"", ".", ".."} & {*each.path.split("/")}:
                        raise self._unavailable(f"{each.path!r} is no path below a folder")
                    with self._files.open(folder.at(each.path)) as file:
                        copied(iter(partial(file.read, COPY_BYTES), b""), to / each.path, each.mtime_ns)

    def bring(self, path: Segments, id: str, uid: str, folder: Path, names: list[str]) -> None:
        """Put files of a folder of this host into an acquisition's folder, if it is still that. Raises `Fault`."""
        with self._outside():
            place = self._own_folder(SyncData(self._mp, path, ACQ_MARKER, id, uid)).path
            for name in names:
                *above, _ = name.split("/")
                for depth in range(1, len(above) + 1):
                    below = f"{place}/{'/'.join(above[:depth])}"
                    self._files.make_folder(below)
                    if self._files.kind(below) not in ("folder", None):
                        raise self._unavailable(f"{below} is no folder")
                self._files.put(f"{place}/{name}", folder / name)

    def _find(self, order: FindMarkers) -> Found:
        check_segments(order.path)
        self._files.reach()
        try:
            return MarkerWalk(order).page(RemoteFolder(self._files, ""))
        except FileNotFoundError as error:
            raise no_folder(self._mp, order.path) from error
        except NotADirectoryError:
            self._folder(order.path)  # says what stands in the way
            raise

    def _make(self, order: MakeFolder) -> Done | Taken:
        check_segments((*order.path, order.uid, order.set_aside or order.uid))  # all three become names
        place = "/".join(order.path)
        with self._lock:
            self._way(order.path[:-1], order)
            stands = self._files.kind(place)
            made = stands == "folder" and self._made_before(place, order)
            if order.fresh and stands is not None and not made:
                return Taken()
            aside = order.set_aside
            if aside is not None and not made and (stands is not None or self.trash.is_unfinished(place, aside)):
                self._set_aside(order, aside)
                stands = self._files.kind(place)
            folder = RemoteFolder(self._files, place)
            if stands is not None:
                self._refuse_others(self._folder(order.path), order)
                folder.replace(order.marker_name, order.marker)
                return Done()
            try:
                self._files.publish(place, order.marker_name, order.marker, f".{order.uid}")
            except FileExistsError as error:
                if order.fresh:
                    return Taken()
                # A second try will adopt or refuse it.
                raise self._unavailable(f"{place} was made by somebody else at the same moment") from error
        return Done()

    def _made_before(self, place: str, order: MakeFolder | RestoreFolder) -> bool:
        """Whether an earlier try of this order has made the folder."""
        return any(marker.uid == order.uid for marker in markers_in(RemoteFolder(self._files, place)))

    def _set_aside(self, order: MakeFolder | RestoreFolder, name: str) -> None:
        place = "/".join(order.path)
        if not self.trash.is_unfinished(place, name):
            folder = self._folder(order.path)
            self._refuse_others(folder, order)
            if order.aside and all(marker.uid == name for marker in markers_in(folder)):
                folder.replace(order.marker_name, order.aside)
        self.trash.set_aside(place, name)

    def _restore(self, order: RestoreFolder) -> Done:
        check_segments((*order.path, order.name, order.set_aside or order.name))
        place = "/".join(order.path)
        with self._lock:
            self._way(order.path[:-1], order)
            if not self.trash.has(order.name):
                if self._files.kind(place) == "folder" and self._made_before(place, order):
                    return Done()
                message = f"There is nothing {order.name} in the trash of {self._mp}."
                raise Fault("not_found", message, what="trash", id=order.name)
            if not self.trash.is_on_its_way(order.name, place):
                self._make_room(order, place)
            try:
                self.trash.bring_back(order.name, place)
            except FileExistsError as error:
                raise self._unavailable(f"{place} was made by somebody else at the same moment") from error
        return Done()

    def _make_room(self, order: RestoreFolder, place: str) -> None:
        """See that the entry is the one that is meant, and set aside what stands in its place."""
        entry = RemoteFolder(self._files, f"{TRASH}/{order.name}")
        if not any((each.id, each.uid) == (order.id, order.uid) for each in markers_in(entry)):
            raise self._unavailable(f"the entry {order.name} of the trash was changed by somebody")
        stands = self._files.kind(place)
        if order.set_aside is None and stands is not None:
            message = f"Something stands at {place} below {self._mp}, where it would go back to."
            raise Fault("already_exists", message, what="folder", id=place)
        aside = order.set_aside
        if aside is not None and (stands is not None or self.trash.is_unfinished(place, aside)):
            self._set_aside(order, aside)

    def _sync(self, order: SyncData) -> Synced:
        """What the other side has answered is as durable as it makes it: nothing to sync, only to count."""
        folder = self._own_folder(order)
        files = size = 0
        for each in self._files.walk(folder.path):
            files, size = files + 1, size + each.size
        return Synced(DiskUse(files, size, size))

    def _write(self, order: WriteMarker) -> Done:
        with self._lock:
            folder = self._own_folder(order)
            if order.log:
                add_block(folder, order.head, order.log)
            folder.replace(order.marker_name, order.marker)
        return Done()

    def _keep(self, order: KeepFile) -> Kept:
        check_segments((order.name,))
        with self._lock:
            return Kept(keep(self._own_folder(order), order.name, order.content))

    def _own_folder(self, order: OwnFolder) -> RemoteFolder:
        check_segments(order.path)
        self._files.reach()
        folder = self._folder(order.path)
        self._refuse_others(folder, order)
        return folder

    def _folder(self, path: Segments) -> RemoteFolder:
        """A folder that is there. Says what is in the way."""
        kind = self._files.kind("/".join(path))
        if kind is None:
            raise self._unavailable(f"the folder {'/'.join(path)} is gone")
        if kind != "folder":
            raise in_the_way(self._mp, path, kind, "folder")
        return RemoteFolder(self._files, "/".join(path))

    def _way(self, path: Segments, order: MakeFolder | RestoreFolder) -> None:
        """From the mount's root to `path`: what is another's is refused before anything is made in it, and what is
        missing is made."""
        self._files.reach()
        missing = False
        for depth in range(len(path) + 1):
            place = "/".join(path[:depth])
            kind = None if missing else self._files.kind(place)
            if kind is None:
                missing = True
                self._files.make_folder(place)
                continue
            if kind != "folder":
                raise in_the_way(self._mp, path[:depth], kind, "folder")
            for marker in markers_in(RemoteFolder(self._files, place)):
                if (depth, marker.id) not in order.above:
                    raise belongs_to(self._mp, marker, path[:depth])

    def _refuse_others(self, folder: RemoteFolder, order: MakeFolder | RestoreFolder | OwnFolder) -> None:
        """As of `FolderMount`."""
        for marker in markers_in(folder):
            same = (marker.name, marker.id) == (order.marker_name, order.id)
            if not same or (isinstance(order, OwnFolder) and marker.uid != order.uid):
                raise belongs_to(self._mp, marker, order.path)

    def _unavailable(self, reason: str) -> Fault:
        return unavailable(self._mp, reason)

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """Turns what the other side says into a `Fault`."""
        try:
            yield
        except OSError as error:
            raise self._unavailable(error.strerror or str(error) or type(error).__name__) from error
