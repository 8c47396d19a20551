"""The host's processes: attempts of conversions, which outlive the service that started them."""

from __future__ import annotations

from random import Random

from storage_service.rules.work import Ended, RunScript

from .broken import must

Attempt = tuple[str, int]
Path = tuple[str, ...]


class Scripts:
    """
    running   the attempts that run on the host, by conversion; it is a fault of the service if one runs twice
    killed    the conversions whose end was asked for
    folders   where each of the running ones works
    """

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.killed: set[str] = set()
        self.begun: set[Attempt] = set()
        self.folders: dict[str, Path] = {}

    def begin(self, order: RunScript) -> None:
        id, attempt = order.conversion_id, order.attempt
        must(
            id not in self.running, "doubled", "a conversion runs twice at once", id, attempt, self.running.get(id)
        )
        must((id, attempt) not in self.begun, "doubled", "one attempt was started twice", id, attempt)
        self.begun.add((id, attempt))
        self.running[id] = attempt
        self.folders[id] = order.path

    def cancel(self, conversion_id: str) -> None:
        if conversion_id in self.running:
            self.killed.add(conversion_id)

    def end(self, conversion_id: str, chance: Random) -> Ended:
        """It ends by itself, by its time-out, by a signal, or because that was asked for."""
        attempt = self.running.pop(conversion_id)
        del self.folders[conversion_id]
        if conversion_id in self.killed:
            self.killed.discard(conversion_id)
            if chance.random() < 0.8:
                return Ended(conversion_id, attempt, "cancelled", -15)
        how, exit_code = chance.choice(
            [("exited", 0), ("exited", 0), ("exited", 0), ("exited", 3), ("timed_out", -9), ("exited", -11)]
        )
        return Ended(conversion_id, attempt, how, exit_code, chance.choice([None, 0.5, 1.0]))

    def end_leftovers(self, known: set[str]) -> None:
        """A start ends what is left of attempts that the store knows to be running; there must be no others."""
        strays = sorted(set(self.running) - known)
        must(not strays, "wrong", "scripts run that the store does not know of", strays)
        self.running.clear()
        self.folders.clear()
        self.killed.clear()
