"""What is seen of the long tier while it runs: a table on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.torture.progress import WORDS, Progress

LINE_EVERY_S = 15.0
NEWEST = 110
COLUMNS = ("part", "state", "cycles", *WORDS[1:], "seconds", "rate", "newest fault")


def table(parts: Sequence[Progress], title: str) -> Table:
    """Every part with its numbers."""
    made = Table(title=title)
    for name in COLUMNS:
        made.add_column(name, justify="left" if name in ("part", "state", "newest fault") else "right")
    for each in parts:
        numbers = {name: f"{each.numbers[name]:,}" for name in WORDS}
        style = {"failed": "red", "skipped": "dim", "waiting": "dim", "running": "bold"}.get(each.state, "")
        made.add_row(
            each.part.name,
            f"{each.state} {each.doing}" if each.state == "running" else each.state,
            _of(each.numbers["cycles"], each.size.cycles),
            *(numbers[name] for name in WORDS[1:]),
            _of(each.elapsed, each.size.seconds),
            f"{each.rate:,.0f}/s",
            each.newest,
            style=style,
        )
    return made


def _of(there: float, asked: float | None) -> str:
    return f"{there:,.0f}" + ("" if asked is None else f" of {asked:,.0f}")


def violation(parts: Sequence[Progress]) -> str:
    """The newest violation of all, shortened."""
    found = [(each.part.name, each.found[-1]) for each in parts if each.found]
    return "" if not found else f"found: {found[-1][0]} {found[-1][1][:NEWEST]}"


class Screen:
    """To be refreshed now and then from one thread."""

    def __init__(self, console: Console, parts: Sequence[Progress], *, plain: bool) -> None:
        self.console = console
        self.parts = parts
        self.live = None if plain or not console.is_terminal else Live(console=console, auto_refresh=False)
        self._states: dict[str, str] = {}
        self._said = 0.0

    def __enter__(self) -> Screen:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.update(Text())
            self.live.stop()

    def refresh(self) -> None:
        """Show how it is."""
        if self.live is not None:
            shown = Group(table(self.parts, "torture"), Text(violation(self.parts), style="red"))
            self.live.update(shown, refresh=True)
            return
        due = time.monotonic() - self._said > LINE_EVERY_S
        for each in self.parts:
            name = each.part.name
            if each.state != self._states.get(name, "waiting") or (due and each.state == "running"):
                self._states[name] = each.state
                self._said = time.monotonic()
                self.console.print(Text(line(each)), soft_wrap=True)


def line(each: Progress) -> str:
    """One part in a line."""
    numbers = ", ".join(f"{each.numbers[name]:,} {name}" for name in WORDS)
    last = f"; newest fault: {each.newest}" if each.newest else ""
    last += f"; found: {each.found[-1][:NEWEST]}" if each.found else ""
    return f"{each.part.name} {each.state}: {numbers}, {each.elapsed:.0f} s, {each.rate:,.0f}/s{last}"
