"""Which variables are told of, and when (SPEC 4.3.5): each name at most ten times a second, and its newest value.

A variable is told at once if its name was quiet for a tenth of a second. What it becomes within that time waits
for the end of it, and only the newest is told: nobody misses how a variable ends, and no loop floods the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..rules.state import Key, Variable

QUIET_S = 0.1


class Telling:
    """Variables that are durable. `_told` has those that were told of within `QUIET_S`, oldest first, and when."""

    def __init__(self) -> None:
        self._told: dict[Key, float] = {}
        self._waiting: dict[Key, Variable] = {}

    def changed(self, variables: Iterable[Variable], mono: float) -> list[Variable]:
        """These are durable now; those of them that are told of at once."""
        at_once = []
        for variable in variables:
            key = variable.key
            if key in self._told:
                self._waiting[key] = variable
            else:
                self._told[key] = mono
                at_once.append(variable)
        return at_once

    def due(self, mono: float) -> list[Variable]:
        """Those that have waited long enough."""
        found = []
        for key, at in list(self._told.items()):
            if at + QUIET_S > mono:
                break
            del self._told[key]
            variable = self._waiting.pop(key, None)
            if variable is not None:
                self._told[key] = mono
                found.append(variable)
        return found

    def rest(self) -> list[Variable]:
        """All that waits, at the end of the service."""
        found, self._waiting = list(self._waiting.values()), {}
        return found

    def next(self) -> float | None:
        """When `due` has something to do, on the monotonic clock."""
        return next(iter(self._told.values())) + QUIET_S if self._told else None
