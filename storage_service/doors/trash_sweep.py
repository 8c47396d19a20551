"""The sweep of a mount point's trash, in a thread of its own and in small bites: nobody waits for it.

1. What was given up is deleted, whenever some of it is found. It is deleted from its top: a folder that is not
   empty is first moved up, into the trash itself, so that a few descriptors are enough however deep it was.
2. What is there is measured, for `get_status`.
3. Once an hour, what is older than it is kept is handed to the desk, which commits that before anything is lost.
   Age is the wall clock's, which may lie: see `_may_expire`.

No link is followed, nothing outside the trash is touched, and no other file system is entered.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import msgspec
import structlog

from storage_protocol.records import TrashEntry
from storage_protocol.times import to_wire
from storage_service.doors.directory import Directory, NotPlainFileError
from storage_service.doors.trash import GONE, Measured, Trash
from storage_service.failpoints import passing
from storage_service.rules.trash_work import MOST_ENTRIES

INTERVAL_S = 3600.0
DAY_S = 86_400.0
BITE = 256
PAUSE_S = 0.002
CLOCK_FILE = ".sweep.json"
# Folders deeper than this below an entry are not measured: each level holds a descriptor.
DEEPEST = 64

_log = structlog.get_logger("storage_service")


class _Clock(msgspec.Struct, frozen=True):
    """What the last sweep left: the wall clock then, and until when nothing expires."""

    wall: float
    held_until: float = 0.0


class Sweep:
    """The sweep of one trash.

    keep_s   seconds for which an entry is kept; 0: for ever
    expired  hears of entries that are older, at most `MOST_ENTRIES` at a time
    wall, mono  the clocks: seconds since 1970, and seconds of a clock that never jumps
    """

    def __init__(
        self,
        trash: Trash,
        mp: str,
        keep_s: float,
        expired: Callable[[tuple[TrashEntry, ...]], None],
        wall: Callable[[], float] = time.time,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trash = trash
        self._mp = mp
        self._keep_s = keep_s
        self._expired = expired
        self._wall, self._mono = wall, mono
        self._last: tuple[float, float] | None = None
        self._stuck: set[str] = set()
        self._stop = threading.Event()

    def start(self) -> None:
        """Sweep in a thread of its own, until `stop`. A mount point that hangs keeps that thread, and no other."""
        threading.Thread(target=self._run, name=f"trash {self._mp}", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more. What hangs is not waited for."""
        self._stop.set()
        self._trash.changed.set()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        hourly = self._mono()
        while not self._stop.is_set():
            due = self._mono() >= hourly
            if due:
                hourly = self._mono() + INTERVAL_S
            try:
                self.sweep(expire=due)
            except Exception as error:  # noqa: BLE001  a trash that cannot be read now may be later
                _log.warning("the trash cannot be swept", mp=self._mp, reason=str(error))
            self._trash.changed.wait(max(hourly - self._mono(), 0.0))

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
                self._tell_expired(trash)

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

    # Expiry

    def _tell_expired(self, trash: Directory) -> None:
        oldest = self._wall() - self._keep_s
        found = [each for each in self._trash.listed(trash) if each[0] < oldest][-MOST_ENTRIES:]
        if found:
            _log.info("entries of the trash have expired", mp=self._mp, entries=len(found))
            self._expired(tuple(self._trash.entry(trash, each) for each in found))

    def _may_expire(self, trash: Directory) -> bool:
        """Whether the wall clock can be believed; it is noted for the next time, also after a restart.

        Where it has moved by more than a day against the monotonic clock, or since the last sweep of an earlier
        life, nothing expires for a day: time enough for somebody to see the warning.
        """
        wall, mono = self._wall(), self._mono()
        before = _noted(trash)
        if self._last is not None:
            gap = abs(wall - self._last[0] - (mono - self._last[1]))
        else:
            gap = abs(wall - before.wall) if before is not None else 0.0
        self._last = (wall, mono)
        held_until = min(before.held_until, wall + DAY_S) if before is not None else wall + DAY_S
        if gap > DAY_S:
            held_until = wall + DAY_S
            _log.warning("the clock jumped, or the service was away: nothing expires for a day", mp=self._mp)
        trash.replace(CLOCK_FILE, msgspec.json.encode(_Clock(wall, held_until)))
        return wall >= held_until


def _noted(trash: Directory) -> _Clock | None:
    try:
        return msgspec.json.decode(trash.read(CLOCK_FILE, 1024) or b"", type=_Clock)
    except (ValueError, NotPlainFileError):  # msgspec's own errors are ValueErrors
        return None


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
