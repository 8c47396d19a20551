"""`python -m bench.peers`: the service beside NATS JetStream, Redis and RCDB, each with every write synced.

All of them make the same parameters durable, with journal and idempotency key as far as each has such things, in
one run on one machine, loaded in turn, round after round. What is not installed is skipped, and said. The targets
are none: the figures say what a producer would get elsewhere.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.disk import MEMORY, file_system, percentile, synced_appends_ms
from bench.load import Load, measure
from bench.measured import LoadError, Measured
from bench.peer_servers import MissingError, Server, nats, redis
from bench.plan import QUICK, Plan
from bench.process import CHECKOUT, StartError, end_with_parent, reference
from bench.service import running
from bench.side import BUSY, LONE, SERVICE, SINGLE, STORE, Row

ROWS = (SINGLE, LONE)
SERVERS = {"NATS": ("nats", nats), "Redis": ("redis", redis)}
RCDB = "RCDB"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A program of this run.

    generator  the words of its load generator
    told       its version, and how it was configured
    """

    endpoint: str
    pid: int
    generator: tuple[str, ...]
    told: str


def rcdb_measured(folder: Path, seconds: float) -> dict[str, Any]:
    """RCDB alone. Raises MissingError, and LoadError when it fails."""
    file = folder / "rcdb.db"
    file.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "bench.rcdb_load", str(file), str(seconds)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        preexec_fn=end_with_parent,
        check=False,
    )
    if done.returncode == 3:
        raise MissingError("there is no module rcdb")
    if done.returncode:
        raise LoadError((done.stderr.strip().splitlines() or ["RCDB has failed without a word"])[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(title: str, rates: dict[str, float], lines: dict[str, str]) -> None:
    """Print one row: each program's rate, to the service's, and what else is said of it."""
    print(f"\n{title}\n  {'':12}{'commands/s':>12}{'of service':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU us/cmd':>12}")
    for program, rate in rates.items():
        of_service = rate / rates[SERVICE] if rates[SERVICE] else 0.0
        print(f"  {program:12}{rate:12,.0f}{of_service:12.3f}{lines[program]}")


def bench(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure and print everything; the same as a document.

    Raises StartError and LoadError when a program does not start or does not last.
    """
    appends = synced_appends_ms(folder, chosen.appends)
    print(f"state on {file_system(folder)}; 4 KiB append + fdatasync: p50 {percentile(appends, 0.5):.2f} ms")
    programs: dict[str, Loaded] = {}
    skipped: dict[str, str] = {}
    servers: dict[str, Server] = {}
    seen: dict[Row, list[dict[str, Measured]]] = {row: [] for row in ROWS}
    alone: list[dict[str, Any]] = []
    with ExitStack() as stack:
        service = stack.enter_context(running(folder))
        places = service.open_acquisitions()
        start_seq = service.last_seq()
        store, pid = stack.enter_context(reference("store", folder))
        programs[STORE] = Loaded(store, pid, (), "bench/reference.py")
        programs[SERVICE] = Loaded(service.endpoint, service.pid, (), "as it is shipped, synchronous=FULL")
        for name, (kind, started) in SERVERS.items():
            try:
                server = servers[name] = stack.enter_context(started(folder))
            except MissingError as missing:
                skipped[name] = str(missing)
                continue
            told = f"{server.version}; {server.configured}"
            programs[name] = Loaded(server.endpoint, server.pid, ("bench.stream_load", kind), told)
        acknowledged = dict.fromkeys(programs, 0)
        for number in range(chosen.rounds):
            for row in ROWS:
                print(f"round {number + 1}: {row.title}", file=sys.stderr)
                measured = {}
                for name, each in programs.items():
                    load = Load(each.endpoint, each.pid, places[: row.connections], row.window, 1, chosen.seconds)
                    measured[name] = measure(load, *each.generator)
                    acknowledged[name] += measured[name].acknowledged
                seen[row].append(measured)
            try:
                alone.append(rcdb_measured(folder, chosen.seconds))
            except MissingError as missing:
                skipped[RCDB] = str(missing)
        counts = {name: server.count() for name, server in servers.items()}
        counts[SERVICE] = service.last_seq(start_seq + acknowledged[SERVICE] - 1) - start_seq
    configured = {name: each.told for name, each in programs.items()}
    if alone:
        configured[RCDB] = (
            f"{alone[0]['version']}; add_condition into SQLite as it opens it, one writer, no server"
        )
    print_rows(seen, alone)
    print("\nconfigured")
    for name, told in configured.items():
        print(f"  {name:12}{told}")
    for name, why in skipped.items():
        print(f"  {name:12}SKIPPED: {why}")
    print("\ncounted afterwards")
    for name, count in counts.items():
        print(f"  {name:12}{count:12,} journal entries, {acknowledged[name]:,} commands acknowledged")
    return {
        "rows": [
            {
                "title": row.title,
                "rounds": [{n: dataclasses.asdict(m) for n, m in each.items()} for each in seen[row]],
            }
            for row in ROWS
        ],
        "rcdb": alone,
        "configured": configured,
        "skipped": skipped,
        "counted": counts,
        "acknowledged": acknowledged,
    }


def print_rows(seen: dict[Row, list[dict[str, Measured]]], alone: list[dict[str, Any]]) -> None:
    """The tables, medians over the rounds."""
    for row, rounds in seen.items():
        rates, lines = {}, {}
        for name in rounds[0]:
            own = [each[name] for each in rounds]
            rates[name] = median(m.rate for m in own)
            busy = median(m.generator_share for m in own)
            lines[name] = (
                f"{median(m.p50_ms for m in own):9.2f}{median(m.p99_ms for m in own):9.2f}"
                f"{median(m.server_us for m in own):12.1f}"
                + ("" if busy <= BUSY else f"  INVALID: the generator was {busy:.0%} busy")
            )
        if alone:  # it does one thing at a time, whoever waits
            rates[RCDB] = median(each["commands"] / each["elapsed_s"] for each in alone)
            p50, p99 = (median(each[name] for each in alone) for name in ("p50_ms", "p99_ms"))
            cpu_us = median(each["cpu_s"] * 1e6 / each["commands"] for each in alone)
            lines[RCDB] = f"{p50:9.2f}{p99:9.2f}{cpu_us:12.1f}  one writer, whatever waits"
        show(row.title, rates, lines)


def main() -> None:
    """Exit code 0 whatever the figures and whatever is not installed, 1 when a program does not last."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="one round of half a second: a smoke test, no figures"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="length of each load (default 1)")
    parser.add_argument("--folder", type=Path, default=CHECKOUT, metavar="DIR", help="on the disk to be measured")
    parser.add_argument("--results", type=Path, default=CHECKOUT / "bench" / "results", metavar="DIR")
    chosen = parser.parse_args()
    plan = QUICK if chosen.quick else Plan()
    chosen.rounds, chosen.appends = plan.turns, plan.appends
    chosen.seconds = chosen.seconds or plan.seconds
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if file_system(chosen.folder) in MEMORY:
        sys.exit(f"bench: {chosen.folder} is in memory, where a sync costs nothing; name a --folder on a disk.")
    print(f"{os.cpu_count()} cores; {chosen.rounds} round(s) of {chosen.seconds:g} s; medians")
    try:
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as folder:
            document = bench(chosen, Path(folder).resolve())
        chosen.results.mkdir(parents=True, exist_ok=True)
        file = chosen.results / "peers.json"
        file.write_text(json.dumps(document, indent=2) + "\n")
        print(f"\nJSON: {file}")
    except (StartError, LoadError) as failure:
        sys.exit(f"bench: {failure}")
    except OSError as error:
        sys.exit(f"bench: the disk or a peer refuses: {error}")


if __name__ == "__main__":
    main()
