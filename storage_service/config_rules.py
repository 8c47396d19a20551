"""What the values of the configuration may be, beyond type and range. Each rule returns what is wrong, or None."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from storage_protocol import names
from storage_service.mount_tables import mount
from storage_service.rules.configuration import is_own

from .config_logbooks import logbook_server

_IPC_PATH_BYTES = 107  # the most that the address of a Unix domain socket has room for on Linux
_TCP = re.compile(r"tcp://(\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[^\]]+)?\]):([0-9]{1,5})")

# SPEC 4.5: what a script finds in its environment.
_GIVEN_TO_SCRIPTS = {
    "STORAGE_ID",
    "ACQ_ID",
    "ACQ_UID",
    "ACQ_NAME",
    "RUN_ID",
    "RUN_NAME",
    "ACQ_DIR",
    "ACQ_URL",
    "ACQ_SEGMENT",
    "ACQ_VERDICT",
    "ACQ_MISSING",
    "ACQ_METADATA",
    "CONVERSION_ATTEMPT",
}


def folder(text: str) -> str | None:
    return None if text and "\0" not in text else "it must be the path of a folder"


def database(text: str) -> str | None:
    if re.fullmatch(r"sqlite:///[A-Za-z0-9][A-Za-z0-9._-]{0,127}", text):
        return None
    return "it must be sqlite:///NAME, where NAME is a file's name in state_dir without a folder"


def endpoint(address: str) -> str | None:
    """An address to bind; of an ipc:// the path is absolute already, see `rooted`."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        size = len(os.fsencode(address.removeprefix("ipc://")))
        if size <= _IPC_PATH_BYTES and address.isprintable():
            return None
        return f"its absolute path must be printable and at most {_IPC_PATH_BYTES} bytes, and has {size}"
    tcp = _TCP.fullmatch(address)
    # ZeroMQ takes a port of 70000 for one of 4464. A port that it chooses itself nobody could be told of.
    if tcp and 1 <= int(tcp[2]) <= 65_535:
        return None
    return "it must be tcp://ADDRESS:PORT with a port of 1 to 65535, or ipc://PATH"


def module(address: str) -> str | None:
    """The address of a Pyrame module, or empty."""
    host, colon, port = address.rpartition(":")
    if not address or (colon and host and host.isprintable() and port.isdecimal() and 1 <= int(port) <= 65_535):
        return None
    return "it must be HOST:PORT"


def remote(text: str) -> str | None:
    return None if text in ("refuse", "scratch") else "it must be refuse or scratch"


RULES: dict[str, Callable[[Any], str | None]] = {
    "state_dir": folder,
    "database": database,
    "endpoints.commands": endpoint,
    "endpoints.events": endpoint,
    "conversion.scripts_dir": folder,
    "conversion.remote": remote,
    "conversion.scratch_dir": folder,
    "sources.varmod": module,
}
"""By key; the value has its type and is in its range."""


def variable(name: str, value: object) -> str | None:
    if not name or "=" in name or "\0" in name:
        return "the name of a variable must be a text without ="
    if name in _GIVEN_TO_SCRIPTS or name.startswith("STORAGE_CONVERSION_"):
        return "the service gives every script a value of its own for it, so it must be left out"
    return None if isinstance(value, str) and "\0" not in value else "it must be a text"


def free_bytes(name: str, value: object) -> str | None:
    if wrong := names.mount_point(name):
        return f"of the name of a mount point, {wrong}"
    return None if type(value) is int and 0 <= value <= names.INT64_MAX else "it must be an int of at least 0"


_KINDS = ("file", "cmod", "program")


def _no_word(given: object) -> bool:
    return not isinstance(given, str) or not given or "\0" in given


