"""Which manifests lie beside the data of an acquisition, as their first lines say.

Nothing of what they list is read: an acquisition that comes back from the trash is not held up by it.
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.doors.manifest_format import Header, ManifestError, ManifestReader, is_manifest
from storage_service.rules.trash_work import Listing


def listing_of(folder: Folder, marker: bytes) -> Listing | None:
    """The manifests of the segment and the uid that a marker file tells of; None when there is none.

    Raises OSError when the folder cannot be listed. A manifest that cannot be understood does not count.
    """
    try:
        said = msgspec.json.decode(marker)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None
    uid, segment = (said.get("uid"), said.get("segment")) if isinstance(said, dict) else (None, None)
    if not isinstance(uid, str) or type(segment) is not int:
        return None
    own = f"manifest-{segment}.json"
    whole = _header(folder, own)
    if whole is None or (whole.uid, whole.segment, whole.conversion) != (uid, segment, None):
        return None
    after: dict[str, int] = {}
    for name in folder.each():
        if name != own and is_manifest(os.fsencode(name)):
            header = _header(folder, name)
            if header is not None and header.uid == uid and header.over[:1] == (own,):
                after[name] = len(header.over)
    return Listing(uid, segment, whole.kind, (own, *sorted(after, key=lambda name: after[name])))


def _header(folder: Folder, name: str) -> Header | None:
    with suppress(OSError, ManifestError, NotPlainFileError), folder.stream(name) as file:
        return ManifestReader(file).header
    return None
