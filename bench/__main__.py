"""`python -m bench`: the service beside its two references, in one run on one machine.

Three programs run side by side and are loaded in turn, round after round, so that a drift of the machine
meets all of them alike: (a) a bare echo, (b) the same echo with three rows a command and a synced commit
(bench/reference.py), and the service. What is printed are medians over the rounds; a ratio is the median of
the ratios within a round. At the end a manifest is written beside the bare library (bench/manifest.py).
"""

import argparse
import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import apsw

from bench import manifest
from bench.disk import MEMORY, file_system, synced_append_ms
from bench.load import Load, LoadError, Measured, measure
from bench.process import CHECKOUT, StartError, last_words, reference
from bench.service import Service, running

ECHO, STORE, SERVICE = "(a) echo", "(b) store", "service"
LOGS = {ECHO: "echo.log", STORE: "store.log", SERVICE: "service.log"}
BUSY = 0.9  # a load generator busier than this measures itself


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of load."""

    title: str
    connections: int
    window: int  # messages outstanding on each connection
    frames: int  # commands a message


ROWS = (
    Row("8 connections, 64 commands outstanding on each, 1 a message", connections=8, window=64, frames=1),
    Row("8 connections, 64 commands outstanding on each, 32 a message", connections=8, window=2, frames=32),
    Row("1 connection, one command at a time", connections=1, window=1, frames=1),
)


@dataclasses.dataclass(frozen=True)
class Line:
    """What is said of one program under one kind of load: medians over the rounds."""

    program: str
    rate: float  # commands a second
    of_echo: float
    of_store: float
    server_us: float  # a command
    p50_ms: float
    p99_ms: float
    generator_share: float  # 1.0 is one core
    failed: int  # in all rounds
    valid: bool
    rounds: list[Measured]


@dataclasses.dataclass(frozen=True)
class Count:
    """Journal rows found afterwards, against the commands that were acknowledged."""

    program: str
    rows: int
    acknowledged: int


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the service beside two references, in one run on this machine.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of half a second: a smoke test, no figures"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="length of each measurement (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        default=CHECKOUT,
        help="where the temporary state folder is made: the disk to be measured (default: the checkout)",
    )
    parser.add_argument("--gib", type=float, metavar="N", help="data of the manifest that is measured (default 4)")
    chosen = parser.parse_args()
    if chosen.seconds is None:
        chosen.seconds = 0.5 if chosen.quick else 2.0
    if not 0.1 <= chosen.seconds <= 600:
        parser.error(f"--seconds is {chosen.seconds:g}; it must be from 0.1 to 600")
    if not chosen.folder.is_dir():
        parser.error(f"--folder is {chosen.folder}, which is no folder")
    chosen.rounds = 1 if chosen.quick else 3
    if chosen.gib is None:
        chosen.gib = 0.0625 if chosen.quick else 4.0
    return chosen


def lines_of(rounds: list[dict[str, Measured]]) -> list[Line]:
    """The lines of one row from what each program did in each round."""
    lines = []
    for program in rounds[0]:
        own = [each[program] for each in rounds]
        share = median(m.generator_share for m in own)
        line = Line(
            program=program,
            rate=median(m.rate for m in own),
            of_echo=median(each[program].rate / max(each[ECHO].rate, 1e-9) for each in rounds),
            of_store=median(each[program].rate / max(each[STORE].rate, 1e-9) for each in rounds),
            server_us=median(m.server_us for m in own),
            p50_ms=median(m.p50_ms for m in own),
            p99_ms=median(m.p99_ms for m in own),
            generator_share=share,
            failed=sum(m.failed for m in own),
            valid=share <= BUSY,
            rounds=own,
        )
        lines.append(line)
    return lines


def show(row: Row, lines: list[Line]) -> None:
    """Print one row, a line for each program."""
    print(f"\n{row.title}")
    print(
        f"  {'':10}{'commands/s':>12}{'of (a)':>9}{'of (b)':>9}{'CPU us/cmd':>12}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'generator':>11}{'failed':>8}"
    )
    for line in lines:
        print(
            f"  {line.program:10}{line.rate:12,.0f}{line.of_echo:9.2f}{line.of_store:9.2f}{line.server_us:12.1f}"
            f"{line.p50_ms:9.2f}{line.p99_ms:9.2f}{line.generator_share:10.0%} {line.failed:8,}"
            + ("" if line.valid else f"  INVALID: the generator was over {BUSY:.0%} busy")
        )
        refusals = {text: count for measured in line.rounds for text, count in measured.refusals.items()}
        for text in list(refusals)[:3]:
            print(f"      refused: {text}")


def counted(service: Service, start_seq: int, database: Path, acknowledged: dict[str, int]) -> list[Count]:
    """The journal rows of the service and of the reference (b), against what they acknowledged.

    Raises StartError when the service does not answer.
    """
    expected = start_seq + acknowledged[SERVICE]
    rows = service.last_seq(after_seq=max(expected - 1, 0)) - start_seq
    with apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY) as reading:
        stored = reading.execute("SELECT count(*) FROM journal").get
    return [Count(STORE, int(stored), acknowledged[STORE]), Count(SERVICE, rows, acknowledged[SERVICE])]


def bench(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure and print everything; the same as a document.

    Raises StartError and LoadError when a program does not start or does not last.
    """
    median_ms, p99_ms = synced_append_ms(folder)
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "file_system": file_system(folder),
        "fdatasync_p50_ms": median_ms,
        "fdatasync_p99_ms": p99_ms,
    }
    print(f"{machine['cores']} cores, Python {machine['python']}, SQLite {machine['sqlite']}")
    print(
        f"state on {machine['file_system']}; 4 KiB append + fdatasync: p50 {median_ms:.2f} ms, p99 {p99_ms:.2f} ms"
    )
    print(
        f"{chosen.rounds} round(s) of {chosen.seconds:g} s each; medians; CPU is the server's, 100 % is one core"
    )

    with ExitStack() as stack:
        service = stack.enter_context(running(folder))
        echo = stack.enter_context(reference("echo", folder))
        store = stack.enter_context(reference("store", folder))
        places = service.open_acquisitions()
        start_seq = service.last_seq()
        programs = {ECHO: echo, STORE: store, SERVICE: (service.endpoint, service.pid)}
        acknowledged = dict.fromkeys(programs, 0)
        seen: dict[Row, list[dict[str, Measured]]] = {row: [] for row in ROWS}
        for number in range(chosen.rounds):
            for row in ROWS:
                print(f"round {number + 1}: {row.title}", file=sys.stderr)
                measured = {}
                for program, (endpoint, pid) in programs.items():
                    load = Load(endpoint, pid, places[: row.connections], row.window, row.frames, chosen.seconds)
                    try:
                        measured[program] = measure(load)
                    except LoadError as failure:
                        raise LoadError(f"{program}: {failure}; {last_words(folder / LOGS[program])}") from failure
                    acknowledged[program] += measured[program].acknowledged
                seen[row].append(measured)
        counts = counted(service, start_seq, folder / "store.db", acknowledged)

    table = [(row, lines_of(seen[row])) for row in ROWS]
    for row, lines in table:
        show(row, lines)
    print("\njournal rows afterwards")
    for count in counts:
        verdict = (
            "" if count.rows == count.acknowledged else f"  DIFFERENT by {count.rows - count.acknowledged:+,}"
        )
        print(f"  {count.program:10}{count.rows:12,} rows, {count.acknowledged:,} commands acknowledged{verdict}")
    return {
        "machine": machine,
        "seconds": chosen.seconds,
        "rows": [
            {**dataclasses.asdict(row), "lines": [dataclasses.asdict(line) for line in lines]}
            for row, lines in table
        ],
        "journal": [dataclasses.asdict(count) for count in counts],
    }


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
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as folder:
            document = bench(chosen, Path(folder).resolve())
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as folder:
            document["manifest_of_bare"] = manifest.run(Path(folder), int(chosen.gib * (1 << 30)), chosen.rounds)
        if chosen.json:
            chosen.json.write_text(json.dumps(document, indent=2) + "\n")
    except (StartError, LoadError) as failure:
        sys.exit(f"bench: {failure}")
    except OSError as error:
        sys.exit(f"bench: the disk refuses: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")


if __name__ == "__main__":
    main()
