"""How logs of conversions are written: in a thread, in order, and not waited for where the disk hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

DEADLINE_S = 60.0

T = TypeVar("T")


class LogWriter(Executor):
    """Writes logs in the one thread that a mount point has for them. What is late has failed for who waits, and is
    done all the same, in its turn: at the end of a log is the closing of its file."""

    def __init__(self, thread: Executor, deadline_s: float = DEADLINE_S) -> None:
        self._thread = thread
        self._deadline_s = deadline_s

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """In the loop's thread. RuntimeError when the service has stopped, as any executor says it."""
        loop, told = asyncio.get_running_loop(), Future[T]()

        def overdue() -> None:
            if told.set_running_or_notify_cancel():
                told.set_exception(TimeoutError("the mount point does not answer"))

        def finished() -> None:
            timer.cancel()
            if told.done() or not told.set_running_or_notify_cancel():
                return
            if (error := done.exception()) is not None:
                told.set_exception(error)
            else:
                told.set_result(done.result())

        done = self._thread.submit(fn, *args, **kwargs)
        timer = loop.call_later(self._deadline_s, overdue)
        done.add_done_callback(lambda _: done.cancelled() or loop.call_soon_threadsafe(finished))
        return told
