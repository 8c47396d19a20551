"""A look at everything: nothing is at work, and journal, answers, folders and processes are held side by side."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from pathlib import Path

from tests.support.polling import within
from tests.support.service import Service, alive
from tests.support.wire import Wire
from tests.torture import reading, verdicts
from tests.torture.asked import Asked
from tests.torture.fold import Fold

QUIET_S = 60.0
# A marker file follows a change of its run shortly after.
MARKERS_S = 10.0


class Look:
    """What the looks at one service have in common. `fold`: its journal, as far as it was read.

    tallies  the folder in which the scripts keep their account
    written  name of each data file that a client wrote, and what it holds
    """

    def __init__(self, service: Service, tallies: Path, seed: int) -> None:
        self.service = service
        self.tallies = tallies
        self.written: dict[str, str] = {}
        self.fold = Fold()
        self._chance = random.Random(f"look {seed}")
        self._log_read = 0

    def compare(self, book: Mapping[int, Asked], unsure: set[int], orders: list[Mapping[int, Asked]]) -> list[str]:
        """What is lost, doubled or wrong.

        book    every keyed command by its id
        unsure  those of which more copies may have come than were sent
        orders  the books whose ticks are of one clock
        """
        fold = self.fold
        with self.service.connect() as wire:
            if left := _stuck(wire):
                return [f"lost: nothing happens for {QUIET_S} s, and this is still to be done: {left[:3]}"]
            reading.follow(wire, fold)
            told = reading.Told(wire, fold.runs)
            found = reading.differences(fold, told)
            found += reading.in_detail(wire, fold, told, self._chance)
            found += self._on_disk(told)
        found += fold.wrong + verdicts.effects(book, unsure, fold) + verdicts.ends(book, fold)
        for one in orders:
            found += verdicts.order(one, unsure, fold)
        found += verdicts.conversions(fold, self.tallies)
        if survivors := self.at_work():
            found.append(f"wrong: nothing is at work, and processes of conversions live: {survivors}")
        return found + self._log()

    def at_work(self) -> list[int]:
        """The processes that live below conversions."""
        return sorted(_alive_with(f"TALLY={self.tallies}"))

    def read_anew(self) -> list[str]:
        """The journal read from its begin is the one that was read bit by bit."""
        again = Fold()
        with self.service.connect() as wire:
            reading.follow(wire, again)
        return [] if again.rows == self.fold.rows else ["wrong: the journal has changed since it was read"]

    def _on_disk(self, told: reading.Told) -> list[str]:
        wrong: list[str] = []

        def is_right() -> bool:
            wrong[:] = reading.on_disk(told, self.service.mount, self.written)
            return not wrong

        within(MARKERS_S, is_right, every_s=0.2)
        return wrong

    def _log(self) -> list[str]:
        """Tracebacks in what was logged since the last look."""
        with self.service.log.open("rb") as log:
            log.seek(self._log_read)
            text = log.read().decode(errors="replace")
            self._log_read = log.tell()
        if "Traceback" not in text:
            return []
        return [f"wrong: a traceback in the log: {text[max(0, text.index('Traceback') - 500) :][:3000]}"]


def _stuck(wire: Wire) -> list[str]:
    """What is still at work although nothing has happened for long; nothing once everything is done."""
    left: list[str] = []

    def is_done() -> bool:
        left[:] = reading.pending(wire)
        return not left

    last = -1
    while (now := wire.last_seq()) > last:
        last = now
        if within(QUIET_S, is_done, every_s=0.1):
            break
    return left


def _alive_with(variable: str) -> list[int]:
    """Processes that have this in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return [pid for pid in found if alive(pid)]
