"""The commands on the journal of events (SPEC 4.6)."""

from __future__ import annotations

from typing import ClassVar

from . import arguments as a
from .specs import Command


class ReplayEvents(Command, frozen=True, kw_only=True):
    """Events of the journal, oldest first."""

    CMD: ClassVar = "replay_events"
    after_seq: a.Seq = 0
    topics: a.Topics = ()
    subject: a.Id | None = None
    limit: a.PageSize = 1000


class PruneEvents(Command, frozen=True, kw_only=True):
    """Give the oldest events of the journal up, for good."""

    CMD: ClassVar = "prune_events"
    MUTATING: ClassVar = True
    before_seq: a.Seq
