"""Readings, as the protocol's text has them (SPEC 4.3.6 to 4.3.8): who takes them, and what is told of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from blake3 import blake3

from storage_protocol.records import Configuration
from storage_service.rules.readings import Reading, ReadingsTaken, TakeReadings

from .broken import must
from .manifests import Manifests
from .mount import Mount
from .patience import Patience
from .records import Map

NEVER: Map = {"start": None, "end": None, "difference": None}
VALUES = [0, 1, 2, 7, -3, 0.5, 2.25, True, "on", None, 2**63 - 1, -(2**63)]
FETCHED = [b"fetched", b"fetched", b"fetched anew"]
AWAY = "It is not saved yet: the mount point is not there, or full."

Which = tuple[str, int, str]
"""uid and segment of an acquisition, `start` or `end`."""


def only_told(record: Map) -> Map:
    """What is empty is left out of it on the wire."""
    return {
        name: value
        for name, value in record.items()
        if value or name not in ("config", "statistics", "configurations")
    }


def digest(content: bytes) -> str:
    return blake3(content).hexdigest()


class Measured(Manifests):
    """The journal's part: each segment of which something is to be read is read at its start and at its end, once.

    sourced   storages whose configurations the service itself fetches, for each of its lives so far
    words     of documents that were handed in: the client's own word, by the BLAKE3
    looked    what sources said, for each reading that anybody took
    """

    def __init__(self, max_parallel: int, patience: Patience) -> None:
        super().__init__(max_parallel, patience)
        self.sourced: list[str] = []
        self.words: dict[str, str] = {}
        self.looked: dict[Which, list[dict[str, Any]]] = {}
        self._next: dict[str, str] = {}  # which reading comes next, of those that certainly come
        self._maybe: set[str] = set()  # those of which one may come: another life of the service was asked first
        self._given: dict[str, set[str]] = {}

    def fetches(self, storage_id: str) -> bool:
        return storage_id in self.sourced[-1]

    def owes_reading(self) -> list[str]:
        """Acquisitions of which a reading has still to come, as they are."""
        return [id for id, when in self._next.items() if when == "start" or self.acqs[id]["state"] != "open"]

    def documents(self) -> set[str]:
        """What was handed in and is still needed, when all that ended is sealed."""
        needed = {each["config"]["blake3"] for each in self.storages.values() if "config" in each}
        return needed.union(*(self._given[id] for id in self._next))

    # What is told

    def _storage_initialized(self, event: Map, subject: str, data: Map) -> None:
        must("config" not in data, "wrong", "a storage begins without a configuration", event)

    def _storage_config_set(self, event: Map, subject: str, data: Map) -> None:
        storage = self._storage(event)
        config = None if data["blake3"] is None else data
        must(config != storage.get("config"), "doubled", "it is told, and nothing changed", event)
        self._put("storage", subject, only_told({**storage, "config": config}))
        self._tag(self.words.get(data["blake3"] or ""))

    def _acquisition_started(self, event: Map, subject: str, data: Map) -> None:
        super()._acquisition_started(event, subject, data)
        storage = self._storage(event)
        fresh = dict.fromkeys(storage["stats_names"], NEVER)
        begun = (data.get("statistics", {}), data.get("configurations", []))
        must(begun == (fresh, []), "wrong", "a segment begins unmeasured", event)
        self._next.pop(subject, None)
        self._maybe.discard(subject)
        self._given[subject] = {storage["config"]["blake3"]} if "config" in storage else set()
        lives = [storage["storage_id"] in each for each in self.sourced]
        if storage["stats_names"] or "config" in storage or all(lives):
            self._next[subject] = "start"
        elif any(lives):
            self._maybe.add(subject)

    def _ended(self, acq: Map, event: Map, data: Map, new: Map) -> None:
        config = self._storage(event).get("config")
        if config is not None and event["subject"] in self._next:
            self._given[event["subject"]].add(config["blake3"])
        super()._ended(acq, event, data, new)

    def _acquisition_measured(self, event: Map, subject: str, data: Map) -> None:
        acq, when = self._acq(event, ""), data["when"]
        must((acq["uid"], acq["segment"]) == (data["uid"], data["segment"]), "wrong", "another's reading", event)
        if subject in self._maybe and when == "start":
            self._next[subject] = "start"
        must(self._next.get(subject) == when, "doubled", "a reading that does not come next", event)
        must(when == "start" or acq["state"] != "open", "wrong", "the end of what is open is read", event)
        must(not acq["sealed"], "wrong", "read after the seal", event)
        must(
            data["statistics"].keys() == acq.get("statistics", {}).keys(),
            "wrong",
            "of other variables",
            event,
            acq,
        )
        for name, each in data["statistics"].items():
            self._is_true(event, acq, name, each)
        saved = [each["blake3"] for each in acq.get("configurations", [])]
        for each in data["configurations"]:
            must(each["blake3"] not in saved, "doubled", "a configuration is saved twice", event)
            saved.append(each["blake3"])
        kept = [*acq.get("configurations", []), *data["configurations"]]
        measured = {"statistics": data["statistics"], "configurations": kept}
        self._put("acq", subject, only_told({**acq, **measured}))
        if when == "start":
            self._next[subject] = "end"
        else:
            del self._next[subject]
            self._maybe.discard(subject)

    def _is_true(self, event: Map, acq: Map, name: str, each: Map) -> None:
        """What is told of a variable is what its source said, and the other reading is what it was."""
        when, before = event["data"]["when"], acq["statistics"][name]
        other = {"start": "end", "end": "start"}[when]
        must(each[other] == before[other], "lost", "the other reading has changed", event, before)
        said = self.looked.get((acq["uid"], acq["segment"], when), [])
        told = each[when]
        answers = [one[name] for one in said if name in one]  # what is tried again may be the configuration alone
        known = (repr(told["value"]), told["missing"]) in [
            (repr(each.value), each.missing or None) for each in answers
        ]
        too_late = when == "start" and acq["state"] != "open" and "had ended before" in (told["missing"] or "")
        must(known or too_late, "wrong", "nobody said so", event, name, said)
        expected = None
        if when == "end" and each["start"] is not None:
            expected = _difference(each["start"]["value"], told["value"])
        must(repr(each["difference"]) == repr(expected), "wrong", f"the difference is {expected}", event, name)

    def _acquisition_sealed(self, event: Map, subject: str, data: Map) -> None:
        super()._acquisition_sealed(event, subject, data)
        must(subject not in self._next, "wrong", "sealed before its end was read", event, self._next.get(subject))
        self._maybe.discard(subject)

    def _acquisition_removed(self, event: Map, subject: str, data: Map) -> None:
        super()._acquisition_removed(event, subject, data)
        must(subject not in self._next, "wrong", "removed before its end was read", event)


def _difference(before: Any, after: Any) -> Any:
    if type(before) not in (int, float) or type(after) not in (int, float):
        return None
    total = after - before
    return total if type(total) is float or -(2**63) <= total < 2**63 else None


class Look:
    """A reading that was asked for. `result`: it is taken, and not told yet."""

    __slots__ = ("order", "result", "work_id")

    def __init__(self, work_id: str, order: TakeReadings) -> None:
        self.work_id, self.order = work_id, order
        self.result: ReadingsTaken | None = None


class World:
    """What is outside the service and is read: variables that change all the time, and configurations.

    came   how readings went
    """

    def __init__(self, mount: Mount, journal: Measured) -> None:
        self._mount, self._journal = mount, journal
        self.came: Counter[str] = Counter()

    def take(self, order: TakeReadings, chance: Random) -> ReadingsTaken:
        readings = {name: self._read(name, chance) for name in order.names}
        which = (order.uid, order.segment, order.when)
        self._journal.looked.setdefault(which, []).append(readings)
        saved, failures, again, done = list[Configuration](), list[str](), "", set(order.saved)
        for wanted in order.wanted:
            if wanted.document is not None:
                name, blake, source = wanted.document.name, wanted.document.blake3, "set_config_storage"
            elif chance.random() < 0.2:
                failures.append("There is none.")
                continue
            else:
                name, blake, source = "fetched.xml", digest(chance.choice(FETCHED)), "file:/etc/daq.xml"
            if blake in done:
                continue
            full = chance.random() < 0.1
            file = None if full else self._mount.keep(order.path, order.uid, name, blake)
            if file is None:
                again = AWAY
                continue
            done.add(blake)
            saved.append(Configuration(file, wanted.when, blake, 1, source))
        self.came["to be tried again" if again else "failed" if failures else f"{order.when} taken"] += 1
        return ReadingsTaken(readings, tuple(saved), tuple(failures), again)

    @staticmethod
    def _read(name: str, chance: Random) -> Reading:
        if chance.random() < 0.15:
            return Reading(missing="Its source is away.")
        return Reading(chance.choice(VALUES))
