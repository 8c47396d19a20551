"""A batch that was rolled back never happened, nor did anything that was decided on top of it."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules.conversions import Policy
from tests.support.step_shell import (
    ACQ,
    StepShell,
    close,
    config,
    init,
    new_acq,
    new_run,
    set_acq,
    with_acq,
    with_run,
)

REGISTER = c.RegisterProducer(storage_id="s")


def memory(shell: StepShell) -> dict[object, object]:
    """What the desk believes; what it knows to be absent is left out."""
    return {key: record for key, record in shell.desk.state.records.items() if record is not None}


def held(shell: StepShell) -> StepShell:
    shell.hold_commits = True
    return shell


def test_what_was_rolled_back_and_all_on_top_of_it_is_refused_and_gone() -> None:
    shell = held(with_acq())
    before, journal = memory(shell), shell.store.last_seq
    sent = [shell.send(REGISTER)]
    shell.run()
    sent += [shell.send(command) for command in (set_acq(1), close(), init("t"), init(), config("x"))]
    shell.run()
    assert shell.told([id for ids in sent for id in ids]) == [""] * 6
    shell.roll_back().run()
    # What changed nothing, and what was refused, told of what never was: it is refused as well.
    assert [shell.told(ids) for ids in sent] == [["unavailable"]] * 6
    assert (memory(shell), shell.store.last_seq, shell.batch) == (before, journal, None)
    assert shell.types()[-1] == "acquisition.started"


def test_the_journal_goes_on_without_a_hole() -> None:
    shell = held(with_acq())
    for value in (1, 2):
        shell.send(set_acq(value))
        shell.run()
    shell.roll_back().run()
    shell.hold_commits = False
    shell.must(set_acq(3), close(), init("t"))
    assert [event.seq for event in shell.events] == shell.seqs()
    assert shell.store.record(("node", ACQ)).params == {"x": 3}
    shell.sound()


def test_a_topic_that_was_new_in_the_lost_batch_is_new_again() -> None:
    shell = held(StepShell())
    shell.send(init())
    shell.run()
    shell.roll_back().run()
    shell.hold_commits = False
    shell.must(init())
    assert (shell.events[0].seq, shell.events[0].prev_seq) == (1, 0)


def test_an_intent_that_was_lost_is_never_carried_out() -> None:
    shell = held(with_run())
    orders: list[object] = []
    shell.door = lambda order: orders.append(order)
    sent = shell.send(new_acq())
    shell.run()
    shell.roll_back().run()
    assert (shell.told(sent), orders, shell.store.intents) == (["unavailable"], [], {})
    shell.hold_commits = False
    shell.release().must(new_acq(), set_acq(1))


def test_an_outcome_that_was_lost_is_asked_for_once_more() -> None:
    shell = with_run()
    shell.door = lambda order: None
    sent = shell.send(new_acq())
    shell.run()
    held(shell).release()
    assert [row.topic for row in shell.batch.rows] == ["acquisition.started/s/"]
    shell.roll_back().run()
    assert shell.told(sent) == ["unavailable"]
    while shell.batch is not None:
        shell.commit().run()
    assert shell.store.record(("node", ACQ)).state == "open"
    assert (shell.store.intents, shell.types().count("acquisition.started")) == ({}, 1)
    shell.hold_commits = False
    shell.must(set_acq(1))
    shell.sound()


def test_a_repeat_joins_the_intent_whose_outcome_was_lost() -> None:
    shell = with_run()
    shell.door = lambda order: None
    sent = shell.send((new_acq(), "k"))
    shell.run()
    held(shell).release()
    repeats = [shell.send((new_acq(), "k"), peer=b"q")]
    shell.roll_back()
    assert (shell.turn(), shell.told(sent)) == (True, ["unavailable"])
    repeats.append(shell.send((new_acq(), "k"), peer=b"o"))
    conflict = shell.send((new_acq(acq_name="b"), "k"), peer=b"n")
    shell.run()
    while shell.batch is not None:
        shell.commit().run()
    assert [shell.told(repeats[0], b"q"), shell.told(repeats[1], b"o")] == [["unavailable"], ["ok"]]
    assert shell.told(conflict, b"n") == ["conflict"]
    shell.hold_commits = False
    assert (shell.call(new_acq(), "k").ok, shell.types().count("acquisition.started")) == (True, 1)
    shell.sound()


def test_a_refusal_of_a_door_that_was_lost_is_asked_for_once_more() -> None:
    shell = StepShell().must(init())
    shell.door = lambda order: None
    sent = shell.send(config())
    shell.run()
    held(shell).release()
    shell.roll_back().run()
    assert shell.told(sent) == ["unavailable"]
    while shell.batch is not None:
        shell.commit().run()
    assert shell.store.record(("storage", "s")).configured
    shell.sound()


def test_what_waited_for_the_lost_batch_has_its_turn() -> None:
    shell = held(StepShell().must(init()))
    shell.send(REGISTER)
    shell.run()
    query = shell.send(c.GetStorage(storage_id="s"))
    shell.run()
    assert shell.told(query) == [""]
    shell.roll_back().run()
    assert shell.replies[b"p", query[0]].result["producers_unnamed"] == 0


def test_a_seal_that_was_lost_is_done_again() -> None:
    shell = with_acq()
    shell.door = lambda order: None
    shell.must(close())
    held(shell).release()
    assert [row.topic for row in shell.batch.rows] == ["acquisition.sealed/s/"]
    shell.roll_back().run()
    assert [row.topic for row in shell.batch.rows] == ["acquisition.sealed/s/"]
    shell.commit().run()
    assert shell.store.record(("node", ACQ)).sealed
    shell.sound()


def converting() -> StepShell:
    """A conversion whose script runs."""
    shell = with_acq("convert", policy=Policy(max_attempts=2, backoff_s=10.0)).must(close())
    assert len(shell.scripts) == 1
    return shell


def test_a_claim_that_was_lost_is_claimed_again_without_waiting_for_anything() -> None:
    shell = held(with_acq("convert"))
    shell.send(close())
    shell.run().commit().run()
    assert shell.batch.rows[-1].topic == "conversion.started/s/"
    shell.roll_back().run()
    assert shell.started == []
    while shell.batch is not None:
        shell.commit().run()
    assert [script.attempt for script in shell.started] == [1]
    shell.sound()


def test_the_end_of_an_attempt_that_was_lost_is_decided_once_more() -> None:
    shell = held(converting())
    (id,) = shell.scripts
    shell.end(id)
    shell.roll_back().run()
    assert shell.record(("conversion", id)).state == "running"
    shell.hold_commits = False
    shell.wait(2.0)
    assert shell.store.record(("conversion", id)).state == "succeeded"
    assert (len(shell.started), shell.types().count("conversion.succeeded")) == (1, 1)
    shell.sound()


def test_the_end_of_an_attempt_that_was_lost_twice_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = held(converting())
    (id,) = shell.scripts
    shell.end(id)
    shell.roll_back().run()
    shell.wait(0.5).send(REGISTER)
    shell.run().roll_back().run()
    shell.hold_commits = False
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", 0)
    shell.wait(2.0)
    assert shell.store.record(("conversion", id)).state == "succeeded"
    assert shell.types().count("conversion.succeeded") == 1
    shell.sound()


def test_a_cancel_that_was_lost_with_the_end_of_its_script_is_gone() -> None:
    shell = held(converting())
    (id,) = shell.scripts
    sent = shell.send(c.CancelConversion(conversion_id=id, reason="no need"))
    shell.end(id, exit_code=1)
    shell.roll_back().run()
    assert shell.told(sent) == ["unavailable"]
    shell.hold_commits = False
    shell.wait(2.0)
    assert shell.store.record(("conversion", id)).state == "queued"
    assert shell.store.intents == {}
    shell.wait(10.0)
    assert shell.store.record(("conversion", id)).state == "running"
    shell.must(c.CancelConversion(conversion_id=id, reason="really"))
    assert shell.cancels == [id]
    shell.end(id, "cancelled", -15)
    assert shell.store.record(("conversion", id)).reason == "really"
    shell.sound()


def test_a_cancel_whose_end_alone_was_lost_is_still_a_cancel() -> None:
    shell = held(converting())
    (id,) = shell.scripts
    sent = shell.send(c.CancelConversion(conversion_id=id, reason="no need"))
    shell.run()
    shell.end(id, "cancelled", -15)
    shell.commit().run()
    assert shell.told(sent) == ["ok"]
    shell.roll_back().run()
    shell.hold_commits = False
    shell.wait(2.0)
    found = shell.store.record(("conversion", id))
    assert (found.state, found.reason, shell.store.intents) == ("cancelled", "no need", {})
    shell.sound()


def test_a_run_that_was_lost_can_be_made() -> None:
    shell = with_run()
    shell.door = lambda order: None
    shell.send(new_run(run_name="n{n}"))
    shell.run()
    held(shell).release()
    shell.roll_back().run()
    while shell.batch is not None:
        shell.commit().run()
    shell.hold_commits = False
    assert shell.call(new_run(run_name="n{n}")).result["run_name"] == "n2"
    shell.sound()


def test_an_outcome_that_is_lost_again_and_again_keeps_nobody_waiting() -> None:
    shell = with_run().wait(1.0)
    shell.door = lambda order: None
    sent = shell.send((new_acq(), "k"))
    shell.run()
    waits = shell.send(c.DeinitStorage(storage_id="s", force=True), peer=b"q")
    held(shell).release()
    shell.roll_back().run()
    assert (shell.told(sent), shell.told(waits, b"q")) == (["unavailable"], [""])
    repeat = shell.send((new_acq(), "k"), peer=b"o")
    shell.run().roll_back().run()
    assert (shell.told(waits, b"q"), shell.told(repeat, b"o")) == (["unavailable"], ["unavailable"])
    for _ in range(3):
        # It is tried again, but not without a pause.
        assert (shell.batch, shell.orders) == (None, [])
        late = shell.send(new_acq(), c.InvalStorage(storage_id="s"), peer=b"n")
        shell.run()
        assert shell.told(late, b"n") == ["unavailable", "unavailable"]
        shell.wait(2.0)
        assert [row.topic for row in shell.batch.rows] == ["acquisition.started/s/"]
        shell.roll_back().run()
    shell.hold_commits = False
    shell.wait(2.0)
    assert (shell.store.intents, shell.types().count("acquisition.started")) == ({}, 1)
    assert shell.call(new_acq(), "k").ok
    shell.sound()
