"""Variables in each store: they come back as they were, and are listed as the page says (SPEC 4.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from storage_protocol import commands as c
from storage_protocol.errors import Refusal
from storage_protocol.limits import REPLY_BYTES
from storage_service.rules.state import Variable
from tests.contract.test_store_lives import VALUES
from tests.support.memory_store import MemoryStore
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import StepShell

Store = MemoryStore | SqliteStore


def answer(store: SqliteStore, command: c.Command) -> dict[str, Any]:
    told = store.answer(command)
    assert isinstance(told, bytes)
    decoded: dict[str, Any] = msgspec.msgpack.decode(told)
    return decoded


def test_every_value_comes_back_as_it_was(store: Store) -> None:
    shell = StepShell(store=store)
    for n, value in enumerate(VALUES):
        shell.must(c.SetVar(name=f"v{n}", value=value))
    shell.restart()
    for n, value in enumerate(VALUES):
        ((_, found),) = store.look_up([("variable", f"default/v{n}")])
        assert repr(found) == repr(Variable("default", f"v{n}", value))
    assert store.look_up([("variable", "default/none"), ("variable", "other/v1")]) == [
        (("variable", "default/none"), None),
        (("variable", "other/v1"), None),
    ]


def test_a_reader_tells_each_value_as_it_is(sqlite_store: SqliteStore) -> None:
    shell = StepShell(store=sqlite_store)
    for n, value in enumerate(VALUES):
        shell.must(c.SetVar(name=f"v{n}", value=value))
        assert repr(answer(sqlite_store, c.GetVar(name=f"v{n}"))) == repr({"value": value})
    told = sqlite_store.answer(c.GetVar(ns="other", name="v0"))
    assert isinstance(told, Refusal)
    assert (told.code, told.details) == ("not_found", {"what": "variable", "id": "v0"})


def test_a_list_is_of_one_namespace_and_one_beginning(sqlite_store: SqliteStore) -> None:
    shell = StepShell(store=sqlite_store)
    names = ["a", "a.b", "a.c", "a_", "A.b", "ab", "b", "\u00e4", "a.\U0001f9ea", "a.%", "a*"]
    for name in names:
        shell.must(c.SetVar(name=name, value=name), c.SetVar(ns="other", name=name, value=0))

    def listed(prefix: str) -> list[str]:
        told = answer(sqlite_store, c.ListVars(prefix=prefix))
        assert set(told) == {"vars"}
        assert all(name == value for name, value in told["vars"].items())
        return list(told["vars"])

    for prefix in ("", "a", "a.", "a.b", "A", "\u00e4", "a.%", "nothing", "a*"):
        assert listed(prefix) == sorted((each for each in names if each.startswith(prefix)), key=str.encode)
    assert answer(sqlite_store, c.ListVars(ns="empty")) == {"vars": {}}


def test_a_list_over_the_limit_of_a_reply_is_cut_and_says_so(sqlite_store: SqliteStore) -> None:
    shell = StepShell(store=sqlite_store)
    shell.must(*(c.SetVar(name=f"v{n:03}", value=f"{n:03}" + "x" * 65_000) for n in range(80)))
    told = sqlite_store.answer(c.ListVars())
    assert isinstance(told, bytes)
    assert REPLY_BYTES - 70_000 < len(told) <= REPLY_BYTES
    cut = msgspec.msgpack.decode(told)
    assert cut["more"] is True
    assert list(cut["vars"]) == [f"v{n:03}" for n in range(len(cut["vars"]))]
    assert set(answer(sqlite_store, c.ListVars(prefix="v07"))) == {"vars"}


@pytest.mark.parametrize("room", [1, 2_100])
def test_a_list_in_a_message_that_has_no_room_left_has_one_at_least(sqlite_store: SqliteStore, room: int) -> None:
    StepShell(store=sqlite_store).must(*(c.SetVar(name=f"v{n}", value="x" * 99) for n in range(3)))
    told = sqlite_store._reader.read(c.ListVars(), room)
    assert isinstance(told, bytes)
    assert msgspec.msgpack.decode(told) == {"vars": {"v0": "x" * 99}, "more": True}


def test_a_life_of_sums_is_the_same_on_both_stores(sqlite_store: SqliteStore) -> None:
    memory = MemoryStore(sqlite_store.places)
    for store in (memory, sqlite_store):
        shell = StepShell(store=store)
        shell.must(
            c.SetVar(name="x", value=1), c.AddVar(name="x", delta=0.5), c.AddVar(ns="n", name="x", delta=-1)
        )
        shell.restart().must(c.AddVar(name="x", delta=1))
        shell.sound()
    assert sqlite_store.registers() == memory.registers()
    assert {key[1]: each.value for key, each in memory.registers().items()} == {"default/x": 2.5, "n/x": -1}  # type: ignore[union-attr]
