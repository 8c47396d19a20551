"""The long tier, about an hour with `python -m tests.torture`, or some of it: `... R1 R5 --seconds 60`.

Every part is a process of its own. With --cycles or --seconds each of the chosen parts that knows them does so
much; --long has the sizes of docs/reliability.md, however long that takes. What has found something leaves its
folder.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.torture import report
from tests.torture.parts import PARTS, Part, Size, chosen
from tests.torture.progress import Progress
from tests.torture.screen import Screen, table

REFRESH_S = 0.25
# The exit code when it was interrupted and nothing was found.
ENDED_EARLY = 130
# Columns of a page that is no terminal.
WIDE = 120


def options() -> argparse.Namespace:
    """The command line."""
    described, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=described, epilog=more)
    known = ", ".join(part.name for part in PARTS)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"a promise or a part: {known}; all when left out"
    )
    parser.add_argument("--cycles", type=int, help="kills, power losses, faults or frames, for each part")
    parser.add_argument("--seconds", type=float, help="at most, for each part")
    parser.add_argument("--long", action="store_true", help="the sizes of the promises: hours")
    parser.add_argument("--seed", type=int, help="of everything random; drawn when left out")
    parser.add_argument("--jobs", type=int, default=1, help="parts at once; more than there are cores show less")
    parser.add_argument("--keep", type=Path, help="the folder for what has failed; a fresh one when left out")
    parser.add_argument(
        "--report", type=Path, action="append", default=[], help="write the summary: .json, or Markdown"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live table")
    given = parser.parse_args()
    try:
        given.parts = chosen(given.names)
    except ValueError as error:
        parser.error(str(error))
    if given.cycles is not None and given.cycles < 1:
        parser.error("--cycles begins with 1")
    return given


def size_of(part: Part, given: argparse.Namespace) -> Size:
    """How much of a part is asked for."""
    if given.cycles is None and given.seconds is None:
        return part.long if given.long else part.hour
    return Size(given.cycles, given.seconds)


def main() -> int:
    """1 when anything was lost, doubled or wrong, 130 when it was interrupted, else 0."""
    given = options()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    console.print(Text(f"seed {seed}"))
    parts = [Progress(part, size_of(part, given), seed) for part in given.parts]
    folder = given.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    ended = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with ThreadPoolExecutor(max(1, given.jobs)) as pool, Screen(console, parts, plain=given.plain) as screen:
        running = [pool.submit(_run, each, folder, ended) for each in parts]
        while wait(running, REFRESH_S).not_done:
            screen.refresh()
            if ended.is_set():
                for part in parts:
                    part.stop()
        screen.refresh()
    for done in running:
        done.result()
    console.print(table(parts, "torture"))
    _tell(console, parts)
    told = report.conditions(seed, folder, time.monotonic() - began)
    for file in given.report:
        report.write(file, parts, told)
        console.print(Text(f"written: {file}"))
    if not any(folder.iterdir()):
        folder.rmdir()
    if any(each.state == "failed" for each in parts):
        return 1
    return ENDED_EARLY if ended.is_set() else 0


def _run(each: Progress, folder: Path, ended: threading.Event) -> None:
    if not ended.is_set():
        each.run(folder, ended)


def _tell(console: Console, parts: list[Progress]) -> None:
    """What was found, how to have it again, and what was not run."""
    for each in parts:
        if each.state == "failed":
            console.print(Text(f"{each.part.name} FAILED; again: {each.repeat}; kept: {each.kept}", style="red"))
            for one in each.found[:10]:
                console.print(Text(f"  {one}"), soft_wrap=True)
    skipped = [each.part.name for each in parts if each.state == "skipped"]
    if skipped:
        console.print(Text(f"skipped, {len(skipped)} of {len(parts)}, not in this checkout: {', '.join(skipped)}"))


if __name__ == "__main__":
    sys.exit(main())
