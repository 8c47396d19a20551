"""What is due by time: `finish_timeout_s` and `producer_timeout_s`, from the protocol's text (4.2) alone.

`finish_timeout_s` after its first mark an acquisition is closed. A producer that an open acquisition waits for,
and of which nothing was heard for `producer_timeout_s`, is lost; one for which all others marked is closed.
Silence counts from the last sign of life, the acquisition's start and the service's start.

That it does not come too early can be told where nobody set the clock, since only then a time of the wall is one
of the other clock. That it comes at all is looked at in every life, at its end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from storage_protocol.times import from_wire

from .broken import must
from .records import Map

Producer = tuple[str, str]
NEARLY_S = 0.002


class Patience:
    """`steady`: nobody has set the clock. All times are of the wall, in seconds since 1970."""

    def __init__(self) -> None:
        self.steady = True
        self._starts: list[float] = []
        self._signs: dict[Producer, list[float]] = defaultdict(list)
        self._vouched: dict[bytes, set[Producer]] = defaultdict(set)

    def started(self, wall: float) -> None:
        """The service started: no connection speaks for anybody yet."""
        self._starts.append(wall)
        self._vouched.clear()

    def arrived(self, peer: bytes, named: Collection[Producer], wall: float) -> None:
        """A message came: a sign of life of whom it names, and of all whom its connection named before."""
        self._vouched[peer].update(named)
        for producer in self._vouched[peer]:
            self._signs[producer].append(wall)

    def lost(self, event: Map, storage: Map, waiting: list[Map]) -> None:
        """A producer was told as lost; `waiting` are the open acquisitions that wait for it."""
        after, name = storage["producer_timeout_s"], event["data"]["producer"]
        must(after is not None, "wrong", "lost, and there is no producer_timeout_s", event)
        must(waiting, "wrong", "lost, and nobody waits for it", event)
        if self.steady:
            now = from_wire(event["time"])
            heard = [*self._signs[storage["storage_id"], name], *self._starts]
            last = max(when for when in heard if when < now - NEARLY_S / 4)
            since = max(last, min(acq["at"] for acq in waiting))
            must(now - since >= after - NEARLY_S, "wrong", f"lost after {now - since} s", event)

    def timed_out(self, event: Map, storage: Map) -> None:
        """An acquisition was closed because its marks did not come."""
        after, acq = storage["finish_timeout_s"], event["data"]
        must(after is not None and acq["finished"], "wrong", "no mark came, or none is waited for so", event)
        if self.steady:
            took = from_wire(event["time"]) - from_wire(acq["producers"][0]["time"])
            must(took >= after - NEARLY_S, "wrong", f"closed after {took} s", event)

    @staticmethod
    def others_marked(event: Map, storage: Map, lost: Collection[Producer]) -> None:
        """An acquisition was closed because nobody but lost producers was waited for."""
        acq = event["data"]
        must(storage["producer_timeout_s"] is not None, "wrong", "there is no producer_timeout_s", event)
        must(acq["missing"], "wrong", "nobody is missing", event)
        silent = all((storage["storage_id"], name) in lost for name in acq["missing"])
        must(
            silent and acq["finished"] >= acq["expected"] - len(acq["missing"]), "wrong", "too early", event, lost
        )


def overdue(acq: Map, storage: Map, lost: Collection[Producer]) -> Any:
    """What should have become of an open acquisition when nothing was heard for longer than all time-outs."""
    if storage["finish_timeout_s"] is not None and acq["finished"]:
        return "finish_timeout_s"
    if storage["producer_timeout_s"] is None or not acq["missing"]:
        return None
    if untold := [name for name in acq["missing"] if (storage["storage_id"], name) not in lost]:
        return f"{untold} should be lost"
    return "all others marked" if acq["finished"] >= acq["expected"] - len(acq["missing"]) else None
