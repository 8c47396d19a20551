"""How far a part of the long tier has come, what it has found, and when it is enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Violations that a line of JSON tells of; the folder that is kept has them all.
MOST_TOLD = 20


@dataclass
class Tally:
    """One line of the summary. `found`: every violation, each with `lost:`, `doubled:` or `wrong:` before it.

    cycles        kills that were looked at; faults: of them all, those during a start too
    acknowledged  keyed commands that were answered with ok
    repeated      commands that were sent once more
    newest        the newest fault, in a few words
    seed          of what is under way, or of what has found something
    """

    promise: str
    seed: int
    cycles: int = 0
    faults: int = 0
    acknowledged: int = 0
    repeated: int = 0
    events: int = 0
    seconds: float = 0.0
    newest: str = ""
    found: list[str] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many violations are of a kind."""
        return sum(each.startswith(f"{kind}:") for each in self.found)

    @property
    def others(self) -> int:
        """Violations that are neither lost nor doubled."""
        return len(self.found) - self.count("lost") - self.count("doubled")

    def add(self, other: Tally) -> Tally:
        """The two together; the seed is the other's."""
        both = Tally(self.promise, other.seed, newest=other.newest, found=self.found + other.found)
        for name in ("cycles", "faults", "acknowledged", "repeated", "events", "seconds"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def row(self) -> dict[str, Any]:
        """As every part of the long tier tells of itself, in a line of JSON."""
        return {
            "promise": self.promise,
            "cycles": self.cycles,
            "faults": self.faults,
            "acknowledged": self.acknowledged,
            "lost": self.count("lost"),
            "doubled": self.count("doubled"),
            "wrong": self.others,
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "repeated": self.repeated,
            "events": self.events,
            "newest": self.newest,
            "found": self.found[:MOST_TOLD],
        }


@dataclass(frozen=True)
class Goal:
    """When it is enough: after so many seconds, or once all numbers that are given are reached."""

    cycles: int | None = None
    seconds: float | None = None
    acknowledged: int | None = None
    events: int | None = None

    def reached(self, tally: Tally) -> bool:
        """Whether it is enough."""
        if self.seconds is not None and tally.seconds >= self.seconds:
            return True
        pairs = [
            (self.cycles, tally.cycles),
            (self.acknowledged, tally.acknowledged),
            (self.events, tally.events),
        ]
        given = [(wanted, there) for wanted, there in pairs if wanted is not None]
        return bool(given) and all(there >= wanted for wanted, there in given)

    def after(self, tally: Tally) -> Goal:
        """What is left of it after this much."""

        def left(wanted: int | None, there: int) -> int | None:
            return None if wanted is None else max(0, wanted - there)

        seconds = None if self.seconds is None else max(0.0, self.seconds - tally.seconds)
        acknowledged = left(self.acknowledged, tally.acknowledged)
        return Goal(left(self.cycles, tally.cycles), seconds, acknowledged, left(self.events, tally.events))
