"""The trash: what was set aside is brought back, or given up for good (SPEC 4.7).

1. The trash is what is on the disk: it is looked into first, one mount point after the other.
2. What is found is decided on, and committed before anything is moved: the names, not the age.
3. What was done is told, an event an entry: nothing is destroyed without a trace in the journal.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from storage_protocol import commands, errors
from storage_protocol.errors import Refusal
from storage_protocol.names import RULES
from storage_protocol.records import TrashEntry

from . import facts, render
from .decision import Accepted, Decision, EmptyIntent, Intended, LookIntent, Moment, RestoreIntent, plain
from .facts import Event
from .ownership import wrong_acq_state
from .state import Acq, Key, Run, State
from .trash_records import Origin, origin, restored
from .trash_work import GiveUp, LookIntoTrash, RestoreFolder, Seen
from .work import Done, Failed, Result, Taken


def restore_trash(state: State, command: commands.RestoreTrash) -> Decision:
    mps = _mount_points(state, command.mp)
    if isinstance(mps, Refusal):
        return mps
    if not mps:
        return _no_entry(command.uid)
    order = LookIntoTrash(mps[0], command.uid, contents=len(mps) == 1)
    return Intended(LookIntent(order, True, command.replace, named=command.mp is not None, left=mps[1:]))


def empty_trash(state: State, command: commands.EmptyTrash) -> Decision:
    mps = _mount_points(state, command.mp)
    if isinstance(mps, Refusal):
        return mps
    if not mps:
        return Accepted((), plain(_emptied((), False, ())))
    order = LookIntoTrash(mps[0], command.uid, command.older_than_s)
    return Intended(LookIntent(order, False, named=command.mp is not None, left=mps[1:]))


def needs(state: State, intent: LookIntent | RestoreIntent | EmptyIntent, result: Any) -> list[Key]:
    """The records that must be in memory before `settle_look` or `settle_restore`."""
    if isinstance(intent, LookIntent) and isinstance(result, Seen):
        where = origin(result) if intent.order.contents and result.entries else None
        keys = [] if where is None else [where.id, where.run_id, where.id.rpartition("/")[0]]
        replaces = intent.replace
    elif isinstance(intent, RestoreIntent):
        keys, replaces = [intent.order.id], intent.order.set_aside is not None
    else:
        return []
    needed: list[Key] = [("node", id) for id in dict.fromkeys(keys)]
    if keys and replaces and type(state.records.get(needed[0])) is Run:
        needed.append(("acqs_of", keys[0]))
    return needed


def settle_look(state: State, intent: LookIntent, result: Result, now: Moment) -> Decision:
    """What a mount point's trash has is known, or cannot be: look at the next one, or go on with it."""
    if isinstance(result, Seen):
        found, more = (*intent.found, *result.entries), intent.more or result.more
        intent = replace(intent, found=found, more=more)
    elif isinstance(result, Failed):
        if intent.named:
            return Refusal(result.code, result.message, result.details)
        intent = replace(intent, unreachable=(*intent.unreachable, intent.order.mp))
    if intent.left:
        following = replace(intent.order, mp=intent.left[0])
        return Intended(replace(intent, order=following, left=intent.left[1:]))
    name = intent.order.name
    nowhere = len(intent.unreachable) == len(state.places.roots)
    if not intent.found and (nowhere or (intent.unreachable and name is not None)):
        where = ", ".join(intent.unreachable)
        return errors.unavailable("mount", f"The trash of {where} cannot be looked into now; try again.")
    if not intent.found and name is not None:
        return _no_entry(name)
    return _restore(state, intent, result, now) if intent.restores else _empty(intent)


def _empty(intent: LookIntent) -> Decision:
    if not intent.found:
        return Accepted((), plain(_emptied((), intent.more, intent.unreachable)))
    # One mount point at a time: one that fails in the middle keeps nobody from the others.
    mp = intent.found[0].mp
    entries = tuple(entry for entry in intent.found if entry.mp == mp)
    more = intent.more or len(entries) < len(intent.found)
    order = GiveUp(mp, tuple(entry.uid for entry in entries))
    return Intended(EmptyIntent(order, entries, more=more, unreachable=intent.unreachable))


