"""One service on a state folder: the second one is told which process holds it."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from .interface import StoreError, StoreFaultError

PASSING = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs"}


class StateLock:
    """An flock on `lock` in the state folder, for as long as the process lives.

    Raises StoreError when the folder cannot be used, lies on a network file system, or is another process's, and
    StoreFaultError when its disk is full or fails.
    """

    def __init__(self, folder: Path) -> None:
        try:
            make_folder(folder)
            self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            refusal = StoreFaultError if error.errno in PASSING else StoreError
            raise refusal(f"state_dir: the folder {folder} cannot be used: {error.strerror}.") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            message = (
                f"state_dir: the folder {folder} is in use by process {holder}; one service at a time may use it."
            )
            raise StoreError(message) from None
        if (kind := file_system(folder)) in NETWORK_FILE_SYSTEMS:
            os.close(self._fd)
            message = (
                f"state_dir: the folder {folder} is on {kind}; SQLite must not be used on a network file system."
            )
            raise StoreError(message)
        # For who is told that the folder is in use. It holds nothing up: the disk may be full.
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are not there, and sync their names. Raises OSError.

    SQLite syncs the names of its files, but not that of the folder that they are in.
    """
    fresh = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in fresh:
        above = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, as the kernel names it; "" where it cannot be told."""
    best, kind = "", ""
    target = str(folder.resolve())
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind
