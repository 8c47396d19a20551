"""Many lives, and what they came to."""

from __future__ import annotations

from collections import Counter

from storage_service.rules.lifecycle import TABLES

from .life import life
from .world import World


def live(seed: int) -> World:
    """One whole life. Raises what broke, with the words that show it again."""
    world = World(life(seed))
    try:
        return world.live()
    except Exception as error:
        error.add_note(f"again: python -m tests.simulation --replay {seed}")
        raise


class Campaign:
    """What all lives together came to."""

    def __init__(self) -> None:
        self.lives = self.steps = self.acknowledged = 0
        self.faults: Counter[str] = Counter()
        self.arrows: Counter[tuple[str, str, str, str]] = Counter()
        self.broken: Counter[str] = Counter()
        self.manifests: Counter[str] = Counter()
        self.readings: Counter[str] = Counter()

    def add(self, world: World) -> None:
        self.lives += 1
        self.steps += world.steps
        self.acknowledged += world.asked.acknowledged
        self.faults += world.faults
        self.arrows += world.journal.arrows
        self.manifests += world.hashers.came
        self.readings += world.outside.came

    def never(self) -> list[str]:
        """Rows of the tables that no life went through."""
        return [
            f"{what}: {row.state} | {row.trigger} | {row.guard}"
            for what, rows in TABLES.items()
            for row in rows
            if not self.arrows[what, row.state, row.trigger, row.guard]
        ]
