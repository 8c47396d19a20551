"""Every command and its arguments (SPEC 4): a closed table. What is not in it does not exist."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from . import arguments as a
from .annotations import AnnotateNode as AnnotateNode
from .annotations import ListAnnotations as ListAnnotations
from .configuration import SetConfig as SetConfig
from .journal import PruneEvents as PruneEvents
from .journal import ReplayEvents as ReplayEvents
from .rebuild import RebuildRundb as RebuildRundb
from .specs import Command as Command
from .specs import CommandSpec, spec_of
from .variables import AddVar as AddVar
from .variables import GetVar as GetVar
from .variables import ListVars as ListVars
from .variables import SetVar as SetVar

# 4.1 Life cycle of a storage


class InitStorage(Command, frozen=True, kw_only=True):
    """Create a storage, or find it there with the same arguments."""

    CMD: ClassVar = "init_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    brg_name: a.GroupName
    use_rundb: a.Flag = True
    brg_mp: a.MountPoint = "file:///"
    brg_path: a.GroupPath = ""
    brg_parent_id: a.Id = "root"
    elog_server: a.ElogServer | None = None
    elog_name: a.ElogName | None = None
    stats_names: a.Names = ()
    producers_count: a.Count = 1
    finish_timeout_s: a.Seconds | None = None
    producer_timeout_s: a.Seconds | None = None


class ConfigStorage(Command, frozen=True, kw_only=True):
    """Resolve the storage's mount point and create its base run group in the RunDB."""

    CMD: ClassVar = "config_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId


class InvalStorage(Command, frozen=True, kw_only=True):
    """Take a storage back to ready; with force, abort its open acquisitions first."""

    CMD: ClassVar = "inval_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    force: a.Flag = False


class DeinitStorage(Command, frozen=True, kw_only=True):
    """Forget a storage; its data and its RunDB nodes stay."""

    CMD: ClassVar = "deinit_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    force: a.Flag = False


class RegisterProducer(Command, frozen=True, kw_only=True):
    """Expect one more producer in later acquisitions."""

    CMD: ClassVar = "register_producer_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    producer: a.ProducerName | None = None


class UnregisterProducer(Command, frozen=True, kw_only=True):
    """Expect a named producer no longer in later acquisitions."""

    CMD: ClassVar = "unregister_producer_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    producer: a.ProducerName


class HeartbeatProducer(Command, frozen=True, kw_only=True):
    """A producer's sign of life."""

    CMD: ClassVar = "heartbeat_producer_storage"
    storage_id: a.StorageId
    producer: a.ProducerName


class GetStorage(Command, frozen=True, kw_only=True):
    """One storage."""

    CMD: ClassVar = "get_storage"
    storage_id: a.StorageId


class ListStorages(Command, frozen=True, kw_only=True):
    """All storages, with the seq up to which the list is true."""

    CMD: ClassVar = "list_storages"


# 4.2 Runs and acquisitions


class NewRun(Command, frozen=True, kw_only=True):
    """Create a run and its folder, reuse it, or set the old one aside and create it anew."""

    CMD: ClassVar = "new_run_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    run_name: a.RunPattern
    mode: a.Mode = "append"
    params: a.Params = field(default_factory=dict)


class SetParamRun(Command, frozen=True, kw_only=True):
    """Set a parameter of a run."""

    CMD: ClassVar = "set_param_run_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    run_name: a.RunName
    param: a.ParamName
    value: a.AnyValue


class NewAcq(Command, frozen=True, kw_only=True):
    """Open an acquisition and its folder, as new, as a next segment, or in place of the old one."""

    CMD: ClassVar = "new_acq_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    acq_name: a.AcqName
    run_name: a.RunName
    mode: a.Mode = "append"
    convert_script: a.Text | None = None
    params: a.Params = field(default_factory=dict)
    producers_count: a.Count | None = None
    producers: a.ProducerNames | None = None


class SetParamAcq(Command, frozen=True, kw_only=True):
    """Set a parameter of an open acquisition."""

    CMD: ClassVar = "set_param_acq_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    acq_id: a.Id
    param: a.ParamName
    value: a.AnyValue
    uid: a.Id | None = None
    segment: a.Segment | None = None


class MarkAsFinished(Command, frozen=True, kw_only=True):
    """A producer is done with an acquisition; the last expected mark finishes it."""

    CMD: ClassVar = "mark_as_finished_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    acq_id: a.Id | None = None
    producer: a.ProducerName | None = None
    ok: a.Bool = True
    summary: a.Summary = field(default_factory=dict)
    uid: a.Id | None = None
    segment: a.Segment | None = None


class CloseAcq(Command, frozen=True, kw_only=True):
    """Finish an acquisition now, whoever is missing."""

    CMD: ClassVar = "close_acq_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    acq_id: a.Id
    reason: a.Text = ""
    uid: a.Id | None = None
    segment: a.Segment | None = None


class AbortAcq(Command, frozen=True, kw_only=True):
    """Give an acquisition up; its data stay, nothing is converted."""

    CMD: ClassVar = "abort_acq_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    acq_id: a.Id
    reason: a.Text = ""
    uid: a.Id | None = None
    segment: a.Segment | None = None


class GetRun(Command, frozen=True, kw_only=True):
    """One run."""

    CMD: ClassVar = "get_run"
    run_id: a.Id


