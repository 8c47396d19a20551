"""Promise R6: one bad peer harms nobody. Every peer here is a raw socket that does what it should not.

While it does, a polite peer is answered, each command within `PATIENCE_S`, and the service's memory stays within
bounds. Nothing here judges speed: `python -m bench.hostile` measures it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire, read_reply

PATIENCE_S = 5.0
MIB = 1 << 20


@pytest.fixture
def attacked(own_service: Callable[..., Service]) -> Service:
    """A service over TCP with an open acquisition, and 16 MiB of events in its journal."""
    service = own_service(transport="tcp")
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g").open()
        storage.run("r")
        storage.acq("a", "r")
        for n in range(256):
            wire.post(
                "set_param_acq_storage", storage_id="s", acq_id="root/g/r/a", param="x", value=f"{n} " * 16_000
            )
        eventually(lambda: wire.call("get_status")["journal"]["last_seq"] > 256)
    return service


def memory(service: Service) -> int:
    """Bytes of the service's process that are in memory."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found, status
    return int(found[1]) * 1024


def frame(cmd: str, number: int = 0, **args: object) -> bytes:
    return bytes(msgpack.packb({"id": number, "cmd": cmd, "args": args}))


REPLAY = frame("replay_events", limit=10_000)
ACQ = {"storage_id": "s", "acq_id": "root/g/r/a"}


class Polite:
    """Asks for one thing after the other, and looks at the service's memory between them."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.most = self.start = memory(service)
        self.wire = service.connect(patience_s=PATIENCE_S)
        self.value = 0

    def ask(self) -> None:
        """A ping, a change, a record, a page: each answered in time."""
        self.value += 1
        self.wire.call("ping")
        assert self.wire.call("set_param_acq_storage", **ACQ, param="polite", value=self.value)["stored"]
        assert self.wire.call("get_acq", acq_id=ACQ["acq_id"])["params"]["polite"] == self.value
        assert len(self.wire.call("list_acqs")["acqs"]) == 1
        self.most = max(self.most, memory(self.service))

    def ask_for(self, seconds: float) -> None:
        """So long, and at least ten times."""
        until, asked = time.monotonic() + seconds, 0
        while time.monotonic() < until or asked < 10:
            self.ask()
            asked += 1

    @property
    def grown(self) -> int:
        """MiB by which memory grew at most."""
        return (self.most - self.start) // MIB


@pytest.fixture
def polite(attacked: Service) -> Iterator[Polite]:
    polite = Polite(attacked)
    polite.ask()
    with polite.wire:
        yield polite


@contextlib.contextmanager
def dealer(service: Service) -> Iterator[zmq.Socket[bytes]]:
    """A peer of which nobody reads what it gets, and which takes little in advance."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 1), (zmq.RCVBUF, 4096)):
            peer.setsockopt(option, value)
        peer.connect(service.commands)
        yield peer


