"""The journal, followed event by event: what must be, if all that it tells is true, and whether it can be true."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any
from zlib import crc32

import msgpack

Map = dict[str, Any]
# The value of a parameter that is set without a key, by nobody who looks whether it happened.
NOBODYS = -1
Segment = tuple[str, int]  # uid of an acquisition and its segment


class Fold:
    """What follows from the events so far. `wrong` has what cannot be true.

    told     per command of the checker, by the id in its parameter's value or its mark's summary: the seqs
    rows     crc and topic of each event, by seq - 1
    ended    how each segment that is over has ended: `finished` or `aborted`
    owed     the segments that are to be converted
    """

    def __init__(self) -> None:
        self.storages: dict[str, Map] = {}
        self.runs: dict[str, Map] = {}
        self.acqs: dict[str, Map] = {}
        self.conversions: dict[str, Map] = {}
        self.groups: dict[str, Map] = {}
        self.told: dict[int, list[int]] = defaultdict(list)
        self.rows: list[tuple[int, str]] = []
        self.run_uids: dict[str, int] = {}
        self.run_names: dict[str, str] = {}
        self.started: dict[Segment, int] = {}
        self.ended: dict[Segment, str] = {}
        self.owed: set[Segment] = set()
        self.counts: dict[str, Counter[Any]] = defaultdict(Counter)
        self.wrong: list[str] = []
        self._tails: dict[str, int] = {}
        self._newest: dict[str, int] = {}  # the newest segment of an acquisition that has a conversion

    def take(self, event: Map) -> None:
        """The next event."""
        seq, kind = event["seq"], event["type"]
        topic = f"{kind}/{event['storage_id']}/" if event["storage_id"] is not None else f"{kind}/"
        if seq != len(self.rows) + 1:
            self.wrong.append(f"seq {seq} after {len(self.rows)}")
        if event["prev_seq"] != self._tails.get(topic, 0):
            self.wrong.append(f"prev_seq of {event}: it should be {self._tails.get(topic, 0)}")
        self._tails[topic] = seq
        self.rows.append((crc32(msgpack.packb(event)), topic))
        subject, data = event["subject"], event["data"]
        try:
            getattr(self, "_" + kind.replace(".", "_"))(seq, event, subject, data)
        except (KeyError, AttributeError) as error:
            self.wrong.append(f"{error!r} at {event}")

    def _node_annotated(self, seq: int, event: Map, subject: str, data: Map) -> None:
        node = self.acqs.get(subject) or self.runs[subject]
        if node["uid"] != data["uid"]:
            self.wrong.append(f"{event} is of another life of its node")

    def _mount_told(self, seq: int, event: Map, subject: str, data: Map) -> None:
        """The host's disk is not this checker's."""

    _mount_low = _mount_full = _mount_unreachable = _mount_recovered = _mount_told
    _logbook_failed = _logbook_recovered = _logbook_written = _mount_told  # nor are its logbooks

    def _once(self, what: str, which: Any, event: Map) -> None:
        self.counts[what][which] += 1
        if self.counts[what][which] > 1:
            self.wrong.append(f"doubled: {what} of {which} a second time: {event}")

    # Storages

    def _storage(self, seq: int, event: Map, subject: str, data: Map) -> None:
        if subject in self.storages and data["producers_unnamed"] != self.storages[subject]["producers_unnamed"]:
            self.wrong.append(f"unnamed producers do not add up: {event}")
        self.storages[subject] = data

    _storage_configured = _storage_invalidated = _storage

    def _storage_initialized(self, seq: int, event: Map, subject: str, data: Map) -> None:
        if subject in self.storages:
            self.wrong.append(f"doubled: {event}")
        self.storages[subject] = data

    def _storage_deinitialized(self, seq: int, event: Map, subject: str, data: Map) -> None:
        del self.storages[subject]

    def _storage_producer_registered(self, seq: int, event: Map, subject: str, data: Map) -> None:
        storage = self.storages[subject]
        if data["producer"] is None:
            self.counts["unnamed"][subject] += 1
            storage["producers_unnamed"] += 1
        else:
            storage["producers"] = [*storage["producers"], data["producer"]]

    def _storage_config_set(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self.storages[subject].pop("config", None)
        if data["blake3"] is not None:
            self.storages[subject]["config"] = data

    def _storage_warning(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self.storages[subject]["warnings"] = [*self.storages[subject]["warnings"], {**data, "time": event["time"]}]

    def _group_created(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("group", subject, event)
        self.groups[subject] = data

    # Runs

    def _run_created(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("run.created", data["uid"], event)
        if subject in self.runs:
            self.wrong.append(f"it is there already: {event}")
        self.runs[subject] = data
        self.run_uids[data["uid"]] = seq
        self.run_names[data["uid"]] = data["run_name"]
        if "scratch" not in data["run_name"]:
            self._once("number", subject, event)
        self._by(data["params"].values(), seq)

    def _run_taken_over(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self.runs[subject] = data
        for acq in self.acqs.values():
            if acq["run_id"] == subject:
                acq["storage_id"] = data["storage_id"]

    def _run_param_set(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self.runs[subject]["params"][data["param"]] = data["value"]
        self._by([data["value"]], seq)

    def _run_removed(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("run.removed", data["uid"], event)
        del self.runs[subject]
        if left := [acq for acq in self.acqs.values() if acq["run_id"] == subject]:
            self.wrong.append(f"acquisitions stay behind a removed run: {left}")

    def _by(self, ids: Any, seq: int) -> None:
        for each in ids:
            if each != NOBODYS:
                self.told[each].append(seq)

    # Acquisitions

    def _acquisition_started(self, seq: int, event: Map, subject: str, data: Map) -> None:
        which = (data["uid"], data["segment"])
        self._once("acquisition.started", which, event)
        before = self.acqs.get(subject)
        if data["segment"] > 1:
            if before is None or before["uid"] != data["uid"] or before["segment"] != data["segment"] - 1:
                self.wrong.append(f"a segment without the one before: {event}, before {before}")
            elif before["state"] == "open" or not before["sealed"]:
                self.wrong.append(f"opened again before it was sealed: {event}, before {before}")
        elif before is not None:
            self.wrong.append(f"it is there already: {event}")
        kept = before["params"] if before else {}
        if {**kept, **data["params"]} != data["params"]:
            for name, value in kept.items():
                if name not in data["params"]:
                    self.wrong.append(f"lost: the next segment lacks {name}={value}: {event}")
        self._by((value for name, value in data["params"].items() if kept.get(name) != value), seq)
        self.started[which] = seq
        self.acqs[subject] = data
        storage = self.storages[event["storage_id"]]
        storage["open_acqs"] = [*storage["open_acqs"], subject]

    def _acquisition_param_set(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self.acqs[subject]["params"][data["param"]] = data["value"]
        self._by([data["value"]], seq)
        if self.acqs[subject]["state"] != "open":
            self.wrong.append(f"a parameter of what is not open: {event}")

    def _acquisition_producer_finished(self, seq: int, event: Map, subject: str, data: Map) -> None:
        acq = self.acqs[subject]
        if data["producer"] is not None:
            self._once("mark", (data["uid"], data["segment"], data["producer"]), event)
        if (acq["uid"], acq["segment"], acq["state"]) != (data["uid"], data["segment"], "open"):
            self.wrong.append(f"a mark on {acq}: {event}")
        mark = {"producer": data["producer"], "ok": data["ok"], "summary": data["summary"], "time": event["time"]}
        acq["producers"] = [*acq["producers"], mark]
        acq["finished"] += 1
        if data["producer"] in acq["missing"]:
            acq["missing"] = [name for name in acq["missing"] if name != data["producer"]]
        if not data["ok"]:
            acq["failed"] = [*acq["failed"], data["producer"]]
        if acq["finished"] != data["finished"]:
            self.wrong.append(f"{acq['finished']} marks are counted, says the journal: {event}")
        self._by([data["summary"]["id"]], seq)

    def _ended(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("end", (data["uid"], data["segment"]), event)
        was = self.acqs[subject]
        if was["state"] != "open":
            self.wrong.append(f"the end of what is not open: {event}")
        same = ("uid", "segment", "params", "producers", "finished", "missing", "expected", "storage_id")
        if differing := [name for name in same if was[name] != data[name]]:
            self.wrong.append(f"the end tells others of {differing}: {event}; before {was}")
        self.acqs[subject] = data
        which = (data["uid"], data["segment"])
        self.ended[which] = event["type"].split(".")[1]
        if self.ended[which] != data["state"]:
            self.wrong.append(f"another state than it tells: {event}")
        if self.ended[which] == "finished" and data["convert_script"] is not None:
            self.owed.add(which)
        storage = self.storages[event["storage_id"]]
        storage["open_acqs"] = [each for each in storage["open_acqs"] if each != subject]

    _acquisition_finished = _acquisition_aborted = _ended

    def _acquisition_sealed(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("acquisition.sealed", (data["uid"], data["segment"]), event)
        acq = self.acqs[subject]
        if (acq["uid"], acq["segment"]) != (data["uid"], data["segment"]) or acq["state"] == "open":
            self.wrong.append(f"sealed what is not ended: {event}, {acq}")
        if any(each["end"] is None for each in acq.get("statistics", {}).values()):
            self.wrong.append(f"sealed before its end was read: {event}, {acq}")
        acq["sealed"] = True

    def _acquisition_measured(self, seq: int, event: Map, subject: str, data: Map) -> None:
        acq, which = self.acqs[subject], (data["uid"], data["segment"])
        self._once("measured", (*which, data["when"]), event)
        if (acq["uid"], acq["segment"]) != which or acq["sealed"]:
            self.wrong.append(f"a reading of another one, or after the seal: {event}, {acq}")
        if data["when"] == "end" and (acq["state"] == "open" or not self.counts["measured"][(*which, "start")]):
            self.wrong.append(f"its end was read before it ended, or before its start: {event}, {acq}")
        acq["statistics"] = data["statistics"]
        acq["configurations"] = [*acq.get("configurations", []), *data["configurations"]]
        for name in ("statistics", "configurations"):  # what is empty is left out on the wire
            if not acq[name]:
                del acq[name]

    def _acquisition_manifest_written(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("manifest", (data["uid"], data["name"]), event)
        acq = self.acqs[subject]
        if (acq["uid"], acq["segment"]) != (data["uid"], data["segment"]) or not acq["sealed"]:
            self.wrong.append(f"a manifest of what is not sealed: {event}, {acq}")

    def _acquisition_removed(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self._once("acquisition.removed", data["uid"], event)
        if self.acqs.pop(subject)["state"] == "open":
            self.wrong.append(f"removed while open: {event}")

    def _acquisition_warning(self, seq: int, event: Map, subject: str, data: Map) -> None:
        self.acqs[subject]["warnings"] = [*self.acqs[subject]["warnings"], {**data, "time": event["time"]}]

    # Conversions

    def _conversion(self, seq: int, event: Map, subject: str, data: Map) -> None:
        id_, kind = data["conversion_id"], event["type"].split(".")[1]
        if {"started": "running"}.get(kind, kind) != data["state"]:
            self.wrong.append(f"a conversion of another state: {event}")
        before = self.conversions.get(id_)
        if before is None:
            self._once("conversion", (data["uid"], data["segment"]), event)
        attempt = before["attempt"] if before else 0
        if kind == "started":
            if before is None or before["state"] != "queued" or data["attempt"] != attempt + 1:
                self.wrong.append(f"started out of turn: {event}; before {before}")
            if not (acq := self.acqs.get(subject)) or acq["uid"] != data["uid"] or not acq["sealed"]:
                self.wrong.append(f"started before the seal: {event}; {acq}")
        elif data["attempt"] != attempt:
            self.wrong.append(f"an attempt that was not told: {event}; before {before}")
        if kind in ("succeeded", "failed") and (before is None or before["state"] not in ("running", "queued")):
            self.wrong.append(f"doubled: ended without having begun: {event}; before {before}")
        if kind == "succeeded":
            self._once("accepted result", (id_, data["attempt"]), event)
        if kind == "succeeded" and before is not None and before["state"] != "running":
            self.wrong.append(f"doubled: succeeded while {before['state']}: {event}")
        self.conversions[id_] = data
        acq = self.acqs.get(subject)
        newest = self._newest[data["uid"]] = max(self._newest.get(data["uid"], 0), data["segment"])
        if acq is not None and acq["uid"] == data["uid"] and data["segment"] >= newest:
            acq["conversion"] = data["state"]

    _conversion_queued = _conversion_started = _conversion_succeeded = _conversion_failed = _conversion
    _conversion_cancelled = _conversion
