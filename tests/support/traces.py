"""What this process holds: descriptors, tasks of the loop and processes below it, to see what a test leaves."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from storage_service.doors.process_group import scan

from .polling import until


def held() -> set[tuple[str, str]]:
    """Everything that there is now; for a test with a loop."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor that lists them
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    found |= {("task", str(id(task))) for task in asyncio.all_tasks()}
    children = (each for part in scan(lambda process: process.parent == os.getpid()) for each in part)
    return found | {("child", str(each.pid)) for each in children}


async def nothing_left(before: set[tuple[str, str]]) -> None:
    """Wait until nothing is held but what was held before; AssertionError when something stays."""
    try:
        await until(lambda: not held() - before, patience_s=10.0)
    except AssertionError:
        raise AssertionError(f"it is still held: {held() - before}") from None
