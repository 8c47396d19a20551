"""What a command, a search and a start cost as the store grows, and what the service's memory does under load.

The store is filled in stages (bench/filling.py); at each the service is started on it and looked at. At the last
one it runs beside another service with an empty store, loaded in turn, and is then kept under load for minutes.
"""

import dataclasses
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import searches
from bench.commands import Count, show_counts, show_curve
from bench.disk import percentile, synced_appends_ms
from bench.filling import PARAMS, Filling
from bench.measured import Measured
from bench.pictures import Curve, Panel
from bench.plan import Plan
from bench.process import memory_mib
from bench.service import DATABASE, Service, running
from bench.side import BUSY, LONE, SINGLE, Side
from bench.table import Figure, Outcome, Target

GROWN, EMPTY = "grown", "empty"
PIECE_S = (
    10.0  # the load of minutes comes in such pieces, each with fresh keys, and memory is looked at after each
)
SETTLED = 0.2  # share of the pieces after which memory is held to have settled
LEAST_FREE = 4 << 30  # bytes of the disk at which the load of minutes is ended


@dataclasses.dataclass(frozen=True)
class Stage:
    """What was seen at one size of the store."""

    rows: int  # of the journal, when it was looked at
    store_mib: float
    start_s: float
    start_mib: float  # memory when the first ping was answered
    single: Measured
    lone: Measured
    search_ms: dict[str, list[float]]
    mib: float  # memory after all this


@dataclasses.dataclass(frozen=True)
class Kept:
    """What was seen of the grown service beside the empty one, and under load."""

    pairs: list[tuple[Measured, Measured]]  # of the grown and the empty one, in turn
    lone: Measured
    fdatasync_ms: list[float]
    load_s: float
    log_mib: tuple[float, float]  # the write-ahead log, before and after the load
    mib: list[float]  # memory after each piece of the load


def fill(folder: Path, first: int, count: int) -> None:
    """Add acquisitions of these numbers to the store. Raises StoreError and NotWrittenError."""
    if count > 0:
        print(f"filling in {count:,} acquisitions", file=sys.stderr)
        filling = Filling(folder / DATABASE)
        filling.add(first, count)
        filling.close()


def started_s(folder: Path, times: int) -> float:
    """From the start of a service to its first answer: the median of so many starts. Raises StartError."""
    seen = []
    for _ in range(times):
        with running(folder) as service:
            seen.append(service.start_s)
    return median(seen)


def look(service: Service, side: Side, plan: Plan, filled: int, start_s: float) -> Stage:
    """The costs at one size. Raises StartError and LoadError."""
    start_mib = memory_mib(service.pid)
    rows = int(service.ask("get_status")["journal"]["last_seq"])
    return Stage(
        rows=rows,
        store_mib=service.store_mib,
        start_s=start_s,
        start_mib=start_mib,
        search_ms=searches.asked_ms(service, plan.searches, filled),
        single=side.load(GROWN, SINGLE, plan.seconds),
        lone=side.load(GROWN, LONE, plan.seconds),
        mib=memory_mib(service.pid),
    )


def keep(service: Service, side: Side, plan: Plan, folder: Path) -> Kept:
    """The grown service beside the empty one, alone for its slowest commits, and under load.

    Raises StartError and LoadError.
    """
    pairs = []
    for number in range(plan.turns):
        print(f"round {number + 1}: grown and empty", file=sys.stderr)
        pairs.append((side.load(GROWN, SINGLE, plan.seconds), side.load(EMPTY, SINGLE, plan.seconds)))
    appends = synced_appends_ms(folder, plan.appends)
    lone = side.load(GROWN, LONE, plan.lone_s)
    appends += synced_appends_ms(folder, plan.appends)
    print(f"under load for {plan.load_s:,.0f} s", file=sys.stderr)
    before, memory, start = service.log_mib, [memory_mib(service.pid)], time.monotonic()
    while time.monotonic() < start + plan.load_s:
        side.load(GROWN, SINGLE, min(PIECE_S, plan.load_s))
        memory.append(memory_mib(service.pid))
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < LEAST_FREE:
            print(f"the load ends: the disk has less than {LEAST_FREE >> 30} GiB free")
            break
    took = time.monotonic() - start
    return Kept(pairs, lone, appends, took, (before, service.log_mib), memory)


