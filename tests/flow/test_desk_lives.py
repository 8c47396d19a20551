"""Random lives: whatever happens, the tables are the folded journal and everybody has one reply."""

from __future__ import annotations

import pytest

from tests.support.lives import life, lived

SEEDS = range(60)
STEPS = 120


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_is_its_journal(seed: int) -> None:
    lived(life(seed, STEPS))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_with_a_small_memory_is_its_journal(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", 0)
    monkeypatch.setattr("storage_service.desk.keyring.RECENT_KEYS", 2)
    lived(life(seed, STEPS))
