"""Replay: how fast a journal is read from its beginning, page after page, and whether memory stays flat meanwhile.

The pages are asked for one after the other, each after the last seq of the one before; their events are counted
and not decoded. Beside it stands a bare SELECT of the same bodies in the same order.
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import zmq

from bench.filling import ROWS_EACH, Filling
from bench.measured import LoadError, cpu_s
from bench.plan import Plan
from bench.process import memory_mib
from bench.service import DATABASE, Service, running
from bench.table import Figure, Outcome, Target

PAGE = 10_000  # the most that may be asked for; a page ends earlier, at the bytes of a reply
SILENCE_S = 30
WARM = 0.1  # share of the events after which memory is looked at for the first time


class Place(msgspec.Struct):
    """Where an event stands."""

    seq: int


class Page(msgspec.Struct):
    """What is read of a page: its events as they are."""

    events: list[msgspec.Raw]
    more: bool


class Reply(msgspec.Struct):
    """A reply with a page. `result` is missing from a refusal."""

    ok: bool
    result: Page | None = None


decode_reply = msgspec.msgpack.Decoder(Reply).decode
decode_place = msgspec.msgpack.Decoder(Place).decode


def replayed(service: Service) -> tuple[int, float, list[float]]:
    """How many events there were, the seconds that it took, and the service's memory after each page in MiB.

    Raises LoadError when a page does not come, or is refused.
    """
    memory: list[float] = []
    events, after_seq, more = 0, 0, True
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(service.endpoint)
        start = time.perf_counter()
        while more:
            args = {"after_seq": after_seq, "limit": PAGE}
            peer.send(msgspec.msgpack.encode({"id": 1, "cmd": "replay_events", "args": args}))
            if not peer.poll(SILENCE_S * 1000):
                raise LoadError(f"no page of the journal after {SILENCE_S} s")
            page = decode_reply(peer.recv()).result
            if page is None:
                raise LoadError(f"the page after {after_seq} is refused")
            events += len(page.events)
            memory.append(memory_mib(service.pid))
            more = page.more
            after_seq = decode_place(page.events[-1]).seq if more else 0
        took_s = time.perf_counter() - start
    return events, took_s, memory


def bare_s(database: Path) -> float:
    """The seconds of a SELECT of all bodies. Raises apsw.Error when the database cannot be read."""
    with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)) as reading:
        start = time.perf_counter()
        for _ in reading.execute("SELECT body FROM journal ORDER BY seq"):
            pass
        return time.perf_counter() - start


def run(plan: Plan, folder: Path) -> Outcome:
    """Measure and print. Raises StartError and LoadError when a program does not start or does not last."""
    with running(folder) as service:
        service.open_acquisitions()
    filling = Filling(folder / DATABASE)
    filling.add(0, plan.events // ROWS_EACH)
    rows = filling.last_seq
    filling.close()
    rounds: list[dict[str, Any]] = []
    with running(folder) as service:
        for _ in range(plan.rounds):
            before = cpu_s(service.pid)
            events, took_s, memory = replayed(service)
            if events != rows:
                raise LoadError(f"the replay had {events:,} events of {rows:,}")
            cpu_us = (cpu_s(service.pid) - before) * 1e6 / events
            rounds.append({"took_s": took_s, "bare_s": bare_s(folder / DATABASE), "cpu_us": cpu_us, "mib": memory})
    seen = [mib for each in rounds for mib in each["mib"]]
    seen = seen[int(len(rounds[0]["mib"]) * WARM) :]
    rounds.sort(key=lambda each: each["took_s"])
    usual = rounds[len(rounds) // 2]
    start_mib, most_mib = seen[0], max(seen)
    print(
        f"{rows:,} events in {usual['took_s']:.2f} s ({len(usual['mib'])} pages); a bare SELECT takes "
        f"{usual['bare_s']:.2f} s; memory from {start_mib:.0f} to {most_mib:.0f} MiB"
    )
    row = f"replay of {rows:,} events"
    figures = [
        Figure(
            row,
            "events/s",
            rows / usual["took_s"],
            reference=rows / usual["bare_s"],
            of="a bare SELECT of the same bodies",
            target=Target("figure", 100_000),
            server_us=usual["cpu_us"],
        ),
        Figure(
            row,
            "memory MiB, the most",
            most_mib,
            reference=start_mib,
            of=f"memory after the first {WARM:.0%} of the events",
            target=Target("ratio", 1.1, at_most=True),
            remark="flat is taken for at most a tenth more",
        ),
    ]
    return Outcome(figures, {"events": rows, "rounds": rounds})
