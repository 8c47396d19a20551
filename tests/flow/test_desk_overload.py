"""Too much is waiting: what comes is refused and changes nothing, and what waits is answered (SPEC 2)."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules.work import Done, Failed
from tests.support.step_shell import StepShell, init, new_acq, with_run

REGISTER = c.RegisterProducer(storage_id="s")


def full(monkeypatch: pytest.MonkeyPatch) -> StepShell:
    """The disk does not keep up: one batch is out, and the next one is full."""
    monkeypatch.setattr("storage_service.desk.transactions.MAX_REPLIES", 2)
    shell = StepShell().must(init())
    shell.hold_commits = True
    for _ in range(5):
        shell.send(REGISTER, peer=b"busy")
        shell.run()
    return shell


def test_what_comes_when_the_disk_does_not_keep_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = full(monkeypatch)
    refused = shell.send((REGISTER, "k"), REGISTER)
    shell.run()
    assert shell.told(refused) == ["overloaded", "overloaded"]
    assert shell.replies[b"p", refused[0]].error.details["retry_after_s"] > 0
    while shell.batch is not None:
        shell.commit().run()
    shell.hold_commits = False
    before = shell.record(("storage", "s")).producers_unnamed
    assert shell.call(REGISTER, "k").ok
    assert shell.record(("storage", "s")).producers_unnamed == before + 1
    shell.sound()


def test_ping_and_describe_are_answered_when_the_disk_does_not_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = full(monkeypatch)
    sent = shell.send(c.Ping(), c.Describe())
    shell.run()
    assert shell.told(sent) == ["ok", "ok"]


def test_what_comes_when_too_many_commands_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.desk.MAX_WAITING", 3)
    shell = with_run()
    shell.door = lambda order: None
    waiting = [shell.send(new_acq(), REGISTER), shell.send(REGISTER)]
    shell.run()
    refused = shell.send(REGISTER, REGISTER)
    shell.run()
    assert shell.told(refused) == ["overloaded", "overloaded"]
    other = shell.send(c.RegisterProducer(storage_id="t"), peer=b"q")
    shell.run()
    assert shell.told(other, b"q") == ["not_found"]
    shell.release()
    assert [shell.told(sent) for sent in waiting] == [["ok", "ok"], ["ok"]]
    assert shell.call(REGISTER).ok
    shell.sound()


def test_of_a_message_that_is_too_much_what_need_not_wait_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.desk.MAX_WAITING", 1)
    shell = with_run()
    sent = shell.send(REGISTER, new_acq(), REGISTER, REGISTER)
    shell.run()
    assert shell.told(sent) == ["ok", "overloaded", "overloaded", "overloaded"]
    assert shell.record(("storage", "s")).producers_unnamed == 1
    shell.sound()


def test_what_was_refused_as_too_much_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = with_run()
    shell.door = lambda order: Failed("unavailable", "It hangs.", {"reason": "mount"})
    assert shell.call(new_acq()).error.code == "unavailable"
    shell.door = lambda order: Done()
    monkeypatch.setattr("storage_service.desk.desk.MAX_WAITING", 1)
    refused = shell.send(new_acq(), REGISTER)
    shell.run()
    assert shell.told(refused) == ["overloaded", "overloaded"]
    assert shell.call(new_acq(), peer=b"q").ok
    shell.sound()
