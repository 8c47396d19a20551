"""Acquisitions are found by what was measured of them, and by their newest segment alone (SPEC 4.3, 4.4)."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_service.rules.readings import Reading, ReadingsTaken, TakeReadings
from storage_service.store.search import Sizes
from tests.contract.test_search import WAYS
from tests.contract.test_store_notes import found, note, search_rows
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import ACQ, StepShell, close, config, init, new_acq, new_run

NAMES = ("t", "varmod:hv")


@pytest.fixture(params=WAYS)
def sizes(request: pytest.FixtureRequest) -> Sizes:
    return WAYS[request.param]


def measuring(store: SqliteStore) -> StepShell:
    return StepShell(store=store).must(init(stats_names=NAMES), config(), new_run(), new_acq())


def reading(**values: Any) -> Any:
    """Sources that say this of `t`, at the start and at the end."""

    def sources(order: TakeReadings) -> ReadingsTaken:
        return ReadingsTaken({"t": Reading(values[order.when]), "varmod:hv": Reading(missing="It is away.")})

    return sources


def test_it_is_found_by_its_newest_value_and_by_the_difference(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = measuring(sqlite_store)
    assert found(sqlite_store, sizes, {"stats.t": 1}, kind="acq") == [ACQ]
    assert found(sqlite_store, sizes, {"stats.t.difference": 2}) == []
    shell.must(close())
    for where in ({"stats.t": 3}, {"stats.t": {"gt": 2}}, {"stats.t.difference": 2}, {"stats.varmod:hv": 3}):
        assert found(sqlite_store, sizes, where, kind="acq") == [ACQ], where
    assert found(sqlite_store, sizes, {"stats.t": 1}) == []
    shell.restart()
    assert found(sqlite_store, sizes, {"stats.t": 3, "stats.t.difference": {"lt": 3}}, kind="acq") == [ACQ]


def test_what_is_missing_is_found_by_no_value(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = StepShell(store=sqlite_store).must(init(stats_names=NAMES), config(), new_run())
    shell.sources = reading(start="on", end="off")
    shell.must(new_acq(), close())
    assert found(sqlite_store, sizes, {"stats.t": "off"}, kind="acq") == [ACQ]
    for where in ({"stats.t.difference": {"ne": 7}}, {"stats.varmod:hv": 0}, {"stats.varmod:hv": {"ne": 0}}):
        assert found(sqlite_store, sizes, where, kind="acq") == [], where


def test_the_next_segment_is_not_found_by_what_was_measured_before(
    sqlite_store: SqliteStore, sizes: Sizes
) -> None:
    shell = measuring(sqlite_store).must(note("good"), close())
    shell.sources = lambda order: None
    shell.must(new_acq())
    assert found(sqlite_store, sizes, {"stats.t": 3}) == []
    assert found(sqlite_store, sizes, {"@quality": "good"}, kind="acq") == [ACQ]
    shell.must(close())
    assert found(sqlite_store, sizes, {"stats.t": 3}) == []
    shell.taken(reading(start=10, end=11)(shell.readings[0]))
    shell.taken(reading(start=10, end=11)(shell.readings[0]))
    assert found(sqlite_store, sizes, {"stats.t": 11, "@quality": "good"}, kind="acq") == [ACQ]


def test_a_statistic_that_is_not_measured_any_more_is_not_found(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = measuring(sqlite_store).must(close(), c.DeinitStorage(storage_id="s", force=True))
    shell.must(init(stats_names=()), config(), new_run(), new_acq(), close())
    assert sqlite_store.record(("node", ACQ)).statistics == {}
    assert found(sqlite_store, sizes, {"stats.t": 3}) == []
    assert [row for row in search_rows(sqlite_store) if row[1].startswith("stats.")] == []
    assert sqlite_store.select("SELECT name FROM derived WHERE name GLOB 'stats.*'") == []


def test_a_removed_acquisition_is_not_found_by_its_statistics(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = measuring(sqlite_store).must(close())
    shell.sources = lambda order: None
    shell.must(new_acq(mode="remove"))
    assert found(sqlite_store, sizes, {"stats.t": 3}) == []
    assert sqlite_store.select("SELECT * FROM derived") == []
