"""What markers, logs, kept documents and the trash need of a folder, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, Literal, Protocol

Kind = Literal["folder", "link", "file"]


class NotPlainFileError(Exception):
    """What has this name is a link, a folder or a device, or it is longer than it may be."""


class Folder(Protocol):
    """A folder. A name is one segment; no link is followed. Everything raises OSError where the outside fails."""

    def kind(self, name: str) -> Kind | None:
        """What has this name at this moment; nil: nothing."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of the plain file of this name, nil when there is none. NotPlainFileError: it is something
        else, or longer than `limit` bytes."""

    def stream(self, name: str) -> IO[bytes]:
        """The plain file of this name, to be read and closed. NotPlainFileError: it is something else."""

    def replace(self, name: str, content: bytes) -> None:
        """Put a file in place in one step, as durable as the kind of mount point makes it."""

    def create(self, name: str, content: bytes) -> None:
        """The same where nothing has the name. FileExistsError: something has it, and stays."""

    def sync(self) -> None:
        """Make the names in it durable, where that is not so already."""

    def folders(self) -> Iterator[str]:
        """The names of the folders in it; links are none."""

    def each(self) -> Iterator[str]:
        """The names in it; one iteration at a time."""

    def names(self) -> list[str]:
        """The names in it."""

    def enter(self, name: str) -> AbstractContextManager[Folder]:
        """The folder of this name in it. NotADirectoryError: it is a link or a file."""
