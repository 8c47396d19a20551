"""The commands endpoint towards peers that do not take what they are sent: bounded, counted, and nobody waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select

import pytest
import zmq

from storage_service.bus.endpoint import HELD_A_TURN, Endpoint
from tests.support.polling import steps, until

MIB = 1 << 20
PATIENCE_S = 20.0


class Desk:
    """Answers each message with as many bytes as it says."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.address = f"ipc://{folder}/endpoint.ipc"
        self.answered = 0
        self.endpoint = Endpoint(self.loop, self.context, self.address, 8 * MIB, self.answer)
        self.endpoint.start_reading()
        self.peers: list[zmq.Socket[bytes]] = []

    def answer(self, received: list[list[bytes]]) -> None:
        for peer, size in received:
            self.answered += 1
            self.endpoint.send([[peer, b"x" * int(size)]])
        self.endpoint.go_on()

    def peer(self, takes: int = 0) -> zmq.Socket[bytes]:
        """A peer that takes so many messages in advance; 0: any number."""
        peer = self.context.socket(zmq.DEALER)
        peer.linger, peer.sndhwm, peer.rcvhwm = 0, 0, takes
        peer.connect(self.address)
        self.peers.append(peer)
        return peer

    def until(self, look: Callable[[], object]) -> None:
        """Let the endpoint live until this is true."""
        self.loop.run_until_complete(until(look, PATIENCE_S))

    def close(self) -> None:
        for peer in self.peers:
            peer.close(0)
        self.endpoint.close(0)
        self.loop.close()
        self.context.term()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@pytest.mark.timeout(60, method="thread")  # no signal ends a send that blocks
@pytest.mark.parametrize(("size", "count"), [(4 * MIB, 30), (100, 400_000), (20_000, 4_000)])
def test_a_peer_that_never_reads_has_bounded_bytes_and_the_rest_is_counted(
    desk: Desk, size: int, count: int
) -> None:
    deaf, polite = desk.peer(takes=1), desk.peer()
    for _ in range(min(count, 4_000)):
        deaf.send(b"%d" % size)
    desk.until(lambda: desk.answered == min(count, 4_000))
    if size < 1_000:  # what was sent so far fits: as many again, without a socket
        (waits,) = desk.endpoint.backlog._waiting
        for _ in range(count):
            desk.endpoint.send([[waits, b"x" * size]])
    desk.until(lambda: desk.endpoint.backlog.dropped)
    assert desk.endpoint.counts()["reply_bytes_waiting"] <= 40 * MIB
    polite.send(b"%d" % MIB)
    desk.until(lambda: polite.poll(0))
    assert len(polite.recv()) == MIB
    deaf.close()
    desk.until(lambda: not desk.endpoint.counts()["reply_bytes_waiting"])


def test_a_peer_that_reads_late_has_its_replies_whole_and_in_order(desk: Desk) -> None:
    slow = desk.peer(takes=1)
    sizes = [10, MIB, 20, 5 * MIB, 30, 2 * MIB, 4 * MIB, 40, 50] + [100] * 2_000
    for size in sizes:
        slow.send(b"%d" % size)
    desk.until(lambda: desk.answered == len(sizes))
    heard: list[int] = []

    def read() -> bool:
        while slow.poll(0):
            heard.append(len(slow.recv()))
        return len(heard) == len(sizes)

    desk.until(read)
    assert heard == sizes
    desk.until(lambda: not desk.endpoint.counts()["reply_bytes_waiting"])
    assert desk.endpoint.counts()["replies_dropped"] == 0


def test_when_all_room_is_spent_a_peer_that_reads_is_still_answered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_service.bus.backlog.ALL_BYTES", 6 * MIB)
    for _ in range(5):
        deaf = desk.peer(takes=1)
        for _ in range(6):
            deaf.send(b"%d" % (2 * MIB))
    desk.until(lambda: desk.answered == 30)
    assert desk.endpoint.backlog.dropped > 10
    polite = desk.peer()
    for _ in range(20):
        polite.send(b"%d" % (3 * MIB))
        desk.until(lambda: polite.poll(0))
        assert len(polite.recv()) == 3 * MIB


def test_what_goes_to_a_peer_that_is_gone_is_counted_and_kept_by_nobody(desk: Desk) -> None:
    desk.endpoint.send([[b"\x00\x01\x02\x03\x04", b"late"]])
    desk.until(lambda: desk.endpoint.counts() == {"reply_bytes_waiting": 0, "replies_dropped": 1})


