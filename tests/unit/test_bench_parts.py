"""What the bench counts, and what it draws, without anything being measured."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.disk import percentile
from bench.measured import Measured, Tally
from bench.pictures import Curve, Panel, draw
from bench.searches import KINDS
from bench.side import CLIENT, ECHO, SERVICE, STORE, lines_of
from bench.stream_load import PEERS, Connection

CURVE = Curve("curve", "A curve", "outstanding", [1, 8, 64], [Panel("commands/s", {"service": [1.0, 5.0, 9.0]})])


def measured(rate: float, generator_s: float = 0.1) -> Measured:
    return Measured(
        commands=int(rate),
        failed=0,
        refusals={},
        elapsed_s=1.0,
        p50_ms=1.0,
        p99_ms=2.0,
        p999_ms=3.0,
        generator_cpu_s=generator_s,
        server_cpu_s=0.5,
        acknowledged=int(rate),
    )


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    rounds = [
        {ECHO: measured(100), STORE: measured(store), SERVICE: measured(service)}
        for store, service in ((50, 40), (100, 30), (40, 20))
    ]
    of_store = {line.program: line.of_store for line in lines_of(rounds)}
    assert of_store[SERVICE] == 0.5


def test_a_busy_load_generator_makes_its_line_invalid_but_the_client_is_what_is_measured() -> None:
    busy = {program: measured(100, generator_s=0.95) for program in (ECHO, STORE, SERVICE, CLIENT)}
    assert {line.program for line in lines_of([busy]) if line.valid} == {CLIENT}


def test_percentiles_are_of_what_was_seen() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 2.0, 3.0, 3.0]
    assert percentile([], 0.5) == 0.0


def test_a_tally_adds_the_refusals_of_the_warm_up() -> None:
    warm, tally = Tally(), Tally()
    warm.commands, tally.commands, tally.elapsed_s = 5, 7, 1.0
    warm.refused(b"\xc1")
    found = tally.measured(warm, server_cpu_s=0.7, own_cpu_s=0.1)
    assert (found.commands, found.acknowledged, found.failed) == (7, 12, 0)
    assert list(found.refusals.values()) == [1]


def test_two_halves_never_meet() -> None:
    searches = [KINDS["none match, of two halves"](number) for number in range(200)]
    values = [(number % 100, (number + 1) % 100) for number in range(100)]
    for each in searches:
        assert any(first < each["class_0"]["lt"] for first, _ in values)
        assert any(second > each["class_1"]["gt"] for _, second in values)
        assert not any(f < each["class_0"]["lt"] and s > each["class_1"]["gt"] for f, s in values)


def test_a_picture_is_written_for_each_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (told,) = draw([CURVE], tmp_path)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "curve.png" in told


def test_without_matplotlib_a_line_says_that_there_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (told,) = draw([CURVE], tmp_path)
    assert "no pictures" in told
    assert not list(tmp_path.iterdir())


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The end of a load generator and the end of its peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


PLACE = ("s", "root/g/r/a")
REDIS = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$3\r\n1-0\r\n:0\r\n+OK\r\n"
NATS = b'MSG _INBOX.s 1 29\r\n{"stream":"journal","seq":12}\r\n'


@pytest.mark.parametrize(("name", "answer"), [("redis", REDIS), ("nats", NATS)])
def test_an_acknowledgement_is_counted_once_wherever_it_is_cut(
    ends: tuple[socket.socket, socket.socket], name: str, answer: bytes
) -> None:
    ours, theirs = ends
    text = answer * 3
    for at in range(1, len(text)):
        tally = Tally()
        connection = Connection(ours, PEERS[name], PLACE)
        connection.encode(["key"] * 3)
        assert connection.send(3) == 3
        answers = 0
        for piece in (text[:at], text[at:]):
            theirs.sendall(piece)
            answers += connection.receive(tally)
        assert answers == 3
        assert (tally.commands, len(tally.latencies_s), tally.refusals.total()) == (3, 3, 0)
        theirs.recv(1 << 16)


def test_a_peer_that_asks_who_is_there_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"PING\r\n")
    assert Connection(ours, PEERS["nats"], PLACE).receive(Tally()) == 0
    assert theirs.recv(100) == b"PONG\r\n"
