"""Readings of variables and configurations: the start's of each acquisition, and the end's when it has ended."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from ..rules import readings
from ..rules.decision import Moment
from ..rules.readings import Reading, ReadingsTaken
from ..rules.state import Acq
from .ledger import Ledger
from .timers import Retries


class Readings:
    """Which readings are under way; the state says which are owed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: dict[str, str] = {}
        # What was read at an end whose configuration cannot be written yet, and when: it stays what it was.
        self._kept: dict[str, tuple[dict[str, Reading], Moment]] = {}
        self._retries = Retries()

    @property
    def count(self) -> int:
        return len(self._under_way)

    def give(self, acq: Acq, moment: Moment) -> None:
        """Have a durable acquisition read, if it is due and not being read already.

        What is durable may be behind what is decided: a later transaction has its say then."""
        newest = self._owing(acq.node_id)
        if newest is None or (newest.reads, newest.state) != (acq.reads, acq.state):
            return
        if not readings.is_due(acq) or acq.node_id in self._under_way:
            return
        if acq.reads == readings.START and acq.state != "open":
            self._ledger.apply(readings.too_late(acq, moment), moment)
            return
        self._under_way[acq.node_id] = acq.reads
        order = readings.order(self._ledger.state, acq)
        if acq.node_id in self._kept:
            order = replace(order, names=())
        self._ledger.out.readings.append((f"readings {acq.node_id}", order))

    def outcome(self, acq_id: str, result: ReadingsTaken, moment: Moment) -> None:
        """Read, with what is missing; a configuration that the end cannot write is tried again until it can."""
        when = self._under_way.get(acq_id)
        acq = self._owing(acq_id)
        if acq is None or acq.reads != when:
            self._under_way.pop(acq_id, None)
        elif result.again and when == readings.END:
            self._kept.setdefault(acq_id, (result.readings, moment))
            if self._retries.is_first(acq_id):
                self._ledger.apply((readings.warning(acq, result.again),), moment)
            again = moment.mono + self._retries.wait(acq_id)
            self._ledger.timers.at(again, partial(self._give_again, acq_id, moment))
        else:
            del self._under_way[acq_id]
            self._retries.forget(acq_id)
            read, when_read = self._kept.pop(acq_id, (result.readings, moment))
            taken = readings.taken(acq, replace(result, readings=read), when_read)
            self._ledger.apply(taken, moment)

    def _give_again(self, acq_id: str, moment: Moment) -> None:
        self._under_way.pop(acq_id, None)
        acq = self._owing(acq_id)
        if acq is not None:
            self.give(acq, moment)

    def _owing(self, acq_id: str) -> Acq | None:
        state = self._ledger.state
        acq = state.acq(acq_id) if state.has(("node", acq_id)) else None
        return acq if acq is not None and acq.reads else None