def _restore(state: State, intent: LookIntent, result: Result, now: Moment) -> Decision:
    if len(intent.found) > 1:
        several = ", ".join(entry.mp for entry in intent.found)
        return errors.bad_request(f"{intent.found[0].uid} is in the trash of {several}; give mp.", "mp")
    entry = intent.found[0]
    if not intent.order.contents:
        order = LookIntoTrash(entry.mp, entry.uid, contents=True)
        return Intended(LookIntent(order, True, intent.replace, named=True))
    where = origin(result) if isinstance(result, Seen) else None
    if where is None or not isinstance(result, Seen):
        message = f"Nothing in {entry.uid} says where it was; it lies in .storage-trash of {entry.mp}."
        return errors.not_found("place", entry.uid, message)
    standing = state.node(where.id)
    if standing is not None and (refusal := _kept_from(state, standing, where, intent.replace)):
        return refusal
    set_aside = None
    if intent.replace:
        set_aside = standing.uid if standing is not None else now.fresh()
    run, acqs = restored(state, result, where)
    order_ = RestoreFolder(
        mp=entry.mp,
        name=entry.uid,
        path=where.path,
        marker_name=where.marker_name,
        id=where.id,
        uid=where.uid,
        above=where.above,
        set_aside=set_aside,
        aside=render.run_marker(standing, state.places) if isinstance(standing, Run) else b"",
    )
    return Intended(RestoreIntent(order_, entry, run, acqs))


def _kept_from(state: State, standing: Any, where: Origin, replaces: bool) -> Refusal | None:
    """Why what stands in the place must stay there."""
    if type(standing) not in (Run, Acq) or standing.uid == where.uid:
        return errors.already_exists("node", where.id, f"{where.id} stands there, and stays.")
    what = "run" if type(standing) is Run else "acquisition"
    if not replaces:
        message = f"The {what} {where.id} stands there with uid {standing.uid}; replace would set it aside."
        return errors.already_exists(what, where.id, message)
    for acq in _acqs_in(state, standing):
        if acq.state == "open":
            return wrong_acq_state(acq, "setting it aside")
        if not acq.sealed:
            return errors.unavailable("sealing", f"The acquisition {acq.node_id} is being sealed; try again.")
        for conversion in state.active_conversions(acq.node_id):
            id = conversion.conversion_id
            message = f"The conversion {id} of {acq.node_id} is {conversion.state}; cancel it first."
            return errors.wrong_state("conversion", id, conversion.state, ["cancel_conversion"], message)
    return None


def _acqs_in(state: State, standing: Run | Acq) -> list[Acq]:
    return state.acqs_of(standing.node_id) if isinstance(standing, Run) else [standing]


def settle_restore(state: State, intent: RestoreIntent, result: Done | Taken | Failed, now: Moment) -> Decision:
    """The folder is back in its place, or cannot be: the second decision of `restore_trash`."""
    if isinstance(result, Failed):
        return Refusal(result.code, result.message, result.details)
    id, events = intent.order.id, list[Event]()
    standing = state.node(id)
    if isinstance(standing, Run | Acq):
        for acq in _acqs_in(state, standing):
            events.append(Event(facts.AcqRemoved(acq.node_id), acq.storage_id, acq.node_id))
        if isinstance(standing, Run):
            events.append(Event(facts.RunRemoved(id), standing.storage_id, id))
    run = intent.run
    if run is not None:
        events.append(Event(facts.RunRestored(run), run.storage_id, id))
    for acq in intent.acqs:
        events.append(Event(facts.AcqRestored(acq), acq.storage_id, acq.node_id))
    rundb, count = bool(run or intent.acqs), len(intent.acqs)
    events.append(_told(facts.TrashRestored(intent.entry, rundb, count), intent.entry))
    told = {**msgspec.to_builtins(intent.entry), "rundb": rundb, "acqs": count}
    return Accepted(tuple(events), plain(told))


def settle_empty(intent: EmptyIntent, result: Done | Taken | Failed) -> Decision:
    """These entries are given up: the second decision of `empty_trash`, and of what has expired."""
    if isinstance(result, Failed):
        return Refusal(result.code, result.message, result.details)
    events = tuple(_told(facts.TrashEmptied(entry, intent.why), entry) for entry in intent.entries)
    return Accepted(events, plain(_emptied(intent.entries, intent.more, intent.unreachable)))


def _emptied(entries: tuple[TrashEntry, ...], more: bool, unreachable: tuple[str, ...]) -> dict[str, Any]:
    known = sum(entry.bytes or 0 for entry in entries)
    return {"entries": len(entries), "bytes": known, "more": more, "unreachable": list(unreachable)}


def _told(fact: facts.TrashRestored | facts.TrashEmptied, entry: TrashEntry) -> Event:
    # A marker file is anybody's to write: what is no storage's id makes no topic.
    named = entry.storage_id if entry.storage_id and not RULES["storage_id"](entry.storage_id) else None
    return Event(fact, named, entry.id or entry.uid)


def _mount_points(state: State, mp: str | None) -> tuple[str, ...] | Refusal:
    roots = state.places.roots
    if mp is None:
        return tuple(roots)
    return (mp,) if mp in roots else errors.not_found("mount", mp)


def _no_entry(uid: str) -> Refusal:
    return errors.not_found("trash", uid, f"There is nothing {errors.shown(uid)} in the trash.")
