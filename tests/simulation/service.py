"""The service as a process, in steps: the real desk, and a shell whose every hand-over can be late.

What the desk wants is kept in `orders`, `look_ups`, `queries`, `scripts` and `batch` until a step carries it out;
carrying out and telling are two steps, between which anything may happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from storage_protocol.commands import Command
from storage_protocol.limits import Limits
from storage_service.desk.batch import Batch, JournalRow
from storage_service.desk.desk import Desk, Now
from storage_service.desk.messages import Ticket, open_message
from storage_service.rules.conversions import Policy
from storage_service.rules.readings import TakeReadings
from storage_service.rules.state import Key
from storage_service.rules.work import Ended, Order, Result, RunScript, SyncData
from storage_service.store.interface import NotWrittenError

from ..support.memory_store import MemoryStore
from ..support.sqlite_store import SqliteStore
from ..support.step_shell import desk_on
from .broken import must
from .manifests import Job, Jobs
from .measured import Look
from .measured import World as Outside
from .mount import AWAY, NO_ANSWER, Mount
from .scripts import Scripts

LIMITS = Limits()
Store = MemoryStore | SqliteStore


class Errand:
    """An order at the mount point's door. `result`: it is done, and not told yet."""

    __slots__ = ("order", "result", "work_id")

    def __init__(self, work_id: str, order: Order) -> None:
        self.work_id, self.order = work_id, order
        self.result: Result | None = None

    @property
    def seals(self) -> bool:
        return isinstance(self.order, SyncData)


class Out:
    """A batch that is out to be committed. `written`: it is durable, and the desk does not know."""

    __slots__ = ("batch", "forgotten", "forgotten_ms", "written")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.written = False
        self.forgotten = self.forgotten_ms = 0


