"""What was told of the mount points. It survives nothing: at a start the first look that is bad tells it once.

A level counts as told when its event is durable. What a roll-back takes with it is told again by the next look.
"""

from __future__ import annotations

from ..rules.decision import Moment
from ..rules.space import WELL, Look, level, told
from .batch import Batch
from .ledger import Ledger


class Space:
    """The level of each mount point: as it is told, and as that is durable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._levels: dict[str, str] = {}
        self._durable: dict[str, str] = {}
        self._telling: list[tuple[int, str, str]] = []

    def looked(self, look: Look, moment: Moment) -> None:
        """A look at a mount point: if that changes its level, tell it."""
        before = self._levels.get(look.mp, WELL)
        now = level(before, look)
        events = told(before, now, look)
        if events:
            self._ledger.apply(events, moment)
            self._levels[look.mp] = now
            self._telling.append((self._ledger.batch.number, look.mp, now))

    def committed(self, batch: Batch) -> None:
        while self._telling and self._telling[0][0] <= batch.number:
            _, mp, now = self._telling.pop(0)
            self._durable[mp] = now

    def rolled_back(self) -> None:
        """All that is not durable was never told."""
        self._telling.clear()
        self._levels = dict(self._durable)
