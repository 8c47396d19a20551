"""Store and forward: what changes something goes to the service, or into the spool when that does not answer.

Commands keep their order. While nothing waits in the spool they are asked directly, as without one. One that gets
no answer goes into the spool, and with it all others that have none yet, each with the key that it was asked with.
From then on every later one queues behind them. One task asks what waits, one after the other, until each is
answered; what was answered and comes again after a crash has the same key, and happens once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakSet

from msgspec import Struct

from storage_protocol import errors, times

from .asked import Encode, raw_encoder
from .connection import Connection
from .errors import (
    ClientClosedError,
    ReplyTimeoutError,
    ServiceUnreachableError,
    SpoolError,
    StorageError,
    refused,
)
from .outgoing import NO_ANSWER, Outgoing
from .patience import pause
from .spool import Draft, Refused, Spool, Spooled

_log = logging.getLogger(__name__)

_PAGE = 100  # commands that are read from the spool, and forgotten in it, at a time
_FIRST_PAUSE_S = 0.1
_MOST_PAUSE_S = 10.0


class Drained(Struct, frozen=True):
    """A command that waited in the spool, and the service's answer to it, as it came."""

    command: Spooled
    result: Any


class Outbox:
    """The one way of a client's changes to the service, past its spool.

    timeout_s  for how long one attempt of the drain waits before the next one
    """

    def __init__(self, spool: Spool, connection: Connection, waiting: int, timeout_s: float) -> None:
        self._spool = spool
        self._connection = connection
        self._timeout_s = timeout_s
        self._direct: dict[Outgoing, None] = {}
        self._incoming: list[tuple[Outgoing, Draft]] = []
        self._keeping: asyncio.Task[None] | None = None
        # Callers of what waits in the spool, while the service is known to answer.
        self._callers: dict[int, tuple[Outgoing, Spooled]] = {}
        # Commands that ever queued here, and those of them that are answered: the difference waits.
        self._queued = waiting
        self._settled = 0
        self._marks: list[tuple[int, asyncio.Future[None]]] = []
        self._answered: list[Drained] = []
        self._silent = waiting > 0
        self._heard_at = float("-inf")
        self._more = asyncio.Event()
        self._listeners: WeakSet[asyncio.Queue[Drained | Refused | None]] = WeakSet()
        self._draining = asyncio.create_task(self._drain())

    def submit(
        self, encode: Encode, *, key: str | None, timeout_s: float, deadline_s: float | None
    ) -> asyncio.Future[Any]:
        """Ask a command that changes something; the future of its result, or of a Spooled.

        timeout_s, deadline_s  after the shorter of them, without an answer, it goes into the spool

        The future raises a class of `errors.REFUSALS`, but none that says to try again, or SpoolError.
        """
        patience_s = timeout_s if deadline_s is None else min(timeout_s, deadline_s)
        entry = Outgoing(encode, key, patience_s)
        if self._queued > self._settled:
            self._keep([entry])
        else:
            asked = entry.asked = self._connection.post(
                encode, keyed=True, key=key, timeout_s=patience_s, deadline_s=patience_s
            )
            self._direct[entry] = None
            asked.future.add_done_callback(lambda _: self._conclude(entry))
        return entry.future

    def insist(
        self, encode: Encode, *, keyed: bool, key: str | None, timeout_s: float, deadline_s: float | None
    ) -> asyncio.Future[Any]:
        """Ask a command after all that waits now; the future of its answer, which it has before the deadline or
        not at all."""
        if self._queued > self._settled:
            return asyncio.ensure_future(self._insist(encode, keyed, key, timeout_s, deadline_s))
        return self._connection.ask(encode, keyed=keyed, key=key, timeout_s=timeout_s, deadline_s=deadline_s)

    async def drained(self, timeout_s: float | None = None) -> bool:
        """Wait until all that waits now is answered. False when it is not in time. Raises ClientClosedError."""
        if self._settled >= self._queued:
            return True
        mark: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._marks.append((self._queued, mark))
        try:
            await asyncio.wait((mark,), timeout=timeout_s)
            return mark.done() and mark.result() is None
        finally:
            mark.cancel()

    def answers(self) -> AsyncIterator[Drained | Refused]:
        """What becomes of each command that waits, from now on, until the client is closed."""
        queue: asyncio.Queue[Drained | Refused | None] = asyncio.Queue()
        self._listeners.add(queue)

        async def each() -> AsyncIterator[Drained | Refused]:
            while (answer := await queue.get()) is not None:
                yield answer

        return each()

    async def waiting(self) -> list[Spooled]:
        """All that wait, in their order. Raises SpoolError."""
        await self._settle()
        return await self._spool.waiting()

    async def close(self) -> None:
        """Put what has no answer yet into the spool, and close that."""
        self._draining.cancel()
        await asyncio.wait((self._draining,))
        self._fall_back()
        if self._keeping is not None:
            await self._keeping
        self._fall_silent()
        for _, mark in self._marks:
            if not mark.done():
                mark.set_exception(ClientClosedError("The client was closed before its spool was drained."))
        for queue in self._listeners:
            queue.put_nowait(None)
        try:
            await self._settle()
        except SpoolError as error:
            _log.warning("what was answered will be asked again, with the same keys: %s", error)
        await self._spool.close()

    def _conclude(self, entry: Outgoing) -> None:
        """A direct attempt has ended: with an answer, or the spool's turn has come."""
        if entry not in self._direct:
            return
        if entry.conclude():
            del self._direct[entry]
        else:
            _log.warning("without an answer, what changes something waits in %s", self._spool.path)
            self._fall_silent()
            self._fall_back()

    def _fall_back(self) -> None:
        """Put all that was asked directly and has no answer into the spool, in the order in which it was asked."""
        entries = [entry for entry in self._direct if not entry.conclude()]
        self._direct.clear()
        self._keep(entries)

    def _fall_silent(self) -> None:
        """The service does not answer: nobody waits for it any longer."""
        self._silent = True
        callers, self._callers = self._callers, {}
        for entry, spooled in callers.values():
            entry.give(spooled)

    def _keep(self, entries: list[Outgoing]) -> None:
        for entry in entries:
            try:
                self._incoming.append((entry, entry.draft(self._connection.new_key)))
                self._queued += 1
            except StorageError as error:
                entry.fail(error)
        if self._incoming and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_incoming())

    async def _keep_incoming(self) -> None:
        """Write what came, as much at a time as there is: it shares one sync."""
        while self._incoming:
            batch, self._incoming = self._incoming, []
            try:
                kept = await self._spool.put(draft for _, draft in batch)
            except SpoolError as error:
                for entry, _ in batch:
                    entry.fail(error)
                self._count_settled(len(batch))
                continue
            for (entry, _), spooled in zip(batch, kept, strict=True):
                self._kept(entry, spooled)
        self._keeping = None

    def _kept(self, entry: Outgoing, spooled: Spooled) -> None:
        self._more.set()
        if self._silent:
            entry.give(spooled)
            return
        # The drain is at work: its answer is worth a wait, and who waits does not outrun it.
        loop = asyncio.get_running_loop()
        entry.kept_at = loop.time()
        self._callers[spooled.id] = (entry, spooled)
        entry.receipt = loop.call_later(entry.patience_s, self._give_receipt, spooled.id)

    def _give_receipt(self, id: int) -> None:
        entry, spooled = self._callers.pop(id)
        entry.give(spooled)
        if self._heard_at < entry.kept_at:
            self._fall_silent()

    async def _drain(self) -> None:
        """Ask what waits, the oldest first, for as long as the client lives."""
        failures = 0
        while True:
            try:
                self._more.clear()
                page = await self._spool.first(_PAGE)
                for spooled in page:
                    await self._take(spooled, await self._answer_to(spooled))
                await self._settle()
                failures = 0
                if not page:
                    await self._more.wait()
            except SpoolError as error:
                # What was answered already is asked again, with the same keys.
                self._answered.clear()
                failures += 1
                _log.warning("the spool is not drained: %s", error)
                await asyncio.sleep(pause(failures, _FIRST_PAUSE_S, _MOST_PAUSE_S))

    async def _answer_to(self, spooled: Spooled) -> Drained | Refused:
        """The service's answer, however long that takes."""
        tries = 0
        encode = raw_encoder(spooled.cmd, spooled.args)
        while True:
            try:
                result = await self._connection.ask(
                    encode, keyed=True, key=spooled.key, timeout_s=self._timeout_s, deadline_s=None
                )
                return Drained(spooled, result)
            except ClientClosedError:
                raise
            except NO_ANSWER as error:
                tries += 1
                if tries == 1:
                    _log.warning("what waits in %s goes on waiting: %s", self._spool.path, error)
                self._fall_silent()
                await self._settle()
                await asyncio.sleep(pause(tries, _FIRST_PAUSE_S, _MOST_PAUSE_S))
            except StorageError as error:
                at = times.to_wire(time.time())
                head = (spooled.id, spooled.cmd, spooled.args, spooled.key, spooled.since)
                return Refused(*head, at, error.code, error.message, error.details)

    async def _take(self, spooled: Spooled, answer: Drained | Refused) -> None:
        self._silent = False
        self._heard_at = asyncio.get_running_loop().time()
        if isinstance(answer, Drained):
            self._answered.append(answer)
            entry, _ = self._callers.pop(spooled.id, (None, None))
            if entry is not None:
                entry.give(answer.result)
            return
        # Who still waits for the answer is told of it; otherwise it is kept until somebody looks.
        entry, _ = self._callers.get(spooled.id, (None, None))
        told = entry is not None and not entry.future.done()
        if not told:
            _log.warning("%s, which waited in the spool, was refused: %s", spooled.cmd, answer.message)
        await self._settle(answer, keep=not told)
        self._callers.pop(spooled.id, None)
        if entry is not None:
            entry.fail(refused(errors.Refusal(answer.code, answer.message, answer.details)))

    async def _settle(self, refusal: Refused | None = None, *, keep: bool = True) -> None:
        """Take what was answered out of the spool, and tell of it; keep a refusal unless its caller has it."""
        answered, self._answered = self._answered, []
        if not answered and refusal is None:
            return
        ids = [each.command.id for each in answered]
        if refusal is None or keep:
            await self._spool.settle(ids, refusal)
        else:
            await self._spool.settle([*ids, refusal.id])
        told: list[Drained | Refused] = [*answered, *([] if refusal is None else [refusal])]
        self._count_settled(len(told))
        for queue in self._listeners:
            for answer in told:
                queue.put_nowait(answer)

    def _count_settled(self, count: int) -> None:
        self._settled += count
        due = [mark for place, mark in self._marks if place <= self._settled]
        self._marks = [(place, mark) for place, mark in self._marks if place > self._settled]
        for mark in due:
            if not mark.done():
                mark.set_result(None)

    async def _insist(
        self, encode: Encode, keyed: bool, key: str | None, timeout_s: float, deadline_s: float | None
    ) -> Any:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not await self.drained(deadline_s):
            waiting = self._queued - self._settled
            message = f"Before this command {waiting} wait in the spool for their answers; it was not sent."
            kind = ServiceUnreachableError if self._heard_at < began else ReplyTimeoutError
            raise kind(message, {"key": key, "attempts": 0})
        left_s = None if deadline_s is None else max(deadline_s - (loop.time() - began), 0.0)
        return await self._connection.ask(encode, keyed=keyed, key=key, timeout_s=timeout_s, deadline_s=left_s)
