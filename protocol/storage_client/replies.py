"""The replies that are more than one record: pages, lists, and what the service says of itself (SPEC 4)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from storage_protocol.events import Event
from storage_protocol.names import Value
from storage_protocol.records import Acquisition, Annotation, Conversion, Node, Skipped, Storage, TrashEntry

from .cursor import Cursor


class StorageList(Struct, frozen=True):
    """All storages as of `last_seq`: apply events with a larger seq on top."""

    storages: tuple[Storage, ...]
    last_seq: int
    journal_id: str

    @property
    def cursor(self) -> Cursor:
        """From where events go on after it."""
        return Cursor(self.journal_id, self.last_seq)


class AcquisitionPage(Struct, frozen=True):
    """Acquisitions, newest first. `cursor` asks for the next page; None: there is none."""

    acqs: tuple[Acquisition, ...]
    cursor: str | None = None


class VariableList(Struct, frozen=True):
    """Variables by name, in the order of their names. `more`: there are others behind them; ask with a longer
    prefix."""

    vars: dict[str, Value]
    more: bool = False


class NodePage(Struct, frozen=True):
    """Nodes of the RunDB. `cursor` asks for the next page; None: there is none."""

    nodes: tuple[Node, ...]
    cursor: str | None = None


class AnnotationPage(Struct, frozen=True):
    """What was noted of a node, newest first. `cursor` asks for the next page; None: there is none."""

    annotations: tuple[Annotation, ...]
    cursor: str | None = None


class ConversionPage(Struct, frozen=True):
    """Conversions, newest first. `cursor` asks for the next page; None: there is none."""

    conversions: tuple[Conversion, ...]
    cursor: str | None = None


class TrashPage(Struct, frozen=True):
    """What was set aside, newest first. `cursor` asks for the next page; None: there is none. `unreachable`: mount
    points whose trash could not be looked into."""

    entries: tuple[TrashEntry, ...]
    cursor: str | None = None
    unreachable: tuple[str, ...] = ()


class Restored(TrashEntry, frozen=True, kw_only=True):
    """What came back from the trash. `rundb`: whether the RunDB has it again, with `acqs` acquisitions of its."""

    rundb: bool
    acqs: int


class Emptied(Struct, frozen=True):
    """How many entries of the trash were given up, and their bytes as far as those were measured.

    more         there are others: ask again
    unreachable  mount points whose trash could not be looked into
    """

    entries: int
    bytes: int
    more: bool
    unreachable: tuple[str, ...] = ()


class Rebuilt(Struct, frozen=True):
    """What a rebuild of the RunDB has brought back.

    groups, runs, acqs  how many came back
    known               runs and acquisitions that the RunDB had already
    folders             that were looked into
    skipped             folders that could not be taken, the first 100 of `skipped_count`
    """

    mp: str
    path: str
    groups: int
    runs: int
    acqs: int
    known: int
    folders: int
    skipped: tuple[Skipped, ...]
    skipped_count: int


class EventPage(Struct, frozen=True):
    """Events of the journal, oldest first.

    last_seq    the newest event of the journal when this was read, whether asked for or not
    oldest_seq  the oldest that is kept
    more        there are more that match: ask after the last one here
    """

    events: tuple[Event, ...]
    last_seq: int
    oldest_seq: int
    journal_id: str
    more: bool


class Description(Struct, frozen=True):
    """What the service is: `limits` by name, `commands` by name with what they take."""

    service: str
    version: str
    protocol: int
    service_id: str
    journal_id: str
    events_endpoint: str
    limits: dict[str, Any]
    commands: dict[str, Any]


class JournalSpan(Struct, frozen=True):
    """The first and the newest seq of a journal."""

    journal_id: str
    first_seq: int
    last_seq: int


class TrashStatus(Struct, frozen=True):
    """What a trash holds, and when that was measured; None: not yet."""

    entries: int | None = None
    bytes: int | None = None
    measured_at: str | None = None


class MountStatus(Struct, frozen=True):
    """How a mount point fares. `free_bytes` is None where it is not known."""

    mp: str
    state: str
    free_bytes: int | None = None
    reason: str | None = None
    trash: TrashStatus = TrashStatus()


class ConversionProtection(Struct, frozen=True):
    """What keeps conversions from outliving their owner. `reason`: why there is no PID namespace, if one is asked
    for."""

    runner: bool
    flock: bool
    pid_namespace: bool
    reason: str | None = None


class LogbookStatus(Struct, frozen=True):
    """An electronic logbook: its `state` is `ok` or `failed`, `waiting` counts what is still to be written."""

    logbook: str
    waiting: int
    state: str
    reason: str | None = None


class Status(Struct, frozen=True):
    """How the service fares. `conversions` counts by state, `storages` is how many there are."""

    started_at: str
    journal: JournalSpan
    mounts: tuple[MountStatus, ...]
    conversions: dict[str, int]
    conversion_protection: ConversionProtection
    queues: dict[str, Any]
    storages: int
    warnings: list[Any]
    logbooks: tuple[LogbookStatus, ...] = ()
