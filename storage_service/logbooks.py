"""The electronic logbooks: what the desk wants written is read from the store, made into text, and brought there.

In the background and one after another for each server. Files and records are read in a thread of its own, so
that nothing here holds up the loop or anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import structlog

from .config_logbooks import LogbookServer
from .doors.logbook import Logbook, bring_in
from .failpoints import passing
from .handing import Unwaited
from .rules.logbook_records import PROBLEM, Owed
from .rules.logbook_text import draft
from .rules.logbook_work import (
    ENTRY,
    SERVER,
    Content,
    Draft,
    EntryDone,
    LogbookAnswers,
    LogbookOrder,
    LogbookResult,
    LookIntoLogbook,
    WriteEntry,
)
from .rules.state import Places
from .rules.work import Failed, Fault

_log = structlog.get_logger("storage_service")

# Threads of the loop itself, beside one for each server.
NAME_THREADS = 4
# How long a stop waits for connections to be closed.
CLOSE_S = 1.0


class Contents(Protocol):
    """The read side of a store; used by one thread."""

    def read(self, owed: Owed) -> Content: ...

    def close(self) -> None: ...


class Door(Logbook, Protocol):
    """A server of logbooks. `prepare` blocks, and comes before each use; it raises Fault."""

    def prepare(self) -> None: ...


def elogs(servers: Mapping[str, LogbookServer]) -> dict[str, Door]:
    """The doors to these servers. Who has none does not load the HTTP library, which takes a while."""
    if not servers:
        return {}
    from .doors.elog import Elog

    return {name: Elog(name, given) for name, given in servers.items()}


class Logbooks:
    """
    doors  by the name that clients give
    tell   is called in the loop with the id of the work and what came of it
    """

    def __init__(
        self, doors: Mapping[str, Door], contents: Contents, places: Places, tell: Callable[[str, Any], None]
    ) -> None:
        self._doors = doors
        self._contents = contents
        self._places = places
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, "logbooks")
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        if doors:
            # Names of hosts are looked up in the loop's own threads, and may take as long as the network likes.
            names = Unwaited(NAME_THREADS + len(doors), "names")
            asyncio.get_running_loop().set_default_executor(names)

    def carry_out(self, orders: Iterable[LogbookOrder]) -> None:
        for order in () if self._closed else orders:
            task = asyncio.get_running_loop().create_task(self._carry_out(order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Nothing is written any more; whether what was under way is there, the next start finds out."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        # A thread that hangs in a file is left behind.
        self._thread.submit(self._contents.close)
        self._thread.shutdown(wait=False)

    async def _carry_out(self, order: LogbookOrder) -> None:
        server = order.book.server if isinstance(order, LookIntoLogbook) else order.owed.server
        name = order.book.name if isinstance(order, LookIntoLogbook) else order.owed.name
        result: LogbookResult | Failed
        try:
            async with self._locks.setdefault(server, asyncio.Lock()):
                result = await self._done(self._door(server), name, order)
        except Fault as fault:
            _log.warning("a logbook fails", logbook=f"{server}/{name}", reason=fault.message)
            result = Failed(fault.code, fault.message, fault.details)
        except Exception as error:  # noqa: BLE001  a defect here is tried again, and must not be lost in a task
            _log.error("logbook failed", logbook=f"{server}/{name}", exc_info=error)
            message = f"The logbook {server}/{name} could not be written to: {type(error).__name__}."
            result = Failed("internal", message, {"concerns": ENTRY})
        if self._closed:
            return
        passing("entry.told")
        if isinstance(order, LookIntoLogbook):
            self._tell(f"logbook {order.book.storage_id}", result)
        else:
            self._tell(f"entry {server}", result)

    def _door(self, server: str) -> Door:
        if server in self._doors:
            return self._doors[server]
        known = ", ".join(self._doors) or "none"
        message = f"The logbook server {server} is not in [logbooks] of the configuration; there are: {known}."
        raise Fault("not_found", message, concerns=SERVER)

    async def _done(self, door: Door, name: str, order: LogbookOrder) -> LogbookResult:
        run = asyncio.get_running_loop().run_in_executor
        if isinstance(order, LookIntoLogbook):
            await run(self._thread, door.prepare)
            await door.look(name)
            return LogbookAnswers()
        content, entry = await run(self._thread, self._made, door, order)
        number = await bring_in(door, name, entry, content, order.search, order.owed.kind == PROBLEM)
        return EntryDone(entry.key, number)

    def _made(self, door: Door, order: WriteEntry) -> tuple[Content, Draft]:
        """In the thread: what the entry is to say, as it is durable now. Raises Fault."""
        passing("entry.read")
        door.prepare()
        content = self._contents.read(order.owed)
        entry = draft(order.owed, content, self._places)
        if entry is None:
            raise Fault("not_found", f"{order.owed.node_id} is gone; it has no entry.", concerns=ENTRY)
        return content, entry
