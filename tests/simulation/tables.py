"""The same thing said four times: the journal's public events, its facts folded, the tables, and memory."""

from __future__ import annotations

from typing import Any

import msgspec

from storage_protocol.codec import encode_value
from storage_service.desk.batch import Batch
from storage_service.desk.desk import Desk
from storage_service.rules import render
from storage_service.rules.state import Acq, Conversion, Group, Key, Places, Run, Storage, Variable

from ..support.fold import Fold
from .broken import must
from .journal import Journal
from .mount import Mount
from .records import Map, Subject
from .service import Store


class Tables:
    def __init__(self, store: Store, journal: Journal, places: Places) -> None:
        self._store, self._journal, self._places = store, journal, places
        self._fold = Fold(places)
        self._registers: dict[Key, Variable] = {}

    def committed(self, batch: Batch) -> None:
        """A batch is durable: its rows go to both who follow them, and what they changed is compared."""
        store, journal = self._store, self._journal
        changed: set[Key] = set(batch.records)
        self._registers.update(batch.registers)
        kept = store.records_of(batch.registers)
        must(kept == batch.registers, "lost", "variables are not what they were set to", kept, batch.registers)
        for row in batch.rows:
            must(store.journal[row.seq - 1] == row, "lost", "the journal has another row", row)
            journal.add(msgspec.msgpack.decode(row.body))
            changed.update(self._fold.add(row))
        journal.end_of_transaction()
        must(
            store.last_seq == journal.last_seq, "wrong", f"the journal ends at {store.last_seq}", journal.last_seq
        )
        told = {subject: _key_of(subject) for subject in journal.changed}
        there = store.records_of(changed.union(told.values()))
        for key, record in there.items():
            folded = self._fold.state.records.get(key)
            must(record == folded, "wrong", "the tables are not the folded journal", key, record, folded)
        for subject, key in told.items():
            self._is_told(subject, there[key])
        journal.changed.clear()

    def _is_told(self, subject: Subject, record: Any) -> None:
        told = self._journal.versions[subject][-1][1]
        shown = self._shown(record)
        must(shown == told, "wrong", "the tables are not what the events told", subject, shown, told)

    def _shown(self, record: Any) -> Map | None:
        """A record as clients see it."""
        match record:
            case Storage():
                told: Any = render.storage(record)
            case Run():
                told = render.run(record, self._places)
            case Acq():
                told = render.acquisition(record, self._places)
            case Conversion():
                told = render.conversion(record, self._places)
            case Group():
                told = render.node(record, self._places)
            case _:
                return None
        shown: Map = msgspec.msgpack.decode(encode_value(told))
        return shown

    def memory(self, desk: Desk) -> None:
        """Nothing is under way to the disk: what is in memory is what is on it."""
        folded = self._fold.state.records
        for key, record in desk.state.records.items():
            there = self._registers.get(key) if key[0] == "variable" else folded.get(key)
            must(record == there, "wrong", "memory is not the tables", key, record, there)

    def one_place_each(self) -> None:
        """No two living runs or acquisitions have the same folder."""
        places: dict[str, str] = {}
        for each in (*self._journal.runs.items(), *self._journal.acqs.items()):
            id, path = each[0], each[1]["location"]["path"]
            must(path not in places, "wrong", "two living records have one place", path, id, places.get(path))
            places[path] = id

    def folders(self, mount: Mount) -> None:
        """All is done: each folder says whose it is, and the marker of a sealed acquisition how it ended.

        But for those that the mount point made, and failed to say so: what their marker says is not known.
        """
        for run in self._journal.runs.values():
            told = mount.told(run["location"]["path"])
            must(told is not None, "lost", "a run without its folder", run)
            same = ("run_id", "uid", "params", "storage_id")
            stale = [name for name in same if told[name] != run[name]]
            must(not stale, "wrong", f"run.json tells other {stale}", told, run)
        for acq in self._journal.acqs.values():
            told = mount.told(acq["location"]["path"])
            must(
                told is not None and told["uid"] == acq["uid"],
                "lost",
                "an acquisition without its folder",
                acq,
                told,
            )
            ends = (
                *("segment", "state", "verdict", "sealed", "params", "missing", "failed", "producers", "reason"),
                *("statistics", "configurations"),
            )
            sealed = acq["sealed"] and tuple(acq["location"]["path"].split("/")) not in mount.spoilt
            stale = [name for name in ends if sealed and told.get(name) != acq.get(name)]
            must(not stale, "wrong", f"acquisition.json tells other {stale}", told, acq)
            blocks, segments = mount.logs[acq["uid"]], acq["segment"] - (acq["state"] == "open")
            must(len(blocks) == segments, "lost", "the log has other segments", acq, blocks)
            saved = mount.saved[acq["uid"]]
            for each in acq.get("configurations", []):
                must(saved.get(each["file"]) == each["blake3"], "lost", "it is not beside the data", each, saved)

    def whole(self) -> None:
        """All of it at once, as at the end of a life."""
        there, folded = self._store.everything(), self._fold.state.records
        must(there == {key: each for key, each in folded.items() if each is not None}, "wrong", "not the fold")
        records = {**self._journal.storages, **self._journal.runs, **self._journal.acqs}
        told = {key[1] for key, each in there.items() if isinstance(each, Storage | Run | Acq)}
        must(told == set(records), "wrong", "records that no event tells of", told ^ set(records))


def _key_of(subject: Subject) -> Key:
    """Where the tables keep what the journal tells of."""
    kind, id = subject
    return (kind if kind in ("storage", "conversion") else "node", id)
