"""The short way of a command frame takes what nearly all clients send, and nothing that needs care."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from storage_protocol import codec, plain
from storage_protocol import commands as c
from storage_protocol.codec import decode_carefully, decode_command
from storage_protocol.plain import Request
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
