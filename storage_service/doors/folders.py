"""The door to mount points that are folders of this host: folders, their marker files, and what is set aside.

1. A path is walked from the mount's root, a segment at a time, by descriptor: no link below the root is followed.
2. A folder belongs to whom its marker names. Another's folder is never built in, changed or moved.
3. A new folder appears with its marker in it, in one step: a folder without our uid was never made by us.
4. An order that was interrupted is carried out again from its start, with the same result; done means synced.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from storage_protocol.records import TrashEntry
from storage_service.doors.beside import add_block, keep
from storage_service.doors.directory import Directory, NotPlainFileError
from storage_service.doors.folder_faults import belongs_to, in_the_way, no_folder, unavailable
from storage_service.doors.losses import Losses
from storage_service.doors.marker_walk import MarkerWalk
from storage_service.doors.markers import markers_in
from storage_service.doors.mount_info import missing
from storage_service.doors.runnable import runnable_script
from storage_service.doors.segments import check_segments
from storage_service.doors.trash import Trash
from storage_service.doors.trash_sweep import Sweep
from storage_service.failpoints import passing
from storage_service.rules.rebuild_work import FindMarkers, Found
from storage_service.rules.trash_work import GiveUp, LookIntoTrash, RestoreFolder
from storage_service.rules.work import (
    ACQ_LOG,
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
"""Orders for the folder that has their uid's marker."""


