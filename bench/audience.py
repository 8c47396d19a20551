"""Subscribers, all in one process: `python -m bench.audience ENDPOINT SOCKETS TOPIC`; a TOPIC of "" is everything.

It prints a line when each socket has heard something, so that none joins late. Then a line with a number is read:
so many events each socket is to get, heartbeats not counted. When they have come, or nothing for SILENCE_S, one
line of JSON says what did. The times of arrival are kept when there is more than one socket.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgpack
import zmq

from bench.process import StartError, last_words, program

HEARTBEAT = b"service.heartbeat"
SILENCE_S = 10.0
START_S = 30.0
MOST = 1 << 62  # events, until it is known how many there are to be


@dataclass(frozen=True)
class Heard:
    """
    events   how many all sockets together got
    first_s  by seq, when the first socket had it, in seconds since 1970; last_s: when the last one had it
    sockets  by seq, how many sockets got it
    bodies   by seq, its bytes as hex, from one socket
    cpu_s    of all sockets
    """

    events: int
    cpu_s: float
    first_s: dict[int, float]
    last_s: dict[int, float]
    sockets: dict[int, int]
    bodies: dict[int, str]


class Audience:
    """A process of subscribers."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    def heard(self, events: int) -> Heard:
        """Wait until each socket had so many events, or nothing comes any more; what was heard. Only once.

        Raises StartError when the process has failed.
        """
        told, _ = self._process.communicate(f"{events}\n")
        if self._process.returncode or not told.strip():
            raise StartError(f"the subscribers have failed: {last_words(self._log)}")
        found = json.loads(told)
        for name in ("first_s", "last_s", "sockets", "bodies"):
            found[name] = {int(seq): value for seq, value in found[name].items()}
        return Heard(**found)


@contextmanager
def listening(endpoint: str, sockets: int, topic: str, log: Path) -> Iterator[Audience]:
    """Subscribers to a topic, each of which has heard something already.

    Raises StartError when they hear nothing.
    """
    with program("bench.audience", endpoint, str(sockets), topic, log=log, asked=True) as process:
        if not (process.stdout and process.stdout.readline()):
            raise StartError(f"the subscribers do not start: {last_words(log)}")
        yield Audience(process, log)


class Listener:
    """The sockets, and what each of them got."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, count: int, topic: bytes) -> None:
        self._poller = zmq.Poller()
        self._topic = topic
        self._sockets = [context.socket(zmq.SUB) for _ in range(count)]
        for socket in self._sockets:
            socket.linger = 0
            socket.rcvhwm = 0
            for each in {HEARTBEAT, topic}:
                socket.subscribe(each)
            socket.connect(endpoint)
            self._poller.register(socket, zmq.POLLIN)
        self.events = 0
        self.arrivals: list[tuple[float, bytes]] = []

    def join(self) -> None:
        """Wait until each socket has heard something. Exits when one does not."""
        deaf, deadline = set(self._sockets), time.monotonic() + START_S
        while deaf:
            if time.monotonic() > deadline:
                sys.exit(f"{len(deaf)} subscribers hear nothing")
            for socket, _ in self._poller.poll(100):
                deaf.discard(socket)
                self._take(socket)

    def listen(self, events: list[int]) -> None:
        """Until all sockets have got as many events as `events` says by then, or nothing more comes."""
        heard_at = time.monotonic()
        while self.events < events[0]:
            before = self.events
            for socket, _ in self._poller.poll(100):
                self._take(socket)
            if self.events > before or events[0] == MOST:
                heard_at = time.monotonic()
            elif time.monotonic() > heard_at + SILENCE_S:
                return

    def _take(self, socket: "zmq.Socket[bytes]") -> None:
        receive, several = socket.recv, len(self._sockets) > 1
        try:
            while True:
                topic, body = receive(zmq.NOBLOCK), receive()
                if topic.startswith(HEARTBEAT):
                    continue
                self.events += 1
                if several:
                    self.arrivals.append((time.time(), body))
        except zmq.Again:
            return

    def told(self) -> Heard:
        """What was heard."""
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        sockets: dict[int, int] = {}
        bodies: dict[int, str] = {}
        for at, body in self.arrivals:
            seq = msgpack.unpackb(body)["seq"]
            first.setdefault(seq, at)
            bodies.setdefault(seq, body.hex())
            last[seq] = at
            sockets[seq] = sockets.get(seq, 0) + 1
        return Heard(self.events, time.process_time(), first, last, sockets, bodies)


def main(endpoint: str, count: str, topic: str) -> None:
    """Listen, until it is known how much there is to be heard and it was heard."""
    events = [MOST]

    def read() -> None:
        events[0] = int(sys.stdin.readline() or 0) * int(count)

    with zmq.Context() as context:
        listener = Listener(context, endpoint, int(count), topic.encode())
        listener.join()
        print("listening", flush=True)
        threading.Thread(target=read, daemon=True).start()
        listener.listen(events)
        print(json.dumps(asdict(listener.told())), flush=True)
        context.destroy(linger=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