def config_source(value: object) -> str | None:
    """Where configurations are taken from: a table with one of `file`, `cmod` and `program`, and maybe `name`."""
    if not isinstance(value, dict) or sum(kind in value for kind in _KINDS) != 1:
        return 'must be a table with one of file, cmod and program, like { file = "setup.xml" }'
    if strange := next((key for key in value if key not in (*_KINDS, "name")), None):
        return f"has no key {strange!r}; there are: {', '.join(_KINDS)}, name"
    name = value.get("name", "config.xml")
    if not isinstance(name, str) or names.folder(name):
        return f"has the name {name!r:.80}, which must be that of a file without a folder"
    if is_own(name):
        return f"has the name {name!r:.80}, and the service itself writes a file of that name beside the data"
    kind = next(kind for kind in _KINDS if kind in value)
    given = value[kind]
    if kind == "program":
        texts = isinstance(given, list) and given and not any(map(_no_word, given))
        return None if texts else 'has a program that is no list of texts, like ["/opt/daq/dump", "--all"]'
    if kind == "cmod":
        return (
            None if isinstance(given, str) and given and not module(given) else "has a cmod that is no HOST:PORT"
        )
    return None if isinstance(given, str) and not folder(given) else "has a file that is no path"


def _one_of(*allowed: str) -> Callable[[object], str | None]:
    return lambda given: None if given in allowed else f"must be one of {', '.join(allowed)}, and is {given!r:.80}"


# The keys of a table [storages.<pattern>], and what each may be.
STORAGE_FILES: dict[str, Callable[[object], str | None]] = {
    "manifest": _one_of("blake3", "sizes", "off"),
    "entries": _one_of("run", "acquisition", "problems", "off"),
    "config": config_source,
}


def storage_files(pattern: str, value: object) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9._*?!\[\]-]{1,128}", pattern):
        return "its name must be a pattern of storage ids: letters, digits, . _ - and *, ? or [...]"
    if not isinstance(value, dict):
        return 'it must be a table like { manifest = "sizes" }'
    for key, given in value.items():
        rule = STORAGE_FILES.get(key)
        if rule is None:
            return f"{key!r} is not a known key of it; there are: {', '.join(STORAGE_FILES)}"
        if wrong := rule(given):
            return f"its {key} {wrong}"
    return None


ENTRY_RULES: dict[str, Callable[[str, object], str | None]] = {
    "mounts": mount,
    "storages": storage_files,
    "logbooks": logbook_server,
    "conversion.env": variable,
    "space.min_free_bytes_of": free_bytes,
    "space.low_free_bytes_of": free_bytes,
}
"""For each entry of the tables whose keys are free text; the value is as it was given."""

ENTRY_EXAMPLES = {
    "mounts": '{"file:///": "/data"}',
    "storages": '{"test*": {"manifest": "off"}}',
    "logbooks": '{"main": {"url": "http://elog.example:8080"}}',
    "conversion.env": '{"NAME": "text"}',
    "space.min_free_bytes_of": '{"file:///": 1000000000}',
    "space.low_free_bytes_of": '{"file:///": 1000000000}',
}
"""Each of them as one JSON value."""


def rooted(address: str, base: Path) -> str:
    """The address with the path of an ipc:// made absolute; one that begins with @ is a name and no path."""
    path = address.removeprefix("ipc://")
    if path == address or not path or path.startswith("@"):
        return address
    return f"ipc://{base / path}"


def rooted_files(files: dict[str, Any], base: Path) -> dict[str, Any]:
    """A table [storages.<pattern>] with the path of a configuration's file made absolute."""
    source = files.get("config")
    if not source or "file" not in source:
        return files
    return {**files, "config": {**source, "file": str(base / source["file"])}}


def is_local(address: str) -> bool:
    """Whether an endpoint can be reached from this host only."""
    tcp = _TCP.fullmatch(address)
    if not tcp or tcp[1] in ("localhost", "lo"):
        return True
    try:
        return ip_address(tcp[1].strip("[]")).is_loopback
    except ValueError:  # *, the name of a network interface or of a host
        return False
