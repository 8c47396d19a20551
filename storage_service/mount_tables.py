"""What the configuration says of a mount point, and what may stand there: `[mounts]`, one entry a mount point.

The name says the kind. `nfs://...` and any other name is a folder of this host, given by its path, or by a table
with `path`; below `nfs://...` an NFS has to be mounted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from storage_protocol import names

NFS = "nfs"
ANY = "any"


class Mount(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where and how this host reaches a mount point."""

    path: Path | None = None
    """The folder, absolute."""

    mounted: str = ""
    """What has to be mounted there, or nothing is done below it: a type of file systems ("nfs" stands for nfs4
    too), at the folder or above it; "any": one of any type, at the folder itself. Empty: that is not asked."""


_FOLDER = 'it must be the path of a folder, or a table like { path = "/mnt/export", mounted = true }'
_FOLDER_KEYS = ("path", "mounted")


def mount(name: str, value: object) -> str | None:
    """What is wrong with an entry, as it was given; nil: nothing."""
    if wrong := names.mount_point(name):
        return f"of the name of a mount point, {wrong}"
    if name.lower().startswith(("s3://", "sftp://")):
        return "this version reaches only mount points that are folders of this host, given by the folder's path"
    return _folder(value)


def _folder(value: object) -> str | None:
    if isinstance(value, str):
        return None if _is_path(value) else _FOLDER
    if not isinstance(value, dict) or "path" not in value:
        return _FOLDER
    if strange := next((key for key in value if key not in _FOLDER_KEYS), None):
        return f"{strange!r} is not a known key of a folder's table; there are: {', '.join(_FOLDER_KEYS)}"
    if not _is_path(value["path"]):
        return "its path must be the path of a folder"
    mounted = value.get("mounted", False)
    if type(mounted) is bool or (isinstance(mounted, str) and mounted.isprintable() and 1 <= len(mounted) <= 64):
        return None
    return 'its mounted must be true, false, or a type of file systems like "nfs"'


def _is_path(given: object) -> bool:
    return isinstance(given, str) and given != "" and "\0" not in given


def placed(name: str, value: Any, base: Path) -> dict[str, Any]:
    """An entry without fault, as the fields of a `Mount`; its relative paths start at `base`."""
    table = {"path": value} if isinstance(value, str) else dict(value)
    mounted = table.pop("mounted", NFS if name.lower().startswith("nfs://") else False)
    if mounted:
        table["mounted"] = ANY if mounted is True else mounted
    return {**table, "path": str(base / table["path"])}


def folders(mounts: dict[str, Mount]) -> dict[str, Path]:
    """The mount points that are folders of this host."""
    return {name: each.path for name, each in mounts.items() if each.path is not None}


def defaults() -> dict[str, Mount]:
    """The mount points of a configuration that names none."""
    return {"file:///": Mount(path=Path("data"))}
