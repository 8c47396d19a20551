"""The path of a command, without a socket, a thread or a clock.

    take(messages, now)      what arrived; what can be decided is decided into the open batch
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
from typing import Any

from msgspec import Struct

from storage_protocol import codec, errors
from storage_protocol.codec import Rejected
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.times import to_wire

from ..rules import decide
from ..rules.conversions import Policy
from ..rules.decision import Accepted, Answer, Decision, Intended, Moment, Waits
from ..rules.facts import AcqParamSet, Event
from ..rules.scope import scope_of
from ..rules.state import Key, Places
from ..rules.work import Ended
from .batch import Batch, Journal, StoredIntent
from .keyring import AtWork, Keyring, Remembered, fingerprint
from .ledger import Ledger
from .messages import Message, Ticket
from .patience import NAMING, Patience
from .residents import TRANSIENT
from .work import Work

MAX_WAITING = 20_000
RETRY_AFTER_S = 1.0


class Now(Struct, frozen=True):
    """`wall`: seconds since 1970, for what is told. `mono`: seconds of a clock that never jumps, for waits."""

    wall: float
    mono: float


class Desk:
    def __init__(
        self,
        *,
        places: Places,
        limits: Limits,
        policy: Policy,
        max_parallel: int,
        keys_keep_s: float,
        keyring: Keyring,
        journal: Journal,
        describe: bytes,
        fresh: Callable[[], str],
        defect: Callable[[str, Exception], None],
        manifest_kind: Callable[[str], str],
    ) -> None:
        ledger = Ledger(places, limits, keyring, journal, describe, fresh, defect, manifest_kind)
        self._ledger = ledger
        self.state = ledger.state
        self.keyring = keyring
        self.out = ledger.out
        self.work = Work(ledger, policy, max_parallel)
        self._patience = Patience(ledger)
        ledger.follow = self._follow
        self._keys_keep_s = keys_keep_s
        self._expire_due = 0.0

    # What arrives

    def take(self, messages: Iterable[tuple[Message, list[Any]]], now: Now) -> None:
        """Command messages, each with its decoded commands in order (see `open_message`)."""
        moment = self._moment(now)
        for message, requests in messages:
            self._patience.heard(message.peer, moment)
            tickets = []
            for index, request in enumerate(requests):
                if type(request) is Rejected:
                    self._ledger.replies.frame(message, index, codec.encode_refusal(request.id, request.refusal))
                else:
                    if type(request.command) in NAMING:
                        self._patience.named(message.peer, request.command, moment)
                    tickets.append(Ticket(message, index, request))
            self._begin(message, tickets, moment)
        self._pump(moment)

    def _begin(self, message: Message, tickets: list[Ticket], moment: Moment) -> None:
        """Decide what can be decided at once; the rest of the message waits."""
        done = 0
        if self._ledger.transactions.is_full():
            self._overloaded([each for each in tickets if each.request.mutating], "too much waits to be written")
            tickets = [each for each in tickets if not each.request.mutating]
        if not self._ledger.peers.waits(message.peer):
            for ticket in tickets:
                if not self._attempt(ticket, moment):
                    break
                done += 1
        rest = tickets[done:]
        if self._ledger.peers.count + len(rest) > MAX_WAITING:
            kept = sum(ticket.running for ticket in rest[:1])
            self._overloaded(rest[kept:], f"{MAX_WAITING} commands wait already")
            rest = rest[:kept]
        if rest:
            message.order = [ticket.index for ticket in rest]
            message.next = message.order[0]
            for ticket in rest:
                self._ledger.asking.ahead(ticket)
                self._ledger.peers.add(ticket)
            self._advance(message.peer, moment)

    def _overloaded(self, tickets: list[Ticket], why: str) -> None:
        refusal = errors.overloaded(RETRY_AFTER_S, f"Nothing was changed: {why}. Try again in a second.")
        for ticket in tickets:
            self._ledger.scopes.release(ticket)
            self._ledger.replies.frame(
                ticket.message, ticket.index, codec.encode_refusal(ticket.request.id, refusal)
            )

    def _advance(self, peer: bytes, moment: Moment) -> None:
        def attempt(ticket: Ticket) -> bool:
            done = self._attempt(ticket, moment)
            if done:
                self._ledger.replies.passed(ticket)
            return done

        self._ledger.peers.advance(peer, attempt)

    def _go_on(self, moment: Moment) -> None:
        """Something changed: what waited may have its turn, and conversions may start."""
        for peer in self._ledger.peers.peers():
            self._advance(peer, moment)
        self._pump(moment)

    def _pump(self, moment: Moment) -> None:
        """What follows from the state by itself: acquisitions that nobody waits for, conversions that start."""
        self._patience.look(moment)
        self.work.attempts.pump(moment)
        self.work.manifests.pump(moment)

    def _follow(self, event: Event, moment: Moment) -> None:
        """An event became true in memory."""
        if type(event.fact) is not AcqParamSet:  # by far the most, and nothing follows from it
            self.work.follow(event, moment)
            self._patience.follow(event, moment)

    # One command

    def _attempt(self, ticket: Ticket, moment: Moment) -> bool:
        """Decide a command, or set a query to work. False: it has to wait, or is at work."""
        request = ticket.request
        if not request.mutating:
            return self._ledger.asking.query(ticket, moment)
        if self.work.seals.holds(ticket, moment):
            return False
        key = request.key
        if key is not None and (told := self._repeated(ticket, key)) is not None:
            return told
        try:
            decision = self._decision(ticket, request.command, moment)
        except Exception as error:  # noqa: BLE001  a defect in a rule must not end the service, nor lose the reply
            decision = self._ledger.defect(error)
        match decision:
            case Accepted():
                self._accept(ticket, decision, moment)
            case Intended():
                self._intend(ticket, decision)
            case Waits():
                why = self.work.seals.wait(ticket, decision.acq_id, moment)
                if why is not None:
                    self._refuse(ticket, why)
                return why is not None
            case Refusal():
                self._refuse(ticket, decision)
            case None:
                return False
        return not ticket.running

    def _decision(self, ticket: Ticket, command: Command, moment: Moment) -> Decision | None:
        """What the rules say; None when the command has to wait for an intent, or for what is being looked up."""
        if self._ledger.scopes:
            holder = self._ledger.scopes.in_the_way(scope_of(self.state, command), ticket)
            if holder is not None:
                return self.work.stalled(holder) if isinstance(holder, str) else None
        needed = decide.needs(self.state, command)
        if not self._ledger.asking.has(needed):
            if any(key[0] in TRANSIENT for key in needed):
                self._ledger.scopes.hold(ticket, scope_of(self.state, command))
            return None
        self._ledger.scopes.release(ticket)
        try:
            return decide.decide(self.state, command, moment, self._ledger.limits)
        finally:
            self._ledger.residents.forget_transient()

    def _accept(self, ticket: Ticket, decision: Accepted, moment: Moment) -> None:
        self._ledger.apply(decision.events, moment)
        result = self._ledger.answer(decision.answer)
        key = ticket.request.key
        if key is not None:
            self.keyring.start(key, ticket.fingerprint)
            self._ledger.remember(key, ticket.fingerprint, result)
        self._ledger.replies.when_durable(ticket, result)

    def _intend(self, ticket: Ticket, decision: Intended) -> None:
        """The command goes to a door; its ticket waits, its scope is held, its key is at work."""
        key = ticket.request.key
        stored = StoredIntent(self._ledger.fresh(), decision.intent, key, ticket.fingerprint)
        if key is not None:
            self.keyring.start(key, ticket.fingerprint)
        if self.work.is_told_at_once(decision.intent):
            result = self._ledger.answer(Answer("conversion", decision.intent.conversion_id))  # type: ignore[union-attr]
            if key is not None:
                self._ledger.remember(key, ticket.fingerprint, result)
            self.work.intended(stored, None)
            self._ledger.replies.when_durable(ticket, result)
        else:
            ticket.running = True
            self._ledger.scopes.hold(stored.intent_id, scope_of(self.state, ticket.request.command))
            self.work.intended(stored, ticket)
            self._ledger.transactions.follow(ticket.message.peer)

    # Keys

    def _repeated(self, ticket: Ticket, key: str) -> bool | None:
        """What becomes of a command whose key came before; None when it is the first."""
        if not ticket.fingerprint:
            ticket.fingerprint = fingerprint(ticket.request.command)
        before = self.keyring.before(key, ticket.fingerprint)
        if before is None:
            return None
        if isinstance(before, AtWork):
            ticket.running = True
            before.repeats.append(ticket)
            return False
        if isinstance(before, Remembered):
            # It is durable already, and waits for no batch.
            self.keyring.done(key)
            self._ledger.replies.now(ticket, before.result)
            return True
        if isinstance(before, Refusal):
            self._refuse(ticket, before)
            return True
        self._ledger.asking.key(key)
        return False

    def answered(self, ticket: Ticket, result: bytes | Refusal, now: Now) -> None:
        """A query's result, as msgpack, or why there is none."""
        self._ledger.replies.now(ticket, result)
        self._advance(ticket.message.peer, self._moment(now))

    # Records that are not in memory

    def looked_up(self, found: Iterable[tuple[Key, Any]], now: Now) -> None:
        """What the store has of the keys that were asked for."""
        self._ledger.asking.looked_up(found)
        moment = self._moment(now)
        self.work.advance(moment)
        self._go_on(moment)
        self._ledger.residents.forget_transient()

    # The transaction

    def cut(self) -> Batch | None:
        """Close the open batch, to be committed. None when one is out already, or there is nothing to commit."""
        return self._ledger.transactions.cut()

    def committed(self, batch: Batch, now: Now, forgotten_ms: int = 0) -> None:
        """The batch is durable."""
        self._ledger.transactions.committed(batch)
        self.keyring.forgotten_ms = max(self.keyring.forgotten_ms, forgotten_ms)
        self.out.events += batch.rows
        for ticket, result in batch.replies:
            self._ledger.replies.now(ticket, result)
        for key, _, result in batch.keys:
            for repeat in self.keyring.committed(key):
                self._ledger.replies.now(repeat, result)
        moment = self._moment(now)
        self.work.committed(batch, moment)
        self._go_on(moment)
        self._ledger.residents.evict(lambda: self.work.pinned() | self._ledger.transactions.uncommitted_keys())

    def rolled_back(self, batch: Batch, why: str, now: Now) -> None:
        """The batch is not durable, for certain: it and all that was decided on top of it never happened."""
        refusal = errors.unavailable(
            why, f"The database could not keep it ({why}); nothing was changed. Try again."
        )
        for lost in self._ledger.transactions.rolled_back(batch):
            for ticket, _ in lost.replies:
                self._ledger.replies.now(ticket, refusal)
            for key, _, _ in lost.keys:
                self._ledger.replies.to_repeats(key, refusal)
            self.work.rolled_back(lost, refusal)
        moment = self._moment(now)
        self.work.resume(moment)
        self._patience.resume(moment)
        self._go_on(moment)

    def _refuse(self, ticket: Ticket, refusal: Refusal) -> None:
        """Say no; whatever was held for the command is free."""
        self._ledger.scopes.release(ticket)
        if ticket.request.key is not None:
            self.keyring.done(ticket.request.key)
        self._ledger.replies.when_durable(ticket, refusal)

    # Outcomes and time

    def outcome(self, work_id: str, result: Any, now: Now) -> None:
        """What came of an order that `out.orders` gave out."""
        moment = self._moment(now)
        self.work.outcome(work_id, result, moment)
        self._go_on(moment)

    def ended(self, result: Ended, now: Now) -> None:
        """An attempt of a conversion is over."""
        moment = self._moment(now)
        self.work.ended(result, moment)
        self._go_on(moment)

    def tick(self, now: Now) -> None:
        """Time passed: do what is due."""
        for what in self._ledger.timers.due(now.mono):
            what()
        if now.mono >= self._expire_due:
            self._expire_due = now.mono + 60.0
            self._ledger.batch.expire_keys_before = now.wall - self._keys_keep_s
        moment = self._moment(now)
        self.work.end_again(moment)
        self._go_on(moment)

    def next_tick(self) -> float:
        """When `tick` is due, on the monotonic clock."""
        due = self._ledger.timers.next()
        return self._expire_due if due is None else min(due, self._expire_due)

    def restore(self, records: Iterable[tuple[Key, Any]], intents: list[StoredIntent], now: Now) -> None:
        """What an earlier life of the service left open: it goes on by itself."""
        self.state.records.update(records)
        self.work.restore(intents)
        moment = self._moment(now)
        self.work.resume(moment)
        self._patience.resume(moment)
        self._go_on(moment)

    def start_no_more(self) -> None:
        """The service stops: no conversion is started any more, and no manifest begun."""
        self.work.attempts.queue.most = 0
        self.work.manifests.stop()

    def is_quiet(self) -> bool:
        """Whether everything that was accepted is committed and answered."""
        return self._ledger.transactions.is_quiet() and not self._ledger.peers.count

    def counts(self) -> dict[str, int]:
        """What is under way, for `get_status`."""
        return {"commands_waiting": self._ledger.peers.count, **self.work.counts()}

    def expire_again(self) -> None:
        """A bite of old keys was forgotten and there may be more: go on at the next tick."""
        self._expire_due = 0.0

    # Small things

    def _moment(self, now: Now) -> Moment:
        return Moment(to_wire(now.wall), now.wall, now.mono, self._ledger.fresh)
