"""Acquisitions and conversions, as the journal tells of them (SPEC 4.2, 4.5)."""

from __future__ import annotations

from storage_protocol.times import from_wire

from .barrier import Barrier
from .broken import must
from .patience import Patience
from .records import Map, Records


class Acquisitions(Records):
    def __init__(self, max_parallel: int, patience: Patience) -> None:
        super().__init__(max_parallel)
        self.patience = patience

    # Acquisitions

    def _acquisition_started(self, event: Map, subject: str, data: Map) -> None:
        storage, before = self._storage(event), self.acqs.get(subject)
        must(storage["state"] != "ready", "wrong", "an acquisition of a storage that is only ready", event)
        must(data["run_id"] in self.runs, "wrong", "an acquisition without its run", event)
        must(self._owns(data["run_id"], storage["storage_id"]), "wrong", "in another's run", event)
        if before is None:
            self._fresh_uid(data["uid"], event)
            kept: Map = {"segment": 1, "conversion": None, "warnings": []}
            inside = [id for id in self.acqs if f"{id}/".startswith(f"{subject}/") or subject.startswith(f"{id}/")]
            must(not inside, "wrong", "one acquisition lies inside another", subject, inside)
        else:
            must(before["state"] != "open", "doubled", "opened while it is open", event)
            must(before["sealed"], "wrong", "opened again before it was sealed", event)
            same = ("uid", "conversion", "warnings")
            kept = {"segment": before["segment"] + 1, **{name: before[name] for name in same}}
            lost = {name: value for name, value in before["params"].items() if name not in data["params"]}
            must(not lost, "lost", "the next segment lacks parameters", lost, event)
        fresh = {
            "state": "open", "sealed": False, "verdict": None, "finished": 0, "producers": [], "failed": [],
            "finished_at": None, "reason": "", "storage_id": storage["storage_id"],
        }  # fmt: skip
        must(data == {**data, **fresh, **kept}, "wrong", "a segment begins with", {**fresh, **kept}, data)
        self.opened_at[data["uid"], data["segment"]] = from_wire(event["time"])
        self.barriers[subject] = Barrier(data["missing"], data["expected"])
        if before is None or before["params"].get("by") != data["params"].get("by"):
            self._tag(data["params"].get("by"))
        self.on_opened(data, storage)
        self._put("acq", subject, data)
        opened = [*storage["open_acqs"], subject]
        self._arrow("storage", storage["state"], "new_acq_storage")
        self._put("storage", storage["storage_id"], {**storage, "open_acqs": opened, "state": "acquiring"})
        if before is None:
            gone = self._before.get("type") == "acquisition.removed" and self._before["subject"] == subject
            state = self._before["data"]["state"] if gone else "absent"
            self._arrow("acquisition", state, "new_acq_storage", "remove" if gone else "")
        else:
            self._arrow("acquisition", before["state"], "new_acq_storage", "append")

    def _acq(self, event: Map, state: str = "open") -> Map:
        acq = self.acqs.get(event["subject"])
        must(acq is not None, "wrong", "of an acquisition that is not there", event)
        must(acq is None or state in (acq["state"], ""), "wrong", f"of an acquisition that is not {state}", event)
        return acq or {}

    def _acquisition_param_set(self, event: Map, subject: str, data: Map) -> None:
        acq = self._acq(event)
        self._put("acq", subject, {**acq, "params": {**acq["params"], data["param"]: data["value"]}})
        self._tag(data["value"], acq)
        self._arrow("acquisition", "open", "set_param_acq_storage")

    def _acquisition_producer_finished(self, event: Map, subject: str, data: Map) -> None:
        acq, barrier = self._acq(event), self.barriers[subject]
        must(
            (acq["uid"], acq["segment"]) == (data["uid"], data["segment"]), "wrong", "a mark on another one", event
        )
        must(
            barrier.counts(data["producer"]),
            "doubled",
            "a mark that has no place is counted",
            event,
            vars(barrier),
        )
        barrier.marks.append((data["producer"], data["ok"]))
        count = len(barrier.marks)
        must((data["finished"], data["expected"]) == (count, barrier.n), "wrong", f"{count} marks, not", event)
        mark = {"producer": data["producer"], "ok": data["ok"], "summary": data["summary"], "time": event["time"]}
        new = {"finished": count, "missing": barrier.missing, "failed": barrier.failed}
        self._put("acq", subject, {**acq, **new, "producers": [*acq["producers"], mark]})
        self._tag(data["summary"].get("by"), acq)
        if barrier.met:
            self._owed = ("acquisition.finished", subject)
        self._arrow("acquisition", "open", "mark_as_finished_storage", "last" if barrier.met else "")

    def _acquisition_finished(self, event: Map, subject: str, data: Map) -> None:
        acq, barrier = self._acq(event), self.barriers[subject]
        if not barrier.met:
            self._finished_unmet(event, data["reason"])
        else:
            last = (self._before["type"], self._before["subject"])
            must(last == ("acquisition.producer_finished", subject), "wrong", "not by its last mark", event)
        new = {
            "state": "finished",
            "verdict": barrier.verdict,
            "missing": barrier.missing,
            "failed": barrier.failed,
        }
        self._ended(acq, event, data, new)
        if data["convert_script"] is not None:
            self._owed = ("conversion.queued", subject)

    def _finished_unmet(self, event: Map, reason: str) -> None:
        """Somebody closed it, or it was waited for long enough."""
        if reason.startswith("finish_timeout_s"):
            self.patience.timed_out(event, self._storage(event))
            self._arrow("acquisition", "open", "FINISH_TIMEOUT")
        elif reason.startswith("producer_timeout_s"):
            self.patience.others_marked(event, self._storage(event), self.lost)
            self._arrow("acquisition", "open", "ALL_OTHERS_MARKED")
        else:
            must(reason.startswith("#"), "wrong", "finished, and neither met nor closed", event)
            self._arrow("acquisition", "open", "close_acq_storage")

    def _acquisition_aborted(self, event: Map, subject: str, data: Map) -> None:
        self._ended(self._acq(event), event, data, {"state": "aborted", "verdict": None})
        if data["reason"].startswith("#"):
            self._arrow("acquisition", "open", "abort_acq_storage")

    def _ended(self, acq: Map, event: Map, data: Map, new: Map) -> None:
        whole = {**acq, **new, "finished_at": event["time"], "reason": data["reason"]}
        must(data == whole, "wrong", "the end should tell", whole, data)
        self._tag(data["reason"], acq)
        self._put("acq", event["subject"], data)
        storage = self._storage(event)
        opened = [id for id in storage["open_acqs"] if id != event["subject"]]
        state = "acquiring" if opened else "configured"
        self._put("storage", storage["storage_id"], {**storage, "open_acqs": opened, "state": state})
        if not opened:
            self._arrow("storage", "acquiring", "LAST_ACQUISITION_ENDED")

    def _acquisition_sealed(self, event: Map, subject: str, data: Map) -> None:
        acq = self._acq(event, "")
        must(acq["state"] != "open" and not acq["sealed"], "doubled", "sealed twice, or while open", event, acq)
        must((acq["uid"], acq["segment"]) == (data["uid"], data["segment"]), "wrong", "another one's seal", event)
        self._put("acq", subject, {**acq, "sealed": True})
        self._arrow("acquisition", acq["state"], "SEALED")

    def _acquisition_removed(self, event: Map, subject: str, data: Map) -> None:
        acq = self._acq(event, "")
        must(acq == data and acq["state"] != "open", "wrong", "removed while open, or another", acq, data)
        self._put("acq", subject, None)

    def _acquisition_warning(self, event: Map, subject: str, data: Map) -> None:
        acq = self._warned(self._acq(event, ""), event)
        # What could not be opened again is sealed once more: nobody knows what its marker file says.
        self._put("acq", subject, {**acq, "sealed": acq["sealed"] and data["what"] != "reopening"})

    # Conversions

    def _conversion(self, event: Map, data: Map) -> Map:
        before = self.conversions.get(data["conversion_id"], {})
        state = {"started": "running"}.get(kind := event["type"].split(".")[1], kind)
        must(data["state"] == state, "wrong", "a conversion of another state", event)
        attempt = before.get("attempt", 0) + (kind == "started")
        must(data["attempt"] == attempt, "wrong", f"attempt {attempt} it was, not", event)
        same = ("uid", "segment", "script", "acq_id")
        must(not before or all(before[name] == data[name] for name in same), "wrong", "another one", before, event)
        self._put("conversion", data["conversion_id"], data)
        acq = self.acqs.get(data["acq_id"])
        newest = self._newest[data["uid"]] = max(self._newest.get(data["uid"], 0), data["segment"])
        if acq is not None and acq["uid"] == data["uid"] and data["segment"] == newest:
            self._put("acq", data["acq_id"], {**acq, "conversion": state})
        return before

    def _conversion_queued(self, event: Map, subject: str, data: Map) -> None:
        before = self._conversion(event, data)
        acq = self.acqs.get(subject)
        must(
            acq is not None and acq["state"] == "finished" and acq["uid"] == data["uid"], "wrong", "queued", event
        )
        if before:
            must(before["state"] != "queued", "doubled", "queued while queued", event)
            if before["state"] == "running":
                self._arrow("conversion", "running", "ENDED", "once more")
            else:
                self._arrow("conversion", before["state"], "retry_conversion")
                self._arrow("acquisition", "finished", "retry_conversion")
            return
        last = (self._before["type"], self._before["subject"])
        must(last == ("acquisition.finished", subject), "wrong", "queued, but not by the finish", event)
        must(acq is None or acq["convert_script"] == data["script"], "wrong", "another script", event)
        self._arrow("conversion", "absent", "ACQUISITION_FINISHED")

    def _conversion_started(self, event: Map, subject: str, data: Map) -> None:
        before, acq = self._conversion(event, data), self.acqs.get(subject)
        must(before.get("state") == "queued", "doubled", "started while it was not queued", before, event)
        fits = acq is not None and acq["uid"] == data["uid"] and acq["sealed"] and acq["state"] == "finished"
        must(fits, "wrong", "started though its acquisition is not sealed and finished", acq, event)
        running = sum(each["state"] == "running" for each in self.conversions.values())
        must(running <= self.max_parallel, "wrong", f"{running} run at once", event)
        self._arrow("conversion", "queued", "START")

    def _conversion_succeeded(self, event: Map, subject: str, data: Map) -> None:
        before = self._conversion(event, data)
        must(before.get("state") == "running", "doubled", "succeeded while it did not run", before, event)
        must(data["exit_code"] == 0, "wrong", "succeeded with another exit code", event)
        self._arrow("conversion", "running", "ENDED", "succeeded")

    def _conversion_failed(self, event: Map, subject: str, data: Map) -> None:
        before = self._conversion(event, data)
        must(before.get("state") == "running", "doubled", "failed while it did not run", before, event)
        self._arrow("conversion", "running", "ENDED")

    def _conversion_cancelled(self, event: Map, subject: str, data: Map) -> None:
        before = self._conversion(event, data)
        must(before.get("state") in ("queued", "running"), "doubled", "cancelled after its end", before, event)
        self._tag(data["reason"])
        if before["state"] == "running":
            self._arrow("conversion", "running", "ENDED", "cancelled")
        else:
            again = data["reason"] == "opened again"
            self._arrow("conversion", "queued", "OPENED_AGAIN" if again else "cancel_conversion")
