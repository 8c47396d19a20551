"""What the configuration holds: its tables, their keys, types, ranges and defaults. `config` reads them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from storage_protocol.limits import Limits
from storage_service.mount_tables import Mount, defaults

from .config_logbooks import LogbookServer

YEAR_S = 366 * 86_400

Count = Annotated[int, Meta(ge=1)]


class Endpoints(Struct, frozen=True, forbid_unknown_fields=True):
    commands: str = "tcp://127.0.0.1:5570"
    """ZeroMQ address of the ROUTER that takes commands: tcp://ADDRESS:PORT or ipc://PATH, the path absolute."""

    events: str = "tcp://127.0.0.1:5571"
    """ZeroMQ address of the PUB that sends events; as `commands`."""

    insecure: bool = False
    """Whether an endpoint may be reached from other hosts, although nothing is encrypted and nobody is asked who
    they are."""


class Conversion(Struct, frozen=True, forbid_unknown_fields=True):
    scripts_dir: Path = Path("conversions")
    """The folder, absolute, below which every conversion script lies."""

    remote: str = "refuse"
    """Conversions of what lies elsewhere in the network: `refuse` them, or run them in a copy, `scratch`."""

    scratch_dir: Path = Path("scratch")
    """The folder, absolute, of those copies; it is the service's own, which empties it."""

    max_parallel: Count = 2
    """How many conversions run at the same time."""

    timeout_s: Annotated[float, Meta(gt=0, le=YEAR_S)] = 3600.0
    """Seconds that one attempt may take; then it is ended and has failed."""

    max_attempts: Count = 1
    """How often a conversion is started before it has failed. An attempt that the service ended does not count."""

    retry_backoff_s: Annotated[float, Meta(ge=0, le=300)] = 2.0
    """Seconds before the second attempt; twice as many before each further one, up to 300."""

    max_interruptions: Count = 20
    """How many attempts in a row the service may have ended itself before the conversion has failed."""

    grace_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    """Seconds between TERM and KILL when a conversion is ended."""

    log_bytes: Annotated[int, Meta(ge=4096)] = 16 << 20
    """Bytes of a script's output that are kept in the log of one attempt; the rest is dropped."""

    env: dict[str, str] = {}
    """Variables added to the environment of every script: name to value."""

    pid_namespace: bool = False
    """Whether every script runs below a PID namespace of its own, where the kernel grants one."""


class Journal(Struct, frozen=True, forbid_unknown_fields=True):
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """Days for which events are kept, at least; 0 is for ever."""

    keys_keep_days: Annotated[int, Meta(ge=1, le=3650)] = 7
    """Days for which an idempotency key is remembered, at least; `describe` reports them as `key_days`."""


class Trash(Struct, frozen=True, forbid_unknown_fields=True):
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 7
    """Days for which what `remove` has set aside is kept before it is deleted; 0: never deleted by itself."""


class Space(Struct, frozen=True, forbid_unknown_fields=True):
    min_free_bytes: Annotated[int, Meta(ge=0)] = 0
    """Bytes that must be free on a mount point for a new acquisition; 0: it is tried whatever is free."""

    low_free_bytes: Annotated[int, Meta(ge=0)] = 0
    """Bytes below which a mount point is told to be low; 0: never."""

    min_free_bytes_of: dict[str, int] = {}
    """The first of them for single mount points: name to bytes."""

    low_free_bytes_of: dict[str, int] = {}
    """The second of them for single mount points: name to bytes."""

    look_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    """Seconds from one look at the mount points to the next."""

    def bounds(self, mp: str) -> tuple[int, int]:
        """The minimum and the low bound of a mount point, in bytes."""
        minimum = self.min_free_bytes_of.get(mp, self.min_free_bytes)
        return minimum, self.low_free_bytes_of.get(mp, self.low_free_bytes)


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many processes list and hash files below each mount point."""


class Sources(Struct, frozen=True, forbid_unknown_fields=True):
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 5.0
    """Seconds that all readings of an acquisition's start, or of its end, may take together."""

    settle_s: Annotated[float, Meta(ge=0, le=600)] = 1.0
    """Seconds from the end of an acquisition until variables outside the service are read."""

    varmod: str = ""
    """HOST:PORT of the Pyrame variable module that `varmod:NAME` is read from; empty: there is none."""

    varmod_dialect: Annotated[int, Meta(ge=2, le=3)] = 3
    """How that module is spoken to: 2 or 3, as the Pyrame version."""

    varmod_id: str = "0"
    """Which variable set of that module."""

    varmod_ns: str = ""
    """Which namespace of it, in dialect 3."""


class ConfigSource(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the configuration of an acquisition is taken from when it starts, and again when it has ended: one of
    the first three. `name`: the file that it is saved in beside the data."""

    file: Path | None = None
    """A file, read anew each time."""

    cmod: str | None = None
    """HOST:PORT of a Pyrame configuration module."""

    program: tuple[str, ...] | None = None
    """A program with its arguments; what it prints is the configuration."""

    name: str = "config.xml"


class StorageFiles(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table `[storages.<pattern>]`: what is kept beside the data of the storages whose id it fits."""

    manifest: Literal["blake3", "sizes", "off"] = "blake3"
    """What the manifest of a sealed acquisition has of each file: its BLAKE3, its size and time alone; or none."""

    entries: Literal["run", "acquisition", "problems", "off"] = "run"
    """Which entries its logbook gets, where it names one: one a run or an acquisition; or of problems alone."""

    config: ConfigSource | None = None
    """The source of its configurations, for as long as none is handed in; without it there is none."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What `load` returns. Every path in it is absolute; none was looked at."""

    state_dir: Path = Path("var")
    """The folder of the database and of the lock, on a local file system."""

    database: str = "sqlite:///storage.db"
    """sqlite:///NAME, a file in `state_dir`; see `database_path`."""

    endpoints: Endpoints = Endpoints()
    """Where clients reach the service."""

    mounts: dict[str, Mount] = field(default_factory=defaults)
    """Mount point as clients name it, to where this host reaches it."""

    conversion: Conversion = Conversion()
    """How conversion scripts are run."""

    journal: Journal = Journal()
    """How long events and keys are kept."""

    trash: Trash = Trash()
    """How long what `remove` has set aside is kept."""

    space: Space = Space()
    """How much has to be free on mount points."""

    manifest: Manifest = Manifest()
    """How manifests are written."""

    sources: Sources = Sources()
    """How variables and configurations are read."""

    storages: dict[str, StorageFiles] = {}
    """What is kept beside the data, by a pattern of storage ids with *, ? and [...]; see `files_of`."""

    logbooks: dict[str, LogbookServer] = {}
    """The servers of electronic logbooks, by the name that clients give as `elog_server`."""

    limits: Limits = Limits()
    """Limits of messages and values. They can be lowered, and `frame_bytes` raised; `key_days` is
    `journal.keys_keep_days`."""

    warnings: tuple[str, ...] = ()
    """Sentences to be logged at every start: what is allowed but should be known."""

    @property
    def database_path(self) -> Path:
        """The database's file."""
        return self.state_dir / self.database.removeprefix("sqlite:///")

    def files_of(self, storage_id: str) -> StorageFiles:
        """The first table whose pattern fits, in the order of the file; the defaults if none does."""
        fitting = (files for pattern, files in self.storages.items() if fnmatchcase(storage_id, pattern))
        return next(fitting, StorageFiles())
