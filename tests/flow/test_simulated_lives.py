"""The short form of `python -m tests.simulation`: a few hundred lives of the real desk in a simulated world.

A failing seed is lived again, told step by step and made shorter with `python -m tests.simulation --replay SEED`.
What is found so becomes a test of its own, in one of the files beside this one.
"""

from __future__ import annotations

import random

import pytest

from tests.simulation.campaign import Campaign, live
from tests.simulation.life import life
from tests.simulation.world import World

LIVES, EACH = 300, 25


@pytest.mark.parametrize("first", range(0, LIVES, EACH))
def test_whatever_happens_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + EACH):
        live(seed)


def test_so_it_is_with_seeds_that_nobody_saw_before() -> None:
    for _ in range(EACH):
        live(random.SystemRandom().getrandbits(40))


def test_a_seed_is_the_same_life_every_time() -> None:
    one, two = (World(life(5)).live() for _ in range(2))
    assert one.store.journal == two.store.journal
    assert (one.faults, one.journal.arrows, one.wall) == (two.faults, two.journal.arrows, two.wall)


def test_lives_go_through_the_tables_and_meet_every_fault() -> None:
    campaign = Campaign()
    for seed in range(1, 151):
        campaign.add(live(seed))
    assert len(campaign.never()) < 10
    assert min(campaign.faults.values()) > 3, campaign.faults
    ways = ("of a segment", "of a conversion", "failed", "failed afterwards", "cancelled", "lost")
    assert all(campaign.manifests[way] for way in ways), campaign.manifests
    ways = ("start taken", "end taken", "failed", "to be tried again")
    assert all(campaign.readings[way] > 3 for way in ways), campaign.readings
