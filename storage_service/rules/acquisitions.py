"""Acquisitions: opened, opened again, marked, closed, aborted, and their parameters (SPEC 4.2)."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from storage_protocol import codec, commands, errors
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.records import CountedMark, Statistic

from . import barrier, facts, readings, render
from .conversions import cancel_queued, queue_for
from .decision import Accepted, AcqIntent, Answer, Decision, Intended, Moment, Undone, Waits
from .facts import Event
from .lifecycle import transition
from .ownership import (
    anothers,
    fitting_acq,
    is_orphan,
    own_acq,
    run_id_of,
    the_storage,
    wrong_acq_state,
    wrong_storage_state,
)
from .parameters import params_over
from .state import Acq, Opening, Run, State, Storage
from .work import ACQ_MARKER, Done, Failed, MakeFolder, Taken

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def new_acq(state: State, command: commands.NewAcq, now: Moment, limits: Limits) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    if transition("storage", storage.state, command.CMD) is None:
        return wrong_storage_state(storage, command.CMD)
    run_id = run_id_of(storage, command.run_name)
    run = state.run(run_id)
    if run is None or (run.owner != storage.uid and is_orphan(state, run)):
        return errors.not_found("run", run_id)
    if run.owner != storage.uid:
        return anothers(run)
    acq_id = f"{run_id}/{command.acq_name}"
    found = state.node(acq_id)
    if found is None:
        if inside := state.nested[acq_id]:
            message = f"{command.acq_name!r} would lie inside the acquisition {inside}, or around it."
            return errors.invalid_name("acq_name", "nested", message)
        return _intended(state, storage, run, None, command, now)
    if type(found) is not Acq:
        return errors.already_exists("node", acq_id, f"{acq_id} is no acquisition; choose another name.")
    row = transition("acquisition", found.state, command.CMD, {command.mode})
    if row is None:
        return wrong_acq_state(found, f"{command.CMD} with mode {command.mode}")
    if not row.tells:
        return _joined(found, command)
    if not found.sealed:
        return Waits(acq_id)
    if command.mode == "append" and (refusal := params_over(found, command.params, limits)):
        return refusal
    return _intended(state, storage, run, found, command, now)


def _opening(command: commands.NewAcq) -> Opening:
    return Opening(command.convert_script, command.params, command.producers_count, command.producers)


def _joined(acq: Acq, command: commands.NewAcq) -> Decision:
    """The acquisition is open already: what this call gives must be what its opening gave."""
    given = _opening(command)
    for name in Opening.__struct_fields__:
        value, first = getattr(given, name), getattr(acq.opening, name)
        # Compared as bytes: to Python 1, 1.0 and True are the same.
        if value not in (None, {}) and _encode(value) != _encode(first):
            message = f"The acquisition {acq.node_id} is open with another {name}: {first!r}, not {value!r}."
            return errors.already_exists("acquisition", acq.node_id, message)
    return Accepted((), Answer("acq", acq.node_id))


def _intended(
    state: State, storage: Storage, run: Run, found: Acq | None, command: commands.NewAcq, now: Moment
) -> Intended:
    removes = command.mode == "remove"
    kept = found if found is not None and not removes else None
    required, expected = _expected(storage, command)
    params = {**kept.params, **command.params} if kept else command.params
    acq = Acq(
        node_id=f"{run.node_id}/{command.acq_name}",
        uid=kept.uid if kept else now.fresh(),
        name=command.acq_name,
        run_id=run.node_id,
        run_name=run.name,
        storage_id=storage.storage_id,
        mp=run.mp,
        path=f"{run.path}/{command.acq_name}",
        visible=run.visible,
        started_at=now.time,
        created_at=kept.created_at if kept else now.time,
        segment=kept.segment + 1 if kept else 1,
        required=required,
        expected=expected,
        convert_script=command.convert_script,
        conversion=kept.conversion if kept else None,
        conversion_segment=kept.conversion_segment if kept else 0,
        warnings=kept.warnings if kept else (),
        opening=_opening(command),
        params=params,
        params_bytes=codec.params_bytes(params),
        reads=readings.owed(state, storage),
        config=storage.config,
        statistics=dict.fromkeys(storage.init.stats_names, Statistic()),
    )
    order = MakeFolder(
        mp=acq.mp,
        path=tuple(acq.path.split("/")),
        marker_name=ACQ_MARKER,
        marker=render.acquisition_marker(acq, state.places),
        id=acq.node_id,
        uid=acq.uid,
        above=((run.path.count("/") + 1, run.node_id),),
        set_aside=(found.uid if found else now.fresh()) if removes else None,
        script=command.convert_script,
    )
    return Intended(AcqIntent(storage.storage_id, order, acq, removes))


def _expected(storage: Storage, command: commands.NewAcq) -> tuple[tuple[str, ...], int]:
    """R and n of the barrier: the storage's own, or what the call gives in their place."""
    required, unnamed, count = storage.producers, storage.producers_unnamed, storage.init.producers_count
    if command.producers is not None:
        required, unnamed = tuple(dict.fromkeys(command.producers)), 0
    if command.producers_count is not None:
        count, unnamed = command.producers_count, 0
    return required, barrier.expected_marks(required, count, unnamed)


