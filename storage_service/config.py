"""The configuration: storage.toml, the environment and the command line, read into one frozen value.

1. A key is taken from the first that names it: command line, environment, file, default. A table whose keys are
   free text (`mounts`, `storages`, `logbooks`, `conversion.env`) is one key, and is taken whole.
2. Every key is known and every value is right, or ConfigError says in one sentence which is not and what would be.
3. What this version cannot do yet is refused, never accepted and ignored.
4. Reading creates nothing, and looks at nothing but the file: whether a folder is there is found out by its door.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, field

from storage_protocol.limits import Limits
from storage_service.config_logbooks import PATHS, LogbookServer
from storage_service.config_rules import ENTRY_EXAMPLES, ENTRY_RULES, RULES, is_local, rooted
from storage_service.config_words import nearest, quoted, words

FILE = "storage.toml"
"""Looked for in the working directory when no file is named."""

VARIABLE = "STORAGE_SERVICE__"
"""What the environment's variables begin with: STORAGE_SERVICE__CONVERSION__TIMEOUT_S is conversion.timeout_s."""

YEAR_S = 366 * 86_400

Count = Annotated[int, Meta(ge=1)]


class ConfigError(Exception):
    """The configuration cannot be used. The message is one sentence: the key, its value, what would be right."""


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
    keep_days: int = 0
    """Days for which events are kept; 0 is for ever, which is all that this version can do."""

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


