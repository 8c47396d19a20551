"""The door to conversion scripts: starts them, ends them, and tells how each ended once nothing of it is left.

Each runs below a runner of its own (`runner`), which holds the conversion's lock (`conversion_lock`). The door
blocks nowhere but in the start itself (fork and exec of an interpreter); its only threads look for what is left of
earlier attempts, which is seldom.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from storage_service.doors.conversion_attempt import Attempt, Place
from storage_service.doors.conversion_lock import Locks
from storage_service.doors.conversion_scratch import in_copy
from storage_service.doors.conversion_start import Protection, Settings, find_protection, spawn
from storage_service.doors.process_group import end_leftovers
from storage_service.failpoints import passing
from storage_service.rules.work import Ended, RunScript

__all__ = ["Protection", "Scripts", "Settings", "end_leftovers"]

PATIENCE_S = 2.0  # beyond the grace, for processes or a disk that hang
LOOK_EVERY_S = 0.25
SWEEPERS = 2


class _Asked(NamedTuple):
    """What `start` was given."""

    order: RunScript
    script: Path
    folder: Path
    log_fd: int
    write: Executor


class Scripts:
    """Runs scripts. Each `start` is answered by exactly one `on_ended`, later, from the loop.

    `on_progress(conversion_id, value)` comes at most once a second for each, with the newest value. `protection`
    says what keeps them from outliving their owner: to find out, a process is started here and waited for where
    `settings.pid_namespace` asks for it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        on_progress: Callable[[str, float], None],
        on_ended: Callable[[Ended], None],
    ) -> None:
        self.protection = find_protection(settings)
        self._loop = loop
        self._settings = replace(settings, pid_namespace=self.protection.pid_namespace)
        self._locks = Locks(settings.locks)
        self._sweeps = ThreadPoolExecutor(SWEEPERS, "sweeps")
        self._place = Place(loop, self._settings, self._locks, self._sweeps)
        self._on_progress = on_progress
        self._on_ended = on_ended
        self._attempts: dict[str, Attempt] = {}
        self._held: dict[str, _Asked] = {}  # started when what lives of an earlier attempt is ended
        self._cancelled: set[str] = set()  # of those
        self._untold = 0  # starts whose end was not told yet
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._closing = False

    def start(self, order: RunScript, script: Path, folder: Path, log_fd: int, write: Executor) -> None:
        """Run `script` in `folder`, its output going to `log_fd`, which is owned and closed here.

        What lives of an earlier attempt is ended first; if that cannot be done, this one has ended as
        `interrupted`. A script that cannot be started has ended as `not_started`, with the reason; one that is
        asked for after `close` as `interrupted`. Raises nothing.
        """
        passing("conversion.asked")
        if order.argv[:1] == ("",):  # its mount point has no folder on this host, and it runs in a copy
            order = in_copy(order, folder)
        asked = _Asked(order, script, folder, log_fd, write)
        self._untold += 1
        self._all_told.clear()
        if self._closing:
            self._refuse(asked, "interrupted", "the service is stopping")
        elif order.conversion_id in self.running():
            self._refuse(asked, "not_started", "an attempt of this conversion is still running")
        elif not self._start_if_free(asked):
            self._held[order.conversion_id] = asked
            sweep = self._loop.run_in_executor(self._sweeps, self._end_earlier, order.conversion_id)
            sweep.add_done_callback(lambda sweep: self._on_swept(asked, sweep))

    def _start_if_free(self, asked: _Asked) -> bool:
        """False, and nothing was done, while something of an earlier attempt lives."""
        order = asked.order
        try:
            lock = self._locks.take(order.conversion_id)
        except BlockingIOError:
            return False
        except OSError as error:
            self._refuse(asked, "not_started", f"its lock cannot be had: {error.strerror}")
            return True
        try:
            passing("conversion.locked")
            started = spawn(order, asked.script, asked.folder, self._settings, lock)
            passing("conversion.spawned")
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            self._refuse(asked, "not_started", f"the script {order.script} could not be started: {why}")
            os.close(lock)
            self._locks.is_free(order.conversion_id)  # and its file goes away
            return True
        os.close(lock)  # the runner has it
        self._attempts[order.conversion_id] = Attempt(
            self._place, order, started, asked.log_fd, asked.write, self._on_progress, self._over
        )
        return True

    def _end_earlier(self, conversion_id: str) -> None:
        """In a thread, and with patience: what may not be signalled may still end."""
        lock = str(self._locks.path(conversion_id))
        deadline = time.monotonic() + self._settings.grace_s + PATIENCE_S
        end_leftovers([conversion_id], self._settings.grace_s, [lock])
        while not self._locks.is_free(conversion_id) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            end_leftovers([conversion_id], 0.0, [lock])

    def _on_swept(self, asked: _Asked, sweep: asyncio.Future[None]) -> None:
        id = asked.order.conversion_id
        fault = None if sweep.cancelled() else sweep.exception()
        if self._held.get(id) is not asked:  # given up meanwhile
            return
        del self._held[id]
        if id in self._cancelled or self._closing:
            self._locks.is_free(id)  # and its file goes away
            if id in self._cancelled:
                self._cancelled.discard(id)
                self._refuse(asked, "cancelled", "")
            else:
                self._refuse(asked, "interrupted", "the service is stopping")
        elif not self._start_if_free(asked):
            why = f": {fault}" if fault else ""
            self._refuse(asked, "interrupted", f"something of an earlier attempt still lives{why}")

    def end_leftovers(self, conversion_ids: Collection[str]) -> int:
        """End what an earlier service, killed, has left: of these conversions, and whatever holds a lock.

        Blocks: for a thread, before anything is started. Returns how many processes were ended. Raises OSError
        when /proc cannot be read.
        """
        held = [str(self._locks.path(id)) for id in self._locks.held()]
        ended = end_leftovers(conversion_ids, self._settings.grace_s, held)
        self._locks.held()  # whose files go away now
        return ended

    def cancel(self, conversion_id: str) -> None:
        """TERM to all of it, KILL after the grace; it has ended as `cancelled` when nothing is left.

        One that is over by itself stays `exited`; an unknown one is passed over.
        """
        if attempt := self._attempts.get(conversion_id):
            attempt.end("cancelled", "")
        elif conversion_id in self._held:
            self._cancelled.add(conversion_id)

    def running(self) -> frozenset[str]:
        """The conversions that were started and whose end was not told yet."""
        return frozenset(self._attempts) | frozenset(self._held)

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
        for asked in self._held.values():
            self._refuse(asked, "interrupted", "the service was stopped, and an earlier attempt still lives")
        self._held.clear()
        await self._all_told.wait()
        self._sweeps.shutdown(wait=False)

    def _refuse(self, asked: _Asked, how: str, reason: str) -> None:
        with suppress(OSError):
            os.close(asked.log_fd)
        ended = Ended(asked.order.conversion_id, asked.order.attempt, how, reason=reason)
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
            passing("conversion.told")
        finally:
            if not self._untold:
                self._all_told.set()
