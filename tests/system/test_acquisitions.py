"""Section 4.2: acquisitions, their segments and how they are found again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]

KEYS = {
    *("acq_id", "uid", "acq_name", "run_id", "run_name", "storage_id", "segment", "state", "sealed", "verdict"),
    *("expected", "finished", "producers", "missing", "failed", "convert_script", "conversion", "location"),
    *("params", "started_at", "finished_at", "reason", "warnings"),
}


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """A configured storage with a run `run`."""
    storage.run()
    return storage


def get(storage: Storage, acq: dict[str, Any]) -> Any:
    return storage.wire.call("get_acq", acq_id=acq["acq_id"])


def test_an_acquisition_tells_what_it_is(storage: Storage) -> None:
    acq = storage.acq(params={"threshold": 200})
    assert set(acq) == KEYS
    assert (acq["state"], acq["segment"], acq["sealed"], acq["verdict"]) == ("open", 1, False, None)
    assert (acq["expected"], acq["finished"], acq["producers"], acq["failed"]) == (1, 0, [], [])
    assert (acq["convert_script"], acq["conversion"], acq["finished_at"]) == (None, None, None)
    assert (acq["storage_id"], acq["params"]) == (storage.storage_id, {"threshold": 200})
    assert get(storage, acq) == acq


def test_a_start_is_told_once_with_its_parameters(storage: Storage) -> None:
    before = storage.wire.last_seq()
    acq = storage.acq(params={"threshold": 200})
    (event,) = storage.events(before)
    assert (event["type"], event["subject"]) == ("acquisition.started", acq["acq_id"])
    assert event["data"] == acq


def test_an_acquisition_needs_a_run_and_a_configured_storage(wire: Wire, storage: Storage, plan: Plan) -> None:
    assert storage.refusal("new_acq_storage", acq_name="a", run_name="nobody").code == "not_found"
    ready = plan(wire)
    ready.call("init_storage", **ready.arguments)
    assert ready.refusal("new_acq_storage", acq_name="a", run_name="run").code == "wrong_state"
    assert wire.refusal("get_acq", acq_id=f"{storage.group}/run/nobody").code == "not_found"
    assert wire.refusal("get_acq", acq_id=f"{storage.group}/run").code == "not_found"


def test_append_onto_an_open_one_is_the_same_with_its_progress(storage: Storage) -> None:
    acq = storage.acq(producers=["a", "b"])
    storage.mark(acq, "a")
    before = storage.wire.last_seq()
    again = storage.acq()
    assert again == get(storage, acq)
    assert (again["uid"], again["segment"], again["finished"]) == (acq["uid"], 1, 1)
    assert storage.acq(producers=["a", "b"], mode="append") == again
    assert storage.types(before) == []


@pytest.mark.parametrize("other", [{"convert_script": "b.sh"}, {"producers_count": 3}, {"producers": ["y"]}])
def test_append_onto_an_open_one_with_other_values_is_refused(
    service: Service, storage: Storage, other: dict[str, Any]
) -> None:
    for name in ("a.sh", "b.sh"):
        service.script(name, "#!/bin/sh\n")
    acq = storage.acq(convert_script="a.sh", producers_count=2, producers=["x"])
    assert storage.refusal("new_acq_storage", acq_name="acq", run_name="run", **other).code == "already_exists"
    assert get(storage, acq) == acq


@pytest.mark.parametrize("end", ["close_acq_storage", "abort_acq_storage"])
def test_append_onto_an_ended_one_is_its_next_segment(service: Service, storage: Storage, end: str) -> None:
    acq = storage.acq(params={"a": 1, "b": 2}, producers=["x", "y"])
    storage.mark(acq, "x", ok=False)
    (Path(acq["location"]["local_path"]) / "events.dat").write_text("kept")
    ended = storage.call(end, acq_id=acq["acq_id"], reason="lunch")
    before = storage.wire.last_seq()
    again = storage.acq(params={"b": 3}, producers=["z"])

    assert (again["uid"], again["segment"], again["state"]) == (acq["uid"], 2, "open")
    assert again["params"] == {"a": 1, "b": 3}
    assert (again["expected"], again["finished"], again["producers"]) == (1, 0, [])
    assert (again["sealed"], again["verdict"], again["finished_at"]) == (False, None, None)
    assert again["failed"] == []
    assert not again["reason"]
    assert again["started_at"] > ended["finished_at"] if ended["finished_at"] else True
    assert again["started_at"] > acq["started_at"]
    assert (Path(acq["location"]["local_path"]) / "events.dat").read_text() == "kept"
    (event,) = storage.events(before, "acquisition.started", "acquisition.param_set")
    assert (event["type"], event["data"]["segment"]) == ("acquisition.started", 2)

    done = storage.mark(again, "z")
    assert (done["state"], done["segment"]) == ("finished", 2)
    assert get(storage, again)["verdict"] == "complete"
    assert storage.acq()["segment"] == 3


def test_a_next_segment_takes_its_own_conversion_script(service: Service, storage: Storage) -> None:
    service.script("quick.sh", "#!/bin/sh\n")
    acq = storage.acq(convert_script="quick.sh")
    assert acq["convert_script"] == "quick.sh"
    storage.close(acq)
    assert storage.acq()["convert_script"] is None


def test_a_next_segment_makes_the_storage_acquiring_again(storage: Storage) -> None:
    acq = storage.acq()
    storage.mark(acq)
    assert storage.state() == "configured"
    storage.acq()
    there = storage.call("get_storage")
    assert (there["state"], there["open_acqs"]) == ("acquiring", [acq["acq_id"]])


def test_remove_sets_the_old_one_aside(service: Service, storage: Storage) -> None:
    acq = storage.acq(params={"old": 1})
    neighbour = storage.acq("neighbour")
    folder = Path(acq["location"]["local_path"])
    (folder / "events.dat").write_text(acq["uid"])
    storage.close(acq)
    before = storage.wire.last_seq()
    new = storage.acq(mode="remove")
    assert new["uid"] != acq["uid"]
    assert (new["segment"], new["state"], new["params"]) == (1, "open", {})
    assert not (folder / "events.dat").exists()
    assert (folder / "acquisition.json").exists()
    trash = service.mount / ".storage-trash"
    assert acq["uid"] in [file.read_text() for file in trash.rglob("events.dat")]
    told = storage.events(before, "acquisition.removed", "acquisition.started")
    assert [(event["type"], event["data"]["uid"]) for event in told] == [
        ("acquisition.removed", acq["uid"]),
        ("acquisition.started", new["uid"]),
    ]
    assert get(storage, neighbour) == neighbour


def test_remove_is_refused_while_it_is_open(storage: Storage) -> None:
    acq = storage.acq()
    before = storage.wire.last_seq()
    refusal = storage.refusal("new_acq_storage", acq_name="acq", run_name="run", mode="remove")
    assert (refusal.code, refusal.details["id"]) == ("wrong_state", acq["acq_id"])
    assert get(storage, acq) == acq
    assert storage.types(before) == []


BAD_SCRIPTS = ["not_there.sh", "../outside.sh", "sub/../../outside.sh", "/bin/true", "plain.txt", "link.sh"]


@pytest.mark.parametrize("script", BAD_SCRIPTS)
def test_a_script_that_cannot_be_run_is_refused(service: Service, storage: Storage, script: str) -> None:
    service.script("plain.txt", "#!/bin/sh\n", mode=0o644)
    service.script("../outside.sh", "#!/bin/sh\n")
    link = service.scripts / "link.sh"
    if not link.is_symlink():
        link.symlink_to("/bin/true")
    before = storage.wire.last_seq()
    refusal = storage.refusal("new_acq_storage", acq_name="a", run_name="run", convert_script=script)
    assert refusal.code in {"invalid_name", "not_found"}
    assert storage.state() == "configured"
    assert storage.wire.refusal("get_acq", acq_id=f"{storage.group}/run/a").code == "not_found"
    assert storage.types(before) == []


def test_a_script_may_lie_in_a_folder_below(service: Service, storage: Storage) -> None:
    service.script("calice/quick.sh", "#!/bin/sh\n")
    assert storage.acq(convert_script="calice/quick.sh")["convert_script"] == "calice/quick.sh"


def test_a_parameter_is_set_and_told_each_time(storage: Storage) -> None:
    acq = storage.acq()
    before = storage.wire.last_seq()
    where = {"acq_id": acq["acq_id"], "param": "x"}
    for value in (1, 1, None):
        assert storage.call("set_param_acq_storage", **where, value=value) == {"stored": True}
    assert get(storage, acq)["params"] == {"x": None}
    events = storage.events(before)
    assert [event["type"] for event in events] == ["acquisition.param_set"] * 3
    assert [event["data"]["value"] for event in events] == [1, 1, None]
    assert {(event["subject"], event["data"]["param"]) for event in events} == {(acq["acq_id"], "x")}


def test_no_parameter_is_set_after_the_finish(storage: Storage) -> None:
    acq = storage.acq(params={"x": 1})
    storage.mark(acq)
    refusal = storage.refusal("set_param_acq_storage", acq_id=acq["acq_id"], param="x", value=2)
    assert (refusal.code, refusal.details["state"]) == ("wrong_state", "finished")
    assert get(storage, acq)["params"] == {"x": 1}


@pytest.mark.parametrize(
    "misfit", [{"uid": "00000000-0000-4000-8000-000000000000"}, {"segment": 2}, {"segment": 1}]
)
def test_a_misfit_is_not_found_and_changes_nothing(storage: Storage, misfit: dict[str, Any]) -> None:
    acq = storage.acq()
    if misfit == {"segment": 1}:
        storage.close(acq)
        acq = storage.acq()
    where = {"acq_id": acq["acq_id"]} | misfit
    before = storage.wire.last_seq()
    assert storage.refusal("set_param_acq_storage", **where, param="x", value=1).code == "not_found"
    assert storage.refusal("close_acq_storage", **where).code == "not_found"
    assert storage.refusal("abort_acq_storage", **where).code == "not_found"
    assert storage.call("mark_as_finished_storage", **where)["counted"] is False
    assert (get(storage, acq)["state"], get(storage, acq)["params"], get(storage, acq)["finished"]) == (
        "open",
        {},
        0,
    )
    assert (
        storage.types(before, "acquisition.param", "acquisition.fin", "acquisition.ab", "acquisition.prod") == []
    )


def test_what_fits_is_taken(storage: Storage) -> None:
    acq = storage.acq(producers_count=2)
    where = {"acq_id": acq["acq_id"], "uid": acq["uid"], "segment": 1}
    assert storage.call("set_param_acq_storage", **where, param="x", value=1) == {"stored": True}
    assert storage.call("mark_as_finished_storage", **where)["counted"] is True
    assert storage.call("close_acq_storage", **where)["state"] == "finished"
    second = storage.acq("second")
    where = {"acq_id": second["acq_id"], "uid": second["uid"], "segment": 1}
    assert storage.call("abort_acq_storage", **where)["state"] == "aborted"


def test_acquisitions_are_listed_newest_first_and_page_by_page(storage: Storage) -> None:
    made = [storage.acq(f"acq{n}")["acq_id"] for n in range(7)]
    storage.run("other")
    elsewhere = storage.acq("acq", "other")["acq_id"]
    everything = storage.wire.call("list_acqs", storage_id=storage.storage_id)
    assert set(everything) == {"acqs", "cursor"}
    assert [acq["acq_id"] for acq in everything["acqs"]] == [elsewhere, *made[::-1]]
    assert everything["cursor"] is None
    pages = storage.wire.pages("list_acqs", "acqs", run_id=f"{storage.group}/run", limit=3)
    assert [acq["acq_id"] for page in pages for acq in page] == made[::-1]
    assert all(len(page) <= 3 for page in pages)
    assert everything["acqs"][0] == storage.wire.call("get_acq", acq_id=elsewhere)


def test_acquisitions_are_listed_by_state(storage: Storage) -> None:
    a, b, c = (storage.acq(name) for name in "abc")
    storage.close(a)
    storage.call("abort_acq_storage", acq_id=b["acq_id"])

    def listed(state: str) -> list[str]:
        found = storage.wire.call("list_acqs", storage_id=storage.storage_id, state=state)["acqs"]
        return [acq["acq_id"] for acq in found]

    assert listed("finished") == [a["acq_id"]]
    assert listed("aborted") == [b["acq_id"]]
    assert listed("open") == [c["acq_id"]]
    refusal = storage.wire.refusal("list_acqs", state="lost")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "state")


def test_finished_and_aborted_ones_are_sealed(storage: Storage) -> None:
    def sealed(acq: dict[str, Any]) -> bool:
        return bool(get(storage, acq)["sealed"])

    acqs = [storage.acq("a"), storage.acq("b")]
    before = storage.wire.last_seq()
    storage.close(acqs[0])
    storage.call("abort_acq_storage", acq_id=acqs[1]["acq_id"])
    for acq in acqs:
        eventually(partial(sealed, acq))
        (event,) = [one for one in storage.events(before, "acquisition.sealed") if one["subject"] == acq["acq_id"]]
        assert event["data"].items() >= {"acq_id": acq["acq_id"], "uid": acq["uid"], "segment": 1}.items()
