"""A life that breaks something, made shorter: as long as it breaks the same, steps are taken out."""

from __future__ import annotations

import time

from .broken import Broken
from .life import Life, Step
from .world import World

Fault = str


def broken(life: Life) -> Fault | None:
    """What goes wrong in a life, in few words that stay the same when it is shortened; None: nothing."""
    try:
        World(life).live()
    except Broken as wrong:
        return str(wrong).split(" | ", 1)[0]
    except Exception as error:  # noqa: BLE001  a defect of the service is what is looked for
        return f"{type(error).__name__}: {str(error)[:80]}"
    return None


def shrunk(life: Life, seconds: float = 20.0) -> Life:
    """The shortest life found within so many seconds that breaks as this one does."""
    fault, until = broken(life), time.monotonic() + seconds
    steps, size = life.steps, max(1, len(life.steps) // 2)
    while size and time.monotonic() < until:
        shorter = _without(life, steps, size, fault, until)
        if len(shorter) == len(steps):
            size //= 2
        steps = shorter
    return life._replace(steps=steps)


def _without(life: Life, steps: list[Step], size: int, fault: Fault | None, until: float) -> list[Step]:
    """Every run of so many steps is left out once, from the end; what is not missed stays out."""
    for at in range(len(steps) - size, -1, -size):
        fewer = steps[:at] + steps[at + size :]
        if broken(life._replace(steps=fewer)) == fault:
            steps = fewer
        if time.monotonic() > until:
            break
    return steps
