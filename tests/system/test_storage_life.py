"""Section 4.1: the life cycle of a storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.service import Service
from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]

ARGUMENTS = {
    "use_rundb": True,
    "brg_mp": "file:///",
    "brg_path": "",
    "brg_parent_id": "root",
    "elog_server": None,
    "elog_name": None,
    "stats_names": [],
    "producers_count": 1,
    "finish_timeout_s": None,
    "producer_timeout_s": None,
}


def test_a_storage_tells_its_arguments_and_where_it_stands(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    name = storage.arguments["brg_name"]
    made = storage.call("init_storage", brg_name=name)
    assert made.items() >= (ARGUMENTS | {"storage_id": storage.storage_id, "brg_name": name}).items()
    assert (made["state"], made["producers"], made["producers_unnamed"]) == ("ready", [], 0)
    assert (made["open_acqs"], made["warnings"]) == ([], [])
    assert made["created_at"]
    assert storage.call("get_storage") == made


def test_the_states_follow_one_another(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    assert storage.call("init_storage", **storage.arguments)["state"] == "ready"
    assert storage.call("config_storage")["state"] == "configured"
    storage.run()
    first, second = storage.acq("first"), storage.acq("second")
    there = storage.call("get_storage")
    assert (there["state"], set(there["open_acqs"])) == ("acquiring", {first["acq_id"], second["acq_id"]})
    storage.close(first)
    assert storage.call("get_storage")["open_acqs"] == [second["acq_id"]]
    assert storage.state() == "acquiring"
    storage.close(second)
    assert storage.state() == "configured"
    assert storage.call("inval_storage")["state"] == "ready"
    assert storage.call("deinit_storage") == {}
    assert storage.refusal("get_storage").code == "not_found"


def test_the_whole_life_is_told_in_order(wire: Wire, plan: Plan) -> None:
    before = wire.last_seq()
    storage = plan(wire).open()
    storage.call("inval_storage")
    storage.call("config_storage")
    storage.call("inval_storage")
    storage.call("deinit_storage")
    events = storage.events(before, "storage.")
    assert [event["type"] for event in events] == [
        "storage.initialized",
        "storage.configured",
        "storage.invalidated",
        "storage.configured",
        "storage.invalidated",
        "storage.deinitialized",
    ]
    assert {event["subject"] for event in events} == {storage.storage_id}
    assert {event["data"]["storage_id"] for event in events} == {storage.storage_id}


@pytest.mark.parametrize("given", ["a, b ,c", ["a", "b", "c"]])
def test_stats_names_are_a_list_or_one_text(wire: Wire, plan: Plan, given: Any) -> None:
    storage = plan(wire, stats_names=given)
    assert storage.call("init_storage", **storage.arguments)["stats_names"] == ["a", "b", "c"]


@pytest.mark.parametrize(("given", "meant"), [(0, False), (1, True), (False, False), (True, True)])
def test_use_rundb_is_a_bool_or_0_or_1(wire: Wire, plan: Plan, given: Any, meant: bool) -> None:
    storage = plan(wire, use_rundb=given)
    assert storage.call("init_storage", **storage.arguments)["use_rundb"] is meant


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_rundb", 2),
        ("use_rundb", "yes"),
        ("producers_count", -1),
        ("producers_count", 1.5),
        ("producers_count", "1"),
        ("stats_names", 5),
        ("stats_names", [5]),
        ("brg_mp", 5),
        ("brg_path", ["a"]),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_name(wire: Wire, field: str, value: Any) -> None:
    refusal = wire.refusal("init_storage", storage_id="never", brg_name="g", **{field: value})
    assert refusal.code == "bad_request"
    assert refusal.details["field"].startswith(field)
    assert wire.refusal("get_storage", storage_id="never").code == "not_found"


def test_init_again_with_the_same_arguments_changes_nothing(wire: Wire, plan: Plan) -> None:
    storage = plan(wire, stats_names="a,b", use_rundb=1)
    made = storage.call("init_storage", **storage.arguments)
    before = wire.last_seq()
    same = storage.arguments | {"stats_names": ["a", "b"], "use_rundb": True, "producers_count": 1}
    assert storage.call("init_storage", **same) == made
    configured = storage.call("config_storage")
    assert storage.call("init_storage", **same) == configured
    assert storage.types(before, "storage.") == ["storage.configured"]


@pytest.mark.parametrize(
    "other", [{"brg_path": "other"}, {"producers_count": 2}, {"use_rundb": False}, {"brg_name": "o"}]
)
def test_init_again_with_other_arguments_is_refused(wire: Wire, plan: Plan, other: dict[str, Any]) -> None:
    storage = plan(wire)
    made = storage.call("init_storage", **storage.arguments)
    refusal = storage.refusal("init_storage", **storage.arguments | other)
    assert (refusal.code, refusal.details["id"]) == ("already_exists", storage.storage_id)
    assert storage.call("get_storage") == made


def test_inval_waits_for_nobody_and_is_refused_while_acquisitions_are_open(storage: Storage) -> None:
    storage.run()
    acq = storage.acq()
    refusal = storage.refusal("inval_storage")
    assert refusal.code == "wrong_state"
    assert set(refusal.details["allowed"]) <= set(storage.wire.call("describe")["commands"])
    assert storage.wire.call("get_acq", acq_id=acq["acq_id"])["state"] == "open"
    assert storage.state() == "acquiring"


def test_inval_by_force_aborts_first(storage: Storage) -> None:
    storage.run()
    acqs = [storage.acq("one"), storage.acq("two")]
    before = storage.wire.last_seq()
    there = storage.call("inval_storage", force=True)
    assert (there["state"], there["open_acqs"]) == ("ready", [])
    assert [storage.wire.call("get_acq", acq_id=acq["acq_id"])["state"] for acq in acqs] == ["aborted"] * 2
    told = storage.types(before, "acquisition.aborted", "storage.")
    assert told == ["acquisition.aborted", "acquisition.aborted", "storage.invalidated"]


def test_inval_of_what_is_not_configured_changes_nothing(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    made = storage.call("init_storage", **storage.arguments)
    before = wire.last_seq()
    assert storage.call("inval_storage") == made
    assert storage.call("inval_storage", force=True) == made
    assert storage.types(before) == []


def test_deinit_needs_ready_or_force(storage: Storage) -> None:
    refusal = storage.refusal("deinit_storage")
    assert (refusal.code, refusal.details["state"]) == ("wrong_state", "configured")
    assert "inval_storage" in refusal.details["allowed"]
    storage.run()
    storage.acq()
    assert storage.refusal("deinit_storage").code == "wrong_state"
    assert storage.state() == "acquiring"


def test_deinit_by_force_tells_everything_in_order(storage: Storage) -> None:
    storage.run()
    acqs = {storage.acq("one")["acq_id"], storage.acq("two")["acq_id"]}
    before = storage.wire.last_seq()
    assert storage.call("deinit_storage", force=True) == {}
    told = storage.events(before, "acquisition.aborted", "storage.")
    expected = ["acquisition.aborted"] * 2 + ["storage.invalidated", "storage.deinitialized"]
    assert [event["type"] for event in told] == expected
    assert {event["subject"] for event in told[:2]} == acqs


def test_data_and_rundb_stay_after_deinit(service: Service, storage: Storage) -> None:
    run = storage.run(params={"x": 1})
    acq = storage.acq()
    storage.call("deinit_storage", force=True)
    wire = storage.wire
    assert wire.call("get_run", run_id=run["run_id"])["params"] == {"x": 1}
    assert wire.call("get_acq", acq_id=acq["acq_id"])["state"] == "aborted"
    assert wire.call("get_node", node_id=acq["acq_id"])["uid"] == acq["uid"]
    assert (service.mount / storage.arguments["brg_path"] / "run/acq/acquisition.json").exists()


def test_an_id_can_come_again_after_deinit(storage: Storage) -> None:
    storage.call("deinit_storage", force=True)
    made = storage.call("init_storage", **storage.arguments | {"producers_count": 7})
    assert (made["state"], made["producers_count"]) == ("ready", 7)


def test_unknown_storages_are_not_found_but_deinit_is_content(wire: Wire) -> None:
    unknown = {"storage_id": "never-made"}
    before = wire.last_seq()
    assert wire.call("deinit_storage", **unknown) == {}
    assert wire.call("deinit_storage", **unknown, force=True) == {}
    for cmd in ("get_storage", "config_storage", "inval_storage", "register_producer_storage"):
        refusal = wire.refusal(cmd, **unknown)
        assert (refusal.code, refusal.details["id"]) == ("not_found", "never-made")
    assert wire.refusal("unregister_producer_storage", **unknown, producer="a").code == "not_found"
    assert [event for event in wire.journal(before) if event["storage_id"] == "never-made"] == []


def test_producers_are_registered_once_each_and_unnamed_ones_are_counted(storage: Storage) -> None:
    before = storage.wire.last_seq()
    storage.call("register_producer_storage", producer="daq-1")
    again = storage.call("register_producer_storage", producer="daq-1")
    assert (again["producers"], again["producers_unnamed"]) == (["daq-1"], 0)
    storage.call("register_producer_storage")
    there = storage.call("register_producer_storage")
    assert (there["producers"], there["producers_unnamed"]) == (["daq-1"], 2)
    events = storage.events(before)
    assert [event["type"] for event in events] == ["storage.producer_registered"] * 3
    assert [event["data"]["producer"] for event in events] == ["daq-1", None, None]
    assert {event["subject"] for event in events} == {storage.storage_id}


def test_producers_are_unregistered_and_unknown_ones_change_nothing(storage: Storage) -> None:
    storage.call("register_producer_storage", producer="a")
    storage.call("register_producer_storage", producer="b")
    before = storage.wire.last_seq()
    assert storage.call("unregister_producer_storage", producer="a")["producers"] == ["b"]
    assert storage.call("unregister_producer_storage", producer="a")["producers"] == ["b"]
    assert storage.call("unregister_producer_storage", producer="never")["producers"] == ["b"]
    (event,) = storage.events(before)
    assert (event["type"], event["data"]["producer"]) == ("storage.producer_unregistered", "a")
    refusal = storage.refusal("unregister_producer_storage")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "producer")


def test_a_heartbeat_of_a_producer_changes_nothing(storage: Storage) -> None:
    storage.call("register_producer_storage", producer="a")
    before = storage.wire.last_seq()
    assert storage.call("heartbeat_producer_storage", producer="a") == {}
    assert storage.refusal("heartbeat_producer_storage").details["field"] == "producer"
    assert (
        storage.wire.refusal("heartbeat_producer_storage", storage_id="nobody", producer="a").code == "not_found"
    )
    assert storage.types(before) == []


def test_list_storages_is_a_snapshot_to_put_events_on(wire: Wire, plan: Plan) -> None:
    before = wire.last_seq()
    first, second = plan(wire).open(), plan(wire)
    second.call("init_storage", **second.arguments)
    snapshot = wire.call("list_storages")
    assert set(snapshot) == {"storages", "last_seq", "journal_id"}
    there = {one["storage_id"]: one for one in snapshot["storages"]}
    assert there[first.storage_id] == first.call("get_storage")
    assert there[second.storage_id] == second.call("get_storage")
    assert snapshot["last_seq"] >= second.events(before)[-1]["seq"]
    assert snapshot["journal_id"] == wire.call("describe")["journal_id"]
    second.call("config_storage")
    assert "storage.configured" in second.types(snapshot["last_seq"])
