"""The short way of a command frame takes what nearly all clients send, and nothing that needs care."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest

from storage_protocol import codec, plain
from storage_protocol import commands as c
from storage_protocol.codec import decode_carefully, decode_command
from storage_protocol.commands import COMMANDS
from storage_protocol.limits import Limits
from storage_protocol.plain import Request
from tests.fuzz.verdict import MOST_BYTES, peak
from tests.support.frames import LIMITS

ARGS: dict[str, Any] = {"storage_id": "s", "acq_id": "root/g/r/a", "param": "x", "value": 1}
KEY = "01890a5d-ac96-774b-bcce-b302099a8057"


def frame(args: dict[str, Any] = ARGS, **envelope: Any) -> bytes:
    packed: bytes = msgpack.packb({"id": 7, "cmd": "set_param_acq_storage", "args": args, "key": KEY, **envelope})
    return packed


@pytest.mark.parametrize(
    "raw",
    [
        codec.encode_command(7, c.SetParamAcq(**ARGS), KEY),
        codec.encode_command(7, c.SetParamAcq(**ARGS, uid="u", segment=2), KEY),
        frame(),
        frame({**ARGS, "value": None}, id="i", key="any"),
    ],
)
def test_what_clients_send_goes_the_short_way(raw: bytes) -> None:
    read = plain.read(raw, LIMITS)
    assert read is not None
    assert read == decode_carefully(raw, LIMITS)


TWICE = [
    b"\x86" + frame(v=1)[1:] + b"\xa2id\x07",
    b"\x85" + frame()[1:] + b"\xa3key\xa1k",
    frame().replace(b"args\x84", b"args\x85").replace(b"\xa5param", b"\xa5param\xa1y\xa5param"),
    frame({**ARGS, "uid": "u"}).replace(b"args\x85", b"args\x86").replace(b"\xa3uid", b"\xa3uid\xa1v\xa3uid"),
]


@pytest.mark.parametrize("raw", TWICE)
def test_what_is_given_twice_is_read_carefully(raw: bytes) -> None:
    assert plain.read(raw, LIMITS) is None
    assert not isinstance(decode_command(raw, LIMITS), Request)


@pytest.mark.parametrize(
    "raw",
    [
        frame({**ARGS, "uid": None}),
        frame({**ARGS, "uid": "undef"}),
        frame({**ARGS, "value": float("nan")}),
        frame({**ARGS, "value": 2**63}),
        frame({**ARGS, "segment": 2.0}),
        frame({**ARGS, "more": 1}),
        frame({**ARGS, "param": ""}),
        frame(v=2),
        frame(v=1.0),
        frame(key="k" * 65),
        frame(id="i" * 129),
        frame(note="not known"),
        frame() + b"x",
    ],
)
def test_what_is_uncommon_is_read_carefully(raw: bytes) -> None:
    assert plain.read(raw, LIMITS) is None
    assert codec.encode_value(decode_command(raw, LIMITS)) == codec.encode_value(decode_carefully(raw, LIMITS))


# What is said in an uncommon way


def alike(raw: bytes, limits: Limits = LIMITS) -> Request | None:
    """What the short way takes it for, if it does: then the careful one takes it for the same."""
    read = plain.read(raw, limits)
    if read is None:
        return None
    careful = decode_carefully(raw, limits)
    assert isinstance(careful, Request), careful
    # Both equal and of the same types: 1, 1.0 and True are not the same.
    assert codec.encode_value(read) == codec.encode_value(careful)
    return read


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (b"\xa2id\x07", b"\xd9\x02id\x07"),
        (b"\xa2id\x07", b"\xa2id\xcc\x07"),
        (b"\xa2id\x07", b"\xa2id\xce\x00\x00\x00\x07"),
        (b"\xa2id\x07", b"\xa2id\xd3\x00\x00\x00\x00\x00\x00\x00\x07"),
        (b"\xa3cmd\xb5", b"\xa3cmd\xd9\x15"),
        (b"\xa3cmd\xb5", b"\xda\x00\x03cmd\xb5"),
        (b"\xa5param\xa1x", b"\xa5param\xd9\x01x"),
        (b"\xa5param\xa1x", b"\xa5param\xdb\x00\x00\x00\x01x"),
        (b"\xa5value\x01", b"\xa5value\xcd\x00\x01"),
        (b"\xa5value\x01", b"\xa5value\xca\x3f\x80\x00\x00"),
        (b"\xa5value\x01", b"\xa5value\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        (b"\xa4args\x84", b"\xa4args\xde\x00\x04"),
        (b"\x84\xa2id", b"\xdf\x00\x00\x00\x04\xa2id"),
    ],
)
def test_what_is_said_at_length_is_understood_all_the_same(short: bytes, long: bytes) -> None:
    assert frame().count(short) == 1
    raw = frame().replace(short, long)
    alike(raw)
    read, usual = decode_command(raw, LIMITS), decode_command(frame(), LIMITS)
    assert read == usual
    assert read == decode_carefully(raw, LIMITS)


FLOAT32 = frame().replace(b"\xa5value\x01", b"\xa5value\xca\x3f\xc0\x00\x00")


@pytest.mark.parametrize(
    "twice", [b"\x85" + FLOAT32[1:] + b"\xa2id\x07", b"\x85\xa2id\x08" + FLOAT32[1:]], ids=["behind", "before"]
)
def test_a_short_float_does_not_hide_what_is_given_twice(twice: bytes) -> None:
    # Encoded anew the float has 4 bytes more, which is as much as the second id.
    assert decode_command(FLOAT32, LIMITS) == decode_command(frame({**ARGS, "value": 1.5}), LIMITS)
    assert alike(twice) is None
    assert not isinstance(decode_command(twice, LIMITS), Request)


@pytest.mark.parametrize("twice", [b"\xa2id\x07", b"\xa3key\xa1k", b"\xa2mp\xa1m", b"\xa3uid\xa1u"])
def test_a_whole_number_of_seconds_does_not_hide_what_is_given_twice(twice: bytes) -> None:
    # It becomes a float, which has 8 bytes more when it is encoded anew: as many as what is written over has.
    good = frame({"mp": "four", "uid": "old", "older_than_s": 5}, id="what", cmd="empty_trash", key="abc")
    trash = c.EmptyTrash(mp="four", uid="old", older_than_s=5.0)
    assert decode_command(good, LIMITS) == Request("what", trash, "abc", True)
    if twice[1:3] in (b"mp", b"ui"):
        raw = good.replace(b"args\x83", b"args\x84").replace(b"older_than_s\x05", b"older_than_s\x05" + twice)
    else:
        raw = b"\x85" + good[1:] + twice
    assert alike(raw) is None
    assert not isinstance(decode_command(raw, LIMITS), Request)


def test_undef_is_a_value_where_there_must_be_one_and_none_where_there_need_not() -> None:
    read = alike(frame({**ARGS, "value": "undef", "acq_id": "undef"}))
    assert read is not None
    assert read.command == c.SetParamAcq(**{**ARGS, "value": "undef", "acq_id": "undef"})
    for missing in ("undef", None):
        raw = frame({**ARGS, "uid": missing, "segment": missing})
        assert alike(raw) is None
        assert decode_command(raw, LIMITS) == Request(7, c.SetParamAcq(**ARGS), KEY, True)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"id": "i" * 128}, True),
        ({"id": "ü" * 129}, False),
        ({"id": 2**64 - 1}, True),
        ({"key": "k" * 64}, True),
        ({"key": ""}, False),
        ({"key": None}, False),
        ({"args": {**ARGS, "value": "x" * 16}}, True),
        ({"args": {**ARGS, "value": "x" * 17}}, False),
        ({"args": {**ARGS, "value": "ü" * 8}}, True),
        ({"args": {**ARGS, "value": "ü" * 8 + "x"}}, False),
        ({"args": {**ARGS, "value": -(2**63)}}, True),
        ({"args": {**ARGS, "acq_id": "a" * 2049}}, False),
        ({"args": {**ARGS, "segment": 0}}, False),
    ],
)
def test_what_is_at_a_limit_is_taken_and_what_is_over_it_is_not(given: dict[str, Any], taken: bool) -> None:
    assert (alike(frame(**given), Limits(value_bytes=16)) is not None) == taken


def test_a_key_on_what_changes_nothing_is_read_carefully() -> None:
    raw = msgpack.packb({"id": 7, "cmd": "get_acq", "args": {"acq_id": "a"}, "key": KEY})
    assert alike(raw) is None
    assert decode_command(raw, LIMITS) == Request(7, c.GetAcq(acq_id="a"), None, False)


# What is remembered


def test_no_more_arguments_are_remembered_than_there_is_room_for() -> None:
    known = plain._PLAIN[c.SetParamAcq].known
    for number in range(2 * plain.MANY_KNOWN + 1):
        assert alike(frame({**ARGS, "param": f"x{number}"})) is not None
        assert len(known) <= plain.MANY_KNOWN
    assert known


LONG = "/".join(["a" * 127] * 31)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("rebuild_rundb", {"mp": "\U00020000" * 1018, "path": LONG}),
        ("new_group", {"name": "g" * 128, "mp": "\U00020000" * 1018, "path": LONG[: 128 * 15 - 1]}),
        ("list_trash", {"mp": "\U00020000" * 1018}),
        ("set_param_acq_storage", {**ARGS, "storage_id": "s" * 64, "param": "\U00020000" * 122}),
    ],
)
def test_what_is_remembered_of_long_arguments_takes_little_memory(name: str, args: dict[str, Any]) -> None:
    where = "param" if "param" in args else "mp"
    varied = ({**args, where: f"{args[where]}{number:06}"} for number in range(plain.MANY_KNOWN))
    raws = [msgpack.packb({"id": 7, "cmd": name, "args": each}) for each in varied]
    assert all(plain.read(raw, LIMITS) is not None for raw in raws[:10])
    assert peak(raws) <= 2 * MOST_BYTES


def test_what_breaks_a_rule_is_never_remembered_as_keeping_it() -> None:
    for args in ({**ARGS, "param": " x"}, {**ARGS, "storage_id": "/"}, {**ARGS, "param": ""}):
        for _ in range(2):
            assert alike(frame(args)) is None
            assert not isinstance(decode_command(frame(args), LIMITS), Request)
            assert alike(frame()) is not None


# Whatever is sent

USUAL: dict[str, list[Any]] = {
    "storage_id": ["s"],
    "producer": ["p"],
    "run_name": ["r", "run.json"],
    "param": ["x"],
    "id": ["root/g/r/a"],
    "segment": ["g"],
    "ns": ["default", "n"],
    "brg_path": ["", "a/b"],
    "tree_path": ["", "a/b"],
    "mount point": ["file:///"],
    "int >= 1": [1, 70_000],
    "int >= 0": [0, 70_000],
    "int from 1 to 10000": [100, 1],
    "int or float": [1, 2.5],
    "seconds, int or float >= 0": [0.0, 2.5, 5, 200, 70_000, 2**40],
    '"open", "finished" or "aborted"': ["open"],
    '"queued", "running", "succeeded", "failed" or "cancelled"': ["queued"],
}
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 200, 70_000, 2**31, 2**40, 2**63, 0.0, 1.0, 2.0, 1.5, 2.0**40, 1e300),
    *("", "undef", "x", "ü", "/", "open", "y" * 40, b"x", [], {}),
]
PLAIN = sorted(command.CMD for command in plain._PLAIN)
FRAMES = 1_500


class Speaker:
    """Says frames: mostly good ones, in any way that there is, and once in a while with something twice."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)

    def seldom(self) -> bool:
        return self.chance.random() < 0.05

    def said(self, value: Any) -> bytes:
        """In msgpack, once in a while longer than need be, or as a float of 32 bits."""
        packed: bytes = msgpack.packb(value)
        if not self.seldom():
            return packed
        if type(value) is str and value.isascii() and len(value) < 256:
            header = self.chance.choice([b"\xd9", b"\xda\x00", b"\xdb\x00\x00\x00"])
            return header + bytes([len(value)]) + value.encode()
        if type(value) is int and 0 <= value < 256:
            header = self.chance.choice([b"\xcc", b"\xcd\x00", b"\xce\x00\x00\x00", b"\xd3" + bytes(7)])
            return header + bytes([value])
        if type(value) is float and value < 1e30:
            packed = msgpack.packb(value, use_single_float=True)
        return packed

    def map(self, pairs: list[tuple[bytes, bytes]]) -> bytes:
        self.chance.shuffle(pairs)
        if pairs and self.chance.random() < 0.3:
            name, value = self.chance.choice(pairs)
            # So long that it may stand for what a number has more when it is encoded anew.
            text = b"k" * self.chance.randrange(11)
            other = self.chance.choice([value, b"\x07", bytes([0xA0 + len(text)]) + text])
            pairs.insert(self.chance.choice([0, len(pairs)]), (name, other))
        header = b"\xde\x00" + bytes([len(pairs)]) if self.seldom() else bytes([0x80 + len(pairs)])
        return header + b"".join(name + value for name, value in pairs)

    def frame(self, name: str) -> bytes:
        args = []
        for arg in COMMANDS[name].args.values():
            if self.chance.random() < (0.97 if arg.required else 0.4):
                usual = USUAL.get(arg.type)
                value = self.chance.choice(ODD if usual is None or self.seldom() else usual)
                args.append((self.said(arg.name), self.said(value)))
        envelope = [(self.said("cmd"), self.said(name)), (self.said("args"), self.map(args))]
        for field, usual in (("id", [7, 70_000, "i", None]), ("key", ["k", KEY]), ("v", [1]), ("x", [1])):
            if self.chance.random() < (0.02 if field == "x" else 0.5):
                value = self.chance.choice(ODD if self.seldom() else usual)
                envelope.append((self.said(field), self.said(value)))
        return self.map(envelope)


@pytest.mark.parametrize("name", PLAIN)
def test_what_the_short_way_takes_the_careful_one_takes_for_the_same(name: str) -> None:
    speaker = Speaker(name)
    taken = sum(alike(speaker.frame(name)) is not None for _ in range(FRAMES))
    assert 20 < taken < FRAMES
