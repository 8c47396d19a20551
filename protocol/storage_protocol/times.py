"""Times on the wire: RFC 3339 in UTC with microseconds and a `Z` (SPEC 3). Inside: seconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII)


def to_wire(seconds: float) -> str:
    """`1.5` is `1970-01-01T00:00:01.500000Z`."""
    # The offset +00:00 is the last six characters.
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


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
