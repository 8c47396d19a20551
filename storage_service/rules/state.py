"""What the service knows: frozen records, and the part of them that is in memory.

Records are values; a change makes a new one. `State` holds those that commands were asked about: every storage,
everything that is open, and what was looked up. The rules only read it.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from msgspec import Struct, field

from storage_protocol.commands import InitStorage
from storage_protocol.names import Value
from storage_protocol.records import Configuration, CountedMark, DiskUse, Document, Location, Statistic, Warn

from .logbook_records import Book, Owed, Page

MAX_WARNINGS = 32


class Storage(Struct, frozen=True):
    """A storage. `uid` tells one life of its id from the next: runs belong to a life, not to an id.

    producers, producers_unnamed  registered ones, for later acquisitions
    open_acqs                     ids, in the order of their opening
    lost                          producers that are silent for too long, as far as was told
    config                        what was handed in to be saved beside later acquisitions
    """

    storage_id: str
    uid: str
    init: InitStorage
    created_at: str
    configured: bool = False
    producers: tuple[str, ...] = ()
    producers_unnamed: int = 0
    open_acqs: tuple[str, ...] = ()
    warnings: tuple[Warn, ...] = ()
    lost: tuple[str, ...] = ()
    config: Document | None = None

    @property
    def state(self) -> str:
        """`ready`, `configured` or `acquiring`."""
        if not self.configured:
            return "ready"
        return "acquiring" if self.open_acqs else "configured"

    @property
    def group_id(self) -> str:
        """The RunDB id of its base run group."""
        return f"{self.init.brg_parent_id}/{self.init.brg_name}"


class Group(Struct, frozen=True, tag="group"):
    """A group of the RunDB. One that is not `visible` only keeps its id's place (a storage without RunDB)."""

    node_id: str
    uid: str
    name: str
    parent_id: str
    mp: str
    path: str
    visible: bool
    created_at: str


class GroupPlace(Struct, frozen=True):
    """A group, as the runs in it remember it: it has no file of its own."""

    id: str
    uid: str
    mp: str
    path: str
    created_at: str


class Run(Struct, frozen=True, tag="run"):
    """A run.

    owner     the uid of the storage's life that it belongs to
    path      its folder below the mount
    numbered  the name with `{n}` by which it had its number; None: it had none
    groups    those that it was made in, as far as they were there, its base run group last
    """

    node_id: str
    uid: str
    name: str
    parent_id: str
    storage_id: str
    owner: str
    mp: str
    path: str
    visible: bool
    created_at: str
    params: dict[str, Value] = field(default_factory=dict)
    params_bytes: int = 0
    numbered: str | None = None
    groups: tuple[GroupPlace, ...] = ()


class Opening(Struct, frozen=True):
    """What a call of `new_acq_storage` gave: a later call for the open acquisition must not give other values."""

    convert_script: str | None = None
    params: dict[str, Value] = field(default_factory=dict)
    producers_count: int | None = None
    producers: tuple[str, ...] | None = None


class Acq(Struct, frozen=True, tag="acq"):
    """An acquisition. It belongs to the storage that its run belongs to.

    required    R of the finish barrier: the names that must mark
    expected    n of the finish barrier: the marks that must be counted
    conversion  the state of its newest conversion, which belongs to `conversion_segment`
    manifest    what the manifests of a sealed segment record: `blake3`, `sizes`, or `off` where there are none
    manifests   the files of this segment's manifests, in the order of their writing: its own, then conversions'
    reads       which reading of variables and configuration it owes next: `start`, `end`, or none
    config      the configuration that was handed in when it started; config_end: when it ended
    """

    node_id: str
    uid: str
    name: str
    run_id: str
    run_name: str
    storage_id: str
    mp: str
    path: str
    visible: bool
    started_at: str
    created_at: str
    segment: int = 1
    state: str = "open"
    sealed: bool = False
    verdict: str | None = None
    required: tuple[str, ...] = ()
    expected: int = 0
    marks: tuple[CountedMark, ...] = ()
    convert_script: str | None = None
    conversion: str | None = None
    conversion_segment: int = 0
    finished_at: str | None = None
    reason: str = ""
    warnings: tuple[Warn, ...] = ()
    opening: Opening = Opening()
    params: dict[str, Value] = field(default_factory=dict)
    params_bytes: int = 0
    manifest: str = "off"
    manifests: tuple[str, ...] = ()
    reads: str = ""
    config: Document | None = None
    config_end: Document | None = None
    statistics: dict[str, Statistic] = field(default_factory=dict)
    configurations: tuple[Configuration, ...] = ()
    disk: DiskUse | None = None


