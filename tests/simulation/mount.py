"""A mount point in a dictionary, with the faults of a real one: slow, away, full half-way, late.

It answers as SPEC 3 and the doors' own contract say: a folder belongs to whom its marker names, an order that is
carried out twice has the same result, what is late is told as `unavailable` and may still happen afterwards.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from storage_protocol.records import DiskUse
from storage_service.rules.work import (
    Done,
    Failed,
    MakeFolder,
    Order,
    ReachMount,
    Result,
    SyncData,
    Synced,
    WriteMarker,
)
from storage_service.rules.work import Taken as TakenAlready

from .broken import must
from .scripts import Scripts

Path = tuple[str, ...]

AWAY = Failed("unavailable", "The mount point is not there.", {"reason": "mount"})
NO_ANSWER = Failed(
    "unavailable", "The mount point does not answer; try again when it does.", {"reason": "no answer"}
)


class Mark:
    """A marker file: whom a folder belongs to."""

    def __init__(self, name: str, id: str, uid: str, content: bytes) -> None:
        self.name, self.id, self.uid, self.content = name, id, uid, content


class Mount:
    """
    folders   each folder with a marker, by its path
    trash     (uid, path, name) of what was set aside
    away      whether every order fails at present
    half      whether an order that sets something aside fails after that
    spoilt    folders that were made, and told as failed: nobody knows what their markers say
    blind     whether an order that was carried out is told as failed: the sync behind it failed
    saved     of each uid the documents beside its data: name to BLAKE3
    logs      of each uid the first lines of its log's blocks
    """

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts
        self.folders: dict[Path, Mark] = {}
        self.spoilt: set[Path] = set()
        self.trash: list[tuple[str, Path, str]] = []
        self.saved: dict[str, dict[str, str]] = defaultdict(dict)
        self.logs: dict[str, list[str]] = defaultdict(list)
        self.away = self.half = self.blind = False

    def carry_out(self, order: Order) -> Result:
        result = AWAY if self.away else self._carried_out(order)
        if result is AWAY or (self.blind and isinstance(result, Done | Synced)):
            return AWAY
        if isinstance(order, MakeFolder | WriteMarker):
            self.spoilt.discard(order.path)
        return result

    def come_late(self, order: Order) -> None:
        """What was told as failed happens all the same."""
        self.carry_out(order)
        self.told_failed(order)

    def told_failed(self, order: Order) -> None:
        """Who gave the order does not know that it was carried out, now or before."""
        there = self.folders.get(order.path) if isinstance(order, MakeFolder) else None
        if isinstance(order, MakeFolder) and there is not None and there.content == order.marker:
            self.spoilt.add(order.path)

    def _carried_out(self, order: Order) -> Result:
        match order:
            case ReachMount():
                return Done()
            case MakeFolder():
                return self._make(order)
            case SyncData() | WriteMarker():
                return self._in_own(order)

    def _make(self, order: MakeFolder) -> Result:
        if order.script == "missing":
            return Failed("not_found", "There is no such script.", {"what": "script", "id": order.script})
        for depth in range(1, len(order.path)):
            above = self.folders.get(order.path[:depth])
            if above is not None and (depth, above.id) not in order.above:
                return self._anothers(above)
        there = self.folders.get(order.path)
        ours = there is not None and there.uid == order.uid
        if order.fresh and there is not None and not ours:
            return TakenAlready()
        if order.set_aside is not None and there is not None and not ours:
            if there.id != order.id:
                return self._anothers(there)
            self._set_aside(order.path, order.set_aside)
            if self.half:
                return AWAY
        elif there is not None and there.id != order.id:
            return self._anothers(there)
        self.folders[order.path] = Mark(order.marker_name, order.id, order.uid, order.marker)
        return Done()

    def _set_aside(self, path: Path, name: str) -> None:
        busy = [id for id, folder in self.scripts.folders.items() if folder[: len(path)] == path]
        must(not busy, "wrong", "a folder is set aside while scripts work in it", path, busy)
        for each in [each for each in self.folders if each[: len(path)] == path]:
            self.trash.append((self.folders.pop(each).uid, each, name))

    def _in_own(self, order: SyncData | WriteMarker) -> Result:
        there = self.folders.get(order.path)
        if there is None:
            return Failed("unavailable", "The folder is gone.", {"reason": "gone"})
        if (there.id, there.uid, there.name) != (order.id, order.uid, order.marker_name):
            return self._anothers(there)
        if isinstance(order, SyncData):
            return Synced(DiskUse(1, len(there.content), 4096))
        if order.log and order.head not in self.logs[order.uid]:
            self.logs[order.uid].append(order.head)
        there.content = order.marker
        return Done()

    def keep(self, path: Path, uid: str, name: str, digest: str) -> str | None:
        """Save a document, and give the name that it got; None: it is told as failed."""
        there = self.folders.get(path)
        if self.away or there is None or there.uid != uid:
            return None
        saved, again = self.saved[uid], 1
        stem, _, end = name.rpartition(".")
        while saved.setdefault(name, digest) != digest:
            again += 1
            name = f"{stem}-{again}.{end}"
        return None if self.blind else name

    @staticmethod
    def _anothers(mark: Mark) -> Failed:
        return Failed("already_exists", f"The folder is {mark.id}'s.", {"what": "folder", "id": mark.id})

    def whose(self, path: Path) -> str | None:
        """The uid that a folder's marker names."""
        mark = self.folders.get(path)
        return None if mark is None else mark.uid

    def told(self, path: str) -> Any:
        """What the marker file of a folder says; None where there is none."""
        mark = self.folders.get(tuple(path.split("/")))
        return None if mark is None else json.loads(mark.content)
