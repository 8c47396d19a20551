"""Runs: made, reused, numbered, set aside, and their parameters (SPEC 4.2)."""

from __future__ import annotations

from msgspec.structs import replace

from storage_protocol import codec, commands, errors, names
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits

from . import facts, render
from .conversions import cancel_queued
from .decision import Accepted, Answer, Decision, Intended, Moment, RunIntent, Undone, Waits
from .facts import Event
from .lifecycle import transition
from .ownership import anothers, is_orphan, run_id_of, the_storage, wrong_acq_state, wrong_storage_state
from .parameters import params_over
from .state import Group, GroupPlace, Run, State, Storage, counter_id, groups_of
from .work import RUN_MARKER, Done, Failed, MakeFolder, Taken


def number_of(state: State, storage: Storage, pattern: str, above: int = 0) -> int:
    """The number that a numbered run takes: one more than the highest ever taken, free of runs in memory."""
    before, after = names.split_numbered(pattern) or (pattern, "")
    number = max(state.counter(counter_id(storage.group_id, before, after)), above) + 1
    while True:
        key = ("node", run_id_of(storage, names.numbered(pattern, number)))
        if state.records.get(key) is None:
            return number
        number += 1


def new_run(state: State, command: commands.NewRun, now: Moment, limits: Limits, above: int = 0) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    if transition("storage", storage.state, command.CMD) is None:
        return wrong_storage_state(storage, command.CMD)
    pattern = command.run_name if names.split_numbered(command.run_name) else None
    number = number_of(state, storage, pattern, above) if pattern else 0
    name = names.numbered(command.run_name, number)
    if wrong := names.folder(name):
        return errors.invalid_name("run_name", "segment", f"The run's name would be {name!r}; {wrong}.")
    run_id = run_id_of(storage, name)
    found = state.node(run_id)
    if found is not None and type(found) is not Run:
        return errors.already_exists("node", run_id, f"{run_id} is no run in the RunDB; choose another name.")
    if found is not None and found.owner != storage.uid and not is_orphan(state, found):
        return anothers(found)
    removes = command.mode == "remove" and pattern is None  # a number that is free has nothing to remove
    if found is not None and removes:
        for acq in state.acqs_of(run_id):
            if acq.state == "open":
                return wrong_acq_state(acq, "removing its run")
            if not acq.sealed:
                return Waits(acq.node_id)
    if found is not None and not removes:
        if refusal := params_over(found, command.params, limits):
            return refusal
        run = found
    else:
        run = _fresh_run(state, storage, run_id, name, command, now)
    intent = RunIntent(
        storage_id=storage.storage_id,
        order=_order(state, storage, run, found, removes, fresh=pattern is not None, now=now),
        run=run,
        created=run is not found,
        removes=removes,
        params=command.params,
        pattern=pattern,
        number=number,
    )
    return Intended(intent)


def _fresh_run(
    state: State, storage: Storage, run_id: str, name: str, command: commands.NewRun, now: Moment
) -> Run:
    groups = [group for id in groups_of(run_id) if type(group := state.node(id)) is Group]
    return Run(
        node_id=run_id,
        uid=now.fresh(),
        name=name,
        parent_id=storage.group_id,
        storage_id=storage.storage_id,
        owner=storage.uid,
        mp=storage.init.brg_mp,
        path="/".join(filter(None, (storage.init.brg_path, name))),
        visible=storage.init.use_rundb,
        created_at=now.time,
        params=command.params,
        params_bytes=codec.params_bytes(command.params),
        numbered=command.run_name if names.split_numbered(command.run_name) else None,
        groups=tuple(GroupPlace(each.node_id, each.uid, each.mp, each.path, each.created_at) for each in groups),
    )


def _order(
    state: State, storage: Storage, run: Run, found: Run | None, removes: bool, *, fresh: bool, now: Moment
) -> MakeFolder:
    visible = run.visible or storage.init.use_rundb
    taken_over = replace(run, storage_id=storage.storage_id, visible=visible)
    set_aside = (found.uid if found is not None else now.fresh()) if removes else None
    return MakeFolder(
        mp=run.mp,
        path=tuple(run.path.split("/")),
        marker_name=RUN_MARKER,
        marker=render.run_marker(taken_over, state.places),
        id=run.node_id,
        uid=run.uid,
        set_aside=set_aside,
        fresh=fresh,
        # A parameter that was set just now may not be in its marker file yet.
        aside=render.run_marker(found, state.places) if removes and found is not None else b"",
    )


def settle_run(
    state: State, intent: RunIntent, result: Done | Taken | Failed, now: Moment, limits: Limits
) -> Decision:
    """The run's folder is there, or cannot be made: the second decision of `new_run_storage`."""
    if isinstance(result, Failed):
        refusal = Refusal(result.code, result.message, result.details)
        there = state.run(intent.run.node_id) is not None
        # The marker file may have parameters that were never set.
        half = there and not intent.removes and result.code == "unavailable"
        return Undone(refusal, marker=intent.run.node_id) if half else refusal
    storage = the_storage(state, intent.storage_id)
    if isinstance(storage, Refusal):
        return storage
    run, id = intent.run, intent.run.node_id
    found = state.run(id)
    came_meanwhile = found is not None and intent.created and not intent.removes
    if isinstance(result, Taken) or came_meanwhile:
        # The number is taken, or a run of this name was made while this one was at the door: decide once more.
        name = intent.pattern or run.name
        command = commands.NewRun(storage_id=intent.storage_id, run_name=name, params=intent.params)
        return new_run(state, command, now, limits, above=intent.number)
    events: list[Event] = []
    if found is not None and intent.created:
        for acq in state.acqs_of(id):
            events += cancel_queued(state, acq.node_id, "run removed", now)
            events.append(Event(facts.AcqRemoved(acq.node_id), acq.storage_id, acq.node_id))
        events.append(Event(facts.RunRemoved(id), found.storage_id, id))
    if intent.created:
        counter = None
        if intent.pattern is not None:
            before, after = names.split_numbered(intent.pattern) or (intent.pattern, "")
            counter = counter_id(storage.group_id, before, after)
        events.append(Event(facts.RunCreated(run, counter, intent.number), storage.storage_id, id))
        return Accepted(tuple(events), Answer("run", id))
    if run.owner != storage.uid:
        visible = run.visible or storage.init.use_rundb
        events.append(Event(facts.RunTakenOver(id, storage.uid, visible), storage.storage_id, id))
    for name, value in intent.params.items():
        events.append(Event(facts.RunParamSet(id, name, value), storage.storage_id, id))
    return Accepted(tuple(events), Answer("run", id))
