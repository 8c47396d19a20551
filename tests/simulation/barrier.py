"""The finish barrier once more, from the protocol's text (4.2) alone: it judges the one of the rules.

At its start an acquisition copies the registered names R and the number n = max(producers_count, |R| + unnamed).
Each name counts once. Marks without a name and names outside R fill only the n - |R| places that no name holds.
It is finished when every name of R has marked and n marks are counted; n = 0: only closing it does.
"""

from __future__ import annotations

from typing import Any


def expected(names: list[str], unnamed: int, count: int, asked: Any) -> tuple[list[str], int]:
    """R and n of an acquisition that `asked` (a `new_acq_storage`) opens, from what the storage had then."""
    if asked.producers is not None:
        names, unnamed = list(dict.fromkeys(asked.producers)), 0
    if asked.producers_count is not None:
        count, unnamed = asked.producers_count, 0
    return names, max(count, len(names) + unnamed)


class Barrier:
    """One segment's."""

    def __init__(self, names: list[str], n: int) -> None:
        self.names = names
        self.n = n
        self.marks: list[tuple[str | None, bool]] = []

    def counts(self, producer: str | None) -> bool:
        """Whether one more mark is counted."""
        marked = [name for name, _ in self.marks]
        if producer is not None and producer in marked:
            return False
        if producer in self.names:
            return True
        return sum(name not in self.names for name in marked) < self.n - len(self.names)

    @property
    def met(self) -> bool:
        return self.n > 0 and len(self.marks) >= self.n and not self.missing

    @property
    def missing(self) -> list[str]:
        marked = {name for name, _ in self.marks}
        return [name for name in self.names if name not in marked]

    @property
    def failed(self) -> list[str | None]:
        return [name for name, ok in self.marks if not ok]

    @property
    def verdict(self) -> str:
        return "complete" if (self.met or self.n == 0) and not self.failed else "partial"
