"""Where a streak of parameters ends: each kind of command that has to go the long way, and what is taken back.

That both ways come to the same, whatever is sent, is test_desk_streaks.
"""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_protocol.keys import uuid7
from storage_protocol.limits import Limits
from storage_service.desk.messages import open_message
from tests.support.step_shell import (
    ACQ,
    START,
    StepShell,
    close,
    config,
    init,
    new_acq,
    new_run,
    set_acq,
    with_acq,
)

T_ACQ = "root/h/r/a"
B_ACQ = "root/g/r/b"
DAY = 86_400.0
Keyed = Command | tuple[Command, str]


def key(number: int) -> str:
    """A UUIDv7 that was made just now."""
    return uuid7(int(START * 1000) + 5_000 + number, bytes(10))


def put(param: str, value: Any = 1, acq_id: str = ACQ, storage_id: str = "s") -> Command:
    return c.SetParamAcq(storage_id=storage_id, acq_id=acq_id, param=param, value=value)


def params(shell: StepShell, acq_id: str = ACQ) -> dict[str, Any]:
    """As they are on the disk."""
    found: dict[str, Any] = shell.store.record(("node", acq_id)).params
    return found


def two(**args: Any) -> StepShell:
    """An open acquisition of the storage s, and one of t."""
    shell = with_acq(**args).must(init("t", brg_name="h", brg_path="h"), config("t"), new_run("t"), new_acq("t"))
    return shell.must(init("w", brg_name="w", brg_path="w"))


def with_a_door_held(shell: StepShell) -> StepShell:
    """While the storage w is at its door, there are no streaks."""
    shell.door = lambda order: None
    shell.send(config("w"), peer=b"w")
    return shell.run()


class Attempts:
    """How many commands are decided by themselves."""

    def __init__(self, shell: StepShell) -> None:
        self.made = 0
        self._attempt = shell.desk._deciding.attempt
        shell.desk._deciding.attempt = self  # type: ignore[method-assign,assignment]

    def __call__(self, *args: Any) -> bool:
        self.made += 1
        return self._attempt(*args)


# What is a streak


def test_parameters_of_a_message_are_decided_together() -> None:
    shell = two()
    attempts = Attempts(shell)
    asked = [put(f"x{number}") for number in range(50)] + [put("x", 1, T_ACQ, "t")] * 50
    sent = shell.send(*[(each, key(number)) for number, each in enumerate(asked)])
    shell.run()
    assert (shell.told(sent), attempts.made) == (["ok"] * 100, 0)
    shell.sound()


def test_parameters_of_many_messages_are_decided_together() -> None:
    shell = with_acq()
    attempts = Attempts(shell)
    frames = [codec.encode_command(f"c{number}", put("x", number)) for number in range(50)]
    shell.messages.clear()
    shell.desk.take([open_message([b"p", frame], Limits()) for frame in frames], shell.now)
    shell.run()
    assert (len(shell.messages), attempts.made, params(shell)) == (50, 0, {"x": 49})
    assert [codec.decode_reply(frame).id for _, frame in shell.messages] == [f"c{n}" for n in range(50)]
    shell.sound()


def test_parameters_of_several_connections_are_set_in_the_order_in_which_they_came() -> None:
    shell = with_acq()
    peers = [b"p", b"q", b"q", b"p", b"q", b"p", b"p"]
    frames = [codec.encode_command(number, put("x", number)) for number in range(100, 107)]
    bites = [open_message([peer, frame], Limits()) for peer, frame in zip(peers, frames, strict=True)]
    shell.desk.take(bites, shell.now)
    shell.run()
    assert [event.data["value"] for event in shell.events[-7:]] == list(range(100, 107))
    assert [parts[0] for parts in shell.messages[-7:]] == peers
    shell.sound()


def test_nothing_of_a_streak_is_told_before_the_commit() -> None:
    shell = with_acq()
    shell.hold_commits = True
    sent = shell.send(put("x"), put("y"), put("z"))
    told = shell.types().count("acquisition.param_set")
    shell.run()
    assert (shell.told(sent), params(shell), told) == ([""] * 3, {}, 0)
    shell.commit().run()
    assert (shell.told(sent), params(shell)) == (["ok"] * 3, {"x": 1, "y": 1, "z": 1})
    assert shell.types()[-3:] == ["acquisition.param_set"] * 3


