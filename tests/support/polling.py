"""Waiting for something that comes about by itself: looked for again and again, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0


def within(patience_s: float, look: Callable[[], T], every_s: float = 0.01) -> T:
    """What `look` gives, as soon as that is true, or at the deadline, whatever it is then."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return seen


def eventually(look: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What `look` gives, as soon as that is true; AssertionError when it is not within the deadline."""
    seen = within(patience_s, look)
    assert seen, f"after {patience_s} s it is still {seen!r}"
    return seen


async def until(look: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as `look` gives something true; AssertionError when it does not within the deadline."""
    deadline = time.monotonic() + patience_s
    while not look():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s} s")
        await asyncio.sleep(0.005)


async def steps(count: int = 1) -> None:
    """Let every task take so many steps: those that were made before have begun."""
    for _ in range(count):
        await asyncio.sleep(0)
