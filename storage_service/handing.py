"""Work for threads: told in the loop, and not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Unwaited(ThreadPoolExecutor):
    """Threads for which nobody waits at the end of the loop: what hangs in one ends with the process."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def hand(
    loop: asyncio.AbstractEventLoop,
    pool: ThreadPoolExecutor,
    work: Callable[[], Any],
    tell: Callable[[Any], None],
) -> None:
    """Do `work` in a thread; `tell` hears in the loop what came of it, an exception too."""

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  what a thread meets is told in the loop
            result = error
        loop.call_soon_threadsafe(tell, result)

    pool.submit(run)
