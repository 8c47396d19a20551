"""Section 4.6: what the service tells about itself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.service import Service
from tests.support.wire import TIME, Storage, Wire

NEEDED = object()

OF_STORAGE: dict[str, Any] = {"storage_id": NEEDED}
OF_ACQ = OF_STORAGE | {"acq_id": NEEDED, "uid": None, "segment": None}
PAGED: dict[str, Any] = {"limit": 100, "cursor": None}

# The page's tables once more: name, whether it changes something, arguments with their defaults.
COMMANDS: dict[str, tuple[bool, dict[str, Any]]] = {
    "init_storage": (
        True,
        OF_STORAGE
        | {"brg_name": NEEDED, "use_rundb": True, "brg_mp": "file:///", "brg_path": "", "brg_parent_id": "root"}
        | {"elog_server": None, "elog_name": None, "stats_names": [], "producers_count": 1}
        | {"finish_timeout_s": None, "producer_timeout_s": None},
    ),
    "config_storage": (True, OF_STORAGE),
    "inval_storage": (True, OF_STORAGE | {"force": False}),
    "deinit_storage": (True, OF_STORAGE | {"force": False}),
    "register_producer_storage": (True, OF_STORAGE | {"producer": None}),
    "unregister_producer_storage": (True, OF_STORAGE | {"producer": NEEDED}),
    "heartbeat_producer_storage": (False, OF_STORAGE | {"producer": NEEDED}),
    "get_storage": (False, OF_STORAGE),
    "list_storages": (False, {}),
    "new_run_storage": (True, OF_STORAGE | {"run_name": NEEDED, "mode": "append", "params": {}}),
    "set_param_run_storage": (True, OF_STORAGE | {"run_name": NEEDED, "param": NEEDED, "value": NEEDED}),
    "new_acq_storage": (
        True,
        OF_STORAGE
        | {"acq_name": NEEDED, "run_name": NEEDED, "mode": "append", "convert_script": None, "params": {}}
        | {"producers_count": None, "producers": None},
    ),
    "set_param_acq_storage": (True, OF_ACQ | {"param": NEEDED, "value": NEEDED}),
    "mark_as_finished_storage": (True, OF_ACQ | {"acq_id": None, "producer": None, "ok": True, "summary": {}}),
    "close_acq_storage": (True, OF_ACQ | {"reason": ""}),
    "abort_acq_storage": (True, OF_ACQ | {"reason": ""}),
    "get_run": (False, {"run_id": NEEDED}),
    "get_acq": (False, {"acq_id": NEEDED}),
    "list_acqs": (False, PAGED | {"storage_id": None, "run_id": None, "state": None}),
    "new_group": (True, {"name": NEEDED, "parent_id": "root", "mp": "file:///", "path": ""}),
    "get_node": (False, {"node_id": NEEDED}),
    "list_nodes": (False, PAGED | {"parent_id": "root"}),
    "find_nodes": (
        False,
        PAGED
        | {
            "under": "root",
            "kind": None,
            "where": {},
            "state": None,
            "verdict": None,
            "since": None,
            "until": None,
        },
    ),
    "list_conversions": (False, PAGED | {"acq_id": None, "state": None}),
    "get_conversion": (False, {"conversion_id": NEEDED}),
    "retry_conversion": (True, {"conversion_id": NEEDED}),
    "cancel_conversion": (True, {"conversion_id": NEEDED, "reason": ""}),
    "ping": (False, {}),
    "describe": (False, {}),
    "get_status": (False, {}),
    "replay_events": (False, {"after_seq": 0, "topics": [], "subject": None, "limit": 1000}),
}


def test_ping_tells_the_time(wire: Wire) -> None:
    result = wire.call("ping")
    assert set(result) == {"time"}
    assert TIME.fullmatch(result["time"])
    there = datetime.fromisoformat(result["time"])
    assert abs(datetime.now(UTC) - there) < timedelta(minutes=1)


def test_describe_tells_who_answers(service: Service, wire: Wire) -> None:
    described = wire.call("describe")
    keys = {"service", "version", "protocol", "service_id", "journal_id", "events_endpoint", "limits", "commands"}
    assert set(described) == keys
    assert described["protocol"] == 1
    assert described["events_endpoint"] == service.events
    assert uuid.UUID(described["journal_id"])
    assert described["service_id"]
    assert described["journal_id"] == wire.call("get_status")["journal"]["journal_id"]


@pytest.mark.parametrize("name", COMMANDS)
def test_describe_tells_every_command_with_its_arguments(wire: Wire, name: str) -> None:
    mutating, arguments = COMMANDS[name]
    described = wire.call("describe")["commands"][name]
    assert described["mutating"] is mutating
    assert described["doc"].strip()
    assert set(described["args"]) == set(arguments)
    for argument, default in arguments.items():
        told = described["args"][argument]
        assert isinstance(told["type"], str)
        assert told["required"] is (default is NEEDED)
        if default is not NEEDED:
            assert told["default"] == default
            assert type(told["default"]) is type(default)


@pytest.mark.parametrize(
    "name", [name for name, (_, arguments) in COMMANDS.items() if NEEDED in arguments.values()]
)
def test_what_is_required_is_asked_for(wire: Wire, name: str) -> None:
    refusal = wire.refusal(name)
    assert refusal.code == "bad_request"
    assert COMMANDS[name][1][refusal.details["field"]] is NEEDED


def test_the_status_tells_how_it_is(wire: Wire, storage: Storage) -> None:
    before = wire.last_seq()
    storage.run()
    status = wire.call("get_status")
    assert {"started_at", "journal", "mounts", "conversions", "queues", "storages", "warnings"} <= set(status)
    assert set(status["journal"]) == {"journal_id", "first_seq", "last_seq"}
    assert status["journal"]["first_seq"] == 1
    assert status["journal"]["last_seq"] >= storage.events(before)[-1]["seq"]
    assert status["storages"] == len(wire.call("list_storages")["storages"])
    mounts = {mount["mp"]: mount for mount in status["mounts"]}
    assert set(mounts) == {"file:///", "file:///spare"}
    assert all(set(mount) == {"mp", "state", "free_bytes", "reason", "trash"} for mount in status["mounts"])
    assert mounts["file:///"]["free_bytes"] > 0
    assert all(isinstance(count, int) for count in status["conversions"].values())


def test_the_status_does_not_change_by_being_asked(wire: Wire) -> None:
    assert wire.call("get_status")["started_at"] == wire.call("get_status")["started_at"]
    assert wire.last_seq() == wire.last_seq()
