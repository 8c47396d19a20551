"""A client that knows nothing but ZeroMQ and msgpack: the outside checker's side of the wire."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import msgpack
import zmq

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

# Every code of section 2, and what the details of each must hold.
DETAILS: dict[str, set[str]] = {
    "bad_request": set(),
    "unsupported_version": {"supported"},
    "unknown_command": {"closest"},
    "invalid_name": {"field", "rule"},
    "not_found": {"what", "id"},
    "already_exists": {"what", "id"},
    "wrong_state": {"what", "id", "state", "allowed"},
    "conflict": set(),
    "key_expired": {"forgotten_before"},
    "forbidden": {"needs"},
    "unavailable": {"reason"},
    "overloaded": {"retry_after_s"},
    "too_large": {"limit"},
    "internal": {"incident"},
}


class NoReply(Exception):
    """Nothing came within the deadline."""


class Refused(Exception):
    """A reply that says no: its code, its sentence and its details."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']} {error['details']}")
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.details: dict[str, Any] = error["details"]


def read_reply(frame: bytes) -> dict[str, Any]:
    """One reply frame as a map, after a look that it is shaped as section 2 says."""
    reply = msgpack.unpackb(frame)
    assert isinstance(reply, dict), f"a reply frame is a map, not {reply!r}"
    assert reply.get("v") == 1, reply
    assert reply.get("ok") in (True, False), reply
    assert set(reply) == {"v", "id", "ok", "result" if reply["ok"] else "error"}, reply
    if not reply["ok"]:
        error = reply["error"]
        assert set(error) == {"code", "message", "details"}, error
        assert error["code"] in DETAILS, f"not a code of the page: {error}"
        assert isinstance(error["message"], str), error
        assert error["message"].strip(), error
        assert isinstance(error["details"], dict), error
        assert DETAILS[error["code"]] <= set(error["details"]), f"details lack a key: {error}"
    return reply


class Wire:
    """One connection to the commands endpoint. Blocks, but never beyond `patience_s` (seconds)."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER, patience_s: float = 20.0) -> None:
        self.patience_s = patience_s
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.RECONNECT_IVL, 20)):
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)
        self._ids = itertools.count(1)
        self._early: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was not sent is dropped."""
        self.socket.close(0)

    def send_raw(self, frames: Sequence[bytes]) -> None:
        """Send these frames as one message, as they are."""
        self.socket.send_multipart(list(frames))

    def recv_raw(self, timeout_s: float | None = None) -> list[bytes]:
        """The frames of the next message; NoReply when none comes in time."""
        patience_s = self.patience_s if timeout_s is None else timeout_s
        if not self.socket.poll(int(patience_s * 1000)):
            raise NoReply(f"no message within {patience_s} s")
        return self.socket.recv_multipart()

    def exchange(self, *frames: bytes) -> list[dict[str, Any]]:
        """Send frames without a delimiter as one message; the frames of the next message, read as replies."""
        self.send_raw(frames)
        return [read_reply(frame) for frame in self.recv_raw()]

    def ask(self, **envelope: Any) -> dict[str, Any]:
        """Send one command frame made of exactly these keys; its whole reply."""
        replies = self.exchange(msgpack.packb(envelope))
        assert len(replies) == 1, replies
        return replies[0]

    def post(self, cmd: str, /, key: str | None = None, **args: Any) -> int:
        """Send a command and do not wait; the id to collect its reply with."""
        number = next(self._ids)
        frame = {"v": 1, "id": number, "cmd": cmd, "args": args} | ({} if key is None else {"key": key})
        self.send_raw([msgpack.packb(frame)])
        return number

    def collect(self, number: int) -> Any:
        """The result for an id that `post` gave; Refused when it says no, NoReply after the deadline."""
        deadline = time.monotonic() + self.patience_s
        while number not in self._early:
            frames = self.recv_raw(max(0.0, deadline - time.monotonic()))
            assert len(frames) == 1, f"one command frame without a delimiter, one reply frame: {frames!r}"
            reply = read_reply(frames[0])
            self._early[reply["id"]] = reply
        reply = self._early.pop(number)
        if not reply["ok"]:
            raise Refused(reply["error"])
        return reply["result"]

    def call(self, cmd: str, /, key: str | None = None, **args: Any) -> Any:
        """Send a command and wait for its result. Refused when the reply says no, NoReply when none comes."""
        return self.collect(self.post(cmd, key=key, **args))

    def refusal(self, cmd: str, /, key: str | None = None, **args: Any) -> Refused:
        """The refusal of a command that must be refused."""
        try:
            result = self.call(cmd, key=key, **args)
        except Refused as refused:
            return refused
        raise AssertionError(f"{cmd} {args} was not refused: {result}")

    def last_seq(self) -> int:
        """The seq of the newest event in the journal."""
        return int(self.call("get_status")["journal"]["last_seq"])

    def journal(self, after_seq: int = 0, **filters: Any) -> list[dict[str, Any]]:
        """All events after a seq, page by page, oldest first."""
        events: list[dict[str, Any]] = []
        while True:
            page = self.call("replay_events", after_seq=after_seq, **filters)
            events += page["events"]
            if not page["more"]:
                return events
            after_seq = page["events"][-1]["seq"]

    def pages(self, cmd: str, listed: str, **args: Any) -> list[list[dict[str, Any]]]:
        """Every page of a list command, followed by its cursor."""
        pages = []
        cursor = None
        while True:
            reply = self.call(cmd, cursor=cursor, **args)
            pages.append(reply[listed])
            if (cursor := reply["cursor"]) is None:
                return pages


