"""What a source of variables or of configurations does. Each is one file beside this one.

Sources live in the loop's thread. What they ask for goes on side by side, under a time-out that is not theirs:
they are cancelled when it is over, and leave nothing behind then, no connection that is half read, no process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ...rules.readings import Reading

DOCUMENT_BYTES = 16 << 20
"""How large a configuration may be that the service itself fetches."""


class Variables(Protocol):
    """Variables that statistics can name with this source's prefix."""

    async def read(self, name: str) -> Reading:
        """The variable as it is now; a `Reading` with `missing` where the source answers that it has none such.

        `name` comes without the prefix, and is whatever a client gave. Raises Fault when the source cannot be
        asked, or answers what cannot be understood: its message is one sentence with the source's address.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections. Nothing is read after."""
        ...


class Configurations(Protocol):
    """Where a configuration is taken from when an acquisition starts, and again when it ended."""

    @property
    def origin(self) -> str:
        """Where from, for who reads `acquisition.json`: `file:/etc/daq.xml`, `cmod:daq1:9001`, ..."""
        ...

    async def fetch(self, about: Mapping[str, str]) -> bytes:
        """The document as it is now, verbatim; `about` tells of the acquisition (`STORAGE_ID`, `ACQ_ID`, ...).

        Raises Fault, whose message is one sentence, when there is none, or one of over DOCUMENT_BYTES.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Nothing is fetched after."""
        ...
