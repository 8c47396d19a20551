"""Attempts of conversions: claimed, started when the claim is durable, and their results accepted once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..rules import conversions
from ..rules.conversions import Policy
from ..rules.decision import Moment
from ..rules.state import Conversion
from ..rules.work import Ended
from .ledger import Ledger
from .works import ConversionQueue, script_order

AGAIN_S = 1.0


class Attempts:
    """`is_going` says whether an acquisition, by id, is about to be removed: nothing of it is started then."""

    def __init__(self, ledger: Ledger, is_going: Callable[[str], bool], policy: Policy, max_parallel: int) -> None:
        self._ledger = ledger
        self._is_going = is_going
        self._policy = policy
        self._started: dict[str, int] = {}
        self._results: dict[str, Ended] = {}
        self._again: list[Ended] = []
        self._wake_at: float | None = None
        self.queue = ConversionQueue(max_parallel)

    def pump(self, moment: Moment) -> None:
        """Claim attempts for the conversions that may start; they start when the claim is durable."""
        while (conversion := self.queue.ready(self._ledger.state, moment.mono, self._is_going)) is not None:
            self._ledger.apply((conversions.start(conversion, moment),), moment)
        wake = self.queue.next_wake(moment.mono)
        if wake is not None and wake != self._wake_at:
            self._wake_at = wake
            self._ledger.timers.at(wake, lambda: None)

    def durable(self, conversion: Conversion) -> None:
        """A conversion's record is on the disk: if it is a claim, the script starts."""
        id = conversion.conversion_id
        self._results.pop(id, None)
        if conversion.state != "running":
            self._started.pop(id, None)
        elif self._started.get(id) != conversion.attempt:
            self._started[id] = conversion.attempt
            acq = self._ledger.state.acq(conversion.acq_id)
            if acq is not None:
                self._ledger.out.scripts.append(script_order(conversion, acq, self._ledger.state.places))

    def ended(self, result: Ended, cancel_reason: str | None, moment: Moment) -> None:
        """What came of an attempt. `cancel_reason` is None unless somebody asked for its end."""
        events = conversions.ended(self._ledger.state, result, cancel_reason, self._policy, moment)
        if events:
            self._results[result.conversion_id] = result
            self._ledger.apply(events, moment)

    def resume(self, moment: Moment) -> None:
        """Read the queue from the records again; results that were taken back are decided once more."""
        self.queue = ConversionQueue(self.queue.most)
        for record in list(self._ledger.state.records.values()):
            if isinstance(record, Conversion):
                self.queue.note(record, moment)
        for result in self._results.values():
            self._ledger.timers.at(moment.mono + AGAIN_S, partial(self._again.append, result))

    def due_again(self) -> list[Ended]:
        """Results whose transaction was taken back, after a while."""
        due = list(self._again)
        self._again.clear()
        return due
