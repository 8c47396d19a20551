"""The short form of `python -m tests.fuzz`: each frame is answered, in bounded time and memory."""

from __future__ import annotations

from tests.fuzz.__main__ import BATCH, Fuzz

INPUTS = 100_000
SEED = 20


def test_any_frame_is_answered_in_bounded_time_and_memory() -> None:
    fuzz = Fuzz(SEED)
    while fuzz.inputs < INPUTS and not fuzz.found:
        fuzz.batch(BATCH)
    assert fuzz.found == []
    # Frames of all kinds: most are refused, many are not.
    assert INPUTS // 20 < fuzz.refused < INPUTS * 19 // 20
