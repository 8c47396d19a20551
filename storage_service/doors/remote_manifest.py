"""Manifests of acquisitions that lie elsewhere in the network, as `manifest_worker` writes those of this host.

1. Every file is read once, as a stream: what is hashed is what is there, as the other side gives it.
2. The list goes into a temporary file of this host, which is put beside the data when it is complete, in one step.
3. The marker must be the acquisition's, and stay as it is from the first look to the last.
4. A file that changes while it is read is tried again, and listed without a digest where it never keeps still.
"""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import msgspec
from blake3 import blake3

from storage_service.doors.folder import NotPlainFileError
from storage_service.doors.manifest_format import (
    Entry,
    ManifestError,
    ManifestReader,
    ManifestWriter,
    entry,
    header_of,
    is_own,
)
from storage_service.doors.manifest_marker import marker_digest
from storage_service.doors.manifest_merge import newest, side_by_side
from storage_service.doors.manifest_tree import BUFFER_BYTES, TRIES
from storage_service.doors.markers import LIMIT_BYTES, markers_in
from storage_service.doors.remote_files import Found, RemoteFiles, RemoteFolder
from storage_service.rules.work import OPENED_AGAIN, Fault, ManifestDone, WriteManifest

Read = Callable[[int], None]


def write_manifest(files: RemoteFiles, order: WriteManifest, read: Read) -> ManifestDone:
    """Write one manifest. Raises `Fault` (`unavailable`, `already_exists`), and OSError of the other side."""
    files.reach()
    folder = RemoteFolder(files, "/".join(order.path))
    sealed = _marker(files, folder, order)
    problems, example = 0, ""
    with tempfile.TemporaryFile() as file:  # without a name: a process that is killed leaves nothing
        manifest = ManifestWriter(file, header_of(order))
        for each in _entries(files, folder, order, sealed, read):
            if each.problem is not None:
                problems += 1
                example = example or f"{each.shown} ({each.problem})"
            manifest.add(each)
        manifest.end()
        file.flush()
        _set_aside(files, folder, order)
        if _marker(files, folder, order) != sealed:
            raise _changed(order)
        files.put(folder.at(order.name), Path(f"/proc/self/fd/{file.fileno()}"))
    return ManifestDone(manifest.count, manifest.bytes, manifest.blake3, problems, example)


def _entries(
    files: RemoteFiles, folder: RemoteFolder, order: WriteManifest, sealed: Found, read: Read
) -> Iterator[Entry]:
    """What the manifest is to list."""
    here = ((raw, found) for found in files.walk(folder.path) if not is_own(raw := _raw(found.path)))
    with ExitStack() as opened:
        known = newest(_earlier(opened, folder, name) for name in order.over)
        for path, found, pair in side_by_side(here, ((last.raw, last) for last, _ in known)):
            if found is None:
                if pair is not None and pair.kind != "gone":
                    yield entry(path, "gone")
            elif (pair is not None and _is_same(found, pair)) or (
                not order.later and found.mtime_ns > sealed.mtime_ns
            ):
                continue
            elif (each := _listed(files, folder, found, order, read)) is not None and not _same_entry(each, pair):
                yield each


def _listed(
    files: RemoteFiles, folder: RemoteFolder, found: Found, order: WriteManifest, read: Read
) -> Entry | None:
    raw = _raw(found.path)
    if found.target is not None:
        return entry(raw, "link", _raw(found.target))
    if found.kind != "file":
        return entry(raw, found.kind)
    if order.kind != "blake3":
        each: Entry | None = entry(raw, "file", size=found.size, mtime_ns=found.mtime_ns)
    else:
        each = _hashed(files, folder, found, read)
    if each is None or found.path != order.marker_name:
        return each
    content = folder.read(order.marker_name, LIMIT_BYTES) or b""
    return msgspec.structs.replace(each, lasting_blake3=marker_digest(content))


def _hashed(files: RemoteFiles, folder: RemoteFolder, found: Found, read: Read) -> Entry | None:
    """None: it is gone."""
    raw, place = _raw(found.path), folder.at(found.path)
    for _ in range(TRIES):
        hasher, size = blake3(max_threads=1), 0
        try:
            with files.open(place) as file:
                while data := file.read(BUFFER_BYTES):
                    hasher.update(data)
                    size += len(data)
                    read(len(data))
        except FileNotFoundError:
            return None
        except NotPlainFileError:
            break
        still = files.found(place)
        if still is None:
            return None
        before = (found.size, found.mtime_ns, found.version)
        if before == (still.size, still.mtime_ns, still.version) and size == still.size:
            return entry(raw, "file", size=size, mtime_ns=still.mtime_ns, blake3=hasher.hexdigest())
        found = still._replace(path=found.path)
    problem = "it changed while it was read"
    return entry(raw, "file", size=found.size, mtime_ns=found.mtime_ns, problem=problem)


def _earlier(opened: ExitStack, folder: RemoteFolder, name: str) -> Iterator[Entry]:
    """The entries of an earlier manifest. Without it, its files are listed as if they were new."""
    try:
        file = opened.enter_context(folder.stream(name))
    except FileNotFoundError:
        return
    try:
        yield from ManifestReader(file).entries()
    except ManifestError as error:
        raise Fault("unavailable", f"The manifest {name} beside the data is damaged: {error}.") from error


def _is_same(found: Found, known: Entry) -> bool:
    """As of `manifest_worker`."""
    if known.kind != "file" or known.problem is not None or found.kind != "file":
        return False
    return (known.size, known.mtime_ns) == (found.size, found.mtime_ns)


def _same_entry(each: Entry, known: Entry | None) -> bool:
    return known is not None and each == known and each.problem is None


def _marker(files: RemoteFiles, folder: RemoteFolder, order: WriteManifest) -> Found:
    """Which file the marker is. `Fault`: not there, another's, or not of the seal."""
    for marker in markers_in(folder):
        if (marker.name, marker.id, marker.uid) == (order.marker_name, order.acq_id, order.uid):
            said = msgspec.json.decode(folder.read(order.marker_name, LIMIT_BYTES) or b"{}")
            found = files.found(folder.at(order.marker_name))
            if found is None or said.get("segment") != order.segment or said.get("state") == "open":
                raise _changed(order)
            return found
    message = f"The folder {folder.path} below {order.mp} does not belong to {order.acq_id} (uid {order.uid})."
    raise Fault("already_exists", message, what="folder", id=folder.path)


def _changed(order: WriteManifest) -> Fault:
    message = f"The acquisition {order.acq_id} was opened again while its files were listed."
    return Fault("unavailable", message, reason=OPENED_AGAIN)


def _set_aside(files: RemoteFiles, folder: RemoteFolder, order: WriteManifest) -> None:
    """A manifest of this name that is not an earlier try of ours is kept, under another name."""
    kind = folder.kind(order.name)
    if kind is None:
        return
    whose: str = kind
    if kind == "file":
        try:
            with folder.stream(order.name) as file:
                header = ManifestReader(file).header
            if (header.acq_id, header.uid) == (order.acq_id, order.uid):
                return
            whose = header.uid
        except ManifestError:
            whose = "unknown"
    label = whose if whose.replace("-", "").isalnum() else b64encode(whose.encode(), b"-_").decode()
    stem = order.name.removesuffix(".json")
    for number in count():
        aside = f"{stem}-of-{label[:64]}{f'-{number}' if number else ''}.json"
        if folder.kind(aside) is None:
            files.rename(folder.at(order.name), folder.at(aside))
            return


def _raw(path: str) -> bytes:
    return path.encode(errors="surrogateescape")
