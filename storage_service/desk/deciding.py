"""One command: decided, answered from what its key brought before, or put off for a reason that it waits for.

a query                asked for once its peer's changes are durable (`asking`)
its key came before    the same reply again, or it joins the first that is at work
its scope is held      it waits for who holds it, or hears why that one is stalled
a record is missing    it is looked up
decided                accepted, refused, intended for a door, or it waits for a seal
"""

from __future__ import annotations

from storage_protocol.commands import Command
from storage_protocol.errors import Refusal

from ..rules import decide, parameters
from ..rules.decision import Accepted, Answer, Decision, Intended, Moment, Waits
from ..rules.scope import scope_of
from .batch import StoredIntent
from .keyring import AtWork, Remembered, fingerprint
from .ledger import Ledger
from .messages import Ticket
from .overload import Overload
from .residents import TRANSIENT
from .streaks import STORED, Streaks
from .work import Work


class Deciding:
    def __init__(self, ledger: Ledger, work: Work, overload: Overload) -> None:
        self._ledger = ledger
        self._work = work
        self._overload = overload
        self._streaks = Streaks(ledger)

    def in_order(self, tickets: list[Ticket], moment: Moment) -> int:
        """Decide commands of one peer, of which none waits, until one has to; how many were decided."""
        done = 0
        while done < len(tickets):
            if streak := self._streaks.decide(tickets, done, moment):
                done += streak
            elif self.attempt(tickets[done], moment):
                done += 1
            else:
                break
        return done

    def attempt(self, ticket: Ticket, moment: Moment) -> bool:
        """Decide a command, or set a query to work. False: it has to wait, or is at work."""
        request = ticket.request
        if ticket.message.room <= 0 or ticket.message.order:
            refusal = self._overload.of_replies(ticket)
            if refusal is not None:
                self._refuse(ticket, refusal)
                return True
        if not request.mutating:
            return self._ledger.asking.query(ticket, moment)
        if ticket.sealing is not None and self._work.seals.holds(ticket, moment):
            return False
        key = request.key
        if key is not None and (told := self._repeated(ticket, key, moment)) is not None:
            return told
        try:
            decision = self._decision(ticket, request.command, moment)
        except Exception as error:  # noqa: BLE001  a defect in a rule must not end the service, nor lose the reply
            decision = self._ledger.defect(error)
        if type(decision) is Accepted:
            self._accept(ticket, decision, moment)
            return not ticket.running
        match decision:
            case Intended():
                self._intend(ticket, decision, moment)
            case Waits():
                why = self._work.seals.wait(ticket, decision.acq_id, moment)
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
        scopes, state = self._ledger.scopes, self._ledger.state
        if scopes.held:
            holder = scopes.in_the_way(scope_of(state, command), ticket)
            if holder is not None:
                stalled = self._work.stalled(holder) if isinstance(holder, str) else None
                if stalled is None:
                    self._ledger.peers.wait_for(holder, ticket)
                return stalled
        needed = decide.needs(state, command)
        if not self._ledger.asking.has(needed, ticket):
            if any(key[0] in TRANSIENT for key in needed):
                scopes.hold(ticket, scope_of(state, command))
            return None
        if scopes.held:
            self._ledger.let_go(ticket)
        try:
            return decide.decide(state, command, moment, self._ledger.limits)
        finally:
            if state.nested or state.complete:
                self._ledger.residents.forget_transient(needed)

    def _accept(self, ticket: Ticket, decision: Accepted, moment: Moment) -> None:
        self._ledger.apply(decision.events, moment)
        for variable in decision.registers:
            self._ledger.batch.register(variable)
        if decision.document is not None:
            self._ledger.batch.keep(*decision.document)
        if decision.prunes_before:
            self._ledger.batch.give_up(decision.prunes_before)
        result = STORED if decision.answer is parameters.STORED else self._ledger.answer(decision.answer)
        key = ticket.request.key
        if key is not None:
            self._ledger.keyring.start(key, ticket.fingerprint)
            self._ledger.remember(key, ticket.fingerprint, result)
        self._ledger.replies.when_durable(ticket, result)

    def _intend(self, ticket: Ticket, decision: Intended, moment: Moment) -> None:
        """The command goes to a door; its ticket waits, its scope is held, its key is at work."""
        self._ledger.apply(decision.events, moment)
        key = ticket.request.key
        stored = StoredIntent(self._ledger.fresh(), decision.intent, key, ticket.fingerprint)
        if key is not None:
            self._ledger.keyring.start(key, ticket.fingerprint)
        if self._work.is_told_at_once(decision.intent):
            result = self._ledger.answer(Answer("conversion", decision.intent.conversion_id))  # type: ignore[union-attr]
            if key is not None:
                self._ledger.remember(key, ticket.fingerprint, result)
            self._work.intended(stored, None)
            self._ledger.replies.when_durable(ticket, result)
        else:
            ticket.running = True
            self._ledger.scopes.hold(stored.intent_id, scope_of(self._ledger.state, ticket.request.command))
            self._work.intended(stored, ticket)
            self._ledger.transactions.follow(ticket.message.peer)

    # Keys

    def _repeated(self, ticket: Ticket, key: str, moment: Moment) -> bool | None:
        """What becomes of a command whose key came before; None when it is the first."""
        if not ticket.fingerprint:
            ticket.fingerprint = fingerprint(ticket.request.command)
        before = self._ledger.keyring.before(key, ticket.fingerprint, moment.wall)
        if before is None:
            return None
        if isinstance(before, AtWork):
            ticket.running = True
            before.repeats.append(ticket)
            return False
        if isinstance(before, Remembered):
            # It is durable already, and waits for no batch.
            self._ledger.keyring.done(key)
            self._ledger.replies.now(ticket, before.result)
            return True
        if isinstance(before, Refusal):
            self._refuse(ticket, before)
            return True
        self._ledger.asking.wait_for_key(key, ticket)
        return False

    def _refuse(self, ticket: Ticket, refusal: Refusal) -> None:
        """Say no; whatever was held for the command is free."""
        self._ledger.let_go(ticket)
        if ticket.request.key is not None:
            self._ledger.keyring.done(ticket.request.key)
        self._ledger.replies.when_durable(ticket, refusal)
