"""Replies and events: in which order, and never before what they tell of is durable (SPEC 2)."""

from __future__ import annotations

from typing import Any

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.limits import Limits
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


def ids(parts: list[bytes], first: int) -> list[object]:
    return [codec.decode_reply(frame).id for frame in parts[first:]]


# The reply message mirrors the command message


def test_the_replies_are_in_the_order_of_the_commands() -> None:
    shell = StepShell()
    frames = [
        codec.encode_command(1, init()),
        b"\xc1",
        codec.encode_command(3, c.Ping()),
        codec.encode_command(4, config()),
    ]
    shell.take([b"p", *frames])
    shell.run()
    (parts,) = shell.messages
    assert parts[0] == b"p"
    assert ids(parts, 1) == [1, None, 3, 4]


def test_the_delimiter_is_given_back() -> None:
    shell = StepShell()
    shell.take([b"p", b"", codec.encode_command(1, c.Ping())])
    shell.run()
    (parts,) = shell.messages
    assert parts[:2] == [b"p", b""]
    assert ids(parts, 2) == [1]


def test_a_message_without_a_command_has_one_refusal() -> None:
    for empty in ([b"p"], [b"p", b""]):
        shell = StepShell()
        shell.take(empty)
        shell.run()
        ((*_, frame),) = shell.messages
        reply: Any = codec.decode_reply(frame)
        assert reply.error.code == "bad_request"


def test_of_a_message_that_is_too_large_nothing_runs() -> None:
    for limits, limit in (
        (Limits(frames_per_message=2), "frames_per_message"),
        (Limits(message_bytes=100), "message_bytes"),
    ):
        shell = StepShell(limits=limits)
        shell.take([b"p", *[codec.encode_command(1, init(f"s{number}")) for number in range(3)]])
        shell.run()
        ((_, frame),) = shell.messages
        reply: Any = codec.decode_reply(frame)
        assert (reply.id, reply.error.code, reply.error.details["limit"]) == (None, "too_large", limit)
        assert shell.store.last_seq == 0


def test_commands_of_one_message_are_executed_in_order_and_each_on_its_own() -> None:
    shell = StepShell()
    sent = shell.send(init(), new_run(), config(), new_run(), new_acq(), set_acq(1), close(), c.GetAcq(acq_id=ACQ))
    shell.run()
    assert shell.told(sent) == ["ok", "wrong_state", *["ok"] * 6]
    assert shell.replies[b"p", sent[-1]].result["state"] == "finished"
    assert len(shell.messages) == 1


def test_a_command_waits_for_the_one_before_it_in_its_message_also_of_another_storage() -> None:
    shell = with_run().must(init("t"))
    shell.door = lambda order: None
    sent = shell.send(new_acq(), c.RegisterProducer(storage_id="t", producer="p"))
    shell.run()
    assert (shell.told(sent), shell.store.record(("storage", "t")).producers) == (["", ""], ())
    shell.release()
    assert (shell.told(sent), shell.store.record(("storage", "t")).producers) == (["ok", "ok"], ("p",))


# Commit, then speak


def test_nothing_is_told_before_the_commit() -> None:
    shell = StepShell()
    shell.hold_commits = True
    sent = shell.send(init())
    shell.run()
    assert (shell.told(sent), shell.events) == ([""], [])
    shell.commit().run()
    assert (shell.told(sent), shell.types()) == (["ok"], ["storage.initialized"])


def test_commands_that_arrive_while_a_commit_runs_share_the_next_one() -> None:
    shell = StepShell()
    shell.hold_commits = True
    first = shell.send(init("s0"))
    shell.run()
    later = [shell.send(init(f"s{number}"), peer=b"p%d" % number) for number in range(1, 4)]
    shell.run()
    assert shell.desk.cut() is None
    shell.commit().turn()
    assert (shell.told(first), [shell.told(sent, b"p%d" % n) for n, sent in enumerate(later, 1)]) == (
        ["ok"],
        [[""]] * 3,
    )
    shell.run()
    assert shell.batch is not None
    assert len(shell.batch.rows) == 3
    shell.commit().run()
    assert [shell.told(sent, b"p%d" % n) for n, sent in enumerate(later, 1)] == [["ok"]] * 3
    assert shell.store.commits == 2


