"""The load generator for peers that are spoken to over a plain TCP stream, as bench/load.py is for the service.

`python -m bench.stream_load PEER`, a `Load` as JSON on standard input, a `Measured` as JSON on standard output.
Everything that is sent is encoded before the clock starts; of the answers the acknowledgements are counted, which
come in the order of the requests.
"""

import dataclasses
import gc
import json
import selectors
import socket
import sys
import time
from collections.abc import Callable
from itertools import repeat

import msgpack

from bench.load import (
    FIRST_ID,
    MARGIN,
    PARAMS,
    POOL_COMMANDS,
    SILENCE_S,
    WARM_UP_COMMANDS,
    WARM_UP_S,
    Load,
    uuid7s,
)
from bench.measured import LoadError, Measured, Tally, cpu_s

Place = tuple[str, str]
KEYS_KEPT_S = 7 * 86_400  # as long as the service keeps keys


@dataclasses.dataclass(frozen=True)
class Peer:
    """How a peer is spoken to.

    greeting  what a connection says first; welcome: what its answer ends with
    request   the bytes that make a parameter durable: place, number, parameter, value, key
    good      what each acknowledgement has in it once, and nothing else has; bad: what a refusal has
    """

    greeting: Callable[[Place], bytes]
    welcome: bytes
    request: Callable[[Place, int, str, int, str], bytes]
    good: bytes
    bad: bytes


def command(place: Place, number: int, param: str, value: int, key: str) -> bytes:
    """The command as the service gets it: what a journal keeps."""
    args = {"storage_id": place[0], "acq_id": place[1], "param": param, "value": value}
    packed: bytes = msgpack.packb(
        {"v": 1, "id": FIRST_ID + number, "cmd": "set_param_acq_storage", "args": args, "key": key}
    )
    return packed


def of_redis(place: Place, number: int, param: str, value: int, key: str) -> bytes:
    """A journal entry, the parameter and the key, in one transaction."""
    asked = (
        (b"MULTI",),
        (b"XADD", b"journal", b"*", b"command", command(place, number, param, value, key)),
        (b"HSET", place[1].encode(), param.encode(), str(value).encode()),
        (b"SET", key.encode(), b"stored", b"NX", b"EX", str(KEYS_KEPT_S).encode()),
        (b"EXEC",),
    )
    return b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        for words in asked
    )


def of_nats(place: Place, number: int, param: str, value: int, key: str) -> bytes:
    """A message of the parameter's own subject, whose newest is its value; the key is its message id."""
    subject = f"param.{place[1].replace('/', '.')}.{param}".encode()
    headers = f"NATS/1.0\r\nNats-Msg-Id: {key}\r\n\r\n".encode()
    body = command(place, number, param, value, key)
    size = len(headers) + len(body)
    head = b"HPUB %s _INBOX.%s %d %d\r\n" % (subject, place[0].encode(), len(headers), size)
    return head + headers + body + b"\r\n"


PING, PONG = b"PING\r\n", b"PONG\r\n"  # of NATS, which asks now and then who is still there
NATS_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'


def hello_redis(place: Place) -> bytes:
    """A question, to see that it is there."""
    return b"*1\r\n$4\r\nPING\r\n"


def hello_nats(place: Place) -> bytes:
    """Who this is, an inbox of its own for the acknowledgements, and a question."""
    return NATS_CONNECT + b"SUB _INBOX.%s 1\r\n" % place[0].encode() + PING


PEERS = {
    "redis": Peer(hello_redis, b"+PONG\r\n", of_redis, b"*3\r\n", b"-E"),
    "nats": Peer(hello_nats, PONG, of_nats, b'"seq":', b'"error"'),
}


