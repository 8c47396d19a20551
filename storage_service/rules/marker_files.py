"""What `run.json` and `acquisition.json` say, and the records that can be made of it.

A marker file holds all that clients saw. What it does not say is taken as it has to be for something that ended:
no mark is counted any more, and the newest conversion is left to `list_conversions`. It is anybody's to write, so
nothing of it is believed that could not have been said on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from storage_protocol import codec, names, times
from storage_protocol.limits import Limits

from .manifests import OFF
from .rebuild_work import AcqFile, RunFile
from .state import Acq, Group, GroupPlace, Run, State, groups_of
from .trash_work import Listing

DEEPEST = 32
"""Segments of the longest path of an acquisition's folder."""

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_MOST_ID = 2048


def read_run(text: bytes) -> RunFile | None:
    """The content of a `run.json`; None when it cannot be understood."""
    try:
        return msgspec.json.decode(text, type=RunFile)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None


def read_acquisition(text: bytes) -> AcqFile | None:
    """The content of an `acquisition.json`; None when it cannot be understood."""
    try:
        return msgspec.json.decode(text, type=AcqFile)
    except (ValueError, RecursionError):
        return None


def agrees(id: str, path: str, tail: str, depth: int) -> bool:
    """Whether an id and a path end alike, and each segment of the path may be one."""
    segments = path.split("/")
    valid = all(names.folder(each) is None for each in segments) and len(segments) <= DEEPEST
    return valid and id.startswith("root/") and id.endswith(f"/{tail}") and segments[-depth:] == tail.split("/")


def fault_of_run(told: RunFile, limits: Limits) -> str | None:
    """What of it was never said by this service: one word; None when all of it may be so."""
    if not agrees(told.run_id, told.location.path, told.run_name, 1) or told.run_id.count("/") < 2:
        return "run_id"
    if told.numbered is not None and number_of(told) is None:
        return "numbered"
    if not all(_may_be(group, told) for group in told.groups):
        return "groups"
    return _fault(told.run_id, told, [told.created_at], limits)


def _may_be(group: GroupPlace, told: RunFile) -> bool:
    """Whether a group that the run is in may be so; its base run group lies where the run does."""
    *_, base = groups = groups_of(told.run_id)
    if group.id not in groups or not _UID.fullmatch(group.uid) or not is_time(group.created_at):
        return False
    if group.id == base:
        return (group.mp, group.path) == (told.location.mp, told.location.path.rpartition("/")[0])
    return names.mount_point(group.mp) is None and names.path(group.path) is None


def fault_of_acq(told: AcqFile, limits: Limits) -> str | None:
    """As `fault_of_run`."""
    tail = f"{told.run_name}/{told.acq_name}"
    if (
        told.acq_id != f"{told.run_id}/{told.acq_name}"
        or names.acq_name(told.acq_name)
        or told.run_id.count("/") < 2
    ):
        return "acq_id"
    if not agrees(told.acq_id, told.location.path, tail, tail.count("/") + 1):
        return "acq_id"
    if told.state not in ("open", "finished", "aborted") or (told.state != "open") != told.sealed:
        return "state"
    if told.verdict not in (("complete", "partial") if told.state == "finished" else (None,)):
        return "verdict"
    if not 1 <= told.segment <= names.INT64_MAX or not 0 <= told.expected <= names.INT64_MAX:
        return "segment"
    if any(
        map(names.token, [*told.missing, *(mark.producer for mark in told.producers if mark.producer is not None)])
    ):
        return "producers"
    if _any_wrong(value for mark in told.producers for value in mark.summary.values()):
        return "producers"
    moments = [told.started_at, told.finished_at or told.started_at, told.created_at or told.started_at]
    return _fault(told.acq_id, told, [*moments, *(mark.time for mark in told.producers)], limits)


def _fault(id: str, told: RunFile | AcqFile, moments: list[str], limits: Limits) -> str | None:
    if len(id) > _MOST_ID or any(names.segment(each) for each in id.split("/")):
        return "id"
    if not _UID.fullmatch(told.uid):
        return "uid"
    if names.token(told.storage_id):
        return "storage_id"
    if not all(map(is_time, moments)):
        return "time"
    if any(map(names.param, told.params)) or _any_wrong(told.params.values()):
        return "params"
    over = codec.params_over(len(told.params), codec.params_bytes(told.params), limits)
    return "params" if over is not None else None


def _any_wrong(values: Iterable[Any]) -> bool:
    return any(names.value(each) is not None for each in values)


def is_time(text: str) -> bool:
    """Whether it is a time as this service writes them: others do not compare with these."""
    try:
        return times.to_wire(times.from_wire(text)) == text
    except ValueError:
        return False


def number_of(told: RunFile) -> tuple[str, str, int] | None:
    """Of a numbered run: the text before and after its number, and the number; None where it has none."""
    around = names.split_numbered(told.numbered or "")
    if around is None or not told.run_name.startswith(around[0]) or not told.run_name.endswith(around[1]):
        return None
    digits = told.run_name[len(around[0]) : len(told.run_name) - len(around[1])]
    if not re.fullmatch("[0-9]{1,18}", digits):
        return None
    return *around, int(digits)


def run_record(state: State, told: RunFile, group: Group, mp: str, path: str, visible: bool | None = None) -> Run:
    """The run. It is its storage's again if that is older than it; else whoever appends to it takes it over.

    visible  whether it is in the RunDB; None: as its storage, or else its group, has it
    """
    storage = state.storage(told.storage_id)
    if storage is not None and (storage.group_id != group.node_id or storage.created_at > told.created_at):
        storage = None
    if visible is None:
        visible = storage.init.use_rundb if storage is not None else group.visible
    return Run(
        node_id=told.run_id,
        uid=told.uid,
        name=told.run_name,
        parent_id=group.node_id,
        storage_id=told.storage_id,
        owner=storage.uid if storage is not None else "",
        mp=mp,
        path=path,
        visible=visible,
        created_at=told.created_at,
        params=told.params,
        params_bytes=codec.params_bytes(told.params),
        numbered=told.numbered,
        groups=told.groups,
    )


def acq_record(told: AcqFile, run: Run, listing: Listing | None) -> Acq:
    """The acquisition of this run. The manifests of its segment count again, so that none of them is written over.
    One that had none gets none."""
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
        created_at=told.created_at or told.started_at,
        segment=told.segment,
        state=told.state,
        sealed=told.sealed,
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
