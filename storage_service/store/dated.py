"""How far ahead the stored keys are dated: what the desk must know to tell, without a look, that a key is new.

It looks up every UUIDv7 up to the time of the newest that is stored. One key of a client whose clock is a year
ahead would make it look up everybody's keys for a year; so those few are named, and the time is that of the rest.
"""

from __future__ import annotations

import apsw

from storage_protocol.keys import uuid7, uuid7_ms

# Clocks differ; keys that are so little ahead, in seconds, are not worth naming.
SKEW_S = 60.0
# With more keys that may be ahead nothing is gained; every other form of key that sorts after them counts, too.
MOST = 10_000


def newest_and_ahead(db: apsw.Connection, newest_ms: int) -> tuple[int, list[str]]:
    """Up to which time a UUIDv7 may be stored (milliseconds since 1970), and those that are dated after it.

    `newest_ms` is the time of the newest of all. A key is ahead when it is dated more than a minute after the
    time at which the last one was stored.
    """
    stored_at = db.execute("SELECT at FROM keys ORDER BY id DESC LIMIT 1").get
    limit_ms = int((float(str(stored_at)) + SKEW_S) * 1000) if stored_at is not None else newest_ms
    if newest_ms <= limit_ms:
        return newest_ms, []
    # Capitals come before small letters, and both before "g": later keys are in this range in either.
    first = uuid7(limit_ms, bytes(10))[:13].upper()
    rows = db.execute("SELECT key FROM keys WHERE key >= ? AND key < 'g' LIMIT ?", (first, MOST + 1)).fetchall()
    if len(rows) > MOST:
        return newest_ms, []
    return limit_ms, [str(key) for (key,) in rows if (uuid7_ms(str(key)) or 0) > limit_ms]
