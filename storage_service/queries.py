"""Queries: answered in a thread of their own, from what is durable; `get_status` also from the mount points."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import structlog
from msgspec import msgpack

from storage_protocol import commands
from storage_protocol.codec import encode_value
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal, bad_request, not_found, shown, unavailable
from storage_protocol.limits import REPLY_BYTES
from storage_protocol.records import TrashEntry

from .desk.messages import Ticket
from .doors.trash import Place
from .mounts import Mounts

# How long `get_status` waits for mount points; one that does not answer is told as such.
STATUS_WAIT_S = 2.0
# The same for `list_trash`.
TRASH_WAIT_S = 5.0
_ENTRIES_BYTES = REPLY_BYTES - 2048

Answers = list[tuple[Ticket, bytes | Refusal]]

_log = structlog.get_logger("storage_service")


class Reads(Protocol):
    """The read side of a store; used by one thread at a time."""

    def read(self, command: Command) -> bytes | Refusal: ...

    def status(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Queries:
    """`tell` is called in the loop with the answers. `progress`: of running conversions, 0 to 1 by id."""

    def __init__(
        self,
        reader: Reads,
        mounts: Mounts,
        status: Callable[[], dict[str, Any]],
        tell: Callable[[Answers], None],
    ) -> None:
        self._reader = reader
        self._mounts = mounts
        self._status = status
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, "reader")
        self._tasks: set[asyncio.Task[None]] = set()
        self.progress: dict[str, float] = {}

    def answer(self, queries: list[tuple[Ticket, Command]]) -> None:
        plain = []
        for ticket, command in queries:
            if isinstance(command, commands.GetStatus | commands.ListTrash):
                task = asyncio.get_running_loop().create_task(self._tell_of_mounts(ticket, command))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                plain.append((ticket, command))
        if plain:
            self._thread.submit(self._read, plain, asyncio.get_running_loop())

    def close(self) -> None:
        self._thread.shutdown()
        self._reader.close()

    def _read(self, queries: list[tuple[Ticket, Command]], loop: asyncio.AbstractEventLoop) -> None:
        """In the reader's thread: one hop for all that were asked in one turn."""
        answers: Answers = []
        for ticket, command in queries:
            try:
                result = self._reader.read(command)
            except Exception as error:  # noqa: BLE001  one query's fault is told to who asked it
                _log.error("query failed", cmd=command.CMD, exc_info=error)
                result = unavailable("database", f"The database cannot be read: {error}.")
            answers.append((ticket, result))
        loop.call_soon_threadsafe(self._answered, answers)

    def _answered(self, answers: Answers) -> None:
        if self.progress:
            answers = [(ticket, self._with_progress(ticket.request.command, result)) for ticket, result in answers]
        self._tell(answers)

    def _with_progress(self, command: Command, result: bytes | Refusal) -> bytes | Refusal:
        """The progress of what runs is not in the database: it changes too often."""
        listed = isinstance(command, commands.ListConversions)
        if isinstance(result, Refusal) or not (listed or isinstance(command, commands.GetConversion)):
            return result
        told = msgpack.decode(result)
        for each in told["conversions"] if listed else (told,):
            if each["state"] == "running":
                each["progress"] = self.progress.get(each["conversion_id"])
        return encode_value(told)

    async def _tell_of_mounts(self, ticket: Ticket, command: commands.GetStatus | commands.ListTrash) -> None:
        if isinstance(command, commands.ListTrash):
            await self._tell_trash(ticket, command)
        else:
            await self._tell_status(ticket)

    async def _tell_trash(self, ticket: Ticket, command: commands.ListTrash) -> None:
        """From the mount points alone: the trash is what is on the disk."""
        before = _place(command.cursor)
        if isinstance(before, Refusal):
            self._tell([(ticket, before)])
            return
        if command.mp is not None and not self._mounts.has(command.mp):
            self._tell([(ticket, not_found("mount", command.mp))])
            return
        found, more, silent = await self._mounts.trash(command.mp, before, command.limit, TRASH_WAIT_S)
        if command.mp is not None and silent:
            reason = f"The trash of {command.mp} cannot be looked into now; try again."
            self._tell([(ticket, unavailable("mount", reason))])
            return
        entries, size = list[TrashEntry](), 0
        for _, entry in found:
            size += len(encode_value(entry))
            if size > _ENTRIES_BYTES:
                break
            entries.append(entry)
        more = more or len(entries) < len(found)
        cursor = urlsafe_b64encode(encode_value(found[len(entries) - 1][0])).decode() if more and entries else None
        self._tell([(ticket, encode_value({"entries": entries, "cursor": cursor, "unreachable": silent}))])

    async def _tell_status(self, ticket: Ticket) -> None:
        mounts = await self._mounts.states(STATUS_WAIT_S)
        loop = asyncio.get_running_loop()
        try:
            stored = await loop.run_in_executor(self._thread, self._reader.status)
        except Exception as error:  # noqa: BLE001  as in `_read`
            _log.error("query failed", cmd="get_status", exc_info=error)
            self._tell([(ticket, unavailable("database", f"The database cannot be read: {error}."))])
            return
        told = {**self._status(), **stored, "mounts": mounts}
        self._tell([(ticket, encode_value(told))])


def _place(cursor: str | None) -> Place | Refusal | None:
    """After which entry a page of the trash begins."""
    if cursor is None:
        return None
    try:
        place: Place = msgpack.decode(urlsafe_b64decode(cursor), type=Place)
        return place
    except ValueError:  # msgspec's own errors are ValueErrors, and so is base64's
        return bad_request(f"cursor is {shown(cursor)}; no page ended with that.", "cursor")
