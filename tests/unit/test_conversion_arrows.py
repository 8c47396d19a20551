"""Every arrow of a conversion's life, and everything that is no arrow. Written by hand from the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_service.rules import conversions
from storage_service.rules.conversions import Policy
from storage_service.rules.lifecycle import CONVERSION
from storage_service.rules.work import Ended
from tests.support.arrows import Arrow, as_drawn, as_tested, names, open_pairs, places
from tests.support.world import World

ACQ = "root/g/r/a"


def absent() -> World:
    return World().init().config().run().acq(convert_script="convert")


def queued() -> World:
    return absent().close().seal()


def running() -> World:
    return queued().start()


def succeeded() -> World:
    world = running()
    world.end()
    return world


def failed() -> World:
    world = running()
    world.end(exit_code=1)
    return world


def cancelled() -> World:
    world = queued()
    return world.must(cancel_of(world))


def cancel_of(world: World) -> c.CancelConversion:
    return c.CancelConversion(conversion_id=world.conversion().conversion_id, reason="no need")


def asked(make: Callable[..., Command], world: World) -> list[str]:
    outcome = world.do(make(conversion_id=world.conversion().conversion_id))
    assert not outcome.code, outcome.reply
    return outcome.types


def cancel(world: World) -> list[str]:
    return asked(c.CancelConversion, world)


def retry(world: World) -> list[str]:
    return asked(c.RetryConversion, world)


def start(world: World) -> list[str]:
    count = len(world.told)
    return [each.fact.TYPE for each in world.start().told[count:]]


def finish(world: World) -> list[str]:
    return world.do(c.CloseAcq(storage_id="s", acq_id=ACQ)).types


def open_again(world: World) -> list[str]:
    return world.do(c.NewAcq(storage_id="s", run_name="r", acq_name="a")).types


TWICE = Policy(max_attempts=2)
QUEUED, STARTED, FAILED = "conversion.queued", "conversion.started", "conversion.failed"
SUCCEEDED, CANCELLED = "conversion.succeeded", "conversion.cancelled"

# fmt: off
ARROWS = [
    Arrow("absent", "ACQUISITION_FINISHED", "", absent, finish, ["acquisition.finished", QUEUED], "queued",
          [QUEUED]),

    Arrow("queued", "START", "", queued, start, [STARTED], "running"),
    Arrow("queued", "cancel_conversion", "", queued, cancel, [CANCELLED], "cancelled"),
    Arrow("queued", "OPENED_AGAIN", "", queued, open_again, [CANCELLED, "acquisition.started"], "cancelled",
          [CANCELLED]),

    Arrow("running", "cancel_conversion", "", running, cancel, [], "running"),
    Arrow("running", "ENDED", "succeeded", running, lambda w: w.end("exited", 0), [SUCCEEDED], "succeeded"),
    Arrow("running", "ENDED", "cancelled", running, lambda w: w.end("cancelled", -15, cancel="no need"),
          [CANCELLED], "cancelled"),
    Arrow("running", "ENDED", "once more", running, lambda w: w.end("exited", 1, policy=TWICE),
          [QUEUED], "queued"),
    Arrow("running", "ENDED", "", running, lambda w: w.end("exited", 1), [FAILED], "failed"),

    Arrow("succeeded", "cancel_conversion", "", succeeded, cancel, [], "succeeded"),
    Arrow("succeeded", "retry_conversion", "", succeeded, retry, [QUEUED], "queued"),
    Arrow("failed", "cancel_conversion", "", failed, cancel, [], "failed"),
    Arrow("failed", "retry_conversion", "", failed, retry, [QUEUED], "queued"),
    Arrow("cancelled", "cancel_conversion", "", cancelled, cancel, [], "cancelled"),
    Arrow("cancelled", "retry_conversion", "", cancelled, retry, [QUEUED], "queued"),
]

REFUSED = [
    ("absent", "cancel_conversion", absent, c.CancelConversion, "not_found", None),
    ("absent", "retry_conversion", absent, c.RetryConversion, "not_found", None),
    ("queued", "retry_conversion", queued, c.RetryConversion, "wrong_state", "queued"),
    ("running", "retry_conversion", running, c.RetryConversion, "wrong_state", "running"),
]

# What the service itself meets in a state where it means nothing.
IGNORED = [
    ("queued", "ENDED", queued, lambda w: w.end()),
    ("succeeded", "ENDED", succeeded, lambda w: w.end(exit_code=1)),
    ("failed", "ENDED", failed, lambda w: w.end()),
    ("cancelled", "ENDED", cancelled, lambda w: w.end()),
    ("running", "OPENED_AGAIN", running, open_again),
    ("succeeded", "OPENED_AGAIN", succeeded, open_again),
    ("failed", "OPENED_AGAIN", failed, open_again),
    ("cancelled", "OPENED_AGAIN", cancelled, open_again),
]
# fmt: on


@pytest.mark.parametrize("arrow", ARROWS, ids=names(ARROWS))
def test_an_arrow_of_a_conversion(arrow: Arrow) -> None:
    world = arrow.start()
    assert world.conversion_state() == arrow.state
    assert arrow.go(world) == arrow.types
    assert world.conversion_state() == arrow.next


@pytest.mark.parametrize(
    ("state", "trigger", "begin", "make", "code", "standing"), REFUSED, ids=[f"{r[0]}-{r[1]}" for r in REFUSED]
)
def test_what_is_no_arrow_of_a_conversion_is_refused_and_changes_nothing(
    state: str,
    trigger: str,
    begin: Callable[[], World],
    make: Callable[..., Command],
    code: str,
    standing: str | None,
) -> None:
    world = begin()
    before = world.records()
    assert world.conversion_state() == state
    id = world.conversion().conversion_id if world.conversions() else "none"
    command = make(conversion_id=id)
    assert trigger == command.CMD
    outcome = world.do(command)
    assert (outcome.code, outcome.types) == (code, [])
    assert outcome.reply.details["what"] == "conversion"
    assert outcome.reply.details["id"] == id
    assert outcome.reply.details.get("state") == standing
    assert world.records() == before


@pytest.mark.parametrize(("state", "trigger", "begin", "act"), IGNORED, ids=[f"{i[0]}-{i[1]}" for i in IGNORED])
def test_what_means_nothing_to_a_conversion_leaves_it_alone(
    state: str, trigger: str, begin: Callable[[], World], act: Callable[[World], list[str]]
) -> None:
    world = begin()
    before = world.conversion()
    assert before.state == state
    assert not [each for each in act(world) if each.startswith("conversion.")]
    assert world.conversion() == before


def test_the_result_of_an_earlier_attempt_is_not_taken_for_the_running_one() -> None:
    world = running()
    first = world.conversion()
    world.end(exit_code=1)
    retry(world)
    world.start()
    assert world.conversion().attempt == first.attempt + 1
    late = Ended(first.conversion_id, first.attempt, "exited", 0)
    assert conversions.ended(world.state, late, None, Policy(), world.moment()) == ()


def test_every_row_of_the_conversion_table_has_one_line_here() -> None:
    assert sorted(places(ARROWS)) == sorted((row.state, row.trigger, row.guard) for row in CONVERSION)


def test_every_pair_without_a_row_has_one_line_here() -> None:
    states = ["absent", "queued", "running", "succeeded", "failed", "cancelled"]
    pairs = open_pairs(CONVERSION, states, ["cancel_conversion", "retry_conversion"])
    assert {(line[0], line[1]) for line in REFUSED} == pairs


def test_the_conversion_table_is_drawn_as_the_rules_behave() -> None:
    assert as_drawn(CONVERSION) == as_tested(ARROWS)
