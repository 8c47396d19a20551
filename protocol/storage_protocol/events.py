"""Events (SPEC 6): what is told to everybody, once it is durable."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

EVENTS: dict[str, str] = {
    "storage.initialized": "the storage",
    "storage.configured": "the storage",
    "storage.invalidated": "the storage",
    "storage.deinitialized": "the storage",
    "storage.producer_registered": "`producer` (nil where it has no name)",
    "storage.producer_unregistered": "`producer`",
    "storage.producer_lost": "`producer`, of which nothing was heard for `producer_timeout_s`",
    "storage.producer_back": "`producer`, which was lost and is heard of again",
    "storage.config_set": "`name`, `blake3` (nil: taken back), `bytes`",
    "storage.warning": "`what`, `message`",
    "group.created": "the node",
    "run.created": "the run",
    "run.taken_over": "the run, which a storage took over from one that is gone",
    "run.removed": "the run",
    "run.restored": "the run, which came back from the trash or by a rebuild",
    "run.param_set": "`param`, `value`",
    "node.annotated": "`node_id`, `uid`, `name`, `value`, `author`",
    "acquisition.started": "the acquisition (each segment)",
    "acquisition.param_set": "`param`, `value`",
    "acquisition.producer_finished": (
        "`acq_id`, `uid`, `segment`, `producer` (or nil), `ok`, `summary`, `finished`, `expected`"
    ),
    "acquisition.finished": "the acquisition, verdict included",
    "acquisition.aborted": "the acquisition",
    "acquisition.measured": (
        "`acq_id`, `uid`, `segment`, `when` (`start` or `end`), `statistics`, `configurations` (those saved now)"
    ),
    "acquisition.sealed": "`acq_id`, `uid`, `segment`",
    "acquisition.manifest_written": (
        "`acq_id`, `uid`, `segment`, `name` (of the file), `files`, `bytes`, `manifest_blake3`"
    ),
    "acquisition.removed": "the acquisition",
    "acquisition.restored": "the acquisition, which came back from the trash or by a rebuild",
    "acquisition.warning": "`what`, `message`",
    "trash.restored": "the entry of the trash, and `rundb`, `acqs` as in the reply",
    "trash.emptied": "the entry of the trash, and `why`: `asked` or `expired`",
    "mount.low": "`mp`, `free_bytes`, `message`",
    "mount.full": "`mp`, `free_bytes`, `message`: nothing new is begun there",
    "mount.unreachable": "`mp`, `free_bytes` (nil), `message`",
    "mount.recovered": "`mp`, `free_bytes`, `message`: it has room again, or answers again",
    "logbook.failed": "`logbook`, `message`",
    "logbook.recovered": "`logbook`, `message`: it takes entries again",
    "logbook.written": "`logbook`, `entry` (its number there), `what`: `run`, `acquisition` or `problem`; `key`",
    "conversion.queued": "the conversion",
    "conversion.started": "the conversion",
    "conversion.succeeded": "the conversion",
    "conversion.failed": "the conversion",
    "conversion.cancelled": "the conversion",
}
"""The types of numbered events, and what their `data` is."""

UNNUMBERED: dict[str, str] = {
    "conversion.progress": "the conversion; at most once a second each",
    "variable": "`name`, `value`; at most ten a second each, the newest at last; the `subject` is the `ns`",
    "service.heartbeat": "`service_id`, `started_at`, `journal_id`, `last_seq`, `tails`; once a second",
}
"""The types that are not in the journal: their `seq` and `prev_seq` are nil."""


class Event(Struct, frozen=True):
    """The body of an event message.

    seq       its place in the journal, from 1 without holes; None where it is not in the journal
    prev_seq  the seq of the event before this one with the same topic, 0 if none
    subject   the id of what it is about
    data      by type: see `EVENTS`
    """

    type: str
    seq: int | None = None
    time: str = ""
    storage_id: str | None = None
    prev_seq: int | None = None
    subject: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    v: int = 1


_decoder = msgspec.msgpack.Decoder(Event)


def topic(type: str, storage_id: str | None) -> str:
    """The first frame of an event message: a subscriber to `acquisition.` has every topic that begins so. A
    variable has its `ns` in place of a storage."""
    return f"{type}/{storage_id}/" if storage_id else f"{type}/"


def decode_event(body: bytes) -> Event:
    """The second frame of an event message. Raises ValueError when it is none."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not an event: {error}") from None
