"""What a command touches, so that two that collide are not decided around one another's outside work.

A command whose outside work is under way holds its scope until that is committed. Another one waits when it
touches the same storage as a whole, the same node, or a node above or below it; the rest goes on.
"""

from __future__ import annotations

from msgspec import Struct

from storage_protocol import commands, names
from storage_protocol.commands import Command

from .decision import (
    AcqIntent,
    ConfigIntent,
    EmptyIntent,
    Intent,
    LookIntent,
    RebuildIntent,
    RestoreIntent,
    RunIntent,
)
from .ownership import run_id_of
from .state import State

# No storage has such an id. One command at a time works on the trash of a mount point.
_TRASH = ".trash "
# Nor such a one. What a rebuild brings back it does not hold: it keeps off what others do (`rules/rebuild.py`).
_REBUILD = ".rebuild "


class Scope(Struct, frozen=True):
    """`storage` is touched; all of it where `whole`. `node` is a RunDB id, or "" for none."""

    storage: str = ""
    whole: bool = False
    node: str = ""


def above(node: str) -> list[str]:
    """A node's id and those of all nodes above it, from the root on."""
    parts = node.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def scope_of(state: State, command: Command) -> Scope:
    """What a mutating command touches, as far as its arguments and the storage's record tell."""
    match command:
        case commands.SetParamAcq() | commands.CloseAcq() | commands.AbortAcq():
            return Scope(command.storage_id, node=command.acq_id)
        case commands.MarkAsFinished() if command.acq_id is not None:
            return Scope(command.storage_id, node=command.acq_id)
        case commands.NewRun() | commands.SetParamRun():
            storage = state.storage(command.storage_id)
            name = _of_one_counter(command.run_name)
            return Scope(command.storage_id, node=run_id_of(storage, name) if storage else "")
        case commands.NewAcq():
            storage = state.storage(command.storage_id)
            run = run_id_of(storage, command.run_name) if storage else ""
            return Scope(command.storage_id, node=f"{run}/{command.acq_name}" if run else "")
        case commands.NewGroup():
            return Scope(node=f"{command.parent_id}/{command.name}")
        case commands.AnnotateNode():
            return Scope(node=command.node_id)
        case commands.RetryConversion():
            found = state.records.get(("conversion", command.conversion_id))
            return Scope(node=getattr(found, "acq_id", ""))
        case commands.CancelConversion() | commands.SetVar() | commands.AddVar() | commands.PruneEvents():
            return Scope()
        case commands.RestoreTrash() | commands.EmptyTrash():
            return Scope(_TRASH + command.mp, whole=True) if command.mp is not None else Scope()
        case commands.RebuildRundb():
            return Scope(_REBUILD + command.mp, whole=True)
        case _:
            return Scope(getattr(command, "storage_id", ""), whole=True)


def scope_of_intent(intent: Intent) -> Scope:
    """What an open intent holds."""
    match intent:
        case ConfigIntent():
            return Scope(intent.storage_id, whole=True)
        case RunIntent():
            name = _of_one_counter(intent.pattern) if intent.pattern else intent.run.name
            return Scope(intent.storage_id, node=f"{intent.run.parent_id}/{name}")
        case AcqIntent():
            return Scope(intent.storage_id, node=intent.acq.node_id)
        case RestoreIntent():
            return Scope(_TRASH + intent.order.mp, whole=True, node=intent.order.id)
        case EmptyIntent():
            return Scope(_TRASH + intent.order.mp, whole=True)
        case RebuildIntent():
            return Scope(_REBUILD + intent.order.mp, whole=True)
        case LookIntent() if intent.named:
            return Scope(_TRASH + intent.order.mp, whole=True)
        case _:
            return Scope()


def _of_one_counter(run_name: str) -> str:
    """One name for all numbered runs that share a counter, so that they are not numbered around each other."""
    around = names.split_numbered(run_name)
    return f"{around[0]}{{n}}{around[1]}" if around else run_name
