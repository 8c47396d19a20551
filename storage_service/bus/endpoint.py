"""The commands endpoint: a ROUTER socket in the loop, without a task and without a future a message.

One function, `_turn`, owns the socket: it sends what is queued and receives what is there. The socket's descriptor
is edge-triggered and every call on the socket may use the edge up, so a turn ends by looking at EVENTS once more.
Sends never block: what a peer does not take is dropped and counted, since its reply is in the database.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import zmq

from ..failpoints import passing

# A turn gives the loop back after so many messages, bytes or seconds, whichever is first: what was received is
# decoded and decided in the same turn, and that takes as long as it is large.
MESSAGES_A_TURN = 256
BYTES_A_TURN = 1 << 20
SECONDS_A_TURN = 0.005
# Messages of one peer that wait in the socket. It counts messages and not bytes; beyond it the peer itself waits.
MESSAGES_A_PEER = 64
# Replies that wait for one peer in the socket. It counts messages: a peer that does not read costs at most these.
REPLIES_A_PEER = 10_000
HEARTBEAT_MS = 5_000


# As plain ints: combining flags of an enum costs more than sending a small frame.
LAST = int(zmq.DONTWAIT)
MORE = int(zmq.DONTWAIT | zmq.SNDMORE)


class BindError(Exception):
    """An endpoint cannot be bound; the message is one sentence."""


def bind(socket: zmq.Socket[bytes], address: str) -> None:
    """Bind, or raise BindError."""
    if "[" in address:
        socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise BindError(f"The endpoint {address} cannot be bound: {error.strerror}.") from None


class Endpoint:
    """Messages in, messages out; each is a list of parts, of which the first is the peer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        message_bytes: int,
        on_messages: Callable[[list[list[bytes]]], None],
    ) -> None:
        self._loop = loop
        self._on_messages = on_messages
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, message_bytes)
        self._socket.setsockopt(zmq.RCVHWM, MESSAGES_A_PEER)
        self._socket.setsockopt(zmq.SNDHWM, REPLIES_A_PEER)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
        self._outgoing: deque[list[bytes]] = deque()
        self._turn_is_due = False
        self._reading = False
        self.dropped = 0
        try:
            bind(self._socket, address)
        except BindError:
            self._socket.close(linger=0)
            raise
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        loop.add_reader(self._descriptor, self._turn)
        self._turn_soon()

    def send(self, parts: list[bytes]) -> None:
        """Queue a message; it goes out in the next turn."""
        self._outgoing.append(parts)
        self._turn_soon()

    def start_reading(self) -> None:
        """Take commands. Until then they wait in the socket: nothing is decided before what was left is known."""
        self._reading = True
        self._turn_soon()

    def stop_reading(self) -> None:
        """Take no more commands; replies still go out."""
        self._reading = False

    def close(self, linger_ms: int) -> None:
        """Send what is queued, waiting at most so long for peers to take it."""
        self._loop.remove_reader(self._descriptor)
        self._send_queued()
        self._socket.close(linger=linger_ms)

    def _turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        if self._socket.closed:
            return
        self._send_queued()
        if self._reading:
            received = self._receive()
            if received:
                self._on_messages(received)
                self._send_queued()
        if self._outgoing or (self._reading and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN):
            self._turn_soon()

    def _send_queued(self) -> None:
        outgoing = self._outgoing
        while outgoing:
            parts = outgoing.popleft()
            passing("endpoint.reply_leaves")
            try:
                for part in parts[:-1]:
                    self._socket.send(part, MORE)
                self._socket.send(parts[-1], LAST)
            except zmq.ZMQError:
                # EHOSTUNREACH: the peer is gone. EAGAIN: it does not read. It asks again, with the same key.
                self.dropped += 1
            passing("endpoint.reply_left")

    def _receive(self) -> list[list[bytes]]:
        received: list[list[bytes]] = []
        size = 0
        until = time.monotonic() + SECONDS_A_TURN
        while len(received) < MESSAGES_A_TURN:
            try:
                parts = self._socket.recv_multipart(LAST)
            except zmq.Again:
                break
            received.append(parts)
            size += sum(map(len, parts))
            if size > BYTES_A_TURN or time.monotonic() > until:
                break
        return received
