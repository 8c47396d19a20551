"""Logbooks: what is owed to each is written, one entry of a server at a time, in the order of a run.

A server of logbooks does one thing after another, and may be slow, hang or be away for days. So whatever fails is
tried again later, longer each time, and meanwhile what does not depend on it goes on: other servers, other
logbooks where only one is at fault, other runs where only an entry is. The next entry of a server is asked for
when the one before is durable, so that its replies find its number.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..rules import facts, logbooks
from ..rules.decision import Moment
from ..rules.facts import Event
from ..rules.logbook_records import PROBLEM, Book, Owed
from ..rules.logbook_work import (
    ENTRY,
    LOGBOOK,
    SERVER,
    EntryDone,
    LogbookAnswers,
    LookIntoLogbook,
    WriteEntry,
)
from ..rules.work import Failed
from .batch import Batch
from .ledger import Ledger
from .logbook_levels import LogbookLevels
from .timers import Retries

EDIT_S = 1.0
"""Seconds from one edit of an entry to its next: what ends meanwhile is in that one."""

_EDIT = "edit"
_Wait = tuple[str, str]
"""Something that is not tried for a while: the server, the logbook, the thread or the entry of this name."""


class Logbooks:
    """Which entries wait and which are being written; the state says what is owed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._books: dict[str, str] = {}  # by storage id: the logbook
        self._queues: dict[str, dict[str, dict[str, Owed]]] = {}  # by server, logbook and id: as they are durable
        self._at_door: dict[str, WriteEntry] = {}  # by server
        self._stale: set[str] = set()  # servers whose entry at the door is about what is gone meanwhile
        self._settling: dict[str, int] = {}  # servers whose newest entry is not durable yet: the batch that has it
        self._untried: set[str] = set()  # ids that nobody has ever been asked to write
        self._waits: set[_Wait] = set()
        self._retries = Retries()
        self._levels = LogbookLevels(ledger)
        self._look = False
        self._stopped = False

    @property
    def count(self) -> int:
        return sum(len(queue) for queues in self._queues.values() for queue in queues.values())

    def status(self) -> list[dict[str, Any]]:
        """Each logbook that a storage names or that something is owed to, for `get_status`."""
        waiting = dict.fromkeys(self._books.values(), 0)
        for queues in self._queues.values():
            waiting |= {logbook: len(queue) for logbook, queue in queues.items()}
        return [{"logbook": each, "waiting": count, **self._levels.of(each)} for each, count in waiting.items()]

    def stop(self) -> None:
        """Ask for no more."""
        self._stopped = True

    def follow(self, event: Event) -> None:
        """The entry at the door of a run or an acquisition that is removed tells of what is gone. What is made
        anew under its id has no entry yet, which its replies have to wait for."""
        match event.fact:
            case facts.RunRemoved(gone) | facts.AcqRemoved(gone):
                self._waits.discard((_EDIT, gone))
                self._stale |= {server for server, order in self._at_door.items() if order.owed.id == gone}

    def committed(self, batch: Batch) -> None:
        """What became due is durable, and so are numbers of entries: the next may be asked for."""
        for (table, id), record in batch.records.items():
            if table == "book":
                self._books.pop(id, None)
                if isinstance(record, Book):
                    self._books[id] = record.logbook
                    # Off the path of the command that configured it: who answers late delays nobody.
                    self._ledger.out.logbooks.append(LookIntoLogbook(record))
            elif table == "owed" and isinstance(record, Owed):
                queue = self._queue(record)
                if id not in queue:
                    self._forget(id)  # it may have been owed to another logbook
                    self._untried.add(id)
                queue[id] = record
            elif table == "owed":
                self._forget(id)
        for server in [server for server, number in self._settling.items() if number <= batch.number]:
            del self._settling[server]
        self._look = self._look or bool(self._queues)
        self._levels.committed(batch)

    def _forget(self, id: str) -> None:
        self._untried.discard(id)
        for queues in self._queues.values():
            for queue in queues.values():
                queue.pop(id, None)

    def _queue(self, owed: Owed) -> dict[str, Owed]:
        return self._queues.setdefault(owed.server, {}).setdefault(owed.logbook, {})

    def rolled_back(self) -> None:
        self._levels.rolled_back()

    def resume(self) -> None:
        """Read from the records what is owed: after a restart, or a batch that was taken back. Any of it may have
        been written already."""
        self._settling.clear()
        self._untried.clear()
        self._queues.clear()
        self._books.clear()
        for record in self._ledger.state.records.values():
            if isinstance(record, Owed):
                self._queue(record)[record.id] = record
            elif isinstance(record, Book):
                self._books[record.storage_id] = record.logbook
        self._look = True

    def pump(self) -> None:
        """Ask for the next entry of each server that has none under way."""
        if not self._look or self._stopped:
            return
        self._look = False
        for server in list(self._queues):
            busy = server in self._at_door or server in self._settling or (SERVER, server) in self._waits
            if not busy:
                self._begin(server)

    def _begin(self, server: str) -> None:
        """Its logbooks take turns."""
        queues = self._queues[server]
        for logbook in list(queues):
            if not queues[logbook]:
                del queues[logbook]
            elif (LOGBOOK, logbook) not in self._waits and (owed := self._next(queues[logbook])) is not None:
                order = WriteEntry(owed, search=not (owed.fresh and owed.id in self._untried))
                self._untried.discard(owed.id)
                self._at_door[server] = order
                self._stale.discard(server)
                self._ledger.out.logbooks.append(order)
                queues[logbook] = queues.pop(logbook)
                return
        if not queues:
            del self._queues[server]

    def _next(self, queue: dict[str, Owed]) -> Owed | None:
        """The first entry that waits for nothing, nor for another one of its thread."""
        passed = set[str]()
        for id, owed in queue.items():
            if (_EDIT, id) in self._waits:
                continue  # its replies need not wait with it
            # What was decided since is not durable yet: it comes with its commit.
            late = self._ledger.state.owed(id) != owed
            if late or owed.thread in passed or (ENTRY, owed.thread) in self._waits:
                passed.add(owed.thread)
            else:
                return owed
        return None

    # From the door

    def looked(self, storage_id: str, result: LogbookAnswers | Failed, moment: Moment) -> None:
        """A look at the logbook of a storage that was configured: one that does not answer is a warning."""
        book = self._ledger.state.book(storage_id)
        if book is not None and isinstance(result, Failed):
            self._levels.failed(book.logbook, storage_id, "", result.message, moment)
        elif book is not None:
            self._levels.well(book.logbook, "", moment)

    def outcome(self, server: str, result: EntryDone | Failed, moment: Moment) -> None:
        """Written, or tried again later."""
        order = self._at_door.pop(server, None)
        if order is None:
            return
        self._look = True
        owed, stale = order.owed, server in self._stale
        self._stale.discard(server)
        if stale:
            # The door reads what is there when it begins: it may have met what was made anew under the same name.
            self._untried.discard(owed.id)
        if isinstance(result, EntryDone):
            queue = self._queue(owed)
            if owed.id in queue:  # what is behind again meanwhile does not keep the others waiting
                queue[owed.id] = queue.pop(owed.id)
            self._settling[server] = self._ledger.batch.number
            for wait in self._waits_of(owed):
                self._retries.forget(wait[0] + wait[1])
            current = self._ledger.state.owed(owed.id)
            moved = current is not None and current.logbook != owed.logbook
            version = 0 if stale or moved else owed.version
            self._ledger.apply((logbooks.written(owed, result.key, result.number, version),), moment)
            self._levels.well(owed.logbook, owed.id, moment)
            if owed.kind != PROBLEM and not stale:
                self._wait((_EDIT, owed.id), EDIT_S, moment)
            return
        if stale or self._ledger.state.owed(owed.id) is None:
            return
        self._levels.failed(owed.logbook, owed.storage_id, owed.id, result.message, moment)
        of_server, of_logbook, of_thread = self._waits_of(owed)
        concerns = result.details.get("concerns", SERVER)
        if concerns == ENTRY:
            # Others may be refused as well: they are tried one by one, longer apart while none is taken. This one
            # comes after them.
            self._wait(of_logbook, self._longer(of_logbook), moment)
            self._wait(of_thread, 2 * self._longer(of_thread), moment)
        else:
            wait = of_logbook if concerns == LOGBOOK else of_server
            self._wait(wait, self._longer(wait), moment)

    def _longer(self, wait: _Wait) -> float:
        return self._retries.wait(wait[0] + wait[1])

    def _wait(self, wait: _Wait, seconds: float, moment: Moment) -> None:
        self._waits.add(wait)
        self._ledger.timers.at(moment.mono + seconds, partial(self._try_again, wait))

    @staticmethod
    def _waits_of(owed: Owed) -> tuple[_Wait, _Wait, _Wait]:
        return (SERVER, owed.server), (LOGBOOK, owed.logbook), (ENTRY, owed.thread)

    def _try_again(self, wait: _Wait) -> None:
        self._waits.discard(wait)
        self._look = True
