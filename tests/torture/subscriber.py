"""A subscriber by the rules of section 6, as a process of its own: a plain SUB, and `replay_events` for any gap.

    python -m tests.torture.subscriber EVENTS COMMANDS OUT TOPIC SLOW_S HWM

TOPIC is "" for everything, or one whole topic. It begins with what is in the journal. Each event that it accepts
becomes a line `seq crc` of OUT. It ends by itself once it has all of a journal whose last seq stands in OUT.stop.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack
import zmq

REPLY_S = 2.0


class Subscriber:
    """Accepts each event once and in order. `have`: the newest seq up to which nothing is missing."""

    def __init__(self, events: str, commands: str, out: Path, topic: str, slow_s: float, hwm: int) -> None:
        self.topic = topic
        self.slow_s = slow_s
        self.commands = commands
        self.out = out.open("w")
        self.stop = out.with_suffix(".stop")
        self.have = 0
        self.newest = 0  # seq of the newest event that was accepted
        self.replays = 0
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sub = self.context.socket(zmq.SUB)
        for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, hwm), (zmq.RECONNECT_IVL, 20)):
            self.sub.setsockopt(option, value)
        self.sub.subscribe(topic)
        self.sub.subscribe("service.heartbeat/")
        self.sub.connect(events)
        self.ids = 0

    def run(self) -> None:
        """Until it has all that it is to have."""
        while True:
            if not self.sub.poll(3000):
                continue
            topic, body = self.sub.recv_multipart()
            event = msgpack.unpackb(body)
            if topic == b"service.heartbeat/":
                if self._heard(event["data"]):
                    return
            elif event["seq"] is not None:
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        if event["seq"] <= self.have:
            return
        before = event["prev_seq"] if self.topic else event["seq"] - 1
        if before > max(self.newest, self.have):
            self._replay()
        if event["seq"] > self.newest:
            self._accept(event)

    def _heard(self, beat: dict[str, Any]) -> bool:
        """A heartbeat: fetch what it knows of and we lack; whether all is there that there is to be."""
        wanted = self.topic.split("/")[0]
        newest = beat["tails"].get(wanted, 0) if self.topic else beat["last_seq"]
        if newest > max(self.newest, self.have):
            self._replay()
        self.out.flush()
        last = int(self.stop.read_text()) if self.stop.exists() else None
        if last is None or max(self.have, beat["last_seq"]) < last:
            return False
        if max(self.newest, self.have) < newest:
            return False
        print(self.replays)
        return True

    def _accept(self, event: dict[str, Any]) -> None:
        self.newest = event["seq"]
        self.out.write(f"{event['seq']} {crc32(msgpack.packb(event))}\n")
        if self.slow_s and event["seq"] % 10 == 0:
            time.sleep(self.slow_s)

    def _replay(self) -> None:
        """All that came after the newest that it has; asked until there is an answer."""
        self.replays += 1
        after = max(self.newest, self.have)
        while True:
            page = self._ask(after)
            if page is None:
                continue
            for event in page["events"]:
                after = event["seq"]
                if after > self.newest:
                    self._accept(event)
            if not page["more"]:
                self.have = max(self.have, page["last_seq"])
                return

    def _ask(self, after: int) -> dict[str, Any] | None:
        self.ids += 1
        args: dict[str, Any] = {"after_seq": after, "limit": 5000}
        if self.topic:
            args["topics"] = [self.topic]
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.connect(self.commands)
        socket.send(msgpack.packb({"id": self.ids, "cmd": "replay_events", "args": args}))
        try:
            if not socket.poll(int(REPLY_S * 1000)):
                return None
            reply = msgpack.unpackb(socket.recv())
        finally:
            socket.close(0)
        result: dict[str, Any] | None = reply["result"] if reply["ok"] else None
        return result


if __name__ == "__main__":
    events, commands, out, topic, slow, hwm = sys.argv[1:]
    Subscriber(events, commands, Path(out), topic, float(slow), int(hwm)).run()
