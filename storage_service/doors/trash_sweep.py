"""The sweep of a mount point's trash, in a thread of its own and in small bites: nobody waits for it.

1. What was given up is deleted, whenever some of it is found. It is deleted from its top: a folder that is not
   empty is first moved up, into the trash itself, so that a few descriptors are enough however deep it was.
2. What is there is measured, for `get_status`.
3. Once an hour, what is older than it is kept is handed to the desk, which commits that before anything is lost.
   Age is the wall clock's, which may lie: see `trash_schedule`.

No link is followed, nothing outside the trash is touched, and no other file system is entered.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import structlog

from storage_protocol.times import to_wire
from storage_service.doors.directory import Directory
from storage_service.doors.trash import GONE, Measured, Trash
from storage_service.doors.trash_schedule import Schedule
from storage_service.failpoints import passing

BITE = 256
PAUSE_S = 0.002
# Folders deeper than this below an entry are not measured: each level holds a descriptor.
DEEPEST = 64

_log = structlog.get_logger("storage_service")


class Sweep(Schedule[Trash]):
    """The sweep of one trash of this host; see `Schedule`."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._stuck: set[str] = set()

    def sweep(self, *, expire: bool) -> None:
        """Delete, measure, and if that is wanted tell of what has expired. Raises OSError."""
        self._trash.changed.clear()
        with self._trash.open() as trash:
            if trash is None:
                self._trash.measured = Measured(0, 0, to_wire(self._wall()))
                return
            self._delete(trash)
            self._measure(trash)
            if expire and self._keep_s and self._may_expire(trash):
                self._tell_expired(self._trash.listed(trash), partial(self._trash.entry, trash))

    # Deleting

    def _delete(self, trash: Directory) -> None:
        if not any(name.startswith(GONE) for name in trash.names()):
            self._stuck.clear()
            return
        self._stuck.clear()
        while not self._stop.is_set():
            found = [name for name in trash.names() if name.startswith(GONE) and name not in self._stuck]
            if not found:
                break
            for name in found:
                if not self._delete_one(trash, name):
                    self._stuck.add(name)
        if self._stuck and not self._stop.is_set():
            _log.warning("some of the trash cannot be deleted", mp=self._mp, entries=len(self._stuck))

    def _delete_one(self, trash: Directory, name: str) -> bool:
        """Whether it is gone."""
        passing("trash.deleting")
        try:
            if not stat.S_ISDIR(trash.status(name).st_mode):
                trash.unlink(name)
                return True
            with trash.enter(name) as folder:
                if folder.device() != trash.device() or not self._clear(trash, folder):
                    return False
            trash.remove(name)
        except FileNotFoundError:
            return True
        except OSError as error:
            _log.info("it cannot be deleted", mp=self._mp, name=name, reason=error.strerror)
            return False
        passing("trash.deleted")
        return True

    def _clear(self, trash: Directory, folder: Directory) -> bool:
        """Empty a folder that was given up; what is in its folders is moved up. False: some of it stays."""
        folder.permit()
        stays: set[str] = set()
        while names := folder.names(BITE, stays):
            for name in names:
                try:
                    _delete_from(folder, trash, name)
                except OSError:
                    stays.add(name)
            if self._stop.wait(PAUSE_S):
                return False
        return not stays

    # Measuring

    def _measure(self, trash: Directory) -> None:
        listed, sizes = self._trash.listed(trash), {}
        for when, name in listed:
            known = self._trash.sizes.get(name)
            if known is None or known[0] != when:
                with suppress(FileNotFoundError, NotADirectoryError), trash.enter(name) as folder:
                    known = (when, *self._size(folder, trash.device(), DEEPEST))
            if known is not None:
                sizes[name] = known
            if self._stop.is_set():
                return
        self._trash.sizes = sizes
        total = sum(size[1] for size in sizes.values())
        self._trash.measured = Measured(len(listed), total, to_wire(self._wall()))

    def _size(self, folder: Directory, device: int, depth: int) -> tuple[int, int]:
        """Bytes and number of the files in a folder."""
        size = files = 0
        for number, name in enumerate(folder.names(), 1):
            if number % BITE == 0 and self._stop.wait(PAUSE_S):
                break
            try:
                status = folder.status(name)
                if not stat.S_ISDIR(status.st_mode):
                    size, files = size + status.st_size, files + 1
                elif depth and status.st_dev == device:
                    with folder.enter(name) as below:
                        more = self._size(below, device, depth - 1)
                    size, files = size + more[0], files + more[1]
            except OSError:  # gone meanwhile, or not for us to read
                continue
        return size, files


def _delete_from(folder: Directory, trash: Directory, name: str) -> None:
    """Delete what has this name, or move it up where it is a folder with something in it. Raises OSError."""
    try:
        folder.unlink(name)
        return
    except (IsADirectoryError, PermissionError):  # some file systems say EPERM of a folder
        pass
    try:
        folder.remove(name)
        return
    except NotADirectoryError:
        raise
    except OSError:
        with folder.enter(name) as below:  # which is refused for a link
            if below.device() != folder.device():
                raise
            below.permit()
    folder.move(name, trash, f"{GONE}{uuid4()}")
