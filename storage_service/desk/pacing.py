"""Who is held back: a peer that sends much more than most of those that are active with it.

Where one peer keeps every processor busy, all others wait for their turn on it, however small the service's own
turns are. So a heavy peer is given little at a time, with a rest behind it (`reading.py`): it then waits in its
own socket, and there is time for the others. One that is alone is never held back, nor are those that send alike.
"""

from __future__ import annotations

from collections.abc import Set

# What came counts for so long, at most for twice that; a peer of which nothing came since then is not active.
WINDOW_S = 0.1
# It is judged so often.
LOOK_S = 0.005
# Heavy is who sends so many times as much as the lower half of the active peers, and not less than so much: more
# than a peer can that waits for each reply. It stays so until it is so many times as much no more.
HEAVY = 4
HEAVY_LEAST = 1024
HEAVY_NO_MORE = 2
# Who asks for pages rests for so many times what each took, if that is not next to nothing.
PAGE_RESTS = 4
PAGE_LEAST_S = 0.002
# So many bytes are as much work as a frame.
FRAME_BYTES = 4096


def weight(frames: int, size: int) -> int:
    """How much work they are, in frames."""
    return frames + size // FRAME_BYTES


class Pacing:
    """`heavy`: the peers that are held back now. Each `now` is of a clock that never jumps."""

    def __init__(self) -> None:
        self.heavy: Set[bytes] = frozenset()
        self._came: dict[bytes, int] = {}
        self._before: dict[bytes, int] = {}
        self._ends = 0.0
        self._looked = 0.0

    def came(self, peer: bytes, weight: int, now: float) -> None:
        """So much came of this peer."""
        if now >= self._ends:
            self._next_window(now)
        self._came[peer] = self._came.get(peer, 0) + weight

    def rest(self, peer: bytes, took_s: float, now: float) -> float:
        """For how long a peer has no further page, after one that took so long: not at all where it is alone."""
        if took_s < PAGE_LEAST_S:
            return 0.0
        if now >= self._ends:
            self._next_window(now)
        is_alone = all(len(came) == (peer in came) for came in (self._came, self._before))
        return 0.0 if is_alone else took_s * PAGE_RESTS

    def look(self, now: float) -> bool:
        """Judge who is heavy. Whether that has changed."""
        if now < self._looked + LOOK_S:
            return False
        self._looked = now
        if now >= self._ends:
            self._next_window(now)
        before, self.heavy = self.heavy, self._judged()
        return self.heavy != before

    def _next_window(self, now: float) -> None:
        self._before = self._came if now < self._ends + WINDOW_S else {}
        self._came = {}
        self._ends = now + WINDOW_S

    def _judged(self) -> Set[bytes]:
        came = dict(self._before)
        for peer, much in self._came.items():
            came[peer] = came.get(peer, 0) + much
        if len(came) < 2:
            return frozenset()
        usual = sorted(came.values())[(len(came) - 1) // 2]
        enough, stays = max(usual * HEAVY, HEAVY_LEAST), usual * HEAVY_NO_MORE
        return {peer for peer, much in came.items() if much > (stays if peer in self.heavy else enough)}
