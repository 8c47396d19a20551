"""Idempotency keys: UUIDs of version 7, which begin with their time (RFC 9562, 5.7)."""

from __future__ import annotations

import re
from functools import lru_cache
from uuid import UUID

_is_time = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7").fullmatch
_is_rest = re.compile(r"[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}").fullmatch


def uuid7(unix_ms: int, random: bytes) -> str:
    """A UUIDv7 of this time (milliseconds since 1970) and of 10 random bytes, in its form of 36 characters."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def uuid7_ms(key: str) -> int | None:
    """The time of a UUIDv7 in its form of 36 characters, in milliseconds since 1970; None for any other key."""
    # Position 14 is the version: most keys that are not of this form end here.
    if len(key) != 36 or key[14] != "7" or not _is_rest(key, 15):
        return None
    return _time_of(key[:15])


@lru_cache(maxsize=1024)
def _time_of(begin: str) -> int | None:
    """Of the first 15 characters. Keys that are made together have the same."""
    return int(begin[:8] + begin[9:13], 16) if _is_time(begin) else None
