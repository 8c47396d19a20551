"""Put planted bugs on trial: `python -m tests.mutants` for all, or with names: `R2 R4-publish`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.mutants.mutant import BadPatchError, of_folder
from tests.mutants.trial import Court, NoTrialError, Verdict


def main() -> int:
    """1 when one survives or cannot be tried, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of a mutant, or how it begins; all when left out"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trials at once; tests that look at times dislike it")
    parser.add_argument(
        "--json", action="store_true", help="lines of JSON instead of the table; the last is the result"
    )
    given = parser.parse_args()
    began = time.monotonic()
    console = Console(stderr=given.json)
    try:
        mutants = of_folder(given.names)
        with tempfile.TemporaryDirectory(prefix="mutants-") as place:
            court = Court(Path(place))
            verdicts = []
            with ThreadPoolExecutor(max(1, given.jobs)) as pool:
                for done in as_completed([pool.submit(court.judge, mutant) for mutant in mutants]):
                    verdicts.append(done.result())
                    console.print(Text(_sentence(verdicts[-1])), soft_wrap=True)
                    if given.json:
                        said = {"doing": f"{len(verdicts)} of {len(mutants)}", "newest": verdicts[-1].mutant.name}
                        print(json.dumps(_row(verdicts, time.monotonic() - began) | said), flush=True)
    except (BadPatchError, NoTrialError) as error:
        parser.error(str(error))
    verdicts.sort(key=lambda each: each.mutant.name)
    free = [each for each in verdicts if each.by is None]
    if given.json:
        print(json.dumps(_row(verdicts, time.monotonic() - began)))
    else:
        console.print(_table(verdicts))
    return 1 if free else 0


def _sentence(verdict: Verdict) -> str:
    if verdict.broken:
        return f"{verdict.mutant.name}: no trial, {verdict.broken}"
    if verdict.by is None:
        return f"{verdict.mutant.name} SURVIVES: {verdict.mutant.why}"
    return f"{verdict.mutant.name} caught by {verdict.by} in {verdict.seconds:.0f} s"


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(title="mutants")
    for name in ("mutant", "promise", "caught by", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left", overflow="fold")
    for each in verdicts:
        by = each.by or ("no trial" if each.broken else "SURVIVES")
        style = "red" if each.by is None else ""
        table.add_row(each.mutant.name, each.mutant.promise, by, f"{each.seconds:.0f}", style=style)
    return table


def _row(verdicts: list[Verdict], seconds: float) -> dict[str, object]:
    """As every part of the long tier tells of itself; a fault here is a bug that was planted."""
    found = [f"wrong: {_sentence(each)}" for each in verdicts if each.by is None]
    numbers = {"cycles": len(verdicts), "faults": len(verdicts), "acknowledged": 0, "lost": 0, "doubled": 0}
    return {"promise": "mutants", **numbers, "wrong": len(found), "seconds": seconds, "seed": 0, "found": found}


if __name__ == "__main__":
    sys.exit(main())
