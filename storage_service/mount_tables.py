"""What the configuration says of a mount point, and what may stand there: `[mounts]`, one entry a mount point.

The name says the kind. `s3://BUCKET` and `sftp://HOST/PATH` lie elsewhere in the network and are given by a table.
Every other name is a folder of this host, given by its path, or by a table with `path`; below `nfs://...` an NFS
has to be mounted. Secrets are read from files when they are needed: no table holds one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from storage_protocol import names

NFS = "nfs"
ANY = "any"
TIMEOUT_S = 8.0


class Mount(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where and how this host reaches a mount point."""

    path: Path | None = None
    """The folder, absolute; None: it lies elsewhere in the network, where its name says."""

    mounted: str = ""
    """What has to be mounted there, or nothing is done below it: a type of file systems ("nfs" stands for nfs4
    too), at the folder or above it; "any": one of any type, at the folder itself. Empty: that is not asked."""

    endpoint_url: str = ""
    """Of S3: where the service is; empty: Amazon's own."""

    region: str = ""
    """Of S3: the region that requests are signed for."""

    key_file: Path | None = None
    """Of S3: the file with the access key's id; with `secret_file` or not at all."""

    secret_file: Path | None = None
    """Of S3: the file with the secret access key."""

    username: str = ""
    """Of SFTP: who logs in; empty: who runs the service."""

    password_file: Path | None = None
    """Of SFTP: the file with the password."""

    client_keys: tuple[Path, ...] = ()
    """Of SFTP: the files of private keys that are tried."""

    known_hosts: Path | None = None
    """Of SFTP: the file of the host keys that are believed, as OpenSSH has it."""

    timeout_s: float = TIMEOUT_S
    """Seconds that one request to a mount point elsewhere may take."""


_Rule = Callable[[object], str | None]


def _path(given: object) -> str | None:
    return None if isinstance(given, str) and given != "" and "\0" not in given else "must be the path of a file"


def _paths(given: object) -> str | None:
    right = isinstance(given, list) and given and not any(_path(each) for each in given)
    return None if right else 'must be a list of paths of files, like ["/etc/daq/id_ed25519"]'


def _text(given: object) -> str | None:
    right = isinstance(given, str) and given.isprintable() and 1 <= len(given) <= 256
    return None if right else "must be a text of 1 to 256 printable characters"


def _url(given: object) -> str | None:
    right = isinstance(given, str) and re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", given)
    return None if right else "must be http://HOST:PORT or https://HOST:PORT, without a login"


def _seconds(given: object) -> str | None:
    right = type(given) in (int, float) and 0 < given <= 60  # type: ignore[operator]
    return None if right else "must be a number above 0 and at most 60"


_S3: Mapping[str, _Rule] = {
    "endpoint_url": _url,
    "region": _text,
    "key_file": _path,
    "secret_file": _path,
    "timeout_s": _seconds,
}
_SFTP: Mapping[str, _Rule] = {
    "username": _text,
    "password_file": _path,
    "client_keys": _paths,
    "known_hosts": _path,
    "timeout_s": _seconds,
}
_FOLDER_KEYS = ("path", "mounted")
_FILES = ("key_file", "secret_file", "password_file", "known_hosts")

_FOLDER = 'it must be the path of a folder, or a table like { path = "/mnt/export", mounted = true }'
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?P<path>(/[^/]+)*)")
_HOST = re.compile(r"sftp://[A-Za-z0-9][A-Za-z0-9.-]*(:(?P<port>[0-9]{1,5}))?(?P<path>/|(/[^/]+)+)")


def mount(name: str, value: object) -> str | None:
    """What is wrong with an entry, as it was given; nil: nothing."""
    if wrong := names.mount_point(name):
        return f"of the name of a mount point, {wrong}"
    if name.lower().startswith("s3://"):
        return _elsewhere(name, value, _S3) or _s3(name, value)
    if name.lower().startswith("sftp://"):
        return _elsewhere(name, value, _SFTP) or _sftp(name, value)
    return _folder(value)


def _elsewhere(name: str, value: object, keys: Mapping[str, _Rule]) -> str | None:
    if not isinstance(value, dict):
        return f"it lies elsewhere, so it must be a table with some of {', '.join(keys)}"
    for key, given in value.items():
        if key not in keys:
            return f"{key!r} is not a known key of its table; there are: {', '.join(keys)}"
        if wrong := keys[key](given):
            return f"its {key} {wrong}"
    return None


def _s3(name: str, value: Any) -> str | None:
    found = _BUCKET.fullmatch(name)
    if not found or not _is_below(found["path"]):
        return "its name must be s3://BUCKET or s3://BUCKET/PREFIX, without . and .."
    if ("key_file" in value) != ("secret_file" in value):
        return "it must have both of key_file and secret_file, or neither"
    return None


def _sftp(name: str, value: Any) -> str | None:
    found = _HOST.fullmatch(name)
    if not found or not _is_below(found["path"]) or not 0 < int(found["port"] or 22) <= 65_535:
        return "its name must be sftp://HOST/PATH or sftp://HOST:PORT/PATH; who logs in stands in username"
    if "known_hosts" not in value:
        return "it must have known_hosts, the file of the host keys that are believed"
    if "password_file" not in value and "client_keys" not in value:
        return "it must have one of password_file and client_keys"
    return None


def _is_below(path: str) -> bool:
    return not any(each in (".", "..") or not each.isprintable() for each in path.split("/"))


def _folder(value: object) -> str | None:
    if isinstance(value, str):
        return _FOLDER if _path(value) else None
    if not isinstance(value, dict) or "path" not in value:
        return _FOLDER
    if strange := next((key for key in value if key not in _FOLDER_KEYS), None):
        return f"{strange!r} is not a known key of a folder's table; there are: {', '.join(_FOLDER_KEYS)}"
    if _path(value["path"]):
        return "its path must be the path of a folder"
    mounted = value.get("mounted", False)
    return None if type(mounted) is bool or not _text(mounted) else _MOUNTED


_MOUNTED = 'its mounted must be true, false, or a type of file systems like "nfs"'


def placed(name: str, value: Any, base: Path) -> dict[str, Any]:
    """An entry without fault, as the fields of a `Mount`; its relative paths start at `base`."""
    if name.startswith(("s3://", "sftp://")):
        files = {key: str(base / value[key]) for key in _FILES if key in value}
        if "client_keys" in value:
            return {**value, **files, "client_keys": [str(base / each) for each in value["client_keys"]]}
        return {**value, **files}
    table = {"path": value} if isinstance(value, str) else dict(value)
    mounted = table.pop("mounted", NFS if name.lower().startswith("nfs://") else False)
    if mounted:
        table["mounted"] = ANY if mounted is True else mounted
    return {**table, "path": str(base / table["path"])}


def folders(mounts: Mapping[str, Mount]) -> dict[str, Path]:
    """The mount points that are folders of this host."""
    return {name: each.path for name, each in mounts.items() if each.path is not None}


def defaults() -> dict[str, Mount]:
    """The mount points of a configuration that names none."""
    return {"file:///": Mount(path=Path("data"))}