class StorageFiles(Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[storages.<pattern>]`: what is kept beside the data of the storages whose id it fits."""

    manifest: Literal["blake3", "sizes", "off"] = "blake3"
    """What the manifest of a sealed acquisition has of each file: its BLAKE3, its size and time alone; or none."""

    entries: Literal["run", "acquisition", "problems", "off"] = "run"
    """Which entries its logbook gets, where it names one: one a run or an acquisition; or of problems alone."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What `load` returns. Every path in it is absolute; none was looked at."""

    state_dir: Path = Path("var")
    """The folder of the database and of the lock, on a local file system."""

    database: str = "sqlite:///storage.db"
    """sqlite:///NAME, a file in `state_dir`; see `database_path`."""

    endpoints: Endpoints = Endpoints()
    """Where clients reach the service."""

    mounts: dict[str, Path] = field(default_factory=lambda: {"file:///": Path("data")})
    """Mount point as clients name it, to the folder where this host reaches it."""

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


# Least and most. The protocol's numbers are the most, but for a frame, which may be as large as a message. The
# protocol's own commands need 5 levels, and maps of more than 32 entries.
LIMITS = {
    "frame_bytes": (1024, 8 << 20),
    "message_bytes": (1024, 8 << 20),
    "frames_per_message": (1, 1024),
    "depth": (5, 16),
    "value_bytes": (256, 64 << 10),
    "params": (64, 1024),
    "params_bytes": (256, 256 << 10),
}


class _Given(NamedTuple):
    """A value as it was given. `origin` begins the sentence about it; in a `text` numbers and tables are spelt."""

    value: Any
    origin: str
    text: bool


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str]) -> Config:
    """The configuration from the file `path`, `environ` and `overrides` (of the command line: dotted key to text).

    Without `path` it is storage.toml in the working directory, if there is one. Relative paths, wherever they are
    given, start at the file's folder, or at the working directory when there is no file.

    Raises ConfigError when the file cannot be read, or for the first key that is unknown or whose value is wrong.
    """
    if path is None and os.path.lexists(FILE):
        path = Path(FILE)
    base = path.absolute().parent if path else Path.cwd()
    given = dict(_flat(_DEFAULTS, "", ""))
    if path:
        given.update(_flat(_parsed(path), "", f"{path}: "))
    given.update(_from_environment(environ))
    given.update(_from_command_line(overrides))
    values: dict[str, Any] = {}
    for key, each in given.items():
        _place(values, key, _entries(key, each, base) if key in ENTRY_RULES else _read(key, each, base))
    values["limits"]["key_days"] = values["journal"]["keys_keep_days"]
    return _agreeing(msgspec.convert(values, Config, dec_hook=lambda kind, text: kind(text)), given)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not TOML: byte {error.start} is not UTF-8.") from error
    except (ValueError, RecursionError) as error:  # also of a number that has too many digits
        raise ConfigError(f"{path}: it is not TOML: {error}.") from error


def _flat(table: dict[str, Any], prefix: str, origin: str) -> Iterator[tuple[str, _Given]]:
    for name, value in table.items():
        key = prefix + quoted(name)
        if key in KEYS:
            yield key, _Given(value, origin, text=False)
        elif key not in _TABLES:
            raise ConfigError(
                f"{origin}{key} is not a known key; the nearest is {nearest(key, [*KEYS, *_TABLES])}."
            )
        elif not isinstance(value, dict):
            raise _wrong(key, _Given(value, origin, text=False), "it must be a table")
        else:
            yield from _flat(value, f"{key}.", origin)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    variables = {VARIABLE + key.upper().replace(".", "__"): key for key in KEYS}
    for name, value in environ.items():
        if name in variables:
            yield variables[name], _Given(value, f"{name}: ", text=True)
        elif name.startswith(VARIABLE):
            raise ConfigError(f"{name} is not a known variable; the nearest is {nearest(name, [*variables])}.")


def _from_command_line(overrides: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for key, value in overrides.items():
        if key not in KEYS:
            raise ConfigError(f"command line: {key} is not a known key; the nearest is {nearest(key, [*KEYS])}.")
        yield key, _Given(value, "command line: ", text=True)


def _read(key: str, given: _Given, base: Path) -> Any:
    """The value of a key, of its type, in its range and by its rule."""
    kind = KEYS[key]
    try:
        value = msgspec.convert(given.value, str if kind is Path else kind, strict=not given.text)
    except msgspec.ValidationError as error:
        raise _wrong(key, given, f"it must be {words(kind)}") from error
    if key in ("endpoints.commands", "endpoints.events"):
        value = rooted(value, base)
    if wrong := RULES[key](value) if key in RULES else None:
        raise _wrong(key, given, wrong)
    return str(base / value) if kind is Path else value


def _entries(key: str, given: _Given, base: Path) -> dict[str, Any]:
    """The value of a table whose keys are free text."""
    table = given.value
    if given.text:
        try:
            table = msgspec.json.decode(table)
        except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
            table = None
    if not isinstance(table, dict):
        example = ENTRY_EXAMPLES[key]
        raise _wrong(
            key, given, f"it must be one JSON object like {example}" if given.text else "it must be a table"
        )
    for name, value in table.items():
        if wrong := ENTRY_RULES[key](name, value):
            raise _wrong(f"{key}.{quoted(name)}", given._replace(value=value), wrong)
    if key == "logbooks":
        return {
            name: value | {path: str(base / value[path]) for path in PATHS if path in value}
            for name, value in table.items()
        }
    return {name: str(base / value) for name, value in table.items()} if key == "mounts" else table


def _agreeing(config: Config, given: dict[str, _Given]) -> Config:
    """The configuration with its warnings. Raises ConfigError when its keys do not go together."""
    endpoints, limits = config.endpoints, config.limits
    if endpoints.commands == endpoints.events:
        raise _wrong("endpoints.events", given["endpoints.events"], "it must not be that of endpoints.commands")
    if limits.frame_bytes > limits.message_bytes:
        most = f"it must be at most limits.message_bytes, {limits.message_bytes}"
        raise _wrong("limits.frame_bytes", given["limits.frame_bytes"], most)
    for key, bounds in (("min", config.space.min_free_bytes_of), ("low", config.space.low_free_bytes_of)):
        if strange := next((name for name in bounds if name not in config.mounts), None):
            key = f"space.{key}_free_bytes_of"
            raise _wrong(f"{key}.{quoted(strange)}", given[key], "no mount point of mounts has that name")
    warnings = []
    for key, (address, who) in {
        "endpoints.commands": (endpoints.commands, "give any command"),
        "endpoints.events": (endpoints.events, "read every event"),
    }.items():
        if is_local(address):
            continue
        if not endpoints.insecure:
            raise _wrong(
                key,
                given[key],
                "nothing is encrypted, so it must be a loopback address or ipc://PATH "
                "unless endpoints.insecure = true says that other hosts may reach it",
            )
        warnings.append(f"{key} is {address}, without encryption: whoever reaches that address can {who}.")
    return msgspec.structs.replace(config, warnings=tuple(warnings))


def _place(values: dict[str, Any], key: str, value: Any) -> None:
    *tables, name = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
    values[name] = value


def _keys(struct: type[Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for each in msgspec.structs.fields(struct):
        if each.type is Limits:
            yield from (
                (f"limits.{name}", Annotated[int, Meta(ge=le[0], le=le[1])]) for name, le in LIMITS.items()
            )
        elif isinstance(each.type, type) and issubclass(each.type, Struct):
            yield from _keys(each.type, f"{each.name}.")
        elif each.name != "warnings":
            yield prefix + each.name, each.type


KEYS: dict[str, Any] = dict(_keys(Config))
"""Every key that can be set, dotted, and its type."""

_TABLES = {key.partition(".")[0] for key in KEYS if "." in key}
_DEFAULTS: dict[str, Any] = msgspec.to_builtins(Config(), enc_hook=str)
del _DEFAULTS["warnings"], _DEFAULTS["limits"]["key_days"]


def _wrong(key: str, given: _Given, right: str) -> ConfigError:
    """The sentence about a value, without what may be secret: scripts' variables, options, an address's login."""
    if isinstance(given.value, dict):
        shown = "a table"
    elif key.startswith("conversion.env") or (given.text and key in ENTRY_RULES):
        shown = "not usable"
    else:
        shown = re.sub(r"(?<=://).*(?=@)", "***", repr(given.value))
    if len(shown) > 120:
        shown = f"{shown[:120]}..."
    return ConfigError(f"{given.origin}{key} is {shown}; {right}.")
