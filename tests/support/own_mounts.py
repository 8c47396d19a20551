"""Mounts of a test's own: one that never answers, FUSE without anybody behind it, in which whoever looks hangs in
the kernel; and an empty disk."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class CannotMount(Exception):
    """Why there cannot be such a mount here: no /dev/fuse, or not the right to mount."""


@contextmanager
def empty_disk(place: Path) -> Iterator[None]:
    """A file system of its own over `place`, in memory and empty, until the end of the block."""
    if _libc.mount(b"disk", os.fsencode(place), b"tmpfs", 0, b"size=8m") != 0:
        raise CannotMount(f"mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        _libc.umount2(os.fsencode(place), MNT_DETACH)


@contextmanager
def silent_mount(place: Path) -> Iterator[None]:
    """Over `place`, a folder that is there, until the end of the block: then everybody who hangs gets an error,
    and the folder is as it was before."""
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        raise CannotMount(f"/dev/fuse: {error.strerror}") from error
    try:
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
        if _libc.mount(b"silent", os.fsencode(place), b"fuse", 0, options) != 0:
            raise CannotMount(f"mount: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            _libc.umount2(os.fsencode(place), MNT_DETACH)
    finally:
        os.close(fuse)  # nobody will ever answer: the kernel ends every request