class GetAcq(Command, frozen=True, kw_only=True):
    """One acquisition."""

    CMD: ClassVar = "get_acq"
    acq_id: a.Id


class ListAcqs(Command, frozen=True, kw_only=True):
    """Acquisitions, newest first."""

    CMD: ClassVar = "list_acqs"
    storage_id: a.StorageId | None = None
    run_id: a.Id | None = None
    state: a.AcqState | None = None
    limit: a.PageSize = 100
    cursor: a.Cursor | None = None


# 4.4 RunDB


class NewGroup(Command, frozen=True, kw_only=True):
    """Create a group in the RunDB."""

    CMD: ClassVar = "new_group"
    MUTATING: ClassVar = True
    name: a.GroupName
    parent_id: a.Id = "root"
    mp: a.MountPoint = "file:///"
    path: a.GroupPath = ""


class GetNode(Command, frozen=True, kw_only=True):
    """One node of the RunDB."""

    CMD: ClassVar = "get_node"
    node_id: a.Id


class ListNodes(Command, frozen=True, kw_only=True):
    """The children of a node, oldest first."""

    CMD: ClassVar = "list_nodes"
    parent_id: a.Id = "root"
    limit: a.PageSize = 100
    cursor: a.Cursor | None = None


class FindNodes(Command, frozen=True, kw_only=True):
    """The nodes below a node that match, newest first."""

    CMD: ClassVar = "find_nodes"
    under: a.Id = "root"
    kind: a.NodeKind | None = None
    where: a.Where = field(default_factory=dict)
    state: a.AcqState | None = None
    verdict: a.Verdict | None = None
    since: a.Time | None = None
    until: a.Time | None = None
    limit: a.PageSize = 100
    cursor: a.Cursor | None = None


# 4.5 Conversions


class ListConversions(Command, frozen=True, kw_only=True):
    """Conversions, newest first."""

    CMD: ClassVar = "list_conversions"
    acq_id: a.Id | None = None
    state: a.ConversionState | None = None
    limit: a.PageSize = 100
    cursor: a.Cursor | None = None


class GetConversion(Command, frozen=True, kw_only=True):
    """One conversion."""

    CMD: ClassVar = "get_conversion"
    conversion_id: a.Id


class RetryConversion(Command, frozen=True, kw_only=True):
    """Queue an ended conversion anew."""

    CMD: ClassVar = "retry_conversion"
    MUTATING: ClassVar = True
    conversion_id: a.Id


class CancelConversion(Command, frozen=True, kw_only=True):
    """Cancel a conversion that is queued or running."""

    CMD: ClassVar = "cancel_conversion"
    MUTATING: ClassVar = True
    conversion_id: a.Id
    reason: a.Text = ""


# 4.6 Service


class Ping(Command, frozen=True, kw_only=True):
    """The service's time."""

    CMD: ClassVar = "ping"


class Describe(Command, frozen=True, kw_only=True):
    """What this service is, its limits and its commands."""

    CMD: ClassVar = "describe"


class GetStatus(Command, frozen=True, kw_only=True):
    """How the service fares: journal, mounts, conversions, queues, warnings."""

    CMD: ClassVar = "get_status"


# 4.7 Trash


class ListTrash(Command, frozen=True, kw_only=True):
    """What was set aside and is still there, newest first."""

    CMD: ClassVar = "list_trash"
    mp: a.MountPoint | None = None
    limit: a.PageSize = 100
    cursor: a.Cursor | None = None


class RestoreTrash(Command, frozen=True, kw_only=True):
    """Move what was set aside back to where it was; with replace, set aside what stands there now."""

    CMD: ClassVar = "restore_trash"
    MUTATING: ClassVar = True
    uid: a.Id
    mp: a.MountPoint | None = None
    replace: a.Flag = False


class EmptyTrash(Command, frozen=True, kw_only=True):
    """Give up what was set aside, for good."""

    CMD: ClassVar = "empty_trash"
    MUTATING: ClassVar = True
    mp: a.MountPoint | None = None
    uid: a.Id | None = None
    older_than_s: a.Age = 0.0


COMMANDS: dict[str, CommandSpec] = {
    command.CMD: spec_of(command, command.MUTATING)
    for command in (
        *(InitStorage, ConfigStorage, InvalStorage, DeinitStorage, RegisterProducer, UnregisterProducer),
        *(HeartbeatProducer, GetStorage, ListStorages),
        *(NewRun, SetParamRun, NewAcq, SetParamAcq, MarkAsFinished, CloseAcq, AbortAcq),
        *(GetRun, GetAcq, ListAcqs),
        *(SetConfig, SetVar, AddVar, GetVar, ListVars),
        *(NewGroup, GetNode, ListNodes, FindNodes, AnnotateNode, ListAnnotations),
        *(ListConversions, GetConversion, RetryConversion, CancelConversion),
        *(Ping, Describe, GetStatus, ReplayEvents, PruneEvents),
        *(ListTrash, RestoreTrash, EmptyTrash, RebuildRundb),
    )
}


def described() -> dict[str, Any]:
    """The `commands` of `describe`: name to what it takes."""
    return {
        name: {
            "mutating": spec.mutating,
            "doc": spec.doc,
            "args": {
                arg.name: {"type": arg.type, "required": arg.required, "default": arg.default}
                for arg in spec.args.values()
            },
        }
        for name, spec in COMMANDS.items()
    }
