"""Limits of messages, names and values (SPEC 2), as `describe` reports them."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True):
    """
    frame_bytes         a command frame
    message_bytes       all command frames of a message; a single frame over it cuts the connection
    frames_per_message  command frames in a message
    depth               nesting of maps and arrays in a command frame; its envelope is 1
    value_bytes         a parameter's text, in UTF-8
    params              parameters of a run or an acquisition
    params_bytes        names and values of all parameters of a run or an acquisition
    key_days            for how long an idempotency key is remembered, at least
    """

    frame_bytes: int = 1 << 20
    message_bytes: int = 8 << 20
    frames_per_message: int = 1024
    depth: int = 16
    value_bytes: int = 64 << 10
    params: int = 1024
    params_bytes: int = 256 << 10
    key_days: int = 7


REPLY_BYTES = 4 << 20
"""A reply is cut here, with `more` or a `cursor`."""

PAGE_MOST = 10_000
"""The largest `limit` argument."""
