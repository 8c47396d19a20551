"""The DEALER socket of a client: the only code that touches it, always from the loop's thread.

What many coroutines ask in one turn of the loop goes out in one message, or a few; replies are matched by `id`. A
command without an answer is sent again, unchanged: over the same socket while that still brings replies to others,
over a fresh one when it went silent. That is safe: what changes something carries a key (SPEC 5).

The descriptor of a ZeroMQ socket tells only of changes: after everything that is done to the socket its EVENTS are
looked at again, or a reply would lie there until the next one comes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import zmq

from storage_protocol import codec, errors
from storage_protocol.commands import Ping
from storage_protocol.limits import Limits

from .asked import Asked, Encode, encoder
from .clock import ServiceClock
from .errors import (
    ClientClosedError,
    ServiceUnreachableError,
    TooLargeError,
    UnexpectedReplyError,
    refused,
    seconds_to_wait,
)
from .patience import spread

_log = logging.getLogger(__name__)

_IN_FLIGHT = 8192  # commands sent and not answered: what is beyond them waits here, not in the service
# Commands of one message, at most: half of what a service takes. A message is answered when all of it is done; of
# two, the client goes on with the replies of the first while the service is at the second.
MESSAGE_FRAMES = 512
_TURN_S = 0.005  # for so long one turn of the loop may be spent on replies
_LOOK_S = 0.1  # how often waiting commands are looked through for those whose time is over
_HOLD_S = 0.5  # how long the first mutating command waits for the service's clock
_LINGER_MS = 1000
_OPTIONS = {
    zmq.LINGER: 0,
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 1000,
    # A service that vanished without a word is noticed by TCP, and sooner by its silence. Not by heartbeats of
    # ZeroMQ: with them libzmq 4.3.5 ends the process of a subscriber that stands still while its queue is full
    # (libzmq issues 3937 and 4767).
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 30_000,
}


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    endpoint: str,
    *,
    high_water: int = 1000,
    topics: Iterable[str] = (),
) -> zmq.Socket[bytes]:
    """A connected socket. Raises ServiceUnreachableError when ZeroMQ cannot make anything of the endpoint.

    high_water  messages that may wait in it, each way
    topics      of a SUB socket
    """
    socket = context.socket(kind)
    try:
        for option, value in _OPTIONS.items():
            socket.setsockopt(option, value)
        socket.set_hwm(high_water)
        for topic in topics:
            socket.subscribe(topic)
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        message = f"{endpoint} is no endpoint to connect to ({error}); one looks like tcp://127.0.0.1:5570."
        raise ServiceUnreachableError(message) from None
    return socket


class Connection:
    """Asks commands and brings back results. One for a client; nothing is connected until something is asked."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.endpoint = endpoint
        self._context = context
        self._limits = Limits()
        self._most_frames = min(self._limits.frames_per_message, MESSAGE_FRAMES)
        self._most_bytes = self._limits.message_bytes
        self._clock = ServiceClock()
        self._asked_time_at: float | None = None
        self._ids = itertools.count(1)
        self._socket: zmq.Socket[bytes] | None = None
        self._fd = -1
        self._unsent: deque[Asked] = deque()
        self._sent: dict[int, Asked] = {}
        self._postponed: list[Asked] = []
        self._heard_at = float("-inf")
        self._socket_heard_at = float("-inf")
        self._turn_due = False
        self._look_due: asyncio.TimerHandle | None = None
        self._closed = False

    def ask(
        self, encode: Encode, *, keyed: bool, key: str | None, timeout_s: float, deadline_s: float | None
    ) -> asyncio.Future[Any]:
        """As `post`; the future of the result."""
        return self.post(encode, keyed=keyed, key=key, timeout_s=timeout_s, deadline_s=deadline_s).future

    def post(
        self, encode: Encode, *, keyed: bool, key: str | None, timeout_s: float, deadline_s: float | None
    ) -> Asked:
        """Ask a command: what waits for its answer.

        timeout_s   for how long the first attempt waits before the command is sent again
        deadline_s  for how long all attempts may take; None: for ever

        Its future raises a class of `errors.REFUSALS`, ReplyTimeoutError, ServiceUnreachableError,
        UnexpectedReplyError or ClientClosedError. Cancelling it gives up the answer, not the command.
        """
        if self._closed:
            raise ClientClosedError("This client is closed.")
        loop = asyncio.get_running_loop()
        if keyed and key is None and not self._clock.known and self._asked_time_at is None:
            self._ask_time()
        future: asyncio.Future[Any] = loop.create_future()
        asked = Asked(next(self._ids), encode, future, loop.time(), timeout_s, deadline_s, keyed, key)
        self._unsent.append(asked)
        self._plan_turn(loop)
        if self._look_due is None:
            self._look_due = loop.call_later(_LOOK_S, self._look)
        return asked

    def new_key(self) -> str:
        """A fresh idempotency key, made with the service's clock where that is known."""
        return self._clock.new_key()

    def close(self, *, linger: bool = True) -> None:
        """Fail what still waits with ClientClosedError and close the socket.

        linger  only once what was sent is out, if that is soon
        """
        if self._closed:
            return
        self._closed = True
        if self._look_due is not None:
            self._look_due.cancel()
        for asked in (*self._unsent, *self._sent.values(), *self._postponed):
            asked.fail(ClientClosedError("The client was closed before the answer came."))
        # Answered commands are out for certain: only the others can still be on their way.
        self._drop_socket(_LINGER_MS if linger and self._sent else 0)

    def _ask_time(self) -> None:
        self._asked_time_at = asyncio.get_running_loop().time()
        ping = self.ask(encoder(Ping()), keyed=False, key=None, timeout_s=5.0, deadline_s=30.0)
        ping.add_done_callback(self._learn_time)

    def _learn_time(self, ping: asyncio.Future[Any]) -> None:
        self._asked_time_at = None
        if ping.cancelled() or ping.exception() is not None:
            return
        try:
            self._clock.learn(ping.result()["time"])
        except (ValueError, TypeError, KeyError) as error:
            _log.warning("the service at %s answered a ping without its time: %r", self.endpoint, error)
        self._plan_turn(ping.get_loop())

    def _plan_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._turn_due:
            self._turn_due = True
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Send what waits and take what came, until neither is possible or the turn's time is over."""
        self._turn_due = False
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        try:
            socket = self._open(loop)
        except ServiceUnreachableError as error:
            for asked in self._unsent:
                asked.fail(ServiceUnreachableError(error.message))
            self._unsent.clear()
            return
        end = loop.time() + _TURN_S
        while True:
            blocked = self._send(socket, loop.time())
            events = int(socket.getsockopt(zmq.EVENTS))
            if events & zmq.POLLIN:
                self._receive(socket, loop.time(), end)
                if loop.time() >= end:
                    self._plan_turn(loop)
                    return
            elif not (blocked and events & zmq.POLLOUT):
                return

    def _open(self, loop: asyncio.AbstractEventLoop) -> zmq.Socket[bytes]:
        if self._socket is None:
            self._socket = open_socket(self._context, zmq.DEALER, self.endpoint)
            self._socket_heard_at = float("-inf")
            self._fd = int(self._socket.getsockopt(zmq.FD))
            loop.add_reader(self._fd, self._turn)
        return self._socket

    def _drop_socket(self, linger_ms: int) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._socket.close(linger_ms)
            self._socket = None

    def _send(self, socket: zmq.Socket[bytes], now: float) -> bool:
        """Send what waits, as many commands a message as there may be. True when the socket takes no more."""
        while batch := self._next_batch(now):
            try:
                socket.send_multipart([asked.frame for asked in batch], zmq.NOBLOCK)
            except zmq.Again:
                self._unsent.extendleft(reversed(batch))
                return True
            for asked in batch:
                asked.went_out(now)
                self._sent[asked.id] = asked
        return False

    def _next_batch(self, now: float) -> list[Asked]:
        batch: list[Asked] = []
        size = 0
        room = min(self._most_frames, _IN_FLIGHT - len(self._sent))
        while self._unsent and len(batch) < room:
            asked = self._unsent[0]
            if asked.keyed and asked.key is None and self._hold_for_time(now):
                break
            if asked.done or not asked.prepare(self._clock.new_key):
                self._unsent.popleft()
                continue
            if len(asked.frame) > self._most_bytes:
                self._unsent.popleft()
                message = (
                    f"The command has {len(asked.frame)} bytes; {self._most_bytes} are the most of a message."
                )
                asked.fail(TooLargeError(message, {"limit": "message_bytes", "maximum": self._most_bytes}))
                continue
            size += len(asked.frame)
            if size > self._most_bytes:
                break
            batch.append(self._unsent.popleft())
        return batch

    def _hold_for_time(self, now: float) -> bool:
        return not self._clock.known and self._asked_time_at is not None and now < self._asked_time_at + _HOLD_S

    def _receive(self, socket: zmq.Socket[bytes], now: float, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._heard_at = self._socket_heard_at = now
            for frame in frames:
                try:
                    self._take(codec.decode_reply(frame), now)
                except ValueError as error:
                    _log.warning("the service at %s sent what is %s", self.endpoint, error)

    def _take(self, reply: codec.Reply, now: float) -> None:
        if reply.id is None and reply.error is not None and reply.error.code == errors.TOO_LARGE:
            self._shrink(reply.error.details)
            return
        asked = self._sent.pop(reply.id, None) if isinstance(reply.id, int) else None
        if asked is None:
            return  # an answer to an attempt before the one that was answered
        if reply.ok:
            asked.answer(reply.result)
        elif reply.error is None:
            asked.fail(UnexpectedReplyError("The service said no without saying why."))
        elif reply.error.code == errors.OVERLOADED and (
            (due := now + spread(seconds_to_wait(reply.error.details))) < asked.deadline
        ):
            asked.not_before = due
            self._postponed.append(asked)
        else:
            if reply.error.code == errors.KEY_EXPIRED:
                self._clock.forget()
            asked.fail(refused(reply.error))

    def _shrink(self, details: Mapping[str, Any]) -> None:
        """A whole message was over a limit and did not run: this service's limits are below the defaults."""
        frames, size = self._most_frames, self._most_bytes
        most = details.get("maximum")
        if details.get("limit") == "frames_per_message":
            self._most_frames = min(most, frames) if isinstance(most, int) and most > 0 else max(1, frames // 2)
        else:
            self._most_bytes = min(most, size) if isinstance(most, int) and most > 0 else size // 2
        if (frames, size) != (self._most_frames, self._most_bytes):
            self._send_again()

    def _send_again(self) -> None:
        self._unsent.extendleft(reversed(self._sent.values()))
        self._sent.clear()

    def _look(self) -> None:
        """Give up what is over its deadline, send again what had no answer, and what was postponed."""
        self._look_due = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._give_up(now)
        silent = False
        for asked in [each for each in self._sent.values() if each.overdue(now)]:
            if self._socket_heard_at >= asked.sent_at:
                self._unsent.append(self._sent.pop(asked.id))
            else:
                silent = True
        if silent:
            self._send_again()
            self._drop_socket(0)
        due = [asked for asked in self._postponed if asked.not_before <= now]
        self._postponed = [asked for asked in self._postponed if asked.not_before > now]
        self._unsent.extend(due)
        if self._unsent:
            self._plan_turn(loop)
        if self._unsent or self._sent or self._postponed:
            self._look_due = loop.call_later(_LOOK_S, self._look)

    def _give_up(self, now: float) -> None:
        for asked in (*self._unsent, *self._sent.values(), *self._postponed):
            if now >= asked.deadline:
                asked.expire(now, self._heard_at, self.endpoint)
        self._unsent = deque(asked for asked in self._unsent if not asked.done)
        self._sent = {id: asked for id, asked in self._sent.items() if not asked.done}
        self._postponed = [asked for asked in self._postponed if not asked.done]
