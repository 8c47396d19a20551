"""The service's clock as a client knows it: keys are made with it, so that they are never older than they look."""

from __future__ import annotations

import os
import time

from storage_protocol import keys, times


class ServiceClock:
    """How far the service's clock is ahead of this machine's; until a ping was answered, not at all."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether the service has told its time."""
        return self._ahead_s is not None

    def learn(self, time_text: str) -> None:
        """Take over the `time` of a reply that has just come. Raises ValueError when it is none."""
        self._ahead_s = times.from_wire(time_text) - time.time()

    def forget(self) -> None:
        """What was known turned out to be wrong: the service is to be asked again."""
        self._ahead_s = None

    def new_key(self) -> str:
        """A fresh idempotency key of now (SPEC 5)."""
        return keys.uuid7(int((time.time() + (self._ahead_s or 0.0)) * 1000), os.urandom(10))