class FolderMount:
    """One mount point that is a folder of this host. Its methods may be called from several threads at once."""

    def __init__(self, mp: str, root: Path, scripts_dir: Path, mounted: str = "") -> None:
        """`mp` is the mount point as clients name it, `root` its folder here, which is never made by us.
        `mounted`: what has to be mounted there (see `mount_info.missing`), or nothing is done below it."""
        self._mp = mp
        self._root = root.absolute()
        self._scripts_dir = scripts_dir
        self._mounted = mounted
        self._was_mounted = False
        # Held from the look at the markers until ours is in place: of two that want a folder, one sees the other.
        self._lock = threading.Lock()
        self._losses = Losses()
        self.trash = Trash(mp, self._root, self._at_root)

    def carry_out(self, order: Order) -> Result:
        """Carry out an order. What the outside world refuses is a `Failed`, never an exception:

        - `invalid_name`: a link stands in the path, a segment is none, or the script cannot be run
        - `not_found`: the script is not there, or the entry of the trash
        - `already_exists`: a file stands in the path; or a folder in it, or the folder itself, is another's; or
          something stands where an entry of the trash is to go back to
        - `unavailable`: the mount point is not there, full, read-only, broken; or the folder to write to is gone
        """
        try:
            with self._outside():
                match order:
                    case ReachMount():
                        return self._reach()
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
        """A descriptor to write a file of a folder that is there, made or emptied; the caller closes it.

        Raises `Fault` for what `carry_out` answers; what is no plain file is left as it is.
        """
        check_segments((*path, name))
        with self._outside(), ExitStack() as opened:
            folder = self._walk(opened, path)[-1]
            passing("folders.open_log")
            try:
                return folder.open_anew(name)
            except NotPlainFileError as error:
                raise self._in_the_way(folder, (*path, name), "plain file") from error

    def local_path(self, path: Segments) -> Path:
        """Where the file system of this host has that folder; for telling, not for opening. Raises `Fault`."""
        check_segments(path)
        return self._root.joinpath(*path)

    def free_bytes(self) -> int:
        """How many bytes are free for the service. Raises OSError."""
        disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def sweep(self, keep_s: float, expired: Callable[[tuple[TrashEntry, ...]], None]) -> Sweep:
        """The sweep of its trash."""
        return Sweep(self.trash, self._mp, keep_s, expired)

    def close(self) -> None:
        """Nothing is held between two orders."""

    def _reach(self) -> Done:
        with self._at_root() as root:
            root.probe()
        return Done()

    def _at_root(self) -> Directory:
        """The mount point's folder, open. Where a disk was mounted there once, it has to be still: below it lies
        an empty folder, in which nobody would look for data."""
        root = Directory.at(self._root)
        try:
            if self._mounted and (wrong := missing(root.fileno(), self._mounted)):
                raise self._unavailable(wrong)
            if root.is_mounted():
                self._was_mounted = True
            elif self._was_mounted:
                raise self._unavailable("nothing is mounted there any more")
        except BaseException:
            root.__exit__()
            raise
        return root

    def _find(self, order: FindMarkers) -> Found:
        check_segments(order.path)
        with self._at_root() as root:
            try:
                return MarkerWalk(order).page(root)
            except FileNotFoundError as error:
                raise no_folder(self._mp, order.path) from error
            except NotADirectoryError:
                with ExitStack() as opened:
                    self._walk(opened, order.path)  # says what stands in the way
                raise

    def _make(self, order: MakeFolder) -> Done | Taken:
        check_segments((*order.path, order.uid, order.set_aside or order.uid))  # all three become names
        if order.script is not None:
            runnable_script(self._scripts_dir, order.script)
        with ExitStack() as opened:
            with self._lock:
                passing("folders.make")
                above = self._walk(opened, order.path[:-1], order)
                passing("folders.above_made")
                folder = self._settle(opened, above, order)
            if folder is None:
                return Taken()
            # Always the whole chain: an earlier try may have made any part of it, and ended before it was synced.
            if order.set_aside is not None and above[0].kind(TRASH) is not None:
                opened.enter_context(self._enter(above[0], (TRASH,))).sync()
            for directory in (folder, *reversed(above)):
                directory.sync()
            if order.marker_name == ACQ_MARKER:
                self._losses.watch(order.uid, folder)
        passing("folders.made")
        return Done()

    def _settle(self, opened: ExitStack, above: list[Directory], order: MakeFolder) -> Directory | None:
        """The folder with its marker, adopted or new; nil: it had to be new, and something is there."""
        parent = above[-1]
        stands = parent.kind(order.path[-1])
        if order.fresh and stands is not None and not (stands == "folder" and self._made_before(parent, order)):
            return None
        if order.set_aside is not None and stands is not None and not self._made_before(parent, order):
            self._move_to_trash(above[0], parent, order, order.set_aside)
            stands = None
        if stands is not None:
            return self._adopt(opened, parent, order)
        try:
            return self._create(opened, parent, order)
        except FileExistsError as error:
            if order.fresh:
                return None
            # A second try will adopt or refuse it.
            place = "/".join(order.path)
            raise self._unavailable(f"{place} was made by somebody else at the same moment") from error

    def _made_before(self, parent: Directory, order: MakeFolder | RestoreFolder) -> bool:
        """Whether an earlier try of this order has made the folder."""
        with self._enter(parent, order.path) as folder:
            return any(marker.uid == order.uid for marker in markers_in(folder))

    def _adopt(self, opened: ExitStack, parent: Directory, order: MakeFolder) -> Directory:
        folder = opened.enter_context(self._enter(parent, order.path))
        self._refuse_others(folder, order)
        passing("folders.adopt")
        folder.replace(order.marker_name, order.marker)
        passing("folders.adopted")
        return folder

    def _create(self, opened: ExitStack, parent: Directory, order: MakeFolder) -> Directory:
        """Raises `FileExistsError` when something has the folder's name by now."""
        draft = f".{order.uid}"
        parent.make(draft)
        try:
            folder = opened.enter_context(self._enter(parent, (*order.path[:-1], draft)))
            passing("folders.draft_made")
            folder.replace(order.marker_name, order.marker)
            passing("folders.draft_marked")
            parent.move(draft, parent, order.path[-1])
            passing("folders.published")
        except OSError:
            with suppress(OSError):
                with suppress(OSError), parent.enter(draft) as folder:
                    folder.unlink(order.marker_name)
                parent.remove(draft)
            raise
        return folder

    def _restore(self, order: RestoreFolder) -> Done:
        check_segments((*order.path, order.name, order.set_aside or order.name))
        with ExitStack() as opened:
            with self._lock:
                above = self._walk(opened, order.path[:-1], order)
                trash = opened.enter_context(self._enter(above[0], (TRASH,), make=True))
                if trash.kind(order.name) == "folder":
                    self._move_back(trash, above, order)
                elif not (above[-1].kind(order.path[-1]) == "folder" and self._made_before(above[-1], order)):
                    message = f"There is nothing {order.name} in the trash of {self._mp}."
                    raise Fault("not_found", message, what="trash", id=order.name)
            # Always all of it, as in `_make`; the place before the trash: at any moment it is in one of them.
            for directory in (*reversed(above), trash):
                directory.sync()
            passing("trash.restored")
        self.trash.changed.set()
        return Done()

    def _move_back(self, trash: Directory, above: list[Directory], order: RestoreFolder) -> None:
        parent, name = above[-1], order.path[-1]
        with self._enter(trash, (order.name,)) as entry:
            if not any((each.id, each.uid) == (order.id, order.uid) for each in markers_in(entry)):
                raise self._unavailable(f"the entry {order.name} of the trash was changed by somebody")
        if order.set_aside is not None and parent.kind(name) is not None:
            passing("trash.setting_aside")
            self._move_to_trash(above[0], parent, order, order.set_aside)
            passing("trash.set_aside")
        try:
            passing("trash.restoring")
            trash.move(order.name, parent, name)
            passing("trash.moved_back")
        except FileExistsError as error:
            place = "/".join(order.path)
            if order.set_aside is not None:
                raise self._unavailable(f"{place} was made by somebody else at the same moment") from error
            message = f"Something stands at {place} below {self._mp}, where it would go back to."
            raise Fault("already_exists", message, what="folder", id=place) from error

    def _move_to_trash(
        self, root: Directory, parent: Directory, order: MakeFolder | RestoreFolder, new_name: str
    ) -> None:
        with self._enter(parent, order.path) as folder:
            self._refuse_others(folder, order)
            if order.aside and all(marker.uid == new_name for marker in markers_in(folder)):
                folder.replace(order.marker_name, order.aside)
        with self._enter(root, (TRASH,), make=True) as trash:
            root.sync()
            passing("folders.set_aside")
            # The name is taken when an earlier try moved the old folder, and somebody has made one since.
            for again in count():
                try:
                    parent.move(order.path[-1], trash, f"{new_name}.{again}" if again else new_name)
                    break
                except FileExistsError:
                    continue
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    reason = "it is on another file system than the mount point itself, and is never copied"
                    raise self._unavailable(f"{'/'.join(order.path)} cannot be set aside: {reason}") from error
            passing("folders.moved_to_trash")
            trash.sync()  # before the place that it left: at any moment it is in one of them
        passing("folders.trash_synced")
        parent.sync()
        passing("folders.place_left")
        self.trash.changed.set()

    def _sync(self, order: SyncData) -> Synced:
        with ExitStack() as opened:
            passing("folders.seal")
            folder = self._own_folder(opened, order)
            said = self._losses.sync(order.uid, folder)  # for long: without the lock
            if said is not None:
                lost = "something that was written since the acquisition was opened is lost"
                raise self._unavailable(f"{said}: {lost}, its files must be looked at")
            passing("folders.data_synced")
            return Synced(folder.disk_use())

    def _write(self, order: WriteMarker) -> Done:
        with ExitStack() as opened, self._lock:
            passing("folders.mark")
            folder = self._own_folder(opened, order)
            log = add_block(folder, order.head, order.log) if order.log else ACQ_LOG
            folder.replace(order.marker_name, order.marker)
        passing("folders.marked")
        if log == ACQ_LOG:
            return Done()
        place = "/".join((*order.path, ACQ_LOG))
        return Done(f"{place} is no plain file, or too large, or may not be read: what belongs there is in {log}.")

    def _keep(self, order: KeepFile) -> Kept:
        check_segments((order.name,))
        with ExitStack() as opened, self._lock:
            return Kept(keep(self._own_folder(opened, order), order.name, order.content))

    def _own_folder(self, opened: ExitStack, order: OwnFolder) -> Directory:
        folder = self._walk(opened, order.path)[-1]
        self._refuse_others(folder, order)
        return folder

    def _walk(
        self, opened: ExitStack, path: Segments, order: MakeFolder | RestoreFolder | None = None
    ) -> list[Directory]:
        """The open folders from the mount's root to `path`. For an order, what is missing is made, and what is
        another's is refused before anything is made in it."""
        check_segments(path)
        chain = [opened.enter_context(self._at_root())]
        for depth in range(len(path) + 1):
            if depth:
                here = self._enter(chain[-1], path[:depth], make=order is not None)
                chain.append(opened.enter_context(here))
            if order is not None:
                for marker in markers_in(chain[-1]):
                    if (depth, marker.id) not in order.above:
                        raise belongs_to(self._mp, marker, path[:depth])
        return chain

    def _enter(self, parent: Directory, path: Segments, make: bool = False) -> Directory:
        """Open the last segment of `path` in its parent, making it if that is wanted. Says what is in the way."""
        try:
            try:
                return parent.enter(path[-1])
            except FileNotFoundError as error:
                if not make:
                    raise self._unavailable(f"the folder {'/'.join(path)} is gone") from error
                parent.make(path[-1])
                return parent.enter(path[-1])
        except NotADirectoryError as error:
            raise self._in_the_way(parent, path, "folder") from error

    def _refuse_others(self, folder: Directory, order: MakeFolder | RestoreFolder | OwnFolder) -> None:
        """A folder to make may have the marker of the same id, a marker to replace is of the same uid too."""
        for marker in markers_in(folder):
            same = (marker.name, marker.id) == (order.marker_name, order.id)
            if not same or (isinstance(order, OwnFolder) and marker.uid != order.uid):
                raise belongs_to(self._mp, marker, order.path)

    def _in_the_way(self, parent: Directory, path: Segments, wanted: str) -> Fault:
        kind = parent.kind(path[-1])
        if kind is None or kind == wanted:
            return self._unavailable(f"{'/'.join(path)} was changed by somebody else at the same moment")
        return in_the_way(self._mp, path, kind, wanted)

    def _unavailable(self, reason: str) -> Fault:
        return unavailable(self._mp, reason)

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """Turns what the operating system says into a `Fault`."""
        try:
            yield
        except OSError as error:
            said = error.strerror or type(error).__name__
            raise self._unavailable(said if error.filename is None else f"{said}: {error.filename}") from error
