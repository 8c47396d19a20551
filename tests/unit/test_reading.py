"""In which order what was received reaches the desk: others first, and of a heavy peer little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set
from typing import Any, cast

import pytest

from storage_protocol.codec import encode_command
from storage_protocol.commands import Ping
from storage_protocol.limits import Limits
from storage_service.desk.desk import Desk, Now
from storage_service.desk.messages import Bite, Opened
from storage_service.desk.pacing import Pacing
from storage_service.reading import AHEAD_FRAMES, BITE_FRAMES, HELD_FRAMES, LATE_S, REST_S, TURN_S, Reading

PING = encode_command(1, Ping())


class Loop:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.due: list[tuple[float, int, Call]] = []
        self.number = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, what: Callable[[], None]) -> Call:
        call = Call(what)
        self.number += 1
        self.due.append((max(when, self.now), self.number, call))
        return call

    def run(self, until: float) -> None:
        while self.due and min(self.due)[0] <= until:
            first = min(self.due, key=lambda each: each[:2])
            self.due.remove(first)
            if not first[2].cancelled:
                self.now = max(self.now, first[0])
                first[2].what()
        self.now = until


class Call:
    def __init__(self, what: Callable[[], None]) -> None:
        self.what = what
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: object) -> bool:
        return False


class Taken:
    """A desk that notes what it is given; `story`: whose commands it was given, or refused, and how many."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.pacing = Pacing()
        self.takes_s = 0.0
        self.story: list[tuple[str, int]] = []
        self.refused: list[tuple[str, int]] = []
        self.ahead = False

    def take(self, bites: Iterable[Bite], now: Now) -> None:
        self.story += [(bite.message.peer.decode(), len(bite.requests)) for bite in bites]
        self.loop.now += self.takes_s

    def refuse(self, opened: Opened, now: Now) -> None:
        self.refused.append((opened.message.peer.decode(), opened.left))

    def is_ahead(self) -> bool:
        return self.ahead


