"""A life: how its world is, and the steps that happen in it, all drawn from one seed.

A step is a word and a number, from which everything that the step decides is drawn when it comes: steps can be
taken out, and the others still mean something. Each seed has only some of the faults, and those often: a world
with all of them at once reaches little.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

from storage_service.desk import keyring, residents
from storage_service.rules.conversions import Policy

STEPS = 240

FAULTS = {
    "roll back": 5.0,
    "unknown outcome": 0.8,
    "crash": 1.5,
    "cut": 1.5,
    "duplicate": 1.5,
    "mount away": 1.2,
    "fails half-way": 1.0,
    "fails afterwards": 1.0,
    "hang": 1.6,
    "jump": 0.8,
    "rubbish": 0.7,
}
USUAL = {"go": 75.0, "send": 22.0, "again": 4.0, "wait": 4.0}

HAND_OVERS = ("network", "store", "look-ups", "queries", "mount", "scripts", "readings")

KINDS = ("blake3", "sizes", "off")

Step = tuple[str, int]


class Terms(NamedTuple):
    """What most storages are made with."""

    finish_timeout_s: float | None
    producer_timeout_s: float | None
    producers_count: int
    stats_names: tuple[str, ...] = ()


class Life(NamedTuple):
    """
    clients       how many there are
    max_resident  records that stay in memory; recent_keys: keys that do
    kinds         for each life of the service in turn, the manifests of each storage
    sourced       and the storages whose configurations the service itself fetches
    slow          hand-overs that take long, and how much less often than others one of them gets on
    """

    seed: int
    clients: int
    policy: Policy
    max_parallel: int
    max_resident: int
    recent_keys: int
    terms: Terms
    kinds: tuple[tuple[str, ...], ...]
    sourced: tuple[str, ...]
    slow: dict[str, float]
    steps: list[Step]


def life(seed: int, length: int = STEPS) -> Life:
    chance = Random(seed)
    faults = {name: often * chance.uniform(0.5, 2.5) for name, often in FAULTS.items() if chance.random() < 0.45}
    kinds = {**USUAL, **faults}
    pace = chance.choice([0.6, 1.0, 1.0, 1.6])
    kinds["go"] *= pace
    words = chance.choices(list(kinds), list(kinds.values()), k=length)
    policy = Policy(chance.choice([1, 2, 3]), chance.choice([0.0, 1.0, 200.0]), chance.choice([1, 2, 20]))
    return Life(
        seed=seed,
        clients=chance.choice([1, 2, 3]),
        policy=policy,
        max_parallel=chance.choice([1, 2, 2]),
        max_resident=chance.choice([0, 0, 4, 20_000, 20_000]),
        recent_keys=chance.choice([2, 50_000]),
        terms=Terms(
            chance.choice([None, None, 0.5, 5.0, 90.0]),
            chance.choice([None, None, 0.5, 7.0, 60.0]),
            chance.choice([1, 1, 2]),
            chance.choice([(), ("x",), ("x", "ca:y")]),
        ),
        kinds=tuple(
            tuple(chance.choices(KINDS, [4.0, 2.0, 1.0], k=3)) for _ in range(chance.choice([1, 1, 1, 2, 3]))
        ),
        sourced=chance.choice([("",), ("",), ("su",), ("s", ""), ("", "t")]),
        slow={each: chance.choice([0.05, 0.2]) for each in HAND_OVERS if chance.random() < 0.2}
        | {"manifests": chance.choice([0.02, 0.2, 1.0])},
        steps=[(word, chance.getrandbits(32)) for word in words],
    )


@contextmanager
def memory_of(life: Life) -> Iterator[None]:
    """The desk's memory is as small as this life wants it."""
    before = residents.MAX_RESIDENT, keyring.RECENT_KEYS
    residents.MAX_RESIDENT, keyring.RECENT_KEYS = life.max_resident, life.recent_keys
    try:
        yield
    finally:
        residents.MAX_RESIDENT, keyring.RECENT_KEYS = before
