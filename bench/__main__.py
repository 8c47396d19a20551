"""`python -m bench`: the service beside its references, in one run on one machine; every row of the table.

Each part measures its rows in a folder of its own on the disk that is named, prints what it saw, and gives its
lines of the table, which is printed at the end with the targets. Everything is written as JSON, and the curves as
pictures. The exit code is 0 whatever the figures: a benchmark is no timed test.
"""

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from bench import commands, conversions, finishes, growth, manifest, replay
from bench.disk import MEMORY, file_system
from bench.machine import Neighbours, described
from bench.measured import LoadError
from bench.pictures import draw
from bench.plan import QUICK, Plan
from bench.process import CHECKOUT, StartError
from bench.table import Outcome, table

PARTS: dict[str, Callable[[Plan, Path], Outcome]] = {
    "commands": commands.run,
    "finishes": finishes.run,
    "replay": replay.run,
    "growth": growth.run,
    "conversions": conversions.run,
    "manifest": manifest.run,
}
RESULTS = CHECKOUT / "bench" / "results"


def options() -> argparse.Namespace:
    """The command line; `plan` is what it comes to."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the service beside its references, in one run on this machine.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, a minute in all: a smoke test, no figures"
    )
    parser.add_argument(
        "--only",
        metavar="PART,...",
        default=",".join(PARTS),
        help=f"measure these parts only, of {', '.join(PARTS)}",
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="length of each load (default 1)")
    parser.add_argument(
        "--load-minutes", type=float, metavar="N", help="how long the grown store is kept under load (default 10)"
    )
    parser.add_argument("--gib", type=float, metavar="N", help="data of the manifest that is measured (default 4)")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        default=RESULTS,
        help="where JSON and pictures go (default: bench/results of the checkout)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        default=CHECKOUT,
        help="where the temporary state folders are made: the disk to be measured (default: the checkout)",
    )
    chosen = parser.parse_args()
    chosen.parts = chosen.only.split(",")
    if unknown := [part for part in chosen.parts if part not in PARTS]:
        parser.error(f"--only has {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    if not chosen.folder.is_dir():
        parser.error(f"--folder is {chosen.folder}, which is no folder")
    plan = QUICK if chosen.quick else Plan()
    for name, unit, least, most in (
        ("seconds", 1, 0.1, 600),
        ("load_minutes", 60, 0, 1440),
        ("gib", 1, 0.001, 1024),
    ):
        given = getattr(chosen, name)
        if given is None:
            continue
        if not least <= given <= most:
            parser.error(f"--{name.replace('_', '-')} is {given:g}; it must be from {least:g} to {most:g}")
        field = {"seconds": "seconds", "load_minutes": "load_s", "gib": "manifest_gib"}[name]
        plan = dataclasses.replace(plan, **{field: given * unit})
    chosen.plan = plan
    return chosen


def bench(chosen: argparse.Namespace) -> bool:
    """Measure and print everything, and write it; whether all parts were measured.

    Raises OSError when the disk refuses.
    """
    plan: Plan = chosen.plan
    document: dict[str, Any] = {
        "machine": described(chosen.folder, plan.appends),
        "plan": dataclasses.asdict(plan),
        "failed": {},
        "others": {},
    }
    if plan.quick:
        print("quick: sizes that show that everything works, and give no figures")
    print(f"{plan.turns} round(s) of {plan.seconds:g} s for each load; medians; CPU is the service's")
    figures, curves = [], []
    for part in chosen.parts:
        print(f"\n== {part}", flush=True)
        neighbours = Neighbours()
        try:
            with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as folder:
                outcome = PARTS[part](plan, Path(folder).resolve())
        except (StartError, LoadError) as failure:
            document["failed"][part] = str(failure)
            print(f"not measured: {failure}")
            continue
        share = document["others"][part] = neighbours.share()
        print(f"others took {share:.0%} of the machine meanwhile")
        figures += outcome.figures
        curves += outcome.curves
        document[part] = outcome.document
    document["table"] = [each.document() for each in figures]
    document["curves"] = [dataclasses.asdict(each) for each in curves]

    print("\n== table" + (", of sizes that give no figures" if plan.quick else ""))
    print("\n".join(table(figures)))
    chosen.results.mkdir(parents=True, exist_ok=True)
    file = chosen.results / "bench.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nJSON: {file}")
    print("\n".join(draw(curves, chosen.results)))
    for part, why in document["failed"].items():
        print(f"NOT MEASURED: {part}: {why}")
    return not document["failed"]


def ended(signal_number: int, frame: FrameType | None) -> None:
    """SIGTERM leaves through every `finally`, like Ctrl-C, so that the programs started are ended."""
    raise SystemExit(128 + signal_number)


def main() -> None:
    """Run the bench. Exit code 0 whatever the figures, 1 when a program does not start or does not last."""
    chosen = options()
    signal.signal(signal.SIGTERM, ended)
    kind = file_system(chosen.folder)
    if kind in MEMORY:
        sys.exit(f"bench: {chosen.folder} is on {kind}, where a sync costs nothing; name a --folder on a disk.")
    try:
        if not bench(chosen):
            sys.exit(1)
    except OSError as error:
        sys.exit(f"bench: the disk refuses: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")


if __name__ == "__main__":
    main()
