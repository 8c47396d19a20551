"""Queries: answered in threads of their own, from what is durable; `get_status` also from the mount points.

What reads one record has a thread apart from what reads a page, which may take long. Peers take turns, each in one
thread of each kind at a time: who asks for a thousand pages waits for them itself. Behind each page it rests where
others are active: while a page of some megabytes is made, sent and taken, they have little of the processors.
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
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
from .desk.turns import Turns
from .doors.trash import Place
from .mounts import Mounts

# How long `get_status` waits for mount points; one that does not answer is told as such.
STATUS_WAIT_S = 2.0
# The same for `list_trash`.
TRASH_WAIT_S = 5.0
_ENTRIES_BYTES = REPLY_BYTES - 2048

# Read a record each, in about no time: so many go to the thread in one hop, and come back after so long.
QUICK = (
    commands.GetStorage,
    commands.GetRun,
    commands.GetAcq,
    commands.GetNode,
    commands.GetConversion,
    commands.GetVar,
)
QUICK_BITE = 32
# Threads: one for these, the others for pages.
READERS = 3
BITE_S = 0.01

Answers = list[tuple[Ticket, bytes | Refusal]]

_log = structlog.get_logger("storage_service")


class Reads(Protocol):
    """The read side of a store; used by one thread at a time."""

    def read(self, command: Command, room: int) -> bytes | Refusal: ...

    def status(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


_Reading = tuple[Reads, ThreadPoolExecutor]
_Bite = list[tuple[Ticket, Refusal | int]]
"""Queries, each with the bytes that its result may have, or why it may have none."""


class _Lane:
    """Readers, each with its thread, for queries of one kind. `most`: queries that a thread takes at once. `rest`:
    how long a peer has no further turn after one that took so long."""

    def __init__(
        self,
        readers: Sequence[Reads],
        most: int,
        reads: Callable[[bytes], bool],
        refused: Callable[[Ticket], Refusal | None],
        rest: Callable[[bytes, float, float], float],
        tell: Callable[[Answers], None],
    ) -> None:
        self._rest = rest
        self._threads = [(reader, ThreadPoolExecutor(1, "reader")) for reader in readers]
        self._free = list(self._threads)
        self._most = most
        self._refused = refused
        self._tell = tell
        self._closed = False
        self.turns = Turns(reads)

    def add(self, ticket: Ticket) -> None:
        self.turns.add(ticket)
        self.pump()

    def close(self) -> None:
        self._closed = True
        for reader, thread in self._threads:
            thread.shutdown()
            reader.close()

    async def status(self) -> dict[str, Any]:
        """Raises what the reader raises."""
        reader, thread = self._threads[0]
        return await asyncio.get_running_loop().run_in_executor(thread, reader.status)

    def pump(self) -> None:
        """Give every free thread what it can take."""
        loop = asyncio.get_running_loop()
        while self._free and (bite := self.turns.bite(self._most)):
            rooms = [(ticket, self._refused(ticket) or ticket.message.room) for ticket in bite]
            free = self._free.pop()
            free[1].submit(self._work, loop, free, rooms)

    def _work(self, loop: asyncio.AbstractEventLoop, free: _Reading, bite: _Bite) -> None:
        """In the reader's thread."""
        began = time.monotonic()
        answers = _read(free[0], bite)
        loop.call_soon_threadsafe(self._done, free, bite, answers, time.monotonic() - began)

    def _done(self, free: _Reading, bite: _Bite, answers: Answers, took_s: float) -> None:
        if self._closed:
            return
        taken = [ticket for ticket, _ in bite]
        self._free.append(free)
        left, now = taken[len(answers) :], time.monotonic()
        rest_s = max(self._rest(peer, took_s, now) for peer in {ticket.message.peer for ticket in taken})
        if rest_s:
            asyncio.get_running_loop().call_later(rest_s, self._rested, taken, left)
        else:
            self.turns.done(taken, left)
        self._tell(answers)
        self.pump()

    def _rested(self, taken: list[Ticket], left: list[Ticket]) -> None:
        self.turns.done(taken, left)
        if not self._closed:
            self.pump()