class Service:
    """One life of the service. `replied` and `published` hear what leaves it, `durable` of each dated commit."""

    def __init__(
        self,
        store: Store,
        mount: Mount,
        scripts: Scripts,
        jobs: Jobs,
        outside: Outside,
        manifest_kind: Callable[[str], str],
        fetches: Callable[[str], bool],
        now: Callable[[], Now],
        fresh: Callable[[], str],
        policy: Policy,
        max_parallel: int,
        replied: Callable[[list[bytes]], None],
        published: Callable[[JournalRow], None],
        durable: Callable[[Batch, float], None],
    ) -> None:
        self.store, self.mount, self.host, self._now = store, mount, scripts, now
        self.jobs, self.outside = jobs, outside
        self.readings: list[Look] = []
        self._replied, self._published, self._durable = replied, published, durable
        self.orders: list[Errand] = []
        self.late: list[Errand] = []
        self.look_ups: list[list[Key]] = []
        self.found: list[list[tuple[Key, Any]]] = []
        self.queries: list[tuple[Ticket, Command]] = []
        self.answers: list[tuple[Ticket, Any]] = []
        self.scripts: list[RunScript] = []
        self.out: Out | None = None
        self.stops = False
        self.desk: Desk = desk_on(
            store,
            policy=policy,
            max_parallel=max_parallel,
            limits=LIMITS,
            fresh=fresh,
            defect=self._defect,
            manifest_kind=manifest_kind,
            fetches=fetches,
        )
        self._start()

    @staticmethod
    def _defect(incident: str, error: Exception) -> None:
        raise error

    def _start(self) -> None:
        records = self.store.open_records()
        running = [(key[1], each) for key, each in records if key[0] == "conversion" and each.state == "running"]
        self.host.end_leftovers({id for id, _ in running})
        self.desk.restore(records, list(self.store.intents.values()), self._now())
        for id, each in running:
            self.desk.ended(Ended(id, each.attempt, "interrupted", reason="the service ended"), self._now())
        self.after()

    def after(self) -> None:
        """As the shell does after each call: sort what the desk wants, and cut the next transaction."""
        out = self.desk.out.take()
        for parts in out.replies:
            self._replied(parts)
        for row in out.events:
            self._published(row)
        if out.look_ups:
            self.look_ups.append(out.look_ups)
        self.queries += out.queries
        self.orders += [Errand(work_id, order) for work_id, order in out.orders]
        self.readings += [self._asked_to_read(*each) for each in out.readings]
        self.scripts += out.scripts
        for id in out.cancels:
            self.host.cancel(id)
        self.jobs.add(out.manifests, out.manifest_cancels)
        if self.out is None and (batch := self.desk.cut()) is not None:
            self.out = Out(batch)

    def _asked_to_read(self, work_id: str, order: TakeReadings) -> Look:
        """A reading is asked for once, of what owes it durably; its documents are there as long as it is owed."""
        key = ("node", order.acq_id)
        acq = self.store.records_of([key])[key]
        told = (acq.uid, acq.segment, acq.reads) if acq is not None else None
        must(told == (order.uid, order.segment, order.when), "wrong", "read before it is durable", order, acq)
        busy = [each.order for each in self.readings if each.order.acq_id == order.acq_id]
        must(not busy, "doubled", "two readings of one acquisition at once", order, busy)
        return Look(work_id, order)

    # Steps

    def take(self, messages: Iterable[list[bytes]]) -> None:
        """Messages that arrive together."""
        self.desk.take([open_message(parts, LIMITS) for parts in messages], self._now())
        self.after()

    def write(self) -> None:
        """The store commits what is out; the desk is not told yet."""
        out = self.out
        if out is not None and not out.written:
            date = self.desk.key_date(self._now())
            try:
                done = self.store.commit(out.batch, date)
            except NotWrittenError as error:
                self.out = None
                self.desk.rolled_back(out.batch, str(error), self._now())
                self.after()
                return
            out.written, out.forgotten, out.forgotten_ms = True, done.forgotten, done.forgotten_ms
            self._durable(out.batch, date)

    def tell_commit(self) -> None:
        out, self.out = self.out, None
        if out is not None:
            self.desk.committed(out.batch, self._now(), out.forgotten_ms)
            if out.forgotten:
                self.desk.expire_again()
            self.after()

    def roll_back(self) -> bool:
        """The store lost what is out, for certain."""
        out = self.out
        if out is None or out.written:
            return False
        self.out = None
        self.desk.rolled_back(out.batch, "the disk is full", self._now())
        self.after()
        return True

    def read_look_ups(self) -> None:
        self.found.append(self.store.look_up(self.look_ups.pop(0)))

    def tell_look_ups(self) -> None:
        self.desk.looked_up(self.found.pop(0), self._now())
        self.after()

    def read_query(self) -> None:
        ticket, command = self.queries.pop(0)
        self.answers.append((ticket, self.store.answer(command)))

    def tell_answer(self) -> None:
        self.desk.answered(*self.answers.pop(0), self._now())
        self.after()

    def carry_out(self, errand: Errand) -> None:
        """The mount point does what an order says, or tells at once that an older one is late."""
        if self.late and not errand.seals:
            self.mount.told_failed(errand.order)
            errand.result = NO_ANSWER
        else:
            errand.result = self.mount.carry_out(errand.order)

    def tell_outcome(self, errand: Errand) -> None:
        self.orders.remove(errand)
        self.desk.outcome(errand.work_id, errand.result, self._now())
        self.after()

    def overdue(self, errand: Errand) -> None:
        """An order is not done by its deadline: told as failed, and it may happen all the same, later."""
        self.orders.remove(errand)
        self.late.append(errand)
        self.mount.told_failed(errand.order)
        self.desk.outcome(errand.work_id, NO_ANSWER, self._now())
        self.after()

    def come_back(self, errand: Errand, happens: bool) -> None:
        """What was late is over."""
        self.late.remove(errand)
        if happens:
            self.mount.come_late(errand.order)

    def open_script(self, order: RunScript, opens: bool) -> None:
        self.scripts.remove(order)
        if not opens:
            self.ended(Ended(order.conversion_id, order.attempt, "not_started", reason=AWAY.message))
            return
        own = self.mount.whose(order.path)
        must(own == order.env["ACQ_UID"], "wrong", "a script starts in a folder of another", order, own)
        self.host.begin(order)
        if self.desk.work.is_cancelled(order.conversion_id):
            self.host.cancel(order.conversion_id)

    def get_on_with(self, job: Job, chance: Random) -> None:
        """A manifest is written, or what came of it is told, or both."""
        result = self.jobs.get_on(job, chance)
        if result is not None:
            self.desk.outcome(f"manifest {job.order.storage_id}", result, self._now())
            self.after()

    def read_on(self, look: Look, chance: Random) -> None:
        """A reading is taken, or what came of it is told, or both."""
        if look.result is None:
            for wanted in look.order.wanted:
                there = wanted.document is None or self.store.document(wanted.document.blake3) is not None
                must(there, "lost", "a document was forgotten while it was needed", look.order)
            look.result = self.outside.take(look.order, chance)
            if chance.random() < 0.5:
                return
        self.readings.remove(look)
        self.desk.outcome(look.work_id, look.result, self._now())
        self.after()

    def ended(self, result: Ended) -> None:
        self.desk.ended(result, self._now())
        self.after()

    def tick(self) -> None:
        self.desk.tick(self._now())
        self.after()

    def crash(self, chance: Random) -> None:
        """kill -9. What was under way outside may have happened or not; nobody hears of it."""
        if self.out is not None and not self.out.written and chance.random() < 0.5:
            self.write()
        self.jobs.crash(chance)
        for look in self.readings:
            if look.result is None and chance.random() < 0.5:
                self.outside.take(look.order, chance)
        for errand in self.late:
            if chance.random() < 0.5:
                self.mount.come_late(errand.order)
        for errand in self.orders:
            if errand.result is None and not self.late and chance.random() < 0.5:
                self.mount.carry_out(errand.order)

    @property
    def rests(self) -> bool:
        """Whether nothing is under way that a step could carry on."""
        pending = (
            self.readings,
            self.orders,
            self.late,
            self.look_ups,
            self.found,
            self.queries,
            self.answers,
            self.scripts,
        )
        return self.out is None and not any(pending) and not self.jobs.under_way
