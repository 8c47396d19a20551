"""What the journal tells, followed event by event from their public bodies alone: what is true if they are, and
whether they can be.

It knows the protocol's text (4.1 to 4.5, 6) and nothing of the rules.
"""

from __future__ import annotations

from typing import Any

from .broken import Broken, must
from .measured import Measured
from .records import Map

FORCED = ("storage invalidated", "storage deinitialized")


class Journal(Measured):
    def add(self, event: Map) -> None:
        """The next event."""
        seq, kind, subject = event["seq"], event["type"], event["subject"]
        topic = f"{kind}/{event['storage_id']}/" if event["storage_id"] is not None else f"{kind}/"
        must(seq == self.last_seq + 1, "wrong", f"seq {seq} after {self.last_seq}")
        must(event["prev_seq"] == self._tails.get(topic, 0), "wrong", "prev_seq is not the one before", event)
        owed, self._owed = self._owed, None
        must(owed in (None, (kind, subject)), "wrong", f"{owed} had to come next, not", event)
        self.last_seq = self._tails[topic] = seq
        follow = getattr(self, "_" + kind.replace(".", "_"), None)
        if follow is None:
            raise Broken("wrong", f"the simulation does not know what {kind} tells: {event}")
        follow(event, subject, event["data"])
        self._before = event

    def end_of_transaction(self) -> None:
        must(self._owed is None, "wrong", f"{self._owed} had to be in the same transaction")

    # Storages and groups

    def _storage_initialized(self, event: Map, subject: str, data: Map) -> None:
        must(subject not in self.storages, "doubled", "a storage that is there already", event)
        fresh = {"state": "ready", "producers": [], "producers_unnamed": 0, "open_acqs": [], "warnings": []}
        must(data == {**data, **fresh}, "wrong", "a storage begins fresh", event)
        super()._storage_initialized(event, subject, data)
        self.lives[subject] = event["seq"]
        self._put("storage", subject, data)
        self._arrow("storage", "absent", "init_storage")

    def _storage_goes(self, event: Map, data: Map, **new: Any) -> Map:
        """The storage changes in this, and in nothing else."""
        storage = self._storage(event)
        must(data == {**storage, **new}, "wrong", "the storage should be", {**storage, **new}, data)
        return storage

    def _storage_configured(self, event: Map, subject: str, data: Map) -> None:
        before = self._storage_goes(event, data, state="configured")
        must(before["state"] == "ready", "wrong", "configured from", before["state"])
        group = self.groups.get(f"{data['brg_parent_id']}/{data['brg_name']}")
        if data["use_rundb"]:
            must(group is not None, "wrong", "configured without its base run group", event)
        self._put("storage", subject, data)
        self._arrow("storage", "ready", "config_storage")

    def _storage_invalidated(self, event: Map, subject: str, data: Map) -> None:
        before = self._storage_goes(event, data, state="ready")
        must(before["state"] == "configured", "wrong", "invalidated from", before["state"])
        self._put("storage", subject, data)
        aborted = self._before.get("type") == "acquisition.aborted" and self._before["storage_id"] == subject
        self._was = "acquiring" if aborted and self._before["data"]["reason"] in FORCED else "configured"
        self._arrow("storage", self._was, "inval_storage", "forced" if self._was == "acquiring" else "")

    def _storage_deinitialized(self, event: Map, subject: str, data: Map) -> None:
        before = self._storage_goes(event, data)
        must(before["state"] == "ready", "wrong", "deinitialized from", before["state"])
        self._put("storage", subject, None)
        self.lost = {each for each in self.lost if each[0] != subject}
        if self._before.get("type") != "storage.invalidated":
            self._arrow("storage", "ready", "deinit_storage")
            return
        # That event was a part of this one's command.
        self.arrows["storage", self._was, "inval_storage", "forced" if self._was == "acquiring" else ""] -= 1
        self._arrow("storage", self._was, "deinit_storage", "forced")

    def _storage_producer_registered(self, event: Map, subject: str, data: Map) -> None:
        storage, name = self._storage(event), data["producer"]
        must(name not in storage["producers"], "doubled", "a producer is registered twice", event)
        new = {"producers": [*storage["producers"], name]}
        if name is None:
            new = {"producers_unnamed": storage["producers_unnamed"] + 1}
        self._put("storage", subject, {**storage, **new})
        self._arrow("storage", storage["state"], "register_producer_storage")

    def _storage_producer_unregistered(self, event: Map, subject: str, data: Map) -> None:
        storage = self._storage(event)
        must(data["producer"] in storage["producers"], "wrong", "of a producer that was not registered", event)
        left = [name for name in storage["producers"] if name != data["producer"]]
        self._put("storage", subject, {**storage, "producers": left})
        self._arrow("storage", storage["state"], "unregister_producer_storage")

    def _storage_producer_lost(self, event: Map, subject: str, data: Map) -> None:
        storage, name = self._storage(event), data["producer"]
        must((subject, name) not in self.lost, "doubled", "a producer is lost twice", event)
        opened = [acq for acq in self.acqs.values() if acq["storage_id"] == subject and acq["state"] == "open"]
        waiting = [
            {**acq, "at": self.opened_at[acq["uid"], acq["segment"]]} for acq in opened if name in acq["missing"]
        ]
        self.patience.lost(event, storage, waiting)
        self.lost.add((subject, name))
        message = f"Nothing was heard of the producer {name} for {storage['producer_timeout_s']:g} s."
        warning = {**event, "data": {"what": "producer_lost", "message": message}}
        self._put("storage", subject, self._warned(storage, warning))
        self._arrow("storage", storage["state"], "PRODUCER_SILENT")

    def _storage_producer_back(self, event: Map, subject: str, data: Map) -> None:
        must((subject, data["producer"]) in self.lost, "wrong", "it was not lost", event)
        self.lost.discard((subject, data["producer"]))
        self._arrow("storage", self._storage(event)["state"], "PRODUCER_HEARD")

    def _storage_warning(self, event: Map, subject: str, data: Map) -> None:
        self._put("storage", subject, self._warned(self._storage(event), event))

    def _group_created(self, event: Map, subject: str, data: Map) -> None:
        must(subject not in self.groups, "doubled", "a group that is there already", event)
        must(subject == f"{data['parent_id']}/{data['name']}", "wrong", "a group of another id", event)
        must(data["parent_id"] == "root" or data["parent_id"] in self.groups, "wrong", "no parent", event)
        self._put("group", subject, data)

    def _node_annotated(self, event: Map, subject: str, data: Map) -> None:
        node = self.acqs.get(subject) or self.runs.get(subject)
        must(node is not None, "wrong", "a note on what is not there", event)
        told = (data["node_id"], data["uid"], event["storage_id"])
        must(
            node and told == (subject, node["uid"], node["storage_id"]), "wrong", "a note on another", node, event
        )
        self._tag(data["value"])

    # Runs

    def _run_created(self, event: Map, subject: str, data: Map) -> None:
        storage = self._storage(event)
        must(subject not in self.runs, "doubled", "a run that is there already", event)
        self._fresh_uid(data["uid"], event)
        must(storage["state"] != "ready", "wrong", "a run of a storage that is only ready", event)
        must(data["storage_id"] == storage["storage_id"], "wrong", "of another storage", event)
        self.owners[subject] = (data["storage_id"], self.lives[data["storage_id"]])
        self._put("run", subject, data)
        self._tag(data["params"].get("by"))
        self._arrow("storage", storage["state"], "new_run_storage")

    def _run_taken_over(self, event: Map, subject: str, data: Map) -> None:
        run, storage = self.runs[subject], self._storage(event)
        must(data == {**run, "storage_id": storage["storage_id"]}, "wrong", "taken over, and changed", run, data)
        owner, life = self.owners[subject]
        must(
            self.lives.get(owner) != life or owner not in self.storages, "wrong", "taken from a living one", event
        )
        self.owners[subject] = (storage["storage_id"], self.lives[storage["storage_id"]])
        self._put("run", subject, data)
        for id, acq in list(self.acqs.items()):
            if acq["run_id"] == subject:
                self._put("acq", id, {**acq, "storage_id": storage["storage_id"]})

    def _run_param_set(self, event: Map, subject: str, data: Map) -> None:
        run, storage = self.runs[subject], self._storage(event)
        must(self._owns(subject, event["storage_id"]), "wrong", "a parameter of another's run", event)
        self._put("run", subject, {**run, "params": {**run["params"], data["param"]: data["value"]}})
        self._tag(data["value"])
        self._arrow("storage", storage["state"], "set_param_run_storage")

    def _run_removed(self, event: Map, subject: str, data: Map) -> None:
        must(
            self.runs.get(subject) == data,
            "wrong",
            "a run that is not so is removed",
            self.runs.get(subject),
            data,
        )
        left = [id for id, acq in self.acqs.items() if acq["run_id"] == subject]
        must(not left, "wrong", "acquisitions stay behind a removed run", left)
        self._put("run", subject, None)
