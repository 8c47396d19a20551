"""What the markers of a folder that was set aside say: where it was, and the records that it takes back."""

from __future__ import annotations

from msgspec import Struct

from storage_protocol import names

from .marker_files import acq_record, agrees, read_acquisition, read_run, run_record
from .rebuild_work import AcqFile
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
        run = read_run(seen.marker)
        if run is None or not agrees(run.run_id, run.location.path, run.run_name, 1):
            return None
        return Origin(run.run_id, run.uid, run.run_id, tuple(run.location.path.split("/")), RUN_MARKER, ())
    acq = read_acquisition(seen.marker)
    if acq is None or acq.acq_id != f"{acq.run_id}/{acq.acq_name}":
        return None
    below = acq.acq_name.count("/") + 1
    tail = f"{acq.run_name}/{acq.acq_name}"
    if not agrees(acq.acq_id, acq.location.path, tail, below + 1):
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
        acq = _acq(read_acquisition(seen.marker), run, listings)
        return None, () if acq is None or acq.path != path else (acq,)
    told, group = read_run(seen.marker), state.node(where.id.rpartition("/")[0])
    if told is None or type(group) is not Group or seen.markers is None or group.mp != entry.mp:
        return None, ()
    if path != "/".join(filter(None, (group.path, told.run_name))):
        return None, ()
    run = run_record(state, told, group, entry.mp, path)
    found = (_acq(read_acquisition(marker), run, listings) for marker in seen.markers)
    return run, tuple({acq.node_id: acq for acq in found if acq is not None}.values())


def _acq(told: AcqFile | None, run: Run, listings: dict[str, Listing]) -> Acq | None:
    """The acquisition of this run, if it had ended and its data were sealed: all of it is in its marker then."""
    if told is None or told.run_id != run.node_id or not told.sealed or told.state not in ("finished", "aborted"):
        return None
    if told.acq_id != f"{run.node_id}/{told.acq_name}" or names.acq_name(told.acq_name):
        return None
    return acq_record(told, run, listings.get(told.uid))
