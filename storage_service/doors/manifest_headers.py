"""Which manifests lie beside the data of an acquisition, as their first lines say.

Nothing of what they list is read: an acquisition that comes back is not held up by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

import msgspec
from blake3 import blake3

from storage_protocol.names import INT64_MAX
from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.doors.manifest_format import Header, ManifestError, ManifestReader, is_manifest
from storage_service.rules.rebuild_work import Proof
from storage_service.rules.state import Link
from storage_service.rules.trash_work import Listing

MOST_NAMES = 200_000
"""How many names of a folder are gone through for manifests that are proofs."""
MOST_BYTES = 128 << 20
"""Of a manifest that is digested for it: some seconds of a slow disk."""
_BITE = 1 << 20


def listing_of(folder: Folder, marker: bytes) -> Listing | None:
    """The manifests of the segment and the uid that a marker file tells of; None when there is none.

    Raises OSError when the folder cannot be listed. A manifest that cannot be understood does not count.
    """
    try:
        said = msgspec.json.decode(marker)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None
    uid, segment = (said.get("uid"), said.get("segment")) if isinstance(said, dict) else (None, None)
    if not isinstance(uid, str) or type(segment) is not int or _header(folder, _own(segment)) is None:
        return None
    return _listing(_headers(folder, folder.each(), uid), uid, segment)


def proofs_of(folder: Folder, uid: str, segment: int) -> tuple[Listing | None, tuple[Proof, ...]]:
    """The manifests of this segment, and of all that belong to this uid: the newest of the segment, the newest of
    a conversion of it, and the newest of each storage id, with their digests. Raises OSError as `listing_of`."""
    headers = _headers(folder, islice(folder.each(), MOST_NAMES), uid)
    listing = _listing(headers, uid, segment)
    wanted = {listing.names[0], listing.names[-1]} if listing is not None else set[str]()
    newest: dict[str, tuple[str, int, str]] = {}
    for name, header in headers.items():
        # The clock may stand still: one that lists over others was written after them.
        place = (header.time, len(header.over), name)
        newest[header.storage_id] = max(place, newest.get(header.storage_id, place))
    wanted.update(name for _, _, name in newest.values())
    proofs = []
    for name in sorted(wanted):
        header, digest = headers[name], _digest(folder, name)
        if digest is not None:
            link = Link(header.acq_id, uid, header.segment, header.mp, header.path, name, digest)
            proofs.append(Proof(header.storage_id, header.time, link))
    return listing, tuple(proofs)


def _own(segment: int) -> str:
    return f"manifest-{segment if 0 < segment <= INT64_MAX else 0}.json"


def _headers(folder: Folder, names: Iterable[str], uid: str) -> dict[str, Header]:
    found = ((name, _header(folder, name)) for name in names if is_manifest(os.fsencode(name)))
    return {name: header for name, header in found if header is not None and header.uid == uid and _may_be(header)}


def _may_be(header: Header) -> bool:
    """Whether this service may have written it: a file beside data is anybody's to write."""
    return 1 <= header.segment <= INT64_MAX and header.kind in ("blake3", "sizes")


def _listing(headers: dict[str, Header], uid: str, segment: int) -> Listing | None:
    own = _own(segment)
    whole = headers.get(own)
    if whole is None or (whole.segment, whole.conversion) != (segment, None):
        return None
    after = [name for name, header in headers.items() if name != own and header.over[:1] == (own,)]
    return Listing(uid, segment, whole.kind, (own, *sorted(after, key=lambda name: len(headers[name].over))))


def _header(folder: Folder, name: str) -> Header | None:
    with suppress(OSError, ManifestError, NotPlainFileError), folder.stream(name) as file:
        return ManifestReader(file).header
    return None


def _digest(folder: Folder, name: str) -> str | None:
    """The BLAKE3 of a manifest's bytes; None where it is too large, or cannot be read any more."""
    hasher, size = blake3(), 0
    with suppress(OSError, NotPlainFileError), folder.stream(name) as file:
        while bite := file.read(_BITE):
            size += len(bite)
            if size > MOST_BYTES:
                return None
            hasher.update(bite)
        return str(hasher.hexdigest())
    return None
