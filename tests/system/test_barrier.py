"""Section 4.2: the finish barrier. Who counts, when it is met, and with what verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """A configured storage with a run `run`."""
    storage.run()
    return storage


def get(storage: Storage, acq: dict[str, Any]) -> Any:
    return storage.wire.call("get_acq", acq_id=acq["acq_id"])


def counted(storage: Storage, acq: dict[str, Any], *producers: str | None) -> list[bool]:
    return [storage.mark(acq, producer)["counted"] for producer in producers]


def test_one_unnamed_mark_finishes_what_expects_one(storage: Storage) -> None:
    acq = storage.acq()
    assert storage.mark(acq) == {
        "acq_id": acq["acq_id"],
        "uid": acq["uid"],
        "segment": 1,
        "state": "finished",
        "finished": 1,
        "expected": 1,
        "missing": [],
        "counted": True,
    }
    done = get(storage, acq)
    assert (done["state"], done["verdict"], done["missing"], done["failed"]) == ("finished", "complete", [], [])
    assert done["finished_at"] > acq["started_at"]


def test_the_last_mark_tells_everything_in_order(storage: Storage) -> None:
    acq = storage.acq(producers=["a", "b"])
    before = storage.wire.last_seq()
    storage.mark(acq, "a", summary={"events": 5})
    storage.mark(acq, "b")
    first, second, end = storage.events(before, "acquisition.p", "acquisition.f")
    assert [first["type"], second["type"]] == ["acquisition.producer_finished"] * 2
    assert first["data"] == {
        "acq_id": acq["acq_id"],
        "uid": acq["uid"],
        "segment": 1,
        "producer": "a",
        "ok": True,
        "summary": {"events": 5},
        "finished": 1,
        "expected": 2,
    }
    assert (second["data"]["producer"], second["data"]["finished"]) == ("b", 2)
    assert (end["type"], end["subject"], end["data"]["verdict"]) == (
        "acquisition.finished",
        acq["acq_id"],
        "complete",
    )
    assert end["data"]["state"] == "finished"


def test_each_name_counts_once(storage: Storage) -> None:
    acq = storage.acq(producers=["a", "b"])
    first = storage.mark(acq, "a")
    assert (first["counted"], first["finished"], first["missing"]) == (True, 1, ["b"])
    before = storage.wire.last_seq()
    again = storage.mark(acq, "a", ok=False)
    assert (again["counted"], again["finished"], again["state"]) == (False, 1, "open")
    assert storage.types(before) == []
    assert storage.mark(acq, "b")["state"] == "finished"
    assert get(storage, acq)["verdict"] == "complete"


def test_unnamed_marks_fill_only_the_places_that_no_name_holds(storage: Storage) -> None:
    acq = storage.acq(producers=["a", "b"], producers_count=3)
    assert acq["expected"] == 3
    assert counted(storage, acq, None, None, "stranger") == [True, False, False]
    assert get(storage, acq)["finished"] == 1
    assert counted(storage, acq, "a", "b") == [True, True]
    assert get(storage, acq)["verdict"] == "complete"


def test_names_outside_fill_the_free_places_once_each(storage: Storage) -> None:
    acq = storage.acq(producers=["a"], producers_count=3)
    assert counted(storage, acq, "x", "x", "y", "z", None) == [True, False, True, False, False]
    assert get(storage, acq)["state"] == "open"
    assert storage.mark(acq, "a")["state"] == "finished"


def test_a_stranger_has_no_place_where_names_hold_all(storage: Storage) -> None:
    acq = storage.acq(producers=["a"])
    mark = storage.mark(acq, "stranger")
    assert (mark["counted"], mark["state"], mark["missing"], mark["finished"]) == (False, "open", ["a"], 0)
    assert storage.mark(acq, "a")["state"] == "finished"


def test_every_name_and_the_number_are_needed(storage: Storage) -> None:
    acq = storage.acq(producers=["a"], producers_count=2)
    assert storage.mark(acq, "a")["state"] == "open"
    assert storage.mark(acq, None)["state"] == "finished"


def test_unnamed_marks_count_each_time(storage: Storage) -> None:
    acq = storage.acq(producers_count=3)
    assert [storage.mark(acq)["finished"] for _ in range(3)] == [1, 2, 3]
    assert get(storage, acq)["verdict"] == "complete"


EXPECTED = [
    # of the storage: count, names, unnamed; given with the acquisition; expected
    (1, [], 0, {}, 1),
    (0, [], 0, {}, 0),
    (5, [], 0, {}, 5),
    (1, ["a", "b"], 0, {}, 2),
    (1, ["a", "b"], 1, {}, 3),
    (5, ["a"], 1, {}, 5),
    (0, ["a"], 0, {}, 1),
    (0, [], 2, {}, 2),
    (1, ["a", "b"], 1, {"producers": ["x"]}, 1),
    (4, ["a", "b"], 1, {"producers": ["x"]}, 4),
    (1, ["a", "b"], 1, {"producers": []}, 1),
    (1, ["a", "b"], 1, {"producers_count": 4}, 4),
    (1, ["a", "b"], 1, {"producers_count": 0}, 2),
    (5, ["a", "b"], 1, {"producers_count": 1}, 2),
    (5, ["a", "b"], 1, {"producers_count": 1, "producers": ["x", "y", "z"]}, 3),
    (5, ["a", "b"], 1, {"producers_count": 0, "producers": []}, 0),
]


@pytest.mark.parametrize(("count", "names", "unnamed", "given", "expected"), EXPECTED)
def test_how_many_are_expected(
    wire: Wire, plan: Plan, count: int, names: list[str], unnamed: int, given: dict[str, Any], expected: int
) -> None:
    storage = plan(wire, producers_count=count).open()
    for name in [*names, *[None] * unnamed]:
        storage.call("register_producer_storage", producer=name)
    storage.run()
    acq = storage.acq(**given)
    assert acq["expected"] == expected
    places: list[str | None] = list(given.get("producers", names))
    places += [None] * (expected - len(places))
    if not places:
        storage.close(acq)
    states = [storage.mark(acq, producer)["state"] for producer in places]
    assert states == ["open"] * (expected - 1) + ["finished"] * bool(expected)
    assert get(storage, acq)["verdict"] == "complete"


def test_registering_counts_for_later_acquisitions_only(storage: Storage) -> None:
    storage.call("register_producer_storage", producer="a")
    first = storage.acq("first")
    storage.call("register_producer_storage", producer="b")
    second = storage.acq("second")
    storage.call("unregister_producer_storage", producer="a")
    third = storage.acq("third")
    assert [get(storage, acq)["expected"] for acq in (first, second, third)] == [1, 2, 1]
    assert storage.mark(third, "b")["state"] == "finished"
    assert storage.mark(first, "a")["state"] == "finished"
    assert storage.mark(second, "a")["missing"] == ["b"]


def test_with_none_expected_only_a_close_finishes(wire: Wire, plan: Plan) -> None:
    storage = plan(wire, producers_count=0).open()
    storage.run()
    acq = storage.acq()
    mark = storage.mark(acq, "anybody")
    assert (mark["counted"], mark["state"], mark["expected"]) == (False, "open", 0)
    done = storage.close(acq)
    assert (done["state"], done["verdict"]) == ("finished", "complete")


def test_a_mark_that_says_it_failed_makes_the_verdict_partial(storage: Storage) -> None:
    acq = storage.acq(producers=["a", "b"], producers_count=3)
    storage.mark(acq, "a")
    storage.mark(acq, "b", ok=False, summary={"error": "disk full"})
    storage.mark(acq, None, ok=False)
    done = get(storage, acq)
    assert (done["state"], done["verdict"], done["missing"]) == ("finished", "partial", [])
    assert sorted(done["failed"], key=str) == [None, "b"]
    entries = done["producers"]
    assert [set(entry) for entry in entries] == [{"producer", "ok", "summary", "time"}] * 3
    told = [(entry["producer"], entry["ok"], entry["summary"]) for entry in entries]
    assert told == [("a", True, {}), ("b", False, {"error": "disk full"}), (None, False, {})]


def test_a_close_before_all_have_marked_is_partial(storage: Storage) -> None:
    acq = storage.acq(producers=["a", "b", "c"])
    storage.mark(acq, "b")
    before = storage.wire.last_seq()
    done = storage.close(acq, reason="enough")
    assert (done["state"], done["verdict"], done["reason"]) == ("finished", "partial", "enough")
    assert (set(done["missing"]), done["failed"]) == ({"a", "c"}, [])
    (event,) = storage.events(before, "acquisition.finished")
    assert event["data"]["verdict"] == "partial"


def test_a_close_with_unnamed_marks_outstanding_is_partial_and_misses_no_name(storage: Storage) -> None:
    acq = storage.acq(producers_count=2)
    storage.mark(acq)
    done = storage.close(acq)
    assert (done["verdict"], done["missing"], done["finished"]) == ("partial", [], 1)


def test_closing_twice_changes_nothing_and_an_aborted_one_is_not_closed(storage: Storage) -> None:
    acq, aborted = storage.acq("a"), storage.acq("b")
    storage.close(acq, reason="first")
    storage.call("abort_acq_storage", acq_id=aborted["acq_id"])
    before = storage.wire.last_seq()
    again = storage.close(acq, reason="second")
    assert (again["state"], again["reason"]) == ("finished", "first")
    refusal = storage.refusal("close_acq_storage", acq_id=aborted["acq_id"])
    assert refusal.code == "wrong_state"
    assert refusal.details.items() >= {"state": "aborted", "id": aborted["acq_id"]}.items()
    assert storage.types(before, "acquisition.finished", "acquisition.aborted") == []


def test_an_abort_ends_it_without_a_verdict_of_the_barrier(storage: Storage) -> None:
    acq = storage.acq(producers_count=2)
    storage.mark(acq)
    before = storage.wire.last_seq()
    where = {"acq_id": acq["acq_id"], "reason": "beam lost"}
    gone = storage.call("abort_acq_storage", **where)
    assert (gone["state"], gone["reason"], gone["conversion"]) == ("aborted", "beam lost", None)
    assert storage.state() == "configured"
    assert storage.call("abort_acq_storage", **where | {"reason": "again"})["reason"] == "beam lost"
    assert storage.types(before, "acquisition.aborted", "acquisition.finished") == ["acquisition.aborted"]


def test_a_finished_one_is_not_aborted(storage: Storage) -> None:
    acq = storage.acq()
    storage.mark(acq)
    refusal = storage.refusal("abort_acq_storage", acq_id=acq["acq_id"])
    assert (refusal.code, refusal.details["state"]) == ("wrong_state", "finished")
    assert get(storage, acq)["state"] == "finished"


@pytest.mark.parametrize(("end", "state"), [("close_acq_storage", "finished"), ("abort_acq_storage", "aborted")])
def test_a_late_mark_is_heard_and_not_counted(storage: Storage, end: str, state: str) -> None:
    acq = storage.acq(producers=["a", "b"])
    storage.mark(acq, "a")
    ended = storage.call(end, acq_id=acq["acq_id"])
    before = storage.wire.last_seq()
    late = storage.mark(acq, "b")
    assert (late["counted"], late["state"], late["finished"]) == (False, state, 1)
    there = get(storage, acq)
    assert (there["verdict"], there["producers"]) == (ended["verdict"], ended["producers"])
    assert storage.types(before, "acquisition.p", "acquisition.f") == []


def test_a_mark_without_an_id_means_the_one_that_is_open(storage: Storage) -> None:
    first = storage.acq("first")
    second = storage.acq("second")
    assert storage.refusal("mark_as_finished_storage").code == "bad_request"
    storage.close(first)
    mark = storage.call("mark_as_finished_storage")
    assert (mark["acq_id"], mark["state"]) == (second["acq_id"], "finished")
    assert storage.refusal("mark_as_finished_storage").code == "not_found"


def test_an_unknown_acquisition_is_not_found(storage: Storage) -> None:
    where = {"acq_id": f"{storage.group}/run/nobody"}
    for cmd in ("mark_as_finished_storage", "close_acq_storage", "abort_acq_storage"):
        assert storage.refusal(cmd, **where).code == "not_found"
    assert storage.refusal("set_param_acq_storage", **where, param="x", value=1).code == "not_found"


def test_a_summary_is_a_few_scalars(storage: Storage) -> None:
    acq = storage.acq()
    where = {"acq_id": acq["acq_id"]}
    refusal = storage.refusal("mark_as_finished_storage", **where, summary={f"n{n}": n for n in range(33)})
    assert refusal.code in {"bad_request", "too_large"}
    assert storage.refusal("mark_as_finished_storage", **where, summary={"a": [1]}).code == "bad_request"
    assert get(storage, acq)["finished"] == 0
    most = {f"n{n}": n for n in range(32)}
    storage.mark(acq, summary=most)
    assert get(storage, acq)["producers"][0]["summary"] == most


def test_marks_that_come_at_once_finish_it_exactly_once(storage: Storage, other: Wire) -> None:
    names = [f"p{n}" for n in range(20)]
    acq = storage.acq(producers=names)
    before = storage.wire.last_seq()
    where = {"storage_id": storage.storage_id, "acq_id": acq["acq_id"]}
    asked = [
        (client, client.post("mark_as_finished_storage", **where, producer=name))
        for name in names
        for client in (storage.wire, other)
    ]
    marks = [client.collect(number) for client, number in asked]
    assert sum(mark["counted"] for mark in marks) == 20
    assert sorted(mark["finished"] for mark in marks if mark["counted"]) == list(range(1, 21))
    told = storage.types(before, "acquisition.p", "acquisition.f")
    assert told == ["acquisition.producer_finished"] * 20 + ["acquisition.finished"]
