"""A command with a key runs at most once (SPEC 5), whenever its repeat comes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_protocol.keys import uuid7
from storage_service.rules.work import Failed
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
    with_run,
)

KEYS = ["plain", uuid7(int(START * 1000), bytes(10))]
kinds = pytest.mark.parametrize("key", KEYS, ids=["a plain key", "a UUIDv7"])
REGISTER = c.RegisterProducer(storage_id="s")
DAY = 86_400.0


def unnamed(shell: StepShell) -> int:
    """How often an unnamed producer was registered."""
    return int(shell.store.record(("storage", "s")).producers_unnamed)


def results(shell: StepShell, ids: list[int], peer: bytes = b"p") -> list[object]:
    return [shell.replies[peer, id].result for id in ids]


@kinds
def test_a_repeat_in_the_same_message_has_the_same_reply(key: str) -> None:
    shell = StepShell().must(init())
    sent = shell.send((REGISTER, key), REGISTER, (REGISTER, key))
    shell.run()
    first, other, repeat = results(shell, sent)
    assert (unnamed(shell), first == repeat, first != other) == (2, True, True)


@kinds
def test_a_repeat_in_the_same_batch_has_the_same_reply(key: str) -> None:
    shell = StepShell().must(init())
    one, two = shell.send((REGISTER, key)), shell.send((REGISTER, key), peer=b"q")
    shell.run()
    assert (unnamed(shell), results(shell, one)) == (1, results(shell, two, b"q"))


@kinds
def test_a_repeat_in_the_next_batch_waits_for_the_first_one(key: str) -> None:
    shell = StepShell().must(init())
    shell.hold_commits = True
    one = shell.send((REGISTER, key))
    shell.run()
    two = shell.send((REGISTER, key), peer=b"q")
    shell.run()
    assert (shell.told(one), shell.told(two, b"q")) == ([""], [""])
    shell.commit().run()
    assert (shell.told(one), shell.told(two, b"q")) == (["ok"], ["ok"])
    assert (unnamed(shell), shell.batch) == (1, None)


@kinds
def test_a_repeat_after_the_commit_has_the_first_reply_whatever_happened_since(key: str) -> None:
    shell = StepShell().must(init())
    first = shell.call(REGISTER, key)
    shell.must(REGISTER)
    for peer in (b"p", b"q", b"p"):
        assert shell.call(REGISTER, key, peer).result == first.result
    assert unnamed(shell) == 2


@kinds
def test_a_repeat_after_a_restart_has_the_first_reply(key: str) -> None:
    shell = StepShell().must(init())
    first = shell.call(REGISTER, key)
    for _ in range(2):
        shell.restart()
        assert shell.call(REGISTER, key).result == first.result
    assert unnamed(shell) == 1


@kinds
def test_the_result_is_the_first_one_also_when_nothing_was_changed(key: str) -> None:
    shell = StepShell().must(init())
    first = shell.call(init(), key)
    shell.must(REGISTER)
    assert shell.call(init(), key).result == first.result
    shell.must(c.DeinitStorage(storage_id="s"))
    assert shell.call(init(), key).result == first.result


OTHERS: list[Command] = [
    c.RegisterProducer(storage_id="s", producer="p"),
    c.RegisterProducer(storage_id="t"),
    c.ConfigStorage(storage_id="s"),
]


@kinds
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.CMD)
def test_a_key_with_another_command_is_in_conflict(other: Command, key: str) -> None:
    shell = StepShell().must(init())
    at_once = shell.send((REGISTER, key), (other, key))
    shell.run()
    assert shell.told(at_once) == ["ok", "conflict"]
    later = [shell.call(other, key).error.code, shell.restart().call(other, key).error.code]
    assert later == ["conflict", "conflict"]
    assert unnamed(shell) == 1


def test_the_key_of_a_query_is_ignored() -> None:
    shell = StepShell()
    sent = shell.send((c.GetStorage(storage_id="s"), "k"), (init(), "k"), (c.GetStorage(storage_id="s"), "k"))
    shell.run()
    assert shell.told(sent) == ["not_found", "ok", "ok"]


@kinds
def test_a_refusal_is_not_remembered(key: str) -> None:
    shell = StepShell()
    assert shell.call(REGISTER, key).error.code == "not_found"
    shell.must(init())
    assert shell.call(REGISTER, key).ok
    assert unnamed(shell) == 1


# At a door


@kinds
def test_a_repeat_joins_what_is_at_a_door(key: str) -> None:
    shell = with_run()
    shell.door = lambda order: None
    one = shell.send((new_acq(), key))
    shell.run()
    two = shell.send((new_acq(), key), peer=b"q")
    shell.run()
    assert len(shell.hung) == 1
    shell.release()
    assert (shell.told(one), shell.told(two, b"q")) == (["ok"], ["ok"])
    assert results(shell, one) == results(shell, two, b"q")
    assert shell.types().count("acquisition.started") == 1


@kinds
def test_a_repeat_after_a_restart_joins_what_goes_on_by_itself(key: str) -> None:
    shell = with_run()
    shell.door = lambda order: None
    shell.send((new_acq(), key))
    shell.run()
    shell.start().door = lambda order: None
    again = shell.send((new_acq(), key))
    shell.run()
    assert (shell.told(again), len(shell.hung)) == ([""], 1)
    shell.release()
    assert shell.told(again) == ["ok"]
    assert shell.types().count("acquisition.started") == 1


@kinds
def test_a_refusal_of_a_door_goes_to_all_who_wait_and_is_not_remembered(key: str) -> None:
    shell = with_run()
    shell.door = lambda order: None
    one, two = shell.send((new_acq(), key)), shell.send((new_acq(), key), peer=b"q")
    shell.run()
    shell.release(Failed("unavailable", "It hangs.", {"reason": "mount"}))
    assert (shell.told(one), shell.told(two, b"q")) == (["unavailable"], ["unavailable"])
    assert shell.call(new_acq(), key).ok


# Rolled back


@kinds
def test_a_key_whose_batch_was_lost_runs_anew(key: str) -> None:
    shell = StepShell().must(init())
    shell.hold_commits = True
    one = shell.send((REGISTER, key))
    shell.run()
    two = shell.send((REGISTER, key), peer=b"q")
    shell.run()
    shell.roll_back().run()
    assert (shell.told(one), shell.told(two, b"q")) == (["unavailable"], ["unavailable"])
    shell.hold_commits = False
    assert shell.call(REGISTER, key).ok
    assert unnamed(shell) == 1


# Forgotten


def test_keys_are_remembered_for_seven_days() -> None:
    shell = StepShell().must(init())
    first = shell.call(REGISTER, "plain")
    shell.wait(7 * DAY - 200)
    assert shell.call(REGISTER, "plain").result == first.result
    shell.wait(400)
    assert shell.call(REGISTER, "plain").result != first.result


@pytest.mark.parametrize("restarted", [False, True], ids=["in the same life", "after a restart"])
def test_a_uuid7_from_before_the_newest_forgotten_one_never_runs(restarted: bool) -> None:
    shell = StepShell().must(init())
    older, forgotten = (uuid7(int(START * 1000) + ms, bytes(10)) for ms in (1, 2))
    assert shell.call(REGISTER, forgotten).ok
    shell.wait(7 * DAY + 200)
    if restarted:
        shell.restart()
    refused = shell.call(REGISTER, older)
    assert (refused.ok, refused.error and refused.error.code) == (False, "key_expired")
    assert refused.error.details["forgotten_before"].startswith("2023-11-14T22:13:20.00")
    assert not shell.call(REGISTER, forgotten).ok
    assert unnamed(shell) == 1
    assert shell.call(REGISTER, uuid7(int(shell.wall * 1000), bytes(10))).ok


def test_a_key_that_is_forgotten_at_this_very_moment_does_not_run_again() -> None:
    shell = StepShell().must(init())
    key = uuid7(int(START * 1000), bytes(10))
    assert shell.call(REGISTER, key).ok
    shell.restart()
    shell.wall, shell.mono = shell.wall + 8 * DAY, shell.mono + 8 * DAY
    shell.hold_commits = True
    shell.wait(61.0)
    batch, shell.batch = shell.batch, None
    assert batch.expire_keys_before is not None
    # It is gone from the database, and the desk was not told so yet.
    forgotten = shell.store.commit(batch, shell.wall)
    repeat, fresh = shell.send((REGISTER, key)), shell.send((REGISTER, "fresh"), peer=b"q")
    shell.hold_look_ups = True
    for _ in range(3):
        shell.turn()
        shell.tell_look_ups()
    assert (shell.told(repeat), [each[0] for each in shell.desk.keyring.at_work.items()]) == ([""], ["fresh"])
    shell.desk.committed(batch, shell.now, forgotten.forgotten_ms)
    shell.hold_look_ups = shell.hold_commits = False
    shell.run()
    assert (shell.told(repeat), shell.told(fresh, b"q")) == (["key_expired"], ["ok"])
    assert unnamed(shell) == 2


def test_old_keys_are_forgotten_a_bite_a_commit_while_commands_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.memory_store.EXPIRE_AT_ONCE", 10)
    shell = StepShell().must(init())
    old = [uuid7(int(START * 1000) + n, bytes(10)) for n in range(95)]
    for key in old:
        shell.send((REGISTER, key))
    shell.run()
    shell.wall, shell.mono = shell.wall + 8 * DAY, shell.mono + 8 * DAY
    sizes, ran = list[int](), 0
    while any(key in shell.store.keys for key in old):
        sizes.append(sum(key in shell.store.keys for key in old))
        # The repeat of an old key is answered as the first time, or refused; it never runs.
        repeats = [shell.call(REGISTER, key) for key in (old[0], old[-1])]
        assert all(reply.ok or reply.error.code == "key_expired" for reply in repeats)
        assert shell.call(REGISTER, uuid7(int(shell.wall * 1000) + ran, bytes(10))).ok
        ran += 1
        shell.desk.tick(shell.now)
        shell.run()
    assert all(before - after <= 10 for before, after in pairwise(sizes))
    assert len(sizes) >= 9
    assert unnamed(shell) == 95 + ran
    shell.sound()


@pytest.mark.parametrize("kept", [True, False], ids=["durable", "rolled back"])
def test_a_key_that_is_looked_up_while_old_ones_are_forgotten_is_judged_when_that_is_over(kept: bool) -> None:
    shell = StepShell().must(init())
    key = uuid7(int(START * 1000), bytes(10))
    assert shell.call(REGISTER, key).ok
    shell.wall, shell.mono = shell.wall + 7 * DAY + 200, shell.mono + 7 * DAY + 200
    shell.hold_commits = True
    shell.desk.tick(shell.now)
    shell.turn()
    batch, wall = shell.batch, shell.wall
    done = shell.store.commit(batch, wall) if kept else None
    assert (done is None, key in shell.store.keys) == (not kept, not kept)
    sent = shell.send((REGISTER, key))
    shell.run()
    # Where the key is gone, nobody said so yet: it is not taken for a new one.
    assert shell.told(sent) == ([""] if kept else ["ok"])
    if done is not None:
        shell.batch = None
        shell.desk.committed(batch, shell.now, done.forgotten_ms)
    else:
        shell.roll_back()
    shell.hold_commits = False
    shell.run()
    assert shell.told(sent) == (["key_expired"] if kept else ["ok"])
    assert unnamed(shell) == 1
    assert shell.call(REGISTER, "new one").ok


def test_keys_that_are_refused_leave_nothing_in_memory() -> None:
    shell = with_acq()
    shell.door = lambda order: Failed("unavailable", "It hangs.", {"reason": "mount"})
    for number in range(50):
        shell.call(new_run(run_name=f"n{number}"), f"door{number}")
        shell.call(new_acq(acq_name="a", params={"x": 1}), f"rule{number}")
        shell.call(close("root/g/r/none"), f"none{number}")
    keyring = shell.desk.keyring
    kept = {
        name: len(each) for name, each in vars(keyring).items() if isinstance(each, dict | set) and len(each) > 10
    }
    assert kept == {}


def test_a_life_with_keys_is_sound() -> None:
    shell = StepShell()
    for number, command in enumerate((init(), config(), new_run(), new_acq(), set_acq(1), close())):
        assert shell.call(command, f"k{number}").ok
    assert shell.store.record(("node", ACQ)).state == "finished"
    shell.sound()
