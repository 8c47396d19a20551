"""A process that writes manifests: `python -m storage_service.doors.manifest_worker PARENT_PID`.

Orders come as lines of JSON on standard input; how far it is, and what came of an order, go as such to standard
output. It runs at the lowest priority for processor and disk, and ends with the service, even if that is killed.

1. The marker in the folder must be the acquisition's, and stay as it is from the first look to the last.
2. Files are listed as they are found and hashed; the list goes into a temporary file, and never into memory.
3. The manifest appears whole, synced, in one step, and replaces only an earlier try of the same.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import NoReturn

import msgspec
from msgspec import Struct

from storage_service.doors.directory import Directory
from storage_service.doors.manifest_format import (
    Entry,
    ManifestError,
    ManifestReader,
    ManifestWriter,
    entry,
    header_of,
    is_left,
    is_own,
)
from storage_service.doors.manifest_marker import marker_digest, read_marker
from storage_service.doors.manifest_merge import newest, side_by_side
from storage_service.doors.manifest_tree import Found, listed, walk
from storage_service.doors.markers import markers_in
from storage_service.failpoints import passing
from storage_service.mount_tables import Mount
from storage_service.rules.work import OPENED_AGAIN, Failed, Fault, ManifestDone, WriteManifest

TELL_EVERY_S = 0.25
WRITE_BYTES = 1 << 20


class Asked(Struct, frozen=True):
    """A line of standard input: an order, and where this host reaches its mount point."""

    mount: Mount
    order: WriteManifest


class Told(Struct, frozen=True):
    """A line of standard output: what is read so far, or what came of the order."""

    bytes: int = 0
    result: ManifestDone | Failed | None = None


class _Reading:
    """Tells how many bytes were read, not too often."""

    def __init__(self) -> None:
        self.bytes = 0
        self._next = 0.0

    def __call__(self, count: int) -> None:
        self.bytes += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TELL_EVERY_S
            _tell(Told(self.bytes))


def carry_out(mount: Mount, order: WriteManifest, read: _Reading) -> ManifestDone | Failed:
    """Write one manifest. What the outside world refuses is a `Failed`, `unavailable` or `already_exists`."""
    try:
        if mount.path is None:
            # Imported here: a worker for a folder of this host starts without it.
            from storage_service.doors.mount_kinds import remote_files
            from storage_service.doors.remote_manifest import write_manifest

            with closing(remote_files(order.mp, mount)) as files:
                return write_manifest(files, order, read)
        with ExitStack() as opened:
            folder = opened.enter_context(Directory.at(mount.path))
            for name in order.path:
                folder = opened.enter_context(folder.enter(name))
            return _write(folder, order, read)
    except Fault as fault:
        return Failed(fault.code, fault.message, fault.details)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.filename is not None:
            reason = f"{reason}: {os.fsdecode(error.filename)}"
        message = f"The folder {'/'.join(order.path)} below {order.mp} cannot be used as asked: {reason}."
        return Failed("unavailable", message, {"reason": reason})


def _write(folder: Directory, order: WriteManifest, read: _Reading) -> ManifestDone:
    fd = folder.fileno()
    sealed = _marker(folder, order)
    _set_aside(folder, order)
    new = f".{order.name}.new"
    for left in [name for name in folder.each() if is_left(os.fsencode(name))]:
        folder.unlink(left)  # of an earlier try, also for an earlier segment
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    problems, example = 0, ""
    try:
        with os.fdopen(os.open(new, flags, 0o666, dir_fd=fd), "wb", WRITE_BYTES) as file:
            passing("manifest.begun")
            manifest = ManifestWriter(file, header_of(order))
            for each in _entries(folder, order, sealed, read):
                if each.problem is not None:
                    problems += 1
                    example = example or f"{each.shown} ({each.problem})"
                manifest.add(each)
            manifest.end()
            file.flush()
            os.fsync(file.fileno())
        passing("manifest.synced")
        if _marker(folder, order) != sealed:
            raise _changed(order)
        os.rename(new, order.name, src_dir_fd=fd, dst_dir_fd=fd)
    except BaseException:
        with suppress(OSError):
            folder.unlink(new)
        raise
    passing("manifest.renamed")
    folder.sync()
    passing("manifest.published")
    return ManifestDone(manifest.count, manifest.bytes, manifest.blake3, problems, example)


def _entries(folder: Directory, order: WriteManifest, sealed: tuple[int, ...], read: _Reading) -> Iterator[Entry]:
    """What the manifest is to list."""
    fd = folder.fileno()
    here = ((found.path, found) for found in walk(fd) if not is_own(found.path))
    with ExitStack() as opened:
        known = newest(_earlier(opened, fd, name) for name in order.over)
        for path, found, pair in side_by_side(here, ((last.raw, last) for last, _ in known)):
            if found is None:
                if pair is not None and pair.kind != "gone":
                    yield entry(path, "gone")
            elif (pair is not None and _is_same(found, pair)) or (not order.later and _is_later(found, sealed)):
                continue
            elif (each := _listed(found, order, read)) is not None and not _same_entry(each, pair):
                yield each


def _listed(found: Found, order: WriteManifest, read: _Reading) -> Entry | None:
    each = listed(found, order.kind == "blake3", read)
    if each is None or found.path != order.marker_name.encode() or each.kind != "file":
        return each
    return msgspec.structs.replace(each, lasting_blake3=marker_digest(read_marker(found.parent, found.name)))


def _earlier(opened: ExitStack, folder: int, name: str) -> Iterator[Entry]:
    """The entries of an earlier manifest. Without it, its files are listed as if they were new."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return
    file = opened.enter_context(os.fdopen(fd, "rb", WRITE_BYTES))
    try:
        yield from ManifestReader(file).entries()
    except ManifestError as error:
        raise Fault("unavailable", f"The manifest {name} beside the data is damaged: {error}.") from error


