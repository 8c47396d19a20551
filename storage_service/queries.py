"""Queries: answered in a thread of their own, from what is durable; `get_status` also from the mount points."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import structlog
from msgspec import msgpack

from storage_protocol import commands
from storage_protocol.codec import encode_value
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal, unavailable

from .desk.messages import Ticket
from .mounts import Mounts

# How long `get_status` waits for mount points; one that does not answer is told as such.
STATUS_WAIT_S = 2.0

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
            if isinstance(command, commands.GetStatus):
                task = asyncio.get_running_loop().create_task(self._tell_status(ticket))
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
