"""The clients: what they send with which key, and what they send again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random

from msgspec.structs import replace

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_protocol.keys import uuid7

from . import asking
from .asked import Ask, Asked, Attempt
from .journal import Journal
from .life import Terms
from .network import Letter

RUBBISH = (b"\xc1", b"\x80", b"\x81\xa3cmd\xa4nope", b"\x82\xa3cmd\xa4ping\xa1v\x02")


class Clients:
    """`wall` is what their clocks say, in seconds since 1970."""

    def __init__(self, told: Journal, asked: Asked, wall: Callable[[], float], terms: Terms) -> None:
        self._told, self._asked, self._wall, self._terms = told, asked, wall, terms
        self._words, self._ids = count(1), count(1)

    def _ask(self, command: Command, tag: str, key: str | None) -> Ask:
        return self._asked.new(command, key, tag)

    def _key(self, chance: Random) -> str | None:
        """Mostly a UUIDv7 of now; of a clock that is behind or ahead; of another form; another command's; none."""
        kind = chance.random()
        if kind < 0.1:
            return None
        if kind < 0.15:
            return f"key {chance.getrandbits(40)}"
        if kind < 0.17 and self._asked.by_key:
            return chance.choice(list(self._asked.by_key))
        off = chance.choice([-3600.0, 5.0]) if kind < 0.25 else 0.0
        return uuid7(int((self._wall() + off) * 1000), chance.randbytes(10))

    def opening(self, chance: Random) -> Letter:
        """How every life begins."""
        storage = asking.init("s", self._terms)
        opening: list[Command] = [storage, c.ConfigStorage(storage_id="s"), c.NewRun(storage_id="s", run_name="r")]
        for name in "ab":
            if chance.random() < 0.6:
                acq = c.NewAcq(storage_id="s", run_name="r", acq_name=name, convert_script="convert")
                opening.append(acq)
        return self._letter([self._ask(each, self._word(), self._key(chance)) for each in opening], False)

    def _word(self) -> str:
        return f"#{next(self._words)}"

    def letter(self, chance: Random, rubbish: bool = False) -> Letter:
        """A message of a few new commands."""
        asks = []
        for _ in range(chance.choice((1, 1, 1, 1, 2, 3))):
            tag = self._word()
            command = asking.command(chance, self._told, self._terms, tag)
            key = self._key(chance)
            asks.append(self._ask(command, tag, key))
            if isinstance(command, c.SetParamAcq) and chance.random() < 0.5:
                asks += self._row(command, chance)
        letter = self._letter(asks, chance.random() < 0.2)
        if rubbish:
            at = chance.randrange(len(asks) + 1)
            letter.frames.insert(at, chance.choice(RUBBISH))
            letter.attempts.insert(at, None)
        return letter

    def _row(self, first: c.SetParamAcq, chance: Random) -> list[Ask]:
        """More parameters of the same acquisition, right behind the first."""
        asks = []
        for _ in range(chance.choice((1, 2, 2, 5))):
            tag = self._word()
            asks.append(self._ask(replace(first, param=chance.choice("xy"), value=tag), tag, self._key(chance)))
        return asks

    def again(self, chance: Random) -> Letter | None:
        """What was asked before is asked again, most often what has no answer."""
        keyed = [ask for ask in self._asked.asks.values() if ask.key is not None and ask.mutating]
        waiting = [ask for ask in keyed if not ask.acknowledged]
        choice = waiting if waiting and chance.random() < 0.6 else keyed
        if not choice:
            return None
        if chance.random() < 0.3:
            # What was asked in a row comes again in a row, with something new before it.
            at = chance.randrange(len(choice))
            asks = choice[at : at + 4]
            first = asks[0].command
            return self._letter(
                (self._row(first, chance) if isinstance(first, c.SetParamAcq) else []) + asks, False
            )
        return self._letter([chance.choice(choice) for _ in range(chance.choice((1, 1, 2)))], False)

    def unanswered(self) -> list[Letter]:
        """Every command with a key that nobody answered yet, once more."""
        return [
            self._letter([ask], False)
            for ask in self._asked.asks.values()
            if ask.key is not None and ask.mutating and not any(each.answered for each in ask.delivered)
        ]

    def _letter(self, asks: list[Ask], delimiter: bool) -> Letter:
        attempts: list[Attempt | None] = [Attempt(ask, next(self._ids)) for ask in asks]
        frames = [codec.encode_command(each.id, each.ask.command, each.ask.key) for each in attempts if each]
        return Letter(delimiter, frames, attempts)
