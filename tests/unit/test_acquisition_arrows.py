"""Every arrow of an acquisition's life, and everything that is no arrow. Written by hand from the contract."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules import facts, silence
from storage_service.rules.facts import Event
from storage_service.rules.lifecycle import ACQUISITION
from tests.support.arrows import Arrow, Refused, as_drawn, as_tested, names, open_pairs, places
from tests.support.world import World

ACQ = "root/g/r/a"


def absent() -> World:
    return World().init(producers_count=2).config().run()


def opened() -> World:
    return absent().acq()


def one_missing() -> World:
    return opened().mark("p1")


def one_silent() -> World:
    """p1 has marked, p2 is the other name that it waits for."""
    return World().init().register("p1").register("p2").config().run().acq().mark("p1")


def time_is_over(world: World) -> list[str]:
    events = silence.finish_timed_out(world.acquisition(), 5.0, world.moment())
    return [each.fact.TYPE for each in world.apply(events)]


def nobody_else(world: World) -> list[str]:
    events = silence.others_marked(world.acquisition(), ["p2"], world.moment())
    return [each.fact.TYPE for each in world.apply(events)]


def finished() -> World:
    return opened().close().seal()


def unsealed() -> World:
    return opened().close()


def aborted() -> World:
    return opened().abort().seal()


def aborted_unsealed() -> World:
    return opened().abort()


def converted() -> World:
    """Finished and sealed, with a conversion that was done."""
    world = absent().acq(convert_script="convert").close().seal().start()
    world.end()
    return world


def opened_again() -> World:
    """Open, with a conversion of the segment before."""
    return converted().acq()


def aborted_again() -> World:
    return opened_again().abort().seal()


new = c.NewAcq(storage_id="s", run_name="r", acq_name="a")
new_removing = c.NewAcq(storage_id="s", run_name="r", acq_name="a", mode="remove")
set_param = c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=1)
mark = c.MarkAsFinished(storage_id="s", acq_id=ACQ, producer="p1")
last = c.MarkAsFinished(storage_id="s", acq_id=ACQ, producer="p2")
close = c.CloseAcq(storage_id="s", acq_id=ACQ)
abort = c.AbortAcq(storage_id="s", acq_id=ACQ)


def retry(world: World) -> list[str]:
    outcome = world.do(c.RetryConversion(conversion_id=world.conversion().conversion_id))
    assert not outcome.code, outcome.reply
    return outcome.types


def seal(world: World) -> list[str]:
    return [each.fact.TYPE for each in world.apply([Event(facts.AcqSealed(ACQ), "s", ACQ)])]


STARTED, REMOVED, MARKED = "acquisition.started", "acquisition.removed", "acquisition.producer_finished"
FINISHED, ABORTED, SEALED = "acquisition.finished", "acquisition.aborted", "acquisition.sealed"

# fmt: off
ARROWS = [
    Arrow("absent", "new_acq_storage", "", absent, new, [STARTED], "open"),

    Arrow("open", "new_acq_storage", "append", opened, new, [], "open"),
    Arrow("open", "set_param_acq_storage", "", opened, set_param, ["acquisition.param_set"], "open"),
    Arrow("open", "mark_as_finished_storage", "misfit", one_missing, mark, [], "open"),
    Arrow("open", "mark_as_finished_storage", "last", one_missing, last, [MARKED, FINISHED], "finished"),
    Arrow("open", "mark_as_finished_storage", "", opened, mark, [MARKED], "open"),
    Arrow("open", "close_acq_storage", "", opened, close, [FINISHED], "finished"),
    Arrow("open", "abort_acq_storage", "", opened, abort, [ABORTED], "aborted"),

    Arrow("finished", "new_acq_storage", "append", finished, new, [STARTED], "open"),
    Arrow("finished", "new_acq_storage", "remove", finished, new_removing, [REMOVED, STARTED], "open"),
    Arrow("finished", "mark_as_finished_storage", "", finished, mark, [], "finished"),
    Arrow("finished", "close_acq_storage", "", finished, close, [], "finished"),
    Arrow("finished", "retry_conversion", "", converted, retry, ["conversion.queued"], "finished"),
    Arrow("open", "FINISH_TIMEOUT", "", one_missing, time_is_over, [FINISHED], "finished"),
    Arrow("open", "ALL_OTHERS_MARKED", "", one_silent, nobody_else, [FINISHED], "finished"),
    Arrow("finished", "SEALED", "", unsealed, seal, [SEALED], "finished"),

    Arrow("aborted", "new_acq_storage", "append", aborted, new, [STARTED], "open"),
    Arrow("aborted", "new_acq_storage", "remove", aborted, new_removing, [REMOVED, STARTED], "open"),
    Arrow("aborted", "mark_as_finished_storage", "", aborted, mark, [], "aborted"),
    Arrow("aborted", "abort_acq_storage", "", aborted, abort, [], "aborted"),
    Arrow("aborted", "SEALED", "", aborted_unsealed, seal, [SEALED], "aborted"),
]

REFUSED = [
    Refused("absent", "set_param_acq_storage", absent, set_param, "not_found"),
    Refused("absent", "mark_as_finished_storage", absent, mark, "not_found"),
    Refused("absent", "close_acq_storage", absent, close, "not_found"),
    Refused("absent", "abort_acq_storage", absent, abort, "not_found"),

    Refused("open", "new_acq_storage", opened, new_removing, "wrong_state", "open"),

    Refused("finished", "set_param_acq_storage", finished, set_param, "wrong_state", "finished"),
    Refused("finished", "abort_acq_storage", finished, abort, "wrong_state", "finished"),

    Refused("aborted", "set_param_acq_storage", aborted, set_param, "wrong_state", "aborted"),
    Refused("aborted", "close_acq_storage", aborted, close, "wrong_state", "aborted"),
]
# A conversion of an acquisition that is not finished: its id is only known when the world is there.
NOT_RETRIED = [("open", opened_again), ("aborted", aborted_again)]
# append and remove are all the modes that there are; without an acquisition there is no conversion of it.
NO_OTHER_WAY = {
    ("finished", "new_acq_storage"),
    ("aborted", "new_acq_storage"),
    ("absent", "retry_conversion"),
}
# fmt: on


@pytest.mark.parametrize("arrow", ARROWS, ids=names(ARROWS))
def test_an_arrow_of_an_acquisition(arrow: Arrow) -> None:
    world = arrow.start()
    assert world.acq_state(ACQ) == arrow.state
    assert arrow.go(world) == arrow.types
    assert world.acq_state(ACQ) == arrow.next


@pytest.mark.parametrize("line", REFUSED, ids=names(REFUSED))
def test_what_is_no_arrow_of_an_acquisition_is_refused_and_changes_nothing(line: Refused) -> None:
    world = line.start()
    before = world.records()
    assert world.acq_state(ACQ) == line.state
    assert line.trigger == line.command.CMD
    outcome = world.do(line.command)
    assert (outcome.code, outcome.types) == (line.code, [])
    assert outcome.reply.details["what"] == "acquisition"
    assert outcome.reply.details["id"] == ACQ
    assert outcome.reply.details.get("state") == line.standing
    assert world.records() == before


@pytest.mark.parametrize(("standing", "start"), NOT_RETRIED, ids=[state for state, _ in NOT_RETRIED])
def test_a_conversion_is_retried_only_while_its_acquisition_is_finished(standing: str, start: object) -> None:
    world = start()  # type: ignore[operator]
    before = world.records()
    assert world.acq_state(ACQ) == standing
    outcome = world.do(c.RetryConversion(conversion_id=world.conversion().conversion_id))
    assert (outcome.code, outcome.types) == ("wrong_state", [])
    assert outcome.reply.details["what"] == "acquisition"
    assert outcome.reply.details["state"] == standing
    assert world.records() == before


def test_an_acquisition_in_the_wrong_state_tells_which_commands_it_has() -> None:
    assert finished().do(abort).reply.details["allowed"] == [
        "close_acq_storage",
        "mark_as_finished_storage",
        "new_acq_storage",
        "retry_conversion",
    ]


@pytest.mark.parametrize("command", [new, new_removing], ids=["append", "remove"])
@pytest.mark.parametrize("start", [unsealed, aborted_unsealed])
def test_an_acquisition_that_is_being_sealed_is_waited_for(start: object, command: c.NewAcq) -> None:
    world = start()  # type: ignore[operator]
    before = world.records()
    outcome = world.do(command)
    assert (outcome.code, outcome.types) == ("waits", [])
    assert world.records() == before


def test_every_row_of_the_acquisition_table_has_one_line_here() -> None:
    assert sorted(places(ARROWS)) == sorted((row.state, row.trigger, row.guard) for row in ACQUISITION)


def test_every_pair_without_a_row_has_one_line_here() -> None:
    states = ["absent", "open", "finished", "aborted"]
    triggers = sorted({row.trigger for row in ACQUISITION if row.trigger.islower()})
    lines = {(line.state, line.trigger) for line in REFUSED}
    lines |= {(state, "retry_conversion") for state, _ in NOT_RETRIED}
    # A misfit or uncounted mark has a row; so has every other one.
    assert lines == open_pairs(ACQUISITION, states, triggers) - NO_OTHER_WAY


def test_the_acquisition_table_is_drawn_as_the_rules_behave() -> None:
    assert as_drawn(ACQUISITION) == as_tested(ARROWS)
