"""How often a conversion is tried, and what is said of it (SPEC 4.5), decided without a desk."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules.conversions import Policy
from tests.support.world import World

ACQ = "root/g/r/a"


def running() -> World:
    return World().init().config().run().acq(convert_script="convert").close().seal().start()


def retry(world: World) -> World:
    return world.must(c.RetryConversion(conversion_id=world.conversion().conversion_id))


def test_attempts_are_numbered_and_the_id_stays() -> None:
    world = running()
    id = world.conversion().conversion_id
    world.end(exit_code=1, policy=Policy(max_attempts=2))
    assert (world.conversion().state, world.conversion().attempt) == ("queued", 1)
    world.start()
    assert (world.conversion().attempt, world.conversion().conversion_id) == (2, id)


def test_before_the_first_start_there_is_no_attempt() -> None:
    world = World().init().config().run().acq(convert_script="convert").close()
    conversion = world.conversion()
    assert (conversion.attempt, conversion.state, conversion.segment) == (0, "queued", 1)
    assert (conversion.acq_id, conversion.uid) == (ACQ, world.acquisition().uid)


def test_as_many_attempts_as_allowed_may_fail() -> None:
    world, policy, told = running(), Policy(max_attempts=3), []
    for _ in range(3):
        told += world.end(exit_code=2, policy=policy)
        if world.conversion().state == "queued":
            world.start()
    assert told == ["conversion.queued", "conversion.queued", "conversion.failed"]
    assert (world.conversion().reason, world.conversion().exit_code) == ("exit code 2", 2)


def test_each_wait_is_twice_the_one_before_and_never_over_five_minutes() -> None:
    world, policy, waits = running(), Policy(max_attempts=99, backoff_s=40.0), []
    for _ in range(5):
        world.end(exit_code=1, policy=policy)
        waits.append(world.conversion().not_before - world.wall)
        world.start()
    assert waits == [40.0, 80.0, 160.0, 300.0, 300.0]


def test_a_retry_starts_the_count_anew_and_waits_for_nothing() -> None:
    world, policy = running(), Policy(max_attempts=2)
    world.end(exit_code=1, policy=policy)
    world.start()
    world.end(exit_code=1, policy=policy)
    assert world.conversion().state == "failed"
    conversion = retry(world).conversion()
    assert (conversion.state, conversion.attempt, conversion.not_before, conversion.reason) == (
        "queued",
        2,
        0.0,
        "",
    )
    assert (conversion.started_at, conversion.ended_at, conversion.exit_code) == (None, None, None)
    world.start()
    assert world.end(exit_code=1, policy=policy) == ["conversion.queued"]


def test_a_timeout_is_failed_with_the_reason_said() -> None:
    world = running()
    assert world.end("timed_out", -9, reason="longer than 3600 s") == ["conversion.failed"]
    assert world.conversion().reason == "longer than 3600 s"


def test_a_script_that_could_not_be_started_is_failed() -> None:
    world = running()
    assert world.end("not_started", None, reason="it is not executable") == ["conversion.failed"]
    assert world.conversion().reason == "it is not executable"


def test_an_interrupted_attempt_does_not_count() -> None:
    world, policy = running(), Policy(max_attempts=1, max_interruptions=2)
    assert world.end("interrupted", None, policy=policy) == ["conversion.queued"]
    assert (world.conversion().tries, world.conversion().not_before) == (0, world.wall)
    world.start()
    assert world.end(exit_code=1, policy=policy) == ["conversion.failed"]


def test_interruptions_in_a_row_come_to_an_end() -> None:
    world, policy = running(), Policy(max_attempts=1, max_interruptions=3)
    for _ in range(10):
        world.end("interrupted", None, policy=policy)
        if world.conversion().state != "queued":
            break
        world.start()
    assert (world.conversion().state, world.conversion().reason) == ("failed", "interrupted")


def test_an_attempt_that_ends_by_itself_breaks_the_row() -> None:
    world, policy = running(), Policy(max_attempts=9, max_interruptions=2)
    for how in ("interrupted", "exited", "interrupted", "exited", "interrupted", "exited"):
        assert world.end(how, 1, policy=policy) == ["conversion.queued"]
        world.start()


# Cancelled


def test_an_attempt_whose_mount_point_is_away_waits_and_counts_for_nothing() -> None:
    world, policy = running(), Policy(max_attempts=1, max_interruptions=2)
    for attempt in (1, 2, 3):
        assert world.end("away", None, policy=policy, reason="It does not answer.") == ["conversion.queued"]
        found = world.conversion()
        assert (found.attempt, found.tries, found.interruptions) == (attempt, 0, 0)
        assert (found.not_before - world.wall, found.reason) == (10.0, "It does not answer.")
        world.start()
    assert world.end("interrupted", None, policy=policy) == ["conversion.queued"]


@pytest.mark.parametrize("how", ["interrupted", "away"])
def test_what_was_not_begun_is_cancelled_when_its_acquisition_was_opened_again(how: str) -> None:
    world = running().acq()
    assert world.end(how, None) == ["conversion.cancelled"]
    assert world.conversion().reason == "opened again"


@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
def test_an_attempt_that_was_cancelled_is_cancelled_with_the_clients_reason(how: str) -> None:
    world = running()
    assert world.end(how, -15, cancel="no need") == ["conversion.cancelled"]
    assert world.conversion().reason == "no need"


def test_a_script_that_was_done_before_the_cancel_has_succeeded() -> None:
    assert running().end("exited", 0, cancel="too late") == ["conversion.succeeded"]


@pytest.mark.parametrize(("how", "exit_code"), [("exited", 1), ("timed_out", -9), ("not_started", None)])
def test_a_conversion_that_was_cancelled_is_never_tried_once_more(how: str, exit_code: int | None) -> None:
    world = running()
    told = world.end(how, exit_code, cancel="no need", policy=Policy(max_attempts=5))
    assert told in (["conversion.cancelled"], ["conversion.failed"])


# While its acquisition is open again


def test_a_conversion_that_fails_while_its_acquisition_is_open_again_has_failed() -> None:
    world = running().acq()
    assert world.end("exited", 3) == ["conversion.failed"]
    assert world.conversion().reason == "exit code 3"


def test_a_conversion_is_not_tried_once_more_while_its_acquisition_is_open_again() -> None:
    world = running().acq()
    assert world.end("exited", 3, policy=Policy(max_attempts=5)) == ["conversion.failed"]
    assert world.conversion().reason == "exit code 3"


# What the acquisition tells


def test_the_acquisition_tells_the_state_of_its_newest_conversion() -> None:
    world = running()
    assert world.acquisition().conversion == "running"
    world.end(exit_code=1)
    assert world.acquisition().conversion == "failed"
    assert retry(world).acquisition().conversion == "queued"


def test_an_older_segments_conversion_does_not_speak_for_the_acquisition() -> None:
    world = running()
    older = world.conversion().conversion_id
    world.acq(convert_script="convert").close().seal()
    assert world.acquisition().conversion == "queued"
    world.end(conversion_id=older)
    assert world.acquisition().conversion == "queued"
