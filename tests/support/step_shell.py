"""A shell around the desk that goes in steps: no sockets, no threads, no clock but the one that a test moves.

    shell = StepShell()
    shell.call(InitStorage(storage_id="s", brg_name="g"))

`turn` carries out what the desk wants once; `run` goes on until nothing moves. Doors answer `Done` at once unless
a test gives them other answers, or lets them hang; commits are kept at once unless the test holds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_protocol.events import Event, decode_event
from storage_protocol.limits import Limits
from storage_service.desk.desk import Now
from storage_service.desk.messages import Ticket, open_message
from storage_service.rules.conversions import Policy
from storage_service.rules.facts import AcqRestored, ManifestWritten
from storage_service.rules.logbook_work import EntryDone, LogbookAnswers, LookIntoLogbook, WriteEntry
from storage_service.rules.readings import ReadingsTaken, TakeReadings
from storage_service.rules.state import Key, Variable
from storage_service.rules.work import (
    Ended,
    Failed,
    ManifestDone,
    Order,
    Result,
    RunScript,
    WriteManifest,
)
from storage_service.store.interface import NotWrittenError
from storage_service.store.rows import decode_fact

from .memory_store import MemoryStore
from .outside import done as done
from .outside import read as read
from .sqlite_store import SqliteStore
from .started import PLACES as PLACES
from .started import desk_on as desk_on

START = 1_700_000_000.0


class StepShell:
    """
    door            what an order comes to (`Done`); None: it hangs until `release`
    delay           turns that an order takes
    scripts         scripts that were started and are not over, by conversion id
    hold_commits    a batch that is cut stays out until `commit` or `roll_back`
    links           of each manifest ever told to be in place: its digest, and the one that it names before it
    entries         orders for entries of logbooks that are not carried out yet, as manifests; `looks`: at logbooks
    manifests       orders for manifests that are not carried out yet: a test tells their outcome, with `hashed`
    sources         what a reading comes to (`read`); None: it hangs, among `readings`, until `taken`
    hold_look_ups   look-ups are read, but what they found is not told until `tell_look_ups`
    """

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        max_parallel: int = 2,
        limits: Limits | None = None,
        store: MemoryStore | SqliteStore | None = None,
        manifest_kind: str = "off",
        fetches: bool = False,
        entries: str = "off",
    ) -> None:
        self.entries_kind = entries
        self.manifest_kind, self.fetches = manifest_kind, fetches
        self.links: dict[str, str | None] = {}
        self.policy, self.max_parallel, self.limits = policy or Policy(), max_parallel, limits or Limits()
        self.store = store or MemoryStore(PLACES)
        self.wall, self.mono = START, 0.0
        self._ids, self._fresh, self._numbers = itertools.count(1), itertools.count(1), itertools.count(1)
        self.defects, self.started = list[Exception](), list[RunScript]()
        self.start()

    def start(self) -> StepShell:
        """A life of the service: what the store has goes on."""
        store = self.store
        store.reopen()
        self.replies: dict[tuple[bytes, Any], Any] = {}
        self.messages: list[list[bytes]] = []
        self.events: list[Event] = []
        self.variables: list[Variable] = []
        self.orders, self.hung = list[tuple[int, str, Order]](), list[tuple[str, Order]]()
        self.scripts: dict[str, RunScript] = {}
        self.cancels: list[str] = []
        self.manifests: list[WriteManifest] = []
        self.manifest_cancels: list[str] = []
        self.readings: list[TakeReadings] = []
        self.sources: Callable[[TakeReadings], ReadingsTaken | None] = read
        self.entries: list[WriteEntry] = []
        self.looks: list[LookIntoLogbook] = []
        self.batch: Any = None
        self.hold_commits = self.hold_look_ups = False
        self.door: Callable[[Order], Result | None] = done
        self.delay = 0
        self._look_ups, self._queries = list[tuple[Key, Any]](), list[tuple[Ticket, Command]]()
        self.desk = desk_on(
            store,
            limits=self.limits,
            policy=self.policy,
            max_parallel=self.max_parallel,
            fresh=lambda: f"uid-{next(self._fresh)}",
            defect=lambda incident, error: self.defects.append(error),
            manifest_kind=lambda storage_id: self.manifest_kind,
            fetches=lambda storage_id: self.fetches,
            entries_of=lambda storage_id: self.entries_kind,
        )
        records = store.open_records()
        self.desk.restore(records, list(store.intents.values()), self.now)
        for (table, id), record in records:
            if table == "conversion" and record.state == "running":
                self.desk.ended(Ended(id, record.attempt, "interrupted"), self.now)
        return self

    def restart(self) -> StepShell:
        return self.start().run()

    @property
    def now(self) -> Now:
        return Now(self.wall, self.mono)

    # What clients do

    def send(self, *asked: Command | tuple[Command, str], peer: bytes = b"p") -> list[int]:
        """One message of these commands, each with its key if it has one; the ids of the commands."""
        ids, frames = [], []
        for each in asked:
            command, key = each if isinstance(each, tuple) else (each, None)
            ids.append(next(self._ids))
            frames.append(codec.encode_command(ids[-1], command, key))
        self.take([peer, *frames])
        return ids

    def take(self, parts: list[bytes]) -> None:
        self.desk.take([open_message(parts, self.limits)], self.now)

    def call(self, command: Command, key: str | None = None, peer: bytes = b"p") -> Any:
        """One command, until nothing moves any more; it must have its reply then."""
        (id,) = self.send((command, key) if key else command, peer=peer)
        self.run()
        return self.replies[peer, id]

    def must(self, *asked: Command) -> StepShell:
        for command in asked:
            reply = self.call(command)
            assert reply.ok, reply
        return self

    def told(self, ids: list[int], peer: bytes = b"p") -> list[str]:
        """How each command was answered: `ok`, a refusal's code, or `` where there is no reply yet."""
        found = [self.replies.get((peer, id)) for id in ids]
        return [
            "" if each is None else "ok" if each.ok else each.error.code if each.error else "?" for each in found
        ]

    def types(self) -> list[str]:
        return [event.type for event in self.events]

    # What the shell does

    def run(self) -> StepShell:
        for _ in range(10_000):
            if not self.turn():
                return self
        raise AssertionError("it never comes to rest")

    def turn(self) -> bool:
        """Carry out once what the desk wants; whether anything moved."""
        moved = self._carry_out()
        if not self.hold_look_ups and self._look_ups:
            self.tell_look_ups()
            moved = True
        queries, self._queries = self._queries, []
        for ticket, command in queries:
            refusal = self.desk.overload.of_replies(ticket)
            self.desk.answered(ticket, refusal or self.store.answer(command), self.now)
        moved |= bool(queries) | self._work()
        if self.batch is None and (batch := self.desk.cut()) is not None:
            self.batch, moved = batch, True
            if not self.hold_commits:
                self.commit()
        assert not self.defects, self.defects
        assert not self.desk.overlooked, "what could go on was woken by nothing"
        return moved

    def _carry_out(self) -> bool:
        out = self.desk.out.take()
        for parts in out.replies:
            self._replied(parts)
        for row in out.events:
            assert row in self.store.journal[row.seq - 1 - self.store.last_seq :][:1], "told before it was durable"
            self.events.append(decode_event(row.body))
        self.variables += out.variables
        self._look_ups += self.store.look_up(out.look_ups)
        self._queries += out.queries
        self.orders += [(self.delay, work_id, order) for work_id, order in out.orders]
        for script in out.scripts:
            found = self.store.records["conversion", script.conversion_id]
            assert (found.state, found.attempt) == ("running", script.attempt), "started before it was claimed"
            assert script.conversion_id not in self.scripts, "started twice"
            self.scripts[script.conversion_id] = script
            self.started.append(script)
        self.cancels += out.cancels
        for order in out.manifests:
            assert self.store.record(("due", order.acq_id)) is not None, "asked for before it was durable"
            assert order.storage_id not in {each.storage_id for each in self.manifests}, "two of one storage"
        self.manifests += out.manifests
        self.manifest_cancels += out.manifest_cancels
        for work_id, asked in out.readings:
            self._asked_to_read(work_id, asked)
        for asked in out.logbooks:
            if isinstance(asked, LookIntoLogbook):
                self.looks.append(asked)
                continue
            assert self.store.record(("owed", asked.owed.id)) == asked.owed, "asked for before it was durable"
            assert asked.owed.server not in {each.owed.server for each in self.entries}, "two of one server"
            self.entries.append(asked)
        return bool(out)

    def _asked_to_read(self, work_id: str, order: TakeReadings) -> None:
        acq = self.store.record(("node", order.acq_id))
        assert (acq.uid, acq.segment, acq.reads) == (order.uid, order.segment, order.when), "before it was durable"
        assert work_id == f"readings {order.acq_id}"
        assert order.acq_id not in {each.acq_id for each in self.readings}, "two readings of one acquisition"
        given = [each.document for each in order.wanted if each.document is not None]
        there = [self.store.document(each.blake3) is not None for each in given]
        assert all(there), "a document that is wanted was forgotten"
        self.readings.append(order)

    def _replied(self, parts: list[bytes]) -> None:
        self.messages.append(parts)
        for frame in parts[2:] if parts[1] == b"" else parts[1:]:
            reply = codec.decode_reply(frame)
            assert (parts[0], reply.id) not in self.replies or reply.id is None, "answered twice"
            self.replies[parts[0], reply.id] = reply

    def _work(self) -> bool:
        orders, self.orders = self.orders, []
        for turns, work_id, order in orders:
            if turns > 0:
                self.orders.append((turns - 1, work_id, order))
            elif (result := self.door(order)) is None:
                self.hung.append((work_id, order))
            else:
                self.desk.outcome(work_id, result, self.now)
        told = False
        for asked in list(self.readings):
            if (taken := self.sources(asked)) is not None:
                told = True
                self.readings.remove(asked)
                self.desk.outcome(f"readings {asked.acq_id}", taken, self.now)
        return bool(orders) or told

    def take_look_ups(self) -> list[tuple[Key, Any]]:
        """What look-ups found and the desk was not told yet."""
        found, self._look_ups = self._look_ups, []
        return found

    def tell_look_ups(self) -> None:
        self.desk.looked_up(self.take_look_ups(), self.now)

    def commit(self) -> StepShell:
        """What is out is durable, or the store cannot write it: then it is lost, for certain."""
        batch, self.batch = self.batch, None
        try:
            done = self.store.commit(batch, self.desk.key_date(self.now))
        except NotWrittenError as error:
            self.desk.rolled_back(batch, str(error), self.now)
            return self
        self.desk.committed(batch, self.now, done.forgotten_ms)
        if done.forgotten:
            self.desk.expire_again()
        return self

    def roll_back(self) -> StepShell:
        """What is out is lost, for certain."""
        batch, self.batch = self.batch, None
        self.desk.rolled_back(batch, "the disk is full", self.now)
        return self

    def release(self, result: Result | None = None) -> StepShell:
        """What hangs comes to an end, and what comes after does not hang."""
        self.door = done
        hung, self.hung = self.hung, []
        for work_id, order in hung:
            self.desk.outcome(work_id, result or done(order), self.now)
        return self.run()

    def end(self, conversion_id: str, how: str = "exited", exit_code: int | None = 0) -> StepShell:
        """A script is over."""
        script = self.scripts.pop(conversion_id)
        self.desk.ended(Ended(conversion_id, script.attempt, how, exit_code), self.now)
        return self.run()

    def hashed(self, result: ManifestDone | Failed | None = None) -> WriteManifest:
        """The oldest order for a manifest is carried out; returns it."""
        order = self.manifests.pop(0)
        told = result or ManifestDone(1, 7, f"digest {len(self.links)}")
        if isinstance(told, ManifestDone):
            self.links[told.blake3] = order.previous.blake3 if order.previous is not None else None
        self.desk.outcome(f"manifest {order.storage_id}", told, self.now)
        self.run()
        return order

    def taken(self, result: ReadingsTaken | None = None) -> TakeReadings:
        """The oldest reading that hangs is over; returns its order."""
        order = self.readings.pop(0)
        self.desk.outcome(f"readings {order.acq_id}", result or read(order), self.now)
        self.run()
        return order

    def entered(self, result: EntryDone | Failed | None = None) -> WriteEntry:
        """The oldest order for an entry is carried out; returns it."""
        order = self.entries.pop(0)
        told = result or EntryDone(f"key of {order.owed.id}", next(self._numbers))
        self.desk.outcome(f"entry {order.owed.server}", told, self.now)
        self.run()
        return order

    def looked(self, result: LogbookAnswers | Failed) -> LookIntoLogbook:
        """The oldest look at a logbook is carried out; returns it."""
        order = self.looks.pop(0)
        self.desk.outcome(f"logbook {order.book.storage_id}", result, self.now)
        self.run()
        return order

    def wait(self, seconds: float) -> StepShell:
        """Time passes, and the desk is woken whenever it wants to be."""
        until = self.mono + seconds
        while True:
            due = min(max(self.desk.next_tick(), self.mono), until)
            self.wall, self.mono = self.wall + due - self.mono, due
            self.desk.tick(self.now)
            self.run()
            if due >= until:
                return self

    # Looking

    def record(self, key: Key) -> Any:
        """As it is in memory: decided, be it durable or not."""
        return self.desk.state.records.get(key)

    def seqs(self) -> list[int]:
        return [row.seq for row in self.store.journal]

    def sound(self) -> None:
        """What must hold in every store: seqs without holes, prev_seq true, the tables are the folded journal."""
        assert self.seqs() == list(range(1, self.store.last_seq + 1))
        before: dict[str, int] = {}
        for row in self.store.journal:
            body = msgspec.msgpack.decode(row.body)
            assert (body["seq"], body["prev_seq"]) == (row.seq, before.get(row.topic, 0))
            before[row.topic] = row.seq
        assert self.store.topics() == before
        self.chains_hold()
        assert self.store.folded() == self.store.everything()

    def chains_hold(self) -> None:
        """Each manifest that became durable names the one of its storage that became durable before it, or the one
        that was found again."""
        tails: dict[str, str] = {}
        for row in self.store.journal:
            fact = decode_fact(row.fact) if row.fact is not None else None
            if isinstance(fact, ManifestWritten):
                assert self.links[fact.link.blake3] == tails.get(fact.chain), fact
                tails[fact.chain] = fact.link.blake3
            elif isinstance(fact, AcqRestored):
                tails.update({chain.storage_id: chain.tail.blake3 for chain in fact.tails})
        assert {
            id: chain.tail.blake3 for (table, id), chain in self.store.everything().items() if table == "chain"
        } == tails


