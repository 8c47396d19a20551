"""What the doors have to do, and when: read from records that are durable, never carried by an event.

Seals, conversions, marker files and the outside part of commands. Everything here can be built anew from the
records and the open intents; it is the desk's memory of what is under way.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from storage_protocol.records import DiskUse

from ..rules import render, segment_log
from ..rules.conversions import MAX_BACKOFF_S
from ..rules.decision import Moment
from ..rules.state import Acq, Conversion, Places, Run, State
from ..rules.work import ACQ_MARKER, RUN_MARKER, RunScript, SyncData, WriteMarker

MARKER_DELAY_S = 1.0


class ConversionQueue:
    """Which conversions wait and which run, in memory: the state says the same.

    The state tells in seconds since 1970 when a further attempt may start, so that it outlives a restart. That
    clock may jump; what is waited for here is the time that was left when the wait became known.
    """

    def __init__(self, max_parallel: int) -> None:
        self.most = max_parallel
        self.queued: dict[str, None] = {}
        self.running: set[str] = set()
        self._waits: dict[str, float] = {}

    def note(self, conversion: Conversion, moment: Moment) -> None:
        """Follow a conversion's record, decided or loaded."""
        id = conversion.conversion_id
        self.queued.pop(id, None)
        self._waits.pop(id, None)
        self.running.discard(id)
        if conversion.state == "queued":
            self.queued[id] = None
            left = min(conversion.not_before - moment.wall, MAX_BACKOFF_S)
            if left > 0:
                self._waits[id] = moment.mono + left
        elif conversion.state == "running":
            self.running.add(id)

    def ready(self, state: State, mono: float, is_going: Callable[[str], bool]) -> Conversion | None:
        """The next one that may start: its acquisition is sealed and stays, its wait is over, there is a place.

        `is_going` says whether an acquisition, by id, is about to be removed.
        """
        if len(self.running) >= self.most:
            return None
        for id in self.queued:
            conversion = state.conversion(id)
            if conversion is None or self._waits.get(id, 0.0) > mono:
                continue
            acq = state.acq(conversion.acq_id)
            if acq is None or acq.uid != conversion.uid or not acq.sealed or acq.state != "finished":
                continue
            if not is_going(acq.node_id):
                return conversion
        return None

    def next_wake(self, mono: float) -> float | None:
        """When the next wait is over, on the monotonic clock."""
        return min((when for when in self._waits.values() if when > mono), default=None) if self._waits else None


def sync_order(acq: Acq) -> SyncData:
    """Sync the data of an acquisition that ended: the first step of its seal."""
    return SyncData(acq.mp, tuple(acq.path.split("/")), ACQ_MARKER, acq.node_id, acq.uid)


def seal_order(acq: Acq, places: Places, disk: DiskUse) -> WriteMarker:
    """Complete the log and the marker file of an acquisition whose data are synced. Sealed for a second time, it
    says of the disk what it said first: a manifest has proven that."""
    acq = replace(acq, sealed=True, disk=acq.disk or disk)
    return WriteMarker(
        mp=acq.mp,
        path=tuple(acq.path.split("/")),
        marker_name=ACQ_MARKER,
        marker=render.acquisition_marker(acq, places),
        id=acq.node_id,
        uid=acq.uid,
        log=segment_log.block(acq),
        head=segment_log.head(acq),
    )


def marker_order(run: Run, places: Places) -> WriteMarker:
    """Write a run's marker file anew: its parameters changed."""
    return WriteMarker(
        mp=run.mp,
        path=tuple(run.path.split("/")),
        marker_name=RUN_MARKER,
        marker=render.run_marker(run, places),
        id=run.node_id,
        uid=run.uid,
    )


def script_order(conversion: Conversion, acq: Acq, places: Places) -> RunScript:
    """Run one attempt of a conversion (SPEC 4.5)."""
    location = places.location(acq.mp, acq.path)
    folder = location.local_path or ""
    told = render.acquisition(acq, places)
    return RunScript(
        conversion_id=conversion.conversion_id,
        attempt=conversion.attempt,
        script=conversion.script,
        mp=acq.mp,
        path=tuple(acq.path.split("/")),
        log_name=conversion.log_name,
        argv=(folder, acq.node_id),
        env={
            "STORAGE_ID": conversion.storage_id,
            "ACQ_ID": acq.node_id,
            "ACQ_UID": acq.uid,
            "ACQ_NAME": acq.name,
            "RUN_ID": acq.run_id,
            "RUN_NAME": acq.run_name,
            "ACQ_DIR": folder,
            "ACQ_URL": location.url or "",
            "ACQ_SEGMENT": str(conversion.segment),
            "ACQ_VERDICT": told.verdict or "",
            "ACQ_MISSING": ",".join(told.missing),
            "ACQ_METADATA": f"{folder}/{ACQ_MARKER}",
            "CONVERSION_ATTEMPT": str(conversion.attempt),
        },
    )
