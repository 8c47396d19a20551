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
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from storage_protocol.limits import Limits
from storage_service.config_logbooks import PATHS
from storage_service.config_rules import ENTRY_EXAMPLES, ENTRY_RULES, RULES, is_local, rooted, rooted_files
from storage_service.config_tables import Config as Config
from storage_service.config_tables import ConfigSource as ConfigSource
from storage_service.config_words import nearest, quoted, words
from storage_service.mount_tables import placed

FILE = "storage.toml"
"""Looked for in the working directory when no file is named."""

VARIABLE = "STORAGE_SERVICE__"
"""What the environment's variables begin with: STORAGE_SERVICE__CONVERSION__TIMEOUT_S is conversion.timeout_s."""


class ConfigError(Exception):
    """The configuration cannot be used. The message is one sentence: the key, its value, what would be right."""


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
    if key == "storages":
        return {pattern: rooted_files(files, base) for pattern, files in table.items()}
    if key == "logbooks":
        return {
            name: value | {path: str(base / value[path]) for path in PATHS if path in value}
            for name, value in table.items()
        }
    return {name: placed(name, value, base) for name, value in table.items()} if key == "mounts" else table


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
    key = re.sub(r"(?<=://)[^\"]*(?=@)", "***", key)  # a mount point's name is part of it
    return ConfigError(f"{given.origin}{key} is {shown}; {right}.")
