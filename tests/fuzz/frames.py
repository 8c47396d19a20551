"""Frames that nobody would send by hand, made fast: broken commands, strange values, bombs, and noise."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgpack

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"

SCALARS: list[Any] = [
    None, True, False, 0, 1, -1, 127, 128, 2**31, 2**63 - 1, -(2**63), 2**64 - 1,
    0.0, -0.0, 1.5, 1e308, float("nan"), float("inf"), float("-inf"),
    "", "undef", "a", "s0", "root/g/r/a", "../..", "a/../b", ".", "/etc", "a\0b", "{n}", "{n:06}", "x" * 129,
    "é", "\N{RIGHT-TO-LEFT OVERRIDE}", "\ud7ff", " x", "x ", "append", "remove", "2026-01-31T12:00:00Z",
    b"", b"\xff", msgpack.ExtType(1, b"x"), msgpack.Timestamp(2**33, 5),
]  # fmt: skip

# Headers that promise more than there is.
HEADERS = (
    b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdc\x04\x00", b"\x9f", b"\xdf\xff\xff\xff\xff\xa1x",
    b"\xde\xff\xff\xa1x", b"\xde\x04\x01\xa1x", b"\xde\x04\x00\xa1x", b"\x8f\xa1x", b"\x8f", b"\x91", b"\x81\xa1x",
    b"\xdb\x00\x00\xff\xff", b"\xc6\x00\x00\xff\xff", b"\xc9\x00\x00\xff\xff\x01", b"\xd9\xff", b"\xc7\xff\xff",
)  # fmt: skip
PLACES = (b"", b"\x81\xa2id", b"\x82\xa2id\x07\xa4args", b"\x82\xa3cmd\xa4ping\xa1x", b"\x82\xa2id\x07\xa3cmd")
BOMB = 64 << 10


def examples() -> list[tuple[bytes, dict[str, Any]]]:
    """The golden commands: bytes and envelope."""
    read = json.loads((VECTORS / "commands.json").read_text("utf-8"))["vectors"]
    return [(bytes.fromhex(each["hex"]), each["message"]) for each in read]


class Frames:
    """An endless supply, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.examples = examples()
        self.names = [message["cmd"] for _, message in self.examples]
        self.args = sorted({name for _, message in self.examples for name in message.get("args", {})})

    def next(self) -> bytes:
        """One frame."""
        draw = self.chance.random()
        if draw < 0.55:
            return self._broken()
        if draw < 0.85:
            return self._strange()
        if draw < 0.999:
            return self.chance.randbytes(self.chance.randrange(60))
        return self._bomb()

    def _broken(self) -> bytes:
        """A command with a few bytes changed, cut out, doubled, or put in from another command."""
        chance = self.chance
        raw = bytearray(chance.choice(self.examples)[0])
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
            at = chance.randrange(len(raw) + 1)
            end = min(len(raw), at + chance.choice((0, 1, 1, 2, 4, 30)))
            match chance.randrange(5):
                case 0:
                    raw[at:end] = chance.randbytes(end - at)
                case 1:
                    del raw[at:end]
                case 2:
                    raw[at:at] = raw[at:end]
                case 3:
                    raw[at:end] = chance.choice(HEADERS)
                case _:
                    other = chance.choice(self.examples)[0]
                    begin = chance.randrange(len(other))
                    raw[at:end] = other[begin : begin + chance.randrange(20)]
        return bytes(raw)

    def _strange(self) -> bytes:
        """A command whose values are of another type, out of range, too many, or too deep."""
        chance = self.chance
        message = dict(chance.choice(self.examples)[1])
        args = dict(message.get("args", {}))
        for _ in range(chance.choice((1, 1, 2, 4))):
            name = chance.choice(self.args) if chance.random() < 0.4 or not args else chance.choice(list(args))
            args[name] = self._value(3)
        message["args"] = args
        if chance.random() < 0.3:
            message[chance.choice(("v", "id", "cmd", "args", "key", "x"))] = self._value(2)
        packed: bytes = msgpack.packb(message)
        return packed

    def _value(self, depth: int) -> Any:
        chance = self.chance
        draw = chance.random()
        if depth == 0 or draw < 0.7:
            return chance.choice(SCALARS)
        if draw < 0.72:
            return "x" * chance.choice((64, 65, 128, 512, 513, 65_536, 65_537))
        if draw < 0.74:
            deep: Any = 1
            for _ in range(chance.choice((10, 13, 14, 15, 40, 400))):
                deep = [deep] if chance.random() < 0.5 else {"x": deep}
            return deep
        if draw < 0.86:
            return [self._value(depth - 1) for _ in range(chance.choice((0, 1, 3, 40)))]
        if draw < 0.87:
            return {f"p{number}": number for number in range(chance.choice((33, 1024, 1025)))}
        return {chance.choice(("x", "y", "", "eq", "in", "a b")): self._value(depth - 1) for _ in range(3)}

    def _bomb(self) -> bytes:
        chance = self.chance
        if chance.random() < 0.05:
            # As large as a frame may be, and one byte more.
            value = chance.choice((b"x" * (1 << 20), "x" * (1 << 20), list(range(1000)) * 300))
            begin = msgpack.packb({"id": 7, "cmd": chance.choice(self.names)})
            raw = b"\x83" + begin[1:] + b"\xa4args\x81\xa5value" + msgpack.packb(value)
            return raw[: (1 << 20) + chance.randrange(-1, 2)]
        header = b"".join(chance.choice(HEADERS) for _ in range(chance.choice((1, 1, 1, 2, 3))))
        size = chance.choice((1 << 10, BOMB, BOMB))
        return (chance.choice(PLACES) + header * (size // len(header) + 1))[:size]
