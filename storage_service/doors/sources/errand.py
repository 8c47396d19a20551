"""Calls that may block for ever, on behalf of the loop: a file that hangs, the look-up of a host's name.

Each is made in a daemon thread: at its end a process waits for the threads of an executor, also for one that hangs
in the kernel, and for these it does not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class StillHanging(Exception):
    """An earlier call, given up since, has not come back yet."""


class Errands:
    """Makes one call at a time, so that at most one thread hangs. `name` is that of the thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._turn = asyncio.Lock()
        self._last: Future[Any] | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises, after those that were asked for before.

        When this is cancelled, the call goes on and its result is dropped. Raises StillHanging while one that was
        given up so is not over, and OSError when there is no thread to be had.
        """
        async with self._turn:
            if self._last is not None and not self._last.done():
                raise StillHanging
            future: Future[T] = Future()
            future.set_running_or_notify_cancel()  # from here on it cannot be cancelled: it is over when it is
            thread = threading.Thread(target=_make, args=(call, future), name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(str(error)) from error
            self._last = future
            return await asyncio.wrap_future(future)


def _make(call: Callable[[], T], future: Future[T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
