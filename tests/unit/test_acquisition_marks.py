"""Parameters and marks of acquisitions, sentence by sentence of SPEC 4.2, decided without a desk."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_protocol.limits import Limits
from tests.support.world import Outcome, World

ACQ = "root/g/r/a"


def with_run(limits: Limits | None = None, **args: Any) -> World:
    return World(limits).init(**args).config().run()


def new(world: World, **args: Any) -> Outcome:
    return world.do(c.NewAcq(**{"storage_id": "s", "run_name": "r", "acq_name": "a", **args}))


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