class Conversion(Struct, frozen=True):
    """A conversion. The last four are not told on the wire.

    tries          attempts that count against `max_attempts`
    interruptions  attempts in a row that the service itself ended
    not_before     seconds since 1970: when the next attempt may start
    """

    conversion_id: str
    acq_id: str
    uid: str
    segment: int
    script: str
    storage_id: str
    mp: str
    path: str
    queued_at: str
    state: str = "queued"
    attempt: int = 0
    exit_code: int | None = None
    progress: float | None = None
    started_at: str | None = None
    ended_at: str | None = None
    reason: str = ""
    tries: int = 0
    interruptions: int = 0
    not_before: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def log_name(self) -> str:
        """The log of the last attempt, beside the data."""
        return f"conversion-{self.segment}-{self.attempt}.log"


class Places(Struct, frozen=True):
    """Where this host reaches each mount point: its folder, by the mount point's name; None: it lies elsewhere in
    the network, and its name is its URL."""

    roots: dict[str, str | None] = field(default_factory=dict)

    def location(self, mp: str, path: str) -> Location:
        """Where `path` below a mount point is, for clients."""
        if mp not in self.roots:
            return Location(mp, path)
        root = self.roots[mp]
        if root is None:
            return Location(mp, path, None, f"{mp.rstrip('/')}/{path}" if path else mp)
        local = f"{root.rstrip('/')}/{path}" if path else root
        return Location(mp, path, local, "file://" + quote(local))


class Counter(Struct, frozen=True):
    """The highest number ever taken by the numbered runs of one base run group and one text around it."""

    highest: int


class Variable(Struct, frozen=True):
    """A register of the built-in variable store: only its newest value is kept."""

    ns: str
    name: str
    value: Value

    @property
    def key(self) -> Key:
        return variable_key(self.ns, self.name)


class Link(Struct, frozen=True):
    """A manifest that was written: whose it is, in which file of which folder, and the BLAKE3 of its bytes."""

    acq_id: str
    uid: str
    segment: int
    mp: str
    path: str
    name: str
    blake3: str


class Chain(Struct, frozen=True):
    """The chain of the manifests of one storage id: its newest link. It outlives the storage."""

    storage_id: str
    tail: Link


class Due(Struct, frozen=True):
    """Manifests of an acquisition that are to be written. One that is opened again or removed has none any more.

    storage_id  whose chain they go into
    kind        `blake3` or `sizes`
    whole       whether that of the segment, of every file, is still to be written; it comes first
    conversion  segment and attempt of the conversion that ended last, whose output has no manifest yet
    """

    acq_id: str
    uid: str
    segment: int
    storage_id: str
    kind: str
    whole: bool = True
    conversion: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The file of the next manifest."""
        if self.whole or self.conversion is None:
            return f"manifest-{self.segment}.json"
        return f"manifest-{self.conversion[0]}-conversion-{self.conversion[1]}.json"


Node = Group | Run | Acq
Record = Storage | Group | Run | Acq | Conversion | Counter | Chain | Due | Variable | Book | Owed | Page
Key = tuple[str, str]
"""A record's place: (`storage`, id), (`node`, RunDB id), (`conversion`, id), (`counter`, `counter_id`),
(`chain`, storage id), (`due`, acquisition id), (`variable`, namespace and name), (`book`, storage id),
(`owed`, its id), (`page`, key of the entry)."""


def variable_key(ns: str, name: str) -> Key:
    """Where a variable is. A namespace has no `/`, so the first one ends it."""
    return "variable", f"{ns}/{name}"


def groups_of(run_id: str) -> list[str]:
    """The ids of the groups that a run is in, from the root's child down to its base run group."""
    parts = run_id.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(1, len(parts) - 1)]


