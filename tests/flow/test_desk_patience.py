"""`finish_timeout_s` and `producer_timeout_s` (SPEC 4.2.13): on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.limits import Limits
from storage_service.desk.messages import Opened
from tests.support.step_shell import ACQ, StepShell, close, config, init, new_acq, new_run

LOST, BACK = "storage.producer_lost", "storage.producer_back"
FINISHED = "acquisition.finished"


def mark(producer: str | None = None, acq_id: str = ACQ) -> c.MarkAsFinished:
    return c.MarkAsFinished(storage_id="s", acq_id=acq_id, producer=producer)


def heartbeat(producer: str) -> c.HeartbeatProducer:
    return c.HeartbeatProducer(storage_id="s", producer=producer)


def register(producer: str) -> c.RegisterProducer:
    return c.RegisterProducer(storage_id="s", producer=producer)


PING = c.Ping()


def opened(*producers: str, **arguments: Any) -> StepShell:
    """An open acquisition that waits for these producers; its time-outs are `arguments` of the storage."""
    shell = StepShell().must(init(**arguments), config(), new_run())
    for producer in producers:
        shell.call(register(producer), peer=b"register " + producer.encode())
    return shell.must(new_acq())


def state(shell: StepShell, acq_id: str = ACQ) -> tuple[str, str | None]:
    acq = shell.record(("node", acq_id))
    return acq.state, acq.verdict


def lost(shell: StepShell) -> list[str]:
    return list(shell.record(("storage", "s")).lost)


def count(shell: StepShell, type_: str) -> int:
    return sum(row.topic.startswith(f"{type_}/") for row in shell.store.journal)


# finish_timeout_s


def test_the_first_mark_starts_the_wait_for_the_others() -> None:
    shell = opened("a", "b", finish_timeout_s=10.0)
    shell.wait(1000.0)
    assert state(shell) == ("open", None)
    shell.must(mark("a")).wait(9.9)
    assert state(shell) == ("open", None)
    shell.wait(0.2)
    assert state(shell) == ("finished", "partial")
    assert shell.types().count(FINISHED) == 1
    shell.sound()


def test_a_mark_that_does_not_count_starts_no_wait() -> None:
    shell = opened("a", finish_timeout_s=10.0)
    assert shell.call(mark("nobody")).result["counted"] is False
    shell.wait(100.0)
    assert state(shell) == ("open", None)


def test_a_second_mark_does_not_begin_the_wait_anew() -> None:
    shell = opened("a", "b", "c", finish_timeout_s=10.0).must(mark("a")).wait(6.0).must(mark("b")).wait(4.1)
    assert state(shell) == ("finished", "partial")


def test_the_last_mark_is_in_time() -> None:
    shell = opened("a", "b", finish_timeout_s=10.0).must(mark("a")).wait(9.0).must(mark("b"))
    assert state(shell) == ("finished", "complete")
    shell.wait(100.0)
    assert count(shell, FINISHED) == 1


def test_the_next_segment_waits_for_its_own_first_mark() -> None:
    shell = opened("a", "b", finish_timeout_s=10.0).must(mark("a"))
    shell.must(close(), new_acq()).wait(50.0)
    assert state(shell) == ("open", None)
    shell.must(mark("a")).wait(10.1)
    assert state(shell) == ("finished", "partial")


def test_after_a_restart_the_time_that_is_left_is_waited_for() -> None:
    shell = opened("a", "b", finish_timeout_s=10.0).must(mark("a")).wait(4.0)
    shell.restart().wait(5.9)
    assert state(shell) == ("open", None)
    shell.wait(0.2)
    assert state(shell) == ("finished", "partial")


@pytest.mark.parametrize(("jump", "over_after"), [(-1e9, 10.0), (1e9, 0.0)])
def test_a_clock_that_jumped_while_the_service_was_away_ends_the_wait_within_its_bounds(
    jump: float, over_after: float
) -> None:
    shell = opened("a", "b", finish_timeout_s=10.0).must(mark("a")).wait(4.0)
    shell.wall += jump
    shell.restart()
    if over_after:
        shell.wait(over_after - 0.1)
        assert state(shell) == ("open", None)
    shell.wait(0.2)
    assert state(shell) == ("finished", "partial")


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_no_wait(jump: float) -> None:
    shell = opened("a", "b", "c", finish_timeout_s=10.0, producer_timeout_s=30.0).must(mark("a"))
    shell.wall += jump
    shell.must(mark("b")).wait(9.9)  # the mark makes the desk look at the wait while the clock is wrong
    assert state(shell) == ("open", None)
    shell.wait(0.2)
    assert state(shell) == ("finished", "partial")


# producer_timeout_s


def test_a_silent_producer_is_lost_and_not_waited_for() -> None:
    shell = opened("a", "b", producer_timeout_s=5.0)
    shell.wait(3.0).must(mark("a")).wait(1.9)
    assert (lost(shell), state(shell)) == ([], ("open", None))
    shell.wait(0.2)
    assert (lost(shell), state(shell)) == (["b"], ("finished", "partial"))
    assert shell.types()[-3:] == [LOST, FINISHED, "acquisition.sealed"]
    shell.sound()


def test_a_lost_producer_ends_nothing_while_another_is_waited_for() -> None:
    shell = opened("a", "b", producer_timeout_s=5.0).wait(3.0)
    shell.call(heartbeat("a"), peer=b"a")
    shell.wait(2.1)
    assert (lost(shell), state(shell)) == (["b"], ("open", None))
    shell.call(mark("a"), peer=b"a")
    assert state(shell) == ("finished", "partial")


def test_who_has_marked_is_not_lost_by_its_silence() -> None:
    shell = opened("a", "b", producer_timeout_s=5.0).must(mark("a"))
    for _ in range(10):
        shell.wait(3.0).call(heartbeat("b"), peer=b"b")
    assert (lost(shell), state(shell)) == ([], ("open", None))


def test_when_all_are_silent_the_acquisition_is_over() -> None:
    shell = opened("a", "b", producer_timeout_s=5.0).wait(5.1)
    assert (lost(shell), state(shell)) == (["a", "b"], ("finished", "partial"))


def test_one_without_a_name_is_waited_for() -> None:
    shell = opened("a", producers_count=2, producer_timeout_s=5.0).wait(60.0)
    assert (lost(shell), state(shell)) == (["a"], ("open", None))
    shell.must(mark())
    assert state(shell) == ("finished", "partial")


def test_a_lost_producer_that_says_something_is_back_at_once_and_waited_for_again() -> None:
    shell = opened("a", "b", producer_timeout_s=5.0).wait(3.0)
    shell.call(heartbeat("a"), peer=b"a")
    shell.wait(2.1)
    assert lost(shell) == ["b"]
    shell.call(heartbeat("b"), peer=b"b")
    assert (lost(shell), shell.types()[-1]) == ([], BACK)
    shell.call(mark("a"), peer=b"a")
    shell.wait(4.9)
    assert (lost(shell), state(shell)) == ([], ("open", None))
    shell.call(mark("b"), peer=b"b")
    assert state(shell) == ("finished", "complete")
    assert (count(shell, LOST), count(shell, BACK)) == (1, 1)


def test_a_connection_vouches_for_whom_it_named_with_every_message() -> None:
    shell = opened("a", producer_timeout_s=5.0)
    for _ in range(10):
        shell.wait(3.0).call(PING, peer=b"register a")
    assert (lost(shell), state(shell)) == ([], ("open", None))
    for _ in range(2):
        shell.wait(3.0).call(PING, peer=b"another")
    assert (lost(shell), state(shell)) == (["a"], ("finished", "partial"))


def test_a_connection_that_vouches_for_a_lost_producer_brings_it_back() -> None:
    shell = opened("a", "b", producers_count=3, producer_timeout_s=5.0).wait(5.1)
    assert lost(shell) == ["a", "b"]
    shell.call(PING, peer=b"register b")
    assert (lost(shell), shell.types()[-1]) == (["a"], BACK)


def test_silence_counts_from_the_start_of_the_acquisition() -> None:
    shell = opened("a", producer_timeout_s=5.0).must(mark("a")).wait(100.0)
    shell.must(new_acq(acq_name="b")).wait(4.9)
    assert state(shell, "root/g/r/b") == ("open", None)
    shell.wait(0.2)
    assert state(shell, "root/g/r/b") == ("finished", "partial")


def test_silence_counts_from_the_start_of_the_service() -> None:
    shell = opened("a", producer_timeout_s=5.0).wait(4.0)
    shell.restart().wait(4.9)
    assert (lost(shell), state(shell)) == ([], ("open", None))
    shell.wait(0.2)
    assert (lost(shell), state(shell)) == (["a"], ("finished", "partial"))


def test_a_lost_producer_stays_lost_over_a_restart_and_is_told_once() -> None:
    shell = opened("a", producers_count=2, producer_timeout_s=5.0).wait(5.1)
    shell.restart().wait(60.0)
    assert (lost(shell), count(shell, LOST)) == (["a"], 1)
    shell.call(heartbeat("a"), peer=b"a")
    assert (lost(shell), count(shell, BACK)) == ([], 1)


def test_what_is_open_still_waits_for_a_producer_that_was_unregistered() -> None:
    shell = opened("a", producers_count=2, producer_timeout_s=5.0).wait(5.1)
    shell.must(c.UnregisterProducer(storage_id="s", producer="a")).wait(60.0)
    assert (lost(shell), count(shell, LOST)) == (["a"], 1)
    shell.call(heartbeat("a"), peer=b"a")
    assert (lost(shell), count(shell, BACK)) == ([], 1)


def test_names_that_only_an_acquisition_asks_for_are_waited_for_too() -> None:
    shell = StepShell().must(init(producer_timeout_s=5.0), config(), new_run(), new_acq(producers=("x",)))
    shell.wait(5.1)
    assert (lost(shell), state(shell)) == (["x"], ("finished", "partial"))


# Batches that are taken back


def test_an_end_that_is_taken_back_comes_again() -> None:
    shell = opened("a", "b", finish_timeout_s=10.0).must(mark("a"))
    shell.hold_commits = True
    shell.wait(10.1).roll_back()
    shell.hold_commits = False
    shell.run()
    assert (state(shell), count(shell, FINISHED)) == (("finished", "partial"), 1)
    shell.sound()


def test_a_mark_that_is_taken_back_has_started_no_wait() -> None:
    shell = opened("a", "b", finish_timeout_s=10.0)
    shell.hold_commits = True
    shell.send(mark("a"))
    shell.run().roll_back()
    shell.hold_commits = False
    shell.run().wait(60.0)
    assert state(shell) == ("open", None)
    shell.must(mark("a")).wait(9.9)
    assert state(shell) == ("open", None)
    shell.wait(0.2)
    assert state(shell) == ("finished", "partial")


def test_a_loss_that_is_taken_back_comes_again() -> None:
    shell = opened("a", producers_count=2, producer_timeout_s=5.0)
    shell.hold_commits = True
    shell.wait(5.1).roll_back()
    shell.hold_commits = False
    shell.run().wait(5.1)
    assert (lost(shell), count(shell, LOST)) == (["a"], 1)


# The heartbeat itself


def test_a_heartbeat_is_answered_when_its_storage_is_durable() -> None:
    shell = StepShell()
    assert shell.call(heartbeat("a")).error.code == "not_found"
    shell.hold_commits = True
    first = shell.send(init())
    second = shell.send(heartbeat("a"), peer=b"q")
    shell.run()
    assert (shell.told(first), shell.told(second, b"q")) == ([""], [""])
    shell.commit().run()
    assert (shell.told(first), shell.told(second, b"q")) == (["ok"], ["ok"])


def test_a_message_that_is_too_much_is_a_sign_of_its_producer_all_the_same() -> None:
    shell = opened("a", producer_timeout_s=10)
    for number in range(3):
        shell.wait(8)
        too_much = Opened([b"register a", codec.encode_command(1000 + number, PING)], Limits())
        shell.desk.refuse(too_much, shell.now)
        shell.run()
    assert lost(shell) == []
    shell.wait(20).run()
    assert lost(shell) == ["a"]
