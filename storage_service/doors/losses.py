"""What file systems lost of the data that were written to them.

A write that fails in the background is told by `syncfs` once to each open file description that was there before,
and to nobody else: a seal that opens its folder afterwards hears nothing. So one description of a file system is
held from the opening of an acquisition until its seal, all seals of that file system ask through it as well, one
after the other, and what it says counts for every acquisition that was open or not yet sealed at that time.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

from storage_service.doors.directory import Directory

_LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)


class _FileSystem:
    """The description that is held; how often it told of a loss, and how; what each acquisition knows of that."""

    def __init__(self, held: Directory) -> None:
        self.held = held
        self.asking = threading.Lock()
        self.losses = 0
        self.said = ""
        self.known: dict[str, int] = {}


class Losses:
    """May be used by several threads at once. An acquisition is named by its uid."""

    def __init__(self, sync: Callable[[Directory], None] = Directory.sync_file_system) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._systems: dict[int, _FileSystem] = {}

    def watch(self, uid: str, folder: Directory) -> None:
        """Data are about to be written to this folder. Raises OSError when it cannot be opened once more."""
        with self._lock:
            system = self._system(folder)
            system.known[uid] = system.losses

    def sync(self, uid: str, folder: Directory) -> str | None:
        """Sync the file system of a folder. Nil: all is there; else what the system said: something was lost since
        the acquisition was opened.

        Each acquisition is told so once; asked again, it is as if it had been looked at. Raises OSError when it
        cannot be synced for another reason.
        """
        with self._lock:
            system = self._system(folder)
            # Not watched: it was opened in an earlier life, and every loss of this one may be its own.
            system.known.setdefault(uid, 0)
        with system.asking:  # of two at once one would hear of the loss, and the other be told that all is well
            # The folder too: what is mounted there by now may be another file system with the same number.
            for each in (folder, system.held):
                try:
                    self._sync(each)
                except OSError as error:
                    if error.errno not in _LOST:
                        raise
                    system.losses, system.said = system.losses + 1, error.strerror or type(error).__name__
            losses = system.losses
        with self._lock:
            if system.known.get(uid, losses) < losses:
                system.known[uid] = losses
                return system.said
            system.known.pop(uid, None)
            if not system.known:
                # First forgotten: a descriptor that could not be closed is not one to ask.
                self._systems = {key: each for key, each in self._systems.items() if each is not system}
                system.held.close()
        return None

    def _system(self, folder: Directory) -> _FileSystem:
        device = folder.device()
        found = self._systems.get(device)
        if found is None:
            found = self._systems[device] = _FileSystem(folder.reopened())
        return found
