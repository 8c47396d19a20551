"""Fair turns: peers take turns at the readers, whatever each of them asks for."""

from __future__ import annotations

from storage_protocol import commands
from storage_protocol.plain import Request
from storage_service.desk.messages import Message, Ticket
from storage_service.desk.turns import Turns


def asked(turns: Turns, *peers: str) -> list[Ticket]:
    """A query of each of these peers, in this order."""
    request = Request(1, commands.ListStorages(), None, False)
    tickets = [Ticket.of(Message.of(peer.encode(), False, [1]), 0, request) for peer in peers]
    for ticket in tickets:
        turns.add(ticket)
    return tickets


def whose(tickets: list[Ticket]) -> str:
    return b"".join(ticket.message.peer for ticket in tickets).decode()


def test_who_asks_once_waits_for_one_query_of_who_asks_a_hundred_times() -> None:
    turns = Turns()
    asked(turns, *"a" * 100, "b")
    assert whose(turns.bite(1)) == "a"
    assert whose(turns.bite(1)) == "b"


def test_peers_take_turns_within_a_bite() -> None:
    turns = Turns()
    asked(turns, *"aaabbc")
    assert whose(turns.bite(10)) == "abcaba"
    assert turns.count == 0


def test_a_peer_is_at_one_reader_at_a_time() -> None:
    turns = Turns()
    asked(turns, *"aaa")
    first = turns.bite(1)
    assert turns.bite(1) == []
    asked(turns, *"a")
    assert turns.bite(1) == []
    turns.done(first, [])
    assert whose(turns.bite(9)) == "aaa"


def test_queries_of_a_peer_are_asked_in_its_order_also_when_a_bite_was_too_large() -> None:
    turns = Turns()
    mine = asked(turns, *"aaaa")
    bite = turns.bite(3)
    assert bite == mine[:3]
    turns.done(bite, bite[1:])
    assert turns.count == 3
    assert turns.bite(9) == mine[1:]


def test_a_peer_whose_turn_it_was_is_behind_those_that_waited() -> None:
    turns = Turns()
    asked(turns, *"aab")
    bite = turns.bite(1)
    asked(turns, *"c")
    turns.done(bite, [])
    assert whose(turns.bite(9)) == "bca"


def test_a_peer_that_does_not_take_its_replies_has_no_turn_until_it_does() -> None:
    reads = {b"b"}
    turns = Turns(reads.__contains__)
    asked(turns, "a", "a", "b")
    assert whose(turns.bite(10)) == "b"
    assert turns.bite(10) == []
    reads.add(b"a")
    assert whose(turns.bite(10)) == "aa"
    assert turns.count == 0