@contextlib.contextmanager
def meanwhile(work: Callable[[], object], every_s: float = 0.0) -> Iterator[None]:
    """Do it over and over in a thread, at this pace, until the block is left."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every_s):
            work()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


def queues(wire: Wire) -> dict[str, int]:
    return dict(wire.call("get_status")["queues"])


def is_calm(service: Service) -> bool:
    """Whether nothing of bad peers is left in the service."""
    with service.connect() as wire:
        found = queues(wire)
    left = ("bytes_waiting", "queries_waiting", "reply_bytes_waiting")
    return found["commands_waiting"] == 1 and not any(found[name] for name in left if name != "bytes_waiting")


# Peers that do not read


def test_a_message_of_a_thousand_replays_is_answered_within_the_bytes_of_one_reply(attacked: Service) -> None:
    before = memory(attacked)
    with attacked.connect() as wire:
        wire.send_raw([REPLAY] * 1024)
        replies = wire.recv_raw()
    assert len(replies) == 1024
    assert sum(map(len, replies)) < 6 * MIB
    told = [msgpack.unpackb(reply) for reply in replies]
    assert told[0]["result"]["more"]
    assert {each["error"]["code"] for each in told[1:] if not each["ok"]} == {"overloaded"}
    assert told[-1]["error"]["details"]["retry_after_s"] > 0
    assert memory(attacked) - before < 100 * MIB


def test_a_peer_that_asks_for_large_replies_and_never_reads_them_costs_bounded_memory(
    attacked: Service, polite: Polite
) -> None:
    with dealer(attacked) as peer:
        for _ in range(400):
            peer.send(REPLAY)
        for _ in range(20):
            peer.send_multipart([REPLAY] * 1024)
        eventually(lambda: queues(polite.wire)["reply_bytes_waiting"] > 0)
        polite.ask_for(3)
        # What nobody reads is not even read from the database.
        eventually(lambda: polite.ask() or queues(polite.wire)["queries_waiting"] > 0)
    assert polite.grown < 200
    eventually(lambda: is_calm(attacked))
    polite.ask()
    assert (memory(attacked) - polite.start) // MIB < 120


def test_a_peer_that_asks_for_small_replies_and_never_reads_them_blocks_nobody(
    attacked: Service, polite: Polite
) -> None:
    with dealer(attacked) as peer:
        for _ in range(6_000):
            peer.send_multipart([frame("ping")] * 32)
        eventually(lambda: polite.ask() or queues(polite.wire)["reply_bytes_waiting"] > MIB)
    assert polite.grown < 200
    eventually(lambda: is_calm(attacked))


def test_many_peers_that_never_read_share_bounded_memory(attacked: Service, polite: Polite) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            peer = stack.enter_context(dealer(attacked))
            for _ in range(20):
                peer.send(REPLAY)
        polite.ask_for(4)
    assert polite.grown < 600
    eventually(lambda: is_calm(attacked))
    polite.ask()


def test_a_subscriber_that_never_reads_costs_bounded_memory(attacked: Service, polite: Polite) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as deaf, attacked.connect() as busy:
        for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 1), (zmq.RCVBUF, 4096)):
            deaf.setsockopt(option, value)
        deaf.subscribe("")
        deaf.connect(attacked.events)
        for n in range(1_000):
            busy.post("set_param_acq_storage", **ACQ, param="x", value=f"{n} " * 16_000)
        polite.ask_for(2)
    assert polite.grown < 300


# Peers that flood


def test_a_flood_of_commands_is_late_or_refused_and_harms_nobody(attacked: Service, polite: Polite) -> None:
    with dealer(attacked) as peer:
        value = frame("set_param_acq_storage", **ACQ, param="flood", value=1)

        def flood() -> None:
            with contextlib.suppress(zmq.Again):
                peer.send_multipart([value] * 256, zmq.NOBLOCK)

        peer.setsockopt(zmq.SNDHWM, 100)
        with meanwhile(flood, every_s=0.001):
            polite.ask_for(4)
    assert polite.grown < 200


def test_a_flood_of_garbage_harms_nobody(attacked: Service, polite: Polite) -> None:
    with dealer(attacked) as peer:
        bomb = b"\xdd\x7f\xff\xff\xff" * 1_000

        def flood() -> None:
            for garbage in (b"", b"\xc1" * 100, bomb, b"\x00" * MIB, frame("no_such_thing", x=1)):
                with contextlib.suppress(zmq.Again):
                    peer.send_multipart([garbage] * 3, zmq.NOBLOCK)

        with meanwhile(flood, every_s=0.001):
            polite.ask_for(3)
    assert polite.grown < 200


def test_one_peer_cannot_have_all_the_room_of_what_waits(attacked: Service, polite: Polite) -> None:
    with attacked.connect(patience_s=120) as greedy:
        for n in range(15_000):
            greedy.post("new_acq_storage", storage_id="s", run_name="r", acq_name=f"b{n}")
        for _ in range(10):
            assert polite.wire.call("register_producer_storage", storage_id="s", producer="p")
            assert queues(polite.wire)["commands_waiting"] <= 10_001
        eventually(lambda: read_reply(greedy.recv_raw()[0]).get("error", {}).get("code") == "overloaded")
    assert polite.grown < 100


# Peers that say little


def connected(service: Service) -> socket.socket:
    """A plain TCP connection to the commands endpoint."""
    host, _, port = service.commands.removeprefix("tcp://").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"

PING = b"\x00\x0a\x81\xa3cmd\xa4ping"


def greeted(service: Service) -> socket.socket:
    """A plain TCP connection that has said by hand what a DEALER says, and may send messages."""
    peer = connected(service)
    peer.settimeout(PATIENCE_S)
    peer.sendall(GREETING + READY)
    heard = b""
    while b"ROUTER" not in heard:
        heard += peer.recv(1) or pytest.fail("it was cut before it was greeted")
    return peer


def test_connections_that_stay_half_open_harm_nobody(attacked: Service, polite: Polite) -> None:
    with contextlib.ExitStack() as stack:
        for said in (b"", b"\xff", GREETING[:40], GREETING, GREETING + READY[:5]):
            for _ in range(40):
                stack.enter_context(connected(attacked)).sendall(said)
        polite.ask_for(2)
    assert polite.grown < 100


def test_a_peer_that_reconnects_as_fast_as_it_can_harms_nobody(attacked: Service, polite: Polite) -> None:
    with greeted(attacked) as peer:
        peer.sendall(PING)
        heard = b""
        while b"\xa4time" not in heard:
            heard += peer.recv(1) or pytest.fail("it was cut before it was answered")

    def reconnect() -> None:
        with contextlib.suppress(OSError), greeted(attacked) as peer:
            peer.sendall(PING)

    with meanwhile(reconnect):
        polite.ask_for(4)
    assert polite.grown < 100
    eventually(lambda: is_calm(attacked))


def test_a_peer_that_sends_a_byte_now_and_then_harms_nobody(attacked: Service, polite: Polite) -> None:
    with greeted(attacked) as slow:
        slow.sendall(b"\x02" + MIB.to_bytes(8, "big"))

        def one_byte() -> None:
            with contextlib.suppress(OSError):  # should the service cut it
                slow.sendall(b"x")

        with meanwhile(one_byte, every_s=0.05):
            polite.ask_for(3)
    assert polite.grown < 50


def test_peers_that_die_with_much_unread_do_not_take_the_service_with_them(
    attacked: Service, polite: Polite
) -> None:
    dead = []
    for _ in range(40):
        # One after the other over the time between two heartbeats: what is due at each of them is due at any time.
        dead.append(greeted(attacked))
        polite.ask_for(5 / 40)
    message = (b"\x01" + PING[1:]) * 1023 + PING
    for peer in dead:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while True:
                peer.sendall(message)
    for peer in dead:
        peer.close()
    polite.ask_for(5)
    assert attacked.running


# Peers that ask for much


def test_a_polite_peer_is_not_behind_four_hundred_replays_of_another(attacked: Service, polite: Polite) -> None:
    with attacked.connect(patience_s=120) as heavy:
        numbers = [heavy.post("replay_events", limit=10_000) for _ in range(400)]
        waiting = []
        for _ in range(10):
            polite.ask()
            waiting.append(queues(polite.wire)["queries_waiting"])
        assert max(waiting) > 200, "the replays were over before the polite peer could be behind them"
        assert heavy.collect(numbers[0])["events"]
    assert polite.grown < 200
