"""What a door is asked to do with the trash of a mount point, and what it says it found there: frozen values."""

from __future__ import annotations

from msgspec import Struct

from storage_protocol.records import TrashEntry

MOST_ENTRIES = 1000
"""How many entries of one trash are taken up at a time."""


class LookIntoTrash(Struct, frozen=True, tag="look_into_trash"):
    """See what is in the trash of a mount point; nothing is changed.

    name          the one entry that is meant; nil: all of them
    older_than_s  only what was set aside so long ago, in seconds
    contents      read the markers too, of the entry itself and of the acquisitions in it
    """

    mp: str
    name: str | None = None
    older_than_s: float = 0.0
    contents: bool = False


class RestoreFolder(Struct, frozen=True, tag="restore_folder"):
    """Move an entry of the trash back to its place, with the folders above it, and sync the whole chain.

    name         the entry's
    path         the folder's segments below the mount, each already valid
    marker_name  `run.json` or `acquisition.json`, as it lies in the entry
    id, uid      what that marker says
    above        as of `MakeFolder`
    set_aside    the name in the trash to which what stands there now is moved first; nil: nothing may stand there
    aside        as of `MakeFolder`
    """

    mp: str
    name: str
    path: tuple[str, ...]
    marker_name: str
    id: str
    uid: str
    above: tuple[tuple[int, str], ...] = ()
    set_aside: str | None = None
    aside: bytes = b""


class GiveUp(Struct, frozen=True, tag="give_up"):
    """Take these entries out of the trash, so that nothing can bring them back; their deletion follows."""

    mp: str
    names: tuple[str, ...]


class Listing(Struct, frozen=True):
    """The manifests beside the data of an acquisition's newest segment: their kind, and their files in order."""

    uid: str
    segment: int
    kind: str
    names: tuple[str, ...]


class Seen(Struct, frozen=True, tag="seen"):
    """What was looked for in the trash.

    entries  newest first, at most `MOST_ENTRIES`; `more` when there are others
    marker   with `contents`: the marker file of the one entry
    markers  with `contents`: those of the acquisitions in it; nil: too many, or they cannot be read
    listings with `contents`: of the acquisitions that have manifests, itself or those in it
    """

    entries: tuple[TrashEntry, ...]
    more: bool = False
    marker: bytes = b""
    markers: tuple[bytes, ...] | None = ()
    listings: tuple[Listing, ...] = ()
