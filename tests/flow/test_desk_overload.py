"""Too much is waiting: what comes is refused and changes nothing, and what waits is answered (SPEC 2)."""

from __future__ import annotations

import pytest

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.limits import Limits
from storage_service.desk.messages import Opened, open_message
from storage_service.rules.work import Done, Failed
from tests.support.step_shell import ACQ, StepShell, config, init, new_acq, with_run

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
    monkeypatch.setattr("storage_service.desk.peers.MAX_WAITING", 6)
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
    monkeypatch.setattr("storage_service.desk.peers.MAX_WAITING", 1)
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
    monkeypatch.setattr("storage_service.desk.peers.MAX_WAITING", 1)
    refused = shell.send(new_acq(), REGISTER)
    shell.run()
    assert shell.told(refused) == ["overloaded", "overloaded"]
    assert shell.call(new_acq(), peer=b"q").ok
    shell.sound()


# Shares of what may wait


def hung(monkeypatch: pytest.MonkeyPatch, most: int) -> StepShell:
    """A run, a mount point that does not answer, and room for so many commands that wait."""
    monkeypatch.setattr("storage_service.desk.peers.MAX_WAITING", most)
    shell = with_run()
    shell.door = lambda order: None
    return shell


def waiting(shell: StepShell, peer: bytes, count: int) -> int:
    """How many of so many acquisitions, each a message of one peer, wait: the others are refused."""
    sent = [shell.send(new_acq(acq_name=f"{peer.decode()}{n}"), peer=peer) for n in range(count)]
    shell.run()
    told = [shell.told(ids, peer) for ids in sent]
    assert {code for codes in told for code in codes} <= {"", "overloaded"}
    return told.count([""])


def test_one_peer_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = hung(monkeypatch, 12)
    assert waiting(shell, b"greedy", 20) == 6
    assert waiting(shell, b"modest", 2) == 2
    assert waiting(shell, b"another", 20) == 2
    assert waiting(shell, b"late", 1) == 1
    shell.release()
    assert shell.call(new_acq(acq_name="more"), peer=b"greedy").ok
    shell.sound()


def test_messages_that_come_together_have_no_more_room_than_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell = hung(monkeypatch, 12)
    frames = [codec.encode_command(n, new_acq(acq_name=f"together{n}"), None) for n in range(1_000, 1_008)]
    shell.desk.take([open_message([b"greedy", frame], shell.limits) for frame in frames], shell.now)
    shell.run()
    told = [code for n in range(1_000, 1_008) for code in shell.told([n], b"greedy")]
    assert told == [""] * 6 + ["overloaded"] * 2
    shell.release()
    shell.sound()


def test_large_commands_of_one_peer_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.peers.MAX_BYTES", 40_000)
    shell = with_run()
    shell.door = lambda order: None
    large = {"x": "y" * 9_000}
    sent = [shell.send(new_acq(acq_name=f"a{n}", params=large), peer=b"greedy") for n in range(4)]
    shell.run()
    assert [shell.told(ids, b"greedy") for ids in sent] == [[""], [""], ["overloaded"], ["overloaded"]]
    modest = shell.send(new_acq(acq_name="b", params=large), peer=b"modest")
    shell.run()
    assert shell.told(modest, b"modest") == [""]
    shell.release()
    assert shell.told(modest, b"modest") == ["ok"]
    assert shell.desk.counts()["bytes_waiting"] == 0
    shell.sound()


# Replies are memory too


def test_what_comes_after_the_replies_of_a_message_are_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.messages.REPLY_BYTES", 2_000)
    shell = with_run()
    shell.must(new_acq(params={"x": "y" * 900}))
    get = c.GetAcq(acq_id=ACQ)
    sent = shell.send(get, get, get, REGISTER, c.Ping())
    shell.run()
    assert shell.told(sent) == ["ok", "ok", "overloaded", "overloaded", "overloaded"]
    assert shell.record(("storage", "s")).producers_unnamed == 0
    assert shell.told(shell.send(get) + shell.run().send(REGISTER)) == ["ok", ""]
    shell.run()
    assert shell.desk.counts()["refused_overloaded"] == 3
    shell.sound()


