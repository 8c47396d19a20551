"""What `decide` can say of a command, besides a `Refusal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from storage_protocol.errors import Refusal
from storage_protocol.records import Skipped, TrashEntry

from .facts import Event
from .rebuild_work import FindMarkers, Proof
from .state import Acq, Run, Variable
from .trash_work import GiveUp, LookIntoTrash, RestoreFolder
from .work import MakeFolder, ReachMount


class Moment(Struct, frozen=True):
    """When something is decided, and where new ids come from: the rules have no clock and no dice.

    time   RFC 3339, as the wire has it
    wall   the same in seconds since 1970
    mono   seconds of a clock that never jumps: for waits, never told
    fresh  gives a new UUID at each call
    """

    time: str
    wall: float
    mono: float
    fresh: Callable[[], str]


class Answer(Struct, frozen=True):
    """What the reply's result is: the record `id` of this kind, as it is when all events are applied.

    kind  `storage`, `run`, `acq`, `conversion`, `node`, `marked` (`value`: whether it counted), or `plain`
          (`value` is the result)
    """

    kind: str
    id: str = ""
    value: Any = None


class Accepted(Struct, frozen=True):
    """The command takes effect at once: these events, in this order. None: nothing changes.

    registers  what is kept without an event: only the newest value counts
    document   the BLAKE3 that an event names, and its content
    prunes_before  the events before this seq are given up; 0: none
    """

    events: tuple[Event, ...]
    answer: Answer
    registers: tuple[Variable, ...] = ()
    document: tuple[str, bytes] | None = None
    prunes_before: int = 0


class Intended(Struct, frozen=True):
    """The command needs the outside world first, or once more: the intent is committed, together with `events`,
    which become true already now."""

    intent: Intent
    events: tuple[Event, ...] = ()


class Undone(Struct, frozen=True):
    """The command is refused after outside work that may be half done: what is to be put right.

    events  become true
    marker  the run whose marker file is to be written anew
    """

    refusal: Refusal
    events: tuple[Event, ...] = ()
    marker: str | None = None


class Waits(Struct, frozen=True):
    """The acquisition is being sealed: the command waits until it is."""

    acq_id: str


class ConfigIntent(Struct, frozen=True, tag="config"):
    """The mount point is being resolved for `config_storage`."""

    storage_id: str
    order: ReachMount


class RunIntent(Struct, frozen=True, tag="run"):
    """A run's folder is being made for `new_run_storage`.

    run      as it will be; `created` says whether it is a new one
    pattern  the name with `{n}` of a numbered run, whose number is `number`
    removes  whether what was there is set aside first
    """

    storage_id: str
    order: MakeFolder
    run: Run
    created: bool
    removes: bool
    params: dict[str, Any]
    pattern: str | None = None
    number: int = 0


class AcqIntent(Struct, frozen=True, tag="acq"):
    """An acquisition's folder is being made for `new_acq_storage`; `acq` is as it will be."""

    storage_id: str
    order: MakeFolder
    acq: Acq
    removes: bool


class CancelIntent(Struct, frozen=True, tag="cancel"):
    """A running conversion is being ended."""

    conversion_id: str
    reason: str


class MarkerIntent(Struct, frozen=True, tag="marker"):
    """A run's parameters changed: its marker file is to be written anew."""

    run_id: str


class LookIntent(Struct, frozen=True, tag="look"):
    """The trash is being looked into, one mount point after the other, for `restore_trash` or `empty_trash`.

    restores    which of the two
    replace     of `restore_trash`: set aside what stands in the place
    named       whether the client named the mount point
    left        mount points that are still to be looked at
    found       what the others before had
    more        whether one of them had more
    unreachable those that could not be looked at
    """

    order: LookIntoTrash
    restores: bool
    replace: bool = False
    named: bool = False
    left: tuple[str, ...] = ()
    found: tuple[TrashEntry, ...] = ()
    more: bool = False
    unreachable: tuple[str, ...] = ()


class RestoreIntent(Struct, frozen=True, tag="restore"):
    """An entry of the trash is being moved back. `run` and `acqs` are what the RunDB gets back with it."""

    order: RestoreFolder
    entry: TrashEntry
    run: Run | None = None
    acqs: tuple[Acq, ...] = ()


class EmptyIntent(Struct, frozen=True, tag="empty"):
    """Entries of the trash of one mount point are being given up.

    why          `asked` or `expired`
    more         there are others
    unreachable  as of `LookIntent`
    """

    order: GiveUp
    entries: tuple[TrashEntry, ...]
    why: str = "asked"
    more: bool = False
    unreachable: tuple[str, ...] = ()


class RebuildIntent(Struct, frozen=True, tag="rebuild"):
    """The markers below a mount point are being read, a page after the other, and each page decided.

    groups, runs, acqs  how many came back so far
    known               runs and acquisitions that were there already
    folders             that were looked into
    skipped             that could not be taken, and the first of them in `skips`
    guessed             groups that came back without a place of their own being known
    tails               the newest manifest so far of each storage id whose chain was not known
    """

    order: FindMarkers
    groups: int = 0
    runs: int = 0
    acqs: int = 0
    known: int = 0
    folders: int = 0
    skipped: int = 0
    skips: tuple[Skipped, ...] = ()
    guessed: tuple[str, ...] = ()
    tails: tuple[Proof, ...] = ()


Intent = (
    ConfigIntent
    | RunIntent
    | AcqIntent
    | CancelIntent
    | MarkerIntent
    | LookIntent
    | RestoreIntent
    | EmptyIntent
    | RebuildIntent
)
Decision = Accepted | Intended | Waits | Undone | Refusal


def plain(value: Any) -> Answer:
    return Answer("plain", value=value)
