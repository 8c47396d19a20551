"""When the trash of a mount point is swept, and what of it has expired; `trash_sweep` and `remote_sweep` sweep it.

Age is the wall clock's, which may lie: see `may_expire`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from storage_protocol.records import TrashEntry
from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.doors.trash import Listed
from storage_service.rules.trash_work import MOST_ENTRIES

INTERVAL_S = 3600.0
DAY_S = 86_400.0
CLOCK_FILE = ".sweep.json"

_log = structlog.get_logger("storage_service")


class Swept(Protocol):
    """What is swept: `changed` is set when there is something to sweep or to measure."""

    changed: threading.Event


T = TypeVar("T", bound=Swept)


class _Clock(msgspec.Struct, frozen=True):
    """What the last sweep left: the wall clock then, and until when nothing expires."""

    wall: float
    held_until: float = 0.0


class Schedule(Generic[T]):
    """The sweep of one trash, without what it does there.

    keep_s   seconds for which an entry is kept; 0: for ever
    expired  hears of entries that are older, at most `MOST_ENTRIES` at a time
    wall, mono  the clocks: seconds since 1970, and seconds of a clock that never jumps
    """

    def __init__(
        self,
        trash: T,
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
        self._stop = threading.Event()

    def start(self) -> None:
        """Sweep in a thread of its own, until `stop`. A mount point that hangs keeps that thread, and no other."""
        threading.Thread(target=self._run, name=f"trash {self._mp}", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more. What hangs is not waited for."""
        self._stop.set()
        self._trash.changed.set()

    def sweep(self, *, expire: bool) -> None:
        """Delete, measure, and if that is wanted tell of what has expired. Raises OSError."""
        raise NotImplementedError

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

    def _tell_expired(self, listed: Iterable[Listed], told: Callable[[Listed], TrashEntry]) -> None:
        """Hand over the oldest entries of a list that is newest first, as `told` makes them."""
        oldest = self._wall() - self._keep_s
        found = [each for each in listed if each[0] < oldest][-MOST_ENTRIES:]
        if found:
            _log.info("entries of the trash have expired", mp=self._mp, entries=len(found))
            self._expired(tuple(told(each) for each in found))

    def _may_expire(self, trash: Folder) -> bool:
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


def _noted(trash: Folder) -> _Clock | None:
    try:
        return msgspec.json.decode(trash.read(CLOCK_FILE, 1024) or b"", type=_Clock)
    except (ValueError, NotPlainFileError):  # msgspec's own errors are ValueErrors
        return None
