"""Files behind an SFTP server, through asyncssh: the extra `sftp`, imported when it is first used.

1. A file is written beside its place, synced where the server can (`fsync@openssh.com`), and renamed over it in
   one step (`posix-rename@openssh.com`). A server that cannot do that is refused: it would show half a file.
2. A link is never followed: each segment of a path is looked at. Somebody who swaps a folder for a link at that
   very moment can fool that, since SFTP knows no descriptors of folders.
"""

from __future__ import annotations

import io
import posixpath
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from storage_service.doors.folder import Kind, NotPlainFileError
from storage_service.doors.remote_files import Found, Named, NotThere, checked
from storage_service.doors.sftp_connection import SftpConnection
from storage_service.mount_tables import Mount

BLOCK_BYTES = 1 << 20
SLOW_S = 300.0


class SftpFiles:
    """See `RemoteFiles`. `mp` is sftp://HOST/PATH or sftp://HOST:PORT/PATH."""

    def __init__(self, mp: str, mount: Mount) -> None:
        address, _, path = mp.removeprefix("sftp://").partition("/")
        self._host, _, port = address.partition(":")
        self._root = "/" + path.rstrip("/")
        self._connection = SftpConnection(self._host, int(port or 22), mount)
        self.ask = self._connection.ask

    # Looking

    def reach(self) -> None:
        try:
            attributes = self.ask(lambda sftp: sftp.stat(self._root))
        except FileNotFoundError as error:
            raise NotThere(f"the folder {self._root} does not exist on {self._host}") from error
        if not stat.S_ISDIR(attributes.permissions or 0):
            raise NotThere(f"{self._root} on {self._host} is no folder")

    def kind(self, path: str) -> Kind | None:
        if not path:
            return "folder"
        found: Kind | None = None
        names = path.split("/")
        for depth in range(1, len(names) + 1):
            try:
                attributes = self._status("/".join(names[:depth]))
            except FileNotFoundError:
                return None
            found = _kind(attributes)
            if found != "folder":
                return found if depth == len(names) else "link" if found == "link" else None
        return found

    def _status(self, path: str) -> Any:
        return self.ask(lambda sftp: sftp.lstat(self._at(path)))

    def _target(self, path: str) -> str:
        """Of a link; empty where it leads out of what the server shows, which it then does not tell."""
        try:
            target: str = self.ask(lambda sftp: sftp.readlink(self._at(path)))
        except FileNotFoundError:
            return ""
        return target

    def listed(self, path: str) -> Iterator[Named]:
        for name, attributes in self._names(path):
            yield Named(name, _kind(attributes), float(attributes.mtime or 0))

    def _names(self, path: str) -> list[tuple[str, Any]]:
        try:
            found = self.ask(lambda sftp: sftp.readdir(self._at(path)))
        except FileNotFoundError:
            return []
        return [(each.filename, each.attrs) for each in found if each.filename not in (".", "..")]

    def walk(self, path: str) -> Iterator[Found]:
        def below(folder: str, prefix: str) -> Iterator[Found]:
            # A folder sorts by its name with the slash that follows it in the paths below.
            named = [(f"{name}/" if _kind(each) == "folder" else name, each) for name, each in self._names(folder)]
            for name, each in sorted(named, key=lambda one: one[0].encode(errors="surrogateescape")):
                if name.endswith("/"):
                    yield from below(f"{folder}/{name[:-1]}" if folder else name[:-1], prefix + name)
                    continue
                target = None
                if stat.S_ISLNK(each.permissions or 0):
                    target = self._target(f"{folder}/{name}" if folder else name)
                yield _found(prefix + name, each)._replace(target=target)

        yield from below(path, "")

    def found(self, path: str) -> Found | None:
        if self.kind(path) is None:
            return None
        try:
            return _found(path, self._status(path))
        except FileNotFoundError:  # gone since
            return None

    def read(self, path: str, limit: int) -> bytes | None:
        kind = self.kind(path)
        if kind is None:
            return None
        if kind != "file":
            raise NotPlainFileError(path)

        async def content(sftp: Any) -> bytes:
            async with sftp.open(self._at(path), "rb") as file:
                found: bytes = await file.read(limit + 1)
                return found

        try:
            return checked(self.ask(content), path, limit)
        except FileNotFoundError:  # gone since
            return None

    def open(self, path: str) -> IO[bytes]:
        kind = self.kind(path)
        if kind is None:
            raise FileNotFoundError(path)
        if kind != "file":
            raise NotPlainFileError(path)
        file = self.ask(lambda sftp: sftp.open(self._at(path), "rb", block_size=-1))
        return io.BufferedReader(_Stream(self, file), BLOCK_BYTES)

    # Changing

    def replace(self, path: str, content: bytes) -> None:
        async def write(sftp: Any) -> None:
            async with sftp.open(new, "wb") as file:
                await file.write(content)
                await _synced(file)
            await sftp.posix_rename(new, self._at(path))

        new = self._beside(path)
        self._in_place(write, new)

    def create(self, path: str, content: bytes) -> None:
        async def write(sftp: Any) -> None:
            async with sftp.open(new, "wb") as file:
                await file.write(content)
                await _synced(file)
            await sftp.rename(new, self._at(path))  # which replaces nothing

        new = self._beside(path)
        try:
            self._in_place(write, new)
        except NotThere:
            if self.kind(path) is not None:  # the protocol has no code for it
                raise FileExistsError(path) from None
            raise

    def put(self, path: str, source: Path) -> None:
        async def write(sftp: Any) -> None:
            with source.open("rb") as content:
                async with sftp.open(new, "wb") as file:
                    while data := content.read(BLOCK_BYTES):
                        await file.write(data)
                    await _synced(file)
            await sftp.posix_rename(new, self._at(path))

        new = self._beside(path)
        self._in_place(write, new, SLOW_S)

    def _in_place(self, write: Callable[[Any], Awaitable[None]], new: str, timeout_s: float = 0.0) -> None:
        try:
            self.ask(write, timeout_s)
        except OSError as error:
            with suppress(OSError):
                self.ask(lambda sftp: sftp.unlink(new))
            if isinstance(error, NotThere) and error.code == "SFTPOpUnsupported":
                why = f"{self._host} cannot replace a file in one step (posix-rename@openssh.com)"
                raise NotThere(why) from error
            raise

    def make_folder(self, path: str) -> None:
        async def make(sftp: Any) -> None:
            if not await sftp.lexists(self._at(path)):
                await sftp.mkdir(self._at(path))

        self.ask(make)

    def publish(self, path: str, name: str, content: bytes, draft: str) -> None:
        beside = f"{posixpath.dirname(path)}/{draft}" if "/" in path else draft
        self.make_folder(beside)
        try:
            self.replace(f"{beside}/{name}", content)
            self._rename(beside, path)
        except OSError:
            with suppress(OSError):
                self.clear(beside)
            raise

    def move(self, path: str, to: str) -> None:
        if self.kind(path) is not None:
            self._rename(path, to)

    def _rename(self, path: str, to: str) -> None:
        # This kind of rename replaces nothing.
        try:
            self.ask(lambda sftp: sftp.rename(self._at(path), self._at(to)))
        except NotThere:
            if self.kind(to) is not None:  # the protocol has no code for it
                raise FileExistsError(to) from None
            raise

    def rename(self, path: str, to: str) -> None:
        self._rename(path, to)

    def remove(self, path: str) -> None:
        try:
            self.ask(lambda sftp: sftp.unlink(self._at(path)))
        except FileNotFoundError:
            return

    def clear(self, path: str) -> None:
        for name, attributes in self._names(path):
            below = f"{path}/{name}"
            if _kind(attributes) == "folder":
                self.clear(below)
            else:
                self.remove(below)
        try:
            self.ask(lambda sftp: sftp.rmdir(self._at(path)))
        except FileNotFoundError:
            return

    def free_bytes(self) -> int | None:
        try:
            found = self.ask(lambda sftp: sftp.statvfs(self._root))
        except NotThere:  # few servers but OpenSSH's tell
            return None
        return int(found.bavail * found.frsize)

    def close(self) -> None:
        self._connection.close()

    # Places

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root

    def _beside(self, path: str) -> str:
        folder, _, name = self._at(path).rpartition("/")
        return f"{folder}/.{name}.{uuid4().hex[:8]}.new"


class _Stream(io.RawIOBase):
    """A file of the other side, read from its begin."""

    def __init__(self, files: SftpFiles, file: Any) -> None:
        self._files = files
        self._file = file
        self._place = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._files.ask(lambda sftp: self._file.read(len(buffer), self._place))
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(OSError):
                self._files.ask(lambda sftp: self._file.close())


async def _synced(file: Any) -> None:
    """Make it durable, where the server has a way to ask for that."""
    try:
        await file.fsync()
    except Exception as error:
        if type(error).__name__ != "SFTPOpUnsupported":
            raise


def _found(path: str, attributes: Any) -> Found:
    mtime_ns = int(attributes.mtime or 0) * 1_000_000_000 + int(attributes.mtime_ns or 0)
    return Found(path, attributes.size or 0, mtime_ns, kind=_what(attributes))


def _kind(attributes: Any) -> Kind:
    mode = attributes.permissions or 0
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "file"


def _what(attributes: Any) -> str:
    mode = attributes.permissions or 0
    if stat.S_ISREG(mode):
        return "file"
    kinds = {stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
