"""The finish barrier: when an acquisition is finished, and what is said of it (SPEC 4.2).

At its start an acquisition copies the registered names R and the number n of marks that it expects:

    n = max(producers_count, |R| + unnamed)

Each name counts once. Names of R fill the places that are theirs. Marks without a name, and names outside R,
fill the n - |R| places that no name holds. The barrier is met when every name of R has marked and n marks are
counted; with n = 0 it is never met, and only closing the acquisition finishes it.

What never comes is not waited for either: `finish_timeout_s` after its first mark an acquisition is closed; and
when all but producers that are silent for `producer_timeout_s` have marked, it is closed without them.

The verdict is `complete` when the barrier was met (or n = 0 and it was closed) and no mark said `ok: false`;
else `partial`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from storage_protocol.records import CountedMark

COMPLETE = "complete"
PARTIAL = "partial"


def expected_marks(required: tuple[str, ...], count: int, unnamed: int) -> int:
    """n: how many marks finish the acquisition."""
    return max(count, len(required) + unnamed)


def counts(required: tuple[str, ...], expected: int, marks: tuple[CountedMark, ...], producer: str | None) -> bool:
    """Whether one more mark, of `producer` or of nobody by name, fills a place."""
    if producer is not None:
        if any(mark.producer == producer for mark in marks):
            return False
        if producer in required:
            return True
    free = expected - len(required)
    return sum(mark.producer not in required for mark in marks) < free


def is_met(required: tuple[str, ...], expected: int, marks: tuple[CountedMark, ...]) -> bool:
    """Whether these marks finish the acquisition."""
    return expected > 0 and len(marks) >= expected and not missing(required, marks)


def is_met_without(
    required: tuple[str, ...], expected: int, marks: tuple[CountedMark, ...], silent: Collection[str]
) -> bool:
    """Whether nobody but silent producers is waited for any more."""
    absent = missing(required, marks)
    return bool(absent) and all(name in silent for name in absent) and len(marks) >= expected - len(absent)


def missing(required: tuple[str, ...], marks: tuple[CountedMark, ...]) -> tuple[str, ...]:
    """The names of R that have not marked, in their order."""
    marked = {mark.producer for mark in marks}
    return tuple(name for name in required if name not in marked)


def failed(marks: Iterable[CountedMark]) -> tuple[str | None, ...]:
    """Who marked `ok: false`; None stands for one without a name."""
    return tuple(mark.producer for mark in marks if not mark.ok)


def verdict(required: tuple[str, ...], expected: int, marks: tuple[CountedMark, ...]) -> str:
    """What is said of an acquisition that is finished now."""
    whole = expected == 0 or is_met(required, expected, marks)
    return COMPLETE if whole and not failed(marks) else PARTIAL
