"""Connections between clients and the service: delays, cuts, duplicates; never another order within one."""

from __future__ import annotations

from collections import deque
from itertools import count

from .asked import Attempt

Frames = list[bytes]


class Letter:
    """A command message on its way: its frames, and for each the attempt that it is (None: rubbish)."""

    def __init__(self, delimiter: bool, frames: Frames, attempts: list[Attempt | None]) -> None:
        self.delimiter, self.frames, self.attempts = delimiter, frames, attempts

    def again(self) -> Letter:
        """The same bytes once more."""
        attempts = [each and Attempt(each.ask, each.id) for each in self.attempts]
        return Letter(self.delimiter, self.frames, attempts)

    @property
    def may_repeat(self) -> bool:
        return all(each is None or not each.ask.mutating or each.ask.key is not None for each in self.attempts)


class Connection:
    """One connection of a client; the service knows it by `peer`, which nobody has twice."""

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.to_service: deque[Letter] = deque()
        self.last: Letter | None = None


class Network:
    """`open` has the connections of the clients, in their order; `waiting` what each peer's message waits for."""

    def __init__(self, clients: int) -> None:
        self._peers = count(1)
        self.open = [self._connection() for _ in range(clients)]
        self.waiting: dict[bytes, dict[tuple[int | None, ...], list[Letter]]] = {}

    def _connection(self) -> Connection:
        return Connection(b"peer %d" % next(self._peers))

    def cut(self, client: int, keeps: int) -> int:
        """A connection breaks, and the client makes another; so many undelivered messages go with the new one."""
        old = self.open[client]
        new = self.open[client] = self._connection()
        kept = list(old.to_service)[: keeps % (len(old.to_service) + 1)]
        new.to_service.extend(kept)
        return len(old.to_service) - len(kept)

    def sendable(self) -> list[Connection]:
        return [each for each in self.open if each.to_service]

    def arrived(self, connection: Connection) -> tuple[Letter, Frames]:
        """The next message of a connection is at the service."""
        letter = connection.last = connection.to_service.popleft()
        ids = tuple(each.id if each else None for each in letter.attempts)
        self.waiting.setdefault(connection.peer, {}).setdefault(ids, []).append(letter)
        delimiter = [b""] if letter.delimiter else []
        return letter, [connection.peer, *delimiter, *letter.frames]

    def answered(self, peer: bytes, ids: tuple[int | None, ...]) -> Letter | None:
        """The message that a reply with these ids belongs to; None when there is none."""
        letters = self.waiting.get(peer, {}).get(ids)
        if not letters:
            return None
        letter = letters.pop(0)
        if not letters:
            del self.waiting[peer][ids]
        return letter

    def service_ended(self) -> None:
        self.waiting.clear()

    def unanswered(self) -> list[Letter]:
        return [each for by_ids in self.waiting.values() for letters in by_ids.values() for each in letters]
