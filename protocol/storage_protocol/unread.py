"""The `id` of a command frame that cannot be used, or is read no further: its refusal names it all the same."""

from __future__ import annotations

import re

import msgpack
import msgspec
from msgspec import Struct

from .plain import MAX_ID

_MAP = re.compile(rb"[\x80-\x8f\xde\xdf]")


class _Named(Struct, gc=False):
    id: str | int | None = None


_decode = msgspec.msgpack.Decoder(_Named).decode


def is_id(id: object) -> bool:
    return type(id) is int or (type(id) is str and len(id) <= MAX_ID)


def read_id(frame: bytes) -> str | int | None:
    """Of any frame, at little cost."""
    try:
        id = _decode(frame).id
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return salvaged_id(frame)
    return id if is_id(id) else None


def salvaged_id(frame: bytes) -> str | int | None:
    """Of a frame that is broken, where it can be read."""
    if not _MAP.match(frame):
        return None
    try:
        reader = msgpack.Unpacker(raw=False, max_buffer_size=len(frame) + 1, max_ext_len=0, max_array_len=0)
        reader.feed(frame)
        for _ in range(min(reader.read_map_header(), 64)):
            if reader.unpack() == "id":
                id = reader.unpack()
                return id if is_id(id) else None
            reader.skip()
    except (ValueError, TypeError, OverflowError, RecursionError, KeyError, MemoryError, msgpack.OutOfData):
        pass
    return None
