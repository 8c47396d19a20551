"""What every frame must come to: a command, or a refusal with a code of the list; in bounded time and memory."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Sequence

from storage_protocol import codec
from storage_protocol.codec import Rejected, decode_carefully, decode_command
from storage_protocol.errors import CODES
from storage_protocol.limits import Limits
from storage_protocol.plain import Request
from storage_service.desk.keyring import fingerprint

LIMITS = Limits()
SMALL = Limits(frame_bytes=200, depth=3, value_bytes=8, params=2, params_bytes=16)

MOST_S = 0.005
MOST_BYTES = 4 << 20
# What is slow once was interrupted; what is slow so often is slow.
TRIES = 5


def check(raw: bytes, both: Sequence[Limits] = (SMALL, LIMITS)) -> Request | Rejected:
    """Read a frame with each of the limits; the last answer. Whatever it raises is a finding."""
    for limits in both:
        read = decode_command(raw, limits)
        assert read.id is None or type(read.id) is int or (type(read.id) is str and len(read.id) <= 128)
        if isinstance(read, Rejected):
            assert read.refusal.code in CODES
            told = codec.decode_reply(codec.encode_refusal(read.id, read.refusal))
            assert (told.id, told.ok, told.error) == (read.id, False, read.refusal)
        else:
            assert isinstance(read, Request)
            assert len(fingerprint(read.command)) == 16
    # The short way takes nothing that the careful one would not take, and takes it for the same.
    careful = decode_carefully(raw, both[-1])
    assert type(read) is type(careful)
    assert codec.encode_value(read) == codec.encode_value(careful)
    return read


def slow(raw: bytes) -> float:
    """Seconds of processor time that a frame takes, at its best of a few tries."""
    best = float("inf")
    for _ in range(TRIES):
        began = time.thread_time()
        decode_command(raw, LIMITS)
        best = min(best, time.thread_time() - began)
    return best


def peak(raws: Sequence[bytes]) -> int:
    """The most bytes that reading these frames, one after another, takes at once."""
    gc.collect()
    tracemalloc.start()
    try:
        for raw in raws:
            decode_command(raw, LIMITS)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
