"""The SUB socket behind one stream of events: the only code that touches it, always from the loop's thread.

It reads only when asked. What comes meanwhile waits in ZeroMQ up to the high-water mark; what is dropped beyond it
is the stream's to notice.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable

import zmq

from storage_protocol.events import Event, decode_event

from .connection import open_socket
from .errors import ClientClosedError

_log = logging.getLogger(__name__)

_HIGH_WATER = 10_000  # messages that may wait in the socket
_TAKEN = 256  # messages taken at a time, so that the loop has its turn
_EVERYWHERE = re.compile(r"tcp://(?:\*|0\.0\.0\.0|\[::\]):(\d+)")


def reachable(events_endpoint: str, commands_endpoint: str) -> str:
    """The events endpoint as a client can connect to it: bound to every address, it is where the commands are."""
    everywhere = _EVERYWHERE.fullmatch(events_endpoint)
    host, _, _ = commands_endpoint.rpartition(":")
    return f"{host}:{everywhere[1]}" if everywhere and host.startswith("tcp://") else events_endpoint


class Subscription:
    """A connected SUB socket, one of `siblings` until it is closed.

    Raises ServiceUnreachableError when ZeroMQ cannot make anything of the endpoint.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        topics: Iterable[str],
        siblings: set[Subscription],
    ) -> None:
        self._socket = open_socket(context, zmq.SUB, endpoint, high_water=_HIGH_WATER, topics=topics)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._siblings = siblings
        siblings.add(self)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until a message is there. False when none came in time. Raises ClientClosedError.

        What is awaited is not the message itself: to cancel this loses none.
        """
        self._check_open()
        if self._readable():
            return True
        waiter = self._waiter = self._loop.create_future()
        self._loop.add_reader(self._fd, self._look)
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
            self._check_open()
            return waiter.done()
        finally:
            self._stop_waiting()

    def take(self) -> list[tuple[str, Event]]:
        """Topics and events that are there, the oldest first, some of them at least. Raises ClientClosedError."""
        self._check_open()
        taken: list[tuple[str, Event]] = []
        for _ in range(_TAKEN):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                taken.append((frames[0].decode("utf-8", "replace"), decode_event(frames[-1])))
            except zmq.Again:
                break
            except ValueError as error:
                _log.warning("an event message was left out: %s", error)
        return taken

    def close(self) -> None:
        """Close the socket; who waits gets ClientClosedError."""
        self._siblings.discard(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._stop_waiting()
        self._socket.close(0)

    def _check_open(self) -> None:
        if self._socket.closed:
            raise ClientClosedError("The client was closed.")

    def _readable(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def _look(self) -> None:
        if self._waiter is not None and not self._waiter.done() and self._readable():
            self._waiter.set_result(None)

    def _stop_waiting(self) -> None:
        if self._waiter is not None:
            self._waiter = None
            self._loop.remove_reader(self._fd)