class Connection:
    """One connection, the requests that it will send and when each was sent."""

    def __init__(self, stream: socket.socket, peer: Peer, place: Place) -> None:
        self.socket = stream
        self._peer, self._place = peer, place
        self._requests: list[bytes] = []
        self._sent_at: list[float] = []
        self._acknowledged = 0
        self._rest = b""  # the end of what was heard, which may be the beginning of an acknowledgement
        self._value = 0

    def encode(self, keys: list[str]) -> None:
        """Replace its requests by new ones, one for each key. Every value is another one."""
        self._requests = []
        for number, key in enumerate(keys):
            self._value += 1
            param = f"param_{number % PARAMS}"
            self._requests.append(self._peer.request(self._place, number, param, self._value, key))
        self._sent_at, self._acknowledged = [], 0

    def send(self, count: int) -> int:
        """Send the next `count` requests, or as many as are left; how many there were."""
        start = len(self._sent_at)
        requests = self._requests[start : start + count]
        self._sent_at.extend(repeat(time.perf_counter(), len(requests)))
        self.socket.sendall(b"".join(requests))
        return len(requests)

    def receive(self, tally: Tally) -> int:
        """Count what is acknowledged, with its latency; how many answers there were. Raises LoadError."""
        heard = self.socket.recv(1 << 18)
        if not heard:
            raise LoadError("the peer has closed a connection")
        now = time.perf_counter()
        text = self._rest + heard
        mark = self._peer.good
        good, bad = text.count(mark), heard.count(self._peer.bad)
        if bad:
            tally.refusals[text[:200].decode(errors="replace")] += bad
        if PING in heard:
            self.socket.sendall(PONG)
        self._rest = text[text.rfind(mark) + len(mark) if good else 0 :][1 - len(mark) :]
        tally.commands += good
        done = self._acknowledged + good + bad
        tally.latencies_s += [now - at for at in self._sent_at[self._acknowledged : done]]
        self._acknowledged = done
        return good + bad


def connected(endpoint: str, peer: Peer, place: Place) -> Connection:
    """A connection to a peer that has answered. Raises OSError, and LoadError when the peer hangs up."""
    host, _, port = endpoint.removeprefix("tcp://").partition(":")
    stream = socket.create_connection((host, int(port)), timeout=SILENCE_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(peer.greeting(place))
    heard = b""
    while not heard.endswith(peer.welcome):
        if not (data := stream.recv(65536)):
            raise LoadError(f"the peer hangs up: {heard[:200]!r}")
        heard += data
    return Connection(stream, peer, place)


def drive(connections: list[Connection], load: Load, seconds: float) -> Tally:
    """As that of bench/load.py. Raises LoadError when no answer comes for SILENCE_S."""
    tally = Tally()
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        start = time.perf_counter()
        outstanding = sum(connection.send(load.window) for connection in connections)
        while outstanding:
            ready = selector.select(SILENCE_S)
            if not ready:
                raise LoadError(f"the peer has not answered for {SILENCE_S} s")
            for key, _ in ready:
                answers = key.data.receive(tally)
                outstanding -= answers
                if answers and time.perf_counter() - start < seconds:
                    outstanding += key.data.send(answers)
        tally.elapsed_s = time.perf_counter() - start
    return tally


def encode(connections: list[Connection], commands: int) -> None:
    """New requests for all, `commands` in sum."""
    keys = uuid7s(max(commands // len(connections), 1) * len(connections))
    for number, connection in enumerate(connections):
        connection.encode(keys[number :: len(connections)])


def run(peer: Peer, load: Load) -> Measured:
    """Warm up, encode as much as the rate seen will use up, then measure. Raises LoadError and OSError."""
    connections = [connected(load.endpoint, peer, place) for place in load.places]
    encode(connections, WARM_UP_COMMANDS)
    warm = drive(connections, load, WARM_UP_S)
    encode(connections, min(int(warm.commands / warm.elapsed_s * load.seconds * MARGIN), POOL_COMMANDS))
    gc.disable()
    server, own = cpu_s(load.server_pid), time.process_time()
    tally = drive(connections, load, load.seconds)
    server, own = cpu_s(load.server_pid) - server, time.process_time() - own
    for connection in connections:
        connection.socket.close()
    return tally.measured(warm, server, own)


if __name__ == "__main__":
    try:
        print(json.dumps(dataclasses.asdict(run(PEERS[sys.argv[1]], Load(**json.load(sys.stdin))))))
    except (LoadError, OSError) as failure:
        sys.exit(str(failure))
