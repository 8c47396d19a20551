"""Files elsewhere in the network: what every kind of them can do, and a folder of them.

1. A path is relative to the mount point, its segments joined by `/`; empty is the mount point itself.
2. What the other side refuses is an OSError whose text says what: `FileNotFoundError` and `FileExistsError` for
   the path that was named, everything else for the mount point. No secret stands in it.
3. Each step may be done twice with the same result; `replace` and `put` show a file whole or not at all.
4. No request waits for ever: after `Mount.timeout_s` it has failed with `NoAnswer`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from storage_service.doors.folder import Kind, NotPlainFileError


class NoAnswer(OSError):
    """The other side did not answer in time."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "it does not answer")


class NotThere(OSError):
    """The mount point itself cannot be used: the other side, or what is asked of it there. `code` is the other
    side's own, where it has one."""

    def __init__(self, why: str, code: str = "") -> None:
        super().__init__(errno.EIO, why)
        self.code = code


class Found(NamedTuple):
    """A file below a folder: its path from there, its bytes, when it was changed in nanoseconds since 1970, what
    tells this content from another if the other side knows (S3's ETag), and the target if it is a link."""

    path: str
    size: int
    mtime_ns: int
    version: str = ""
    target: str | None = None
    kind: str = "file"


class Named(NamedTuple):
    """What is directly in a folder; `mtime` in seconds since 1970, 0 where nobody knows."""

    name: str
    kind: Kind
    mtime: float = 0.0


class RemoteFiles(Protocol):
    """The files of one mount point. Its methods may be called from several threads at once."""

    def reach(self) -> None:
        """See whether the mount point answers, lets us in, and is there."""

    def kind(self, path: str) -> Kind | None:
        """What has this path at this moment; nil: nothing."""

    def listed(self, path: str) -> Iterator[Named]:
        """What is directly in a folder; nothing when it is not there."""

    def walk(self, path: str) -> Iterator[Found]:
        """Every file below a folder, in the order of the bytes of their paths. Links are not followed."""

    def found(self, path: str) -> Found | None:
        """The one file of this path, as `walk` finds it (its `path` is this one); nil: there is none."""

    def read(self, path: str, limit: int) -> bytes | None:
        """A file's content, nil when there is none. NotPlainFileError: something else, or above `limit` bytes."""

    def open(self, path: str) -> IO[bytes]:
        """A file's content as a stream, to be closed. FileNotFoundError, NotPlainFileError."""

    def replace(self, path: str, content: bytes) -> None:
        """Put a file in place in one step; its folder is there."""

    def create(self, path: str, content: bytes) -> None:
        """The same where nothing has the path. FileExistsError: something has it, and stays."""

    def put(self, path: str, source: Path) -> None:
        """The same with the content of a file of this host."""

    def make_folder(self, path: str) -> None:
        """Make a folder in one that is there, if it is not there."""

    def publish(self, path: str, name: str, content: bytes, draft: str) -> None:
        """Make a folder that appears with this one file in it. FileExistsError: something has its path by now.
        `draft`: a name beside it that nobody else uses."""

    def move(self, path: str, to: str) -> None:
        """Move a folder with all that is in it to a path that is free, or go on with that. Nothing left to move is
        no error. FileExistsError: something is in the way."""

    def rename(self, path: str, to: str) -> None:
        """Move a file to a path that is free."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    def clear(self, path: str) -> None:
        """Remove a folder with all that is in it, if it is there."""

    def free_bytes(self) -> int | None:
        """How many bytes are free, where the other side tells."""

    def close(self) -> None:
        """Let go of connections."""


class RemoteFolder:
    """A folder of them; see `Folder`."""

    def __init__(self, files: RemoteFiles, path: str) -> None:
        self._files = files
        self.path = path

    def at(self, name: str) -> str:
        """The path of a name in it."""
        return f"{self.path}/{name}" if self.path else name

    def kind(self, name: str) -> Kind | None:
        return self._files.kind(self.at(name))

    def read(self, name: str, limit: int) -> bytes | None:
        return self._files.read(self.at(name), limit)

    def stream(self, name: str) -> IO[bytes]:
        return self._files.open(self.at(name))

    def replace(self, name: str, content: bytes) -> None:
        self._files.replace(self.at(name), content)

    def create(self, name: str, content: bytes) -> None:
        self._files.create(self.at(name), content)

    def sync(self) -> None:
        """What was answered is as durable as the other side makes it."""

    def folders(self) -> Iterator[str]:
        return (found.name for found in self._files.listed(self.path) if found.kind == "folder")

    def each(self) -> Iterator[str]:
        return (found.name for found in self._files.listed(self.path))

    def names(self) -> list[str]:
        return list(self.each())

    @contextmanager
    def enter(self, name: str) -> Iterator[RemoteFolder]:
        """FileNotFoundError: it is not there."""
        kind = self.kind(name)
        if kind is None:
            raise FileNotFoundError(errno.ENOENT, "it is not there", name)
        if kind != "folder":
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder", name)
        yield RemoteFolder(self._files, self.at(name))


def checked(content: bytes, path: str, limit: int) -> bytes:
    """The content, if it is not too long. NotPlainFileError."""
    if len(content) > limit:
        raise NotPlainFileError(path)
    return content


def secret(file: Path, what: str) -> str:
    """What a file of secrets holds, without the space around it. NotThere, without it, when it cannot be read."""
    try:
        return file.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        raise NotThere(f"its {what} {file} is not UTF-8") from error
    except OSError as error:
        raise NotThere(f"its {what} {file} cannot be read: {error.strerror}") from error