def settle_acq(state: State, intent: AcqIntent, result: Done | Taken | Failed, now: Moment) -> Decision:
    """The acquisition's folder is there, or cannot be made: the second decision of `new_acq_storage`."""
    acq, id = intent.acq, intent.acq.node_id
    found = state.acq(id)
    if isinstance(result, Failed):
        refusal = Refusal(result.code, result.message, result.details)
        if found is None or intent.removes or result.code != "unavailable":
            return refusal
        # The marker file may say already that it is open again, which it never was: it is sealed once more.
        message = f"It could not be opened again, and is sealed once more: {result.message}"
        warned = facts.AcqWarned(id, "reopening", message, unsealed=True)
        return Undone(refusal, (Event(warned, found.storage_id, id),))
    events: list[Event] = []
    if found is not None and intent.removes:
        events += cancel_queued(state, id, "acquisition removed", now)
        events.append(Event(facts.AcqRemoved(id), found.storage_id, id))
    elif found is not None:
        cancelled = cancel_queued(state, id, "opened again", now)
        events += cancelled
        # A conversion may have gone on, and a warning may have come, since the intent was committed.
        newest = [_segment_of(each) == found.conversion_segment for each in cancelled]
        acq = replace(
            acq,
            warnings=found.warnings,
            conversion="cancelled" if any(newest) else found.conversion,
            conversion_segment=found.conversion_segment,
        )
    events.append(Event(facts.AcqStarted(acq), intent.storage_id, id))
    return Accepted(tuple(events), Answer("acq", id))


def _segment_of(event: Event) -> int:
    """The segment that a conversion's event tells of."""
    return event.fact.conversion.segment if isinstance(event.fact, facts.ConversionCancelled) else 0


def mark_as_finished(state: State, command: commands.MarkAsFinished, now: Moment) -> Decision:
    acq_id = command.acq_id
    if acq_id is None:
        storage = the_storage(state, command.storage_id)
        if isinstance(storage, Refusal):
            return storage
        if len(storage.open_acqs) > 1:
            message = (
                f"The storage {storage.storage_id} has {len(storage.open_acqs)} open acquisitions; give acq_id."
            )
            return errors.bad_request(message, "acq_id")
        if not storage.open_acqs:
            message = f"The storage {storage.storage_id} has no open acquisition."
            return errors.not_found("acquisition", "", message)
        acq_id = storage.open_acqs[0]
    found = own_acq(state, command.storage_id, acq_id, command.uid, command.segment)
    if isinstance(found, Refusal):
        return found
    acq, fits = found
    guards = _mark_guards(acq, command.producer, fits)
    row = transition("acquisition", acq.state, command.CMD, guards)
    if row is None or not row.tells:
        return Accepted((), Answer("marked", acq_id, value=False))
    fact = facts.ProducerFinished(acq_id, command.producer, command.ok, command.summary)
    events: list[Event] = [Event(fact, acq.storage_id, acq_id)]
    if "last" in guards:
        mark = _mark(command, now)
        events += finish(replace(acq, marks=(*acq.marks, mark)), "", now)
    return Accepted(tuple(events), Answer("marked", acq_id, value=True))


def _mark(command: commands.MarkAsFinished, now: Moment) -> CountedMark:
    return CountedMark(command.producer, command.ok, command.summary, now.time)


def _mark_guards(acq: Acq, producer: str | None, fits: bool) -> set[str]:
    """What the table asks of a mark: whether it is a misfit, and whether it is the last one."""
    if not fits or not barrier.counts(acq.required, acq.expected, acq.marks, producer):
        return {"misfit"}
    marks = (*acq.marks, CountedMark(producer, True, {}, ""))
    return {"last"} if barrier.is_met(acq.required, acq.expected, marks) else set()


def finish(acq: Acq, reason: str, now: Moment) -> list[Event]:
    """The end of a segment, whatever led to it: its verdict, and the conversion that is queued."""
    verdict = barrier.verdict(acq.required, acq.expected, acq.marks)
    events = [Event(facts.AcqFinished(acq.node_id, verdict, reason), acq.storage_id, acq.node_id)]
    if acq.convert_script is not None:
        queued = facts.ConversionQueued(queue_for(acq, acq.convert_script, now))
        events.append(Event(queued, acq.storage_id, acq.node_id))
    return events


def close_acq(state: State, command: commands.CloseAcq, now: Moment) -> Decision:
    acq = fitting_acq(state, command)
    if isinstance(acq, Refusal):
        return acq
    row = transition("acquisition", acq.state, command.CMD)
    if row is None:
        return wrong_acq_state(acq, command.CMD)
    events = finish(acq, command.reason, now) if row.tells else []
    return Accepted(tuple(events), Answer("acq", acq.node_id))


def abort_acq(state: State, command: commands.AbortAcq, now: Moment) -> Decision:
    acq = fitting_acq(state, command)
    if isinstance(acq, Refusal):
        return acq
    row = transition("acquisition", acq.state, command.CMD)
    if row is None:
        return wrong_acq_state(acq, command.CMD)
    events = []
    if row.tells:
        events.append(Event(facts.AcqAborted(acq.node_id, command.reason), acq.storage_id, acq.node_id))
    return Accepted(tuple(events), Answer("acq", acq.node_id))
