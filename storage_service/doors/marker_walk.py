"""The marker files below a mount point, found by a walk that goes on, page by page, where it left off.

1. Folders come in the order of the bytes of their names, each before what is in it: the path of the last one is
   all that the next page needs.
2. Everything is reached by descriptors from the root, and no link is followed. Names that begin with a dot are the
   service's own, and what is in an acquisition's folder is data: neither is entered.
3. A page ends after so many markers, bytes or seconds, whatever comes first, and holds no more than `_NAMES` names
   of a folder at a time. What cannot be read, or vanishes meanwhile, is told, and keeps nobody from the rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from heapq import nsmallest

from storage_protocol.records import Skipped
from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.doors.manifest_format import shown
from storage_service.doors.manifest_headers import proofs_of
from storage_service.doors.markers import LIMIT_BYTES
from storage_service.failpoints import passing
from storage_service.rules.marker_files import DEEPEST, read_acquisition, read_run
from storage_service.rules.rebuild_work import FindMarkers, Found, FoundAcq, FoundRun
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER

PAGE_S = 2.0
"""After so long a page ends: well before a mount point counts as one that does not answer."""
PAGE_BYTES = 4 << 20
_MOST_SKIPPED = 256
_NAMES = 4096

Names = tuple[bytes, ...]


class MarkerWalk:
    """One page of a walk. `clock`: seconds of a clock that never jumps."""

    def __init__(self, order: FindMarkers, clock: Callable[[], float] = time.monotonic) -> None:
        self._order = order
        self._clock = clock
        self._until = clock() + PAGE_S
        self._bytes = self._folders = 0
        self._runs: list[FoundRun] = []
        self._acqs: list[FoundAcq] = []
        self._skipped: list[Skipped] = []
        self._last: Names = order.after or ()

    def page(self, root: Folder) -> Found:
        """The next page, below the open root of the mount point.

        Raises what `Directory.enter` raises where the order's own path cannot be entered.
        """
        passing("rebuild.looking")
        whole = self._enter(root, (), "")
        passing("rebuild.looked")
        after = None if whole else self._last
        return Found(tuple(self._runs), tuple(self._acqs), tuple(self._skipped), self._folders, after)

    def _enter(self, folder: Folder, path: Names, run_uid: str) -> bool:
        """Go down the order's own path, then walk what is below it. True: to its end."""
        if len(path) < len(self._order.path):
            if _marker(folder, ACQ_MARKER):
                return True
            run_uid = _uid(_marker(folder, RUN_MARKER)) or run_uid
            name = self._order.path[len(path)]
            with folder.enter(name) as here:
                return self._enter(here, (*path, os.fsencode(name)), run_uid)
        after = self._order.after
        return self._look(folder, path, run_uid, None if after is None else after[len(path) :])

    def _look(self, folder: Folder, path: Names, run_uid: str, after: Names | None) -> bool:
        """Take a folder's markers, then what is below it. `after`: the page before has looked into it, and into
        what is in it up to there. False: the page is full."""
        acq, run = _marker(folder, ACQ_MARKER), _marker(folder, RUN_MARKER)
        if after is None:
            self._folders += 1
            self._last = path
            self._take(folder, path, run_uid, acq, run)
        if acq or acq is None:
            return after is not None or not self._is_full()
        if after is None and self._is_full():
            return False
        if len(path) >= DEEPEST:
            self._skip(path, "It lies too deep for what is below it to be looked at.")
            return True
        return self._below(folder, path, _uid(run) if run or run is None else run_uid, after or ())

    def _below(self, folder: Folder, path: Names, run_uid: str, after: Names) -> bool:
        done = after[0] if after else b""
        if after and not self._visit(folder, path, after[0], run_uid, after[1:]):
            return False
        while True:
            names = nsmallest(_NAMES, (name for each in folder.folders() if (name := os.fsencode(each)) > done))
            for name in names:
                if not name.startswith(b".") and not self._visit(folder, path, name, run_uid, None):
                    return False
            if len(names) < _NAMES:
                return True
            done = names[-1]

    def _visit(self, folder: Folder, path: Names, name: bytes, run_uid: str, after: Names | None) -> bool:
        here = (*path, name)
        try:
            with folder.enter(os.fsdecode(name)) as below:
                return self._look(below, here, run_uid, after)
        except OSError as error:
            # What is deeper was looked into already: the walk never goes back.
            self._last = max(self._last, here)
            if after != ():  # else the page before has told it
                self._skip(here, f"It cannot be read: {error.strerror or type(error).__name__}.")
            return after is not None or not self._is_full()

    def _take(self, folder: Folder, path: Names, run_uid: str, acq: bytes | None, run: bytes | None) -> None:
        """What the markers of a folder say; b"" stands for one that is not there, None for what is no file."""
        place = _shown(path)
        self._bytes += len(acq or b"") + len(run or b"")
        if acq != b"" and run != b"":
            self._skip(path, f"It has both a {RUN_MARKER} and an {ACQ_MARKER}.")
        elif acq != b"":
            told = read_acquisition(acq) if acq else None
            if told is None:
                self._skip(path, f"Its {ACQ_MARKER} cannot be understood.")
            else:
                self._acqs.append(FoundAcq(place, told, run_uid, *proofs_of(folder, told.uid, told.segment)))
        elif run != b"":
            said = read_run(run) if run else None
            if said is None:
                self._skip(path, f"Its {RUN_MARKER} cannot be understood.")
            else:
                self._runs.append(FoundRun(place, said))

    def _skip(self, path: Names, reason: str) -> None:
        self._skipped.append(Skipped(_shown(path), reason))

    def _is_full(self) -> bool:
        return (
            len(self._runs) + len(self._acqs) >= self._order.most
            or len(self._skipped) >= _MOST_SKIPPED
            or self._bytes >= PAGE_BYTES
            or self._clock() >= self._until
        )


def _marker(folder: Folder, name: str) -> bytes | None:
    """The content of a marker file, b"" where there is none; None: it is no plain file, or is too long."""
    try:
        # An empty one is none: nobody can have been told of it.
        return folder.read(name, LIMIT_BYTES) or b""
    except NotPlainFileError:
        return None


def _uid(run: bytes | None) -> str:
    """What a run.json says; "" where it cannot be understood."""
    told = read_run(run) if run else None
    return told.uid if told is not None else ""


def _shown(path: Names) -> str:
    """A path for people; what may be one of the service's own is told as it is."""
    return shown(b"/".join(path))
