"""Readings of an acquisition: its start's, its end's when it has ended, and only then its seal."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from storage_protocol import commands as c
from storage_service.rules.readings import Reading, ReadingsTaken, TakeReadings
from storage_service.rules.work import SyncData, WriteMarker
from tests.support.step_shell import ACQ, StepShell, close, config, done, init, new_acq, new_run, read

NAMES = ("temperature", "varmod:hv")
MEASURED = ["acquisition.started", "acquisition.measured", "acquisition.finished", "acquisition.measured"]


def with_names(**args: Any) -> StepShell:
    """A configured storage that measures, with a run."""
    return StepShell(**args).must(init(stats_names=NAMES), config(), new_run())


def hanging(shell: StepShell) -> StepShell:
    shell.sources = lambda order: None
    return shell


def told(shell: StepShell) -> list[str]:
    """What was told of acquisitions."""
    return [type_ for type_ in shell.types() if type_.startswith("acquisition.")]


def measured(shell: StepShell) -> list[str]:
    """The moments that were told, in order."""
    return [event.data["when"] for event in shell.events if event.type == "acquisition.measured"]


def statistic(shell: StepShell, name: str = "temperature") -> Any:
    return shell.store.record(("node", ACQ)).statistics[name]


def test_an_acquisition_of_which_nothing_is_to_be_read_is_sealed_at_once() -> None:
    shell = StepShell().must(init(), config(), new_run(), new_acq(), close())
    assert told(shell) == ["acquisition.started", "acquisition.finished", "acquisition.sealed"]
    assert shell.store.record(("node", ACQ)).reads == ""


@pytest.mark.parametrize("end", [close(), c.AbortAcq(storage_id="s", acq_id=ACQ)])
def test_it_is_read_at_its_start_and_at_its_end_and_sealed_after(end: c.Command) -> None:
    shell = with_names().must(new_acq(), end)
    ended = "acquisition.aborted" if isinstance(end, c.AbortAcq) else "acquisition.finished"
    assert told(shell) == [*MEASURED[:2], ended, "acquisition.measured", "acquisition.sealed"]
    assert measured(shell) == ["start", "end"]
    found = statistic(shell)
    assert (found.start.value, found.end.value, found.difference) == (1, 3, 2)
    assert shell.readings == []
    shell.sound()


def test_what_is_asked_for_names_the_acquisition_and_what_is_to_be_read() -> None:
    shell = hanging(with_names()).must(new_acq())
    (order,) = shell.readings
    assert (order.acq_id, order.segment, order.when, order.path) == (ACQ, 1, "start", ("r", "a"))
    assert order.names == NAMES
    assert order.about["ACQ_ID"] == ACQ
    assert order.about["READING"] == "start"


def test_commands_and_other_acquisitions_do_not_wait_for_a_reading() -> None:
    shell = hanging(with_names()).must(new_acq(), new_acq(acq_name="b"), close(), close("root/g/r/b"))
    assert {order.acq_id for order in shell.readings} == {ACQ, "root/g/r/b"}
    shell.readings.reverse()
    while shell.readings:
        shell.taken()
    assert shell.store.record(("node", ACQ)).sealed
    shell.sound()


def test_an_acquisition_that_ends_before_its_start_was_read_is_read_in_order() -> None:
    shell = hanging(with_names()).must(new_acq(), close())
    assert [order.when for order in shell.readings] == ["start"]
    shell.taken()
    assert [order.when for order in shell.readings] == ["end"]
    assert not shell.store.record(("node", ACQ)).sealed
    shell.taken()
    assert measured(shell) == ["start", "end"]
    assert shell.store.record(("node", ACQ)).sealed
    shell.sound()


# What is decided and not yet durable


def test_a_start_that_was_read_while_the_end_became_durable_is_not_too_late() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.hold_commits = True
    shell.send(close())
    shell.run()  # the end is out
    shell.taken()  # the start was read, and stands in the batch after it
    shell.commit().run()
    shell.hold_commits = False
    shell.commit().run().taken()
    assert measured(shell) == ["start", "end"]
    assert statistic(shell).start.value == 1
    shell.sound()


def test_a_start_that_was_read_is_not_read_again_by_a_batch_from_before() -> None:
    shell = hanging(with_names()).must(new_acq(producers_count=2))
    shell.hold_commits = True
    shell.send(c.MarkAsFinished(storage_id="s", acq_id=ACQ))
    shell.run()  # its record, with the start owed, is out
    shell.taken()
    shell.commit().run()
    assert shell.readings == []
    shell.hold_commits = False
    shell.commit().run().must(close())
    assert shell.taken().when == "end"
    assert told(shell)[-1] == "acquisition.sealed"
    shell.sound()


def test_a_start_whose_outcome_was_lost_is_read_again() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.hold_commits = True
    shell.taken()
    assert shell.record(("node", ACQ)).reads == "end"
    shell.roll_back().run()
    shell.hold_commits = False
    assert [order.when for order in shell.readings] == ["start"]
    shell.must(close()).taken()
    shell.taken()
    assert measured(shell) == ["start", "end"]
    shell.sound()


def test_an_end_whose_outcome_was_lost_is_read_again_and_nothing_is_sealed_before() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.taken()
    shell.must(close())
    shell.hold_commits = True
    shell.taken()
    shell.roll_back().run()
    shell.hold_commits = False
    assert "acquisition.sealed" not in told(shell)
    assert shell.taken().when == "end"
    assert told(shell)[-1] == "acquisition.sealed"
    shell.sound()


def test_an_end_that_never_was_is_not_read() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.taken()
    shell.hold_commits = True
    shell.send(close())
    shell.run()
    assert shell.readings == []
    shell.roll_back().run()
    assert shell.readings == []


def test_it_is_not_sealed_before_its_end_is_durable() -> None:
    orders = []
    shell = with_names().must(new_acq())

    def door(order: Any) -> Any:
        orders.append(order)
        return done(order)

    shell.door, shell.hold_commits = door, True
    shell.send(close())
    shell.run()
    shell.commit().run()  # the end
    assert shell.record(("node", ACQ)).reads == ""
    assert orders == []
    shell.commit().run()  # its reading
    assert [type(order) for order in orders] == [SyncData, WriteMarker]
    assert orders[1].log.count("temperature") == 1


# Restarts


def test_a_start_that_a_kill_interrupted_is_read_after_the_restart() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.restart()
    assert measured(shell) == ["start"]
    shell.must(close())
    assert measured(shell) == ["start", "end"]
    shell.sound()


def test_a_start_of_what_ended_before_the_restart_is_too_late_and_says_so() -> None:
    shell = hanging(with_names()).must(new_acq(), close())
    shell.restart()
    assert told(shell) == ["acquisition.measured", "acquisition.measured", "acquisition.sealed"]
    found = statistic(shell)
    assert found.start.missing == "The acquisition had ended before the service could read it."
    assert (found.end.value, found.difference) == (3, None)
    shell.sound()


def test_an_end_that_a_kill_interrupted_is_read_after_the_restart() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.taken()
    shell.must(close())
    shell.restart()
    assert told(shell) == ["acquisition.measured", "acquisition.sealed"]
    assert statistic(shell).start.value == 1
    shell.sound()


def test_what_was_read_and_not_sealed_is_sealed_after_the_restart_and_not_read_again() -> None:
    shell = with_names().must(new_acq())
    shell.door = lambda order: None if isinstance(order, SyncData) else done(order)
    shell.must(close())
    shell.restart()
    assert told(shell) == ["acquisition.sealed"]


# The ends of a storage, and another segment


def test_a_storage_that_goes_leaves_its_acquisitions_to_be_read_and_sealed() -> None:
    shell = hanging(with_names()).must(new_acq())
    shell.must(c.DeinitStorage(storage_id="s", force=True))
    assert [order.when for order in shell.readings] == ["start"]
    shell.taken()
    shell.taken()
    assert told(shell)[-1] == "acquisition.sealed"
    shell.sound()


def test_the_next_segment_has_statistics_of_its_own() -> None:
    shell = with_names().must(new_acq(), close())
    hanging(shell).must(new_acq())
    found = statistic(shell)
    assert (found.start, found.end, found.difference) == (None, None, None)
    missing = Reading(missing="It is away.")
    shell.taken(ReadingsTaken({"temperature": Reading(10), "varmod:hv": missing}))
    shell.must(close()).taken()
    assert (statistic(shell).difference, statistic(shell, "varmod:hv").difference) == (-7, None)
    assert measured(shell) == ["start", "end"] * 2
    shell.sound()


def test_a_waiting_reopening_comes_when_the_end_was_read_and_sealed() -> None:
    shell = with_names().must(new_acq())
    hanging(shell).must(close())
    sent = shell.send(new_acq())
    shell.run()
    assert shell.told(sent) == [""]
    shell.taken()
    assert shell.told(sent) == ["ok"]
    assert [(order.segment, order.when) for order in shell.readings] == [(2, "start")]
    shell.sound()


def test_a_removal_waits_for_the_reading_as_for_the_seal() -> None:
    shell = with_names().must(new_acq())
    hanging(shell).must(close())
    sent = shell.send(new_acq(mode="remove"))
    shell.run()
    shell.taken()
    assert shell.told(sent) == ["ok"]
    assert shell.readings[0].uid == shell.record(("node", ACQ)).uid
    shell.sound()


def test_an_outcome_of_what_is_not_read_changes_nothing() -> None:
    shell = with_names().must(new_acq(), close())
    seqs = shell.seqs()
    for acq_id in (ACQ, "root/none"):
        shell.desk.outcome(f"readings {acq_id}", ReadingsTaken({}), shell.now)
        shell.run()
    assert shell.seqs() == seqs


def test_what_its_source_does_not_tell_of_is_missing() -> None:
    def nothing(order: TakeReadings) -> ReadingsTaken:
        return replace(read(order), readings={})

    shell = with_names()
    shell.sources = nothing
    shell.must(new_acq(), close())
    assert statistic(shell).start.missing == statistic(shell).end.missing == "It was not looked at."


def test_readings_under_way_are_counted() -> None:
    shell = hanging(with_names()).must(new_acq())
    assert shell.desk.counts()["readings"] == 1
    shell.taken()
    assert shell.desk.counts()["readings"] == 0
