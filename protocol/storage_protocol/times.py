"""Times on the wire: RFC 3339 in UTC with microseconds and a `Z` (SPEC 3). Inside: seconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from math import modf

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII)


def to_wire(seconds: float) -> str:
    """`1.5` is `1970-01-01T00:00:01.500000Z`."""
    # To the nearest microsecond, and half a one to the even one, as datetime does.
    fraction, whole = modf(seconds)
    micros = round(fraction * 1e6)
    if 0 <= micros < 1_000_000:
        return f"{_second(int(whole))}.{micros:06d}Z"
    return f"{_second(int(whole) + micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


@lru_cache(maxsize=64)
def _second(whole: int) -> str:
    """A whole second of the calendar. The same one is told again and again."""
    return datetime.fromtimestamp(whole, UTC).isoformat()[:19]


def from_wire(text: str) -> float:
    """Seconds since 1970. Any RFC 3339 time with an offset is understood; digits below 1 us are cut.

    Raises ValueError, with a sentence, when it is none.
    """
    found = _RFC3339.fullmatch(text)
    if not found:
        raise ValueError("it must be an RFC 3339 time in UTC such as 2026-01-31T12:00:00.000000Z")
    day, clock, fraction, zone = found.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    offset = "+00:00" if zone in "Zz" else zone
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{micros}{offset}").timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"it is not a time of the calendar ({error})") from None
