"""Idempotency keys: UUIDs of version 7, which begin with their time (RFC 9562, 5.7)."""

from __future__ import annotations

import re
from uuid import UUID

_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.I | re.A)


def uuid7(unix_ms: int, random: bytes) -> str:
    """A UUIDv7 of this time (milliseconds since 1970) and of 10 random bytes, in its form of 36 characters."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def uuid7_ms(key: str) -> int | None:
    """The time of a UUIDv7 in its form of 36 characters, in milliseconds since 1970; None for any other key."""
    # Position 14 is the version: most keys that are not of this form end here.
    if len(key) != 36 or key[14] != "7":
        return None
    found = _UUID7.fullmatch(key)
    return int(found[1] + found[2], 16) if found else None