class Storage:
    """One storage, spoken to through one Wire: fills in the `storage_id`."""

    def __init__(self, wire: Wire, storage_id: str, **arguments: Any) -> None:
        self.wire = wire
        self.storage_id = storage_id
        self.arguments = arguments
        self.group = f"{arguments.get('brg_parent_id', 'root')}/{arguments['brg_name']}"

    def open(self) -> Storage:
        """Initialise and configure it."""
        self.call("init_storage", **self.arguments)
        self.call("config_storage")
        return self

    def call(self, cmd: str, /, **args: Any) -> Any:
        """As Wire.call."""
        return self.wire.call(cmd, storage_id=self.storage_id, **args)

    def refusal(self, cmd: str, /, **args: Any) -> Refused:
        """As Wire.refusal."""
        return self.wire.refusal(cmd, storage_id=self.storage_id, **args)

    def run(self, run_name: str = "run", **args: Any) -> Any:
        """A new run."""
        return self.call("new_run_storage", run_name=run_name, **args)

    def acq(self, acq_name: str = "acq", run_name: str = "run", **args: Any) -> Any:
        """A new acquisition in a run that is there."""
        return self.call("new_acq_storage", acq_name=acq_name, run_name=run_name, **args)

    def mark(self, acq: dict[str, Any], producer: str | None = None, **args: Any) -> Any:
        """A mark on an acquisition."""
        return self.call("mark_as_finished_storage", acq_id=acq["acq_id"], producer=producer, **args)

    def close(self, acq: dict[str, Any], **args: Any) -> Any:
        """Finish an acquisition now."""
        return self.call("close_acq_storage", acq_id=acq["acq_id"], **args)

    def state(self) -> str:
        """The storage's state."""
        return str(self.call("get_storage")["state"])

    def events(self, after_seq: int, *prefixes: str) -> list[dict[str, Any]]:
        """This storage's events after a seq, of the types that begin with one of the prefixes (none: all)."""
        return [
            event
            for event in self.wire.journal(after_seq)
            if event["storage_id"] == self.storage_id and event["type"].startswith(prefixes or ("",))
        ]

    def types(self, after_seq: int, *prefixes: str) -> list[str]:
        """As `events`, but their types alone."""
        return [event["type"] for event in self.events(after_seq, *prefixes)]


class Event(NamedTuple):
    """An event message as it came: its topic frame and its body."""

    topic: str
    body: dict[str, Any]


class Tail:
    """A subscription to the events endpoint. Nothing runs behind it: it reads when it is asked."""

    def __init__(self, endpoint: str, *topics: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 0), (zmq.RECONNECT_IVL, 20)):
            self.socket.setsockopt(option, value)
        for topic in topics or ("",):
            self.socket.subscribe(topic)
        self.socket.connect(endpoint)
        self.seen: list[Event] = []

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the subscription."""
        self.socket.close(0)

    def pump(self, timeout_s: float = 0.0) -> list[Event]:
        """Wait for a message at most so long, then take all that is there; everything seen so far."""
        wait_ms = int(timeout_s * 1000)
        while self.socket.poll(wait_ms):
            frames = self.socket.recv_multipart()
            assert len(frames) == 2, f"an event message is two frames: {frames!r}"
            self.seen.append(Event(frames[0].decode(), msgpack.unpackb(frames[1])))
            wait_ms = 0
        return self.seen

    def wait(self, wanted: Callable[[Event], bool], patience_s: float = 20.0) -> Event:
        """The first event, seen before or still to come, that is wanted; NoReply when none comes in time."""
        deadline = time.monotonic() + patience_s
        looked = 0
        while True:
            self.pump(0.1)
            for event in self.seen[looked:]:
                if wanted(event):
                    return event
            looked = len(self.seen)
            if time.monotonic() > deadline:
                raise NoReply(f"no such event within {patience_s} s; {looked} others came")

    def settle(self) -> Tail:
        """Wait for the first message: from then on the subscription holds."""
        self.wait(lambda _: True)
        return self
