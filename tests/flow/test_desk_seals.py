"""Seals, marker files, and what waits for them."""

from __future__ import annotations

import itertools
import json

import pytest

from storage_protocol import commands as c
from storage_service.rules.work import (
    ACQ_MARKER,
    RUN_MARKER,
    Done,
    Failed,
    MakeFolder,
    Order,
    Result,
    SyncData,
    WriteMarker,
)
from tests.simulation.mount import Mount
from tests.simulation.scripts import Scripts
from tests.support.step_shell import (
    ACQ,
    StepShell,
    close,
    config,
    done,
    init,
    new_acq,
    new_run,
    with_acq,
    with_run,
)

AWAY = Failed("unavailable", "The mount point is not there.", {"reason": "mount"})


def without_seals(shell: StepShell) -> StepShell:
    """Folders are made; what would be sealed hangs."""
    shell.door = lambda order: None if isinstance(order, SyncData) else done(order)
    return shell


def test_an_acquisition_is_sealed_when_its_end_is_durable() -> None:
    orders: list[Order] = []

    def door(order: Order) -> Result:
        orders.append(order)
        return done(order)

    shell = with_acq()
    shell.door, shell.hold_commits = door, True
    shell.send(close())
    shell.run()
    assert orders == []
    shell.commit().run()
    first, order = orders
    assert first == SyncData("file:///", ("r", "a"), ACQ_MARKER, ACQ, shell.record(("node", ACQ)).uid)
    assert isinstance(order, WriteMarker)
    assert (order.path, order.marker_name) == (("r", "a"), ACQ_MARKER)
    assert order.log.startswith(f"{order.head}\n")
    written = json.loads(order.marker)
    assert (written["acq_id"], written["state"], written["sealed"]) == (ACQ, "finished", True)
    assert [row.topic for row in shell.batch.rows] == ["acquisition.sealed/s/"]


def test_an_aborted_acquisition_is_sealed_too() -> None:
    shell = with_acq().must(c.AbortAcq(storage_id="s", acq_id=ACQ))
    assert shell.types()[-2:] == ["acquisition.aborted", "acquisition.sealed"]


def test_what_is_being_sealed_is_waited_for() -> None:
    shell = without_seals(with_acq()).must(close())
    sent = shell.send(new_acq())
    shell.run().wait(4.9)
    assert shell.told(sent) == [""]
    shell.release()
    assert shell.told(sent) == ["ok"]
    assert shell.replies[b"p", sent[0]].result["segment"] == 2
    shell.sound()


def test_a_run_is_not_removed_while_one_of_its_acquisitions_is_being_sealed() -> None:
    shell = without_seals(with_acq()).must(close())
    sent = shell.send(new_run(mode="remove"))
    shell.run().wait(4.9)
    assert shell.told(sent) == [""]
    shell.release()
    assert shell.told(sent) == ["ok"]
    shell.sound()


def test_several_who_wait_for_a_seal_wait_quietly() -> None:
    shell = without_seals(with_acq()).must(close())
    for peer, command in enumerate((new_acq(), new_run(mode="remove"), new_run(mode="remove"))):
        shell.send(command, peer=b"%d" % peer)
    shell.run()


def test_the_wait_for_a_seal_comes_to_an_end() -> None:
    shell = without_seals(with_acq()).must(close())
    sent = shell.send((new_acq(), "k"))
    shell.run()
    shell.wait(5.1)
    assert shell.told(sent) == ["unavailable"]
    shell.release()
    assert shell.call(new_acq(), "k").ok


def test_other_commands_do_not_wait_for_a_seal() -> None:
    shell = without_seals(with_acq()).must(close())
    assert shell.call(close(), peer=b"q").ok
    assert shell.call(new_acq(acq_name="b"), peer=b"q").ok
    assert shell.call(c.DeinitStorage(storage_id="s", force=True), peer=b"q").ok


