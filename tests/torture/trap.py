"""A subscriber that has the service killed at the very moment at which it hears of something."""

from __future__ import annotations

from zlib import crc32

import msgpack

from tests.support.wire import Tail

# For so long an event is waited for; there may be none, since the service has only just started.
PATIENCE_S = 0.3


class Trap:
    """What it has heard must be in the journal, however soon after it the service was killed."""

    def __init__(self, events: str) -> None:
        self._tail = Tail(events)
        self._heard: list[tuple[int, int]] = []

    def set(self) -> None:
        """Take what is there already."""
        self._note(0.0)

    def spring(self) -> None:
        """Return as soon as an event comes."""
        self._tail.socket.poll(int(PATIENCE_S * 1000))

    def strangers(self, rows: list[tuple[int, str]]) -> list[str]:
        """Events that were heard and are not in the journal, of which `rows` has the crc of each."""
        self._note(0.0)
        heard, self._heard = self._heard, []
        missing = [seq for seq, crc in heard if seq > len(rows) or rows[seq - 1][0] != crc]
        return [f"wrong: events were told that are not in the journal: seq {missing[:9]}"] if missing else []

    def _note(self, timeout_s: float) -> None:
        for event in self._tail.pump(timeout_s):
            if (seq := event.body["seq"]) is not None:
                self._heard.append((seq, crc32(msgpack.packb(event.body))))
        self._tail.seen.clear()

    def close(self) -> None:
        """Hear no more."""
        self._tail.close()
