"""What a journal alone says that there is: its facts, folded with `evolve` from nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from storage_service.desk.batch import JournalRow
from storage_service.rules import facts
from storage_service.rules.evolve import evolve
from storage_service.rules.facts import Event
from storage_service.rules.state import Key, Places, Record, State
from storage_service.store.rows import decode_fact


class Fold:
    """Every record that a journal tells of, row by row. `state.records` has None for what is gone."""

    def __init__(self, places: Places) -> None:
        self.state = State(places)
        self.state.complete, self.state.records = _All(), _Absent()

    def add(self, row: JournalRow) -> list[Key]:
        """The next row; the keys of the records that it changed."""
        body = msgspec.msgpack.decode(row.body)
        fact = decode_fact(row.fact) if row.fact is not None else _rebuilt(body)
        puts = evolve(self.state, Event(fact, body["storage_id"], body["subject"]), body["time"])
        self.state.records.update(puts)
        if isinstance(fact, facts.StorageDeinitialized):
            self.state.records.pop(("storage", body["subject"]))
        return [key for key, _ in puts]


def folded(journal: Iterable[JournalRow], places: Places) -> dict[Key, Record]:
    """Every record that the journal tells of, by key."""
    fold = Fold(places)
    for row in journal:
        fold.add(row)
    return {key: record for key, record in fold.state.records.items() if record is not None}


class _All(set[str]):
    """Nothing is left out."""

    def __contains__(self, each: object) -> bool:
        return True


class _Absent(dict[Key, Any]):
    """What is not there is known to be absent."""

    def __missing__(self, key: Key) -> None:
        return None


def _rebuilt(body: dict[str, Any]) -> facts.AnyFact:
    """A fact that its public event tells whole."""
    subject, data = body["subject"], body["data"]
    match body["type"]:
        case "acquisition.param_set":
            return facts.AcqParamSet(subject, data["param"], data["value"])
        case "run.param_set":
            return facts.RunParamSet(subject, data["param"], data["value"])
        case "node.annotated":
            return facts.NodeAnnotated(subject, data["name"], data["value"], data["author"])
        case "acquisition.producer_finished":
            return facts.ProducerFinished(subject, data["producer"], data["ok"], data["summary"])
        case "acquisition.sealed":  # as it was stored before its folder was counted
            return facts.AcqSealed(subject)
        case other:
            raise AssertionError(f"the journal has {other} without its fact")
