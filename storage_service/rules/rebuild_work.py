"""What a door is asked for when the RunDB is made anew from marker files, and what it finds: frozen values."""

from __future__ import annotations

from msgspec import Struct

from storage_protocol import records
from storage_protocol.records import Skipped

from .state import GroupPlace, Link
from .trash_work import Listing

MOST_MARKERS = 256
"""How many marker files a page has at most."""


class RunFile(records.Run, frozen=True):
    """What a `run.json` says. `rundb`: whether the run is in the RunDB; the others as of `state.Run`."""

    rundb: bool = True
    numbered: str | None = None
    groups: tuple[GroupPlace, ...] = ()


class AcqFile(records.Acquisition, frozen=True):
    """What an `acquisition.json` says. `created_at`: when its first segment was opened; None: it is the first.
    `disk`: what was in the folder when it was sealed."""

    created_at: str | None = None
    disk: records.DiskUse | None = None


class FindMarkers(Struct, frozen=True, tag="find_markers"):
    """Read the marker files below a folder: a page of them, in the order of the bytes of the folders' paths.

    mp, path  the folder; its segments are valid, and need not be there
    after     the last folder that the page before has looked into, by its segments as the file system has them
    most      the most marker files of a page
    """

    mp: str
    path: tuple[str, ...] = ()
    after: tuple[bytes, ...] | None = None
    most: int = MOST_MARKERS


class Proof(Struct, frozen=True):
    """A manifest beside the data of an acquisition: in whose chain it is, when it was asked for, its digest."""

    storage_id: str
    time: str
    link: Link


class FoundRun(Struct, frozen=True):
    """A `run.json` and the path of the folder in which it lies."""

    path: str
    told: RunFile


class FoundAcq(Struct, frozen=True):
    """An `acquisition.json` and the path of the folder in which it lies.

    run_uid  what the run.json above says, "" where there is none that can be understood
    listing  the manifests of its segment
    proofs   the newest manifest of its segment, the newest of a conversion, and the newest of each storage id
    """

    path: str
    told: AcqFile
    run_uid: str
    listing: Listing | None = None
    proofs: tuple[Proof, ...] = ()


class Found(Struct, frozen=True, tag="found"):
    """A page of marker files.

    folders  how many folders were looked into for it
    after    where the next page goes on; None: there is no more
    busy     ids of nodes with which somebody else's outside work is under way
    """

    runs: tuple[FoundRun, ...]
    acqs: tuple[FoundAcq, ...]
    skipped: tuple[Skipped, ...]
    folders: int
    after: tuple[bytes, ...] | None
    busy: frozenset[str] = frozenset()

    def ids(self) -> list[str]:
        """Of the runs and acquisitions that the markers tell of."""
        return [*(each.told.run_id for each in self.runs), *(each.told.acq_id for each in self.acqs)]
