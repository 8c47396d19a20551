"""What was told of logbooks: that one fails, and that it takes entries again, each once.

It survives nothing, as what is told of mount points (`space.py`): a start tells anew what still fails. A level
counts as told when its event is durable.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..rules import logbooks
from ..rules.decision import Moment
from ..rules.facts import Event
from .batch import Batch
from .ledger import Ledger


class LogbookLevels:
    """Which entries of each logbook fail, and why; what of that was told, and is durable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._failing: dict[str, dict[str, str]] = {}  # by logbook and id: the newest message
        self._warned: dict[str, set[str]] = {}  # failing logbooks, with the storages that were warned of it
        self._durable: dict[str, set[str]] = {}
        self._telling: list[tuple[int, dict[str, set[str]]]] = []

    def of(self, logbook: str) -> dict[str, str | None]:
        """The state of a logbook, and why it fails, for `get_status`."""
        reasons = self._failing.get(logbook)
        return {
            "state": "failed" if reasons else "ok",
            "reason": next(iter(reasons.values())) if reasons else None,
        }

    def failed(self, logbook: str, storage_id: str, id: str, message: str, moment: Moment) -> None:
        """An entry (empty: a look) failed. The first failure is told, and to each storage once a warning."""
        self._failing.setdefault(logbook, {})[id] = message
        events = list[Event]()
        if logbook not in self._warned:
            events.append(logbooks.failed(logbook, message))
        if storage_id not in self._warned.get(logbook, ()):
            events += logbooks.warned(self._ledger.state, storage_id, message)
            self._warned.setdefault(logbook, set()).add(storage_id)
        self._tell(events, moment)

    def well(self, logbook: str, id: str, moment: Moment) -> None:
        """An entry was accepted. When no other one fails, a logbook that was told to have failed has recovered."""
        reasons = self._failing.get(logbook, {})
        for gone in [other for other in reasons if other in ("", id) or not self._is_owed(logbook, other)]:
            del reasons[gone]
        if not reasons and self._warned.pop(logbook, None) is not None:
            self._tell((logbooks.recovered(logbook),), moment)

    def _is_owed(self, logbook: str, id: str) -> bool:
        owed = self._ledger.state.owed(id)
        return owed is not None and owed.logbook == logbook

    def _tell(self, events: Iterable[Event], moment: Moment) -> None:
        told = tuple(events)
        if told:
            self._ledger.apply(told, moment)
            now = {logbook: set(storages) for logbook, storages in self._warned.items()}
            self._telling.append((self._ledger.batch.number, now))

    def committed(self, batch: Batch) -> None:
        while self._telling and self._telling[0][0] <= batch.number:
            _, self._durable = self._telling.pop(0)

    def rolled_back(self) -> None:
        """All that is not durable was never told."""
        self._telling.clear()
        self._warned = {logbook: set(storages) for logbook, storages in self._durable.items()}
