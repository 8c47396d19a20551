"""Durable commands: the service beside the echo and the bare store, loaded in turn, round after round.

A drift of the machine meets all of them alike; a ratio is the median of the ratios within a round. The service has
one subscriber to everything meanwhile, which the references have not. The client library is a load of its own,
held against the raw sockets of the same round. The curve over outstanding commands is taken afterwards.
"""

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import apsw

from bench.audience import listening
from bench.disk import percentile, synced_appends_ms
from bench.measured import Measured
from bench.pictures import Curve, Panel
from bench.plan import Plan
from bench.process import reference
from bench.service import Service, running, size_mib
from bench.side import (
    CLIENT,
    ECHO,
    LONE,
    LOOP,
    MANY,
    ROWS,
    SERVICE,
    SINGLE,
    STORE,
    Line,
    Row,
    Side,
    lines_of,
    show,
)
from bench.table import Figure, Outcome, Target, number

COROUTINES = 1_000


@dataclasses.dataclass(frozen=True)
class Count:
    """Journal rows found afterwards, or events heard, against the commands that were acknowledged."""

    program: str
    rows: int
    acknowledged: int


def measure_rounds(
    side: Side, plan: Plan, folder: Path
) -> tuple[dict[Row, list[dict[str, Measured]]], list[float]]:
    """Every row, round after round, and the p50 of an fdatasync beside the lone commands of each round.

    Raises LoadError.
    """
    seen: dict[Row, list[dict[str, Measured]]] = {row: [] for row in ROWS}
    fdatasync_ms: list[float] = []
    for again in range(plan.turns):
        for row in ROWS:
            print(f"round {again + 1}: {row.title}", file=sys.stderr)
            before = synced_appends_ms(folder, plan.appends // 2) if row is LONE else []
            measured = {program: side.load(program, row, plan.seconds) for program in side.programs}
            if row is LONE:
                fdatasync_ms.append(percentile(before + synced_appends_ms(folder, plan.appends // 2), 0.5))
            if row is SINGLE:
                coroutines = dataclasses.replace(row, window=COROUTINES // row.connections)
                measured[CLIENT] = side.load(CLIENT, coroutines, plan.seconds)
            seen[row].append(measured)
    return seen, fdatasync_ms


def curve_over_outstanding(side: Side, plan: Plan) -> tuple[Curve, dict[str, list[Measured]]]:
    """Throughput and p99 of each program at each number of outstanding commands. Raises LoadError."""
    seen: dict[str, list[Measured]] = {program: [] for program in side.programs}
    for outstanding in plan.outstanding:
        print(f"{outstanding} outstanding", file=sys.stderr)
        connections = min(outstanding, 8)
        row = Row(f"{outstanding} outstanding", connections, outstanding // connections, frames=1)
        for program in side.programs:
            seen[program].append(side.load(program, row, plan.point_s))
    panels = [
        Panel("commands/s", {program: [m.rate for m in points] for program, points in seen.items()}),
        Panel("p99 ms", {program: [m.p99_ms for m in points] for program, points in seen.items()}, log=True),
    ]
    title = "Durable commands, one a message, by how many are outstanding"
    return Curve("outstanding", title, "commands outstanding", [*map(float, plan.outstanding)], panels), seen


def show_curve(curve: Curve) -> None:
    """Print the points of a curve."""
    print(f"\n{curve.title}")
    for panel in curve.panels:
        print(f"  {panel.label:28}" + "".join(f"{number(x):>12}" for x in curve.xs))
        for program, values in panel.lines.items():
            print(f"    {program:26}" + "".join(f"{number(value):>12}" for value in values))


def counted(service: Service, start_seq: int, folder: Path, acknowledged: dict[str, int]) -> list[Count]:
    """The journal rows of the service and of the references (b) and (c), against what they acknowledged.

    Raises StartError when the service does not answer.
    """
    counts = []
    for program, database in ((STORE, "store.db"), (LOOP, "loop.db")):
        with apsw.Connection(str(folder / database), flags=apsw.SQLITE_OPEN_READONLY) as reading:
            stored = reading.execute("SELECT count(*) FROM journal").get
        counts.append(Count(program, int(stored), acknowledged[program]))
    expected = start_seq + acknowledged[SERVICE]
    rows = service.last_seq(after_seq=max(expected - 1, 0)) - start_seq
    return [*counts, Count(SERVICE, rows, acknowledged[SERVICE])]


def show_counts(counts: list[Count], logs: dict[str, tuple[float, float]]) -> None:
    """Print what was counted afterwards, and how the write-ahead logs grew."""
    print("\njournal rows afterwards")
    for count in counts:
        verdict = (
            "" if count.rows == count.acknowledged else f"  DIFFERENT by {count.rows - count.acknowledged:+,}"
        )
        print(f"  {count.program:10}{count.rows:12,} rows, {count.acknowledged:,} commands acknowledged{verdict}")
    for program, (before, after) in logs.items():
        print(f"  write-ahead log of {program:10} {before:.1f} MiB before, {after:.1f} MiB after")


def figures_of(lines: dict[Row, dict[str, Line]], fdatasync_ms: list[float]) -> list[Figure]:
    """The rows of the table."""
    figures = []
    single, many = lines[SINGLE], lines[MANY]
    busy = f"load generators took {single[SERVICE].generator_share:.0%} and {many[SERVICE].generator_share:.0%}"
    for name, row in (("commands, one a message", single), ("commands, 32 a message", many)):
        own = row[SERVICE]
        figures.append(
            Figure(
                row=name,
                what="commands/s",
                measured=own.rate,
                reference=row[STORE].rate,
                of="(b), the bare store",
                ratio=own.of_store,
                target=Target("ratio", 0.6, aim=0.9),
                server_us=own.server_us,
                valid=own.valid and row[STORE].valid,
                remark=busy if row is many else "",
            )
        )
    figures.append(
        Figure(
            row="commands, 32 a message",
            what="commands/s, to one a message",
            measured=many[SERVICE].rate,
            reference=single[SERVICE].rate,
            of="the service's own figure of one a message",
            target=Target("ratio", 2.0),
            valid=many[SERVICE].valid and single[SERVICE].valid,
        )
    )
    lone = lines[LONE]
    figures.append(
        Figure(
            row="commands, one at a time",
            what="p50 ms",
            measured=lone[SERVICE].p50_ms,
            reference=lone[ECHO].p50_ms + median(fdatasync_ms),
            of="p50 of the echo and of a 4 KiB append with its fdatasync",
            ratio=median(
                own.p50_ms / (echo.p50_ms + sync_ms)
                for own, echo, sync_ms in zip(lone[SERVICE].rounds, lone[ECHO].rounds, fdatasync_ms, strict=True)
            ),
            target=Target("ratio", 1.5, at_most=True),
            server_us=lone[SERVICE].server_us,
            remark=f"a synced append took {median(fdatasync_ms):.2f} ms, all of (b) {lone[STORE].p50_ms:.2f} ms, "
            f"of (c) {lone[LOOP].p50_ms:.2f} ms",
        )
    )
    client = single[CLIENT]
    pairs = zip(client.rounds, single[SERVICE].rounds, strict=True)
    figures.append(
        Figure(
            row=f"the client, {COROUTINES:,} coroutines",
            what="commands/s",
            measured=client.rate,
            reference=single[SERVICE].rate,
            of="raw sockets, one a message",
            ratio=median(own.rate / max(raw.rate, 1e-9) for own, raw in pairs),
            target=Target("ratio", 0.7),
            server_us=client.server_us,
            remark=f"the client's process, which is what is measured, took {client.generator_share:.0%} of a core",
        )
    )
    return figures


def run(plan: Plan, folder: Path) -> Outcome:
    """Measure and print.

    Raises StartError and LoadError when a program does not start or does not last.
    """
    with ExitStack() as stack:
        service = stack.enter_context(running(folder))
        echo = stack.enter_context(reference("echo", folder))
        store = stack.enter_context(reference("store", folder))
        loop = stack.enter_context(reference("loop", folder))
        places = service.open_acquisitions()
        start_seq = service.last_seq()
        audience = stack.enter_context(listening(service.events, 1, "", folder / "audience.log"))
        at = (service.endpoint, service.pid)
        side = Side({ECHO: echo, STORE: store, LOOP: loop, SERVICE: at}, places, folder)
        bare_log = folder / "store.db-wal"
        before = (size_mib(bare_log), service.log_mib)
        seen, fdatasync_ms = measure_rounds(side, plan, folder)
        curve, points = curve_over_outstanding(side, plan)
        logs = {STORE: (before[0], size_mib(bare_log)), SERVICE: (before[1], service.log_mib)}
        counts = counted(service, start_seq, folder, side.acknowledged)
        heard = audience.heard(side.acknowledged[SERVICE])
        counts.append(Count("heard", heard.events, side.acknowledged[SERVICE]))

    lines = {row: {line.program: line for line in lines_of(seen[row])} for row in ROWS}
    for row in ROWS:
        show(row, [*lines[row].values()])
    show_curve(curve)
    show_counts(counts, logs)
    document: dict[str, Any] = {
        "rows": [
            {**dataclasses.asdict(row), "lines": [dataclasses.asdict(line) for line in lines[row].values()]}
            for row in ROWS
        ],
        "fdatasync_ms": fdatasync_ms,
        "outstanding": {program: [dataclasses.asdict(m) for m in each] for program, each in points.items()},
        "journal": [dataclasses.asdict(count) for count in counts],
        "write_ahead_log_mib": logs,
    }
    return Outcome(figures_of(lines, fdatasync_ms), document, [curve])
