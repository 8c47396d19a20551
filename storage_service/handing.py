"""Work for threads: told in the loop, and not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Unwaited(ThreadPoolExecutor):
    """Threads for which nobody waits at the end of the loop: what hangs in one ends with the process."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


class Worker:
    """One thread, which does what it is given in order, and ends with the process. A pool makes a future of each
    piece of work, and takes three locks: for a lone command that was a sixth of all that it cost."""

    def __init__(self, name: str) -> None:
        self._given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], None]) -> None:
        """Do this after what was given before; it must not raise."""
        self._given.put(work)

    def hand(self, work: Callable[[], Any], tell: Callable[[Any], None]) -> None:
        """Do `work`; `tell` hears in the running loop what came of it, an exception too."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            result: Any
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  what a thread meets is told in the loop
                result = error
            with suppress(RuntimeError):  # the loop has ended: nobody is there to hear of it
                loop.call_soon_threadsafe(tell, result)

        self._given.put(run)

    def is_idle(self) -> bool:
        """Whether nothing waits to be done."""
        return self._given.empty()

    def close(self) -> None:
        """Do all that was given, and end."""
        self._given.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            work()
