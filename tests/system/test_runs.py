"""Section 4.2: runs."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.service import Service
from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]

KEYS = {"run_id", "uid", "run_name", "storage_id", "location", "params", "created_at"}


def test_a_run_tells_what_it_is(wire: Wire, storage: Storage) -> None:
    run = storage.run("first", params={"energy": 5.0, "particle": "e-"})
    assert set(run) == KEYS
    assert (run["run_name"], run["storage_id"]) == ("first", storage.storage_id)
    assert run["params"] == {"energy": 5.0, "particle": "e-"}
    assert wire.call("get_run", run_id=run["run_id"]) == run


def test_a_run_needs_a_configured_storage(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    storage.call("init_storage", **storage.arguments)
    refusal = storage.refusal("new_run_storage", run_name="run")
    assert (refusal.code, refusal.details["state"]) == ("wrong_state", "ready")
    assert refusal.details["id"] == storage.storage_id
    assert "config_storage" in refusal.details["allowed"]
    assert wire.refusal("new_run_storage", storage_id="nobody", run_name="run").code == "not_found"


def test_a_run_can_be_made_while_acquiring(storage: Storage) -> None:
    storage.run("one")
    storage.acq("acq", "one")
    assert storage.run("two")["run_name"] == "two"


def test_a_new_run_is_told_once_with_its_parameters(storage: Storage) -> None:
    before = storage.wire.last_seq()
    run = storage.run(params={"a": 1, "b": "x"})
    (event,) = storage.events(before)
    assert (event["type"], event["subject"]) == ("run.created", run["run_id"])
    assert event["data"] == run


def test_append_reuses_what_is_there(storage: Storage) -> None:
    first = storage.run(params={"a": 1, "b": 2})
    before = storage.wire.last_seq()
    assert storage.run() == first
    assert storage.run(mode="append") == first
    assert storage.types(before) == []
    again = storage.run(params={"b": 3, "c": 4})
    assert again["uid"] == first["uid"]
    assert again["params"] == {"a": 1, "b": 3, "c": 4}
    told = {(event["type"], event["data"]["param"], event["data"]["value"]) for event in storage.events(before)}
    assert told == {("run.param_set", "b", 3), ("run.param_set", "c", 4)}


def test_another_mode_is_a_bad_request(storage: Storage) -> None:
    refusal = storage.refusal("new_run_storage", run_name="run", mode="replace")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "mode")


def test_remove_sets_files_and_rundb_aside(service: Service, wire: Wire, storage: Storage) -> None:
    run = storage.run(params={"old": True})
    acqs = [storage.acq("one"), storage.acq("sub/two")]
    folder = service.mount / storage.arguments["brg_path"] / "run"
    (folder / "one/events.dat").write_text(run["uid"])
    for acq in acqs:
        storage.close(acq)
    before = wire.last_seq()
    new = storage.run(mode="remove", params={"new": 1})

    assert new["uid"] != run["uid"]
    assert new["run_id"] == run["run_id"]
    assert new["params"] == {"new": 1}
    assert folder.is_dir()
    assert not (folder / "one").exists()
    assert not (folder / "sub").exists()
    assert (folder / "run.json").exists()
    trash = service.mount / ".storage-trash"
    assert run["uid"] in [file.read_text() for file in trash.rglob("events.dat")]

    for acq in acqs:
        assert wire.refusal("get_acq", acq_id=acq["acq_id"]).code == "not_found"
        assert wire.refusal("get_node", node_id=acq["acq_id"]).code == "not_found"
    assert wire.call("get_node", node_id=new["run_id"])["uid"] == new["uid"]
    assert wire.call("list_acqs", run_id=new["run_id"])["acqs"] == []

    told = storage.events(before, "run.", "acquisition.removed")
    assert [event["type"] for event in told] == ["acquisition.removed"] * 2 + ["run.removed", "run.created"]
    assert {event["data"]["uid"] for event in told[:2]} == {acq["uid"] for acq in acqs}
    assert [event["data"]["uid"] for event in told[2:]] == [run["uid"], new["uid"]]


def test_remove_of_what_is_not_there_makes_it(storage: Storage) -> None:
    before = storage.wire.last_seq()
    assert storage.run(mode="remove")["run_name"] == "run"
    assert storage.types(before) == ["run.created"]


def test_remove_is_refused_while_an_acquisition_is_open(service: Service, wire: Wire, storage: Storage) -> None:
    run = storage.run(params={"a": 1})
    acq = storage.acq()
    before = wire.last_seq()
    assert storage.refusal("new_run_storage", run_name="run", mode="remove").code == "wrong_state"
    assert wire.call("get_run", run_id=run["run_id"]) == run
    assert wire.call("get_acq", acq_id=acq["acq_id"])["state"] == "open"
    assert (service.mount / storage.arguments["brg_path"] / "run/acq").is_dir()
    assert storage.types(before) == []


def test_an_acquisition_of_another_run_does_not_hinder_a_remove(storage: Storage) -> None:
    old = storage.run("one")
    storage.run("two")
    storage.acq("acq", "two")
    assert storage.run("one", mode="remove")["uid"] != old["uid"]


def test_numbers_are_given_from_one(storage: Storage) -> None:
    assert [storage.run("run_{n}")["run_name"] for _ in range(3)] == ["run_1", "run_2", "run_3"]
    assert [storage.run("{n:06}")["run_name"] for _ in range(2)] == ["000001", "000002"]
    assert storage.run("a{n}b")["run_name"] == "a1b"
    assert storage.run("a{n:06}c")["run_name"] == "a000001c"
    assert storage.run("a{n}b")["run_name"] == "a2b"


def test_the_width_is_not_part_of_the_text_around(storage: Storage) -> None:
    assert storage.run("r{n}")["run_name"] == "r1"
    assert storage.run("r{n:06}")["run_name"] == "r000002"
    assert storage.run("r{n}")["run_name"] == "r3"


def test_numbers_whose_run_or_folder_exists_are_skipped(service: Service, storage: Storage) -> None:
    storage.run("r1")
    assert storage.run("r{n}")["run_name"] == "r2"
    (service.mount / storage.arguments["brg_path"] / "r3").mkdir()
    assert storage.run("r{n}")["run_name"] == "r4"
    assert storage.run("r{n}")["run_name"] == "r5"


def test_numbers_belong_to_the_group_and_not_to_the_storage(wire: Wire, plan: Plan) -> None:
    first = plan(wire).open()
    second = plan(wire, **first.arguments).open()
    third = plan(wire).open()
    assert first.run("r{n}")["run_name"] == "r1"
    assert second.run("r{n}")["run_name"] == "r2"
    assert third.run("r{n}")["run_name"] == "r1"
    first.call("deinit_storage", force=True)
    again = plan(wire, **first.arguments).open()
    assert again.run("r{n}")["run_name"] == "r3"


def test_two_clients_never_get_the_same_number(wire: Wire, other: Wire, plan: Plan) -> None:
    first = plan(wire).open()
    second = plan(other, **first.arguments).open()
    asked = []
    for _ in range(15):
        for storage in (first, second):
            where = {"storage_id": storage.storage_id, "run_name": "r{n}"}
            asked.append((storage.wire, storage.wire.post("new_run_storage", **where)))
    names = [client.collect(number)["run_name"] for client, number in asked]
    assert sorted(names, key=lambda name: int(name[1:])) == [f"r{n}" for n in range(1, 31)]


def test_a_parameter_is_set_and_told_each_time(wire: Wire, storage: Storage) -> None:
    run = storage.run()
    before = wire.last_seq()
    for value in ("a", "a", 2):
        assert storage.call("set_param_run_storage", run_name="run", param="x", value=value) == {"stored": True}
    assert wire.call("get_run", run_id=run["run_id"])["params"] == {"x": 2}
    events = storage.events(before)
    assert [event["type"] for event in events] == ["run.param_set"] * 3
    assert [event["data"]["value"] for event in events] == ["a", "a", 2]
    assert {(event["subject"], event["data"]["param"]) for event in events} == {(run["run_id"], "x")}


def test_a_parameter_of_an_unknown_run_is_not_found(storage: Storage) -> None:
    refusal = storage.refusal("set_param_run_storage", run_name="nobody", param="x", value=1)
    assert refusal.code == "not_found"
    assert storage.wire.refusal("get_run", run_id=f"{storage.group}/nobody").code == "not_found"
    assert storage.wire.refusal("get_run", run_id=storage.group).code == "not_found"


def test_a_value_must_be_given(storage: Storage) -> None:
    storage.run()
    refusal = storage.refusal("set_param_run_storage", run_name="run", param="x")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "value")


def test_without_rundb_nothing_of_a_run_is_in_it(wire: Wire, plan: Plan) -> None:
    storage = plan(wire, use_rundb=False).open()
    run = storage.run()
    acq = storage.acq()
    assert storage.call("set_param_run_storage", run_name="run", param="x", value=1) == {"stored": False}
    where = {"acq_id": acq["acq_id"], "param": "x", "value": 1}
    assert storage.call("set_param_acq_storage", **where) == {"stored": False}
    assert wire.call("get_run", run_id=run["run_id"])["uid"] == run["uid"]
    assert wire.call("get_acq", acq_id=acq["acq_id"])["uid"] == acq["uid"]
    for node_id in (storage.group, run["run_id"], acq["acq_id"]):
        assert wire.refusal("get_node", node_id=node_id).code == "not_found"
