"""A configuration that is a file, read anew each time."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from storage_protocol.errors import TOO_LARGE, UNAVAILABLE

from ...rules.work import Fault
from .errand import Errands, StillHanging
from .interface import DOCUMENT_BYTES

BLOCK_BYTES = 1 << 20


class ConfigFile:
    """The file at `path`; see `Configurations` for what its methods do and raise.

    It is read in a thread of its own, one time after the other. While a read that was given up hangs, as on a file
    server that is away, `fetch` raises Fault at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._errands = Errands("configuration file")

    @property
    def origin(self) -> str:
        return f"file:{self._path}"

    async def fetch(self, about: Mapping[str, str]) -> bytes:
        try:
            return await self._errands.run(lambda: _read(self._path))
        except StillHanging as error:
            message = f"The configuration file {self._path} cannot be read: an earlier read of it still hangs."
            raise Fault(UNAVAILABLE, message, reason="an earlier read hangs") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            message = f"The configuration file {self._path} cannot be read: {why}."
            raise Fault(UNAVAILABLE, message, reason=why) from error

    async def close(self) -> None:
        """Nothing is held; a read that hangs ends with the process."""


def _read(path: Path) -> bytes:
    # Looked at before: to open a FIFO or a device is not without effect. NONBLOCK: it may have become one since.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a plain file")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("it is not a plain file")
        blocks, size = [], 0
        while block := os.read(fd, BLOCK_BYTES):
            size += len(block)
            if size > DOCUMENT_BYTES:
                message = f"The configuration file {path} has more than {DOCUMENT_BYTES} bytes."
                raise Fault(TOO_LARGE, message, limit=DOCUMENT_BYTES)
            blocks.append(block)
    finally:
        os.close(fd)
    return b"".join(blocks)
