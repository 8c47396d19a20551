"""Conversions: `/bin/true`, two at a time, beside a bare loop that spawns it with the same isolation.

All of them are queued before the first may start: two conversions hold the two places until a file is there, while
the acquisitions are finished and sealed. What is measured is from the first start to the last end, by the journal.
No manifests are written meanwhile, since the bare loop (bench/spawner.py) writes none.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.measured import LoadError, cpu_s
from bench.plan import Plan
from bench.process import StartError, last_words, program
from bench.service import STORAGES, Service, running
from bench.table import Figure, Outcome, Target

PARALLEL = 2
CONFIGURATION = f"""
[conversion]
max_parallel = {PARALLEL}

[storages."*"]
manifest = "off"
"""
TRUE, GATE, OPEN = "true", "gate", "open"
GATE_SCRIPT = "#!/bin/sh\nuntil [ -e {open} ]; do sleep 0.02; done\n"
PATIENCE_S = 300.0  # without any progress
LOOK_S = 0.25


def acquisitions(round_number: int, count: int, script: str) -> Iterator[dict[str, Any]]:
    """The arguments that open them, in the eight storages by turns."""
    for number in range(count):
        storage_id, name = f"bench-{number % STORAGES}", f"{script}_{round_number}_{number}"
        yield {"storage_id": storage_id, "run_name": "run", "acq_name": name, "convert_script": script}


def queued(service: Service, round_number: int, count: int, script: str) -> None:
    """Open and finish acquisitions, each with its conversion. Raises StartError."""
    opened = list(acquisitions(round_number, count, script))
    service.ask_all("new_acq_storage", opened)
    places = ((each["storage_id"], each["acq_name"]) for each in opened)
    marks = ({"storage_id": storage_id, "acq_id": f"root/{storage_id}/run/{name}"} for storage_id, name in places)
    service.ask_all("mark_as_finished_storage", marks)


def wait(what: str, count: int, seen: Callable[[], int]) -> None:
    """Until so many are seen. Raises LoadError when no more come for PATIENCE_S."""
    most, deadline = -1, time.monotonic() + PATIENCE_S
    while (now := seen()) < count:
        if now > most:
            most, deadline = now, time.monotonic() + PATIENCE_S
        if time.monotonic() > deadline:
            raise LoadError(f"{most} {what}, and not {count}")
        time.sleep(LOOK_S)


def conversions(service: Service, state: str) -> int:
    """How many conversions are in a state. Raises StartError."""
    return int(service.ask("get_status")["conversions"][state])


def events(service: Service, after_seq: int, topic: str) -> Iterator[dict[str, Any]]:
    """The journal's events of a topic. Raises StartError."""
    while True:
        page = service.ask("replay_events", after_seq=after_seq, topics=[topic], limit=1_000)
        yield from page["events"]
        if not page["more"]:
            return
        after_seq = page["events"][-1]["seq"]


def of_service(service: Service, round_number: int, count: int) -> tuple[float, float]:
    """The seconds of a round of conversions, and the service's own CPU meanwhile.

    Raises StartError and LoadError.
    """
    gate = service.folder / OPEN
    gate.unlink(missing_ok=True)
    status = service.ask("get_status")
    before, done = int(status["journal"]["last_seq"]), int(status["conversions"]["succeeded"])
    queued(service, round_number, PARALLEL, GATE)
    wait("conversions hold the places", PARALLEL, lambda: conversions(service, "running"))
    queued(service, round_number, count, TRUE)
    sealed = partial(events, service, before, "acquisition.sealed/")
    wait("acquisitions are sealed", PARALLEL + count, lambda: sum(1 for _ in sealed()))
    cpu = cpu_s(service.pid)
    gate.touch()
    wait("conversions have succeeded", done + PARALLEL + count, lambda: conversions(service, "succeeded"))
    cpu = cpu_s(service.pid) - cpu
    started = [e["time"] for e in events(service, before, "conversion.started/") if e["data"]["script"] == TRUE]
    ended = [e["time"] for e in events(service, before, "conversion.succeeded/") if e["data"]["script"] == TRUE]
    if len(started) != count or len(ended) != count:
        raise LoadError(f"{len(started)} conversions started and {len(ended)} ended, of {count}")
    return (datetime.fromisoformat(max(ended)) - datetime.fromisoformat(min(started))).total_seconds(), cpu


def of_bare(folder: Path, script: Path, count: int) -> tuple[float, float]:
    """The same of the bare loop. Raises StartError."""
    log = folder.with_suffix(".log")
    words = (str(folder), str(script), str(count), str(PARALLEL))
    with program("bench.spawner", *words, log=log) as process:
        told = process.stdout.readline() if process.stdout else ""
        if not told:
            raise StartError(f"the bare loop has failed: {last_words(log)}")
    found = json.loads(told)
    return found["took_s"], found["cpu_s"]


def run(plan: Plan, folder: Path) -> Outcome:
    """Measure and print. Raises StartError and LoadError when a program does not start or does not last."""
    count = plan.conversions
    ours, bare = [], []
    with running(folder, CONFIGURATION) as service:
        scripts = folder / "conversions"
        shutil.copy("/bin/true", scripts / TRUE)
        (scripts / GATE).write_text(GATE_SCRIPT.format(open=folder / OPEN))
        (scripts / GATE).chmod(0o755)
        service.open_acquisitions()
        for number in range(plan.rounds):
            ours.append(of_service(service, number, count))
            bare.append(of_bare(folder / f"bare-{number}", scripts / TRUE, count))
    took_s, bare_s = median(took for took, _ in ours), median(took for took, _ in bare)
    cpu_us, bare_us = (median(cpu for _, cpu in each) * 1e6 / count for each in (ours, bare))
    print(f"{count:,} conversions of /bin/true, {PARALLEL} at a time")
    print(f"  service    {count / took_s:8.1f} a second, {cpu_us:8,.0f} us of the service's CPU for each")
    print(f"  bare loop  {count / bare_s:8.1f} a second, {bare_us:8,.0f} us of the loop's CPU for each")
    figure = Figure(
        f"conversions, {count:,} of /bin/true",
        "conversions/s",
        count / took_s,
        reference=count / bare_s,
        of="a bare loop that spawns them with the same runner, keeper, lock and lifeline",
        ratio=median(theirs / own for (own, _), (theirs, _) in zip(ours, bare, strict=True)),
        target=Target("ratio", 0.8),
        server_us=cpu_us,
    )
    return Outcome([figure], {"conversions": count, "service": ours, "bare": bare})
