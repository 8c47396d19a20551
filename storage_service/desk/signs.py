"""Signs of life: when something was last heard of a producer, by the connections that speak for it (SPEC 4.1.6).

A connection that has named a producer vouches for it with every later message. A message then costs one look into
a dict, however many producers its connection has named: what was heard of one is worked out when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable

Producer = tuple[str, str]
"""The storage's id and the producer's name."""

# Connections that are remembered; beyond them those go of which nothing was heard for longest. Names that one
# connection may vouch for: beyond them it vouches for those that it named last.
MANY_PEERS = 10_000
MANY_NAMES = 1_024


class Signs:
    """Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._heard: dict[bytes, float] = {}
        self._names: dict[bytes, dict[Producer, None]] = {}
        self._vouchers: dict[Producer, set[bytes]] = {}

    def heard(self, peer: bytes, mono: float) -> bool:
        """A message came. Whether its connection speaks for anybody."""
        if peer not in self._heard:
            return False
        self._heard[peer] = mono
        return True

    def named(self, peer: bytes, producer: Producer, mono: float) -> None:
        """A connection named a producer: from now on it vouches for it."""
        if peer not in self._heard and len(self._heard) >= MANY_PEERS:
            self._forget_silent_half()
        self._heard[peer] = mono
        names = self._names.setdefault(peer, {})
        names.pop(producer, None)
        names[producer] = None
        self._vouchers.setdefault(producer, set()).add(peer)
        if len(names) > MANY_NAMES:
            self._unname(peer, next(iter(names)))

    def names(self, peer: bytes) -> Iterable[Producer]:
        """Whom a connection speaks for."""
        return tuple(self._names.get(peer, ()))

    def last(self, producer: Producer) -> float:
        """When something of this producer was heard last; minus infinity: never, as far as is remembered."""
        return max((self._heard[peer] for peer in self._vouchers.get(producer, ())), default=float("-inf"))

    def _unname(self, peer: bytes, producer: Producer) -> None:
        del self._names[peer][producer]
        vouchers = self._vouchers[producer]
        vouchers.discard(peer)
        if not vouchers:
            del self._vouchers[producer]

    def _forget_silent_half(self) -> None:
        for peer in sorted(self._heard, key=self._heard.__getitem__)[: len(self._heard) // 2]:
            for producer in self.names(peer):
                self._unname(peer, producer)
            del self._names[peer], self._heard[peer]