def counter_id(group_id: str, before: str, after: str) -> str:
    return f"{group_id}/{before}{{n}}{after}"


class State:
    """The records in memory, by key; a key that is known to have none holds None.

    `complete` and `nested` are what was looked up for the one command that is being decided:
    runs of which every acquisition is in memory, and for an acquisition's id the id of one that lies
    inside of it or around it. `fetches` says of a storage's id whether the service has a source of its own for its
    configurations, `last_seq` where the journal ends. `entries_of` is what the configuration says of a storage id:
    which entries of its runs go into its logbook; only a decision may ask it, its fact keeps the answer.
    """

    def __init__(
        self,
        places: Places,
        fetches: Callable[[str], bool] = lambda storage_id: False,
        last_seq: Callable[[], int] = lambda: 0,
        entries_of: Callable[[str], str] = lambda storage_id: "off",
    ) -> None:
        self.places = places
        self.fetches = fetches
        self.last_seq = last_seq
        self.entries_of = entries_of
        self.records: dict[Key, Record | None] = {}
        self.complete: set[str] = set()
        self.nested: dict[str, str | None] = {}

    def storage(self, storage_id: str) -> Storage | None:
        return self.records.get(("storage", storage_id))  # type: ignore[return-value]

    def node(self, node_id: str) -> Node | None:
        return self.records[("node", node_id)]  # type: ignore[return-value]

    def run(self, run_id: str) -> Run | None:
        found = self.records[("node", run_id)]
        return found if type(found) is Run else None

    def acq(self, acq_id: str) -> Acq | None:
        found = self.records[("node", acq_id)]
        return found if type(found) is Acq else None

    def conversion(self, conversion_id: str) -> Conversion | None:
        return self.records[("conversion", conversion_id)]  # type: ignore[return-value]

    def chain(self, storage_id: str) -> Chain | None:
        """Chains are always in memory."""
        return self.records.get(("chain", storage_id))  # type: ignore[return-value]

    def due(self, acq_id: str) -> Due | None:
        """Due manifests are always in memory."""
        return self.records.get(("due", acq_id))  # type: ignore[return-value]

    def book(self, storage_id: str) -> Book | None:
        """Books are always in memory."""
        return self.records.get(("book", storage_id))  # type: ignore[return-value]

    def owed(self, id: str) -> Owed | None:
        """What is owed to logbooks is always in memory."""
        return self.records.get(("owed", id))  # type: ignore[return-value]

    def counter(self, id: str) -> int:
        found = self.records[("counter", id)]
        return found.highest if type(found) is Counter else 0

    def variable(self, ns: str, name: str) -> Variable | None:
        return self.records[variable_key(ns, name)]  # type: ignore[return-value]

    def acqs_of(self, run_id: str) -> list[Acq]:
        """Every acquisition of a run; the run must be `complete`. Raises KeyError when it is not."""
        if run_id not in self.complete:
            raise KeyError(run_id)
        return [each for each in self.records.values() if type(each) is Acq and each.run_id == run_id]

    def active_conversions(self, acq_id: str) -> list[Conversion]:
        """Those of an acquisition that are queued or running; they are always in memory."""
        return [
            each
            for each in self.records.values()
            if type(each) is Conversion and each.acq_id == acq_id and each.active
        ]

    def has(self, key: Key) -> bool:
        if key[0] == "acqs_of":
            return key[1] in self.complete
        if key[0] == "nested":
            return key[1] in self.nested
        return key in self.records or key[0] == "storage"
