"""The sweep of the trash of a mount point elsewhere: as `trash_sweep`, an entry at a time."""

from __future__ import annotations

from functools import partial

import structlog

from storage_protocol.times import to_wire
from storage_service.doors.remote_files import RemoteFolder
from storage_service.doors.remote_trash import RemoteTrash
from storage_service.doors.trash import Measured
from storage_service.doors.trash_schedule import Schedule

_log = structlog.get_logger("storage_service")


class RemoteSweep(Schedule[RemoteTrash]):
    """The sweep of one trash elsewhere; see `Schedule`."""

    def sweep(self, *, expire: bool) -> None:
        """Delete, date, measure, and if that is wanted tell of what has expired. Raises OSError."""
        trash = self._trash
        trash.changed.clear()
        with trash.open() as folder:
            if folder is None:
                trash.measured = Measured(0, 0, to_wire(self._wall()))
                return
            for name in trash.given_up():
                if self._stop.is_set():
                    return
                try:
                    trash.delete(name)
                except OSError as error:
                    _log.info("it cannot be deleted", mp=self._mp, name=name, reason=error.strerror or str(error))
            trash.date()
            self._measure(folder)
            if expire and self._keep_s and self._may_expire(folder):
                self._tell_expired(trash.listed(folder), partial(trash.entry, folder))

    def _measure(self, folder: RemoteFolder) -> None:
        listed, sizes = self._trash.listed(folder), {}
        for when, name in listed:
            known = self._trash.sizes.get(name)
            sizes[name] = known if known is not None and known[0] == when else (when, *self._trash.size(name))
            if self._stop.is_set():
                return
        self._trash.sizes = sizes
        total = sum(size[1] for size in sizes.values())
        self._trash.measured = Measured(len(listed), total, to_wire(self._wall()))
