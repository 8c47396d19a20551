"""How a replay finds its events: by looking at each, by an index, or back along the topics (SPEC 4.6)."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import msgspec
from msgspec import Struct

from storage_protocol.commands import ReplayEvents

from .statements import Statements

# A replay looks at every event of a stretch of the journal that is not longer; in a longer one it asks an index.
_SHORT = 20_000
# So many events are followed back by their `prev_seq`, newest first, to find all those of some topics.
_FOLLOWED = 5_000


class _Link(Struct):
    prev_seq: int


_decode_link = msgspec.msgpack.Decoder(_Link).decode


class Replay:
    def __init__(self, statements: Statements) -> None:
        self._read = statements

    def bodies(self, command: ReplayEvents, last_seq: int) -> Generator[bytes]:
        """The bodies of the events that are asked for, oldest first; one over the limit when there are more."""
        subject, tails = command.subject, self._tails(command)
        if tails is not None and not tails:
            return
        asked: dict[str, Any] = {
            "after": command.after_seq,
            "rows": command.limit + 1,
            "subject": subject,
            "below": f"{subject}/",
            "beyond": f"{subject}0",  # 0 comes after /
            "topics": None if tails is None else json.dumps(list(tails)),
        }
        stretch = last_seq - max(command.after_seq, self._read.one("first_seq") - 1)
        seqs: Iterable[int] | None = None
        if stretch > _SHORT:
            seqs = self._of_subject(asked, stretch) if subject is not None else None
            if seqs is None and tails is not None:
                seqs = self._followed(tails, command.after_seq)
        if seqs is not None:
            for seq in seqs:
                if (body := self._read.one("event", seq=seq, **asked)) is not None:
                    yield body
            return
        with closing(self._read.rows("events", **asked)) as rows:
            for (body,) in rows:
                yield body

    def _tails(self, command: ReplayEvents) -> dict[str, int] | None:
        """The topics that begin as asked and have something new, each with its newest seq; None: all topics."""
        if not command.topics or "" in command.topics:
            return None
        tails: dict[str, int] = {}
        for prefix in command.topics:
            # No topic has the byte ff in it: all that begin with the prefix are before it.
            beyond = prefix.encode() + b"\xff"
            tails |= self._read.all("topics", prefix=prefix, beyond_prefix=beyond, after=command.after_seq)
        return tails

    def _of_subject(self, asked: dict[str, Any], stretch: int) -> list[int] | None:
        """The seqs of a subject by its index; None where what is below it is so much that to look is cheaper."""
        most = max(_SHORT, stretch // 10)
        if self._read.one("below_count", most=most + 1, **asked) > most:
            return None
        wanted = asked["rows"] if asked["topics"] is None else -1
        return [seq for (seq,) in self._read.all("events_of_subject", most=wanted, **asked)]

    def _followed(self, tails: dict[str, int], after_seq: int) -> list[int] | None:
        """The seqs of some topics, from the newest back by `prev_seq`; None when there are too many."""
        seqs: list[int] = []
        for newest in tails.values():
            seq = newest
            while seq > after_seq and (body := self._read.one("body", seq=seq)) is not None:
                if len(seqs) == _FOLLOWED:
                    return None
                seqs.append(seq)
                seq = _decode_link(body).prev_seq
        return sorted(seqs)