def test_replies_keep_their_places_around_what_is_no_parameter() -> None:
    shell = with_acq()
    middle = [c.GetAcq(acq_id=ACQ), c.Ping(), c.RegisterProducer(storage_id="s", producer="p")]
    asked: list[Command] = [put("x"), put("x", 2), *middle, put("x", 3), put("x", 4), close(), put("x", 5)]
    frames = [codec.encode_command(100 + number, each) for number, each in enumerate(asked)]
    frames[1:1] = [b"\xc1"]
    shell.take([b"p", b"", *frames])
    shell.run()
    _, delimiter, *replies = shell.messages[-1]
    read = [codec.decode_reply(each) for each in replies]
    assert (delimiter, [each.id for each in read]) == (b"", [100, None, *range(101, 109)])
    told = [each.error.code if each.error else "ok" for each in read]
    assert told == ["ok", "bad_request", *["ok"] * 7, "wrong_state"]
    assert (read[3].result["params"], params(shell)) == ({"x": 2}, {"x": 4})
    shell.sound()


# What ends one: keys

SINCE = ["in the same streak", "in the same batch", "in the next batch", "after the commit", "after a restart"]


@pytest.mark.parametrize("since", SINCE)
def test_a_key_of_a_streak_runs_once_whenever_its_repeat_comes(since: str) -> None:
    shell = with_acq()
    shell.hold_commits = True
    first: list[Keyed] = [(put("x", 1), key(2)), (put("x", 2), key(1)), (put("x", 3), key(3))]
    again: list[Keyed] = [*first, (put("y", 1), key(4)), (put("x", 9), key(1)), put("z")]
    if since == "in the same streak":
        sent = shell.send(*first, *again)
    else:
        sent = shell.send(*first)
        if since != "in the same batch":
            shell.run()
        if since.startswith("after"):
            shell.commit().run()
            assert shell.told(sent) == ["ok"] * 3
        if since == "after a restart":
            shell.restart()
            sent = []
        sent += shell.send(*again)
    shell.run()
    while shell.batch is not None:
        shell.commit().run()
    assert shell.told(sent[-6:]) == [*["ok"] * 4, "conflict", "ok"]
    assert shell.told(sent[:-6]) in ([], ["ok"] * 3)
    assert params(shell) == {"x": 3, "y": 1, "z": 1}
    assert list(shell.store.keys) == [key(2), key(1), key(3), key(4)]
    shell.sound()


def test_a_key_that_the_database_has_to_be_asked_for_waits_for_its_answer() -> None:
    shell = with_acq()
    assert shell.call(put("x", 1), "plain").ok
    assert shell.call(put("x", 2), key(100)).ok
    shell.restart().must(put("q"))
    shell.hold_look_ups = True
    repeats: list[Keyed] = [(put("x", 1), "plain"), (put("x", 2), key(100))]
    sent = shell.send(put("a"), *repeats, (put("y"), key(1)), (put("z"), "new"), (put("b"), key(9_000)))
    while shell.turn():
        pass
    assert (shell.told(sent), params(shell)) == ([""] * 6, {"x": 2, "q": 1, "a": 1})
    shell.hold_look_ups = False
    shell.run()
    assert (shell.told(sent), params(shell)) == (["ok"] * 6, {"x": 2, "q": 1, "a": 1, "y": 1, "z": 1, "b": 1})
    shell.sound()


def test_a_key_older_than_one_that_was_forgotten_never_runs() -> None:
    shell = with_acq()
    assert shell.call(put("x", 1), key(3)).ok
    shell.wait(7 * DAY + 200)
    assert key(3) not in shell.store.keys
    fresh = uuid7(int(shell.wall * 1000), bytes(10))
    sent = shell.send((put("x", 2), fresh), (put("x", 3), key(2)), (put("x", 4), key(3)), (put("x", 5), key(4)))
    shell.run()
    assert shell.told(sent) == ["ok", "key_expired", "key_expired", "ok"]
    assert params(shell) == {"x": 5}
    shell.sound()


# What ends one: limits


