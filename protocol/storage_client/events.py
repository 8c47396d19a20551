"""The journal's events as one stream: in the order of their seq, each once, none missing (SPEC 6).

The events endpoint is the journal's live tail, and drops what its subscribers are too slow or too late for. The
stream knows up to which seq it has everything that it takes. A live event is given at once where nothing can be
missing before it: its seq is the next one, or, for a single topic, its `prev_seq` is known. Otherwise, and when
the tails of a heartbeat are newer, the journal itself is asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from msgspec import Struct

from storage_protocol.commands import Command, ReplayEvents
from storage_protocol.events import Event

from .calls import read
from .cursor import Cursor, CursorFile
from .errors import EventsForgottenError, JournalChangedError, UnexpectedReplyError
from .replies import EventPage
from .subscription import Subscription

_HEARTBEAT = "service.heartbeat"
_SILENCE_S = 10.0  # without a heartbeat for so long, the service is asked anew where its events are
_PAGE = 1000
_RETRY_S = 0.1


class _Heartbeat(Struct, frozen=True):
    journal_id: str
    last_seq: int
    tails: dict[str, int]


class EventStream:
    """An async iterator of events, for one consumer.

        async for event in client.events("acquisition.finished/"):
            ...

    It begins with the first event after its creation, or after `after`. While the service is away it waits.
    Events that are in no journal (`seq` is None) are given where a topic that was named matches them. `async with`
    or `aclose` ends it at a certain time; otherwise it ends with the client, or when nothing refers to it.

    after  a Cursor, from where none may be missing, or a seq of whatever journal there is; 0: all that is kept;
           None: from now on
    file   keeps the cursor of what was consumed. An event is consumed when the next one is asked for, or by
           `done`; one that was given last when the program ended is not, and comes again

    Iterating raises JournalChangedError, EventsForgottenError, CursorFileError, ClientClosedError, or what
    `describe` and `replay_events` are refused with.
    """

    def __init__(
        self,
        ask: Callable[[Command], asyncio.Future[Any]],
        subscribe: Callable[[tuple[str, ...]], Awaitable[Subscription]],
        topics: tuple[str, ...],
        after: Cursor | int | None,
        file: CursorFile | None = None,
    ) -> None:
        self._subscription: Subscription | None = None
        self._ask = ask
        self._subscribe = subscribe
        self._topics = topics
        self._after = after
        self._file = file
        self._journal_id = after.journal_id if isinstance(after, Cursor) else None
        # Everything that is taken up to this seq has been given, or is in _ready.
        self._known = after.seq if isinstance(after, Cursor) else after or 0
        # Everything that is taken up to this seq has been given.
        self._given = self._known
        self._behind = after is not None
        self._arrived: deque[tuple[str, Event]] = deque()
        self._ready: deque[Event] = deque()
        self._closed = False
        self._start: asyncio.Future[Any] | None = None
        if after is None:
            # Asked now, so that what is done after this line is seen, however late the iteration begins.
            self._start = ask(ReplayEvents(limit=1))
            self._start.add_done_callback(lambda start: start.cancelled() or start.exception())

    @property
    def cursor(self) -> Cursor | None:
        """Where to go on after the event that was given last; None until the journal is known."""
        return None if self._journal_id is None else Cursor(self._journal_id, self._given)

    async def done(self) -> None:
        """The event that was given last is consumed. With a cursor file: durably so, when this returns.

        Raises CursorFileError.
        """
        self._note()
        if self._file is not None:
            await self._file.flush()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        if self._closed:
            raise StopAsyncIteration
        self._note()
        while not self._ready:
            await self._step()
            if not self._ready and self._given != self._known:
                # Others' events went by: who comes back after them need not be told of them.
                self._given = self._known
                self._note()
        event = self._ready.popleft()
        if event.seq is not None:
            self._given = event.seq
        return event

    def _note(self) -> None:
        """What was given so far is consumed."""
        if self._file is not None and (cursor := self.cursor) is not None:
            self._file.note(cursor)

    async def __aenter__(self) -> EventStream:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream, its cursor file written. More than once is harmless. Raises CursorFileError."""
        self._closed = True
        self._unsubscribe()
        if self._start is not None:
            self._start.cancel()
        if self._file is not None:
            await self._file.flush()

    def __del__(self) -> None:
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    async def _begin(self) -> Subscription:
        if self._subscription is None:
            self._subscription = await self._subscribe((*(self._topics or ("",)), f"{_HEARTBEAT}/"))
        if self._start is not None:
            page = read(await asyncio.shield(self._start), EventPage, ReplayEvents.CMD)
            self._start = None
            self._journal_id = page.journal_id
            self._known = self._given = page.last_seq
            # From here on it goes on after a restart, also when nothing has happened until then.
            await self.done()
        return self._subscription

    async def _step(self) -> None:
        """One thing after the other that may bring events. To cancel it anywhere loses none."""
        subscription = await self._begin()
        if self._behind:
            await self._catch_up()
            return
        if not self._arrived:
            if not await subscription.wait(_SILENCE_S):
                self._unsubscribe()
                return
            self._arrived.extend(subscription.take())
        while self._arrived and not self._behind:
            self._weigh(*self._arrived[0])
            if not self._behind:
                self._arrived.popleft()

    def _weigh(self, topic: str, event: Event) -> None:
        """Give a live event, leave it out as known, or find that the journal has to be asked first."""
        if event.seq is None:
            if event.type == _HEARTBEAT:
                self._compare(read(event.data, _Heartbeat, _HEARTBEAT))
            if not self._behind and any(named and topic.startswith(named) for named in self._topics):
                self._ready.append(event)
        elif event.seq > self._known:
            if event.seq == self._known + 1 or self._follows(event):
                self._ready.append(event)
                self._known = event.seq
            else:
                self._behind = True

    def _follows(self, event: Event) -> bool:
        """Whether only one topic is taken, and the event before this one with that topic is known."""
        whole = len(self._topics) == 1 and self._topics[0].count("/") == 2 and self._topics[0].endswith("/")
        return whole and event.prev_seq is not None and event.prev_seq <= self._known

    def _compare(self, heartbeat: _Heartbeat) -> None:
        """A heartbeat comes after every event up to its `last_seq`: what it knows and we do not was lost."""
        self._check_journal(heartbeat.journal_id)
        newest = max((seq for type, seq in heartbeat.tails.items() if self._takes(f"{type}/")), default=0)
        if newest > self._known:
            self._behind = True
        else:
            self._known = max(self._known, heartbeat.last_seq)

    def _takes(self, type_topic: str) -> bool:
        return not self._topics or any(
            type_topic.startswith(named) or named.startswith(type_topic) for named in self._topics
        )

    def _check_journal(self, journal_id: str) -> None:
        if self._journal_id is None:
            self._journal_id = journal_id
        if journal_id != self._journal_id:
            message = (
                f"The journal is {journal_id}, no longer {self._journal_id}, whose seq mean nothing in it: "
                "take a new snapshot of the state."
            )
            raise JournalChangedError(message, {"journal_id": journal_id, "before": self._journal_id})

    def _check_span(self, asked: int, page: EventPage) -> None:
        """The journal has all that comes after what is known, and did not lose its end."""
        # Who begins at 0 wants all that is kept; who goes on from a place must not miss any.
        if page.oldest_seq > asked + 1 and (asked or self._after != 0):
            message = (
                f"The events {asked + 1} to {page.oldest_seq - 1} are no longer kept, the oldest is "
                f"{page.oldest_seq}: take a new snapshot of the state."
            )
            raise EventsForgottenError(message, {"after_seq": asked, "oldest_seq": page.oldest_seq})
        if isinstance(self._after, Cursor) and page.last_seq < self._after.seq:
            message = (
                f"The journal {page.journal_id} ends at {page.last_seq}, before the cursor's {self._after.seq}: "
                "an older state of it was restored, so take a new snapshot."
            )
            details = {"journal_id": page.journal_id, "before": self._journal_id, "last_seq": page.last_seq}
            raise JournalChangedError(message, details)

    async def _catch_up(self) -> None:
        """Take a page of what the journal has after what is known."""
        asked = self._known
        result = await self._ask(ReplayEvents(after_seq=asked, topics=self._topics, limit=_PAGE))
        page = read(result, EventPage, ReplayEvents.CMD)
        self._check_journal(page.journal_id)
        self._check_span(asked, page)
        if page.more and not page.events:
            raise UnexpectedReplyError("The journal has more events and gave none.")
        newest = page.events[-1].seq if page.more else page.last_seq
        self._ready.extend(page.events)
        self._known = max(asked, newest or 0)
        self._behind = page.more
        if self._known == asked and self._arrived:
            # What was published is in the journal: a reply that does not know it yet is asked for again.
            await asyncio.sleep(_RETRY_S)
