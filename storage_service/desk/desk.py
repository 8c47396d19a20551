"""The path of a command, without a socket, a thread or a clock.

    take(bites, now)         what arrived; what can be decided is decided into the open batch
    cut()                    the open batch, to be committed; commands go on being decided into the next one
    committed(batch, now)    it is on the disk: its replies may go, its events be published, its work begin
    rolled_back(batch, ...)  it is not, for certain: everything decided since is taken back and refused
    outcome, ended           a door did its work, a script is over
    looked_up, answered      records that were not in memory, the result of a query
    tick(now)                time passed

After each of them `out` says what the shell has to do. The desk decides every command on the newest state, be it
durable or not, and lets nobody hear of it before it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from msgspec import Struct

from storage_protocol import codec, errors
from storage_protocol.codec import Rejected
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.records import TrashEntry
from storage_protocol.times import to_wire

from ..rules.conversions import Policy
from ..rules.decision import EmptyIntent, Moment
from ..rules.facts import AcqParamSet, Event
from ..rules.readings import documents
from ..rules.scope import scope_of_intent
from ..rules.state import Key, Places
from ..rules.trash_work import GiveUp
from ..rules.work import Ended
from .ages import Ages
from .batch import Batch, Journal, StoredIntent
from .deciding import Deciding
from .keyring import Keyring, last_to_forget
from .ledger import Ledger
from .messages import Bite, Opened, Ticket
from .overload import Overload
from .pacing import Pacing
from .patience import NAMING, Patience
from .peers import COMMIT, SEALING
from .space import Space
from .telling import Telling
from .work import Work

EXPIRED = "expired"
LOOKED = "looked"
LOOK_AGAIN_S = 60.0
_message = attrgetter("message")
_peer = attrgetter("message.peer")


class Now(Struct, frozen=True):
    """`wall`: seconds since 1970, for what is told. `mono`: seconds of a clock that never jumps, for waits."""

    wall: float
    mono: float


class Desk:
    """`overlooked`: how many commands could have gone on and were woken by nothing, which would be a defect; they
    are looked at once a minute all the same."""

    def __init__(
        self,
        *,
        places: Places,
        limits: Limits,
        policy: Policy,
        max_parallel: int,
        keys_keep_s: float,
        key_clock: tuple[float, float] = (0.0, 0.0),
        keyring: Keyring,
        journal: Journal,
        describe: bytes,
        fresh: Callable[[], str],
        defect: Callable[[str, Exception], None],
        manifest_kind: Callable[[str], str],
        fetches: Callable[[str], bool] = lambda storage_id: False,
        entries_of: Callable[[str], str] = lambda storage_id: "off",
        events_keep_s: float = 0.0,
    ) -> None:
        ledger = Ledger(
            places, limits, keyring, journal, describe, fresh, defect, manifest_kind, fetches, entries_of
        )
        self._ledger = ledger
        self.state = ledger.state
        self.keyring = keyring
        self.out = ledger.out
        self.work = Work(ledger, policy, max_parallel)
        self._patience = Patience(ledger)
        self._space = Space(ledger)
        self.telling = Telling()
        ledger.follow = self._follow
        self.overload = Overload(ledger)
        self.pacing = Pacing()
        self._deciding = Deciding(ledger, self.work, self.overload)
        self._keys_keep_s = keys_keep_s
        self._events_keep_s = events_keep_s
        self._ages = Ages(keys_keep_s, key_clock)
        self._expire_due = 0.0
        self._look_again = 0.0
        self.overlooked = 0

    # What arrives

    def take(self, bites: Iterable[Bite], now: Now) -> None:
        """Commands of messages, in the order sent; the next bite of a message comes before its peer's next one."""
        moment = self._moment(now)
        for peer, theirs in groupby(bites, _peer):
            self._patience.heard(peer, moment)
            tickets = []
            request: Any
            for bite in theirs:
                message = bite.message
                for index, request in enumerate(bite.requests, bite.first):
                    if type(request) is Rejected:
                        frame = codec.encode_refusal(request.id, request.refusal)
                        self._ledger.replies.frame(message, index, frame)
                    else:
                        if type(request.command) in NAMING:
                            self._patience.named(peer, request.command, moment)
                        tickets.append(Ticket.of(message, index, request))
            self._begin(peer, tickets, moment)
        self._go_on(moment)

    def refuse(self, opened: Opened, now: Now) -> None:
        """A message that is too much is not taken at all."""
        self._patience.heard(opened.message.peer, self._moment(now))
        self.overload.whole(opened)

    def _begin(self, peer: bytes, tickets: list[Ticket], moment: Moment) -> None:
        """Decide what can be decided at once; the rest of a peer's commands waits."""
        tickets = self.overload.writable(tickets)
        peers = self._ledger.peers
        done = 0 if peers.waits(peer) else self._deciding.in_order(tickets, moment)
        if done == len(tickets):
            return
        # Each message by itself: what there is no room for is refused, and a part of a take may still have room.
        for _, theirs in groupby(tickets[done:], _message):
            rest = self.overload.waitable(peer, list(theirs))
            for ticket in rest:
                self._ledger.asking.ahead(ticket)
            if rest:
                peers.add(peer, rest)
        self._advance(peer, moment)

    def _advance(self, peer: bytes, moment: Moment) -> None:
        def attempt(ticket: Ticket) -> bool:
            done = self._deciding.attempt(ticket, moment)
            if done:
                self._ledger.replies.passed(ticket)
            return done

        self._ledger.peers.advance(peer, attempt)

    def _go_on(self, moment: Moment) -> None:
        """Something changed: who waited for it may have a turn, and conversions may start."""
        self._turns(moment)
        # What follows from the state by itself: acquisitions that nobody waits for, conversions that start.
        self._patience.look(moment)
        self.work.attempts.pump(moment)
        self.work.manifests.pump(moment)
        self.work.logbooks.pump()

    def _turns(self, moment: Moment) -> None:
        for peer in self._ledger.peers.woken():
            self._advance(peer, moment)

    def _look_at_all(self, moment: Moment) -> None:
        """Once in a while everybody that waits is looked at, for what nobody woke: there should be nothing."""
        peers = self._ledger.peers
        # Who waits for a look-up that is out will be woken, though something else may have decided it already.
        woken = peers.waiting_for(self._ledger.asking.is_out)
        waiting = peers.idle(woken)
        peers.wake_all()
        self._go_on(moment)
        self.overlooked += waiting - peers.idle(woken)

    def _follow(self, event: Event, moment: Moment) -> None:
        """An event became true in memory."""
        if type(event.fact) is not AcqParamSet:  # by far the most, and nothing follows from it
            self.work.follow(event, moment)
            self._patience.follow(event, moment)

    def answered(self, ticket: Ticket, result: bytes | Refusal, now: Now) -> None:
        """A query's result, as msgpack, or why there is none."""
        self._ledger.replies.now(ticket, result)
        self._turns(self._moment(now))

    # Records that are not in memory

    def looked_up(self, found: Iterable[tuple[Key, Any]], now: Now) -> None:
        """What the store has of the keys that were asked for."""
        self._ledger.asking.looked_up(found)
        moment = self._moment(now)
        self.work.advance(moment)
        self._go_on(moment)
        self._ledger.residents.forget_all_transient()

    # The transaction

    def cut(self) -> Batch | None:
        """Close the open batch, to be committed. None when one is out already, or there is nothing to commit."""
        batch = self._ledger.transactions.cut()
        if batch is None:
            return None
        batch.newest_key_ms = self.keyring.newest_ms
        if batch.expire_keys_before is not None:
            self.keyring.expiring(batch.forget_up_to_ms)
        if batch.forgets_documents:
            batch.documents_kept = documents(self.state)
        return batch

    def committed(self, batch: Batch, now: Now, forgotten_ms: int = 0) -> None:
        """The batch is durable."""
        self._ledger.transactions.committed(batch)
        for key in self.keyring.expired(forgotten_ms):
            self._ledger.peers.came(("key", key))
        self.out.events += batch.rows
        moment = self._moment(now)
        # First who waited for others: a peer that has its reply and more to do would be in their way again.
        self.work.committed(batch, moment)
        self._ledger.peers.came(COMMIT)
        self._ledger.peers.came(SEALING)
        self._ledger.replies.all_durable(batch.replies)
        for repeat, result in self.keyring.committed(batch.keys):
            self._ledger.replies.now(repeat, result)
        self._space.committed(batch)
        self.out.variables += self.telling.changed(batch.registers.values(), now.mono)
        self._go_on(moment)
        self._ledger.residents.evict(self._ledger.transactions.uncommitted_keys)

    def rolled_back(self, batch: Batch, why: str, now: Now) -> None:
        """The batch is not durable, for certain: it and all that was decided on top of it never happened."""
        refusal = errors.unavailable(why, f"The database could not keep it ({why}); try again, with the same key.")
        moment = self._moment(now)
        self.keyring.expired(0)
        for lost in self._ledger.transactions.rolled_back(batch):
            for ticket, _ in lost.replies:
                self._ledger.replies.now(ticket, refusal)
            for key, _, _ in lost.keys:
                self._ledger.replies.to_repeats(key, refusal)
            self.work.rolled_back(lost, refusal, moment)
        self._space.rolled_back()
        self.work.logbooks.rolled_back()
        self.work.resume(moment)
        self._patience.resume(moment)
        self._ledger.peers.wake_all()
        self._go_on(moment)

    # Outcomes and time

    def outcome(self, work_id: str, result: Any, now: Now) -> None:
        """What came of an order that `out.orders` gave out; of `EXPIRED`, what a trash has that is too old; of
        `LOOKED`, a look at a mount point."""
        moment = self._moment(now)
        if work_id == EXPIRED:
            self._expired(result)
        elif work_id == LOOKED:
            self._space.looked(result, moment)
        else:
            self.work.outcome(work_id, result, moment)
        self._go_on(moment)

    def _expired(self, entries: tuple[TrashEntry, ...]) -> None:
        """These entries of one trash are given up, unless a command is at work on it: then they are told again."""
        order = GiveUp(entries[0].mp, tuple(entry.uid for entry in entries))
        intent, intent_id = EmptyIntent(order, entries, why="expired"), self._ledger.fresh()
        if self._ledger.scopes.widen(intent_id, scope_of_intent(intent)):
            self.work.intended(StoredIntent(intent_id, intent), None)

    def ended(self, result: Ended, now: Now) -> None:
        """An attempt of a conversion is over."""
        moment = self._moment(now)
        self.work.ended(result, moment)
        self._go_on(moment)

    def tick(self, now: Now) -> None:
        """Time passed: do what is due."""
        for what in self._ledger.timers.due(now.mono):
            what()
        self.out.variables += self.telling.due(now.mono)
        if now.mono >= self._expire_due:
            self._expire_due = now.mono + 60.0
            batch = self._ledger.batch
            batch.expire_keys_before = self._ages.oldest(now.wall, now.mono)
            batch.forget_up_to_ms = last_to_forget(now.wall - self._keys_keep_s)
            batch.key_clock = self._ages.stored(now.wall, now.mono)
            if self._events_keep_s:
                batch.expire_events_before = self._ages.date(now.wall, now.mono) - self._events_keep_s
        moment = self._moment(now)
        self.work.end_again(moment)
        self._go_on(moment)
        if now.mono >= self._look_again:
            self._look_again = now.mono + LOOK_AGAIN_S
            self._look_at_all(moment)

    def key_date(self, now: Now) -> float:
        """What the keys of a batch are dated with; no jump of the clock makes them older."""
        return self._ages.date(now.wall, now.mono)

    def next_tick(self) -> float:
        """When `tick` is due, on the monotonic clock."""
        due = min(self._expire_due, self._look_again)
        for wanted in (self._ledger.timers.next(), self.telling.next()):
            if wanted is not None and wanted < due:
                due = wanted
        return due

    def restore(self, records: Iterable[tuple[Key, Any]], intents: list[StoredIntent], now: Now) -> None:
        """What an earlier life of the service left open: it goes on by itself."""
        self.state.records.update(records)
        self.work.restore(intents)
        moment = self._moment(now)
        self.work.resume(moment)
        self._patience.resume(moment)
        self._go_on(moment)

    def start_no_more(self) -> None:
        """The service stops: no conversion is started any more, no manifest begun, no logbook written to."""
        self.work.attempts.queue.most = 0
        self.work.manifests.stop()
        self.work.logbooks.stop()

    def is_ahead(self) -> bool:
        """Whether as much is decided as one commit should have, while another one is out: what comes can wait for
        it, lest one peer's flood make everybody's next commit long."""
        return self._ledger.transactions.is_ahead()

    def is_quiet(self) -> bool:
        """Whether everything that was accepted is committed and answered."""
        return self._ledger.transactions.is_quiet() and not self._ledger.peers.count

    def counts(self) -> dict[str, int]:
        """What is under way, for `get_status`."""
        peers = self._ledger.peers
        return {
            "commands_waiting": peers.count,
            "bytes_waiting": peers.bytes,
            "refused_overloaded": self.overload.refused,
            **self.work.counts(),
        }

    def expire_again(self) -> None:
        """A bite of old keys was forgotten and there may be more: go on at the next tick."""
        self._expire_due = 0.0

    # Small things

    def _moment(self, now: Now) -> Moment:
        return Moment(to_wire(now.wall), now.wall, now.mono, self._ledger.fresh)
