"""Storages, groups and runs, sentence by sentence of SPEC 4.1 and 4.2, decided without a desk."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_protocol.limits import Limits
from storage_service.rules.work import Failed, Taken
from tests.support.world import Outcome, World


def configured(limits: Limits | None = None, **args: Any) -> World:
    return World(limits).init(**args).config()


def new(world: World, run_name: str = "r", *results: Any, **args: Any) -> Outcome:
    return world.do(c.NewRun(storage_id="s", run_name=run_name, **args), *results)


# Storages


@pytest.mark.parametrize(
    "other",
    [
        {"brg_path": "x"},
        {"use_rundb": False},
        {"stats_names": ("a",)},
        {"producers_count": 2},
        {"brg_mp": "nfs://x"},
    ],
    ids=str,
)
def test_the_same_id_with_other_arguments_is_another_storage(other: dict[str, Any]) -> None:
    outcome = World().init().do(c.InitStorage(storage_id="s", **{"brg_name": "g", **other}))
    assert (outcome.code, outcome.reply.details) == ("already_exists", {"what": "storage", "id": "s"})
    assert next(iter(other)) in outcome.reply.message


def test_the_group_is_created_by_the_first_config_only() -> None:
    world = World().init()
    assert world.do(c.ConfigStorage(storage_id="s")).types == ["group.created", "storage.configured"]
    world.inval()
    assert world.do(c.ConfigStorage(storage_id="s")).types == ["storage.configured"]


def test_the_parent_of_the_group_must_be_there() -> None:
    world = World().init(brg_parent_id="root/p")
    outcome = world.do(c.ConfigStorage(storage_id="s"))
    assert (outcome.code, outcome.reply.details) == ("not_found", {"what": "group", "id": "root/p"})
    assert world.storage_state() == "ready"
    world.must(c.NewGroup(name="p"))
    assert world.do(c.ConfigStorage(storage_id="s")).types == ["group.created", "storage.configured"]


def test_the_parent_of_the_group_must_be_a_group() -> None:
    world = configured().run()
    world.init("t", brg_name="h", brg_parent_id="root/g/r")
    assert world.do(c.ConfigStorage(storage_id="t")).code == "not_found"


def test_a_mount_point_that_does_not_answer_leaves_the_storage_ready() -> None:
    world = World().init()
    outcome = world.do(c.ConfigStorage(storage_id="s"), Failed("unavailable", "It hangs.", {"reason": "mount"}))
    assert (outcome.code, outcome.types, world.storage_state()) == ("unavailable", [], "ready")


def test_storages_share_a_group_of_one_place() -> None:
    world = configured().init("t").config("t")
    assert world.storage_state("t") == "configured"


@pytest.mark.parametrize("other", [{"brg_path": "x"}, {"brg_mp": "nfs://x"}], ids=str)
def test_a_group_that_is_elsewhere_is_another_one(other: dict[str, Any]) -> None:
    world = configured().init("t", **other)
    outcome = world.do(c.ConfigStorage(storage_id="t"))
    assert (outcome.code, outcome.reply.details["id"]) == ("already_exists", "root/g")


def test_a_group_that_only_keeps_its_place_is_created_when_a_storage_wants_it_in_the_rundb() -> None:
    world = World().init(use_rundb=False)
    assert world.do(c.ConfigStorage(storage_id="s")).types == ["storage.configured"]
    world.init("t")
    assert world.do(c.ConfigStorage(storage_id="t")).types == ["group.created", "storage.configured"]


def test_without_rundb_the_parent_of_the_group_need_not_be_there() -> None:
    world = World().init(use_rundb=False, brg_parent_id="root/nowhere").config()
    assert world.storage_state() == "configured"


def test_a_forced_inval_aborts_what_is_open_first() -> None:
    world = configured().run().acq(acq_name="a").acq(acq_name="b")
    outcome = world.do(c.InvalStorage(storage_id="s", force=True))
    assert outcome.types == ["acquisition.aborted", "acquisition.aborted", "storage.invalidated"]
    assert [event.subject for event in outcome.events[:2]] == ["root/g/r/a", "root/g/r/b"]
    assert (outcome.reply.state, outcome.reply.open_acqs) == ("ready", ())


def test_a_forced_deinit_aborts_invalidates_and_deinitializes() -> None:
    world = configured().run().acq(acq_name="a").acq(acq_name="b")
    outcome = world.do(c.DeinitStorage(storage_id="s", force=True))
    aborted = ["acquisition.aborted"] * 2
    assert outcome.types == [*aborted, "storage.invalidated", "storage.deinitialized"]
    assert (outcome.reply, world.storage_state()) == ({}, "absent")
    assert world.acq_state("root/g/r/a") == "aborted"


def test_a_named_producer_is_registered_once_and_an_unnamed_one_each_time() -> None:
    world = configured().register("p").register(None)
    assert world.do(c.RegisterProducer(storage_id="s", producer="p")).types == []
    outcome = world.do(c.RegisterProducer(storage_id="s"))
    assert (outcome.reply.producers, outcome.reply.producers_unnamed) == (("p",), 2)


def test_unregistering_who_is_not_registered_changes_nothing() -> None:
    assert configured().do(c.UnregisterProducer(storage_id="s", producer="p")).types == []


# Groups


def test_the_same_group_again_changes_nothing_and_another_one_is_refused() -> None:
    world = World()
    command = c.NewGroup(name="g", path="x")
    assert world.do(command).types == ["group.created"]
    assert (world.do(command).types, world.do(command).reply.id) == ([], "root/g")
    assert world.do(c.NewGroup(name="g", path="y")).code == "already_exists"
    assert world.do(c.NewGroup(name="h", parent_id="root/none")).code == "not_found"


# Runs


def test_a_run_is_created_with_its_parameters_in_one_event() -> None:
    outcome = new(configured(brg_path="beam"), params={"x": 1})
    run = outcome.reply
    assert outcome.types == ["run.created"]
    assert (run.run_id, run.run_name, run.storage_id, run.params) == ("root/g/r", "r", "s", {"x": 1})
    assert (run.location.path, run.location.url) == ("beam/r", "file:///data/beam/r")


def test_append_reuses_a_run_and_sets_its_parameters() -> None:
    world = configured()
    first = new(world, params={"x": 1}).reply
    outcome = new(world, params={"x": 1, "y": 2})
    assert outcome.types == ["run.param_set", "run.param_set"]
    assert (outcome.reply.uid, outcome.reply.params) == (first.uid, {"x": 1, "y": 2})
    assert new(world).types == []


def test_a_reused_run_takes_no_more_parameters_than_the_configured_limit() -> None:
    world = configured(Limits(params=2)).run(params={"x": 1, "y": 2})
    refused = new(world, params={"z": 3})
    assert (refused.code, refused.types) == ("too_large", [])
    assert refused.reply.details["limit"] == "params"
    assert not new(world, params={"x": 3}).code


def test_a_parameter_is_set_on_a_run_and_told_each_time() -> None:
    world = configured(Limits(params=2)).run(params={"x": 1})

    def set_param(param: str, value: Any) -> Outcome:
        return world.do(c.SetParamRun(storage_id="s", run_name="r", param=param, value=value))

    assert (set_param("y", None).types, set_param("y", None).types) == (["run.param_set"], ["run.param_set"])
    assert world.a_run().params == {"x": 1, "y": None}
    assert set_param("z", 1).code == "too_large"


def test_a_parameter_of_an_unknown_run_is_not_found() -> None:
    outcome = configured().do(c.SetParamRun(storage_id="s", run_name="r", param="x", value=1))
    assert (outcome.code, outcome.reply.details["what"]) == ("not_found", "run")


def test_without_rundb_a_runs_parameter_is_not_stored() -> None:
    world = configured(use_rundb=False).run()
    outcome = world.do(c.SetParamRun(storage_id="s", run_name="r", param="x", value=1))
    assert (outcome.types, outcome.reply, world.a_run().params) == ([], {"stored": False}, {})


def test_a_folder_that_cannot_be_made_refuses_and_changes_nothing() -> None:
    world = configured()
    before = world.records()
    outcome = new(world, "r", Failed("already_exists", "It is another's.", {"what": "run", "id": "x"}))
    assert (outcome.code, outcome.types) == ("already_exists", [])
    assert world.records() == before


# Removed


def test_remove_sets_the_run_aside_with_its_acquisitions_told_first() -> None:
    world = configured().run(params={"x": 1}).acq(acq_name="a").acq(acq_name="b")
    world.close("root/g/r/a").close("root/g/r/b").seal("root/g/r/a").seal("root/g/r/b")
    first = world.a_run()
    outcome = new(world, mode="remove")
    removed = ["acquisition.removed"] * 2
    assert outcome.types == [*removed, "run.removed", "run.created"]
    assert outcome.intents[0].order.set_aside == first.uid
    assert outcome.reply.uid != first.uid
    assert outcome.reply.params == {}
    assert world.acq_state("root/g/r/a") == "absent"


def test_remove_is_refused_while_an_acquisition_is_open() -> None:
    world = configured().run().acq()
    before = world.records()
    outcome = new(world, mode="remove")
    assert (outcome.code, outcome.reply.details["state"]) == ("wrong_state", "open")
    assert world.records() == before


def test_remove_waits_while_an_acquisition_is_being_sealed() -> None:
    assert new(configured().run().acq().close(), mode="remove").code == "waits"


def test_remove_cancels_the_conversions_of_the_run_first() -> None:
    world = configured().run().acq(convert_script="convert").close().seal()
    outcome = new(world, mode="remove")
    assert outcome.types == ["conversion.cancelled", "acquisition.removed", "run.removed", "run.created"]
    assert world.do(c.RetryConversion(conversion_id=world.conversion().conversion_id)).code == "wrong_state"


def test_remove_of_what_is_not_there_is_creating_it() -> None:
    assert new(configured(), mode="remove").types == ["run.created"]


# {n}


def numbered(world: World, *patterns: str) -> list[str]:
    return [new(world, pattern).reply.run_name for pattern in patterns]


def test_numbers_begin_at_one_and_go_up() -> None:
    assert numbered(configured(), "r{n}", "r{n}", "r{n:03}") == ["r1", "r2", "r003"]


def test_each_text_around_the_number_counts_for_itself() -> None:
    assert numbered(configured(), "a{n}", "b{n}", "a{n}x", "a{n}") == ["a1", "b1", "a1x", "a2"]


def test_each_base_run_group_counts_for_itself() -> None:
    world = configured().init("t", brg_name="h", brg_path="h").config("t")
    assert numbered(world, "r{n}", "r{n}") == ["r1", "r2"]
    assert world.do(c.NewRun(storage_id="t", run_name="r{n}")).reply.run_name == "r1"


def test_storages_that_share_a_group_share_its_numbers() -> None:
    world = configured().init("t").config("t")
    assert numbered(world, "r{n}") == ["r1"]
    assert world.do(c.NewRun(storage_id="t", run_name="r{n}")).reply.run_name == "r2"


def test_a_number_whose_run_exists_is_skipped() -> None:
    assert numbered(configured().run("s", "r1").run("s", "r2"), "r{n}") == ["r3"]


def test_a_number_whose_folder_exists_is_skipped() -> None:
    world = configured()
    outcome = new(world, "r{n}", Taken(), Taken())
    assert (outcome.reply.run_name, outcome.types) == ("r3", ["run.created"])
    assert [intent.order.fresh for intent in outcome.intents] == [True, True, True]
    assert numbered(world, "r{n}") == ["r4"]


def test_a_number_is_never_taken_again() -> None:
    world = configured()
    numbered(world, "r{n}", "r{n}")
    world.deinit().init().config()
    assert numbered(world, "r{n}") == ["r3"]


def test_a_number_that_makes_the_name_too_long_is_refused() -> None:
    world, pattern = configured(), "r" * 127 + "{n}"
    numbered(world, *[pattern] * 9)
    outcome = new(world, pattern)
    assert (outcome.code, outcome.reply.details["rule"]) == ("invalid_name", "segment")


def test_a_node_that_is_no_run_keeps_its_id() -> None:
    world = configured().must(c.NewGroup(name="r", parent_id="root/g"))
    assert (new(world).code, new(world).reply.details["id"]) == ("already_exists", "root/g/r")
