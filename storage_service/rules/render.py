"""Records as clients see them (SPEC 4), and as they stand in the marker files beside the data."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from storage_protocol import records

from . import barrier, facts
from .decision import Answer
from .facts import Event
from .state import Acq, Conversion, Group, Node, Places, Run, State, Storage


def storage(record: Storage) -> records.Storage:
    init = record.init
    return records.Storage(
        storage_id=record.storage_id,
        state=record.state,
        brg_name=init.brg_name,
        use_rundb=init.use_rundb,
        brg_mp=init.brg_mp,
        brg_path=init.brg_path,
        brg_parent_id=init.brg_parent_id,
        elog_server=init.elog_server,
        elog_name=init.elog_name,
        stats_names=init.stats_names,
        producers_count=init.producers_count,
        finish_timeout_s=init.finish_timeout_s,
        producer_timeout_s=init.producer_timeout_s,
        producers=record.producers,
        producers_unnamed=record.producers_unnamed,
        open_acqs=record.open_acqs,
        warnings=record.warnings,
        created_at=record.created_at,
        config=record.config,
    )


def run(record: Run, places: Places) -> records.Run:
    return records.Run(
        run_id=record.node_id,
        uid=record.uid,
        run_name=record.name,
        storage_id=record.storage_id,
        location=places.location(record.mp, record.path),
        params=record.params,
        created_at=record.created_at,
    )


def acquisition(record: Acq, places: Places) -> records.Acquisition:
    return records.Acquisition(
        acq_id=record.node_id,
        uid=record.uid,
        acq_name=record.name,
        run_id=record.run_id,
        run_name=record.run_name,
        storage_id=record.storage_id,
        segment=record.segment,
        state=record.state,
        sealed=record.sealed,
        verdict=record.verdict,
        expected=record.expected,
        finished=len(record.marks),
        producers=record.marks,
        missing=barrier.missing(record.required, record.marks),
        failed=barrier.failed(record.marks),
        convert_script=record.convert_script,
        conversion=record.conversion,
        location=places.location(record.mp, record.path),
        params=record.params,
        started_at=record.started_at,
        finished_at=record.finished_at,
        reason=record.reason,
        warnings=record.warnings,
        statistics=record.statistics,
        configurations=record.configurations,
    )


def node(record: Node, places: Places) -> records.Node:
    shared: dict[str, Any] = {
        "id": record.node_id,
        "uid": record.uid,
        "name": record.name,
        "mp": record.mp,
        "path": record.path,
        "created_at": record.created_at,
    }
    if isinstance(record, Group):
        return records.Node(kind="group", parent_id=record.parent_id, params={}, **shared)
    if isinstance(record, Run):
        return records.Node(kind="run", parent_id=record.parent_id, params=record.params, **shared)
    return records.AcquisitionNode(
        kind="acq",
        parent_id=record.run_id,
        params=record.params,
        state=record.state,
        verdict=record.verdict,
        segment=record.segment,
        started_at=record.started_at,
        finished_at=record.finished_at,
        **shared,
    )


def conversion(record: Conversion, places: Places) -> records.Conversion:
    log = places.location(record.mp, f"{record.path}/{record.log_name}") if record.attempt else None
    return records.Conversion(
        conversion_id=record.conversion_id,
        acq_id=record.acq_id,
        uid=record.uid,
        segment=record.segment,
        script=record.script,
        state=record.state,
        attempt=record.attempt,
        exit_code=record.exit_code,
        progress=record.progress,
        log=log,
        queued_at=record.queued_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        reason=record.reason,
    )


def marked(record: Acq, counted: bool) -> records.Marked:
    return records.Marked(
        acq_id=record.node_id,
        uid=record.uid,
        segment=record.segment,
        state=record.state,
        finished=len(record.marks),
        expected=record.expected,
        missing=barrier.missing(record.required, record.marks),
        counted=counted,
    )


def marker(described: records.Run | records.Acquisition, **more: Any) -> bytes:
    """The content of `run.json` or `acquisition.json`: what a client sees, for who has only the folder.

    more  what a rebuild of the RunDB needs besides; left out where it is nil
    """
    kind = "run" if isinstance(described, records.Run) else "acquisition"
    needed = {name: value for name, value in more.items() if value is not None}
    content = {"format": f"storage-service/{kind}/1", **msgspec.to_builtins(described), **needed}
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def run_marker(record: Run, places: Places) -> bytes:
    """The content of a run's `run.json`."""
    hidden = None if record.visible else False
    groups = msgspec.to_builtins(record.groups) or None
    return marker(run(record, places), rundb=hidden, numbered=record.numbered, groups=groups)


def acquisition_marker(record: Acq, places: Places) -> bytes:
    """The content of an acquisition's `acquisition.json`."""
    first = record.created_at if record.created_at != record.started_at else None
    disk = msgspec.to_builtins(record.disk)
    return marker(acquisition(record, places), created_at=first, disk=disk)


