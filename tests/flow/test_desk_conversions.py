"""Conversions as work: claimed, started, ended, tried again, cancelled (SPEC 4.5)."""

from __future__ import annotations

from storage_protocol import commands as c
from storage_service.rules.conversions import Policy
from storage_service.rules.work import Done, MakeFolder, Order, Result, SyncData
from tests.support.step_shell import ACQ, StepShell, close, done, new_acq, new_run, with_acq, with_run


def finished(count: int = 1, **args: object) -> StepShell:
    """As many finished acquisitions, each with a conversion."""
    shell = with_run(**args)
    for number in range(count):
        shell.must(new_acq(acq_name=f"a{number}", convert_script="convert"), close(f"root/g/r/a{number}"))
    return shell


def states(shell: StepShell) -> list[str]:
    return [record.state for (table, _), record in shell.store.records.items() if table == "conversion"]


def only(shell: StepShell) -> str:
    (id,) = [id for table, id in shell.store.records if table == "conversion"]
    return id


def test_a_script_is_started_when_the_data_are_sealed_and_its_claim_is_durable() -> None:
    shell = with_acq("convert")
    shell.door = lambda order: None
    shell.must(close())
    assert (states(shell), shell.started) == (["queued"], [])
    shell.hold_commits = True
    shell.release()
    assert (states(shell), shell.started) == (["queued"], [])
    while shell.batch is not None:
        shell.commit().run()
    assert (states(shell), len(shell.started)) == (["running"], 1)
    assert shell.types()[-3:] == ["conversion.queued", "acquisition.sealed", "conversion.started"]


def test_what_a_script_is_told() -> None:
    shell = with_acq("deep/convert").must(close())
    (script,) = shell.started
    assert (script.script, script.mp, script.path, script.log_name) == (
        "deep/convert",
        "file:///",
        ("r", "a"),
        "conversion-1-1.log",
    )
    assert script.argv == ("/data/r/a", ACQ)
    uid = shell.record(("node", ACQ)).uid
    assert script.env == {
        "STORAGE_ID": "s",
        "ACQ_ID": ACQ,
        "ACQ_UID": uid,
        "ACQ_NAME": "a",
        "RUN_ID": "root/g/r",
        "RUN_NAME": "r",
        "ACQ_DIR": "/data/r/a",
        "ACQ_URL": "file:///data/r/a",
        "ACQ_SEGMENT": "1",
        "ACQ_VERDICT": "partial",
        "ACQ_MISSING": "",
        "ACQ_METADATA": "/data/r/a/acquisition.json",
        "CONVERSION_ATTEMPT": "1",
    }


def test_no_more_than_allowed_run_at_once_the_oldest_first() -> None:
    shell = finished(4, max_parallel=2)
    assert states(shell) == ["running", "running", "queued", "queued"]
    shell.end(shell.started[1].conversion_id)
    assert states(shell) == ["running", "succeeded", "running", "queued"]
    shell.end(shell.started[0].conversion_id).end(shell.started[2].conversion_id)
    assert states(shell) == ["succeeded", "succeeded", "succeeded", "running"]


def test_one_that_waits_does_not_hold_the_next_one() -> None:
    shell = finished(2, max_parallel=1, policy=Policy(max_attempts=2, backoff_s=30.0))
    first, second = shell.started[0].conversion_id, "?"
    shell.end(first, exit_code=1)
    assert states(shell) == ["queued", "running"]
    second = shell.started[1].conversion_id
    assert second != first


def test_a_failed_attempt_is_tried_again_after_its_wait() -> None:
    shell = finished(policy=Policy(max_attempts=3, backoff_s=10.0))
    id, ended_at = only(shell), []
    for _ in range(2):
        shell.end(id, exit_code=1)
        ended_at.append(shell.mono)
        assert shell.scripts == {}
        while not shell.scripts:
            shell.wait(1.0)
        ended_at.append(shell.mono)
    assert ended_at == [0.0, 10.0, 10.0, 30.0]
    shell.end(id, exit_code=1).wait(400.0)
    assert (states(shell), [script.attempt for script in shell.started]) == (["failed"], [1, 2, 3])
    shell.sound()


def test_a_queued_conversion_is_cancelled_at_once() -> None:
    shell = finished(2, max_parallel=1)
    id = next(
        id for (table, id), r in shell.store.records.items() if table == "conversion" and r.state == "queued"
    )
    reply = shell.call(c.CancelConversion(conversion_id=id, reason="no need"))
    assert (reply.result["state"], reply.result["reason"], shell.cancels) == ("cancelled", "no need", [])
    shell.end(shell.started[0].conversion_id)
    assert len(shell.started) == 1


