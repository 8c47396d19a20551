"""Torture the service: `python -m tests.torture --cycles 200 --seed 7 --promise R1,R5 --json result.json`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.torture.campaign import SCENARIOS, Campaign, Tally


def main() -> int:
    """1 when anything is lost, doubled or wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--cycles", type=int, default=100, help="kills of the service for each promise")
    parser.add_argument("--seed", type=int, default=None, help="of everything random; drawn when left out")
    parser.add_argument("--promise", default=",".join(SCENARIOS), help="which, with commas between them")
    parser.add_argument("--every", type=int, default=20, help="cycles between two looks at everything")
    parser.add_argument("--json", type=Path, default=None, help="a file for the result")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for all that is made, not there yet")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    promises = given.promise.split(",")
    if unknown := set(promises) - SCENARIOS.keys():
        parser.error(f"there is nothing for {', '.join(sorted(unknown))}; there is for {', '.join(SCENARIOS)}")
    console = Console()
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="torture-") as place:
        folder = Path(place) if given.keep is None else given.keep
        with Live(console=console, refresh_per_second=4) as live:

            def tell(tally: Tally, what: str) -> None:
                doing = Text(f"{tally.promise} {SCENARIOS[tally.promise].title}, seed {seed}: {what}")
                live.update(Group(summary([*tallies, tally] if tally not in tallies else tallies), doing))

            for promise in promises:
                campaign = Campaign(SCENARIOS[promise], folder / promise, seed, tell)
                tally = campaign.run(given.cycles, given.every)
                tallies.append(tally)
                live.update(summary(tallies))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(tally) for tally in tallies], indent=2))
    bad = [tally for tally in tallies if tally.found]
    for tally in bad:
        command = f"python -m tests.torture --promise {tally.promise} --seed {seed} --cycles {tally.cycles}"
        console.print(f"[red]{tally.promise} failed[/]: {command}", highlight=False)
        for each in tally.found[:10]:
            console.print(Text(f"  {each}"))
    return 1 if bad else 0


def summary(tallies: list[Tally]) -> Table:
    """The table at the end, which also stands on the screen meanwhile."""
    table = Table(title="torture")
    for name in ("promise", "cycles", "faults", "acknowledged", "lost", "doubled", "wrong", "seconds"):
        table.add_column(name, justify="left" if name == "promise" else "right")
    for each in tallies:
        failures = (each.count("lost"), each.count("doubled"), each.others)
        numbers = (each.cycles, each.faults, each.acknowledged, *failures, f"{each.seconds:.0f}")
        table.add_row(each.promise, *(str(number) for number in numbers), style="red" if each.found else "")
    return table


if __name__ == "__main__":
    sys.exit(main())
