"""The maps that replies and events carry (SPEC 4): what a client sees of a storage, a run, an acquisition."""

from __future__ import annotations

from msgspec import Struct, field

from .names import Value


class Location(Struct, frozen=True):
    """Where a folder is: `mp` the mount point as clients name it, `path` below it, `local_path` and `url` on the
    service's host (None when the mount point is not in its file system)."""

    mp: str
    path: str
    local_path: str | None = None
    url: str | None = None


class Warn(Struct, frozen=True):
    """Something that went wrong without stopping anything. `time` is RFC 3339."""

    what: str
    message: str
    time: str


class Document(Struct, frozen=True):
    """A configuration that was handed in for later acquisitions: the name of its file, and of its content the
    BLAKE3 and the size in bytes."""

    name: str
    blake3: str
    bytes: int


class Storage(Struct, frozen=True, omit_defaults=True):
    """A storage: its state, the arguments of `init_storage`, its producers and its open acquisitions. `config`
    is what was handed in to be saved beside later ones, and is there only where something was."""

    storage_id: str
    state: str
    brg_name: str
    use_rundb: bool
    brg_mp: str
    brg_path: str
    brg_parent_id: str
    elog_server: str | None
    elog_name: str | None
    stats_names: tuple[str, ...]
    producers_count: int
    finish_timeout_s: float | None
    producer_timeout_s: float | None
    producers: tuple[str, ...]
    producers_unnamed: int
    open_acqs: tuple[str, ...]
    warnings: tuple[Warn, ...]
    created_at: str
    config: Document | None = None


class Run(Struct, frozen=True):
    """A run. `uid` is new each time that a run of this name is made anew."""

    run_id: str
    uid: str
    run_name: str
    storage_id: str
    location: Location
    params: dict[str, Value]
    created_at: str


class CountedMark(Struct, frozen=True):
    """A mark that filled a place of the finish barrier. `producer` is None where it had no name."""

    producer: str | None
    ok: bool
    summary: dict[str, Value]
    time: str


class Reading(Struct, frozen=True):
    """A look at a variable. `unit` and `severity` (of its alarm) are None where its source has none; `missing`
    says in one sentence why it could not be read, else it is None. `time` is RFC 3339."""

    value: Value
    unit: str | None
    severity: str | None
    missing: str | None
    time: str


class Statistic(Struct, frozen=True):
    """A variable at the start and at the end of a segment, each None before it was looked at. `difference`: end
    minus start, None where one of them is no number."""

    start: Reading | None = None
    end: Reading | None = None
    difference: int | float | None = None


class Configuration(Struct, frozen=True):
    """A configuration that was saved beside the data in `file`. `when` is `start`, or `end` where it had changed
    until then; `source` is `set_config_storage`, or what of the service's configuration it was taken from."""

    file: str
    when: str
    blake3: str
    bytes: int
    source: str


class DiskUse(Struct, frozen=True):
    """What was in an acquisition's folder when it was sealed: files, their sizes, and what they take on the disk,
    in bytes."""

    files: int
    bytes: int
    allocated: int


class Acquisition(Struct, frozen=True, omit_defaults=True):
    """An acquisition. `segment` counts from 1; `expected` and `finished` are marks; `missing` are the expected
    names that have not marked, `failed` those that marked `ok: false` (None: without a name). `statistics`
    and `configurations` are those of the segment, and are there only where it has any."""

    acq_id: str
    uid: str
    acq_name: str
    run_id: str
    run_name: str
    storage_id: str
    segment: int
    state: str
    sealed: bool
    verdict: str | None
    expected: int
    finished: int
    producers: tuple[CountedMark, ...]
    missing: tuple[str, ...]
    failed: tuple[str | None, ...]
    convert_script: str | None
    conversion: str | None
    location: Location
    params: dict[str, Value]
    started_at: str
    finished_at: str | None
    reason: str
    warnings: tuple[Warn, ...]
    statistics: dict[str, Statistic] = field(default_factory=dict)
    configurations: tuple[Configuration, ...] = ()


class Marked(Struct, frozen=True):
    """The answer to a mark: `counted` is False when it changed nothing."""

    acq_id: str
    uid: str
    segment: int
    state: str
    finished: int
    expected: int
    missing: tuple[str, ...]
    counted: bool


class Node(Struct, frozen=True):
    """A node of the RunDB. `state`, `verdict`, `segment`, `started_at` and `finished_at` are an acquisition's."""

    id: str
    uid: str
    kind: str
    name: str
    parent_id: str | None
    mp: str
    path: str
    params: dict[str, Value]
    created_at: str


class AcquisitionNode(Node, frozen=True):
    """A node of the RunDB that is an acquisition."""

    state: str
    verdict: str | None
    segment: int
    started_at: str
    finished_at: str | None


class Annotation(Struct, frozen=True):
    """What somebody noted of a run or an acquisition after the fact. `uid` is the node's."""

    node_id: str
    uid: str
    name: str
    value: Value
    author: str
    time: str


class Skipped(Struct, frozen=True):
    """A folder that `rebuild_rundb` could not take: its path below the mount point, and one sentence why."""

    path: str
    reason: str


class Conversion(Struct, frozen=True):
    """A conversion. `attempt` numbers every start from 1 and never goes back; `progress` is 0 to 1 or None."""

    conversion_id: str
    acq_id: str
    uid: str
    segment: int
    script: str
    state: str
    attempt: int
    exit_code: int | None
    progress: float | None
    log: Location | None
    queued_at: str
    started_at: str | None
    ended_at: str | None
    reason: str


class TrashEntry(Struct, frozen=True):
    """What `remove` has set aside. `uid` is its name in the trash: the uid of what it was, where that was known.

    `id`, `kind` (`run` or `acq`), `path` and `storage_id` are what its marker file says, None where it says
    nothing; `bytes` and `files` are None until they are measured.
    """

    mp: str
    uid: str
    id: str | None
    kind: str | None
    path: str | None
    storage_id: str | None
    set_aside_at: str
    bytes: int | None = None
    files: int | None = None
