"""One line of a table's tests: where it starts, what is done, what is told, where it ends. Written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from storage_protocol.commands import Command
from storage_service.rules.lifecycle import Row

from .world import World

Act = Command | Callable[[World], list[str]]


class Arrow(NamedTuple):
    """
    state, trigger, guard  the row that the line is about
    start                  builds the world in that state
    act                    the command, or what the service itself does (it returns the types of what is told)
    types                  the types of the events, in order
    next                   the state after it
    tells                  the part of `types` that is this table's to tell, where other tables tell the rest
    """

    state: str
    trigger: str
    guard: str
    start: Callable[[], World]
    act: Act
    types: list[str]
    next: str
    tells: list[str] | None = None

    def go(self, world: World) -> list[str]:
        """Do it; the types of what was told. A command that is refused fails the test."""
        if isinstance(self.act, Command):
            assert self.trigger == self.act.CMD
            outcome = world.do(self.act)
            assert not outcome.code, outcome.reply
            return outcome.types
        return self.act(world)


class Refused(NamedTuple):
    """A state and a command that have no row: how it is refused, and what `details.state` says (None: nothing)."""

    state: str
    trigger: str
    start: Callable[[], World]
    command: Command
    code: str
    standing: str | None = None


def places(arrows: list[Arrow]) -> list[tuple[str, str, str]]:
    return [(arrow.state, arrow.trigger, arrow.guard) for arrow in arrows]


def row_tells(row: Row) -> list[str]:
    """`tells` of a row in full: `.x` after `a.b` is `a.x`."""
    told: list[str] = []
    for part in filter(None, (part.strip() for part in row.tells.split(","))):
        told.append(told[-1].split(".")[0] + part if part.startswith(".") else part)
    return told


def as_drawn(table: tuple[Row, ...]) -> dict[tuple[str, str, str], tuple[str, list[str]]]:
    """What the table says of each place: the next state, and the events."""
    return {(row.state, row.trigger, row.guard): (row.next, row_tells(row)) for row in table}


def as_tested(arrows: list[Arrow]) -> dict[tuple[str, str, str], tuple[str, list[str]]]:
    """What the lines say of each place."""
    told = {}
    for arrow in arrows:
        tells = arrow.types if arrow.tells is None else arrow.tells
        told[arrow.state, arrow.trigger, arrow.guard] = (arrow.next, tells)
    return told


def open_pairs(table: tuple[Row, ...], states: list[str], triggers: list[str]) -> set[tuple[str, str]]:
    """The pairs of a state and a command for which the table does not promise a row whatever the guards say."""
    certain = {(row.state, row.trigger) for row in table if not row.guard}
    return {(state, trigger) for state in states for trigger in triggers} - certain


def names(arrows: list[Arrow] | list[Refused]) -> list[str]:
    return ["-".join(filter(None, (each.state, each.trigger, getattr(each, "guard", "")))) for each in arrows]
