"""When something is to be done later: on the monotonic clock, which never jumps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0


class Timers:
    """Things to do at a time of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what))

    def due(self, mono: float) -> Iterator[Callable[[], None]]:
        while self._heap and self._heap[0][0] <= mono:
            yield heapq.heappop(self._heap)[2]

    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None


class Retries:
    """How long to wait before the same work is tried once more: doubled each time."""

    def __init__(self) -> None:
        self._waits: dict[str, float] = {}

    def wait(self, work: str) -> float:
        wait = self._waits.get(work, FIRST_RETRY_S)
        self._waits[work] = min(wait * 2, LAST_RETRY_S)
        return wait

    def is_first(self, work: str) -> bool:
        return work not in self._waits

    def forget(self, work: str) -> None:
        self._waits.pop(work, None)