def test_a_running_conversion_is_cancelled_when_nothing_of_it_is_left() -> None:
    shell = finished()
    id = only(shell)
    reply = shell.call(c.CancelConversion(conversion_id=id, reason="no need"))
    assert (reply.result["state"], shell.cancels, states(shell)) == ("running", [id], ["running"])
    again = shell.call(c.CancelConversion(conversion_id=id, reason="really"))
    assert (again.result["state"], shell.cancels) == ("running", [id])
    shell.end(id, "cancelled", -15)
    assert (shell.store.records["conversion", id].reason, shell.types()[-1]) == ("no need", "conversion.cancelled")
    assert shell.store.intents == {}
    shell.sound()


def test_a_cancel_is_asked_of_the_door_when_it_is_durable() -> None:
    shell = finished()
    shell.hold_commits = True
    sent = shell.send(c.CancelConversion(conversion_id=only(shell)))
    shell.run()
    assert (shell.cancels, shell.told(sent)) == ([], [""])
    shell.commit().run()
    assert (shell.cancels, shell.told(sent)) == ([only(shell)], ["ok"])


def test_a_script_that_ends_badly_after_it_was_cancelled_is_not_started_again() -> None:
    shell = finished(policy=Policy(max_attempts=5, backoff_s=1.0))
    shell.must(c.CancelConversion(conversion_id=only(shell)))
    shell.end(only(shell), "exited", 1).wait(100.0)
    assert len(shell.started) == 1
    assert states(shell) in (["cancelled"], ["failed"])


def test_a_conversion_that_a_kill_interrupted_is_started_again() -> None:
    shell = finished().restart()
    assert (states(shell), [script.attempt for script in shell.started]) == (["running"], [1, 2])
    shell.end(only(shell))
    assert states(shell) == ["succeeded"]
    shell.sound()


def test_a_cancel_that_a_kill_interrupted_is_a_cancel_after_the_restart() -> None:
    shell = finished()
    shell.must(c.CancelConversion(conversion_id=only(shell), reason="no need")).restart()
    assert (states(shell), len(shell.started), shell.store.intents) == (["cancelled"], 1, {})


def test_a_stopping_service_starts_no_more() -> None:
    shell = with_acq("convert")
    shell.desk.start_no_more()
    shell.must(close())
    assert (states(shell), shell.started) == (["queued"], [])


def test_opening_again_waits_for_no_script_and_starts_none() -> None:
    shell = finished(2, max_parallel=1)
    shell.must(new_acq(acq_name="a0"), new_acq(acq_name="a1"))
    assert states(shell) == ["running", "cancelled"]
    shell.end(shell.started[0].conversion_id)
    assert (states(shell), len(shell.started)) == (["succeeded", "cancelled"], 1)
    shell.sound()


# Removed


def test_a_removal_waits_until_nothing_of_the_scripts_is_left() -> None:
    shell = finished()
    id, orders = only(shell), []

    def door(order: Order) -> Result:
        orders.append(order)
        return Done()

    shell.door = door
    sent = shell.send(new_run(mode="remove"))
    shell.run()
    assert (shell.told(sent), shell.cancels, orders) == ([""], [id], [])
    shell.end(id, "cancelled", -15)
    assert (shell.told(sent), [type(order) for order in orders]) == (["ok"], [MakeFolder])
    told = ["conversion.cancelled", "acquisition.removed", "run.removed", "run.created"]
    assert (shell.types()[-4:], states(shell), shell.store.intents) == (told, ["cancelled"], {})
    shell.sound()


def test_a_script_that_ends_badly_while_its_data_are_removed_never_runs_on_the_new_ones() -> None:
    shell = finished(policy=Policy(max_attempts=5, backoff_s=1.0))
    shell.send(new_acq(acq_name="a0", mode="remove"))
    shell.run()
    shell.end(only(shell), "exited", 1)
    shell.must(close("root/g/r/a0")).wait(100.0)
    assert len(shell.started) == 1
    assert states(shell) in (["cancelled"], ["failed"])
    shell.restart()
    shell.sound()


def test_a_seal_of_the_next_segment_comes_before_its_conversion() -> None:
    shell = finished()
    shell.end(only(shell)).must(new_acq(acq_name="a0", convert_script="convert"))
    shell.door = lambda order: None if isinstance(order, SyncData) else done(order)
    shell.must(close("root/g/r/a0"))
    assert len(shell.started) == 1
    shell.release()
    assert len(shell.started) == 2
    assert shell.started[1].log_name == "conversion-2-1.log"
