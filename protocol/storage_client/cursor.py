"""A place in a journal, and the file that keeps it from one life of a program to the next."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec import Struct

from .errors import CursorFileError

_BATCH_S = 0.2  # what is consumed in so long a time shares one write of the file


class Cursor(Struct, frozen=True):
    """Everything of a journal up to `seq` has been seen. As text: `<journal_id>:<seq>`."""

    journal_id: str
    seq: int

    def __str__(self) -> str:
        return f"{self.journal_id}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor of a text. Raises ValueError, with a sentence, when it is none."""
        journal_id, _, seq = text.strip().rpartition(":")
        if not (journal_id and seq.isascii() and seq.isdigit()):
            raise ValueError(f"{text[:80]!r} is no cursor; one looks like <journal_id>:<seq>")
        return cls(journal_id, int(seq))


class CursorFile:
    """Keeps the newest cursor that it was given, written atomically and synced, a few times a second at most.

    What it holds is never ahead of what it was given; after a crash it may be a fifth of a second behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._newest: Cursor | None = None
        self._written: Cursor | None = None
        self._due: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._error: CursorFileError | None = None

    def read(self) -> Cursor | None:
        """What the file holds; None when there is none yet. Raises CursorFileError."""
        try:
            held = Cursor.parse(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CursorFileError(f"The cursor file {self.path} cannot be used: {error}.") from None
        self._newest = self._written = held
        return held

    def note(self, cursor: Cursor) -> None:
        """Hold this cursor, on the disk soon. Raises CursorFileError when an earlier one could not be written."""
        if cursor == self._newest:
            return
        self._newest = cursor
        if self._error is not None:
            raise self._error
        if self._due is None and self._writing is None:
            self._due = asyncio.get_running_loop().call_later(_BATCH_S, self._write)

    async def flush(self) -> None:
        """Return when the newest cursor is on the disk. Raises CursorFileError."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._error = None
        while self._newest != self._written:
            if self._writing is None:
                self._write()
            if self._writing is not None:
                await asyncio.wait((self._writing,))
            if self._error is not None:
                raise self._error

    def _write(self) -> None:
        self._due = None
        cursor = self._newest
        if cursor is not None and self._writing is None:
            self._writing = asyncio.create_task(asyncio.to_thread(_replace, self.path, f"{cursor}\n"))
            self._writing.add_done_callback(lambda writing: self._wrote(writing, cursor))

    def _wrote(self, writing: asyncio.Task[None], cursor: Cursor) -> None:
        self._writing = None
        if writing.cancelled():
            return
        if (error := writing.exception()) is not None:
            self._error = CursorFileError(f"The cursor file {self.path} cannot be written: {error}.")
            return
        self._written, self._error = cursor, None
        if self._newest != cursor and self._due is None:
            self._due = writing.get_loop().call_later(_BATCH_S, self._write)


def _replace(path: Path, text: str) -> None:
    """Put the text in place of what the file held: a reader, and a crash, find the old or the new."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
