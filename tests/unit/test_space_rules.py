"""What a look at a mount point makes of it, and what is told (SPEC 7.28)."""

from __future__ import annotations

import pytest

from storage_service.rules.space import FULL, LOW, UNREACHABLE, WELL, Look, level, told

MINIMUM, BOUND = 100, 1000


def look(free: int | None, minimum: int = MINIMUM, low: int = BOUND) -> Look:
    return Look("file:///", free, "It does not answer.", minimum, low)


@pytest.mark.parametrize(
    ("before", "free", "now"),
    [
        (WELL, 1000, WELL), (WELL, 999, LOW), (WELL, 100, LOW), (WELL, 99, FULL), (WELL, 0, FULL),
        (LOW, 1000, LOW), (LOW, 1099, LOW), (LOW, 1100, WELL), (LOW, 100, LOW), (LOW, 99, FULL),
        (FULL, 100, FULL), (FULL, 109, FULL), (FULL, 111, LOW), (FULL, 1099, LOW), (FULL, 1100, WELL),
        (UNREACHABLE, 1000, WELL), (UNREACHABLE, 999, LOW), (UNREACHABLE, 100, LOW), (UNREACHABLE, 99, FULL),
        *((before, None, UNREACHABLE) for before in (WELL, LOW, FULL, UNREACHABLE)),
    ],
)  # fmt: skip
def test_what_is_short_needs_a_tenth_more_to_be_well(before: str, free: int | None, now: str) -> None:
    assert level(before, look(free)) == now


@pytest.mark.parametrize("before", [WELL, LOW, FULL, UNREACHABLE])
def test_without_bounds_only_what_does_not_answer_is_told(before: str) -> None:
    assert level(before, look(0, 0, 0)) == WELL
    assert level(before, look(None, 0, 0)) == UNREACHABLE


@pytest.mark.parametrize(
    ("before", "now", "free", "types"),
    [
        (WELL, WELL, 2000, []), (LOW, LOW, 500, []), (FULL, FULL, 5, []), (UNREACHABLE, UNREACHABLE, None, []),
        (WELL, LOW, 500, ["mount.low"]), (WELL, FULL, 5, ["mount.full"]), (LOW, FULL, 5, ["mount.full"]),
        (FULL, LOW, 500, ["mount.low"]), (LOW, WELL, 2000, ["mount.recovered"]),
        (FULL, WELL, 2000, ["mount.recovered"]), (UNREACHABLE, WELL, 2000, ["mount.recovered"]),
        (UNREACHABLE, LOW, 500, ["mount.recovered", "mount.low"]),
        (UNREACHABLE, FULL, 5, ["mount.recovered", "mount.full"]),
        *((before, UNREACHABLE, None, ["mount.unreachable"]) for before in (WELL, LOW, FULL)),
    ],
)  # fmt: skip
def test_every_change_is_told_and_nothing_else(before: str, now: str, free: int | None, types: list[str]) -> None:
    events = told(before, now, look(free))
    assert [event.fact.TYPE for event in events] == types
    for event in events:
        assert (event.storage_id, event.subject) == (None, "file:///")
        assert event.fact.free_bytes == free  # type: ignore[union-attr]
        assert event.fact.message.endswith(".")  # type: ignore[union-attr]