def test_a_seal_that_fails_is_tried_again_with_one_warning() -> None:
    shell = with_acq()
    tries: list[float] = []

    def door(order: Order) -> Result:
        if isinstance(order, SyncData):
            tries.append(shell.mono)
        return AWAY if len(tries) < 5 else done(order)

    shell.door = door
    shell.must(close()).wait(60.0)
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert shell.types()[-3:] == ["acquisition.finished", "acquisition.warning", "acquisition.sealed"]
    assert len(shell.store.record(("node", ACQ)).warnings) == 1
    shell.sound()


def test_a_log_that_went_elsewhere_is_a_warning_and_the_seal_is_done() -> None:
    shell = with_acq()
    shell.door = lambda order: (
        Done("It is in acquisition-2.log.") if isinstance(order, WriteMarker) else done(order)
    )
    shell.must(close())
    assert shell.types()[-3:] == ["acquisition.finished", "acquisition.warning", "acquisition.sealed"]
    (warned,) = shell.store.record(("node", ACQ)).warnings
    assert (warned.what, warned.message) == ("log", "It is in acquisition-2.log.")
    assert shell.orders == []
    shell.sound()


def test_a_seal_of_what_is_open_changes_nothing() -> None:
    shell = with_acq()
    seqs = shell.seqs()
    for work in (f"seal {ACQ}", "seal root/none", "intent none"):
        shell.desk.outcome(work, Done(), shell.now)
        shell.run()
    assert (shell.seqs(), shell.record(("node", ACQ)).sealed) == (seqs, False)


def test_an_acquisition_that_could_not_be_opened_again_keeps_the_marker_file_of_its_seal() -> None:
    mount, shell = Mount(Scripts()), StepShell()
    shell.door = mount.carry_out
    shell.must(init(), config(), new_run(), new_acq(), close())
    sealed = mount.told("r/a")
    assert (sealed["sealed"], sealed["segment"]) == (True, 1)
    # The folder's new marker is written, and then the mount point fails: the second segment never begins.
    mount.blind = True
    assert shell.call(new_acq()).error.code == "unavailable"
    mount.blind = False
    shell.wait(300.0)
    told = mount.told("r/a")
    assert next(each["what"] for each in told.pop("warnings")) == "reopening"
    assert told == {name: value for name, value in sealed.items() if name != "warnings"}
    assert shell.call(new_acq()).result["segment"] == 2
    shell.sound()


def test_a_run_that_could_not_be_reused_keeps_its_parameters_in_its_marker_file() -> None:
    mount, shell = Mount(Scripts()), StepShell()
    shell.door = mount.carry_out
    shell.must(init(), config(), new_run(params={"x": 1}))
    before = mount.told("r")
    mount.blind = True
    assert shell.call(new_run(params={"x": 2})).error.code == "unavailable"
    mount.blind = False
    shell.wait(300.0)
    assert (mount.told("r"), before["params"]) == (before, {"x": 1})
    shell.sound()


# Marker files of runs


def run_markers(shell: StepShell) -> list[dict[str, object]]:
    """The marker files of runs that are written from now on."""
    written: list[dict[str, object]] = []

    def door(order: Order) -> Result:
        if isinstance(order, WriteMarker) and order.marker_name == RUN_MARKER:
            written.append(json.loads(order.marker))
        return Done()

    shell.door = door
    return written


def set_run(value: int) -> c.SetParamRun:
    return c.SetParamRun(storage_id="s", run_name="r", param="x", value=value)


def test_a_runs_parameters_come_into_its_marker_file() -> None:
    shell = with_run()
    written = run_markers(shell)
    for value in range(10):
        shell.must(set_run(value))
    shell.wait(5.0)
    assert written[-1]["params"] == {"x": 9}
    assert len(written) < 4
    assert shell.store.intents == {}


def test_a_parameter_that_is_set_while_the_marker_file_is_written_is_written_too() -> None:
    shell = with_run().must(set_run(1))
    shell.door = lambda order: None
    shell.wait(1.5)
    assert len(shell.hung) == 1
    shell.must(set_run(2))
    hung, shell.hung = shell.hung, []
    written = run_markers(shell)
    shell.desk.outcome(hung[0][0], Done(), shell.now)
    shell.run().wait(5.0)
    assert [marker["params"] for marker in written] == [{"x": 2}]
    assert shell.store.intents == {}


