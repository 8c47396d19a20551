"""What happened, as the rules know it: each fact is one event of the journal, and `evolve` applies it.

`TYPE` is the event's type on the wire. The state of record is the fold of the facts.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from storage_protocol.commands import InitStorage
from storage_protocol.names import Value
from storage_protocol.records import Configuration, DiskUse, Document, Statistic, TrashEntry

from . import state


class Fact(Struct, frozen=True):
    TYPE: ClassVar[str] = ""


class StorageInitialized(Fact, frozen=True, tag="storage.initialized"):
    TYPE: ClassVar = "storage.initialized"
    uid: str
    init: InitStorage


class StorageConfigured(Fact, frozen=True, tag="storage.configured"):
    """`group` keeps the place of the base run group's id, also where the storage does without RunDB. `entries`:
    which entries go into its logbook, as configured then."""

    TYPE: ClassVar = "storage.configured"
    group: state.Group
    entries: str = "off"


class StorageInvalidated(Fact, frozen=True, tag="storage.invalidated"):
    TYPE: ClassVar = "storage.invalidated"


class StorageDeinitialized(Fact, frozen=True, tag="storage.deinitialized"):
    TYPE: ClassVar = "storage.deinitialized"


class ProducerRegistered(Fact, frozen=True, tag="storage.producer_registered"):
    TYPE: ClassVar = "storage.producer_registered"
    producer: str | None


class ProducerUnregistered(Fact, frozen=True, tag="storage.producer_unregistered"):
    TYPE: ClassVar = "storage.producer_unregistered"
    producer: str


class ProducerLost(Fact, frozen=True, tag="storage.producer_lost"):
    TYPE: ClassVar = "storage.producer_lost"
    producer: str
    silent_s: float


class ProducerBack(Fact, frozen=True, tag="storage.producer_back"):
    TYPE: ClassVar = "storage.producer_back"
    producer: str


class ConfigSet(Fact, frozen=True, tag="storage.config_set"):
    """`document` is none where the configuration was taken back; `name` is that of the command."""

    TYPE: ClassVar = "storage.config_set"
    name: str
    document: Document | None


class StorageWarned(Fact, frozen=True, tag="storage.warning"):
    TYPE: ClassVar = "storage.warning"
    what: str
    message: str


class GroupCreated(Fact, frozen=True, tag="group.created"):
    TYPE: ClassVar = "group.created"
    group: state.Group


class RunCreated(Fact, frozen=True, tag="run.created"):
    """`counter` and `number`: of a numbered run, the counter whose highest number it took."""

    TYPE: ClassVar = "run.created"
    run: state.Run
    counter: str | None = None
    number: int = 0


class RunTakenOver(Fact, frozen=True, tag="run.taken_over"):
    TYPE: ClassVar = "run.taken_over"
    run_id: str
    owner: str
    visible: bool


class RunParamSet(Fact, frozen=True, tag="run.param_set"):
    TYPE: ClassVar = "run.param_set"
    run_id: str
    param: str
    value: Value


class RunRemoved(Fact, frozen=True, tag="run.removed"):
    TYPE: ClassVar = "run.removed"
    run_id: str


class RunRestored(Fact, frozen=True, tag="run.restored"):
    """`counter` and `number`: as of `RunCreated`, where the counter is to be found again too."""

    TYPE: ClassVar = "run.restored"
    run: state.Run
    counter: str | None = None
    number: int = 0


class NodeAnnotated(Fact, frozen=True, tag="node.annotated"):
    """Of a run or an acquisition."""

    TYPE: ClassVar = "node.annotated"
    node_id: str
    name: str
    value: Value
    author: str


class AcqStarted(Fact, frozen=True, tag="acquisition.started"):
    TYPE: ClassVar = "acquisition.started"
    acq: state.Acq


class AcqParamSet(Fact, frozen=True, tag="acquisition.param_set"):
    TYPE: ClassVar = "acquisition.param_set"
    acq_id: str
    param: str
    value: Value


class ProducerFinished(Fact, frozen=True, tag="acquisition.producer_finished"):
    TYPE: ClassVar = "acquisition.producer_finished"
    acq_id: str
    producer: str | None
    ok: bool
    summary: dict[str, Value]


class AcqFinished(Fact, frozen=True, tag="acquisition.finished"):
    TYPE: ClassVar = "acquisition.finished"
    acq_id: str
    verdict: str
    reason: str


class AcqAborted(Fact, frozen=True, tag="acquisition.aborted"):
    TYPE: ClassVar = "acquisition.aborted"
    acq_id: str
    reason: str


class AcqMeasured(Fact, frozen=True, tag="acquisition.measured"):
    """`statistics`: all of the acquisition, as they are now. `configurations`: those that were saved now."""

    TYPE: ClassVar = "acquisition.measured"
    acq_id: str
    when: str
    statistics: dict[str, Statistic]
    configurations: tuple[Configuration, ...]


class AcqSealed(Fact, frozen=True, tag="acquisition.sealed"):
    """`manifest`: what its manifests are to record: `blake3`, `sizes`, or `off` for none. `disk`: what is in its
    folder; none in a journal from before it was counted."""

    TYPE: ClassVar = "acquisition.sealed"
    acq_id: str
    manifest: str = "off"
    disk: DiskUse | None = None


class ManifestWritten(Fact, frozen=True, tag="acquisition.manifest_written"):
    """`chain`: the storage id whose chain the manifest is in. `files`, `bytes`: what it lists, digests or not."""

    TYPE: ClassVar = "acquisition.manifest_written"
    chain: str
    link: state.Link
    files: int
    bytes: int


class AcqRemoved(Fact, frozen=True, tag="acquisition.removed"):
    TYPE: ClassVar = "acquisition.removed"
    acq_id: str


class AcqRestored(Fact, frozen=True, tag="acquisition.restored"):
    """`links`: manifests of it whose digests are searched again, oldest first. `tails`: the newest manifests of
    storage ids whose chains are found again; they may lie beside its data from earlier segments."""

    TYPE: ClassVar = "acquisition.restored"
    acq: state.Acq
    links: tuple[state.Link, ...] = ()
    tails: tuple[state.Chain, ...] = ()


class TrashRestored(Fact, frozen=True, tag="trash.restored"):
    """`acqs`: how many acquisitions the RunDB got back."""

    TYPE: ClassVar = "trash.restored"
    entry: TrashEntry
    rundb: bool
    acqs: int


class TrashEmptied(Fact, frozen=True, tag="trash.emptied"):
    TYPE: ClassVar = "trash.emptied"
    entry: TrashEntry
    why: str


class AcqWarned(Fact, frozen=True, tag="acquisition.warning"):
    """`unsealed`: its marker file may say what is not so, and is to be written anew."""

    TYPE: ClassVar = "acquisition.warning"
    acq_id: str
    what: str
    message: str
    unsealed: bool = False


class ConversionQueued(Fact, frozen=True, tag="conversion.queued"):
    TYPE: ClassVar = "conversion.queued"
    conversion: state.Conversion


class ConversionStarted(Fact, frozen=True, tag="conversion.started"):
    TYPE: ClassVar = "conversion.started"
    conversion: state.Conversion


class ConversionSucceeded(Fact, frozen=True, tag="conversion.succeeded"):
    TYPE: ClassVar = "conversion.succeeded"
    conversion: state.Conversion


class ConversionFailed(Fact, frozen=True, tag="conversion.failed"):
    TYPE: ClassVar = "conversion.failed"
    conversion: state.Conversion


class ConversionCancelled(Fact, frozen=True, tag="conversion.cancelled"):
    TYPE: ClassVar = "conversion.cancelled"
    conversion: state.Conversion


class MountLow(Fact, frozen=True, tag="mount.low"):
    """`free_bytes`: None where it does not answer."""

    TYPE: ClassVar = "mount.low"
    mp: str
    free_bytes: int | None
    message: str


class MountFull(Fact, frozen=True, tag="mount.full"):
    TYPE: ClassVar = "mount.full"
    mp: str
    free_bytes: int | None
    message: str


class MountUnreachable(Fact, frozen=True, tag="mount.unreachable"):
    TYPE: ClassVar = "mount.unreachable"
    mp: str
    free_bytes: int | None
    message: str


class MountRecovered(Fact, frozen=True, tag="mount.recovered"):
    TYPE: ClassVar = "mount.recovered"
    mp: str
    free_bytes: int | None
    message: str


class LogbookFailed(Fact, frozen=True, tag="logbook.failed"):
    """`logbook`: `server/name`."""

    TYPE: ClassVar = "logbook.failed"
    logbook: str
    message: str


class LogbookRecovered(Fact, frozen=True, tag="logbook.recovered"):
    TYPE: ClassVar = "logbook.recovered"
    logbook: str
    message: str


class LogbookWritten(Fact, frozen=True, tag="logbook.written"):
    """`owed_id`, `version`: what was owed and is so no longer; `key` and `number` of the entry."""

    TYPE: ClassVar = "logbook.written"
    owed_id: str
    kind: str
    logbook: str
    key: str
    number: int
    version: int


AnyFact = (
    StorageInitialized
    | StorageConfigured
    | StorageInvalidated
    | StorageDeinitialized
    | ProducerRegistered
    | ProducerUnregistered
    | ProducerLost
    | ProducerBack
    | ConfigSet
    | StorageWarned
    | GroupCreated
    | RunCreated
    | RunTakenOver
    | RunParamSet
    | RunRemoved
    | NodeAnnotated
    | AcqStarted
    | AcqParamSet
    | ProducerFinished
    | AcqFinished
    | AcqAborted
    | AcqMeasured
    | AcqSealed
    | ManifestWritten
    | AcqRemoved
    | RunRestored
    | AcqRestored
    | TrashRestored
    | TrashEmptied
    | AcqWarned
    | ConversionQueued
    | ConversionStarted
    | ConversionSucceeded
    | ConversionFailed
    | ConversionCancelled
    | MountLow
    | MountFull
    | MountUnreachable
    | MountRecovered
    | LogbookFailed
    | LogbookRecovered
    | LogbookWritten
)


class Event(Struct, frozen=True):
    """A fact, the storage whose topic it is told under (None: none), and the id of what it is about."""

    fact: AnyFact
    storage_id: str | None
    subject: str
