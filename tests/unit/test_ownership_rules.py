"""Whom a run and its acquisitions belong to (SPEC 4.1), decided without a desk."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_protocol.commands import Command
from tests.support.world import World

RUN, ACQ = "root/g/r", "root/g/r/a"


def two() -> World:
    """Storages s and t on one base run group; the run r and its open acquisition a are the one's of s."""
    return World().init("s").config("s").init("t").config("t").run("s").acq("s")


def orphaned(storage_id: str = "t") -> World:
    """The storage that made the run is gone; another life is configured on the same group."""
    return World().init("s").config("s").run("s").acq("s").deinit("s").init(storage_id).config(storage_id)


def on_acq(storage_id: str) -> list[Command]:
    return [
        c.SetParamAcq(storage_id=storage_id, acq_id=ACQ, param="x", value=1),
        c.MarkAsFinished(storage_id=storage_id, acq_id=ACQ),
        c.CloseAcq(storage_id=storage_id, acq_id=ACQ),
        c.AbortAcq(storage_id=storage_id, acq_id=ACQ),
    ]


def on_run(storage_id: str) -> list[Command]:
    return [
        c.SetParamRun(storage_id=storage_id, run_name="r", param="x", value=1),
        c.NewAcq(storage_id=storage_id, run_name="r", acq_name="b"),
    ]


def code(world: World, command: Command) -> str:
    """How it is refused, and that nothing was changed."""
    before = world.records()
    outcome = world.do(command)
    assert world.records() == before
    assert outcome.types == []
    return outcome.code


# Another storage's


@pytest.mark.parametrize("mode", ["append", "remove"])
def test_anothers_run_already_exists_where_it_would_be_created(mode: Any) -> None:
    assert code(two(), c.NewRun(storage_id="t", run_name="r", mode=mode)) == "already_exists"


@pytest.mark.parametrize("mode", ["append", "remove"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_anothers_acquisition_already_exists_where_it_would_be_created(name: str, mode: Any) -> None:
    command = c.NewAcq(storage_id="t", run_name="r", acq_name=name, mode=mode)
    assert code(two(), command) == "already_exists"


@pytest.mark.parametrize("command", on_acq("t"), ids=lambda command: command.CMD)
def test_anothers_acquisition_is_not_found_where_it_is_named(command: Command) -> None:
    assert code(two(), command) == "not_found"


def test_anothers_run_has_no_parameters_to_set() -> None:
    assert code(two(), on_run("t")[0]) == "not_found"


# Nobody's


@pytest.mark.parametrize("storage_id", ["s", "t"])
@pytest.mark.parametrize("index", range(4))
def test_nobodys_acquisition_is_not_found(index: int, storage_id: str) -> None:
    assert code(orphaned(storage_id), on_acq(storage_id)[index]) == "not_found"


@pytest.mark.parametrize("storage_id", ["s", "t"])
@pytest.mark.parametrize("index", range(2))
def test_nobodys_run_is_not_found(index: int, storage_id: str) -> None:
    assert code(orphaned(storage_id), on_run(storage_id)[index]) == "not_found"


@pytest.mark.parametrize("storage_id", ["s", "t"])
def test_the_next_storage_that_appends_takes_the_run_and_its_acquisitions_over(storage_id: str) -> None:
    world = orphaned(storage_id)
    first = world.a_run()
    outcome = world.do(c.NewRun(storage_id=storage_id, run_name="r", params={"x": 1}))
    assert outcome.types == ["run.taken_over", "run.param_set"]
    assert (outcome.reply.storage_id, outcome.reply.uid, outcome.reply.params) == (storage_id, first.uid, {"x": 1})
    assert (world.a_run().owner, world.acquisition().storage_id) == (world.storage(storage_id).uid, storage_id)
    world.seal()
    again = world.do(c.NewAcq(storage_id=storage_id, run_name="r", acq_name="a"))
    assert (again.types, again.reply.segment) == (["acquisition.started"], 2)


def test_a_run_that_was_taken_over_is_anothers_for_the_rest() -> None:
    world = orphaned("t").run("t")
    world.init("s").config("s")
    assert code(world, c.NewRun(storage_id="s", run_name="r")) == "already_exists"


def test_an_owner_that_is_only_invalidated_is_still_the_owner() -> None:
    world = World().init("s").config("s").run("s").inval("s").init("t").config("t")
    assert code(world, c.NewRun(storage_id="t", run_name="r")) == "already_exists"


def test_nobodys_run_is_removed_by_the_next_storage() -> None:
    world = orphaned("t").seal()
    outcome = world.do(c.NewRun(storage_id="t", run_name="r", mode="remove"))
    assert outcome.types == ["acquisition.removed", "run.removed", "run.created"]
    assert world.a_run().storage_id == "t"


def test_a_run_without_rundb_comes_into_it_with_the_storage_that_takes_it_over() -> None:
    world = World().init("s", use_rundb=False).config("s").run("s").acq("s").deinit("s").init("t").config("t")
    assert (world.a_run().visible, world.acquisition().visible) == (False, False)
    world.run("t")
    assert (world.a_run().visible, world.acquisition().visible) == (True, True)
