"""`decide(state, command, now)`: what a command does, or why not. Pure.

Each mutating command has one function; each reads the tables of `lifecycle`. `needs` says which records must be
in memory first; `settle` is the second decision of a command that asked the outside world.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storage_protocol import commands, names
from storage_protocol.commands import Command
from storage_protocol.limits import Limits

from . import (
    acquisitions,
    configuration,
    conversions,
    journal,
    notes,
    parameters,
    rebuild,
    runs,
    storages,
    trash,
    variables,
)
from .decision import (
    AcqIntent,
    ConfigIntent,
    Decision,
    EmptyIntent,
    Intent,
    LookIntent,
    Moment,
    RebuildIntent,
    RestoreIntent,
    RunIntent,
)
from .ownership import run_id_of
from .rebuild_work import Found
from .state import Acq, Conversion, Key, Run, State, counter_id, groups_of, variable_key
from .trash_work import Seen
from .work import Kept, Result, Synced

_DECIDE: dict[type[Command], Callable[[State, Any, Moment, Limits], Decision]] = {
    commands.InitStorage: lambda s, c, n, _: storages.init_storage(s, c, n),
    commands.ConfigStorage: lambda s, c, n, _: storages.config_storage(s, c, n),
    commands.InvalStorage: lambda s, c, n, _: storages.inval_storage(s, c, n),
    commands.DeinitStorage: lambda s, c, n, _: storages.deinit_storage(s, c, n),
    commands.RegisterProducer: lambda s, c, n, _: storages.register_producer(s, c, n),
    commands.UnregisterProducer: lambda s, c, n, _: storages.unregister_producer(s, c, n),
    commands.NewRun: runs.new_run,
    commands.SetParamRun: parameters.set_param_run,
    commands.NewAcq: acquisitions.new_acq,
    commands.SetParamAcq: parameters.set_param_acq,
    commands.MarkAsFinished: lambda s, c, n, _: acquisitions.mark_as_finished(s, c, n),
    commands.CloseAcq: lambda s, c, n, _: acquisitions.close_acq(s, c, n),
    commands.AbortAcq: lambda s, c, n, _: acquisitions.abort_acq(s, c, n),
    commands.NewGroup: lambda s, c, n, _: storages.new_group(s, c, n),
    commands.RetryConversion: lambda s, c, n, _: conversions.retry_conversion(s, c, n),
    commands.CancelConversion: lambda s, c, n, _: conversions.cancel_conversion(s, c, n),
    commands.AnnotateNode: lambda s, c, n, _: notes.annotate_node(s, c, n),
    commands.SetConfig: lambda s, c, n, _: configuration.set_config(s, c),
    commands.SetVar: lambda s, c, n, _: variables.set_var(s, c),
    commands.AddVar: lambda s, c, n, _: variables.add_var(s, c),
    commands.PruneEvents: lambda s, c, n, _: journal.prune_events(s, c),
    commands.RestoreTrash: lambda s, c, n, _: trash.restore_trash(s, c),
    commands.EmptyTrash: lambda s, c, n, _: trash.empty_trash(s, c),
    commands.RebuildRundb: lambda s, c, n, _: rebuild.rebuild_rundb(s, c),
}


def decide(state: State, command: Command, now: Moment, limits: Limits) -> Decision:
    """What a mutating command does. Everything that `needs` names must be in memory (else KeyError)."""
    return _DECIDE[type(command)](state, command, now, limits)


def settle(state: State, intent: Intent, result: Result, now: Moment, limits: Limits) -> Decision:
    """The second decision of a command, with what the outside world said."""
    if isinstance(intent, LookIntent):
        return trash.settle_look(state, intent, result, now)
    if isinstance(intent, RebuildIntent):
        return rebuild.settle_rebuild(state, intent, result, now, limits)
    if isinstance(result, Seen | Found | Synced | Kept):
        raise TypeError(f"{type(intent).__name__} has no use for {type(result).__name__}")
    match intent:
        case ConfigIntent():
            return storages.settle_config(state, intent, result, now)
        case RunIntent():
            return runs.settle_run(state, intent, result, now, limits)
        case AcqIntent():
            return acquisitions.settle_acq(state, intent, result, now)
        case RestoreIntent():
            return trash.settle_restore(state, intent, result, now)
        case EmptyIntent():
            return trash.settle_empty(intent, result)
        case _:
            raise TypeError(f"{type(intent).__name__} is not settled with a reply")


def needs(state: State, command: Command) -> list[Key]:
    """The records that must be in memory before `decide`. Asked again when they are, it may name more."""
    match command:
        case commands.SetParamAcq() | commands.CloseAcq() | commands.AbortAcq():
            return _acq_and_run(state, command.acq_id)
        case commands.MarkAsFinished():
            return _acq_and_run(state, command.acq_id) if command.acq_id is not None else _of_open(state, command)
        case commands.SetParamRun():
            storage = state.storage(command.storage_id)
            return [("node", run_id_of(storage, command.run_name))] if storage else []
        case commands.NewRun():
            return _of_new_run(state, command)
        case commands.NewAcq():
            return _of_new_acq(state, command)
        case commands.NewGroup():
            return [("node", command.parent_id), ("node", f"{command.parent_id}/{command.name}")]
        case commands.AnnotateNode():
            return [("node", command.node_id)]
        case commands.AddVar():
            return [variable_key(command.ns, command.name)]
        case commands.RetryConversion() | commands.CancelConversion():
            key = ("conversion", command.conversion_id)
            found = state.records.get(key)
            return [key, ("node", found.acq_id)] if type(found) is Conversion else [key]
        case _:
            return []


def needs_to_settle(state: State, intent: Intent, result: Any = None) -> list[Key]:
    """The same for `settle`; `result` is what the outside world said."""
    match intent:
        case LookIntent() | RestoreIntent() | EmptyIntent():
            return trash.needs(state, intent, result)
        case RebuildIntent():
            return rebuild.needs(state, result)
        case ConfigIntent():
            storage = state.storage(intent.storage_id)
            return [("node", storage.group_id), ("node", storage.init.brg_parent_id)] if storage else []
        case RunIntent():
            keys = [("node", intent.run.node_id)]
            keys += _of_numbered(state, intent.storage_id, intent.pattern, intent.number)
            run = state.records.get(keys[0])
            keys += _groups_above(intent.run.node_id)
            if type(run) is Run and (intent.created or run.owner != _uid(state, intent.storage_id)):
                keys.append(("acqs_of", run.node_id))
            return keys
        case AcqIntent():
            return [("node", intent.acq.node_id), ("node", intent.acq.run_id)]
        case _:
            return []


def _uid(state: State, storage_id: str) -> str | None:
    storage = state.storage(storage_id)
    return storage.uid if storage else None


def _acq_and_run(state: State, acq_id: str) -> list[Key]:
    found = state.records.get(("node", acq_id))
    return [("node", acq_id), ("node", found.run_id)] if type(found) is Acq else [("node", acq_id)]


def _of_open(state: State, command: commands.MarkAsFinished) -> list[Key]:
    storage = state.storage(command.storage_id)
    return [key for id in (storage.open_acqs if storage else ()) for key in _acq_and_run(state, id)]


def _of_numbered(state: State, storage_id: str, pattern: str | None, above: int) -> list[Key]:
    storage = state.storage(storage_id)
    if storage is None or pattern is None:
        return []
    before, after = names.split_numbered(pattern) or (pattern, "")
    counter = ("counter", counter_id(storage.group_id, before, after))
    if not state.has(counter):
        return [counter]
    number = runs.number_of(state, storage, pattern, above)
    return [counter, ("node", run_id_of(storage, names.numbered(pattern, number)))]


def _of_new_run(state: State, command: commands.NewRun) -> list[Key]:
    storage = state.storage(command.storage_id)
    if storage is None:
        return []
    key = ("node", run_id_of(storage, command.run_name))
    above = _groups_above(key[1])
    if names.split_numbered(command.run_name):
        return above + _of_numbered(state, command.storage_id, command.run_name, 0)
    found = state.records.get(key)
    if type(found) is Run and command.mode == "remove":
        return [key, *above, ("acqs_of", found.node_id)]
    return [key, *above]


def _groups_above(run_id: str) -> list[Key]:
    """A new run remembers them."""
    return [("node", id) for id in groups_of(run_id)]


def _of_new_acq(state: State, command: commands.NewAcq) -> list[Key]:
    storage = state.storage(command.storage_id)
    if storage is None:
        return []
    run_id = run_id_of(storage, command.run_name)
    acq_id = f"{run_id}/{command.acq_name}"
    keys = [("node", run_id), ("node", acq_id)]
    if state.records.get(keys[1], acq_id) is None:  # known to be absent
        keys.append(("nested", acq_id))
    return keys
