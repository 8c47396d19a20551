"""What the service writes beside the data besides its marker: the log of segments, and configurations.

Whatever stands there already stays. What has a name that is wanted makes the next one: `stem-2.ext`, `stem-3.ext`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.failpoints import passing
from storage_service.rules.work import ACQ_LOG

LOG_BYTES = 16 << 20
"""How large a log may become: the whole of it is read and written for each block."""


def add_block(folder: Folder, head: str, block: str) -> str:
    """Append a block to the log of a folder, synced and in one step: it is there whole or not at all. Where the
    log has its first line already, it stays as it is. Returns the name of the log: the next one, where something
    else has its name, or it would be too large, or may not be read. The seal does not wait for any of that."""
    more = block.encode()
    for name in _names(ACQ_LOG):
        try:
            before = folder.read(name, LOG_BYTES) or b""
        except (NotPlainFileError, PermissionError):
            continue
        if head.encode() in before.splitlines():
            return name
        apart = b"" if not before or before.endswith(b"\n\n") else b"\n\n"
        if before and len(before) + len(apart) + len(more) > LOG_BYTES:
            continue
        passing("beside.log")
        folder.replace(name, before + apart + more)
        passing("beside.logged")
        return name
    raise AssertionError("names have no end")


def keep(folder: Folder, name: str, content: bytes) -> str:
    """Save a document, synced, under this name or the next that is free or has this content already; returns that
    name. Nothing is written over."""
    for tried in _names(name):
        if folder.kind(tried) is None:
            passing("beside.keep")
            with suppress(FileExistsError):  # it came into being at this moment
                folder.create(tried, content)
                passing("beside.kept")
                return tried
        if _is(folder, tried, content):
            folder.sync()  # an earlier try may have ended before it was
            return tried
    raise AssertionError("names have no end")


def _names(name: str) -> Iterator[str]:
    """The name, and those that follow it."""
    stem, dot, end = name.rpartition(".") if "." in name else (name, "", "")
    yield name
    yield from (f"{stem}-{again}{dot}{end}" for again in count(2))


def _is(folder: Folder, name: str, content: bytes) -> bool:
    """Whether this name is that of a plain file with this content."""
    try:
        return folder.read(name, len(content)) == content
    except (NotPlainFileError, PermissionError):  # or it is longer
        return False
