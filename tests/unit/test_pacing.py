"""Who is held back, and who is not: only one that sends much more than those that are active with it."""

from __future__ import annotations

import pytest

from storage_service.desk.pacing import (
    HEAVY,
    HEAVY_LEAST,
    HEAVY_NO_MORE,
    PAGE_LEAST_S,
    PAGE_RESTS,
    WINDOW_S,
    Pacing,
    weight,
)

MIB = 1 << 20


class Peers:
    """Peers that send as much as is said in each step of ten milliseconds; who is heavy after each."""

    def __init__(self) -> None:
        self.pacing = Pacing()
        self.now = 1_000.0

    def send(self, steps: int = 1, **much: int) -> list[str]:
        """Whoever was heavy in any of these steps."""
        seen: set[bytes] = set()
        for _ in range(steps):
            self.now += 0.01
            for peer, each in much.items():
                if each:
                    self.pacing.came(peer.encode(), each, self.now)
            self.pacing.look(self.now)
            seen |= self.pacing.heavy
        return sorted(peer.decode() for peer in seen)

    @property
    def heavy(self) -> list[str]:
        return sorted(peer.decode() for peer in self.pacing.heavy)


@pytest.fixture
def peers() -> Peers:
    return Peers()


def test_a_peer_that_is_alone_is_never_heavy(peers: Peers) -> None:
    assert peers.send(steps=200, a=10_000) == []


def test_a_flood_is_heavy_at_the_first_command_of_another(peers: Peers) -> None:
    peers.send(steps=20, flood=400)
    assert peers.send(flood=400, polite=1) == ["flood"]


def test_a_flood_that_is_alone_again_is_held_back_no_more(peers: Peers) -> None:
    peers.send(steps=20, flood=400, polite=10)
    assert peers.heavy == ["flood"]
    peers.send(steps=round(2 * WINDOW_S / 0.01) + 1, flood=80)
    assert peers.heavy == []


def test_eight_peers_that_send_alike_are_not_heavy(peers: Peers) -> None:
    assert peers.send(steps=200, **{f"p{n}": 400 + 40 * n for n in range(8)}) == []


def test_one_of_many_busy_peers_is_not_heavy_because_a_quiet_one_looks_in(peers: Peers) -> None:
    busy = {f"p{n}": 400 for n in range(7)}
    assert peers.send(steps=50, quiet=1, **busy) == []


def test_two_floods_beside_two_polite_peers_are_both_heavy(peers: Peers) -> None:
    peers.send(steps=30, a=400, b=300, polite=10, other=5)
    assert peers.heavy == ["a", "b"]


def test_a_peer_that_waits_for_each_reply_is_not_heavy_beside_one_that_sends_little(peers: Peers) -> None:
    a_lone_command_takes_half_a_millisecond = 20
    assert peers.send(steps=200, prompt=a_lone_command_takes_half_a_millisecond, quiet=1) == []


def test_a_flood_that_is_held_back_stays_so_until_it_sends_like_the_others(peers: Peers) -> None:
    peers.send(steps=20, flood=400, polite=10)
    assert peers.send(steps=100, flood=10 * HEAVY_NO_MORE + 5, polite=10) == ["flood"]
    assert peers.heavy == ["flood"]
    peers.send(steps=round(2 * WINDOW_S / 0.01) + 1, flood=10, polite=10)
    assert peers.heavy == []


def test_it_takes_several_times_what_others_send_to_be_heavy(peers: Peers) -> None:
    assert peers.send(steps=100, busy=200 * HEAVY - 50, other=200) == []
    assert peers.send(steps=100, busy=200 * HEAVY + 50, other=200) == ["busy"]


def test_less_than_a_flood_is_not_heavy_however_little_others_send(peers: Peers) -> None:
    a_window = round(WINDOW_S / 0.01)
    assert peers.send(steps=100, busy=HEAVY_LEAST // (2 * a_window) - 5, other=1) == []


def test_who_was_silent_is_not_active_however_much_it_sent(peers: Peers) -> None:
    peers.send(steps=10, a=400)
    peers.now += 2 * WINDOW_S
    assert peers.send(steps=100, b=400) == []


def test_large_frames_weigh_as_much_as_many(peers: Peers) -> None:
    assert weight(1, 100) == 1
    assert weight(4, 4 * MIB) > 1_000
    peers.send(steps=10, garbage=weight(4, 4 * MIB), polite=10)
    assert peers.heavy == ["garbage"]


def test_who_asks_for_pages_rests_only_beside_others(peers: Peers) -> None:
    peers.send(steps=30, pages=1)
    assert peers.pacing.rest(b"pages", 0.02, peers.now) == 0.0
    peers.send(pages=1, polite=1)
    assert peers.pacing.rest(b"pages", 0.02, peers.now) == 0.02 * PAGE_RESTS
    assert peers.pacing.rest(b"pages", PAGE_LEAST_S / 2, peers.now) == 0.0
    assert peers.pacing.rest(b"pages", 0.02, peers.now + 3 * WINDOW_S) == 0.0


def test_what_is_remembered_ends_with_two_windows(peers: Peers) -> None:
    for number in range(1_000):
        peers.send(**{f"p{number}": 1})
    assert len(peers.pacing._came) + len(peers.pacing._before) <= 2 * round(WINDOW_S / 0.01) + 2
