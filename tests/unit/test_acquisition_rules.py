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


# Parameters


def test_a_parameter_is_set_and_told_each_time() -> None:
    world = with_run().acq(params={"x": 1})
    command = c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=1)
    for _ in range(2):
        outcome = world.do(command)
        assert (outcome.types, outcome.reply) == (["acquisition.param_set"], {"stored": True})


def test_without_rundb_a_parameter_is_not_stored() -> None:
    world = with_run(use_rundb=False).acq()
    outcome = world.do(c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=1))
    assert (outcome.types, outcome.reply) == ([], {"stored": False})
    assert world.acquisition().params == {}


@pytest.mark.parametrize(
    ("limits", "limit"),
    [(Limits(params=2), "params"), (Limits(params_bytes=20), "params_bytes")],
)
def test_an_acquisition_takes_no_more_parameters_than_the_limit(limits: Limits, limit: str) -> None:
    world = with_run(limits).acq(params={"x": 1, "y": 2})

    def set_param(name: str, value: Any) -> Outcome:
        return world.do(c.SetParamAcq(storage_id="s", acq_id=ACQ, param=name, value=value))

    assert not set_param("x", 3).code
    refused = set_param("z", 3)
    assert (refused.code, refused.reply.details["limit"]) == ("too_large", limit)
    world.close().seal()
    again = new(world, params={"z": 3})
    assert (again.code, again.reply.details["limit"]) == ("too_large", limit)
    assert not new(world, params={"x": 4}).code


def test_the_size_of_the_parameters_is_kept_true() -> None:
    world = with_run(Limits(params_bytes=12)).acq(params={"x": "12345678"})
    assert world.acquisition().params_bytes == 9
    world.must(c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value="ä"))
    assert world.acquisition().params_bytes == 3
    world.must(c.SetParamAcq(storage_id="s", acq_id=ACQ, param="y", value=1))
    assert world.acquisition().params_bytes == 12
    assert world.do(c.SetParamAcq(storage_id="s", acq_id=ACQ, param="z", value=None)).code == "too_large"


# Misfits: another uid, another segment

MISFITS = [{"uid": "another"}, {"segment": 2}, {"uid": "another", "segment": 1}]


@pytest.mark.parametrize("misfit", MISFITS, ids=str)
@pytest.mark.parametrize(
    "command",
    [
        lambda **m: c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=1, **m),
        lambda **m: c.CloseAcq(storage_id="s", acq_id=ACQ, **m),
        lambda **m: c.AbortAcq(storage_id="s", acq_id=ACQ, **m),
    ],
    ids=["set_param", "close", "abort"],
)
def test_a_misfit_is_not_found_and_changes_nothing(command: Any, misfit: dict[str, Any]) -> None:
    world = with_run().acq()
    before = world.records()
    outcome = world.do(command(**misfit))
    assert (outcome.code, outcome.reply.details["what"]) == ("not_found", "acquisition")
    assert world.records() == before


@pytest.mark.parametrize("misfit", MISFITS, ids=str)
def test_a_misfit_mark_does_not_count(misfit: dict[str, Any]) -> None:
    world = with_run().acq()
    before = world.records()
    outcome = world.do(c.MarkAsFinished(storage_id="s", acq_id=ACQ, **misfit))
    assert (outcome.code, outcome.reply.counted, outcome.reply.segment) == ("", False, 1)
    assert world.records() == before


def test_what_fits_is_done() -> None:
    world = with_run().acq()
    acq = world.acquisition()
    assert not world.do(c.CloseAcq(storage_id="s", acq_id=ACQ, uid=acq.uid, segment=1)).code


# Marks without an acq_id


def test_a_mark_without_an_acq_id_is_for_the_one_that_is_open() -> None:
    world = with_run().acq().acq(acq_name="b").close()
    outcome = world.do(c.MarkAsFinished(storage_id="s"))
    assert (outcome.reply.acq_id, outcome.reply.counted) == ("root/g/r/b", True)


def test_a_mark_without_an_acq_id_needs_one_open_acquisition() -> None:
    assert world_of(0).do(c.MarkAsFinished(storage_id="s")).code == "not_found"
    several = world_of(2).do(c.MarkAsFinished(storage_id="s"))
    assert (several.code, several.reply.details) == ("bad_request", {"field": "acq_id"})


def world_of(acqs: int) -> World:
    world = with_run()
    for number in range(acqs):
        world.acq(acq_name=f"a{number}")
    return world


def test_the_last_mark_tells_mark_finish_and_conversion_in_this_order() -> None:
    world = with_run().acq(convert_script="convert")
    outcome = world.do(c.MarkAsFinished(storage_id="s", acq_id=ACQ, producer="p", summary={"events": 3}))
    assert outcome.types == ["acquisition.producer_finished", "acquisition.finished", "conversion.queued"]
    assert (outcome.reply.state, outcome.reply.finished, outcome.reply.expected) == ("finished", 1, 1)
    assert world.acquisition().marks[0].summary == {"events": 3}


def test_an_aborted_acquisition_is_not_converted() -> None:
    world = with_run().acq(convert_script="convert")
    outcome = world.do(c.AbortAcq(storage_id="s", acq_id=ACQ, reason="beam lost"))
    assert outcome.types == ["acquisition.aborted"]
    assert (outcome.reply.state, outcome.reply.reason, outcome.reply.verdict) == ("aborted", "beam lost", None)
