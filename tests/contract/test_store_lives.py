"""Random lives on each store: its tables are the folded journal, and a restart loses nothing (promise R1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from storage_protocol import commands as c
from storage_protocol.codec import encode_value
from storage_protocol.commands import Command
from storage_protocol.names import Value
from storage_service.rules import render
from storage_service.rules.state import Acq, Conversion, Run, Storage
from storage_service.store.rows import decode_node
from tests.simulation.life import life
from tests.simulation.world import World
from tests.support.memory_store import MemoryStore
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import (
    ACQ,
    PLACES,
    StepShell,
    close,
    config,
    init,
    new_acq,
    new_run,
)

Store = MemoryStore | SqliteStore
SEEDS = range(100, 120)
STEPS = 120
RUN = "root/g/r"

VALUES: list[Value] = [
    None, True, False, 0, 1, -(2**63), 2**63 - 1, 1.0, 0.5, -0.0, 1e308, 5e-324,
    "", "1", "true", "\x00", "a\x00b", "µ \U0001f9ea", "x" * 65_536,
]  # fmt: skip


def class_of(value: Value) -> str:
    """By which values compare: a bool is no number, and nil is nothing else."""
    return {type(None): "0", bool: "b", str: "t"}.get(type(value), "n")


def param_rows(nodes: list[Run | Acq]) -> list[Any]:
    return sorted(
        (node.node_id, name, class_of(value), repr(value)) for node in nodes for name, value in node.params.items()
    )


def rows_of(store: SqliteStore, table: str, of: str) -> list[Any]:
    """The rows of `params`, `derived` or `search`; a bool is kept as 0 or 1."""
    found = store.select(f"SELECT node_id, name, class, value FROM {table} LEFT JOIN nodes USING ({of})")
    return sorted((id, name, class_, repr(bool(v) if class_ == "b" else v)) for id, name, class_, v in found)


def told(store: Store, keys: list[Any]) -> list[Any]:
    """What a store has of these keys. Of several that are nested it may name any."""
    found = store.look_up(keys)
    return [(key, bool(record) if key[0] == "nested" else record) for key, record in found]


def tables_hold(store: SqliteStore) -> None:
    """What the tables keep beside the records, for queries, says the same as the records."""
    there = store.everything()
    nodes = [node for (table, _), node in there.items() if table == "node"]
    with_params = [node for node in nodes if isinstance(node, Run | Acq)]
    assert rows_of(store, "params", "node_id") == param_rows(with_params)
    searched = [node for node in with_params if not isinstance(node, Acq) or node.state != "open"]
    closed = {node.node_id for node in searched}
    derived = rows_of(store, "derived", "node_id")
    expected = [*param_rows(searched), *(row for row in derived if row[0] in closed)]
    assert rows_of(store, "search", "n") == sorted(expected)
    newest = dict(store.select("SELECT node_id || ' @' || name, value FROM annotations ORDER BY seq"))
    assert newest == dict(store.select("SELECT node_id || ' ' || name, value FROM derived WHERE name LIKE '@%'"))
    assert {row[0] for row in derived} <= {node.node_id for node in with_params}
    columns = "node_id, kind, parent_id, visible, at, storage_id, state, verdict, sealed, record"
    for id, kind, parent_id, visible, at, *more, record in store.select(f"SELECT {columns} FROM nodes"):
        node: Any = there["node", id]
        acq = node if isinstance(node, Acq) else None
        assert (kind, parent_id) == (type(node).__name__.lower(), acq.run_id if acq else node.parent_id)
        assert (bool(visible), at) == (node.visible, acq.started_at if acq else node.created_at)
        assert more[0] == getattr(node, "storage_id", None)
        assert more[1:] == ([acq.state, acq.verdict, acq.sealed] if acq else [None, None, None])
        assert getattr(decode_node(record, {}), "params", {}) == {}
    for id, acq_id, state in store.select("SELECT conversion_id, acq_id, state FROM conversions"):
        conversion = there["conversion", id]
        assert isinstance(conversion, Conversion)
        assert (acq_id, state) == (conversion.acq_id, conversion.state)


def reader_tells(store: SqliteStore) -> None:
    """Clients read each record as it is, and the journal as it was published."""
    asked: Command
    shown: Any
    for (_, id), record in store.everything().items():
        match record:
            case Storage():
                asked, shown = c.GetStorage(storage_id=id), render.storage(record)
            case Run():
                asked, shown = c.GetRun(run_id=id), render.run(record, PLACES)
            case Acq():
                asked, shown = c.GetAcq(acq_id=id), render.acquisition(record, PLACES)
            case Conversion():
                asked, shown = c.GetConversion(conversion_id=id), render.conversion(record, PLACES)
            case _:
                continue
        assert store.answer(asked) == encode_value(shown)
    replayed = store.answer(c.ReplayEvents(after_seq=0, limit=10_000))
    assert isinstance(replayed, bytes)
    told = msgspec.msgpack.decode(replayed)
    assert told["last_seq"] == store.last_seq
    assert told["events"] == [msgspec.msgpack.decode(row.body) for row in store.journal]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_is_its_journal(store: Store, seed: int) -> None:
    World(life(seed, STEPS), store).live()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rows_for_queries_are_those_of_the_records(sqlite_store: SqliteStore, seed: int) -> None:
    World(life(seed, STEPS), sqlite_store).live()
    tables_hold(sqlite_store)
    reader_tells(sqlite_store)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_with_a_small_memory_is_the_same_on_both_stores(sqlite_store: SqliteStore, seed: int) -> None:
    memory, one = MemoryStore(PLACES), life(seed, STEPS)._replace(max_resident=0, recent_keys=2)
    World(one, memory).live()
    World(one, sqlite_store).live()
    assert sqlite_store.journal == memory.journal
    assert sqlite_store.everything() == memory.everything()
    assert sqlite_store.keys == memory.keys
    nodes = [id for table, id in memory.records if table == "node"]
    asked = [("nested", each) for id in nodes for each in (id, f"{id}/x", id.rpartition("/")[0])]
    asked += [("acqs_of", id) for id in nodes] + [("key", id) for id in memory.keys] + [("key", "no such key")]
    asked += list(memory.records) + [
        (table, "no such id") for table in ("node", "conversion", "counter", "nested")
    ]
    # These are always in memory.
    asked = [key for key in asked if key[0] not in ("storage", "chain", "due")]
    assert told(sqlite_store, asked) == told(memory, asked)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restart_anywhere_in_a_life_loses_nothing(store: Store, seed: int) -> None:
    one = life(seed, STEPS)
    for place in range(STEPS, 0, -10):
        one.steps.insert(place, ("crash", place))
    World(one, store).live()
    if isinstance(store, SqliteStore):
        tables_hold(store)


def test_what_is_open_and_what_is_asked_for_outside_is_there_after_a_restart(store: Store) -> None:
    shell = StepShell(store=store).must(init(), config(), new_run(run_name="r{n}"), new_run())
    shell.must(new_acq(), new_acq(acq_name="b", convert_script="convert"), close(f"{RUN}/b"))
    shell.door = lambda order: None
    shell.send(new_acq(acq_name="c"))
    shell.run()
    before = (store.everything(), store.intents, store.topics(), store.last_seq, store.open_records())
    assert (len(store.intents), len(shell.scripts)) == (1, 1)
    for _ in range(2):
        store.reopen()
        assert before == (store.everything(), store.intents, store.topics(), store.last_seq, store.open_records())
    there = dict(store.open_records())
    assert sorted(id for table, id in there if table == "node") == [f"{RUN}/a", f"{RUN}/b"]
    shell.restart()
    assert shell.record(("node", f"{RUN}/c")).state == "open"
    for id in list(shell.scripts):
        shell.end(id)
    shell.sound()


def test_every_value_comes_back_as_it_was(store: Store) -> None:
    params = {f"at start {n}": value for n, value in enumerate(VALUES[:-1])}
    shell = StepShell(store=store).must(init(), config(), new_run(params=params), new_acq(params=params))
    for n, value in enumerate(VALUES):
        shell.must(c.SetParamRun(storage_id="s", run_name="r", param=f"set {n}", value=value))
        shell.must(c.SetParamAcq(storage_id="s", acq_id=ACQ, param=f"set {n}", value=value))
    shell.must(close()).restart().sound()
    expected = params | {f"set {n}": value for n, value in enumerate(VALUES)}
    for id in (RUN, ACQ):
        ((_, node),) = store.look_up([("node", id)])
        assert {name: repr(value) for name, value in node.params.items()} == {
            name: repr(value) for name, value in expected.items()
        }
    if isinstance(store, SqliteStore):
        tables_hold(store)
        reader_tells(store)


def test_a_node_made_anew_has_nothing_of_the_old_one(store: Store) -> None:
    shell = StepShell(store=store).must(init(), config(), new_run(params={"old": 1}), new_acq(params={"old": 1}))
    shell.must(close(), new_run(params={"new": 2}, mode="remove"), new_acq(params={"new": 2}))
    for id in (RUN, ACQ):
        assert store.record(("node", id)).params == {"new": 2}
    shell.must(close()).sound()
    if isinstance(store, SqliteStore):
        tables_hold(store)


def test_an_acquisition_is_in_the_search_rows_as_long_as_it_is_not_open(sqlite_store: SqliteStore) -> None:
    shell = StepShell(store=sqlite_store).must(init(), config(), new_run(params={"of": "run"}))

    def searched() -> list[tuple[str, str, int]]:
        tables_hold(sqlite_store)
        return [(id, name, int(value)) for id, name, _, value in rows_of(sqlite_store, "search", "n") if id == ACQ]

    both = [(ACQ, "x", 1), (ACQ, "y", 2)]
    shell.must(new_acq(params={"x": 1}), c.SetParamAcq(storage_id="s", acq_id=ACQ, param="y", value=2))
    assert searched() == []
    shell.must(close())
    assert searched() == both
    shell.must(new_acq(params={"z": 3}))
    assert searched() == []
    shell.must(c.AbortAcq(storage_id="s", acq_id=ACQ))
    assert searched() == [*both, (ACQ, "z", 3)]
    shell.must(new_acq(mode="remove", params={"w": 4}))
    assert searched() == []
    shell.must(close())
    assert searched() == [(ACQ, "w", 4)]


def test_one_batch_that_removes_and_makes_again_leaves_the_last(store: Store) -> None:
    shell = StepShell(store=store).must(init(), config())
    shell.hold_commits = True
    wanted = [(init("t"), new_run(params={"x": n}, mode="remove")) for n in range(4)]
    sent = [id for pair in wanted for id in shell.send(*pair)]
    while shell.run().batch is not None:
        shell.commit()
    assert shell.told(sent) == ["ok"] * len(sent)
    assert store.record(("node", RUN)).params == {"x": 3}
    shell.sound()
    if isinstance(store, SqliteStore):
        tables_hold(store)
