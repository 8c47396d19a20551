"""Before a database is opened: what an earlier life left in its log, and why it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from .interface import StoreError, StoreFaultError


def write_log_again(log: Path) -> None:
    """Write what an earlier life left in the log once more, byte for byte, and sync it. Raises OSError.

    When a sync failed and ended that life, the kernel may still show what the disk never took, and call it clean,
    so that a later sync does nothing: what is read now, and answered from, would be gone with the power.
    """
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at = 0
        while chunk := os.pread(descriptor, 1 << 20, at):
            at += os.pwrite(descriptor, chunk, at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_open(database: Path, error: apsw.Error | OSError) -> StoreError:
    passes = isinstance(error, apsw.IOError | apsw.FullError | apsw.BusyError | OSError)
    kind = StoreFaultError if passes else StoreError
    return kind(f"The database {database} cannot be opened: {error}.")
