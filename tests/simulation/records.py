"""What records were, from which seq on, as far as the journal told: the ground on which it is followed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from .barrier import Barrier
from .broken import must

Map = dict[str, Any]
Subject = tuple[str, str]
MAX_WARNINGS = 32


class Records:
    """
    tags      seqs of the events in which a client's own word stands: it says which command they come from
    segments  which acquisition such an event is about: its uid and segment
    arrows    how often each arrow of the state machines was gone: (what, state, trigger, guard)
    lives     for each storage id the seq at which its present life began
    """

    def __init__(self, max_parallel: int) -> None:
        self.max_parallel = max_parallel
        self.last_seq = 0
        self.storages: dict[str, Map] = {}
        self.groups: dict[str, Map] = {}
        self.runs: dict[str, Map] = {}
        self.acqs: dict[str, Map] = {}
        self.conversions: dict[str, Map] = {}
        self.barriers: dict[str, Barrier] = {}
        self.versions: dict[Subject, list[tuple[int, Map | None]]] = defaultdict(lambda: [(0, None)])
        self.tags: dict[str, list[int]] = defaultdict(list)
        self.segments: dict[str, tuple[str, int]] = {}
        self.arrows: Counter[tuple[str, str, str, str]] = Counter()
        self.lives: dict[str, int] = {}
        self.owners: dict[str, tuple[str, int]] = {}
        self.uids: set[str] = set()
        self.changed: set[Subject] = set()
        self.opened_at: dict[tuple[str, int], float] = {}
        self.lost: set[tuple[str, str]] = set()
        self.on_opened: Callable[[Map, Map], None] = lambda acq, storage: None
        self._tails: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        self._owed: tuple[str, str] | None = None
        self._before: Map = {}
        self._was = ""

    def version(self, kind: str, id: str, told: Map | None, floor: int) -> bool:
        """Whether a record was so at some time from `floor` on."""
        until = self.last_seq + 1
        for seq, record in reversed(self.versions[kind, id]):
            if record == told:
                return True
            until = seq
            if until <= floor:
                return False
        return False

    def _put(self, kind: str, id: str, record: Map | None) -> None:
        tables: dict[str, dict[str, Map]] = {
            "storage": self.storages, "group": self.groups, "run": self.runs,
            "acq": self.acqs, "conversion": self.conversions,
        }  # fmt: skip
        if record is None:
            tables[kind].pop(id, None)
        else:
            tables[kind][id] = record
        self.versions[kind, id].append((self.last_seq, record))
        self.changed.add((kind, id))

    def _arrow(self, what: str, state: str, trigger: str, guard: str = "") -> None:
        self.arrows[what, state, trigger, guard] += 1

    def _tag(self, word: Any, acq: Map | None = None) -> None:
        if isinstance(word, str) and word.startswith("#"):
            self.tags[word].append(self.last_seq)
            if acq is not None:
                self.segments[word] = (acq["uid"], acq["segment"])

    def _storage(self, event: Map) -> Map:
        found = self.storages.get(event["storage_id"])
        must(found is not None, "wrong", "of a storage that is not there", event)
        return found or {}

    @staticmethod
    def _warned(record: Map, event: Map) -> Map:
        warnings = [*record["warnings"], {**event["data"], "time": event["time"]}][-MAX_WARNINGS:]
        return {**record, "warnings": warnings}

    def _fresh_uid(self, uid: str, event: Map) -> None:
        must(uid not in self.uids, "doubled", "a uid came before", event)
        self.uids.add(uid)

    def _owns(self, run_id: str, storage_id: str) -> bool:
        return self.owners.get(run_id) == (storage_id, self.lives.get(storage_id))
