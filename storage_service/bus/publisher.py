"""The events endpoint: a PUB socket, the live tail of the journal, with a heartbeat that says how far it is.

PUB drops in silence what a subscriber does not take: by the heartbeat's `tails`, and `prev_seq` in each event, it
notices, and `replay_events` is how it mends it (SPEC 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zmq

from storage_protocol.codec import encode_value
from storage_protocol.events import topic
from storage_protocol.times import to_wire

from ..desk.batch import JournalRow
from ..failpoints import ARMED, passing
from ..rules.state import Variable
from .endpoint import bind, watch

# Events that wait for one subscriber in the socket; what comes on top is dropped, and replayed when it asks.
EVENTS_A_SUBSCRIBER = 10_000
MANY_TOPICS = 10_000
# As plain ints: combining flags of an enum costs more than sending a small frame.
BODY = int(zmq.DONTWAIT)
TOPIC = int(zmq.DONTWAIT | zmq.SNDMORE)


class Publisher:
    """Used by the loop's thread alone."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, tails: dict[str, int], last_seq: int
    ) -> None:
        self._socket = context.socket(zmq.PUB)
        # Without what only sockets of other types need, as in the endpoint.
        self._send = super(zmq.Socket, self._socket).send
        self._socket.setsockopt(zmq.SNDHWM, EVENTS_A_SUBSCRIBER)
        watch(self._socket)
        self._tails = tails
        self._topics: dict[str, tuple[str, bytes]] = {}
        self._last_seq = last_seq
        try:
            bind(self._socket, address)
        except Exception:
            self._socket.close(linger=0)
            raise

    def publish(self, rows: Iterable[JournalRow]) -> None:
        """Durable events, in the order of the journal."""
        send, topics, tails = self._send, self._topics, self._tails
        for row in rows:
            type_, frame = topics.get(row.topic) or self._of_topic(row.topic)
            tails[type_] = self._last_seq = row.seq
            if ARMED:
                passing("publisher.event_leaves")
            send(frame, TOPIC)
            send(row.body, BODY)
            if ARMED:
                passing("publisher.event_left")

    def _of_topic(self, where: str) -> tuple[str, bytes]:
        """The type of a topic, and its frame."""
        if len(self._topics) > MANY_TOPICS:
            self._topics.clear()
        known = self._topics[where] = where.split("/", 1)[0], where.encode()
        return known

    def tell(
        self, type: str, storage_id: str | None, subject: str | None, time: str, data: Any, of: str | None = None
    ) -> None:
        """An event that is not in the journal. `of` stands in its topic where it is of no storage."""
        body = {
            "v": 1,
            "seq": None,
            "time": time,
            "type": type,
            "storage_id": storage_id,
            "prev_seq": None,
            "subject": subject,
            "data": data,
        }
        self._socket.send_multipart((topic(type, storage_id or of).encode(), encode_value(body)), zmq.DONTWAIT)

    def variables(self, changed: Iterable[Variable], wall: float) -> None:
        """What variables became; `wall` is in seconds since 1970."""
        for each in changed:
            told = {"name": each.name, "value": each.value}
            self.tell("variable", None, each.ns, to_wire(wall), told, of=each.ns)

    def heartbeat(self, time: str, service: dict[str, str]) -> None:
        """`service`: what every heartbeat tells of the service. Sent after every event up to `last_seq`."""
        data = {**service, "last_seq": self._last_seq, "tails": self._tails}
        self.tell("service.heartbeat", None, None, time, data)

    def close(self, linger_ms: int) -> None:
        self._socket.close(linger=linger_ms)
