"""Times on the wire (SPEC 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_protocol import times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
        (-1.0, "1969-12-31T23:59:59.000000Z"),
        (1_700_000_000.000001, "2023-11-14T22:13:20.000001Z"),
    ],
)
def test_a_time_goes_there_and_back(seconds: float, text: str) -> None:
    assert times.to_wire(seconds) == text
    assert times.from_wire(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.0Z",
        "2026-01-31t12:00:00z",
        "2026-01-31 12:00:00Z",
        "2026-01-31T13:30:00+01:30",
        "2026-01-31T07:00:00.0000009-05:00",
        "2026-01-31T12:00:00.000000999Z",
    ],
)
def test_other_ways_to_say_the_same_time(text: str) -> None:
    assert times.to_wire(times.from_wire(text)) == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+99:00",
        "2026-01-31T12:00:00.Z",
        "2026-1-31T12:00:00Z",
        "２026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        "0000-01-01T00:00:00Z",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        times.from_wire(text)


def test_an_early_time_keeps_its_four_digits_and_so_its_order() -> None:
    assert times.to_wire(times.from_wire("0999-01-01T00:00:00Z")) == "0999-01-01T00:00:00.000000Z"


# Until 2242 a float of seconds tells microseconds apart.
microseconds = st.integers(0, 8_500_000_000 * 1_000_000)


@given(microseconds)
def test_a_microsecond_is_kept(micros: int) -> None:
    text = times.to_wire(micros / 1e6)
    assert times.to_wire(times.from_wire(text)) == text


@given(microseconds, microseconds)
def test_times_are_ordered_like_their_texts(first: int, second: int) -> None:
    one, other = times.to_wire(first / 1e6), times.to_wire(second / 1e6)
    assert (one < other) == (times.from_wire(one) < times.from_wire(other))
