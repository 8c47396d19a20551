"""The door to conversion scripts: starts them, ends them, and tells how each ended once nothing of it is left.

It blocks nowhere but in the start itself (fork and exec), and has no threads: see `conversion_attempt`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

from storage_service.doors.conversion_attempt import Attempt, Settings, spawn
from storage_service.doors.process_group import end_leftovers
from storage_service.rules.work import Ended, RunScript

__all__ = ["Scripts", "Settings", "end_leftovers"]

PATIENCE_S = 2.0  # what `close` waits beyond the grace for processes or a disk that hang


class Scripts:
    """Runs scripts. Each `start` is answered by exactly one `on_ended`, later, from the loop.

    `on_progress(conversion_id, value)` comes at most once a second for each, with the newest value.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        on_progress: Callable[[str, float], None],
        on_ended: Callable[[Ended], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._on_progress = on_progress
        self._on_ended = on_ended
        self._attempts: dict[str, Attempt] = {}
        self._untold = 0  # starts whose end was not told yet
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._closing = False

    def start(self, order: RunScript, script: Path, folder: Path, log_fd: int, write: Executor) -> None:
        """Run `script` in `folder`, its output going to `log_fd`, which is owned and closed here.

        A script that cannot be started has ended as `not_started`, with the reason; one that is asked for after
        `close` as `interrupted`. Raises nothing.
        """
        self._untold += 1
        self._all_told.clear()
        if self._closing:
            self._refuse(order, log_fd, "interrupted", "the service is stopping")
            return
        if order.conversion_id in self._attempts:
            self._refuse(order, log_fd, "not_started", "an attempt of this conversion is still running")
            return
        try:
            started = spawn(order, script, folder, self._settings.env)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            reason = f"the script {order.script} could not be started in {folder}: {why}"
            self._refuse(order, log_fd, "not_started", reason)
            return
        self._attempts[order.conversion_id] = Attempt(
            self._loop, self._settings, order, started, log_fd, write, self._on_progress, self._over
        )

    def cancel(self, conversion_id: str) -> None:
        """TERM to all of it, KILL after the grace; it has ended as `cancelled` when nothing is left.

        One that is over by itself stays `exited`; an unknown one is passed over.
        """
        if attempt := self._attempts.get(conversion_id):
            attempt.end("cancelled", "")

    def running(self) -> frozenset[str]:
        """The conversions that were started and whose end was not told yet."""
        return frozenset(self._attempts)

    def last_progress(self, conversion_id: str) -> float | None:
        """What a running conversion said last, 0 to 1; None if nothing, or if it does not run."""
        attempt = self._attempts.get(conversion_id)
        return attempt.progress if attempt else None

    async def close(self) -> None:
        """End all as `interrupted`: TERM, KILL after the grace. Every end is told before this returns.

        What was over by itself, cancelled or timed out before stays so. What hangs in the kernel, or on a log that
        cannot be written, is given up `PATIENCE_S` after the grace and told with its reason: it is for
        `end_leftovers` at the next start.
        """
        self._closing = True
        for attempt in list(self._attempts.values()):
            attempt.end("interrupted", "the service was stopped")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_told.wait(), self._settings.grace_s + PATIENCE_S)
        for attempt in list(self._attempts.values()):
            attempt.give_up()
        await self._all_told.wait()

    def _refuse(self, order: RunScript, log_fd: int, how: str, reason: str) -> None:
        with suppress(OSError):
            os.close(log_fd)
        ended = Ended(order.conversion_id, order.attempt, how, reason=reason)
        self._loop.call_soon(self._tell, ended)

    def _over(self, ended: Ended) -> None:
        self._loop.call_soon(self._forget_and_tell, ended)

    def _forget_and_tell(self, ended: Ended) -> None:
        # Forgotten first: whoever is told may start the next attempt at once.
        del self._attempts[ended.conversion_id]
        self._tell(ended)

    def _tell(self, ended: Ended) -> None:
        self._untold -= 1
        try:
            self._on_ended(ended)
        finally:
            if not self._untold:
                self._all_told.set()
