"""A keyed command as the checker remembers it: what was asked, how often, and what was answered."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from typing import Any
from zlib import crc32

import msgpack

# Codes that mean "again": the command is repeated, with its key, until it has another answer.
AGAIN = {"unavailable", "overloaded"}
# Codes that the checker's commands can rightly meet. Any other is a finding.
RIGHTFUL = AGAIN | {"not_found", "already_exists", "wrong_state"}

_ids = itertools.count(1)


def uuid7(chance: random.Random) -> str:
    """A UUIDv7 of this moment, now and then by a clock that is behind or a little ahead."""
    off_s = chance.uniform(-3600, 3) if chance.random() < 0.02 else 0.0
    number = int((time.time() + off_s) * 1000) << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62
    return str(uuid.UUID(int=number | chance.getrandbits(62)))


def next_id() -> int:
    """An id that no command has."""
    return next(_ids)


def result_bytes(raw: bytes) -> bytes:
    """The bytes of a reply's result: a repeat has the same ones, whatever its id."""
    reader = msgpack.Unpacker()
    reader.feed(raw)
    for _ in range(reader.read_map_header()):
        name = reader.unpack()
        begin = reader.tell()
        reader.skip()
        if name == "result":
            return raw[begin : reader.tell()]
    raise ValueError(f"a reply without a result: {raw!r}")


class Asked:
    """One command. Ticks count what the checker sent and received, over all connections.

    copies      how often it was sent; a forwarder on the way may make more of them
    line        the connection that it was first sent on, by its number
    first_sent  tick of the first sending
    answered    tick of the first reply that says ok; 0: none did
    result      that reply's result
    code        of the newest refusal, "" where there was none or it was answered with ok
    """

    __slots__ = (
        "answered",
        "args",
        "cmd",
        "code",
        "copies",
        "digest",
        "first_sent",
        "id",
        "key",
        "line",
        "result",
    )

    def __init__(self, chance: random.Random, cmd: str, args: dict[str, Any], keyed: bool = True) -> None:
        self.id = next(_ids)
        self.cmd = cmd
        self.args = args
        self.key: str | None = None
        if keyed:
            self.key = uuid7(chance) if chance.random() < 0.6 else f"{chance.getrandbits(96):x}-{self.id}"
        self.copies = 0
        self.line = 0
        self.first_sent = 0
        self.answered = 0
        self.result: Any = None
        self.digest = 0
        self.code = ""

    @classmethod
    def recorded(cls, id: int, cmd: str, args: dict[str, Any], at: int, line: int) -> Asked:
        """One that a client library asked, which repeats and makes keys by itself; `at`: when, as a tick."""
        asked = cls.__new__(cls)
        asked.id, asked.cmd, asked.args, asked.key = id, cmd, args, "the client's"
        asked.copies, asked.line, asked.first_sent = 2, line, at
        asked.answered, asked.result, asked.digest, asked.code = 0, None, 0, ""
        return asked

    def frame(self, alias: int | None = None) -> bytes:
        """The command frame; every repeat has the same bytes, but for the id where it is asked under another."""
        envelope = {"v": 1, "id": alias or self.id, "cmd": self.cmd, "args": self.args}
        packed: bytes = msgpack.packb(envelope if self.key is None else envelope | {"key": self.key})
        return packed

    def take(self, reply: dict[str, Any], raw: bytes, tick: int) -> str | None:
        """Remember a reply; a sentence when it contradicts an earlier one. `raw`: its frame, as it came."""
        if not reply["ok"]:
            error = reply["error"]
            if self.answered:
                return f"{self} was answered with ok and then refused: {error}"
            self.code = error["code"]
            return None if self.code in RIGHTFUL else f"{self} was refused: {error}"
        digest = crc32(result_bytes(raw))
        if self.answered:
            if self.key is not None and digest != self.digest:
                return f"{self} got another reply: first {self.result}, then {reply['result']}"
            return None
        self.answered, self.digest, self.code, self.result = tick, digest, "", reply["result"]
        return None

    @property
    def settled(self) -> bool:
        """Whether its answer is the last word."""
        return bool(self.answered) or (bool(self.code) and self.code not in AGAIN)

    def __str__(self) -> str:
        return f"#{self.id} {self.cmd} {self.args} (key {self.key}, {self.copies} copies)"
