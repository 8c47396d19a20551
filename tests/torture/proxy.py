"""A forwarder between clients and the service, as a process of its own, that loses, doubles, delays and cuts.

    python -m tests.torture.proxy FRONT BACK SEED

Each client has a connection of its own to the service behind it, as if it were not there.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
import time

import zmq

LOSE = 0.02
DOUBLE = 0.04
DELAY = 0.06
CUT = 0.002
MOST_DELAY_S = 0.6
# Connections of clients that are gone; the oldest are closed.
MOST_LINES = 200


class Proxy:
    """One loop; what is to be sent later waits in a heap."""

    def __init__(self, front: str, back: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.back = back
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.front = self.context.socket(zmq.ROUTER)
        self.front.setsockopt(zmq.LINGER, 0)
        self.front.bind(front)
        self.poller = zmq.Poller()
        self.poller.register(self.front, zmq.POLLIN)
        self.lines: dict[bytes, zmq.Socket[bytes]] = {}
        self.peers: dict[zmq.Socket[bytes], bytes] = {}
        self.later: list[tuple[float, int, bytes, bool, list[bytes]]] = []
        self.numbers = itertools.count()

    def serve(self) -> None:
        """Forward for ever."""
        while True:
            for socket, _ in self.poller.poll(self._patience_ms()):
                for _ in range(64):
                    try:
                        frames = socket.recv_multipart(zmq.NOBLOCK)
                    except (zmq.Again, zmq.ZMQError):
                        break
                    if socket is self.front:
                        self._pass(frames[0], True, frames[1:])
                    elif socket in self.peers:
                        self._pass(self.peers[socket], False, frames)
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, _, peer, inward, frames = heapq.heappop(self.later)
                self._send(peer, inward, frames)

    def _patience_ms(self) -> int:
        if not self.later:
            return 1000
        return max(0, min(1000, int((self.later[0][0] - time.monotonic()) * 1000) + 1))

    def _pass(self, peer: bytes, inward: bool, frames: list[bytes]) -> None:
        if self.chance.random() < CUT:
            self._close(peer)
        if self.chance.random() < LOSE:
            return
        copies = 2 if self.chance.random() < DOUBLE else 1
        for copy in range(copies):
            if self.chance.random() < (0.7 if copy else DELAY):
                due = time.monotonic() + self.chance.random() * MOST_DELAY_S
                heapq.heappush(self.later, (due, next(self.numbers), peer, inward, frames))
            else:
                self._send(peer, inward, frames)

    def _send(self, peer: bytes, inward: bool, frames: list[bytes]) -> None:
        if inward:
            self._line(peer).send_multipart(frames)
        else:
            self.front.send_multipart([peer, *frames])

    def _line(self, peer: bytes) -> zmq.Socket[bytes]:
        if (line := self.lines.get(peer)) is not None:
            return line
        while len(self.lines) >= MOST_LINES:
            self._close(next(iter(self.lines)))
        line = self.context.socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.RECONNECT_IVL, 20)):
            line.setsockopt(option, value)
        line.connect(self.back)
        self.poller.register(line, zmq.POLLIN)
        self.lines[peer], self.peers[line] = line, peer
        return line

    def _close(self, peer: bytes) -> None:
        if (line := self.lines.pop(peer, None)) is not None:
            self.poller.unregister(line)
            del self.peers[line]
            line.close(0)


if __name__ == "__main__":
    Proxy(sys.argv[1], sys.argv[2], int(sys.argv[3])).serve()
