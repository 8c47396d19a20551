"""The newest UUIDv7 keys that are in the database, in memory as well: any other one that is as new as these came
never before, for certain.

They lie by when they are dated, in spans of time. So the oldest go a span at a time; and a set that is no larger
than a span stays in the processor's cache, where one of all keys costs more than the rest of a command's key.
"""

from __future__ import annotations

# 8 ms: at the rate of a busy service some hundred keys.
SPAN_BITS = 3
# A quiet service has a span for each key: there are not more of them than this, either. It is also as many keys as
# a client whose clock is ahead may send before the watermark lies in the future, and every key is looked up.
MANY_SPANS = 16_384
_NONE: frozenset[str] = frozenset()


class RecentKeys:
    """Times are those of the keys, in milliseconds since 1970."""

    def __init__(self) -> None:
        self._spans: dict[int, set[str]] = {}
        self._newest: dict[int, int] = {}
        self._count = 0

    def has(self, key: str, ms: int) -> bool:
        return key in self._spans.get(ms >> SPAN_BITS, _NONE)

    def add(self, key: str, ms: int) -> None:
        """A key that is not among them."""
        span = ms >> SPAN_BITS
        keys = self._spans.get(span)
        if keys is None:
            keys = self._spans[span] = set()
            self._newest[span] = ms
        elif ms > self._newest[span]:
            self._newest[span] = ms
        keys.add(key)
        self._count += 1

    def forget_some(self, most: int) -> int:
        """Forget the older half, of the keys or of their spans, if there are more than so many. The time of the
        newest of them; 0: none."""
        if self._count <= most and len(self._spans) <= MANY_SPANS:
            return 0
        newest = 0
        for span in sorted(self._spans):
            enough = self._count <= most // 2 and len(self._spans) <= MANY_SPANS // 2
            # The newest span stays if it can: what comes next is of that time, too.
            if enough or (len(self._spans) == 1 and self._count <= most):
                break
            self._count -= len(self._spans.pop(span))
            newest = max(newest, self._newest.pop(span))
        return newest
