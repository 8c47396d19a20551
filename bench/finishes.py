"""Finishes before a hundred subscribers: none may be lost, and how late the last of them has each.

A finish is late by the time from its commit to its arrival at the last subscriber. The reply to the last mark
leaves right after the commit and before the event: when it was read stands for the commit. The time from the
decision, which the event tells and which is before the commit, is shown beside. The bare PUB sends the same bytes
to as many subscribers, each when the first of the service's subscribers had it; there a message is late by the
time from its send.
"""

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack

from bench.audience import Heard, listening
from bench.disk import percentile
from bench.measured import cpu_s
from bench.plan import Plan
from bench.process import StartError, last_words, program
from bench.service import STORAGES, running
from bench.table import Figure, Outcome, Target

SUBSCRIBERS = 100
TOPIC = "acquisition.finished/"
OUTSTANDING = 8
ROW = f"finishes to {SUBSCRIBERS} subscribers"


def acquisitions(count: int) -> Iterator[dict[str, Any]]:
    """The arguments that open them, in the eight storages by turns."""
    for number in range(count):
        yield {"storage_id": f"bench-{number % STORAGES}", "run_name": "run", "acq_name": f"finish_{number}"}


def marks(count: int) -> Iterator[dict[str, Any]]:
    """The arguments that finish them."""
    for each in acquisitions(count):
        storage_id = each["storage_id"]
        yield {"storage_id": storage_id, "acq_id": f"root/{storage_id}/run/{each['acq_name']}"}


def of_service(finishes: int, folder: Path) -> tuple[Heard, dict[str, float], float]:
    """What the subscribers of the service heard; by acquisition, when the reply to its last mark was read, in
    seconds since 1970; and the service's CPU for a finish in microseconds.

    Raises StartError and LoadError.
    """
    with running(folder) as service:
        service.open_acquisitions()
        service.ask_all("new_acq_storage", acquisitions(finishes))
        with listening(service.events, SUBSCRIBERS, TOPIC, folder / "audience.log") as audience:
            before = cpu_s(service.pid)
            replies = service.ask_all("mark_as_finished_storage", marks(finishes), OUTSTANDING)
            heard = audience.heard(finishes)
            told = {result["acq_id"]: at for result, at in replies}
            return heard, told, (cpu_s(service.pid) - before) * 1e6 / finishes


def of_bare(heard: Heard, folder: Path) -> tuple[Heard, dict[int, float]]:
    """What the subscribers of a bare PUB heard of the same, and by seq when it was sent, in seconds since 1970.

    Raises StartError.
    """
    order = sorted(heard.first_s, key=heard.first_s.__getitem__)
    start = heard.first_s[order[0]] if order else 0.0
    bodies = {seq: bytes.fromhex(body) for seq, body in heard.bodies.items()}
    topics = {seq: TOPIC.encode() + msgpack.unpackb(body)["storage_id"].encode() for seq, body in bodies.items()}
    schedule = folder / "schedule.msgpack"
    schedule.write_bytes(msgpack.packb([(heard.first_s[seq] - start, topics[seq], bodies[seq]) for seq in order]))
    log = folder / "publisher.log"
    with program("bench.publisher", "tcp://127.0.0.1:*", log=log, asked=True) as process:
        if process.stdin is None or process.stdout is None:
            raise StartError("the bare publisher has no pipes")
        if not (endpoint := process.stdout.readline().strip()):
            raise StartError(f"the bare publisher does not start: {last_words(log)}")
        with listening(endpoint, SUBSCRIBERS, TOPIC, folder / "bare-audience.log") as audience:
            process.stdin.write(f"{schedule}\n")
            process.stdin.flush()
            sent = json.loads(process.stdout.readline() or "[]")
            return audience.heard(len(order)), dict(zip(order, sent, strict=False))


def late_ms(heard: Heard, since: dict[int, float]) -> list[float]:
    """How late the last subscriber had each, in milliseconds."""
    return [(last - since[seq]) * 1e3 for seq, last in heard.last_s.items() if seq in since]


@dataclasses.dataclass(frozen=True)
class Round:
    """One round: the service, and the bare PUB with the same right after it. Lateness in milliseconds."""

    lost: int
    bare_lost: int
    took_s: float
    server_us: float
    p50_ms: float
    p99_ms: float
    decided_p50_ms: float
    decided_p99_ms: float
    bare_p50_ms: float
    bare_p99_ms: float


def measured(finishes: int, folder: Path) -> Round:
    """A round in a folder of its own. Raises StartError and LoadError."""
    heard, told, server_us = of_service(finishes, folder)
    bare, sent = of_bare(heard, folder)
    events = {seq: msgpack.unpackb(bytes.fromhex(body)) for seq, body in heard.bodies.items()}
    decided = {seq: datetime.fromisoformat(event["time"]).timestamp() for seq, event in events.items()}
    committed = {seq: told[event["subject"]] for seq, event in events.items()}
    ours, since_decided, theirs = late_ms(heard, committed), late_ms(heard, decided), late_ms(bare, sent)
    return Round(
        lost=finishes * SUBSCRIBERS - heard.events,
        bare_lost=len(sent) * SUBSCRIBERS - bare.events,
        took_s=max(heard.last_s.values(), default=0.0) - min(decided.values(), default=0.0),
        server_us=server_us,
        p50_ms=percentile(ours, 0.5),
        p99_ms=percentile(ours, 0.99),
        decided_p50_ms=percentile(since_decided, 0.5),
        decided_p99_ms=percentile(since_decided, 0.99),
        bare_p50_ms=percentile(theirs, 0.5),
        bare_p99_ms=percentile(theirs, 0.99),
    )


def run(plan: Plan, folder: Path) -> Outcome:
    """Measure and print. Raises StartError and LoadError when a program does not start or does not last."""
    rounds = []
    for number in range(plan.rounds):
        place = folder / str(number)
        place.mkdir()
        rounds.append(measured(plan.finishes, place))
    rounds.sort(key=lambda each: each.p99_ms - each.bare_p99_ms)
    usual = rounds[len(rounds) // 2]
    print(
        f"{plan.finishes:,} finishes in {usual.took_s:.1f} s, {OUTSTANDING} outstanding, each with its seal and "
        f"manifest; the last of {SUBSCRIBERS} has them after"
    )
    print(f"  service    p50 {usual.p50_ms:6.2f} ms, p99 {usual.p99_ms:6.2f} ms after the commit")
    print(
        f"             p50 {usual.decided_p50_ms:6.2f} ms, p99 {usual.decided_p99_ms:6.2f} ms after the decision"
    )
    print(f"  bare PUB   p50 {usual.bare_p50_ms:6.2f} ms, p99 {usual.bare_p99_ms:6.2f} ms")
    lost = Figure(
        ROW,
        "events lost, of all rounds",
        sum(each.lost for each in rounds),
        target=Target("figure", 0, at_most=True),
        server_us=usual.server_us,
    )
    late = Figure(
        ROW,
        "p99 ms, commit to last subscriber",
        usual.p99_ms,
        reference=usual.bare_p99_ms,
        of="a bare PUB of the same bytes at the same pace, send to last subscriber",
        target=Target("excess", 10.0, at_most=True),
        remark=f"the middle round; from the decision on, with the commit, {usual.decided_p99_ms:.1f} ms",
    )
    document = {
        "finishes": plan.finishes,
        "subscribers": SUBSCRIBERS,
        "rounds": [*map(dataclasses.asdict, rounds)],
    }
    return Outcome([lost, late], document)
