"""A start says in one line of its log what it took up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from storage_service.failpoints import VARIABLE
from tests.support.polling import eventually
from tests.support.service import HELD, Service
from tests.support.wire import Storage

Make = Callable[..., Service]


def recovered(service: Service) -> list[dict[str, Any]]:
    """What each start has logged of it, without the ids and counts of the journal."""
    found = [json.loads(line) for line in service.log_text().splitlines() if '"recovered"' in line]
    for line in found:
        assert line.pop("event") == "recovered"
        assert line.pop("journal_id")
        for name in ("level", "logger", "timestamp", "last_seq"):
            line.pop(name)
    return found


NOTHING = {
    "storages": 0,
    "acquisitions_open": 0,
    "acquisitions_to_seal": 0,
    "conversions_queued": 0,
    "conversions_interrupted": 0,
    "manifests_to_write": 0,
    "entries_to_write": 0,
    "processes_ended": 0,
    "intents": {},
}


def test_the_first_start_has_nothing_to_take_up(own_service: Make) -> None:
    assert recovered(own_service()) == [NOTHING]


def test_what_was_open_is_counted_by_kind(own_service: Make) -> None:
    service = own_service({"conversion": {"max_parallel": 1}}, start=False)
    service.script("held.sh", HELD)
    service.environment[VARIABLE] = "folders.seal:3"
    service.start()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        storage.run()
        storage.acq("open")
        runs, waits = (storage.acq(name, convert_script="held.sh") for name in ("runs", "waits"))
        for acq in (runs, waits):
            storage.close(acq)
            eventually(lambda acq=acq: wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
        eventually(lambda: not wire.call("get_status")["queues"]["manifests"])
        eventually(lambda: wire.call("get_acq", acq_id=runs["acq_id"])["conversion"] == "running")
        wire.post("close_acq_storage", storage_id="s", acq_id=storage.acq("unsealed")["acq_id"])
        eventually(lambda: not service.running)
    service.environment.clear()
    service.start()
    told = recovered(service)[1]
    # What a runner does not end by itself when the service is gone: mostly nothing is left.
    assert told.pop("processes_ended") >= 0
    assert told == {
        "storages": 1,
        "acquisitions_open": 1,
        "acquisitions_to_seal": 1,
        "conversions_queued": 1,
        "conversions_interrupted": 1,
        "manifests_to_write": 0,
        "entries_to_write": 0,
        "intents": {},
    }


def test_what_was_at_a_door_is_counted_by_kind(own_service: Make) -> None:
    service = own_service(start=False)
    service.environment[VARIABLE] = "folders.draft_made:2"
    service.start()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        storage.run()
        wire.post("new_acq_storage", storage_id="s", run_name="run", acq_name="acq")
        eventually(lambda: not service.running)
    service.environment.clear()
    service.start()
    assert recovered(service)[1] == NOTHING | {"storages": 1, "intents": {"acq": 1}}
    with service.connect() as wire:
        eventually(lambda: wire.call("list_acqs", state="open")["acqs"])