# Commands that many tests send

ACQ = "root/g/r/a"


def init(storage_id: str = "s", **args: Any) -> Command:
    return c.InitStorage(storage_id=storage_id, **{"brg_name": "g", **args})


def config(storage_id: str = "s") -> Command:
    return c.ConfigStorage(storage_id=storage_id)


def new_run(storage_id: str = "s", run_name: str = "r", **args: Any) -> Command:
    return c.NewRun(storage_id=storage_id, run_name=run_name, **args)


def new_acq(storage_id: str = "s", acq_name: str = "a", **args: Any) -> Command:
    return c.NewAcq(**{"storage_id": storage_id, "run_name": "r", "acq_name": acq_name, **args})


def close(acq_id: str = ACQ) -> Command:
    return c.CloseAcq(storage_id="s", acq_id=acq_id)


def set_acq(value: Any, acq_id: str = ACQ, storage_id: str = "s") -> Command:
    return c.SetParamAcq(storage_id=storage_id, acq_id=acq_id, param="x", value=value)


def with_run(**args: Any) -> StepShell:
    """A configured storage s with the run r."""
    return StepShell(**args).must(init(), config(), new_run())


def with_acq(convert_script: str | None = None, **args: Any) -> StepShell:
    """The same, with the open acquisition a."""
    return with_run(**args).must(new_acq(convert_script=convert_script))
