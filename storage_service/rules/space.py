"""How a mount point fares: what a look at it says, and which change of that is told (SPEC 7.28).

A level is told when it changes, and only then. What is once short has to have a tenth more than its bound before
it is well again: a mount point at the edge is not told of over and over.
"""

from __future__ import annotations

from msgspec import Struct

from . import facts
from .facts import Event

WELL, LOW, FULL, UNREACHABLE = "well", "low", "full", "unreachable"
BACK = 1.1


class Look(Struct, frozen=True):
    """A look at a mount point. `free_bytes` is None where it does not answer, and `reason` says why; or where it
    `answers`, and nobody can tell. Below `minimum` bytes nothing new is begun there, below `low` it is told of;
    0: never."""

    mp: str
    free_bytes: int | None
    reason: str
    minimum: int
    low: int
    answers: bool = False


def level(before: str, look: Look) -> str:
    """What the mount point is now, if it was that before."""
    free = look.free_bytes
    if free is None:
        return WELL if look.answers else UNREACHABLE
    if free < look.minimum * (BACK if before == FULL else 1.0):
        return FULL
    return LOW if free < look.low * (BACK if before in (FULL, LOW) else 1.0) else WELL


def told(before: str, now: str, look: Look) -> list[Event]:
    """The events of a change. A mount point that answers again may be short: that is told on top."""
    if before == now:
        return []
    free, found = look.free_bytes, list[facts.AnyFact]()
    if now == UNREACHABLE:
        found.append(facts.MountUnreachable(look.mp, None, look.reason))
    elif now == WELL or before == UNREACHABLE:
        said = "answers again" if before == UNREACHABLE else "has room again"
        room = f": {free} bytes are free" if free is not None else ""
        found.append(facts.MountRecovered(look.mp, free, f"The mount point {look.mp} {said}{room}."))
    if now == FULL:
        message = (
            f"The mount point {look.mp} has {free} bytes free, fewer than {look.minimum}: nothing is begun there."
        )
        found.append(facts.MountFull(look.mp, free, message))
    elif now == LOW:
        message = f"The mount point {look.mp} has {free} bytes free, fewer than {look.low}."
        found.append(facts.MountLow(look.mp, free, message))
    return [Event(fact, None, look.mp) for fact in found]
