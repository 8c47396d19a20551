"""Marker files of runs whose parameters changed: each is written anew shortly after, until it says what is so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..rules.decision import Moment
from ..rules.work import Failed, Result
from .ledger import Ledger
from .timers import Retries
from .works import MARKER_DELAY_S, marker_order


class Markers:
    """Knows the open intents to write a run's marker. `close` hears which one is carried out."""

    def __init__(self, ledger: Ledger, close: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._close = close
        self._by_run: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._written: dict[str, bytes] = {}
        self._looking: list[tuple[str, Result | None]] = []
        self._retries = Retries()

    def has(self, run_id: str) -> bool:
        """Whether this run's marker is to be written already."""
        return run_id in self._by_run

    def add(self, intent_id: str, run_id: str) -> None:
        """An intent is open."""
        self._by_run[run_id] = intent_id
        self._runs[intent_id] = run_id

    def forget(self, intent_id: str) -> None:
        """It is open no more."""
        run_id = self._runs.pop(intent_id, None)
        # One that was taken back may have been made for a run whose earlier one is open again.
        if run_id is not None and self._by_run.get(run_id) == intent_id:
            del self._by_run[run_id]
        self._written.pop(intent_id, None)
        self._retries.forget(intent_id)

    def removed(self, run_id: str) -> None:
        """The run is gone: nothing is to be written."""
        if run_id in self._by_run:
            self._close(self._by_run[run_id])

    def give(self, intent_id: str, moment: Moment) -> None:
        """The intent is durable: write the marker soon, when more parameters may have come."""
        self._write_at(moment.mono + MARKER_DELAY_S, intent_id)

    def outcome(self, intent_id: str, result: Result, moment: Moment) -> None:
        """What came of the writing."""
        ledger, key = self._ledger, ("node", self._runs[intent_id])
        if not ledger.state.has(key):
            # Its parameters may have been set since, and the record been forgotten.
            ledger.asking.records([key])
            self._looking.append((intent_id, result))
            return
        run = ledger.state.run(key[1])
        if isinstance(result, Failed):
            self._write_at(moment.mono + self._retries.wait(intent_id), intent_id)
        elif run is not None and marker_order(run, ledger.state.places).marker != self._written.get(intent_id):
            self._write_at(moment.mono + MARKER_DELAY_S, intent_id)
        else:
            self._close(intent_id)

    def looked_up(self, moment: Moment) -> None:
        """Records came that were asked for."""
        looking, self._looking = self._looking, []
        for intent_id, result in looking:
            if intent_id not in self._runs:
                continue
            if result is None:
                self._write(intent_id)
            else:
                self.outcome(intent_id, result, moment)

    def _write_at(self, mono: float, intent_id: str) -> None:
        self._ledger.timers.at(mono, partial(self._write, intent_id))

    def _write(self, intent_id: str) -> None:
        if intent_id not in self._runs:
            return
        ledger, key = self._ledger, ("node", self._runs[intent_id])
        if not ledger.state.has(key):
            ledger.asking.records([key])
            self._looking.append((intent_id, None))
            return
        run = ledger.state.run(key[1])
        if run is None:
            self._close(intent_id)
        else:
            order = marker_order(run, ledger.state.places)
            self._written[intent_id] = order.marker
            ledger.out.orders.append((f"intent {intent_id}", order))
