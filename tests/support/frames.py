"""Command frames, packed by another hand than the codec's, and what the codec makes of them."""

from __future__ import annotations

from typing import Any

import msgpack

from storage_protocol.codec import Rejected, decode_command
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.plain import Request

LIMITS = Limits()


def frame(**envelope: Any) -> bytes:
    packed: bytes = msgpack.packb(envelope)
    return packed


def init(**args: Any) -> bytes:
    return frame(cmd="init_storage", args={"storage_id": "s", "brg_name": "g", **args})


def set_param(**args: Any) -> bytes:
    args = {"storage_id": "s", "acq_id": "root/g/r/a", "param": "x", "value": 1, **args}
    return frame(cmd="set_param_acq_storage", args=args)


def new_acq(**args: Any) -> bytes:
    return frame(cmd="new_acq_storage", args={"storage_id": "s", "run_name": "r", "acq_name": "a", **args})


def accepted(raw: bytes, limits: Limits = LIMITS) -> Any:
    read = decode_command(raw, limits)
    assert isinstance(read, Request), read
    return read.command


def refused(raw: bytes, limits: Limits = LIMITS) -> Refusal:
    read = decode_command(raw, limits)
    assert isinstance(read, Rejected), read
    return read.refusal
