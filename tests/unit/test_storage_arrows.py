"""Every arrow of a storage's life, and everything that is no arrow. Written by hand from the contract."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules import silence
from storage_service.rules.lifecycle import STORAGE
from tests.support.arrows import Arrow, Refused, as_drawn, as_tested, names, open_pairs, places
from tests.support.world import World

ACQ = "root/g/r/a"


def absent() -> World:
    return World()


def ready() -> World:
    return World().init()


def ready_with_run() -> World:
    return World().init().config().run().inval()


def configured() -> World:
    return World().init().config().run()


def acquiring() -> World:
    return World().init().config().run().acq()


init = c.InitStorage(storage_id="s", brg_name="g")
other = c.InitStorage(storage_id="s", brg_name="h")
config = c.ConfigStorage(storage_id="s")
inval = c.InvalStorage(storage_id="s")
inval_forced = c.InvalStorage(storage_id="s", force=True)
deinit = c.DeinitStorage(storage_id="s")
deinit_forced = c.DeinitStorage(storage_id="s", force=True)
register = c.RegisterProducer(storage_id="s", producer="p")
unregister = c.UnregisterProducer(storage_id="s", producer="p")
new_run = c.NewRun(storage_id="s", run_name="new")
set_run = c.SetParamRun(storage_id="s", run_name="r", param="x", value=1)
new_acq = c.NewAcq(storage_id="s", run_name="r", acq_name="new")


def registered(start: str) -> World:
    """A storage in the state `start` that expects the producer p."""
    return {"ready": ready, "configured": configured, "acquiring": acquiring}[start]().register("p")


def lost(state: str) -> World:
    """A storage in this state that has lost the producer p."""
    world = acquiring().register("p")
    silent(world)
    if state == "configured":
        world.close(ACQ)
    elif state == "ready":
        world.inval(force=True)
    return world


def silent(world: World) -> list[str]:
    return [each.fact.TYPE for each in world.apply(silence.producers_silent(world.storage(), ["p"], 5.0))]


def heard(world: World) -> list[str]:
    return [each.fact.TYPE for each in world.apply(silence.producer_heard(world.storage(), "p"))]


def ends_last(world: World) -> list[str]:
    return world.do(c.CloseAcq(storage_id="s", acq_id=ACQ)).types


ABORTED, INVALIDATED, GONE = "acquisition.aborted", "storage.invalidated", "storage.deinitialized"
REGISTERED, UNREGISTERED = "storage.producer_registered", "storage.producer_unregistered"

LOST, BACK = "storage.producer_lost", "storage.producer_back"

# fmt: off
ARROWS = [
    Arrow("absent", "init_storage", "", absent, init, ["storage.initialized"], "ready"),
    Arrow("absent", "deinit_storage", "", absent, deinit, [], "absent"),

    Arrow("ready", "init_storage", "same args", ready, init, [], "ready"),
    Arrow("ready", "config_storage", "", ready, config, ["group.created", "storage.configured"], "configured"),
    Arrow("ready", "inval_storage", "", ready, inval, [], "ready"),
    Arrow("ready", "deinit_storage", "", ready, deinit, [GONE], "absent"),
    Arrow("ready", "register_producer_storage", "", ready, register, [REGISTERED], "ready"),
    Arrow("ready", "unregister_producer_storage", "", lambda: registered("ready"), unregister,
          [UNREGISTERED], "ready"),
    Arrow("ready", "set_param_run_storage", "", ready_with_run, set_run, ["run.param_set"], "ready"),

    Arrow("configured", "init_storage", "same args", configured, init, [], "configured"),
    Arrow("configured", "config_storage", "", configured, config, [], "configured"),
    Arrow("configured", "inval_storage", "", configured, inval, [INVALIDATED], "ready"),
    Arrow("configured", "deinit_storage", "forced", configured, deinit_forced, [INVALIDATED, GONE], "absent"),
    Arrow("configured", "register_producer_storage", "", configured, register, [REGISTERED], "configured"),
    Arrow("configured", "unregister_producer_storage", "", lambda: registered("configured"), unregister,
          [UNREGISTERED], "configured"),
    Arrow("configured", "new_run_storage", "", configured, new_run, ["run.created"], "configured"),
    Arrow("configured", "set_param_run_storage", "", configured, set_run, ["run.param_set"], "configured"),
    Arrow("configured", "new_acq_storage", "", configured, new_acq, ["acquisition.started"], "acquiring"),

    Arrow("acquiring", "init_storage", "same args", acquiring, init, [], "acquiring"),
    Arrow("acquiring", "config_storage", "", acquiring, config, [], "acquiring"),
    Arrow("acquiring", "inval_storage", "forced", acquiring, inval_forced, [ABORTED, INVALIDATED], "ready"),
    Arrow("acquiring", "deinit_storage", "forced", acquiring, deinit_forced,
          [ABORTED, INVALIDATED, GONE], "absent"),
    Arrow("acquiring", "register_producer_storage", "", acquiring, register, [REGISTERED], "acquiring"),
    Arrow("acquiring", "unregister_producer_storage", "", lambda: registered("acquiring"), unregister,
          [UNREGISTERED], "acquiring"),
    Arrow("acquiring", "new_run_storage", "", acquiring, new_run, ["run.created"], "acquiring"),
    Arrow("acquiring", "set_param_run_storage", "", acquiring, set_run, ["run.param_set"], "acquiring"),
    Arrow("acquiring", "new_acq_storage", "", acquiring, new_acq, ["acquisition.started"], "acquiring"),
    Arrow("acquiring", "PRODUCER_SILENT", "", lambda: registered("acquiring"), silent, [LOST], "acquiring"),
    Arrow("acquiring", "PRODUCER_HEARD", "", lambda: lost("acquiring"), heard, [BACK], "acquiring"),
    Arrow("configured", "PRODUCER_HEARD", "", lambda: lost("configured"), heard, [BACK], "configured"),
    Arrow("ready", "PRODUCER_HEARD", "", lambda: lost("ready"), heard, [BACK], "ready"),
    Arrow("acquiring", "LAST_ACQUISITION_ENDED", "", acquiring, ends_last, ["acquisition.finished"],
          "configured", []),
]

REFUSED = [
    Refused("absent", "config_storage", absent, config, "not_found"),
    Refused("absent", "inval_storage", absent, inval, "not_found"),
    Refused("absent", "register_producer_storage", absent, register, "not_found"),
    Refused("absent", "unregister_producer_storage", absent, unregister, "not_found"),
    Refused("absent", "new_run_storage", absent, new_run, "not_found"),
    Refused("absent", "set_param_run_storage", absent, set_run, "not_found"),
    Refused("absent", "new_acq_storage", absent, new_acq, "not_found"),

    Refused("ready", "init_storage", ready, other, "already_exists"),
    Refused("ready", "new_run_storage", ready, new_run, "wrong_state", "ready"),
    Refused("ready", "new_acq_storage", ready, new_acq, "wrong_state", "ready"),

    Refused("configured", "init_storage", configured, other, "already_exists"),
    Refused("configured", "deinit_storage", configured, deinit, "wrong_state", "configured"),

    Refused("acquiring", "init_storage", acquiring, other, "already_exists"),
    Refused("acquiring", "inval_storage", acquiring, inval, "wrong_state", "acquiring"),
    Refused("acquiring", "deinit_storage", acquiring, deinit, "wrong_state", "acquiring"),
]
# fmt: on


@pytest.mark.parametrize("arrow", ARROWS, ids=names(ARROWS))
def test_an_arrow_of_a_storage(arrow: Arrow) -> None:
    world = arrow.start()
    assert world.storage_state() == arrow.state
    assert arrow.go(world) == arrow.types
    assert world.storage_state() == arrow.next


@pytest.mark.parametrize("line", REFUSED, ids=names(REFUSED))
def test_what_is_no_arrow_of_a_storage_is_refused_and_changes_nothing(line: Refused) -> None:
    world = line.start()
    before = world.records()
    assert world.storage_state() == line.state
    assert line.trigger == line.command.CMD
    outcome = world.do(line.command)
    assert (outcome.code, outcome.types) == (line.code, [])
    assert outcome.reply.details["what"] == "storage"
    assert outcome.reply.details["id"] == "s"
    assert outcome.reply.details.get("state") == line.standing
    assert world.records() == before


def test_a_storage_in_the_wrong_state_tells_which_commands_it_has() -> None:
    assert ready().do(new_run).reply.details["allowed"] == [
        "config_storage",
        "deinit_storage",
        "init_storage",
        "inval_storage",
        "register_producer_storage",
        "set_param_run_storage",
        "unregister_producer_storage",
    ]


def test_every_row_of_the_storage_table_has_one_line_here() -> None:
    assert sorted(places(ARROWS)) == sorted((row.state, row.trigger, row.guard) for row in STORAGE)


def test_every_pair_without_a_row_has_one_line_here() -> None:
    states = ["absent", "ready", "configured", "acquiring"]
    triggers = sorted({row.trigger for row in STORAGE if row.trigger.islower()})
    pairs = open_pairs(STORAGE, states, triggers)
    assert {(line.state, line.trigger) for line in REFUSED} == pairs


def test_the_storage_table_is_drawn_as_the_rules_behave() -> None:
    assert as_drawn(STORAGE) == as_tested(ARROWS)
