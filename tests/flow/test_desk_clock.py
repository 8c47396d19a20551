"""Time may lie: the host's clock jumps ten years, stands still, is wrong after a restart. Nothing waits for it."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_protocol.keys import uuid7
from storage_service.rules.conversions import Policy
from storage_service.rules.work import Failed
from tests.support.step_shell import ACQ, StepShell, close, init, new_acq, set_acq, with_acq

DAY = 86_400.0
YEARS = 3652 * DAY
REGISTER = c.RegisterProducer(storage_id="s")
jumps = pytest.mark.parametrize("jump", [YEARS, -YEARS], ids=["ahead", "back"])


def fresh(shell: StepShell, number: int = 0) -> str:
    """A key as a client makes it, by the service's clock."""
    return uuid7(int(shell.wall * 1000), number.to_bytes(10, "big"))


def unnamed(shell: StepShell) -> int:
    return int(shell.store.record(("storage", "s")).producers_unnamed)


# Keys


@jumps
@pytest.mark.parametrize("restarted", [False, True], ids=["in the same life", "over a restart"])
def test_a_jump_of_the_clock_forgets_no_key_within_a_day(jump: float, restarted: bool) -> None:
    shell = StepShell().must(init())
    keys = [fresh(shell), "plain"]
    first = [shell.call(REGISTER, key).result for key in keys]
    shell.wait(61)
    shell.wall += jump
    if restarted:
        shell.restart()
    shell.wait(DAY - 200)
    assert [shell.call(REGISTER, key).result for key in keys] == first
    assert unnamed(shell) == 2


@jumps
def test_jumps_there_and_back_over_restarts_forget_no_key_within_a_day(jump: float) -> None:
    shell = StepShell().must(init())
    first = shell.call(REGISTER, "plain")
    shell.wait(61)
    for move in (jump, -jump):
        shell.wall += move
        shell.restart().wait(DAY / 2 - 200)
        assert shell.call(REGISTER, "plain").result == first.result


def test_a_clock_that_stands_still_lets_keys_grow_old_all_the_same() -> None:
    shell = StepShell().must(init())
    first, wall = shell.call(REGISTER, "plain"), shell.wall
    for days, remembered in ((6, True), (2, False)):
        shell.wait(days * DAY)
        shell.wall = wall
        assert (shell.call(REGISTER, "plain").result == first.result) == remembered


def test_days_in_which_the_service_was_stopped_count() -> None:
    shell = StepShell().must(init())
    first = shell.call(REGISTER, "plain")
    shell.wait(61)
    shell.wall += 5 * DAY
    shell.restart().wait(DAY)
    assert shell.call(REGISTER, "plain").result == first.result
    shell.wait(1.1 * DAY)
    assert shell.call(REGISTER, "plain").result != first.result


@jumps
def test_a_fresh_key_is_taken_wherever_the_clock_has_been(jump: float) -> None:
    shell = StepShell().must(init())
    shell.wall += jump
    assert shell.call(REGISTER, fresh(shell)).ok
    shell.wait(7 * DAY + 200)  # the key is forgotten, with its time
    shell.wall -= jump
    for number in range(2):
        asked = fresh(shell, number)
        told = shell.call(REGISTER, asked)
        assert told.ok, told.error
        assert shell.call(REGISTER, asked).result == told.result
        shell.restart()
    assert unnamed(shell) == 3


# Waits


@jumps
def test_a_wait_for_a_seal_ends_after_its_five_seconds(jump: float) -> None:
    shell = with_acq()
    shell.door = lambda order: None
    shell.must(close())
    asked = shell.send(new_acq())
    shell.run()
    shell.wall += jump
    shell.wait(4.9)
    assert shell.told(asked) == [""]
    shell.wait(0.2)
    assert shell.told(asked) == ["unavailable"]


@jumps
def test_a_seal_that_failed_is_tried_again_in_time(jump: float) -> None:
    shell = with_acq()
    shell.door = lambda order: Failed("unavailable", "It is gone.", {"reason": "gone"})
    shell.must(close())
    assert not shell.record(("node", ACQ)).sealed
    shell.release()
    shell.wall += jump
    shell.wait(1.1)
    assert shell.record(("node", ACQ)).sealed


@jumps
@pytest.mark.parametrize("restarted", [False, True], ids=["in the same life", "over a restart"])
def test_the_next_attempt_of_a_conversion_waits_for_minutes_at_most(jump: float, restarted: bool) -> None:
    shell = with_acq("s.sh", policy=Policy(max_attempts=2, backoff_s=100.0)).must(close())
    (id,) = shell.scripts
    shell.end(id, exit_code=1)
    shell.wall += jump
    if restarted:
        shell.restart()
    shell.wait(301)
    assert [script.attempt for script in shell.started if script.conversion_id == id] == [1, 2]


# Order


@jumps
def test_a_life_over_which_the_clock_jumps_is_sound(jump: float) -> None:
    shell = with_acq("s.sh")
    for number in range(3):
        shell.wall += jump * (-1) ** number
        shell.must(set_acq(number), close(), new_acq(convert_script="s.sh"))
        shell.restart()
    shell.sound()
    assert shell.record(("node", ACQ)).params["x"] == 2
    assert shell.record(("node", ACQ)).segment == 4
