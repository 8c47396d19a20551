"""The world of one life: everything that can happen, one step at a time, and what must hold after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.keys import uuid7_ms
from storage_service.desk.batch import Batch, JournalRow
from storage_service.desk.desk import Now

from ..support.memory_store import MemoryStore
from ..support.step_shell import PLACES, START
from . import ending
from .asked import Asked
from .broken import must
from .clients import Clients
from .journal import Journal
from .life import Life, Step, memory_of
from .manifests import Hashers, Jobs
from .measured import World as Outside
from .mount import Mount
from .network import Connection, Letter, Network
from .patience import Patience
from .scripts import Scripts
from .service import Errand, Service, Store
from .tables import Tables

NAMING = (c.HeartbeatProducer, c.RegisterProducer, c.MarkAsFinished)
YEAR_S = 365.25 * 86_400.0

Action = tuple[str, str, Callable[[], None]]


class World:
    """
    faults  how often each kind happened
    trace   what happened, in words, when it is wanted
    """

    def __init__(self, life: Life, store: Store | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.life, self.tell = life, tell
        self.store: Store = store or MemoryStore(PLACES)
        self.chance = Random(life.seed)
        self.wall, self.mono = START, 0.0
        self.faults: Counter[str] = Counter()
        self.steps = 0
        self.patience = Patience()
        self.journal = Journal(life.max_parallel, self.patience)
        self.asked = Asked(self.journal)
        self.tables = Tables(self.store, self.journal, PLACES)
        self.clients = Clients(self.journal, self.asked, lambda: self.wall, life.terms)
        self.network = Network(life.clients)
        self.scripts = Scripts()
        self.mount = Mount(self.scripts)
        self.hashers = Hashers(self.mount, self.journal)
        self.outside = Outside(self.mount, self.journal)
        self._kept: dict[str, float] = {}
        self._uids = self.lives = 0
        self._published = 0
        self.service: Service | None = None
        self.start()

    def now(self) -> Now:
        return Now(self.wall, self.mono)

    def _fresh(self) -> str:
        self._uids += 1
        return f"uid-{self._uids}"

    # What leaves the service

    def _replied(self, parts: list[bytes]) -> None:
        peer, frames = parts[0], parts[2:] if parts[1] == b"" else parts[1:]
        replies = [codec.decode_reply(frame) for frame in frames]
        letter = self.network.answered(peer, tuple(each.id for each in replies))  # type: ignore[misc]
        if letter is None:
            must(
                False,
                "wrong",
                "a reply that mirrors no message",
                peer,
                replies,
                list(self.network.waiting.get(peer, ())),
            )
            return
        must(letter.delimiter == (parts[1] == b""), "wrong", "the delimiter is not mirrored", peer)
        for attempt, reply in zip(letter.attempts, replies, strict=True):
            if self.tell is not None:
                said = "ok" if reply.ok else reply.error.code if reply.error else "?"
                self.tell(f"    reply to {attempt.ask.tag if attempt else 'rubbish'}: {said}")
            if attempt is not None:
                must(reply.ok == (reply.error is None), "wrong", "neither ok nor refused", reply)
                self.asked.replied(attempt, reply.result, reply.error)
            else:
                must(reply.error is not None, "wrong", "rubbish was accepted", reply)

    def _publish(self, row: JournalRow) -> None:
        self._published += 1
        must(row.seq == self._published, "wrong", f"published {row.seq}, {self._published} comes next")
        must(row.seq <= self.journal.last_seq, "lost", "published before it was durable", row)

    def _durable(self, batch: Batch, date: float) -> None:
        if self.tell is not None:
            for row in batch.rows:
                self.tell(f"    durable: {row.seq} {row.topic} {row.subject}")
        for key, _, _ in batch.keys:
            self._kept[key] = date
        if batch.expire_keys_before is not None:
            self._forgot(batch.expire_keys_before)
        self.tables.committed(batch)

    def _forgot(self, before: float) -> None:
        """Keys were forgotten, perhaps: only such as are old enough, as long as nobody set the clock."""
        there = self.store.keys
        for key in [key for key in self._kept if key not in there]:
            early = self._kept.pop(key) >= before
            must(not (early and self.patience.steady), "lost", "a key is forgotten too early", key)
            for ask in self.asked.by_key[key]:
                ask.forgotten = True
                ask.runs_again = uuid7_ms(key) is None or not self.patience.steady

    # Lives of the service

    def start(self) -> None:
        self._published = self.store.last_seq
        self.patience.started(self.wall)
        journal = self.journal
        journal.kinds = self.life.kinds[self.lives % len(self.life.kinds)]
        journal.sourced.append(self.life.sourced[self.lives % len(self.life.sourced)])
        self.lives += 1
        self.service = Service(
            self.store, self.mount, self.scripts, Jobs(self.hashers, journal), self.outside,
            journal.kind_of, journal.fetches, self.now, self._fresh, self.life.policy, self.life.max_parallel,
            replied=self._replied, published=self._publish, durable=self._durable,
        )  # fmt: skip

    def end(self, durable: bool | None = None) -> None:
        """The process is gone. `durable`: what becomes of what is out; None: the chance decides."""
        service = self.service
        if service is None:
            return
        if durable:
            service.write()
        elif durable is False:
            service.out = None
        service.crash(self.chance)
        self.service = None
        self.network.service_ended()
        for client in range(len(self.network.open)):
            self.network.cut(client, self.chance.randrange(9))
        for id in list(self.scripts.running):
            if self.chance.random() < 0.3:
                self.scripts.end(id, self.chance)
        self.store.reopen()

    # One step

    def step(self, step: Step) -> None:
        word, number = step
        self.steps += 1
        self.chance.seed(number)
        self.mono += 0.001
        self.wall += 0.001
        done = getattr(self, "_step_" + word.replace(" ", "_").replace("-", "_"))()
        if word not in ("go", "send", "again", "wait") and done:
            self.faults[word] += 1
            if self.tell is not None:
                self.tell(f"{self.steps} {word}")
        self.after()

    def after(self) -> None:
        service = self.service
        if service is not None and service.out is None:
            self.tables.memory(service.desk)

    def _client(self) -> int:
        return self.chance.randrange(len(self.network.open))

    def post(self, letter: Letter, client: int) -> None:
        connection = self.network.open[client]
        connection.to_service.append(letter)
        if self.tell is not None:
            asks = [repr(each.ask) if each else "rubbish" for each in letter.attempts]
            self.tell(f"{self.steps} {connection.peer.decode()} sends {'; '.join(asks)}")

    def _step_send(self) -> None:
        self.post(self.clients.letter(self.chance), self._client())

    def _step_rubbish(self) -> bool:
        self.post(self.clients.letter(self.chance, rubbish=True), self._client())
        return True

    def _step_again(self) -> None:
        letter = self.clients.again(self.chance)
        if letter is not None:
            self.post(letter, self._client())

    def _step_go(self) -> None:
        """Something that is under way gets on."""
        actions = self.actions()
        if actions:
            slow = self.life.slow
            weights = [slow.get(hand_over, 1.0) for hand_over, _, _ in actions]
            _, said, action = self.chance.choices(actions, weights)[0]
            if self.tell is not None:
                self.tell(f"{self.steps} {said}")
            action()

    def actions(self) -> list[Action]:
        service = self.service
        if service is None:
            return [("service", "the service starts", self.start)]
        found: list[Action] = []
        for connection in self.network.sendable():
            found.append(
                ("network", f"a message of {connection.peer.decode()} arrives", partial(self._arrive, connection))
            )
        if service.out is not None and not service.out.written:
            found += [
                ("store", "the store commits", service.write),
                ("store", "the store commits, it is told", self._commit),
            ]
        elif service.out is not None:
            found.append(("store", "the commit is told", self._told))
        if service.look_ups:
            found.append(("look-ups", f"look-ups are read: {service.look_ups[0]}", service.read_look_ups))
        if service.found:
            found.append(("look-ups", "look-ups are told", service.tell_look_ups))
        if service.queries:
            found.append(("queries", "a query is read", service.read_query))
        if service.answers:
            found.append(("queries", "a query is answered", service.tell_answer))
        for errand in service.orders:
            found.append(("mount", f"the mount point: {errand.work_id}", partial(self._errand, errand)))
        for errand in service.late:
            happens = self.chance.random() < 0.5
            said = f"late: {errand.work_id}, {'it happens' if happens else 'it never began'}"
            found.append(("mount", said, partial(service.come_back, errand, happens)))
        for look in service.readings:
            said = f"{look.order.when} of {look.order.acq_id} is {'told' if look.result else 'read'}"
            found.append(("readings", said, partial(service.read_on, look, self.chance)))
        for order in service.scripts:
            opens = not self.mount.away
            found.append(("scripts", f"a script starts: {opens}", partial(service.open_script, order, opens)))
        for job in service.jobs.under_way:
            act = partial(service.get_on_with, job, self.chance)
            found.append(("manifests", f"{job.order.name} of {job.order.acq_id}", act))
        for id in self.scripts.running:
            found.append(("scripts", f"the script of {id} ends", partial(self._script_ends, id)))
        if service.desk.next_tick() <= self.mono:
            found.append(("service", "tick", service.tick))
        return found

    def _arrive(self, connection: Connection) -> None:
        service = self.service
        if service is None:
            return
        together = [self._arrived(connection)]
        while connection.to_service and self.chance.random() < 0.4:
            together.append(self._arrived(connection))
        service.take(together)

    def _arrived(self, connection: Connection) -> list[bytes]:
        """A message is at the service: who is heard of by it, and what is asked."""
        letter, parts = self.network.arrived(connection)
        commands = [attempt.ask.command for attempt in letter.attempts if attempt is not None]
        named = [
            (each.storage_id, each.producer) for each in commands if isinstance(each, NAMING) and each.producer
        ]
        self.patience.arrived(connection.peer, named, self.wall)
        for attempt in letter.attempts:
            if attempt is not None:
                self.asked.delivered(attempt, parts[0])
        return parts

    def _commit(self) -> None:
        service = self.service
        if service is not None:
            service.write()
            self._told()

    def _told(self) -> None:
        service = self.service
        if service is not None and service.out is not None:
            service.tell_commit()

    def _errand(self, errand: Errand) -> None:
        service = self.service
        if service is None:
            return
        if errand.result is None:
            service.carry_out(errand)
            if self.chance.random() < 0.5:
                return
        service.tell_outcome(errand)

    def _script_ends(self, id: str) -> None:
        result = self.scripts.end(id, self.chance)
        if self.service is not None:
            self.service.ended(result)

    def _step_wait(self) -> None:
        """Time passes; the service is woken in time, or late."""
        self.let_pass(self.chance.choice([0.3, 1.1, 6.0, 61.0, 310.0]), late=self.chance.random() < 0.3)

    def let_pass(self, seconds: float, late: bool = False) -> None:
        until = self.mono + seconds
        for _ in range(50):
            due = until
            if self.service is not None and not late:
                due = min(max(self.service.desk.next_tick(), self.mono), until)
            self.wall, self.mono = self.wall + due - self.mono, due
            if self.service is not None and self.service.desk.next_tick() <= self.mono:
                self.service.tick()
            if due >= until:
                return

    # Faults

    def _step_roll_back(self) -> bool:
        return self.service is not None and self.service.roll_back()

    def _step_unknown_outcome(self) -> bool:
        """A commit fails, and may be durable all the same: the process ends."""
        if self.service is None or self.service.out is None or self.service.out.written:
            return False
        self.end(durable=self.chance.random() < 0.5)
        return True

    def _step_crash(self) -> bool:
        if self.service is None:
            return False
        self.end()
        return True

    def _step_cut(self) -> bool:
        self.network.cut(self._client(), self.chance.randrange(9))
        return True

    def _step_duplicate(self) -> bool:
        connection = self.network.open[self._client()]
        letter = connection.last
        if letter is None or not letter.may_repeat:
            return False
        connection.to_service.append(letter.again())
        return True

    def _step_mount_away(self) -> bool:
        self.mount.away = not self.mount.away
        return self.mount.away

    def _step_fails_half_way(self) -> bool:
        self.mount.half = not self.mount.half
        return self.mount.half

    def _step_fails_afterwards(self) -> bool:
        self.mount.blind = not self.mount.blind
        return self.mount.blind

    def _step_hang(self) -> bool:
        if self.service is None:
            return False
        waiting = [each for each in self.service.orders if each.result is None and not each.seals]
        if not waiting or self.service.late:
            return False
        self.let_pass(10.0)
        errand = self.chance.choice(waiting)
        if errand in self.service.orders:
            self.service.overdue(errand)
        return True

    def _step_jump(self) -> bool:
        """Somebody sets the clock."""
        self.patience.steady = False
        self.wall = max(self.wall + self.chance.choice([-20, -1, 1, 10, 20]) * YEAR_S, YEAR_S)
        for asks in self.asked.by_key.values():
            for ask in asks:
                ask.runs_again = ask.forgotten
        return True

    # The end

    def live(self) -> World:
        """All of it. Raises Broken where a promise is not kept, and whatever the service raises."""
        with memory_of(self.life):
            self.post(self.clients.opening(self.chance), 0)
            for step in self.life.steps:
                self.step(step)
            ending.calm(self)
            self.end()
            self.start()
            ending.calm(self)
        return self
