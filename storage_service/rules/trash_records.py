"""What the markers of a folder that was set aside say: where it was, and the records that it takes back.

A marker file holds all that clients saw. What it does not say is taken as it has to be for something that ended:
no mark is counted any more, and the newest conversion is left to `list_conversions`.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from storage_protocol import codec, names, records
from storage_protocol.records import TrashEntry

from .manifests import OFF
from .state import Acq, Group, Run, State
from .trash_work import Listing, Seen
from .work import ACQ_MARKER, RUN_MARKER


class Origin(Struct, frozen=True):
    """Where an entry of the trash was: `run_id` is its own for a run; `above` as of `RestoreFolder`."""

    id: str
    uid: str
    run_id: str
    path: tuple[str, ...]
    marker_name: str
    above: tuple[tuple[int, str], ...]


def origin(seen: Seen) -> Origin | None:
    """Where the one entry was; None when its marker does not say so in a way that agrees with itself."""
    entry = seen.entries[0]
    if entry.kind == "run":
        run = _run(seen.marker)
        if run is None or not _agrees(run.run_id, run.location.path, run.run_name, 1):
            return None
        return Origin(run.run_id, run.uid, run.run_id, tuple(run.location.path.split("/")), RUN_MARKER, ())
    acq = _acquisition(seen.marker)
    if acq is None or acq.acq_id != f"{acq.run_id}/{acq.acq_name}":
        return None
    below = acq.acq_name.count("/") + 1
    tail = f"{acq.run_name}/{acq.acq_name}"
    if not _agrees(acq.acq_id, acq.location.path, tail, below + 1):
        return None
    path = tuple(acq.location.path.split("/"))
    return Origin(acq.acq_id, acq.uid, acq.run_id, path, ACQ_MARKER, ((len(path) - below, acq.run_id),))


def restored(state: State, seen: Seen, where: Origin) -> tuple[Run | None, tuple[Acq, ...]]:
    """The records that the RunDB gets back; none when the group or run that they belong to is not as it was."""
    entry, path = seen.entries[0], "/".join(where.path)
    listings = {each.uid: each for each in seen.listings}
    if where.marker_name == ACQ_MARKER:
        run = state.run(where.run_id)
        if run is None or run.mp != entry.mp or not path.startswith(f"{run.path}/"):
            return None, ()
        acq = _acq(_acquisition(seen.marker), run, listings)
        return None, () if acq is None or acq.path != path else (acq,)
    told, group = _run(seen.marker), state.node(where.id.rpartition("/")[0])
    if told is None or type(group) is not Group or seen.markers is None or group.mp != entry.mp:
        return None, ()
    if path != "/".join(filter(None, (group.path, told.run_name))):
        return None, ()
    run = _run_record(state, told, group, entry, path)
    found = (_acq(_acquisition(marker), run, listings) for marker in seen.markers)
    return run, tuple({acq.node_id: acq for acq in found if acq is not None}.values())


def _run_record(state: State, told: records.Run, group: Group, entry: TrashEntry, path: str) -> Run:
    """The run. It is its storage's again if that is older than it; else whoever appends to it takes it over."""
    storage = state.storage(told.storage_id)
    if storage is not None and (storage.group_id != group.node_id or storage.created_at > told.created_at):
        storage = None
    return Run(
        node_id=told.run_id,
        uid=told.uid,
        name=told.run_name,
        parent_id=group.node_id,
        storage_id=told.storage_id,
        owner=storage.uid if storage is not None else "",
        mp=entry.mp,
        path=path,
        visible=storage.init.use_rundb if storage is not None else group.visible,
        created_at=told.created_at,
        params=told.params,
        params_bytes=codec.params_bytes(told.params),
    )


def _acq(told: records.Acquisition | None, run: Run, listings: dict[str, Listing]) -> Acq | None:
    """The acquisition of this run, if it had ended and its data were sealed: all of it is in its marker then.

    The manifests of its segment count again, so that none of them is written over. One that had none gets none.
    """
    if told is None or told.run_id != run.node_id or not told.sealed or told.state not in ("finished", "aborted"):
        return None
    if told.acq_id != f"{run.node_id}/{told.acq_name}" or names.acq_name(told.acq_name):
        return None
    listing = listings.get(told.uid)
    if listing is not None and listing.segment != told.segment:
        listing = None
    return Acq(
        node_id=told.acq_id,
        uid=told.uid,
        name=told.acq_name,
        run_id=run.node_id,
        run_name=run.name,
        storage_id=run.storage_id,
        mp=run.mp,
        path=f"{run.path}/{told.acq_name}",
        visible=run.visible,
        started_at=told.started_at,
        created_at=told.started_at,
        segment=told.segment,
        state=told.state,
        sealed=True,
        verdict=told.verdict,
        required=told.missing,
        expected=told.expected,
        marks=told.producers,
        convert_script=told.convert_script,
        conversion_segment=told.segment,
        finished_at=told.finished_at,
        reason=told.reason,
        warnings=told.warnings,
        params=told.params,
        params_bytes=codec.params_bytes(told.params),
        manifest=listing.kind if listing is not None else OFF,
        manifests=listing.names if listing is not None else (),
        statistics=told.statistics,
        configurations=told.configurations,
        disk=told.disk,
    )


def _agrees(id: str, path: str, tail: str, depth: int) -> bool:
    """Whether an id and a path end alike, and each segment of the path may be one."""
    segments = path.split("/")
    valid = all(names.folder(each) is None for each in segments) and len(segments) <= 32
    return valid and id.startswith("root/") and id.endswith(f"/{tail}") and segments[-depth:] == tail.split("/")


def _run(marker: bytes) -> records.Run | None:
    try:
        return msgspec.json.decode(marker, type=records.Run)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None


def _acquisition(marker: bytes) -> records.Acquisition | None:
    try:
        return msgspec.json.decode(marker, type=records.Acquisition)
    except (ValueError, RecursionError):
        return None
