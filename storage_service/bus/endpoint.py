"""The commands endpoint: a ROUTER socket in the loop, without a task and without a future a message.

The socket's descriptor is edge-triggered and every call on the socket may use the edge up: it tells of what comes
only while the last call found nothing (`_is_dry`). So whatever was called, nothing is waited for before EVENTS was
looked at once more. Sends never block: what a peer does not take waits in the `Backlog`, and is dropped beyond its
bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Set
from typing import Any

import zmq

from ..desk.pacing import FRAME_BYTES
from ..failpoints import ARMED, passing
from .backlog import LARGE_BYTES, Backlog, Waiting, size_of

# So much is received at once, whichever is first: what takes it may want several turns of the loop for it, and
# nothing more is received before it has taken all.
MESSAGES_A_TURN = 256
FRAMES_A_TURN = 512
BYTES_A_TURN = 1 << 20
SECONDS_A_TURN = 0.005
# Of peers that are held back, together, in frames; two messages at least, since ZeroMQ has peers take turns:
# behind a long message there may be another peer's.
HELD_A_TURN = 8
# Messages of one peer that wait in the socket. It counts messages and not bytes; beyond it the peer itself waits.
MESSAGES_A_PEER = 16
# Replies that wait for one peer in the socket. It counts messages, large ones are bounded by the backlog.
REPLIES_A_PEER = 256
# Peers that did not take a reply are tried again so many in one turn, and after so long at the latest.
TRIED_A_TURN = 16
AGAIN_S = 0.01
# A connection that has not said by then which protocol it speaks is cut.
HANDSHAKE_MS = 10_000
# TCP asks a silent peer whether it is there after so long, so often, and cuts what it does not take after so long.
KEEPALIVE_S = 5
KEEPALIVE_PROBES = 3
UNTAKEN_MS = 30_000


# As plain ints: combining flags of an enum costs more than sending a small frame.
LAST = int(zmq.DONTWAIT)
MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


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


def watch(socket: zmq.Socket[bytes]) -> None:
    """Have peers that are gone found out, by TCP.

    Not by ZMTP heartbeats of this side: when a peer dies whose messages are not all read, libzmq 4.3.5 ends the
    whole process at the next one (libzmq issue 4364). Those of the peers are answered.
    """
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)
    socket.setsockopt(zmq.TCP_MAXRT, UNTAKEN_MS)


class Endpoint:
    """Messages in, messages out; each is a list of parts, of which the first is the peer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        message_bytes: int,
        on_messages: Callable[[list[list[bytes]]], None],
        on_taken: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_messages` hears of messages that came, and then nothing is read until `go_on`. `on_taken` hears that
        peers may have taken replies that waited for them."""
        self._loop = loop
        self._on_messages = on_messages
        self._on_taken = on_taken
        self._socket = context.socket(zmq.ROUTER)
        # Without what only sockets of other types need: for small parts that is as much again.
        bare: Any = super(zmq.Socket, self._socket)
        self._send, self._ask = bare.send, bare.get
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, message_bytes)
        self._socket.setsockopt(zmq.RCVHWM, MESSAGES_A_PEER)
        self._socket.setsockopt(zmq.SNDHWM, REPLIES_A_PEER)
        watch(self._socket)
        self._turn_is_due = False
        self._reading = False
        self._taken = True
        self._is_dry = False
        self._held: Set[bytes] = frozenset()
        self._again: asyncio.TimerHandle | None = None
        self.backlog = Backlog()
        try:
            bind(self._socket, address)
        except BindError:
            self._socket.close(linger=0)
            raise
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        loop.add_reader(self._descriptor, self._turn)
        self._turn_soon()

    def send(self, messages: Iterable[list[bytes]]) -> None:
        """Send messages, as far as their peers take them now; the rest waits."""
        backlog = self.backlog
        for parts in messages:
            if ARMED:
                passing("endpoint.reply_leaves")
            size = size_of(parts)
            if backlog.waits(parts[0]) or not self._sent(parts, size):
                backlog.add(parts[0], Waiting(parts, size))
            if ARMED:
                passing("endpoint.reply_left")
        self._try_again()
        self._is_dry = False
        self._look_again()

    def start_reading(self) -> None:
        """Take commands. Until then they wait in the socket: nothing is decided before what was left is known."""
        self._reading = True
        self._turn_soon()

    def stop_reading(self) -> None:
        """Take no more commands; replies still go out."""
        self._reading = False

    def go_on(self, held: Set[bytes] = frozenset()) -> None:
        """What was received is taken: receive more, but little of the peers that are `held` back."""
        self._held = held
        if not self._taken:
            self._taken = True
            if not self._is_dry:
                self._turn_soon()

    def close(self, linger_ms: int) -> None:
        """Send what is queued, waiting at most so long for peers to take it."""
        self._loop.remove_reader(self._descriptor)
        self._try_again()
        if self._again is not None:
            self._again.cancel()
        self._socket.close(linger=linger_ms)

    def _turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        if self._socket.closed:
            return
        self._try_again()
        # Also where nothing may be received: what the descriptor tells would be told again and again.
        if self._has_come() and self._reading and self._taken:
            received = self._receive()
            if received:
                self._taken = False
                self._on_messages(received)
        self._look_again()

    def _look_again(self) -> None:
        """Have what may have come without being told received in a turn of its own."""
        if not self._is_dry and self._reading and self._taken and self._has_come():
            self._turn_soon()

    def _has_come(self) -> bool:
        """Whether there is something to receive: to find out by receiving costs more. It also has ZeroMQ look who
        has sent something, which by itself it does once in a hundred parts."""
        self._is_dry = not self._ask(EVENTS) & POLLIN
        return not self._is_dry

    def counts(self) -> dict[str, int]:
        """What waits to be taken by peers, for `get_status`."""
        return {"reply_bytes_waiting": self.backlog.bytes, "replies_dropped": self.backlog.dropped}

    def _try_again(self) -> None:
        """Peers that did not take a reply may do so now, each in its turn."""
        backlog = self.backlog
        if not (backlog or backlog.is_handed):
            return
        for peer in backlog.turns(TRIED_A_TURN):
            while (message := backlog.first(peer)) is not None and self._sent(*message):
                if backlog.first(peer) is message:
                    backlog.sent(peer)
        if self._again is None and not self._socket.closed:
            self._again = self._loop.call_later(AGAIN_S, self._at_last)

    def _at_last(self) -> None:
        """ZeroMQ does not tell when a peer has room again: it is looked for."""
        self._again = None
        self.backlog.settle()
        self._turn()
        self._on_taken()

    def _sent(self, parts: list[bytes], size: int) -> bool:
        """Send a message, if its peer takes it. True also where there is nobody any more to send it to."""
        peer = parts[0]
        large = size >= LARGE_BYTES
        if large and not self.backlog.may_hand(peer):
            return False
        try:
            send = self._send
            for part in parts[:-1]:
                send(part, MORE)
            if large:
                # ZeroMQ lets go of the parts in their order: when the last is free, so are all.
                last = zmq.Frame(parts[-1], track=True, copy=False)
                self._socket.send(last, LAST, copy=False)
                self.backlog.handed(peer, last.tracker, size)
            else:
                send(parts[-1], LAST)
        except zmq.Again:
            return False
        except zmq.ZMQError:
            # EHOSTUNREACH: the peer is gone. Should it come again, it asks again, with the same key.
            self.backlog.dropped += not self.backlog.waits(peer)
            self.backlog.gone(peer)
        return True

    def _receive(self) -> list[list[bytes]]:
        received: list[list[bytes]] = []
        frames = size = held_weight = held_messages = 0
        held = self._held
        receive = self._socket.recv
        self._is_dry = False
        until = time.monotonic() + SECONDS_A_TURN
        while len(received) < MESSAGES_A_TURN:
            if len(received) == 1 and not self._has_come():  # many are not asked for one by one
                break
            try:
                parts = [receive(LAST)]
                # Behind the peer's id there is another part for certain. A frame knows whether one comes after it;
                # to ask the socket costs more than to receive.
                more = True
                while more:
                    frame = receive(LAST, copy=False)
                    parts.append(frame.bytes)
                    more = frame.more
            except zmq.Again:
                self._is_dry = True
                break
            received.append(parts)
            frames += len(parts)
            bytes_ = sum(map(len, parts))
            size += bytes_
            if parts[0] in held:
                held_weight += len(parts) - 1 + bytes_ // FRAME_BYTES
                held_messages += 1
                if held_weight >= HELD_A_TURN and held_messages > 1:
                    break
            if frames > FRAMES_A_TURN or size > BYTES_A_TURN or time.monotonic() > until:
                break
        return received