def _no_rest(peer: bytes, took_s: float, now: float) -> float:
    return 0.0


def _read(reader: Reads, bite: _Bite) -> Answers:
    """In a reader's thread: the answers to the first of them, as far as it came in time."""
    answers: Answers = []
    until = time.monotonic() + BITE_S
    for ticket, room in bite:
        command = ticket.request.command
        result: bytes | Refusal
        try:
            result = room if isinstance(room, Refusal) else reader.read(command, room)
        except Exception as error:  # noqa: BLE001  one query's fault is told to who asked it
            _log.error("query failed", cmd=command.CMD, exc_info=error)
            result = unavailable("database", f"The database cannot be read: {error}.")
        answers.append((ticket, result))
        if time.monotonic() > until:
            break
    return answers


class Queries:
    """
    readers   the first one for what reads one record, the others for everything else
    status    what of `get_status` the service knows by itself
    reads     whether a peer takes its replies: what it asks waits until it does
    refused   why a query has no room for its reply, when it has none
    rest      for how long a peer has no further page after one that took so long, now
    tell      is called in the loop with the answers
    progress  of running conversions, 0 to 1 by id
    """

    def __init__(
        self,
        readers: Sequence[Reads],
        mounts: Mounts,
        status: Callable[[], dict[str, Any]],
        reads: Callable[[bytes], bool],
        refused: Callable[[Ticket], Refusal | None],
        rest: Callable[[bytes, float, float], float],
        tell: Callable[[Answers], None],
    ) -> None:
        self._quick = _Lane(readers[:1], QUICK_BITE, reads, refused, _no_rest, self._answered)
        self._pages = _Lane(readers[1:], 1, reads, refused, rest, self._answered)
        self._mounts = mounts
        self._status = status
        self._tell = tell
        self._asking: list[Ticket] = []
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.progress: dict[str, float] = {}

    def go_on(self) -> None:
        """Peers may have taken replies: what they ask may have its turn."""
        self._quick.pump()
        self._pages.pump()

    def counts(self) -> dict[str, int]:
        """What waits for a reader, for `get_status`."""
        return {"queries_waiting": self._quick.turns.count + self._pages.turns.count}

    def answer(self, queries: list[tuple[Ticket, Command]]) -> None:
        for ticket, command in queries:
            if isinstance(command, commands.GetStatus):
                self._asking.append(ticket)
                if self._task is None:
                    self._task = asyncio.get_running_loop().create_task(self._tell_status())
            elif isinstance(command, commands.ListTrash):
                task = asyncio.get_running_loop().create_task(self._tell_trash(ticket, command))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                (self._quick if isinstance(command, QUICK) else self._pages).add(ticket)

    def close(self) -> None:
        self._quick.close()
        self._pages.close()

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

    async def _tell_status(self) -> None:
        """Whoever asks while one status is gathered has the next one: there is never more than one under way."""
        while self._asking:
            asking, self._asking = self._asking, []
            result = await self._gathered()
            self._tell([(ticket, result) for ticket in asking])
        self._task = None

    async def _gathered(self) -> bytes | Refusal:
        mounts = await self._mounts.states(STATUS_WAIT_S)
        try:
            stored = await self._quick.status()
        except Exception as error:  # noqa: BLE001  as in `_read`
            _log.error("query failed", cmd="get_status", exc_info=error)
            return unavailable("database", f"The database cannot be read: {error}.")
        return encode_value({**self._status(), **stored, "mounts": mounts})


def _place(cursor: str | None) -> Place | Refusal | None:
    """After which entry a page of the trash begins."""
    if cursor is None:
        return None
    try:
        place: Place = msgpack.decode(urlsafe_b64decode(cursor), type=Place)
        return place
    except ValueError:  # msgspec's own errors are ValueErrors, and so is base64's
        return bad_request(f"cursor is {shown(cursor)}; no page ended with that.", "cursor")
