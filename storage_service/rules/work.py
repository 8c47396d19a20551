"""What a door is asked to do, and what it says came of it: frozen values, without a clock or a file.

A door meets every fault of the outside world as an exception of its own libraries and answers with a `Fault`,
which carries the refusal code that a client will see. The same order carried out twice has the same result.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from storage_protocol.records import DiskUse

from .rebuild_work import FindMarkers, Found
from .state import Link
from .trash_work import GiveUp, LookIntoTrash, RestoreFolder, Seen

RUN_MARKER = "run.json"
ACQ_MARKER = "acquisition.json"
ACQ_LOG = "acquisition.log"
TRASH = ".storage-trash"


class Fault(Exception):
    """The outside world said no: `code` is one of the protocol's refusal codes."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class ReachMount(Struct, frozen=True, tag="reach_mount"):
    """See whether a mount point answers. `mp` is the mount point as clients name it."""

    mp: str


class MakeFolder(Struct, frozen=True, tag="make_folder"):
    """Make the folder of a run or an acquisition, with its marker file, and sync the whole chain.

    mp          the mount point, as clients name it
    path        the folder's segments below the mount, each already valid
    marker_name `run.json` or `acquisition.json`
    marker      the marker file's content (JSON, UTF-8)
    id, uid     what the folder is to describe; `marker` says the same
    above       (depth, id): the folder `path[:depth]` may hold a marker that describes `id`; any other marker
                on the way is another's folder
    set_aside   the name below `.storage-trash` to which what stands there now is moved first; nil: adopt it
    aside       the marker that what is moved gets before, so that it comes back as it is; empty: it keeps its own
    fresh       the folder must not be there yet (a numbered run): see `Taken`
    script      a conversion script that must be runnable, as named by the client; nil: none
    """

    mp: str
    path: tuple[str, ...]
    marker_name: str
    marker: bytes
    id: str
    uid: str
    above: tuple[tuple[int, str], ...] = ()
    set_aside: str | None = None
    fresh: bool = False
    script: str | None = None
    aside: bytes = b""


class SyncData(Struct, frozen=True, tag="sync_data"):
    """Sync what is in a folder that has this marker, and count it. However long that takes."""

    mp: str
    path: tuple[str, ...]
    marker_name: str
    id: str
    uid: str


class Synced(Struct, frozen=True, tag="synced"):
    """It is synced; this is what is in it."""

    disk: DiskUse


class WriteMarker(Struct, frozen=True, tag="write_marker"):
    """Replace the marker file of a folder that is there, atomically.

    log   a block that the folder's log gets before, synced too; empty: none
    head  the first line of that block: where the log has it already, it stays as it is

    A log that cannot be appended to makes the next one, `acquisition-2.log` and so on; see `Done`.
    """

    mp: str
    path: tuple[str, ...]
    marker_name: str
    marker: bytes
    id: str
    uid: str
    log: str = ""
    head: str = ""


class KeepFile(Struct, frozen=True, tag="keep_file"):
    """Save a document in a folder that has this marker, synced: as `name`, or as the next of `stem-2.ext`,
    `stem-3.ext`, ... that is free. What is there is never written over; one with the same content is it."""

    mp: str
    path: tuple[str, ...]
    marker_name: str
    id: str
    uid: str
    name: str
    content: bytes


class Kept(Struct, frozen=True, tag="kept"):
    """It is saved, in this file."""

    name: str


class RunScript(Struct, frozen=True, tag="run_script"):
    """Run one attempt of a conversion.

    script      as the client named it: a path below the scripts folder
    mp, path    where the acquisition's folder is
    log_name    the log file's name in that folder
    argv        the arguments after the script
    env         what the script finds in its environment besides what the door adds
    """

    conversion_id: str
    attempt: int
    script: str
    mp: str
    path: tuple[str, ...]
    log_name: str
    argv: tuple[str, ...]
    env: dict[str, str]


class WriteManifest(Struct, frozen=True, tag="write_manifest"):
    """List the files of a sealed acquisition's folder, with their digests, in a new manifest beside them.

    mp, path    where the folder is; `marker_name` in it must describe `acq_id` and `uid`, and stay as it is
    name        the manifest's file
    kind        `blake3`, or `sizes` for sizes and times alone
    conversion  segment and attempt of the conversion after which it is written; nil: it is the segment's own
    over        the earlier manifests of this segment: only what differs from them is listed. None: every file
    later       whether files changed after the sealing are listed; else a conversion's manifest will have them
    time        when it was asked for, RFC 3339
    previous    the manifest before it in the chain of the storage, nil for the first
    """

    storage_id: str
    acq_id: str
    uid: str
    segment: int
    mp: str
    path: tuple[str, ...]
    name: str
    kind: str
    time: str
    conversion: tuple[int, int] | None = None
    over: tuple[str, ...] = ()
    later: bool = True
    previous: Link | None = None
    marker_name: str = ACQ_MARKER


class ManifestDone(Struct, frozen=True, tag="manifest_done"):
    """A manifest is in place, synced. `blake3` is that of its bytes; `problems`: files that have no digest in it,
    because they could not be read or did not keep still, with the first of them in `example`."""

    files: int
    bytes: int
    blake3: str
    problems: int = 0
    example: str = ""


OPENED_AGAIN = "opened again"
CANCELLED = "cancelled"
"""The `reason` of a `Failed` manifest that nobody needs to be warned of."""


class Done(Struct, frozen=True, tag="done"):
    """It is done, and synced. `remark`: one sentence where it was not done just as it was asked for."""

    remark: str = ""


class Taken(Struct, frozen=True, tag="taken"):
    """A numbered run's folder is there already (`MakeFolder.fresh`): nothing was changed."""


class Failed(Struct, frozen=True, tag="failed"):
    """It could not be done: a refusal code, one sentence and details, as of `Fault`."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


class Ended(Struct, frozen=True, tag="ended"):
    """An attempt of a conversion is over, and nothing that it started is left.

    how         `exited`, `timed_out`, `cancelled`, `interrupted` (by the service's own end), `not_started`, or
                `away`: its mount point did not answer, and nothing was started
    exit_code   of the script itself; negative: the signal that ended it; nil when it was never started
    progress    the last that it said, 0 to 1, or nil
    reason      one sentence where there is something to say, else ""
    """

    conversion_id: str
    attempt: int
    how: str
    exit_code: int | None = None
    progress: float | None = None
    reason: str = ""


Order = (
    ReachMount
    | MakeFolder
    | SyncData
    | WriteMarker
    | KeepFile
    | LookIntoTrash
    | RestoreFolder
    | GiveUp
    | FindMarkers
)
Result = Done | Taken | Synced | Kept | Failed | Seen | Found
