"""What the service writes beside the data besides its marker: the log of segments, and configurations."""

from __future__ import annotations

from itertools import count

from storage_service.doors.folder import Folder, NotPlainFileError
from storage_service.failpoints import passing
from storage_service.rules.work import ACQ_LOG

LOG_BYTES = 16 << 20


def add_block(folder: Folder, head: str, block: str) -> None:
    """Append a block to the log of a folder, synced and in one step: it is there whole or not at all. Where the
    log has its first line already, it stays as it is.

    Raises NotPlainFileError when something else has the log's name, or it is longer than it may be.
    """
    before = folder.read(ACQ_LOG, LOG_BYTES) or b""
    if head.encode() not in before.splitlines():
        passing("beside.log")
        apart = b"" if not before or before.endswith(b"\n\n") else b"\n\n"
        folder.replace(ACQ_LOG, before + apart + block.encode())
        passing("beside.logged")


def keep(folder: Folder, name: str, content: bytes) -> str:
    """Save a document, synced, under this name or the next of `stem-2.ext`, `stem-3.ext`, ... that is free or has
    this content already; returns that name. Nothing is written over."""
    stem, dot, end = name.rpartition(".") if "." in name else (name, "", "")
    again = count(2)
    tried = name
    while folder.kind(tried) is not None:
        if _is(folder, tried, content):
            return tried
        tried = f"{stem}-{next(again)}{dot}{end}"
    passing("beside.keep")
    folder.replace(tried, content)
    passing("beside.kept")
    return tried


def _is(folder: Folder, name: str, content: bytes) -> bool:
    """Whether this name is that of a plain file with this content."""
    try:
        return folder.read(name, len(content)) == content
    except NotPlainFileError:  # or it is longer
        return False
