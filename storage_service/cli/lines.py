"""Events as lines of text for people."""

from __future__ import annotations

from typing import Any

from storage_protocol.errors import shown
from storage_protocol.events import Event

# What is worth a person's look, in this order; the rest is in the JSON.
_TOLD = (
    "param",
    "name",
    "value",
    "producer",
    "ok",
    "state",
    "verdict",
    "segment",
    "finished",
    "expected",
    "missing",
    "failed",
    "script",
    "attempt",
    "progress",
    "exit_code",
    "mp",
    "free_bytes",
    "what",
    "message",
    "reason",
    "summary",
    "last_seq",
)
_WIDTH = 120


def event_line(event: Event) -> str:
    """Time, seq, type, storage, subject and what is worth a look in its data."""
    seq = "-" if event.seq is None else f"#{event.seq}"
    words = (clock(event), f"{seq:>7}", f"{event.type:<29}", event.storage_id or "-", event.subject or "-")
    return "  ".join((*words, brief(event.data))).rstrip()


def clock(event: Event) -> str:
    """The event's time as people read it, UTC, to the millisecond."""
    return event.time[:23].replace("T", " ")


def brief(data: dict[str, Any]) -> str:
    """What is worth a look in an event's data, on one line whatever is in it."""
    told = ((name, data[name]) for name in _TOLD if name in data)
    words = " ".join(f"{name}={_plain(value)}" for name, value in told if value not in (None, "", [], {}))
    return words if len(words) <= _WIDTH else words[: _WIDTH - 3] + "..."


def _plain(value: object) -> str:
    # A text is shown without quotes where nothing in it can be mistaken, or harm a terminal.
    if isinstance(value, str) and value.isprintable() and not set(value) & set(" '\"="):
        return value if len(value) <= _WIDTH else value[:_WIDTH]
    return shown(value, _WIDTH)
