"""Pages: who asks for one after the other rests between them, and others do not wait for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage_protocol import commands
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_protocol.plain import Request
from storage_service.desk.messages import Message, Ticket
from storage_service.queries import Answers, Queries

A_DAY = 86_400.0


class Reader:
    """Has an answer to everything."""

    def read(self, command: Command, room: int) -> bytes | Refusal:
        return b"\x80"

    def status(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


class Asking:
    """Queries with one reader of pages; `rests`: how long each peer rests after one."""

    def __init__(self, **rests: float) -> None:
        self.answered: list[str] = []
        self.came = asyncio.Event()
        rest = {peer.encode(): seconds for peer, seconds in rests.items()}
        mounts: Any = None
        self.queries = Queries(
            [Reader(), Reader()],
            mounts,
            dict,
            lambda peer: True,
            lambda ticket: None,
            lambda peer, took_s, now: rest.get(peer, 0.0),
            self.tell,
        )

    def tell(self, answers: Answers) -> None:
        self.answered += [ticket.message.peer.decode() for ticket, _ in answers]
        self.came.set()

    def ask(self, peer: str, *asked: Command) -> None:
        for command in asked:
            ticket = Ticket.of(Message.of(peer.encode(), False, [1]), 0, Request(1, command, None, False))
            self.queries.answer([(ticket, command)])

    async def until(self, count: int) -> list[str]:
        """Whose queries were answered, when there are so many."""
        async with asyncio.timeout(20):
            while len(self.answered) < count:
                self.came.clear()
                await self.came.wait()
        return self.answered


PAGE, QUICK = commands.ReplayEvents(after_seq=0), commands.GetAcq(acq_id="a")


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_all_pages_are_answered_with_or_without_a_rest(seconds: float) -> None:
    async def asking() -> None:
        asked = Asking(heavy=seconds)
        asked.ask("heavy", *[PAGE] * 20)
        assert await asked.until(20) == ["heavy"] * 20
        asked.queries.close()

    asyncio.run(asking())


def test_a_peer_that_rests_has_no_further_page_and_others_have_theirs() -> None:
    async def asking() -> None:
        asked = Asking(heavy=A_DAY)
        asked.ask("heavy", PAGE, PAGE)
        asked.ask("polite", *[PAGE] * 5)
        assert sorted(await asked.until(6)) == ["heavy"] + ["polite"] * 5
        assert asked.queries.counts() == {"queries_waiting": 1}
        asked.queries.close()

    asyncio.run(asking())


def test_a_peer_that_rests_from_pages_is_answered_what_is_quick() -> None:
    async def asking() -> None:
        asked = Asking(heavy=A_DAY)
        asked.ask("heavy", PAGE, PAGE, QUICK, QUICK)
        assert await asked.until(3) == ["heavy"] * 3
        asked.queries.close()

    asyncio.run(asking())
