"""Section 4.1: a run and its acquisitions belong to the storage that made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]


@pytest.fixture
def pair(wire: Wire, plan: Plan) -> tuple[Storage, Storage]:
    """Two storages on one base run group; the first has a run `run`."""
    first = plan(wire).open()
    second = plan(wire, **first.arguments).open()
    first.run(params={"mine": 1})
    return first, second


def nothing_of(acq: dict[str, Any], storage: Storage) -> None:
    """To this storage the acquisition does not exist."""
    where = {"acq_id": acq["acq_id"]}
    for cmd in ("mark_as_finished_storage", "close_acq_storage", "abort_acq_storage"):
        assert storage.refusal(cmd, **where).code == "not_found"
    assert storage.refusal("set_param_acq_storage", **where, param="x", value=1).code == "not_found"


def test_anothers_run_already_exists(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    run = first.wire.call("get_run", run_id=f"{first.group}/run")
    for mode in ("append", "remove"):
        refusal = second.refusal("new_run_storage", run_name="run", mode=mode, params={"mine": 2})
        assert refusal.code == "already_exists"
    assert first.wire.call("get_run", run_id=run["run_id"]) == run


def test_anothers_run_is_not_found_to_its_parameters(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    refusal = second.refusal("set_param_run_storage", run_name="run", param="mine", value=2)
    assert refusal.code == "not_found"
    assert first.run()["params"] == {"mine": 1}


def test_anothers_run_takes_no_acquisition(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    refusal = second.refusal("new_acq_storage", run_name="run", acq_name="acq")
    assert refusal.code in {"already_exists", "not_found"}
    assert first.wire.call("list_acqs", run_id=f"{first.group}/run")["acqs"] == []
    assert second.state() == "configured"


def test_anothers_acquisition_is_not_found(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    acq = first.acq()
    nothing_of(acq, second)
    assert second.refusal("new_acq_storage", run_name="run", acq_name="acq").code in {
        "already_exists",
        "not_found",
    }
    there = first.wire.call("get_acq", acq_id=acq["acq_id"])
    assert (there["state"], there["params"], there["finished"]) == ("open", {}, 0)


def test_a_mark_without_an_id_looks_at_its_own_storage_only(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    first.acq()
    assert second.refusal("mark_as_finished_storage").code == "not_found"
    second.run("mine")
    acq = second.acq("acq", "mine")
    assert second.call("mark_as_finished_storage")["acq_id"] == acq["acq_id"]
    assert first.state() == "acquiring"


def test_after_a_deinit_a_run_is_nobodys_until_it_is_taken_over(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    run = first.run()
    acq = first.acq(params={"threshold": 5})
    first.close(acq)
    first.call("deinit_storage", force=True)

    assert second.refusal("new_acq_storage", run_name="run", acq_name="new").code == "not_found"
    assert second.refusal("set_param_run_storage", run_name="run", param="x", value=1).code == "not_found"
    nothing_of(acq, second)

    taken = second.run(params={"taken": True})
    assert (taken["uid"], taken["storage_id"]) == (run["uid"], second.storage_id)
    assert taken["params"] == {"mine": 1, "taken": True}
    there = second.wire.call("get_acq", acq_id=acq["acq_id"])
    assert (there["uid"], there["storage_id"]) == (acq["uid"], second.storage_id)
    assert second.mark(acq) | {"missing": []} == {
        "acq_id": acq["acq_id"],
        "uid": acq["uid"],
        "segment": 1,
        "state": "finished",
        "finished": 0,
        "expected": 1,
        "missing": [],
        "counted": False,
    }
    again = second.acq()
    assert (again["uid"], again["segment"], again["params"]) == (acq["uid"], 2, {"threshold": 5})
    assert second.mark(again)["state"] == "finished"


def test_a_new_storage_of_the_same_id_takes_over_as_any_other(wire: Wire, plan: Plan) -> None:
    storage = plan(wire).open()
    run = storage.run()
    acq = storage.acq()
    storage.call("deinit_storage", force=True)
    storage.open()
    assert storage.refusal("new_acq_storage", run_name="run", acq_name="new").code == "not_found"
    assert storage.refusal("set_param_run_storage", run_name="run", param="x", value=1).code == "not_found"
    nothing_of(acq, storage)
    assert storage.run()["uid"] == run["uid"]
    assert storage.close(storage.acq())["segment"] == 2


def test_inval_does_not_give_a_run_away(pair: tuple[Storage, Storage]) -> None:
    first, second = pair
    first.call("inval_storage")
    assert second.refusal("new_run_storage", run_name="run").code == "already_exists"
    first.call("config_storage")
    assert first.acq()["state"] == "open"
