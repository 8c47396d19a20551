"""Variables on the path of a command: durable without an event, once for each key, taken back by a roll-back."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from storage_protocol import commands as c
from storage_service.rules.state import Variable
from tests.support.memory_store import MemoryStore
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, StepShell, init

X = ("variable", "default/x")


def add(delta: float = 1, name: str = "x") -> c.Command:
    return c.AddVar(name=name, delta=delta)


def held(shell: StepShell) -> StepShell:
    shell.hold_commits = True
    return shell


def value(store: MemoryStore | SqliteStore, key: tuple[str, str] = X) -> Any:
    found = store.record(key)
    return None if found is None else found.value


def test_a_variable_is_durable_and_makes_no_event() -> None:
    shell = StepShell()
    assert shell.call(c.SetVar(name="x", value="a")).result == {"value": "a"}
    assert (value(shell.store), shell.store.last_seq, shell.store.commits) == ("a", 0, 1)
    assert shell.call(c.SetVar(name="x", value=2)).ok
    assert shell.restart().call(add()).result == {"value": 3}
    shell.sound()


def test_nobody_hears_of_it_before_it_is_durable() -> None:
    shell = held(StepShell())
    sent = shell.send(add())
    shell.run()
    assert (shell.told(sent), shell.variables) == ([""], [])
    shell.commit().run()
    assert (shell.told(sent), shell.variables) == (["ok"], [Variable("default", "x", 1)])


def test_a_repeat_adds_nothing() -> None:
    shell = StepShell()
    assert shell.call(add(5), "k").result == shell.call(add(5), "k").result == {"value": 5}
    assert shell.restart().call(add(5), "k").result == {"value": 5}
    assert shell.call(add(6), "k").error.code == "conflict"
    assert value(shell.store) == 5


def test_what_was_rolled_back_was_never_added() -> None:
    shell = held(StepShell().must(add(1)))
    lost = shell.send((add(10), "k"), add(100))
    shell.run()
    on_top = shell.send(add(1000), peer=b"q")
    shell.run()
    shell.roll_back().run()
    assert (shell.told(lost), shell.told(on_top, b"q")) == (["unavailable"] * 2, ["unavailable"])
    shell.hold_commits = False
    assert shell.call(add(10), "k").result == {"value": 11}
    assert (value(shell.store), shell.variables) == (11, [Variable("default", "x", 1)])
    shell.wait(1.0)
    assert shell.variables[-1] == Variable("default", "x", 11)


def test_a_variable_that_was_new_is_gone_with_its_batch() -> None:
    shell = held(StepShell())
    shell.send(c.SetVar(name="x", value=7))
    shell.run().roll_back().run()
    shell.hold_commits = False
    assert shell.call(add()).result == {"value": 1}


def test_the_commands_of_one_connection_keep_their_order_around_a_look_up() -> None:
    shell = StepShell().must(c.SetVar(name="x", value=1)).restart()
    shell.hold_look_ups = True
    sent = shell.send(add(1))
    sent += shell.send(c.SetVar(name="x", value=10))
    sent += shell.send(add(1))
    shell.run()
    assert shell.told(sent) == ["", "", ""]
    shell.hold_look_ups = False
    shell.run()
    assert [shell.replies[b"p", id].result["value"] for id in sent] == [2, 10, 11]


def test_what_is_refused_changes_nothing() -> None:
    shell = StepShell().must(c.SetVar(name="x", value="text"))
    commits = shell.store.commits
    assert shell.call(add()).error.code == "bad_request"
    assert (value(shell.store), shell.store.commits) == ("text", commits)


def test_a_namespace_ends_at_its_first_slash() -> None:
    shell = StepShell().must(c.AddVar(ns="a", name="b/c", delta=1), c.AddVar(ns="a", name="b", delta=2))
    shell.restart().must(c.AddVar(ns="a", name="b/c", delta=1))
    assert value(shell.store, ("variable", "a/b/c")) == 2


def test_the_newest_value_is_told_when_the_name_was_told_of_just_now() -> None:
    shell = StepShell()
    for _ in range(50):
        shell.must(add())
    assert shell.variables == [Variable("default", "x", 1)]
    shell.wait(0.2)
    assert shell.variables == [Variable("default", "x", 1), Variable("default", "x", 50)]


@pytest.mark.parametrize("seed", range(40))
def test_sums_are_what_was_acknowledged_whatever_happens(
    seed: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random lives: lost transactions, late look-ups, ends of the process, repeats with their key, no memory."""
    chance = Random(seed)
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", chance.choice([0, 20_000]))
    store = SqliteStore(tmp_path, PLACES) if seed % 8 == 0 else MemoryStore(PLACES)
    shell = StepShell(store=store)
    asked = {f"key {n}": add(chance.choice([1, 2, 5]), chance.choice("xyz")) for n in range(60)}
    done: dict[str, Any] = {}
    sent: list[tuple[str, bytes, int]] = []

    def note() -> None:
        for key, peer, id in sent:
            reply = shell.replies.get((peer, id))
            if reply is not None and reply.ok:
                assert done.setdefault(key, reply.result) == reply.result, "a repeat has another reply"

    while len(done) < len(asked):
        match chance.randrange(12):
            case 0:
                shell.hold_commits = not shell.hold_commits
            case 1:
                shell.hold_look_ups = not shell.hold_look_ups
            case 2 if shell.batch is not None:
                shell.roll_back()
            case 3 if shell.batch is not None:
                shell.commit()
            case 4 if chance.random() < 0.3:
                note()
                sent.clear()
                shell.start()
            case _:
                keys = chance.choices([key for key in asked if key not in done], k=3)
                keys.append(chance.choice(list(asked)))
                peer = chance.choice([b"p", b"q"])
                ids = shell.send(*((asked[key], key) for key in keys), peer=peer)
                sent += [(key, peer, id) for key, id in zip(keys, ids, strict=True)]
        for _ in range(chance.randrange(4)):
            shell.turn()
        note()
    sums: dict[str, float] = {}
    for command in asked.values():
        assert isinstance(command, c.AddVar)
        sums[command.name] = sums.get(command.name, 0) + command.delta
    shell.hold_commits = shell.hold_look_ups = False
    if shell.batch is not None:
        shell.commit()
    shell.run()
    assert {key[1]: each.value for key, each in store.registers().items()} == {
        f"default/{name}": total for name, total in sums.items()
    }
    shell.must(init()).sound()
    store.close()
