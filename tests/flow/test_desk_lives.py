"""Random lives: whatever happens, the tables are the folded journal and everybody has one reply."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from tests.support.lives import Clients, Step, life
from tests.support.step_shell import init

SEEDS = range(60)
STEPS = 120


def lived(steps: list[Step]) -> None:
    """Live it, and look whether it holds together. The shell itself looks at every step: see `StepShell`."""
    clients = Clients()
    shell = clients.shell
    shell.must(init(), c.ConfigStorage(storage_id="s"), c.NewRun(storage_id="s", run_name="r"))
    shell.hold_commits = True
    for step in steps:
        clients.step(step)
    clients.settle().sound()
    assert [waiting for waiting in clients.waiting if waiting not in shell.replies] == []
    assert (shell.store.intents, shell.desk.is_quiet()) == ({}, True)
    for key, record in shell.desk.state.records.items():
        assert record == shell.store.record(key)
    for (table, _), record in shell.store.records.items():
        if table == "conversion":
            assert not record.active
        if table == "node" and hasattr(record, "sealed"):
            assert record.sealed == (record.state != "open")
    shell.restart()
    assert shell.types() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_is_its_journal(seed: int) -> None:
    lived(life(seed, STEPS))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_with_a_small_memory_is_its_journal(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", 0)
    monkeypatch.setattr("storage_service.desk.keyring.RECENT_KEYS", 2)
    lived(life(seed, STEPS))