def test_what_changes_nothing_needs_no_commit() -> None:
    shell = StepShell().must(init())
    assert (shell.call(init()).ok, shell.store.commits, shell.types()) == (True, 1, ["storage.initialized"])
    assert (shell.call(c.DeinitStorage(storage_id="t")).result, shell.store.commits) == ({}, 1)


def test_what_changes_nothing_waits_for_what_is_not_durable_yet() -> None:
    shell = StepShell()
    shell.hold_commits = True
    shell.send(init())
    shell.run()
    sent = shell.send(init(), peer=b"q")
    shell.run()
    assert shell.told(sent, b"q") == [""]
    shell.commit().run()
    assert shell.told(sent, b"q") == ["ok"]


def test_a_refusal_waits_for_what_is_not_durable_yet() -> None:
    shell = StepShell()
    shell.hold_commits = True
    shell.send(init())
    shell.run()
    sent = shell.send(init(brg_path="x"), peer=b"q")
    shell.run()
    assert shell.told(sent, b"q") == [""]
    shell.commit().run()
    assert shell.told(sent, b"q") == ["already_exists"]


def test_a_refusal_goes_at_once_when_everything_is_durable() -> None:
    shell = StepShell()
    sent = shell.send(config())
    assert shell.desk.cut() is None
    shell.run()
    assert (shell.told(sent), shell.store.commits) == (["not_found"], 0)


def test_the_events_are_told_once_in_order() -> None:
    shell = with_acq().must(set_acq(1), close())
    assert [event.seq for event in shell.events] == list(range(1, len(shell.events) + 1))
    assert shell.types() == [
        *("storage.initialized", "group.created", "storage.configured", "run.created"),
        *("acquisition.started", "acquisition.param_set", "acquisition.finished", "acquisition.sealed"),
    ]
    shell.sound()


# Queries


def test_a_query_tells_of_what_its_own_peer_did_before() -> None:
    shell = StepShell()
    shell.hold_commits = True
    shell.send(init())
    sent = shell.send(c.GetStorage(storage_id="s"))
    shell.run()
    assert shell.told(sent) == [""]
    shell.commit().run()
    assert shell.told(sent) == ["ok"]


def test_a_query_of_another_peer_tells_of_what_is_durable_at_once() -> None:
    shell = StepShell()
    shell.hold_commits = True
    shell.send(init())
    sent = shell.send(c.GetStorage(storage_id="s"), peer=b"q")
    shell.run()
    assert shell.told(sent, b"q") == ["not_found"]


def test_a_query_waits_for_a_command_of_its_peer_that_is_at_a_door() -> None:
    shell = with_run()
    shell.door = lambda order: None
    acquired = shell.send(new_acq())
    queries = [
        shell.send(query)
        for query in (
            c.GetStorage(storage_id="s"),
            c.GetAcq(acq_id=ACQ),
            c.ListStorages(),
            c.GetStorage(storage_id="t"),
        )
    ]
    shell.run()
    assert shell.told(acquired) == [""]
    assert [shell.told(sent) for sent in queries] == [[""], [""], [""], ["not_found"]]
    shell.release()
    assert [shell.told(sent) for sent in queries] == [["ok"], ["ok"], ["ok"], ["not_found"]]
    assert shell.replies[b"p", queries[0][0]].result["state"] == "acquiring"


def test_a_command_does_not_overtake_a_query_of_its_peer() -> None:
    shell = with_run().must(init("t"))
    shell.hold_commits = True
    shell.send(c.RegisterProducer(storage_id="s", producer="p1"))
    query = shell.send(c.GetStorage(storage_id="s"))
    shell.send(c.RegisterProducer(storage_id="s", producer="p2"))
    shell.run()
    shell.commit()
    shell.run()
    while shell.batch is not None:
        shell.commit().run()
    assert shell.replies[b"p", query[0]].result["producers"] == ["p1"]


def test_ping_and_describe_wait_for_nothing() -> None:
    shell = with_run()
    shell.hold_commits = True
    shell.door = lambda order: None
    shell.send(init("t"), peer=b"q")
    shell.run()
    sent = shell.send(c.Ping(), c.Describe(), peer=b"q")
    shell.run()
    assert shell.told(sent, b"q") == ["ok", "ok"]