# Peers that are held back


class Socket:
    """An endpoint in the same process, where what was sent is there at once. What came, turn by turn."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.turns: list[list[list[bytes]]] = []
        self.endpoint = Endpoint(self.loop, self.context, "inproc://endpoint", MIB, self.turns.append)
        self.endpoint.start_reading()
        self.flood, self.polite = self.peer(b"flood"), self.peer(b"polite")

    def peer(self, name: bytes) -> zmq.Socket[bytes]:
        peer = self.context.socket(zmq.DEALER)
        peer.linger, peer.sndhwm, peer.routing_id = 0, 0, name
        peer.connect("inproc://endpoint")
        return peer

    def turn(self, *held: bytes) -> list[tuple[bytes, int]]:
        """Who sent what comes in the next turn, each with its number of frames."""
        seen = len(self.turns)
        self.endpoint.go_on(set(held))
        self.loop.run_until_complete(until(lambda: len(self.turns) > seen, PATIENCE_S))
        return [(peer, len(frames)) for peer, *frames in self.turns[-1]]

    def close(self) -> None:
        for peer in (self.flood, self.polite):
            peer.close(0)
        self.endpoint.close(0)
        self.loop.close()
        self.context.term()


@pytest.fixture
def socket() -> Iterator[Socket]:
    socket = Socket()
    yield socket
    socket.close()


def test_of_a_peer_that_is_held_back_little_comes_in_a_turn(socket: Socket) -> None:
    for _ in range(600):
        socket.flood.send(b"x")
    assert len(socket.turn()) > 100
    assert socket.turn(b"flood") == [(b"flood", 1)] * HELD_A_TURN
    assert socket.turn(b"flood") == [(b"flood", 1)] * HELD_A_TURN
    assert len(socket.turn()) > 100


def test_all_of_the_others_comes_beside_it(socket: Socket) -> None:
    for _ in range(100):
        socket.flood.send(b"x")
    for _ in range(HELD_A_TURN - 1):
        socket.polite.send(b"x")
    socket.turn()
    for _ in range(100):
        socket.flood.send(b"x")
    for _ in range(HELD_A_TURN - 1):
        socket.polite.send(b"x")
    assert sorted(socket.turn(b"flood")).count((b"polite", 1)) == HELD_A_TURN - 1


def test_what_another_sends_comes_in_the_next_turn_however_much_is_there_before_it(socket: Socket) -> None:
    for _ in range(1_000):
        socket.flood.send(b"x")
    for _ in range(20):
        assert set(socket.turn(b"flood")) == {(b"flood", 1)}
        socket.polite.send(b"x")
        assert (b"polite", 1) in socket.turn(b"flood")


def test_behind_a_long_message_of_a_peer_that_is_held_back_another_peer_s_comes_in_the_same_turn(
    socket: Socket,
) -> None:
    for _ in range(20):
        socket.flood.send_multipart([b"x"] * 100)
    socket.turn()
    for _ in range(5):
        socket.polite.send(b"x")
        assert (b"polite", 1) in socket.turn(b"flood")
    assert socket.turn(b"flood") == [(b"flood", 100)] * 2


# Nothing that comes is overlooked, and the loop rests meanwhile


def test_what_comes_while_replies_leave_is_received_though_sending_used_the_edge_up(socket: Socket) -> None:
    socket.flood.send(b"x")
    socket.turn()
    socket.endpoint.go_on()
    socket.loop.run_until_complete(steps(20))
    socket.polite.send(b"x")
    # In sending, ZeroMQ looks who has sent something if by the processor's clock it did not for a millisecond.
    until = time.monotonic() + 0.01
    while time.monotonic() < until:
        pass
    socket.endpoint.send([[b"flood", b"reply"]])
    assert socket.turn() == [(b"polite", 1)]


def test_what_comes_before_the_last_was_taken_is_received_after_it_and_keeps_the_loop_from_nothing(
    socket: Socket,
) -> None:
    socket.flood.send(b"x")
    socket.turn()
    socket.polite.send(b"x")
    socket.loop.run_until_complete(steps(20))
    assert len(socket.turns) == 1
    assert not select([socket.endpoint._descriptor], [], [], 0)[0], "it is told again and again"
    assert socket.turn() == [(b"polite", 1)]
