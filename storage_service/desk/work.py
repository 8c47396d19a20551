"""What is under way outside, and what its outcome does: intents, seals, marker files, conversions.

Everything that is given to a door is durable before. Everything that a door says is decided and committed like a
command. After a restart, or a batch that was taken back, all of it is read from the records again.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from storage_protocol import errors
from storage_protocol.errors import Refusal

from ..rules import decide, facts
from ..rules.conversions import Policy
from ..rules.decision import (
    Accepted,
    AcqIntent,
    CancelIntent,
    ConfigIntent,
    EmptyIntent,
    Intended,
    Intent,
    LookIntent,
    MarkerIntent,
    Moment,
    RebuildIntent,
    RestoreIntent,
    RunIntent,
    Undone,
)
from ..rules.facts import Event
from ..rules.rebuild_work import Found
from ..rules.scope import scope_of_intent
from ..rules.state import Acq, Conversion
from ..rules.work import Ended, Failed
from .attempts import Attempts
from .batch import Batch, StoredIntent
from .intents import OpenIntent
from .ledger import Ledger
from .logbooks import Logbooks
from .manifests import Manifests
from .markers import Markers
from .messages import Ticket
from .peers import SEALING
from .readings import Readings
from .seals import Seals
from .timers import Retries


class Work:
    def __init__(self, ledger: Ledger, policy: Policy, max_parallel: int) -> None:
        self._ledger = ledger
        self._intents: dict[str, OpenIntent] = {}
        self._markers = Markers(ledger, self._close)
        self._cancels: dict[str, tuple[str, str]] = {}
        self.seals = Seals(ledger)
        self.readings = Readings(ledger)
        self._parked: list[tuple[str, Any]] = []
        self._closed: dict[str, OpenIntent] = {}
        self._retries = Retries()
        self.attempts = Attempts(ledger, self.is_going, policy, max_parallel)
        self.manifests = Manifests(ledger, self.is_going)
        self.logbooks = Logbooks(ledger)

    # From the path of a command

    @staticmethod
    def is_told_at_once(intent: Intent) -> bool:
        """Whether the reply does not wait for the outcome: a running conversion that is cancelled still runs."""
        return isinstance(intent, CancelIntent)

    def stalled(self, intent_id: str) -> Refusal | None:
        """Why an intent could not be carried out for now; what collides with it is refused, not kept waiting. Nor
        is what collides with a rebuild, which may take hours."""
        each = self._intents.get(intent_id)
        if each is not None and isinstance(each.stored.intent, RebuildIntent):
            mp = each.stored.intent.order.mp
            return errors.unavailable(
                "busy", f"The RunDB is being rebuilt from {mp}; try again when that is done."
            )
        return each.stalled if each is not None else None

    def intended(self, stored: StoredIntent, ticket: Ticket | None) -> None:
        """A new intent goes into the open batch."""
        intent = stored.intent
        if isinstance(intent, CancelIntent):
            if intent.conversion_id in self._cancels:
                return
            self._cancels[intent.conversion_id] = (stored.intent_id, intent.reason)
        if isinstance(intent, MarkerIntent):
            self._markers.add(stored.intent_id, intent.run_id)
        self._intents[stored.intent_id] = OpenIntent(stored, ticket)
        self._ledger.batch.intents[stored.intent_id] = stored
        if isinstance(intent, RunIntent | AcqIntent) and intent.removes:
            for conversion in self._below(intent):
                cancel = CancelIntent(conversion.conversion_id, "removed")
                self.intended(StoredIntent(self._ledger.fresh(), cancel), None)

    def follow(self, event: Event, moment: Moment) -> None:
        """An event became true: what follows from it outside."""
        fact = event.fact
        self.manifests.follow(event)
        self.logbooks.follow(event)
        conversion = getattr(fact, "conversion", None)
        if isinstance(conversion, Conversion):
            self.attempts.queue.note(conversion, moment)
        elif isinstance(fact, facts.RunParamSet):
            self._write_marker(fact.run_id)
        elif isinstance(fact, facts.RunRemoved):
            self._markers.removed(fact.run_id)

    def _write_marker(self, run_id: str) -> None:
        if not self._markers.has(run_id):
            self.intended(StoredIntent(self._ledger.fresh(), MarkerIntent(run_id)), None)

    def is_going(self, acq_id: str) -> bool:
        """Whether an open intent removes this acquisition: nothing of it is started then."""
        return any(f"{acq_id}/".startswith(f"{_node_of(each)}/") for each in self._removals())

    def _removals(self) -> list[RunIntent | AcqIntent]:
        intents = (each.stored.intent for each in self._intents.values())
        return [each for each in intents if isinstance(each, RunIntent | AcqIntent) and each.removes]

    def _below(self, intent: RunIntent | AcqIntent) -> list[Conversion]:
        """The running conversions of what an intent removes."""
        node = _node_of(intent)
        running = (self._ledger.state.conversion(id) for id in self.attempts.queue.running)
        return [each for each in running if each and f"{each.acq_id}/".startswith(f"{node}/")]

    # From the transaction

    def committed(self, batch: Batch, moment: Moment) -> None:
        """What became durable may be given to the doors."""
        for intent_id, stored in batch.intents.items():
            if stored is None:
                self._closed.pop(intent_id, None)
                self._ledger.let_go(intent_id)
            elif intent_id in self._intents:
                self._intents[intent_id].durable = True
                self._intents[intent_id].before = None
                self._give(intent_id, moment)
            elif intent_id in self._closed:
                self._closed[intent_id].durable = True
        for record in batch.records.values():
            if isinstance(record, Acq):
                self.readings.give(record, moment)
                self.seals.give(record)
            elif isinstance(record, Conversion):
                self.attempts.durable(record)
        for intent_id, each in list(self._intents.items()):
            if isinstance(each.stored.intent, RunIntent | AcqIntent) and each.stored.intent.removes:
                self._give(intent_id, moment)
        self.manifests.committed(batch)
        self.logbooks.committed(batch)

    def rolled_back(self, batch: Batch, refusal: Refusal, moment: Moment) -> None:
        """Forget the intents that never were; `resume` takes up what is true again.

        An intent whose outcome is lost for the second time stalls: what collides with it is not kept waiting for
        as long as the database takes nothing.
        """
        for intent_id, stored in batch.intents.items():
            each = self._intents.get(intent_id)
            if stored is None:
                # Its outcome is lost: `_close` kept it, so that the door is asked once more.
                lost = self._closed.pop(intent_id, None)
                if lost is not None and not lost.durable:
                    self._ledger.let_go(intent_id)
                elif lost is not None:
                    lost.ticket, lost.at_door = None, False
                    lost.lost += 1
                    self._take_up(lost)
                    if lost.lost > 1:
                        self._stall(intent_id, lost, refusal, moment)
            elif each is not None and not each.durable:
                if each.ticket is not None:
                    self._ledger.replies.now(each.ticket, refusal)
                    each.ticket = None
                if each.before is not None:
                    each.stored, each.before, each.durable = each.before, None, True
                    continue
                self._forget(intent_id)
                self._ledger.let_go(intent_id)
                if stored.key is not None:
                    self._ledger.replies.to_repeats(stored.key, refusal)

    def restore(self, intents: list[StoredIntent]) -> None:
        """The open intents of an earlier life of the service."""
        for stored in intents:
            self._take_up(OpenIntent(stored, None, durable=True))

    def _take_up(self, each: OpenIntent) -> None:
        """A durable intent is open (again): its scope is held, and a repeat of its key joins it."""
        stored, intent = each.stored, each.stored.intent
        self._intents[stored.intent_id] = each
        if isinstance(intent, CancelIntent):
            self._cancels[intent.conversion_id] = (stored.intent_id, intent.reason)
        elif isinstance(intent, MarkerIntent):
            self._markers.add(stored.intent_id, intent.run_id)
        else:
            self._ledger.scopes.hold(stored.intent_id, scope_of_intent(intent))
            if stored.key is not None:
                self._ledger.keyring.start(stored.key, stored.fingerprint)

    def resume(self, moment: Moment) -> None:
        """Take up everything that the records say is to be done and that no door has."""
        self.attempts.resume(moment)
        self.manifests.resume()
        self.logbooks.resume()
        for record in list(self._ledger.state.records.values()):
            if isinstance(record, Acq):
                self.readings.give(record, moment)
                self.seals.give(record)
        for intent_id in list(self._intents):
            self._give(intent_id, moment)

    # To the doors

    def _give(self, intent_id: str, moment: Moment) -> None:
        each = self._intents.get(intent_id)
        if each is None or each.at_door or not each.durable or each.stalled is not None:
            return
        intent, out = each.stored.intent, self._ledger.out
        match intent:
            case CancelIntent():
                each.at_door = True
                out.cancels.append(intent.conversion_id)
            case MarkerIntent():
                each.at_door = True
                self._markers.give(intent_id, moment)
            case ConfigIntent() | LookIntent() | RestoreIntent() | EmptyIntent() | RebuildIntent():
                each.at_door = True
                out.orders.append((f"intent {intent_id}", intent.order))
            case RunIntent() | AcqIntent():
                if not (intent.removes and self._below(intent)):
                    each.at_door = True
                    out.orders.append((f"intent {intent_id}", intent.order))

    # From the doors

    def outcome(self, work_id: str, result: Any, moment: Moment) -> None:
        """What came of an order."""
        kind, _, id = work_id.partition(" ")
        if kind == "seal":
            self.seals.outcome(id, result, moment)
            self._ledger.peers.came(SEALING)
        elif kind == "readings":
            self.readings.outcome(id, result, moment)
        elif kind == "manifest":
            self.manifests.outcome(id, result, moment)
        elif kind == "entry":
            self.logbooks.outcome(id, result, moment)
        elif kind == "logbook":
            self.logbooks.looked(id, result, moment)
        elif id in self._intents:
            intent = self._intents[id].stored.intent
            if isinstance(intent, MarkerIntent):
                self._markers.outcome(id, result, moment)
            else:
                self._settle(id, result, moment)

    def advance(self, moment: Moment) -> None:
        """Records were looked up: outcomes that waited for them go on."""
        parked, self._parked = self._parked, []
        for intent_id, result in parked:
            if intent_id in self._intents:
                self._settle(intent_id, result, moment)
        self._markers.looked_up(moment)

    def _settle(self, intent_id: str, result: Any, moment: Moment) -> None:
        ledger, each = self._ledger, self._intents[intent_id]
        intent, key = each.stored.intent, each.stored.key
        needed = decide.needs_to_settle(ledger.state, intent, result)
        missing = [need for need in needed if not ledger.state.has(need)]
        if missing:
            ledger.asking.records(missing)
            self._parked.append((intent_id, result))
            return
        if self._must_go_on(intent, result):
            self._stall(intent_id, each, Refusal(result.code, result.message, result.details), moment)
            return
        if isinstance(result, Found):
            result = replace(result, busy=ledger.scopes.busy(result.ids(), intent_id))
        try:
            decision = decide.settle(ledger.state, intent, result, moment, ledger.limits)
        except Exception as error:  # noqa: BLE001  a defect in a rule must not end the service, nor lose the reply
            decision = ledger.defect(error)
        if isinstance(decision, Intended) and not ledger.scopes.widen(intent_id, scope_of_intent(decision.intent)):
            decision = errors.unavailable("busy", "Something is under way in the same place; try again.")
        if isinstance(decision, Intended):
            ledger.apply(decision.events, moment)
            each.before = each.stored
            each.stored = StoredIntent(intent_id, decision.intent, key, each.stored.fingerprint)
            each.durable = each.at_door = False
            ledger.batch.intents[intent_id] = each.stored
            ledger.residents.forget_transient(needed)
            return
        answer: Any = decision
        if isinstance(decision, Undone):
            answer = decision.refusal
            ledger.apply(decision.events, moment)
            if decision.marker is not None:
                self._write_marker(decision.marker)
        if isinstance(decision, Accepted):
            ledger.apply(decision.events, moment)
            answer = ledger.answer(decision.answer)
            if key is not None:
                ledger.remember(key, each.stored.fingerprint, answer)
        self._close(intent_id)
        ledger.residents.forget_transient(needed)
        if each.ticket is not None:
            ledger.replies.when_durable(each.ticket, answer)
        if key is not None and isinstance(answer, Refusal):
            at_work = ledger.keyring.at_work.pop(key, None)
            ledger.batch.replies += [(repeat, answer) for repeat in (at_work.repeats if at_work else ())]

    @staticmethod
    def _must_go_on(intent: Intent, result: Any) -> bool:
        """Whether a failure may have left something half done: what is removed may be in the trash already."""
        moves = isinstance(intent, RestoreIntent | EmptyIntent) or getattr(intent, "removes", False)
        return moves and isinstance(result, Failed) and result.code == "unavailable"

    def _stall(self, intent_id: str, each: OpenIntent, refusal: Refusal, moment: Moment) -> None:
        """Who waits is told; the intent is carried out as soon as the outside world lets it."""
        each.stalled, each.at_door = refusal, False
        if each.ticket is not None:
            self._ledger.replies.now(each.ticket, refusal)
            each.ticket = None
        at_work = self._ledger.keyring.at_work.get(each.stored.key or "")
        if at_work is not None:
            repeats, at_work.repeats = at_work.repeats, []
            for repeat in repeats:
                self._ledger.replies.now(repeat, refusal)
        self._ledger.peers.came(intent_id)

        def again() -> None:
            each.stalled = None
            self._give(intent_id, moment)

        self._ledger.timers.at(moment.mono + self._retries.wait(intent_id), again)

    def ended(self, result: Ended, moment: Moment) -> None:
        """An attempt is over: its result is accepted once, and what asked for its end is done."""
        intent_id, reason = self._cancels.get(result.conversion_id, ("", None))
        self.attempts.ended(result, reason, moment)
        if intent_id:
            self._close(intent_id)

    def end_again(self, moment: Moment) -> None:
        """Results whose transaction was taken back are decided once more."""
        for result in self.attempts.due_again():
            self.ended(result, moment)

    # Small things

    def _close(self, intent_id: str) -> None:
        """The intent is carried out: it goes with the open batch, and its scope when that is durable."""
        each = self._intents.get(intent_id)
        if each is not None:
            self._closed[intent_id] = each
            self._forget(intent_id)
            self._ledger.batch.intents[intent_id] = None

    def _forget(self, intent_id: str) -> None:
        each = self._intents.pop(intent_id, None)
        self._retries.forget(intent_id)
        self._markers.forget(intent_id)
        if each is None:
            return
        intent = each.stored.intent
        if isinstance(intent, CancelIntent):
            self._cancels.pop(intent.conversion_id, None)

    def is_cancelled(self, conversion_id: str) -> bool:
        """Whether a client asked for this conversion to be ended, before it had started."""
        return conversion_id in self._cancels

    def counts(self) -> dict[str, int]:
        """What is under way, for `get_status`."""
        intents = [each.stored.intent for each in self._intents.values()]
        return {
            "intents": len(intents),
            "readings": self.readings.count,
            "rebuild_folders": sum(each.folders for each in intents if isinstance(each, RebuildIntent)),
            "seals": self.seals.count,
            "manifests": self.manifests.count,
            "entries": self.logbooks.count,
            "conversions_queued": len(self.attempts.queue.queued),
            "conversions_running": len(self.attempts.queue.running),
        }


def _node_of(intent: RunIntent | AcqIntent) -> str:
    return intent.run.node_id if isinstance(intent, RunIntent) else intent.acq.node_id