def event_data(state: State, event: Event) -> Any:
    """The `data` of an event (SPEC 6). `state` has the event applied, but for what it removes."""
    fact, places = event.fact, state.places
    match fact:
        case facts.AcqParamSet() | facts.RunParamSet():
            return {"param": fact.param, "value": fact.value}
        case facts.NodeAnnotated():
            uid = getattr(state.node(fact.node_id), "uid", "")
            return {
                "node_id": fact.node_id,
                "uid": uid,
                "name": fact.name,
                "value": fact.value,
                "author": fact.author,
            }
        case facts.ProducerFinished():
            acq = _acq(state, fact.acq_id)
            return {
                "acq_id": acq.node_id,
                "uid": acq.uid,
                "segment": acq.segment,
                "producer": fact.producer,
                "ok": fact.ok,
                "summary": fact.summary,
                "finished": len(acq.marks),
                "expected": acq.expected,
            }
        case facts.AcqSealed():
            acq = _acq(state, fact.acq_id)
            return {"acq_id": acq.node_id, "uid": acq.uid, "segment": acq.segment}
        case facts.AcqMeasured():
            acq = _acq(state, fact.acq_id)
            return {
                "acq_id": acq.node_id,
                "uid": acq.uid,
                "segment": acq.segment,
                "when": fact.when,
                "statistics": fact.statistics,
                "configurations": fact.configurations,
            }
        case facts.ConfigSet():
            given = fact.document
            return {
                "name": fact.name,
                "blake3": given.blake3 if given is not None else None,
                "bytes": given.bytes if given is not None else 0,
            }
        case facts.ManifestWritten():
            link = fact.link
            return {
                "acq_id": link.acq_id,
                "uid": link.uid,
                "segment": link.segment,
                "name": link.name,
                "files": fact.files,
                "bytes": fact.bytes,
                "manifest_blake3": link.blake3,
            }
        case facts.AcqStarted() | facts.AcqRestored():
            return acquisition(fact.acq, places)
        case facts.TrashRestored():
            return {**msgspec.to_builtins(fact.entry), "rundb": fact.rundb, "acqs": fact.acqs}
        case facts.TrashEmptied():
            return {**msgspec.to_builtins(fact.entry), "why": fact.why}
        case facts.AcqFinished() | facts.AcqAborted() | facts.AcqRemoved():
            return acquisition(_acq(state, fact.acq_id), places)
        case facts.RunCreated() | facts.RunRestored():
            return run(fact.run, places)
        case facts.RunTakenOver() | facts.RunRemoved():
            return run(_run(state, fact.run_id), places)
        case facts.GroupCreated():
            return node(fact.group, places)
        case (
            facts.ProducerRegistered() | facts.ProducerUnregistered() | facts.ProducerLost() | facts.ProducerBack()
        ):
            return {"producer": fact.producer}
        case facts.MountLow() | facts.MountFull() | facts.MountUnreachable() | facts.MountRecovered():
            return {"mp": fact.mp, "free_bytes": fact.free_bytes, "message": fact.message}
        case facts.LogbookFailed() | facts.LogbookRecovered():
            return {"logbook": fact.logbook, "message": fact.message}
        case facts.LogbookWritten():
            return {"logbook": fact.logbook, "entry": fact.number, "what": fact.kind, "key": fact.key}
        case facts.StorageWarned() | facts.AcqWarned():
            return {"what": fact.what, "message": fact.message}
        case (
            facts.ConversionQueued()
            | facts.ConversionStarted()
            | facts.ConversionSucceeded()
            | facts.ConversionFailed()
            | facts.ConversionCancelled()
        ):
            return conversion(fact.conversion, places)
        case _:
            found = state.storage(event.storage_id or "")
            if found is None:
                raise KeyError(event.storage_id)
            return storage(found)


def _acq(state: State, acq_id: str) -> Acq:
    found = state.acq(acq_id)
    if found is None:
        raise KeyError(acq_id)
    return found


def _run(state: State, run_id: str) -> Run:
    found = state.run(run_id)
    if found is None:
        raise KeyError(run_id)
    return found


def answer(state: State, asked: Answer) -> Any:
    """The result of a mutating command, from the state with its events applied."""
    match asked.kind:
        case "plain":
            return asked.value
        case "storage":
            found = state.storage(asked.id)
            return storage(found) if found is not None else {}
        case "run":
            return run(_run(state, asked.id), state.places)
        case "acq":
            return acquisition(_acq(state, asked.id), state.places)
        case "marked":
            return marked(_acq(state, asked.id), bool(asked.value))
        case "conversion":
            converted = state.conversion(asked.id)
            return conversion(converted, state.places) if converted is not None else {}
        case "node":
            group = state.node(asked.id)
            return node(group, state.places) if group is not None else {}
        case _:
            raise ValueError(asked.kind)
