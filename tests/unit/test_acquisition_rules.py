"""Acquisitions, sentence by sentence of SPEC 4.2, decided without a desk."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_protocol.limits import Limits
from storage_service.rules.work import Failed
from tests.support.world import Outcome, World

ACQ = "root/g/r/a"


def with_run(limits: Limits | None = None, **args: Any) -> World:
    return World(limits).init(**args).config().run()


def new(world: World, **args: Any) -> Outcome:
    return world.do(c.NewAcq(**{"storage_id": "s", "run_name": "r", "acq_name": "a", **args}))


# Opened


def test_an_acquisition_begins_as_its_first_segment() -> None:
    acq = new(with_run(), convert_script="convert", params={"x": 1}).reply
    assert (acq.acq_id, acq.run_id, acq.run_name, acq.acq_name) == (ACQ, "root/g/r", "r", "a")
    assert (acq.segment, acq.state, acq.sealed, acq.verdict, acq.conversion) == (1, "open", False, None, None)
    assert (acq.convert_script, acq.params, acq.finished_at, acq.reason) == ("convert", {"x": 1}, None, "")
    assert (acq.location.path, acq.location.local_path) == ("r/a", "/data/r/a")


def test_the_base_run_groups_folder_lies_around_it() -> None:
    acq = new(World().init(brg_path="beam/may").config().run()).reply
    assert acq.location.path == "beam/may/r/a"


def test_an_unknown_run_has_no_acquisitions() -> None:
    outcome = new(with_run(), run_name="other")
    assert (outcome.code, outcome.reply.details) == ("not_found", {"what": "run", "id": "root/g/other"})


def test_a_folder_that_cannot_be_made_refuses_and_changes_nothing() -> None:
    world = with_run()
    before = world.records()
    failed = Failed("unavailable", "The mount point is not there.", {"reason": "mount"})
    outcome = world.do(c.NewAcq(storage_id="s", run_name="r", acq_name="a"), failed)
    assert (outcome.code, outcome.types, outcome.reply.details) == ("unavailable", [], {"reason": "mount"})
    assert world.records() == before


@pytest.mark.parametrize("inner", ["a/b", "a/b/c"])
def test_an_acquisition_lies_in_no_other_one(inner: str) -> None:
    world = with_run().acq()
    assert new(world, acq_name=inner).code == "invalid_name"


def test_an_acquisition_lies_around_no_other_one() -> None:
    world = with_run().acq(acq_name="a/b")
    assert new(world, acq_name="a").code == "invalid_name"


def test_acquisitions_lie_side_by_side() -> None:
    world = with_run().acq(acq_name="a/b").acq(acq_name="a/c").acq(acq_name="ab")
    assert world.storage().open_acqs == ("root/g/r/a/b", "root/g/r/a/c", "root/g/r/ab")


def test_a_node_of_another_kind_is_no_acquisition() -> None:
    world = with_run().init("t", brg_name="a", brg_parent_id="root/g", brg_path="t", use_rundb=False).config("t")
    world.run("t", "b")
    assert new(world, run_name="a", acq_name="b").code == "not_found"


# Joined


def test_an_open_acquisition_is_joined_and_keeps_its_progress() -> None:
    world = with_run(producers_count=2).acq().mark("p1")
    before = world.records()
    outcome = new(world)
    assert (outcome.types, outcome.reply.finished, outcome.reply.segment) == ([], 1, 1)
    assert outcome.intents == []
    assert world.records() == before


OPENING: dict[str, Any] = {
    "convert_script": "convert",
    "params": {"x": 1},
    "producers_count": 2,
    "producers": ("p1", "p2"),
}


def test_joining_with_what_was_given_at_the_opening_is_joining() -> None:
    assert not new(with_run().acq(**OPENING), **OPENING).code


def test_joining_without_anything_is_joining() -> None:
    assert not new(with_run().acq(**OPENING)).code


@pytest.mark.parametrize(
    "other",
    [
        {"convert_script": "another"},
        {"params": {"x": 2}},
        {"params": {"x": 1, "y": 1}},
        {"producers_count": 3},
        {"producers_count": 0},
        {"producers": ("p1",)},
        {"producers": ()},
    ],
    ids=str,
)
def test_joining_with_other_values_is_refused(other: dict[str, Any]) -> None:
    world = with_run().acq(**OPENING)
    before = world.records()
    outcome = new(world, **{**OPENING, **other})
    assert (outcome.code, outcome.reply.details) == ("already_exists", {"what": "acquisition", "id": ACQ})
    assert world.records() == before


@pytest.mark.parametrize("other", [True, 1.0], ids=["a bool", "a float"])
def test_a_value_of_another_type_is_another_value(other: Any) -> None:
    assert new(with_run().acq(params={"x": 1}), params={"x": other}).code == "already_exists"


def test_joining_compares_with_the_opening_and_not_with_what_was_set_since() -> None:
    world = with_run().acq(params={"x": 1})
    world.must(c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=2))
    assert not new(world, params={"x": 1}).code
    assert new(world, params={"x": 2}).code == "already_exists"


# Opened again


def test_the_next_segment_resets_the_finish_and_keeps_the_rest() -> None:
    world = with_run(producers_count=2).acq(convert_script="first", params={"x": 1, "y": 1}).mark("p1", ok=False)
    first = world.close().seal().acquisition()
    acq = new(world, params={"y": 2, "z": 3}, producers=("q",), producers_count=1).reply
    assert (acq.uid, acq.segment, acq.state, acq.sealed) == (first.uid, 2, "open", False)
    assert (acq.verdict, acq.finished, acq.producers, acq.finished_at, acq.reason) == (None, 0, (), None, "")
    assert (acq.expected, acq.missing, acq.failed, acq.convert_script) == (1, ("q",), (), None)
    assert acq.params == {"x": 1, "y": 2, "z": 3}
    assert acq.started_at > first.started_at


def test_the_next_segment_expects_who_is_registered_now() -> None:
    world = with_run(producers_count=1).acq().close().seal().register("late")
    assert new(world).reply.missing == ("late",)


def test_opening_again_cancels_a_queued_conversion() -> None:
    world = with_run().acq(convert_script="convert").close().seal()
    outcome = new(world)
    assert outcome.types == ["conversion.cancelled", "acquisition.started"]
    assert world.conversion().reason == "opened again"
    assert (outcome.reply.conversion, world.acquisition().conversion) == ("cancelled", "cancelled")


def test_opening_again_lets_a_running_conversion_go_on() -> None:
    world = with_run().acq(convert_script="convert").close().seal().start()
    assert new(world).types == ["acquisition.started"]
    assert world.end() == ["conversion.succeeded"]
    assert world.acquisition().conversion == "succeeded"


def test_cancelling_an_older_segments_conversion_does_not_hide_the_newest_ones_state() -> None:
    world = with_run().acq(convert_script="convert").close().seal().start()
    world.end(exit_code=1)
    older = world.conversion().conversion_id
    world.acq(convert_script="convert").close().seal().start()
    world.end()
    assert world.acquisition().conversion == "succeeded"
    world.must(c.RetryConversion(conversion_id=older))
    assert new(world).types == ["conversion.cancelled", "acquisition.started"]
    assert world.acquisition().conversion == "succeeded"


# Removed


def test_removing_makes_it_anew_with_a_new_uid() -> None:
    world = with_run().acq(params={"x": 1}).close().seal()
    first = world.acquisition()
    outcome = new(world, mode="remove")
    assert outcome.types == ["acquisition.removed", "acquisition.started"]
    assert outcome.intents[0].order.set_aside == first.uid
    assert outcome.reply.uid != first.uid
    assert (outcome.reply.segment, outcome.reply.params, outcome.reply.conversion) == (1, {}, None)


def test_removing_what_is_not_there_is_making_it() -> None:
    world = with_run()
    outcome = new(world, mode="remove")
    assert outcome.types == ["acquisition.started"]
    assert outcome.intents[0].order.set_aside is not None


def test_removing_cancels_the_conversions_first_and_they_are_never_retried() -> None:
    world = with_run().acq(convert_script="convert").close().seal()
    outcome = new(world, mode="remove")
    assert outcome.types == ["conversion.cancelled", "acquisition.removed", "acquisition.started"]
    removed = world.conversion().conversion_id
    world.close().seal()
    retried = world.do(c.RetryConversion(conversion_id=removed))
    assert (retried.code, retried.reply.details["what"]) == ("wrong_state", "acquisition")
