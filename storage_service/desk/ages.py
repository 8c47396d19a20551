"""How old idempotency keys are: told by a clock that nobody can set.

A key is remembered for so many days (SPEC 5.4). The host's clock may jump: ten years ahead, and all keys would be
forgotten at once. So keys are dated by a clock of their own. It begins with the host's, goes on as the monotonic
clock does, and over a stop of the service it goes on by what the host's clock says that the stop took, but never
so far that a key which was fresh before it is forgotten within a day after it.
"""

from __future__ import annotations

DAY_S = 86_400.0


class Ages:
    """`keep_s`: how long keys are remembered. `stored`: what `stored` gave in an earlier life; (0, 0): there was
    none. All are seconds; `wall` since 1970 by the host's clock, `mono` of the monotonic clock."""

    def __init__(self, keep_s: float, stored: tuple[float, float]) -> None:
        self._keep_s = keep_s
        self._stored = stored
        self._ahead: float | None = None

    def date(self, wall: float, mono: float) -> float:
        """What is written beside a key that is made durable now."""
        if self._ahead is None:
            at, then = self._stored
            away = min(max(wall - then, 0.0), max(self._keep_s - DAY_S, 0.0))
            self._ahead = (at + away if then else wall) - mono
        return mono + self._ahead

    def oldest(self, wall: float, mono: float) -> float:
        """Keys that were dated before this may be forgotten."""
        return self.date(wall, mono) - self._keep_s

    def stored(self, wall: float, mono: float) -> tuple[float, float]:
        """For the next life: the date, and what the host's clock says at the same moment."""
        return self.date(wall, mono), wall