class Service:
    """A reading with a socket in which what is `sent` waits until it is asked for. Of peers that are held back one
    message is received at a time."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.desk = Taken(self.loop)
        self.pacing = self.desk.pacing
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.asked: list[Set[bytes]] = []
        self.sent: dict[str, list[int]] = {}
        self.reading = Reading(loop, cast("Desk", self.desk), Limits(), lambda: None, self.more)
        self.wanted = True

    def send(self, peer: str, *frames: int) -> Service:
        """Messages of so many frames."""
        self.sent.setdefault(peer, []).extend(frames)
        if self.wanted:
            self.more(self.pacing.heavy)
        return self

    def more(self, held: Set[bytes]) -> None:
        self.asked.append(held)
        messages = []
        for peer, frames in list(self.sent.items()):
            most = 1 if peer.encode() in held else 256
            messages += [[peer.encode(), *[PING] * each] for each in frames[:most]]
            self.sent[peer] = frames[most:]
        self.sent = {peer: frames for peer, frames in self.sent.items() if frames}
        self.wanted = not messages
        if messages:
            self.loop.call_at(0.0, lambda: self.reading.received(messages))

    def go_on(self, seconds: float) -> Service:
        self.loop.run(self.loop.now + seconds)
        return self

    def story(self) -> list[tuple[str, int]]:
        """What the desk was given since this was asked last."""
        told, self.desk.story = self.desk.story, []
        return told


@pytest.fixture
def service() -> Service:
    return Service()


def flooded(service: Service) -> Service:
    """A flood that is held back, of which a message is under way."""
    service.send("flood", 1024, 1024).go_on(0.02)
    service.send("polite", 1).go_on(0.02)
    service.send("flood", 1024).send("polite", 1).go_on(REST_S)
    assert service.pacing.heavy == {b"flood"}
    service.story()
    return service


def test_a_peer_that_is_alone_is_given_whole_bites_without_a_rest(service: Service) -> None:
    service.send("a", 1024).go_on(0.0)
    assert service.story() == [("a", BITE_FRAMES)] * (1024 // BITE_FRAMES)
    for _ in range(100):
        service.send("a", 1024).go_on(0.0)
    assert not service.reading
    assert service.desk.refused == []


def test_peers_that_send_alike_take_turns_without_a_rest(service: Service) -> None:
    for _ in range(50):
        for peer in "abcdefgh":
            service.send(peer, 128)
        service.go_on(0.0)
        assert not service.reading
        service.go_on(0.01)
    assert not any(service.asked)
    assert dict.fromkeys(peer for peer, _ in service.story()) == dict.fromkeys("abcdefgh")


def test_a_heavy_peer_has_a_small_bite_and_then_a_rest(service: Service) -> None:
    flooded(service)
    service.go_on(10 * REST_S)
    story = service.story()
    assert 9 <= len(story) <= 11
    assert set(story) == {("flood", HELD_FRAMES)}


def test_what_another_sends_comes_before_what_is_held_back_and_does_not_wait_for_it(service: Service) -> None:
    flooded(service)
    for _ in range(5):
        service.send("polite", 1).go_on(REST_S)
        assert service.story() == [("polite", 1), ("flood", HELD_FRAMES)]


def test_what_another_sends_in_a_rest_is_taken_at_once(service: Service) -> None:
    flooded(service)
    service.go_on(REST_S / 2)
    service.story()
    service.reading.received([[b"polite", PING]])
    assert service.story() == [("polite", 1)]
    service.go_on(REST_S)
    assert service.story() == [("flood", HELD_FRAMES)]


def test_it_is_read_on_after_each_rest_and_little_of_the_heavy_peer(service: Service) -> None:
    flooded(service)
    service.asked.clear()
    service.go_on(10 * REST_S)
    assert 9 <= len(service.asked) <= 11
    assert set(map(frozenset, service.asked)) == {frozenset({b"flood"})}


def test_a_heavy_peer_makes_progress_until_all_of_it_is_done(service: Service) -> None:
    flooded(service)
    for _ in range(1_000):
        service.send("polite", 1).go_on(REST_S)
    assert sum(many for peer, many in service.story() if peer == "flood") > 900
    assert not service.reading
    assert service.desk.refused == []


def test_a_heavy_peer_that_is_alone_again_is_given_all_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_service.reading.AHEAD_FRAMES", 100_000)
    flooded(service).send("flood", *[1024] * 5).go_on(0.3)
    assert not service.reading
    assert ("flood", BITE_FRAMES) in service.story()


def test_what_a_heavy_peer_has_ahead_beyond_a_bound_is_refused_until_the_rest_is_done(service: Service) -> None:
    flooded(service)
    for _ in range(100):
        service.send("flood", 1000).send("polite", 1).go_on(REST_S)
    waits = service.reading._held.frames
    assert waits <= AHEAD_FRAMES + 1000
    assert 90 < len(service.desk.refused) <= 100
    assert set(service.desk.refused) == {("flood", 1000)}
    # Refused on, although there would be room for this one:
    while service.reading._held.frames > 100:
        service.send("polite", 1).go_on(REST_S)
    service.desk.refused.clear()
    service.send("flood", 7).go_on(2 * REST_S)
    assert service.desk.refused == [("flood", 7)]
    while service.reading:
        service.send("polite", 1).go_on(REST_S)
    service.send("flood", 7).go_on(2 * REST_S)
    assert service.desk.refused == [("flood", 7)]


def test_what_is_refused_is_answered_behind_the_rest(service: Service) -> None:
    flooded(service)
    while not service.reading._refused:
        service.send("flood", 1024).go_on(REST_S)
    assert not service.desk.refused
    service.go_on(REST_S)
    assert service.desk.refused


def test_it_is_answered_too_while_others_never_come_to_an_end(service: Service) -> None:
    flooded(service).send("flood", 1024, 1024, 1024).go_on(REST_S)
    service.desk.takes_s = 2 * TURN_S
    for _ in range(12):
        for peer in "abcdef":
            service.send(peer, 40)
        service.send("flood", 1024).go_on(4 * TURN_S)
    assert service.reading._opened
    assert len(service.desk.refused) > 8
    assert len(service.reading._refused) <= 2


def test_nobody_is_refused_who_is_not_heavy(service: Service) -> None:
    for _ in range(20):
        for peer in "abcd":
            service.send(peer, 1024, 1024)
        service.go_on(0.005)
    service.go_on(1.0)
    assert service.desk.refused == []
    assert not service.reading


def test_large_frames_are_taken_one_at_a_time(service: Service) -> None:
    flooded(service)
    garbage: Any = [b"flood", *[bytes(1 << 20)] * 4]
    while service.reading:
        service.send("polite", 1).go_on(REST_S)
    service.story()
    service.reading.received([garbage])
    service.go_on(2 * REST_S)
    assert service.story()[0] == ("flood", 1)


@pytest.mark.parametrize("frames", [[PING] * 1025, [bytes(1 << 20)] * 9])
def test_a_message_over_the_limits_is_one_command_that_is_refused(service: Service, frames: list[bytes]) -> None:
    service.reading.received([[b"a", *frames]])
    assert service.go_on(1.0).story() == [("a", 1)]
    flooded(service)
    service.reading.received([[b"flood", *frames]])
    while service.reading:
        service.send("polite", 1).go_on(REST_S)
    assert service.story().count(("flood", 1)) == 1


def test_while_a_large_commit_is_out_what_is_held_back_waits_too(service: Service) -> None:
    flooded(service)
    service.desk.ahead = True
    service.reading.cut()
    service.go_on(LATE_S / 2)
    assert service.story() == []
    service.desk.ahead = False
    service.go_on(2 * REST_S)
    assert ("flood", HELD_FRAMES) in service.story()
