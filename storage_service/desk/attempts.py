"""Attempts of conversions: claimed, started when the claim is durable, and their results accepted once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..rules import conversions
from ..rules.conversions import Policy
from ..rules.decision import Moment
from ..rules.state import Conversion
from ..rules.work import Ended
from .works import ConversionQueue, script_order

if TYPE_CHECKING:
    from .desk import Desk

AGAIN_S = 1.0


class Attempts:
    def __init__(self, desk: Desk, policy: Policy, max_parallel: int) -> None:
        self._desk = desk
        self._policy = policy
        self._started: dict[str, int] = {}
        self._results: dict[str, Ended] = {}
        self._again: list[Ended] = []
        self._wake_at: float | None = None
        self.queue = ConversionQueue(max_parallel)

    def pump(self, moment: Moment) -> None:
        """Claim attempts for the conversions that may start; they start when the claim is durable."""
        is_going = self._desk.work.is_going
        while (conversion := self.queue.ready(self._desk.state, moment.wall, is_going)) is not None:
            self._desk.apply((conversions.start(conversion, moment),), moment)
        wake = self.queue.next_wall(moment.wall)
        if wake is not None and wake != self._wake_at:
            self._wake_at = wake
            self._desk.timers.at(moment.mono + (wake - moment.wall), lambda: None)

    def durable(self, conversion: Conversion) -> None:
        """A conversion's record is on the disk: if it is a claim, the script starts."""
        id = conversion.conversion_id
        self._results.pop(id, None)
        if conversion.state != "running":
            self._started.pop(id, None)
        elif self._started.get(id) != conversion.attempt:
            self._started[id] = conversion.attempt
            acq = self._desk.state.acq(conversion.acq_id)
            if acq is not None:
                self._desk.out.scripts.append(script_order(conversion, acq, self._desk.state.places))

    def ended(self, result: Ended, cancel_reason: str | None, moment: Moment) -> None:
        """What came of an attempt. `cancel_reason` is None unless somebody asked for its end."""
        events = conversions.ended(self._desk.state, result, cancel_reason, self._policy, moment)
        if events:
            self._results[result.conversion_id] = result
            self._desk.apply(events, moment)

    def resume(self, moment: Moment) -> None:
        """Read the queue from the records again; results that were taken back are decided once more."""
        self.queue = ConversionQueue(self.queue.most)
        for record in list(self._desk.state.records.values()):
            if isinstance(record, Conversion):
                self.queue.note(record)
        for result in self._results.values():
            self._desk.timers.at(moment.mono + AGAIN_S, partial(self._again.append, result))

    def due_again(self) -> list[Ended]:
        """Results whose transaction was taken back, after a while."""
        due = list(self._again)
        self._again.clear()
        return due
