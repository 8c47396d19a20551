"""The marker files of folders: which run or acquisition a folder says it belongs to."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER

LIMIT_BYTES = 16 << 20

# The key of a marker file under which the id stands.
_ID_KEYS = {RUN_MARKER: "run_id", ACQ_MARKER: "acq_id"}


class Marker(NamedTuple):
    """What a marker file says: `id` and `uid` of what the folder belongs to. No id: it cannot be understood."""

    name: str
    id: str | None
    uid: str | None

    def __str__(self) -> str:
        if self.id is None:
            return f"something unknown (its {self.name} cannot be understood)"
        return f"{self.id} (uid {self.uid}, says its {self.name})"


def markers_in(folder: Folder) -> list[Marker]:
    """The markers of a folder, none to two. An empty marker file is none: nobody can have been told of it."""
    found = []
    for name in _ID_KEYS:
        try:
            content = folder.read(name, LIMIT_BYTES)
        except NotPlainFileError:
            found.append(Marker(name, None, None))
        else:
            if content:
                found.append(_understood(name, content))
    return found


def _understood(name: str, content: bytes) -> Marker:
    unknown = Marker(name, None, None)
    try:
        said: Any = msgspec.json.decode(content)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return unknown
    if not isinstance(said, dict):
        return unknown
    id_, uid = said.get(_ID_KEYS[name]), said.get("uid")
    if not isinstance(id_, str) or not id_:
        return unknown
    return Marker(name, id_, uid if isinstance(uid, str) else None)
