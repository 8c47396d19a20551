"""An open directory, and what can be done below it by its descriptor.

A name is one segment. It is looked up in a directory that is held open, and never followed when it is a symbolic
link: whoever swaps a directory for a link while we work sends us nowhere. Nothing here is looked at first and
opened later by its path.

Every function raises `OSError` as the system reports it, besides what its own text names.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from storage_protocol.records import DiskUse
from storage_service.doors.folder import Kind as Kind
from storage_service.doors.folder import NotPlainFileError as NotPlainFileError
from storage_service.doors.manifest_tree import walk
from storage_service.failpoints import passing

_RENAME_NOREPLACE = 1
_libc = ctypes.CDLL(None, use_errno=True)
_syncfs: Callable[..., int] | None = getattr(_libc, "syncfs", None)
_renameat2: Callable[..., int] | None = getattr(_libc, "renameat2", None)


class Directory:
    """A directory held open. It is its own context manager, and is closed at the end of the block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def at(cls, path: Path) -> Directory:
        """Open the directory at a path that the operator chose: this one may be reached through a link."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Its descriptor, open as long as the block lasts."""
        return self._fd

    def probe(self) -> None:
        """Ask the file system itself for an answer: an open alone may be served from a cache."""
        os.fstatvfs(self._fd)

    def is_mounted(self) -> bool:
        """Whether another file system begins here than the one above."""
        return os.stat("..", dir_fd=self._fd).st_dev != os.fstat(self._fd).st_dev

    def enter(self, name: str) -> Directory:
        """Open the directory of this name. `NotADirectoryError`: it is a link or a file, see `kind`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return Directory(os.open(name, flags, dir_fd=self._fd))
        except OSError as error:
            if error.errno == errno.ELOOP:  # some file systems say so of a link, others ENOTDIR
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from error
            raise

    def make(self, name: str) -> None:
        """Make a directory of this name, unless something has the name already."""
        passing("directory.make")
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._fd)
        passing("directory.made")

    def kind(self, name: str) -> Kind | None:
        """What has this name at this moment; nil: nothing. For words and choices, never before an open."""
        try:
            mode = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(mode):
            return "folder"
        return "link" if stat.S_ISLNK(mode) else "file"

    def status(self, name: str) -> os.stat_result:
        """What the system says of this name, without following it."""
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def device(self) -> int:
        """The file system that this directory is on."""
        return os.fstat(self._fd).st_dev

    def each(self) -> Iterator[str]:
        """The names in it, as the system gives them; one iteration at a time."""
        with os.scandir(self._fd) as found:
            for entry in found:
                yield entry.name

    def names(self, most: int | None = None, besides: Container[str] = ()) -> list[str]:
        """The names in it, at most so many and none of `besides`."""
        return list(islice((name for name in self.each() if name not in besides), most))

    def folders(self) -> Iterator[str]:
        """The names of the directories in it, as the system gives them; links are none."""
        with os.scandir(self._fd) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name

    def permit(self) -> None:
        """Let its owner list and change it, where we may give such a permission."""
        with suppress(OSError):
            os.fchmod(self._fd, stat.S_IMODE(os.fstat(self._fd).st_mode) | stat.S_IRWXU)

    def reopened(self) -> Directory:
        """The same directory, opened once more: to be closed on its own."""
        return self.enter(".")

    def close(self) -> None:
        os.close(self._fd)

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of the plain file of this name, nil when there is none.

        Raises `NotPlainFileError` when it is something else, or longer than `limit` bytes.
        """
        try:
            fd = self._open_plain(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise NotPlainFileError(name)
        return content

    def stream(self, name: str) -> IO[bytes]:
        """The plain file of this name, to be read and closed. `NotPlainFileError`: it is something else."""
        return os.fdopen(self._open_plain(name, os.O_RDONLY), "rb")

    def disk_use(self) -> DiskUse:
        """How many files are below it, how large they are together, and what they take on the disk. What cannot
        be read is left out.

        Raises OSError when the directory itself cannot be read.
        """
        files = size = allocated = 0
        for found in walk(self._fd):
            if found.error is None:
                files += 1
                size += found.status.st_size
                allocated += (
                    found.status.st_blocks * 512
                )  # stat(2): in units of 512 bytes, whatever the disk's are
        return DiskUse(files, size, allocated)

    def open_anew(self, name: str) -> int:
        """Open the file of this name for writing, made or emptied. `NotPlainFileError`: it is no plain file."""
        fd = self._open_plain(name, os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(fd, 0)  # only now: what is no plain file was left as it is
        except OSError:
            os.close(fd)
            raise
        return fd

    def _open_plain(self, name: str, flags: int) -> int:
        # Without O_NONBLOCK a FIFO of that name would hold us for as long as its other end stays away.
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = os.open(name, flags, 0o666, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise NotPlainFileError(name) from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotPlainFileError(name)
        os.set_blocking(fd, True)  # whoever inherits it expects an ordinary descriptor
        return fd

    def replace(self, name: str, content: bytes) -> None:
        """Put a file of this name and content in place in one step, synced. Nothing half-written has the name."""
        self._put(name, content, lambda new: os.rename(new, name, src_dir_fd=self._fd, dst_dir_fd=self._fd))

    def create(self, name: str, content: bytes) -> None:
        """The same where nothing has the name. `FileExistsError`: something has it, and stays."""
        self._put(name, content, lambda new: self.move(new, self, name))

    def _put(self, name: str, content: bytes, into_place: Callable[[str], None]) -> None:
        new = f".{name}.new"
        try:
            self.unlink(new)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(new, flags, 0o666, dir_fd=self._fd), "wb") as file:
                file.write(content)
                file.flush()
                passing("directory.written")
                os.fsync(file.fileno())
            passing("directory.file_synced")
            into_place(new)
            passing("directory.replaced")
        except OSError:
            with suppress(OSError):
                self.unlink(new)
            raise
        self.sync()

    def move(self, name: str, target: Directory, new_name: str) -> None:
        """Move what has this name to another directory. `FileExistsError`: something has the new name already."""
        passing("directory.move")
        if _renameat2 is not None:
            try:
                old, new = os.fsencode(name), os.fsencode(new_name)
                _checked(_renameat2, self._fd, old, target._fd, new, _RENAME_NOREPLACE)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS):
                    raise
        # A file system that knows no such flag (NFS): a plain rename replaces an empty directory, nothing else
        # of ours, so that what may slip in between look and rename is lost without harm.
        if target.kind(new_name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
        try:
            os.rename(name, new_name, src_dir_fd=self._fd, dst_dir_fd=target._fd)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name) from error
            raise

    def unlink(self, name: str) -> None:
        """Remove the file of this name, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove the empty directory of this name."""
        os.rmdir(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Make the names in this directory durable."""
        passing("directory.sync")
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system without such an operation: it has no more to give
                raise

    def sync_file_system(self) -> None:
        """Make everything durable that was written to the file system of this directory, by whomever."""
        if _syncfs is None:
            os.sync()
        else:
            _checked(_syncfs, self._fd)


def _checked(call: Callable[..., int], *args: Any) -> None:
    while call(*args) != 0:
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))
