"""What is in a folder, for manifests: every file below it, in the order of the paths' bytes, and their digests.

A folder is entered by its descriptor, and no link is followed. What comes and goes meanwhile is there or it is
not: nothing is held up by it. Memory is bounded by the largest single folder's names.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from blake3 import blake3

from .manifest_format import Entry, entry

BUFFER_BYTES = 1 << 20
TRIES = 3
"""How often a file that changes while it is read is read."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO that took the file's place would hold us for as long as nobody writes to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_GONE = (errno.ENOENT, errno.ESTALE)


class Found(NamedTuple):
    """A file at `path` below the folder that is walked; `name` in the folder of the descriptor `parent`, which is
    open until the next one is asked for. `error`: why a folder could not be read, or nothing be known of what has
    this name, of which this then tells."""

    path: bytes
    name: bytes
    parent: int
    status: os.stat_result
    error: str | None = None


def walk(folder: int) -> Iterator[Found]:
    """Everything that is no folder, below the folder of this descriptor, in the order of the paths' bytes.

    Raises OSError when the folder itself cannot be read, or no descriptor is free.
    """
    # A folder sorts by its name with the slash that follows it in the paths below.
    stack: list[tuple[int, bytes, Iterator[bytes]]] = [(folder, b"", _names(folder))]
    try:
        while stack:
            parent, prefix, names = stack[-1]
            key = next(names, None)
            if key is None:
                stack.pop()
                if parent != folder:
                    os.close(parent)
                continue
            name = key.rstrip(b"/")
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _GONE:
                    # It is there, and no more is known: of a folder that may not be entered, or of a broken disk.
                    yield Found(prefix + name, name, parent, os.fstat(parent), os.strerror(error.errno or 0))
                continue
            if not stat.S_ISDIR(status.st_mode):
                yield Found(prefix + name, name, parent, status)
                continue
            try:
                below = os.open(name, _FOLDER, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                if error.errno not in (*_GONE, errno.ENOTDIR, errno.ELOOP):
                    yield Found(prefix + name, name, parent, status, os.strerror(error.errno or 0))
                continue
            try:
                stack.append((below, prefix + name + b"/", _names(below)))
            except OSError as error:
                os.close(below)
                yield Found(prefix + name, name, parent, status, os.strerror(error.errno or 0))
    finally:
        for each, _, _ in stack[1:]:
            os.close(each)


def _names(folder: int) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        found = [os.fsencode(each.name) + (b"/" if _is_folder(each) else b"") for each in entries]
    return iter(sorted(found))


def _is_folder(each: os.DirEntry[str]) -> bool:
    try:
        return each.is_dir(follow_symlinks=False)
    except OSError:
        return False


def listed(found: Found, hashes: bool, read: Callable[[int], None]) -> Entry | None:
    """The entry of what was found, read and hashed if that is wanted; None when it is gone.

    `read` hears how many bytes were read, now and then.
    """
    mode = found.status.st_mode
    if found.error is not None:
        return entry(found.path, "folder", problem=f"not readable: {found.error}")
    if stat.S_ISLNK(mode):
        try:
            return entry(found.path, "link", os.readlink(found.name, dir_fd=found.parent))
        except OSError:
            return None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
        return entry(found.path, kinds.get(stat.S_IFMT(mode), "device"))
    if hashes:
        return _hashed(found, read)
    return entry(found.path, "file", size=found.status.st_size, mtime_ns=found.status.st_mtime_ns)


def _hashed(found: Found, read: Callable[[int], None]) -> Entry | None:
    status = found.status
    for _ in range(TRIES):
        try:
            fd = os.open(found.name, _FILE, dir_fd=found.parent)
        except OSError as error:
            if error.errno in _GONE:
                return None
            return _problem(found, status, error)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                break
            digest, size = digest_of(fd, read)
            status = os.fstat(fd)
            still = os.stat(found.name, dir_fd=found.parent, follow_symlinks=False)
        except OSError as error:
            if error.errno in _GONE:
                return None
            return _problem(found, status, error)
        finally:
            os.close(fd)
        if _state(before) == _state(status) == _state(still) and size == status.st_size:
            return entry(found.path, "file", size=size, mtime_ns=status.st_mtime_ns, blake3=digest)
    problem = "it changed while it was read"
    return entry(found.path, "file", size=status.st_size, mtime_ns=status.st_mtime_ns, problem=problem)


def _problem(found: Found, status: os.stat_result, error: OSError) -> Entry:
    problem = f"not readable: {os.strerror(error.errno or 0)}"
    return entry(found.path, "file", size=status.st_size, mtime_ns=status.st_mtime_ns, problem=problem)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_buffer = memoryview(bytearray(BUFFER_BYTES))


def digest_of(fd: int, read: Callable[[int], None]) -> tuple[str, int]:
    """The BLAKE3 of what can be read from a descriptor, and how many bytes that was. Raises OSError."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    hasher, size = blake3(max_threads=1), 0
    while count := os.readv(fd, (_buffer,)):
        hasher.update(_buffer[:count])
        size += count
        read(count)
    return hasher.hexdigest(), size


def open_file(folder: int, path: bytes) -> int:
    """A descriptor to read the plain file at a path below a folder, no link followed. Raises OSError.

    The path may come from whoever wrote a manifest: it leads nowhere but down.
    """
    *folders, name = path.split(b"/")
    if {b"", b".", b".."} & {*folders, name} or b"\0" in path:
        raise OSError(errno.EINVAL, "it is no path below the folder")
    at = os.dup(folder)
    try:
        for each in folders:
            below = os.open(each, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(name, _FILE, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no plain file")
    return fd