def test_replies_that_wait_for_others_of_their_message_have_a_share_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = StepShell()
    for n in range(5):
        shell.must(init(f"s{n}", brg_name=f"g{n}", stats_names=["y" * 9_000]))
    monkeypatch.setattr("storage_service.desk.peers.MAX_BYTES", 40_000)
    shell.door = lambda order: None
    sent = [shell.send(c.GetStorage(storage_id=f"s{n}"), config(f"s{n}"), peer=b"greedy") for n in range(5)]
    shell.run()
    asked = c.GetStorage(storage_id="s0")
    modest = shell.send(asked, peer=b"modest")
    shell.run()
    assert shell.told(modest, b"modest") == ["ok"]
    shell.release()
    told = [shell.told(ids, b"greedy") for ids in sent]
    assert told == [["ok", "ok"]] * 2 + [["ok", "overloaded"]] + [["overloaded", "overloaded"]] * 2
    assert shell.desk.counts()["bytes_waiting"] == 0
    assert shell.call(config("s4"), peer=b"greedy").ok
    shell.sound()


# What waits is looked at when that for which it waits has come


def test_many_at_a_door_cost_each_other_nothing() -> None:
    shell = with_run()
    shell.door = lambda order: None
    tried = 0
    attempt = shell.desk._deciding.attempt

    def counted(*args: object) -> bool:
        nonlocal tried
        tried += 1
        return attempt(*args)

    shell.desk._deciding.attempt = counted
    for n in range(100):
        shell.send(new_acq(acq_name=f"a{n}"), peer=b"peer%d" % n)
    shell.run()
    for work_id, _ in shell.hung:
        shell.desk.outcome(work_id, Done(), shell.now)
    shell.hung.clear()
    shell.run()
    assert len([event for event in shell.types() if event == "acquisition.started"]) == 100
    assert tried < 100 * 10
    shell.sound()


def test_who_waits_for_a_greedy_peer_comes_before_what_that_peer_has_next() -> None:
    shell = with_run()
    shell.hold_commits = True
    greedy = [shell.send(new_acq(acq_name=f"a{n}"), peer=b"greedy")[0] for n in range(5)]
    shell.run()
    whole = shell.send(REGISTER, peer=b"modest")
    while shell.told(whole, b"modest") == [""]:
        shell.run().commit()
    assert shell.told(greedy, b"greedy")[2:] == ["", "", ""]
    shell.hold_commits = False
    if shell.batch is not None:
        shell.commit()
    shell.run()
    assert shell.told(greedy, b"greedy") == ["ok"] * 5
    shell.sound()


def test_a_message_that_is_too_much_is_refused_whole_with_a_reply_for_each_command() -> None:
    shell = StepShell().must(init())
    known = shell.record(("storage", "s"))
    frames = [codec.encode_command(7, REGISTER), b"garbage", codec.encode_command("x", c.Ping())]
    shell.desk.refuse(Opened([b"p", b"", *frames], Limits()), shell.now)
    shell.run()
    *head, first, second, third = shell.messages[-1]
    assert head == [b"p", b""]
    replies = [codec.decode_reply(each) for each in (first, second, third)]
    assert [reply.id for reply in replies] == [7, None, "x"]
    assert {reply.error.code for reply in replies if reply.error} == {"overloaded"}
    assert all(reply.error and reply.error.details["retry_after_s"] > 0 for reply in replies)
    assert shell.record(("storage", "s")) == known
    assert shell.desk.counts()["refused_overloaded"] == 3
    shell.sound()


def test_a_message_over_the_limits_that_is_too_much_is_answered_by_one_frame() -> None:
    shell = StepShell()
    shell.desk.refuse(Opened([b"p", *[b"x"] * 1025], Limits()), shell.now)
    shell.run()
    _, *replies = shell.messages[-1]
    assert [codec.decode_reply(each).error.code for each in replies] == ["too_large"]  # type: ignore[union-attr]