def test_a_parameter_too_many_is_refused_and_those_around_it_are_set() -> None:
    shell = with_acq(limits=Limits(params=3))
    asked = [put("a"), put("b"), put("a", 2), put("c"), put("d"), put("b", 2), put("e"), put("c", 2), put("a", 3)]
    sent = shell.send(*[(each, key(number)) for number, each in enumerate(asked)])
    shell.run()
    assert shell.told(sent) == [*["ok"] * 4, "too_large", "ok", "too_large", "ok", "ok"]
    assert shell.replies[b"p", sent[4]].error.details == {"limit": "params", "maximum": 3}
    assert params(shell) == {"a": 3, "b": 2, "c": 2}
    assert key(4) not in shell.store.keys
    shell.sound()


def test_parameters_too_large_are_refused_and_those_around_them_are_set() -> None:
    shell = with_acq(limits=Limits(params_bytes=30))
    asked = [put("a", "x" * 9), put("b", "x" * 9), put("b", "ü" * 10), put("a", "x" * 18), put("a", "x" * 20)]
    asked += [put("b", ""), put("a", "x" * 28), put("a", "x" * 29), put("c"), put("a", None), put("c")]
    sent = shell.send(*asked)
    shell.run()
    told = ["ok", "ok", "too_large", "ok", "too_large", "ok", "ok", "too_large", "too_large", "ok", "ok"]
    assert shell.told(sent) == told
    assert shell.replies[b"p", sent[2]].error.details == {"limit": "params_bytes", "maximum": 30}
    assert (params(shell), shell.record(("node", ACQ)).params_bytes) == ({"a": None, "b": "", "c": 1}, 12)
    shell.sound()