def curve_over_size(stages: list[Stage]) -> Curve:
    """The costs against the rows of the journal."""
    panels = [
        Panel("commands/s", {"8 x 64 outstanding": [each.single.rate for each in stages]}),
        Panel(
            "lone command, ms",
            {"p50": [each.lone.p50_ms for each in stages], "p99": [each.lone.p99_ms for each in stages]},
        ),
        Panel(
            "find_nodes p99, ms",
            {kind: [percentile(each.search_ms[kind], 0.99) for each in stages] for kind in stages[0].search_ms},
            log=True,
        ),
        Panel("start-up, s", {"to the first ping": [each.start_s for each in stages]}),
        Panel(
            "memory, MiB", {"at the start": [each.start_mib for each in stages], "later": [s.mib for s in stages]}
        ),
    ]
    return Curve(
        "store-size", "Cost against the size of the store", "journal rows", [float(s.rows) for s in stages], panels
    )


def figures_of(stages: list[Stage], kept: Kept, plan: Plan) -> list[Figure]:
    """The rows of the table."""
    last = stages[-1]
    size = f"{last.rows:,} journal rows, {plan.acquisitions:,} acquisitions"
    fdatasync_ms = percentile(kept.fdatasync_ms, 0.999)
    settled = kept.mib[int(len(kept.mib) * SETTLED)]
    grown, empty = (median(pair[side].rate for pair in kept.pairs) for side in (0, 1))
    figures = [
        Figure(
            size,
            "commands/s",
            grown,
            reference=empty,
            of="the same beside it with an empty store",
            ratio=median(own.rate / max(other.rate, 1e-9) for own, other in kept.pairs),
            target=Target("ratio", 0.9),
            server_us=median(own.server_us for own, _ in kept.pairs),
            valid=all(max(own.generator_share, other.generator_share) <= BUSY for own, other in kept.pairs),
        ),
        Figure(
            size,
            "p99.9 ms of a lone command",
            kept.lone.p999_ms,
            reference=fdatasync_ms,
            of="p99.9 of an fdatasync, before and after it",
            target=Target("ratio", 10.0, at_most=True),
            remark=f"the commit, and the wire; of {kept.lone.commands:,} commands",
        ),
        Figure(
            size,
            "start-up s",
            last.start_s,
            reference=stages[0].start_s,
            of="that of an empty store",
            target=Target("figure", 2.0, at_most=True),
        ),
        Figure(size, "memory MiB, the most", max(kept.mib), target=Target("figure", 200, at_most=True)),
        Figure(
            size,
            f"memory MiB after {kept.load_s / 60:.1f} min of load",
            kept.mib[-1],
            reference=settled,
            of=f"memory after {SETTLED:.0%} of that",
            target=Target("ratio", 1.05, at_most=True),
            remark="not growing is taken for at most a twentieth more",
        ),
    ]
    for kind, took in last.search_ms.items():
        what = f"p99 ms of a first page, {kind}"
        target = Target("figure", 20.0, at_most=True)
        remark = f"p50 {percentile(took, 0.5):.2f} ms"
        figures.append(Figure("find_nodes there", what, percentile(took, 0.99), target=target, remark=remark))
    return figures


def run(plan: Plan, folder: Path) -> Outcome:
    """Measure and print. Raises StartError and LoadError when a program does not start or does not last."""
    grown, empty = folder / GROWN, folder / EMPTY
    grown.mkdir()
    empty.mkdir()
    with running(grown) as service:
        places = service.open_acquisitions()
    stages: list[Stage] = []
    kept: Kept | None = None
    journal: Count | None = None
    filled = 0
    for share in plan.stages:
        count = int(plan.acquisitions * share)
        fill(grown, filled, count - filled)
        filled = count
        start_s = started_s(grown, plan.rounds)
        with ExitStack() as stack:
            service = stack.enter_context(running(grown))
            side = Side({GROWN: (service.endpoint, service.pid)}, places, grown)
            stages.append(look(service, side, plan, filled, start_s))
            if share == plan.stages[-1]:
                other = stack.enter_context(running(empty))
                other.open_acquisitions()
                side.add(EMPTY, (other.endpoint, other.pid))
                kept = keep(service, side, plan, folder)
                rows = int(service.ask("get_status")["journal"]["last_seq"]) - stages[-1].rows
                journal = Count(GROWN, rows, side.acknowledged[GROWN])
    if kept is None or journal is None:
        raise ValueError("a plan without stages")
    curve = curve_over_size(stages)
    print(
        f"{filled:,} acquisitions of {PARAMS} parameters, {stages[-1].store_mib:,.0f} MiB; "
        "without their idempotency keys"
    )
    show_curve(curve)
    print(f"  under load for {kept.load_s / 60:.1f} min: memory from {kept.mib[0]:.0f} to {kept.mib[-1]:.0f} MiB")
    show_counts([journal], {GROWN: kept.log_mib})
    document = {
        "acquisitions": filled,
        "stages": [dataclasses.asdict(each) for each in stages],
        "kept": dataclasses.asdict(kept),
        "journal": [dataclasses.asdict(journal)],
    }
    return Outcome(figures_of(stages, kept, plan), document, [curve])
