"""Readings: what is owed, what is asked for when, and what is made of what was read (SPEC 4.3.6, 4.3.7)."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol.commands import InitStorage
from storage_protocol.records import Configuration, Document, Statistic
from storage_service.rules import readings
from storage_service.rules.decision import Moment
from storage_service.rules.facts import AcqMeasured, AcqWarned
from storage_service.rules.readings import MOST_BYTES, Reading, ReadingsTaken, Wanted
from storage_service.rules.state import Acq, Places, State, Storage

NOW = Moment("2026-05-04T07:30:00.000000Z", 0.0, 0.0, str)
MOST, LEAST = 2**63 - 1, -(2**63)
ONE, TWO = Document("one.xml", "1" * 64, 1), Document("two.xml", "2" * 64, 2)


def a_state(fetches: bool = False) -> State:
    return State(Places(), lambda storage_id: fetches)


def storage(names: tuple[str, ...] = (), config: Document | None = None) -> Storage:
    init = InitStorage(storage_id="s", brg_name="g", stats_names=names)
    return Storage("s", "life", init, NOW.time, config=config)


def acq(reads: str = "start", names: tuple[str, ...] = ("x",), **more: Any) -> Acq:
    place = ("file:///", "p/r/a", True, NOW.time, NOW.time)
    statistics = dict.fromkeys(names, Statistic())
    return Acq(
        "root/g/r/a", "u", "a", "root/g/r", "r", "s", *place, **{"reads": reads, "statistics": statistics, **more}
    )


def saved(document: Document, when: str = "start") -> Configuration:
    return Configuration(document.name, when, document.blake3, document.bytes, readings.HANDED_IN)


def measured(of: Acq, given: dict[str, Reading], **more: Any) -> dict[str, Statistic]:
    event = readings.taken(of, ReadingsTaken(given, **more), NOW)[0]
    assert isinstance(event.fact, AcqMeasured)
    assert (event.fact.when, event.storage_id, event.subject) == (of.reads, "s", of.node_id)
    return event.fact.statistics


def difference(before: Any, after: Any) -> Any:
    started = readings.after(acq(), AcqMeasured("", "start", measured(acq(), {"x": Reading(before)}), ()))
    return measured(started, {"x": Reading(after)})["x"].difference


# When


@pytest.mark.parametrize(
    ("names", "config", "fetches", "owed"),
    [
        ((), None, False, ""),
        (("x",), None, False, "start"),
        ((), ONE, False, "start"),
        ((), None, True, "start"),
        (("x",), ONE, True, "start"),
    ],
)
def test_a_reading_is_owed_where_there_is_anything_to_read(
    names: tuple[str, ...], config: Document | None, fetches: bool, owed: str
) -> None:
    assert readings.owed(a_state(fetches), storage(names, config)) == owed


@pytest.mark.parametrize(
    ("reads", "state", "due"),
    [
        ("", "open", False), ("", "finished", False),
        ("start", "open", True), ("start", "finished", True), ("start", "aborted", True),
        ("end", "open", False), ("end", "finished", True), ("end", "aborted", True),
    ],
)  # fmt: skip
def test_the_start_is_due_at_once_and_the_end_when_it_has_ended(reads: str, state: str, due: bool) -> None:
    assert readings.is_due(acq(reads, state=state)) == due


def test_the_end_is_owed_after_the_start_and_nothing_after_the_end() -> None:
    started = readings.after(acq(), AcqMeasured("", "start", {}, (saved(ONE),)))
    assert (started.reads, started.configurations) == ("end", (saved(ONE),))
    ended = readings.after(started, AcqMeasured("", "end", {}, (saved(TWO, "end"),)))
    assert (ended.reads, ended.configurations) == ("", (saved(ONE), saved(TWO, "end")))


# What is asked for


def test_an_order_names_the_folder_the_variables_and_what_sources_are_told() -> None:
    order = readings.order(a_state(), acq("end", ("x", "ca:HV"), segment=3, configurations=(saved(ONE),)))
    assert (order.mp, order.path, order.names, order.when) == ("file:///", ("p", "r", "a"), ("x", "ca:HV"), "end")
    assert order.saved == (ONE.blake3,)
    assert order.about == {
        "STORAGE_ID": "s", "ACQ_ID": "root/g/r/a", "ACQ_UID": "u", "ACQ_NAME": "a", "ACQ_SEGMENT": "3",
        "RUN_ID": "root/g/r", "RUN_NAME": "r", "READING": "end",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("of", "fetches", "wanted"),
    [
        (acq("start"), False, ()),
        (acq("start"), True, (Wanted("start"),)),
        (acq("start", config=ONE), False, (Wanted("start", ONE),)),
        (acq("start", config=ONE), True, (Wanted("start", ONE),)),
        (acq("end"), False, ()),
        (acq("end"), True, (Wanted("end"),)),
        (acq("end", config_end=TWO), True, (Wanted("end", TWO),)),
        (acq("end", config=ONE, configurations=(saved(ONE),)), False, ()),
        (acq("end", config=ONE, configurations=(saved(ONE),)), True, (Wanted("end"),)),
        (acq("end", config=ONE, config_end=TWO, configurations=(saved(ONE),)), False, (Wanted("end", TWO),)),
        (acq("end", config=ONE, config_end=TWO), False, (Wanted("start", ONE), Wanted("end", TWO))),
        (acq("end", config=ONE), False, (Wanted("start", ONE),)),
    ],
)
def test_what_was_handed_in_wins_and_what_the_start_lacks_is_wanted_at_the_end(
    of: Acq, fetches: bool, wanted: tuple[Wanted, ...]
) -> None:
    assert readings.order(a_state(fetches), of).wanted == wanted


# What is made of it


def test_a_start_has_its_readings_with_their_time_and_no_difference() -> None:
    (found,) = measured(acq(), {"x": Reading(1.5, "mV", "MINOR")}).values()
    start = found.start
    assert start is not None
    assert (start.value, start.unit, start.severity, start.missing, start.time) == (
        1.5,
        "mV",
        "MINOR",
        None,
        NOW.time,
    )
    assert (found.end, found.difference) == (None, None)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 4, 3), (4, 1, -3), (0, 0, 0), (1, 1.5, 0.5), (1.5, 1, -0.5), (0.5, 0.75, 0.25), (2.0, 3, 1.0),
        (MOST, LEAST, None), (LEAST, MOST, None), (-1, MOST, None), (0, MOST, MOST), (0, LEAST, LEAST),
        (LEAST, -1, MOST), (-1e308, 1e308, None), (1e308, -1e308, None), (MOST, 0.0, -float(MOST)),
        (False, True, None), (0, True, None), (True, 2, None), ("1", 2, None), (1, "2", None), ("a", "b", None),
        (None, 1, None), (1, None, None),
    ],
)  # fmt: skip
def test_a_difference_is_one_of_numbers_that_a_value_can_be(before: Any, after: Any, expected: Any) -> None:
    assert repr(difference(before, after)) == repr(expected)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "finite"), (float("inf"), "finite"), (2**63, "64 bits"), (LEAST - 1, "64 bits"),
        ("\ud800", "Unicode"), (b"x", "must be a str"), ([1], "must be a str"),
    ],
)  # fmt: skip
def test_what_no_record_can_hold_is_missing_and_says_why(value: Any, why: str) -> None:
    found = measured(acq(names=("x", "y")), {"x": Reading(value), "y": Reading(2)})
    start = found["x"].start
    assert start is not None
    assert start.value is None
    assert start.missing is not None
    assert why in start.missing
    start.missing.encode()
    assert found["y"].start is not None
    assert found["y"].start.value == 2


@pytest.mark.parametrize("more", [{"unit": "\udcff"}, {"severity": "\udcff"}, {"missing": "\udcff"}])
def test_what_a_source_tells_besides_is_text_too(more: dict[str, str]) -> None:
    (found,) = measured(acq(), {"x": Reading(1, **more)}).values()
    assert found.start is not None
    assert found.start.missing == "Its source gave '1'; it must be Unicode text."


def test_values_that_are_too_large_together_are_missing_and_the_others_are_not() -> None:
    names = tuple("abcde")
    given = {name: Reading(name * (MOST_BYTES // 3 - 8)) for name in names} | {"e": Reading(5)}
    found = measured(acq(names=names), given)
    values = [each.start.value for each in found.values() if each.start is not None]
    assert [value is not None for value in values] == [True, True, True, False, True]
    assert found["d"].start is not None
    assert "bytes together" in (found["d"].start.missing or "")


def test_what_is_not_told_of_is_missing_and_what_nobody_asked_for_is_left_out() -> None:
    found = measured(acq(), {"y": Reading(1)})
    assert set(found) == {"x"}
    assert found["x"].start is not None
    assert found["x"].start.missing == "It was not looked at."


def test_failures_and_what_is_tried_again_are_warnings_after_it() -> None:
    result = ReadingsTaken({}, (saved(ONE),), ("One failed.", "Two failed."), "The disk is full.")
    first, *rest = readings.taken(acq(), result, NOW)
    assert isinstance(first.fact, AcqMeasured)
    assert first.fact.configurations == (saved(ONE),)
    told = [(each.fact.what, each.fact.message) for each in rest if isinstance(each.fact, AcqWarned)]
    assert told == [("configuration", each) for each in ("One failed.", "Two failed.", "The disk is full.")]


def test_a_start_that_came_too_late_is_missing_all_of_it() -> None:
    (event,) = readings.too_late(acq(names=("x", "y"), state="finished"), NOW)
    assert isinstance(event.fact, AcqMeasured)
    assert event.fact.when == "start"
    reasons = {each.start.missing for each in event.fact.statistics.values() if each.start is not None}
    assert reasons == {"The acquisition had ended before the service could read it."}


# What is searched, and what is kept


def test_the_newest_value_is_found_and_the_difference() -> None:
    start = measured(acq(names=("x", "y")), {"x": Reading(1), "y": Reading(missing="It is away.")})
    assert readings.findable(start) == {
        "stats.x": 1, "stats.x.difference": None, "stats.y": None, "stats.y.difference": None,
    }  # fmt: skip
    end = measured(acq("end", statistics=start), {"x": Reading(4), "y": Reading("on")})
    assert readings.findable(end) == {
        "stats.x": 4, "stats.x.difference": 3, "stats.y": "on", "stats.y.difference": None,
    }  # fmt: skip
    assert readings.findable({"z": Statistic()}) == {"stats.z": None, "stats.z.difference": None}
    assert all(readings.is_statistic(name) for name in readings.findable(end))
    assert not readings.is_statistic("@quality")


def test_documents_are_needed_by_storages_and_by_acquisitions_that_are_still_read() -> None:
    state = a_state()
    assert readings.documents(state) == set()
    state.records["storage", "s"] = storage(config=ONE)
    state.records["node", "root/none"] = None
    assert readings.documents(state) == {ONE.blake3}
    for reads in ("start", "end"):
        state.records["node", "a"] = acq(reads, config=ONE, config_end=TWO)
        assert readings.documents(state) == {ONE.blake3, TWO.blake3}
    state.records["node", "a"] = acq("", config=ONE, config_end=TWO)
    state.records["storage", "s"] = storage()
    assert readings.documents(state) == set()
