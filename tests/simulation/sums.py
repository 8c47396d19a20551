"""Variables: each sum is that of the deltas that were acknowledged, and each was added once (SPEC 4.3, 5)."""

from __future__ import annotations

from collections import defaultdict

from storage_protocol import commands as c

from .asked import Ask, Asked
from .broken import must
from .service import Store


def hold(asked: Asked, store: Store) -> None:
    """All is answered, or never will be. Deltas are above 0, so that no two sums of one variable are the same."""
    adds: dict[tuple[str, str], list[Ask]] = defaultdict(list)
    for ask in asked.asks.values():
        if isinstance(ask.command, c.AddVar) and ask.delivered:
            adds[ask.command.ns, ask.command.name].append(ask)
    there = {key[1]: getattr(each, "value", 0) for key, each in store.registers().items()}
    for (ns, name), asks in adds.items():
        done = [ask for ask in asks if ask.acknowledged]
        # Its connection or the process ended before there was a reply: nobody knows, and nobody may ask again.
        unknown = [
            ask for ask in asks if not ask.acknowledged and not all(each.answered for each in ask.delivered)
        ]
        least, total = sum(map(_delta, done)), there.pop(f"{ns}/{name}", 0)
        must(total >= least, "lost", f"{ns} {name} is {total}, acknowledged are {least}", done)
        if any(ask.runs_again for ask in asks):
            continue
        most = least + sum(map(_delta, unknown))
        must(total <= most, "doubled", f"{ns} {name} is {total}, at most {most} were added", done, unknown)
        sums = [ask.result["value"] for ask in done]
        must(len(sums) == len(set(sums)), "doubled", f"one sum of {ns} {name} was told to two", sums)
    must(not there, "wrong", "variables that nobody added to", there)


def _delta(ask: Ask) -> int:
    return int(getattr(ask.command, "delta", 0))