def _is_same(found: Found, known: Entry) -> bool:
    """Whether a plain file is as an earlier manifest has it, as far as can be told without reading it."""
    if known.kind != "file" or known.problem is not None:
        return False
    return (known.size, known.mtime_ns) == (found.status.st_size, found.status.st_mtime_ns)


def _same_entry(each: Entry, known: Entry | None) -> bool:
    return known is not None and each == known and each.problem is None


def _is_later(found: Found, sealed: tuple[int, ...]) -> bool:
    """Whether it was touched after the sealing: the marker file is the last thing that the seal writes."""
    return found.status.st_ctime_ns > sealed[-1]


def _marker(folder: Directory, order: WriteManifest) -> tuple[int, ...]:
    """Which file the marker is, and when it was changed. `Fault`: not there, another's, or not of the seal."""
    for marker in markers_in(folder):
        if (marker.name, marker.id, marker.uid) == (order.marker_name, order.acq_id, order.uid):
            said = msgspec.json.decode(read_marker(folder.fileno(), order.marker_name))
            if said.get("segment") != order.segment or said.get("state") == "open":
                raise _changed(order)
            status = os.stat(order.marker_name, dir_fd=folder.fileno(), follow_symlinks=False)
            return status.st_ino, status.st_ctime_ns
    place = "/".join(order.path)
    message = f"The folder {place} below {order.mp} does not belong to {order.acq_id} (uid {order.uid})."
    raise Fault("already_exists", message, what="folder", id=place)


def _changed(order: WriteManifest) -> Fault:
    message = f"The acquisition {order.acq_id} was opened again while its files were listed."
    return Fault("unavailable", message, reason=OPENED_AGAIN)


def _set_aside(folder: Directory, order: WriteManifest) -> None:
    """A manifest of this name that is not an earlier try of ours is kept, under another name."""
    fd = folder.fileno()
    try:
        present = os.open(order.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        whose = "link"
    else:
        with os.fdopen(present, "rb") as file:
            try:
                header = ManifestReader(file).header
                if (header.acq_id, header.uid) == (order.acq_id, order.uid):
                    return
                whose = header.uid
            except (ManifestError, OSError):
                whose = "unknown"
    label = whose if whose.replace("-", "").isalnum() else b64encode(whose.encode(), b"-_").decode()
    stem, number = order.name.removesuffix(".json"), 0
    while True:
        aside = f"{stem}-of-{label[:64]}{f'-{number}' if number else ''}.json"
        with suppress(FileExistsError):
            folder.move(order.name, folder, aside)
            return
        number += 1


# The process


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def _be_modest(parent: int) -> None:
    """End with the service, and take what nobody else wants of processor and disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before we asked to be told
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a service that is killed closes its pipes before we are told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the service ends us when it ends
    with suppress(OSError):
        os.nice(19)
    call = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine)
    if call is not None:
        libc.syscall(call, 1, 0, 3 << 13)  # ioprio_set(IOPRIO_WHO_PROCESS, ourselves, IOPRIO_CLASS_IDLE)


def main() -> NoReturn:
    """Carry out orders until standard input ends."""
    _be_modest(int(sys.argv[1]))
    decode = msgspec.json.Decoder(Asked, dec_hook=lambda kind, text: kind(text)).decode
    for line in sys.stdin.buffer:
        asked = decode(line)
        read = _Reading()
        result = carry_out(asked.mount, asked.order, read)
        _tell(Told(read.bytes, result))
    sys.exit(0)


if __name__ == "__main__":
    main()