@pytest.mark.parametrize("more", [1, 40])
def test_what_has_no_room_for_its_reply_is_refused(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for held in (False, True):
        shell = two()
        large = len(codec.encode_value(shell.call(c.GetStorage(storage_id="s")).result))
        if held:
            with_a_door_held(shell)
        monkeypatch.setattr("storage_service.desk.messages.REPLY_BYTES", large + more)
        rows = [put(f"x{number}") for number in range(8)]
        mixed, long = shell.send(*rows, c.GetStorage(storage_id="s"), *rows), shell.send(*rows * 90, peer=b"q")
        shell.run()
        told.append((shell.told(mixed), shell.told(long, b"q"), params(shell)))
        monkeypatch.undo()
    assert told[0] == told[1]
    assert told[0][0] == [*["ok"] * 9, *["overloaded"] * 8]
    assert set(told[0][1]) == {"ok", "overloaded"}


def test_what_is_not_set_leaves_no_tail() -> None:
    shell = with_acq(limits=Limits(params_bytes=1))
    told = {event.type: event.seq for event in shell.events}
    assert shell.call(put("x")).error.code == "too_large"
    # As heartbeats tell it: each type of event with its newest seq (SPEC 6.8).
    assert shell.desk._ledger.transactions._journal.tails() == told


# What ends one: others at work, and what is not in memory


def test_parameters_wait_while_their_run_is_at_a_door() -> None:
    shell = two()
    shell.door = lambda order: None
    shell.send(new_run(params={"n": 1}), peer=b"o")
    shell.run()
    mixed = shell.send(put("x", 1, T_ACQ, "t"), put("y", 1, T_ACQ, "t"), put("x"), put("y"))
    behind = [shell.send(put("x", 2)), shell.send(put("z", 1, T_ACQ, "t"))]
    shell.run()
    assert (params(shell), params(shell, T_ACQ)) == ({}, {"x": 1, "y": 1, "z": 1})
    assert (shell.told(mixed), [shell.told(ids) for ids in behind]) == ([""] * 4, [[""], ["ok"]])
    shell.release()
    assert (shell.told(mixed), [shell.told(ids) for ids in behind]) == (["ok"] * 4, [["ok"], ["ok"]])
    assert (params(shell), params(shell, T_ACQ)) == ({"x": 2, "y": 1}, {"x": 1, "y": 1, "z": 1})
    assert shell.types()[-4:] == ["run.param_set", *["acquisition.param_set"] * 3]
    shell.sound()


def test_parameters_of_an_acquisition_that_is_at_a_door_are_set_when_it_is_open() -> None:
    shell = two()
    shell.door = lambda order: None
    sent = shell.send(put("x"), new_acq(acq_name="b"), put("x", 2, B_ACQ), put("x", 3, B_ACQ), put("x", 4))
    shell.run()
    assert (shell.told(sent), params(shell)) == ([""] * 5, {"x": 1})
    shell.release()
    assert (shell.told(sent), params(shell), params(shell, B_ACQ)) == (["ok"] * 5, {"x": 4}, {"x": 3})
    shell.sound()


def test_what_is_not_in_memory_is_looked_up_once_for_all_of_them() -> None:
    shell = with_acq().must(new_acq(acq_name="b"), close(B_ACQ)).restart()
    shell.hold_look_ups = True
    sent = shell.send(put("x"), put("y"), put("x", 1, B_ACQ), put("x", 1, "root/g/r/c"), put("z"))
    while shell.turn():
        pass
    asked = [key for key, _ in shell.take_look_ups()]
    assert shell.told(sent) == [""] * 5
    assert sorted(asked) == [("node", "root/g/r"), ("node", B_ACQ), ("node", "root/g/r/c")]
    shell.hold_look_ups = False
    shell.desk.looked_up(shell.store.look_up(asked), shell.now)
    shell.run()
    assert shell.told(sent) == ["ok", "ok", "wrong_state", "not_found", "ok"]
    shell.sound()


def test_without_rundb_nothing_is_stored_but_the_keys() -> None:
    shell = StepShell().must(init(use_rundb=False), config(), new_run(), new_acq())
    seq = shell.store.last_seq
    sent = shell.send((put("x"), key(1)), put("y"), (put("x"), key(1)), (put("x", 2), key(1)))
    shell.run()
    assert shell.told(sent) == ["ok", "ok", "ok", "conflict"]
    assert [shell.replies[b"p", id].result for id in sent[:3]] == [{"stored": False}] * 3
    assert (params(shell), shell.store.last_seq, list(shell.store.keys)) == ({}, seq, [key(1)])
    shell.sound()


# Rolled back


def test_a_streak_that_was_rolled_back_never_happened() -> None:
    shell = with_acq().must(put("x", "old"), set_acq(0))
    before, keys, seq = shell.record(("node", ACQ)), dict(shell.store.keys), shell.store.last_seq
    shell.hold_commits = True
    asked: list[Keyed] = [(put("x", "new"), key(1)), (put("y", 2), key(2)), put("z"), (put("x", 3), key(3))]
    lost = shell.send(*asked)
    shell.run()
    lost += shell.send(put("y", 4), (put("v"), key(4)))
    shell.run()
    joined = shell.send((put("y", 2), key(2)), peer=b"q")
    shell.roll_back().run()
    assert (shell.told(lost), shell.told(joined, b"q")) == (["unavailable"] * 6, ["unavailable"])
    assert (shell.record(("node", ACQ)), shell.store.keys, shell.batch) == (before, keys, None)
    shell.hold_commits = False
    sent = shell.send(*asked)
    shell.run()
    assert shell.told(sent) == ["ok"] * 4
    assert [event.seq for event in shell.events[-4:]] == [seq + 1, seq + 2, seq + 3, seq + 4]
    assert params(shell) == {"x": 3, "y": 2, "z": 1}
    shell.sound()


def test_a_streak_that_was_rolled_back_leaves_the_one_before_it() -> None:
    shell = with_acq()
    shell.hold_commits = True
    shell.send(put("x"), put("y", "text"))
    shell.run()
    shell.send(put("x", 2), put("z"))
    shell.run().commit()
    kept = shell.store.record(("node", ACQ))
    shell.run().roll_back().run()
    assert (shell.record(("node", ACQ)), kept.params) == (kept, {"x": 1, "y": "text"})
    shell.hold_commits = False
    shell.must(put("z", 3))
    assert shell.record(("node", ACQ)) == shell.store.record(("node", ACQ))
    shell.sound()


def test_what_a_batch_says_of_an_acquisition_stays_when_the_next_one_sets_parameters() -> None:
    shell = with_acq().must(new_acq(acq_name="b", producers=("p", "q")))
    shell.hold_commits = True
    mark = c.MarkAsFinished(storage_id="s", acq_id=B_ACQ, producer="p")
    shell.send(put("x", 1, B_ACQ), mark, put("y", 1, B_ACQ))
    shell.run()
    shell.send(put("x", 2, B_ACQ), put("z", 1, B_ACQ))
    shell.run()
    said = shell.batch.records["node", B_ACQ]
    assert (said.params, said.params_bytes) == ({"x": 1, "y": 1}, 18)
    shell.roll_back().run()
    assert (params(shell, B_ACQ), shell.record(("node", B_ACQ)).params) == ({}, {})
    shell.sound()
