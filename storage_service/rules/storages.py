"""The life cycle of a storage, its producers, and groups of the RunDB (SPEC 4.1, 4.4)."""

from __future__ import annotations

from storage_protocol import commands, errors
from storage_protocol.errors import Refusal

from . import facts
from .decision import Accepted, Answer, ConfigIntent, Decision, Intended, Moment, plain
from .facts import Event
from .lifecycle import transition
from .ownership import the_storage, wrong_storage_state
from .state import Group, State, Storage
from .work import Done, Failed, ReachMount, Taken

ROOT = "root"


def _told(storage: Storage, fact: facts.AnyFact) -> Event:
    return Event(fact, storage.storage_id, storage.storage_id)


def init_storage(state: State, command: commands.InitStorage, now: Moment) -> Decision:
    id = command.storage_id
    if (command.elog_server is None) != (command.elog_name is None):
        missing = "elog_name" if command.elog_name is None else "elog_server"
        return errors.bad_request(f"{missing} is missing; a logbook needs elog_server and elog_name.", missing)
    storage = state.storage(id)
    if storage is None:
        return Accepted((Event(facts.StorageInitialized(now.fresh(), command), id, id),), Answer("storage", id))
    guards = {"same args"} if storage.init == command else set()
    if transition("storage", storage.state, command.CMD, guards) is None:
        differs = [
            name for name in command.__struct_fields__ if getattr(command, name) != getattr(storage.init, name)
        ]
        message = f"The storage {id} exists with another {differs[0]}: {getattr(storage.init, differs[0])!r}."
        return errors.already_exists("storage", id, message)
    return Accepted((), Answer("storage", id))


def config_storage(state: State, command: commands.ConfigStorage, now: Moment) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    row = transition("storage", storage.state, command.CMD)
    if row is None:
        return wrong_storage_state(storage, command.CMD)
    if not row.tells:
        return Accepted((), Answer("storage", storage.storage_id))
    return Intended(ConfigIntent(storage.storage_id, ReachMount(storage.init.brg_mp)))


def settle_config(state: State, intent: ConfigIntent, result: Done | Taken | Failed, now: Moment) -> Decision:
    """The mount point answered, or did not: the second decision of `config_storage`."""
    if isinstance(result, Failed):
        return Refusal(result.code, result.message, result.details)
    storage = the_storage(state, intent.storage_id)
    if isinstance(storage, Refusal):
        return storage
    init = storage.init
    group = _same_group(state, storage.group_id, init.brg_mp, init.brg_path)
    if isinstance(group, Refusal):
        return group
    if init.use_rundb and not _is_group(state, init.brg_parent_id):
        return errors.not_found("group", init.brg_parent_id)
    if group is None:
        group = Group(
            node_id=storage.group_id,
            uid=now.fresh(),
            name=init.brg_name,
            parent_id=init.brg_parent_id,
            mp=init.brg_mp,
            path=init.brg_path,
            visible=False,
            created_at=now.time,
        )
    events = []
    if init.use_rundb and not group.visible:
        group = _shown(group, now)
        events.append(Event(facts.GroupCreated(group), storage.storage_id, group.node_id))
    events.append(_told(storage, facts.StorageConfigured(group, _entries(state, storage))))
    return Accepted(tuple(events), Answer("storage", storage.storage_id))


def _entries(state: State, storage: Storage) -> str:
    """Which entries go into its logbook; `off` where it names none."""
    return state.entries_of(storage.storage_id) if storage.init.elog_server is not None else "off"


def inval_storage(state: State, command: commands.InvalStorage, now: Moment) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    guards = {"forced"} if command.force else set()
    row = transition("storage", storage.state, command.CMD, guards)
    if row is None:
        return wrong_storage_state(storage, command.CMD)
    if not row.tells:
        return Accepted((), Answer("storage", storage.storage_id))
    events = (*_aborts(state, storage, "storage invalidated"), _told(storage, facts.StorageInvalidated()))
    return Accepted(events, Answer("storage", storage.storage_id))


def deinit_storage(state: State, command: commands.DeinitStorage, now: Moment) -> Decision:
    storage = state.storage(command.storage_id)
    if storage is None:
        return Accepted((), plain({}))
    guards = {"forced"} if command.force else set()
    if transition("storage", storage.state, command.CMD, guards) is None:
        return wrong_storage_state(storage, command.CMD)
    events = list(_aborts(state, storage, "storage deinitialized"))
    if storage.configured:
        events.append(_told(storage, facts.StorageInvalidated()))
    events.append(_told(storage, facts.StorageDeinitialized()))
    return Accepted(tuple(events), plain({}))


def _aborts(state: State, storage: Storage, reason: str) -> tuple[Event, ...]:
    return tuple(Event(facts.AcqAborted(id, reason), storage.storage_id, id) for id in storage.open_acqs)


def register_producer(state: State, command: commands.RegisterProducer, now: Moment) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    if command.producer is not None and command.producer in storage.producers:
        return Accepted((), Answer("storage", storage.storage_id))
    event = _told(storage, facts.ProducerRegistered(command.producer))
    return Accepted((event,), Answer("storage", storage.storage_id))


def unregister_producer(state: State, command: commands.UnregisterProducer, now: Moment) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    if command.producer not in storage.producers:
        return Accepted((), Answer("storage", storage.storage_id))
    event = _told(storage, facts.ProducerUnregistered(command.producer))
    return Accepted((event,), Answer("storage", storage.storage_id))


def new_group(state: State, command: commands.NewGroup, now: Moment) -> Decision:
    if not _is_group(state, command.parent_id):
        return errors.not_found("group", command.parent_id)
    node_id = f"{command.parent_id}/{command.name}"
    group = _same_group(state, node_id, command.mp, command.path)
    if isinstance(group, Refusal):
        return group
    if group is None:
        group = Group(
            node_id=node_id,
            uid=now.fresh(),
            name=command.name,
            parent_id=command.parent_id,
            mp=command.mp,
            path=command.path,
            visible=True,
            created_at=now.time,
        )
    elif group.visible:
        return Accepted((), Answer("node", node_id))
    event = Event(facts.GroupCreated(_shown(group, now)), None, node_id)
    return Accepted((event,), Answer("node", node_id))


def _is_group(state: State, node_id: str) -> bool:
    if node_id == ROOT:
        return True
    found = state.node(node_id)
    return type(found) is Group and found.visible


def _same_group(state: State, node_id: str, mp: str, path: str) -> Group | Refusal | None:
    """The group of this id, if there is one, with this place; a refusal when the id is taken otherwise."""
    found = state.node(node_id)
    if found is None:
        return None
    if type(found) is not Group:
        message = f"{node_id} is no group in the RunDB; choose another name."
        return errors.already_exists("node", node_id, message)
    if (found.mp, found.path) != (mp, path):
        message = (
            f"The group {node_id} exists with mp {found.mp!r} and path {found.path!r}, not {mp!r} and {path!r}."
        )
        return errors.already_exists("group", node_id, message)
    return found


def _shown(group: Group, now: Moment) -> Group:
    return Group(
        group.node_id, group.uid, group.name, group.parent_id, group.mp, group.path, True, group.created_at
    )
