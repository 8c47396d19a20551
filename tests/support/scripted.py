"""A service that does what its script says: a ROUTER and an XPUB in a thread, and a journal in a list.

It speaks the protocol with msgpack and ZeroMQ alone, and can do what a real service never should: stay silent,
lose events, come back with another journal.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import zmq

Answer = Callable[[dict[str, Any]], Any]


class Refuse(Exception):
    """Raised by an answer: the command is refused so."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


class Silent(Exception):
    """Raised by an answer: nothing is sent."""


def now_text() -> str:
    """The time as it is on the wire."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class ScriptedService:
    """`answers` maps a command to a function of its frame that gives the result, or raises Refuse or Silent.

    messages  each message that came, as its decoded command frames
    peers     the connection that each message came over
    echoes    how often each reply message is sent
    topics    what is subscribed to at present
    """

    def __init__(self, folder: Path, events: str = "events.ipc") -> None:
        self.commands = f"ipc://{folder}/commands.ipc"
        self.events = f"ipc://{folder}/{events}"
        self.answers: dict[str, Answer] = {
            "ping": lambda frame: {"time": now_text()},
            "describe": lambda frame: self._described(),
            "replay_events": lambda frame: self._replayed(frame["args"]),
        }
        self.most_frames = 1024
        self.echoes = 1
        self.messages: list[list[dict[str, Any]]] = []
        self.peers: list[bytes] = []
        self.journal_id = "journal-1"
        self.journal: list[dict[str, Any]] = []
        self.oldest_seq = 1
        self.topics: set[str] = set()
        self._newest: dict[str, int] = {}
        self._tasks: queue.SimpleQueue[Callable[[zmq.Socket[bytes]], Any]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10)

    def frames(self, cmd: str) -> list[dict[str, Any]]:
        """Every frame of this command that came."""
        return [frame for message in list(self.messages) for frame in message if frame["cmd"] == cmd]

    def happen(self, type: str, storage_id: str = "s1", *, told: bool = True, **data: Any) -> dict[str, Any]:
        """An event goes into the journal and, unless it is lost on its way, out on the events endpoint."""
        topic = f"{type}/{storage_id}/"
        event = {
            "v": 1,
            "seq": (seq := len(self.journal) + 1),
            "prev_seq": self._newest.get(topic, 0),
            "time": now_text(),
            "type": type,
            "storage_id": storage_id,
            "subject": storage_id,
            "data": data,
        }
        self._newest[topic] = seq
        self.journal.append(event)
        if told:
            self.tell(topic, event)
        return event

    def heartbeat(self) -> None:
        """Send a heartbeat."""
        tails = {event["type"]: event["seq"] for event in self.journal}
        data = {
            "service_id": "scripted",
            "started_at": now_text(),
            "journal_id": self.journal_id,
            "last_seq": len(self.journal),
            "tails": tails,
        }
        self.tell("service.heartbeat/", self.unnumbered("service.heartbeat", None, data))

    def unnumbered(self, type: str, storage_id: str | None, data: dict[str, Any]) -> dict[str, Any]:
        """An event that is in no journal."""
        head = {"v": 1, "seq": None, "prev_seq": None, "time": now_text(), "subject": None}
        return head | {"type": type, "storage_id": storage_id, "data": data}

    def tell(self, topic: str, event: dict[str, Any]) -> None:
        """Publish an event as it is."""
        frames = [topic.encode(), msgpack.packb(event)]
        self._tasks.put(lambda pub: pub.send_multipart(frames))

    def _described(self) -> dict[str, Any]:
        return {
            "service": "storage-service",
            "version": "0",
            "protocol": 1,
            "service_id": "scripted",
            "journal_id": self.journal_id,
            "events_endpoint": self.events,
            "limits": {},
            "commands": {},
        }

    def _replayed(self, args: dict[str, Any]) -> dict[str, Any]:
        topics = args.get("topics") or [""]
        after = max(args.get("after_seq", 0), self.oldest_seq - 1)
        found = [
            event
            for event in list(self.journal)
            if event["seq"] > after
            and any(f"{event['type']}/{event['storage_id']}/".startswith(topic) for topic in topics)
        ]
        limit = args.get("limit", 1000)
        return {
            "events": found[:limit],
            "last_seq": len(self.journal),
            "oldest_seq": self.oldest_seq,
            "journal_id": self.journal_id,
            "more": len(found) > limit,
        }

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.XPUB) as pub:
            router.linger = pub.linger = 0
            router.bind(self.commands)
            pub.bind(self.events)
            self._ready.set()
            while not self._stop.is_set():
                while not self._tasks.empty():
                    self._tasks.get()(pub)
                while pub.poll(0):
                    change = pub.recv()
                    (self.topics.add if change[0] else self.topics.discard)(change[1:].decode())
                if router.poll(5):
                    self._serve(router)

    def _serve(self, router: zmq.Socket[bytes]) -> None:
        peer, *frames = router.recv_multipart()
        self.peers.append(peer)
        self.messages.append([msgpack.unpackb(frame) for frame in frames])
        if len(frames) > self.most_frames:
            details = {"limit": "frames_per_message", "maximum": self.most_frames}
            error = {"code": "too_large", "message": "too many", "details": details}
            router.send_multipart([peer, msgpack.packb({"v": 1, "id": None, "ok": False, "error": error})])
            return
        replies = [reply for frame in self.messages[-1] if (reply := self._answer(frame)) is not None]
        for _ in range(self.echoes if replies else 0):
            router.send_multipart([peer, *map(msgpack.packb, replies)])

    def _answer(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        reply: dict[str, Any] = {"v": 1, "id": frame["id"]}
        try:
            return reply | {"ok": True, "result": self.answers[frame["cmd"]](frame)}
        except Refuse as no:
            error = {"code": no.code, "message": f"The script says {no.code}.", "details": no.details}
            return reply | {"ok": False, "error": error}
        except Silent:
            return None