def test_it_is_also_written_when_its_run_was_forgotten_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", 0)
    shell = with_run().must(set_run(1))
    shell.door = lambda order: None
    shell.wait(1.5)
    shell.must(set_run(2), *(c.NewGroup(name=f"n{number}") for number in range(9)))
    assert ("node", "root/g/r") not in shell.desk.state.records
    hung, shell.hung = shell.hung, []
    written = run_markers(shell)
    shell.desk.outcome(hung[0][0], Done(), shell.now)
    shell.run().wait(5.0)
    assert [marker["params"] for marker in written] == [{"x": 2}]
    assert shell.store.intents == {}


def test_a_marker_file_whose_writing_is_taken_back_is_written_once_more_and_its_intent_ends() -> None:
    shell = with_run()
    shell.must(set_run(1))
    shell.hold_commits = True
    shell.wait(1.5)  # it is written, and the end of its intent is not durable
    shell.send(set_run(2))  # a second one, in the same transaction or the next
    shell.run()
    shell.roll_back()
    shell.hold_commits = False
    shell.run().wait(10.0)
    assert (shell.store.intents, shell.desk.counts()["intents"]) == ({}, 0)
    shell.sound()


def test_a_marker_file_that_was_not_written_is_written_after_a_restart() -> None:
    shell = with_run().must(set_run(1)).restart()
    written = run_markers(shell)
    shell.wait(5.0)
    assert [marker["params"] for marker in written] == [{"x": 1}]
    assert shell.store.intents == {}


def test_a_marker_file_of_a_run_that_is_removed_is_left_alone() -> None:
    shell = with_run().must(set_run(1), new_run(mode="remove"))
    written = run_markers(shell)
    shell.wait(5.0)
    assert (written, shell.store.intents) == ([], {})


# What is removed goes on once it was begun


def test_a_removal_that_may_have_begun_is_carried_on_whatever_the_client_was_told() -> None:
    shell = with_acq().must(close())
    shell.door = lambda order: AWAY if isinstance(order, MakeFolder) else Done()
    first = shell.call(new_acq(mode="remove"), "k")
    assert first.error.code == "unavailable"
    assert shell.call(close(), peer=b"q").error.code == "unavailable"
    assert shell.call(new_acq(acq_name="b"), peer=b"q").error.code == "unavailable"
    repeat = shell.send((new_acq(mode="remove"), "k"))
    shell.run()
    assert shell.told(repeat) == [""]
    shell.door = lambda order: Done()
    shell.wait(5.0)
    assert shell.told(repeat) == ["ok"]
    assert shell.types()[-2:] == ["acquisition.removed", "acquisition.started"]
    shell.sound()


def test_a_removal_that_a_kill_interrupted_goes_on_after_the_restart() -> None:
    shell = with_acq().must(close())
    shell.door = lambda order: None
    shell.send(new_acq(mode="remove"))
    shell.run()
    uid = shell.record(("node", ACQ)).uid
    shell.restart()
    assert shell.types() == ["acquisition.removed", "acquisition.started"]
    assert shell.store.record(("node", ACQ)).uid != uid
    assert shell.store.intents == {}
    shell.sound()


def test_a_config_that_a_kill_interrupted_goes_on_after_the_restart() -> None:
    shell = StepShell().must(init())
    shell.door = lambda order: None
    shell.send(config())
    shell.run()
    shell.restart()
    assert shell.store.record(("storage", "s")).state == "configured"
    shell.sound()


def test_what_was_open_goes_on_after_a_restart() -> None:
    shell = without_seals(with_acq().must(new_acq(acq_name="b"))).must(close())
    shell.restart()
    assert shell.types() == ["acquisition.sealed"]
    shell.must(close("root/g/r/b"))
    assert shell.call(c.GetStorage(storage_id="s")).result["state"] == "configured"
    shell.sound()
