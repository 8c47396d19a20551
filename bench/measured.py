"""What a run of a load has seen, and how it is counted: answers, refusals, latencies, CPU."""

import dataclasses
import os
from collections import Counter
from pathlib import Path

import msgpack

from bench.disk import percentile

TICKS = os.sysconf("SC_CLK_TCK")


class LoadError(Exception):
    """A run could not be finished: the server ended or stopped answering, or the load generator failed."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one run saw, without its warm-up unless said."""

    commands: int  # answered with ok
    failed: int  # answered with anything else
    refusals: dict[str, int]  # "code: message" -> how often, warm-up included
    elapsed_s: float  # from the first message sent to the last reply
    p50_ms: float  # of a message, from its send to its reply
    p99_ms: float
    p999_ms: float
    generator_cpu_s: float  # all threads of the load generator
    server_cpu_s: float  # all threads of the server
    acknowledged: int  # answered with ok, warm-up included

    @property
    def rate(self) -> float:
        """Commands answered with ok a second."""
        return self.commands / self.elapsed_s

    @property
    def server_us(self) -> float:
        """Server CPU a command, in microseconds."""
        return self.server_cpu_s * 1e6 / max(self.commands, 1)

    @property
    def generator_share(self) -> float:
        """CPU of the load generator, 1.0 being one core in full."""
        return self.generator_cpu_s / self.elapsed_s


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, in seconds, to 1/100 s.

    Raises LoadError when it has ended.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        state = "X"
    if state in "ZX":  # a zombie: its parent has yet to notice
        raise LoadError(f"the server (process {pid}) has ended in the middle of a run")
    user, system = fields[10:12]
    return (int(user) + int(system)) / TICKS


class Tally:
    """What the replies of a run said."""

    def __init__(self) -> None:
        self.commands = 0
        self.refusals: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.elapsed_s = 0.0

    def percentile_ms(self, share: float) -> float:
        """The latency that this share of the messages did not exceed, in milliseconds."""
        return percentile(self.latencies_s, share) * 1e3

    def measured(self, warm: "Tally", server_cpu_s: float, own_cpu_s: float) -> Measured:
        """What the run saw, after this warm-up, with the CPU that the server and this process took."""
        return Measured(
            commands=self.commands,
            failed=self.refusals.total(),
            refusals=dict(warm.refusals + self.refusals),
            elapsed_s=self.elapsed_s,
            p50_ms=self.percentile_ms(0.50),
            p99_ms=self.percentile_ms(0.99),
            p999_ms=self.percentile_ms(0.999),
            generator_cpu_s=own_cpu_s,
            server_cpu_s=server_cpu_s,
            acknowledged=warm.commands + self.commands,
        )

    def refused(self, reply: bytes) -> None:
        """Count a reply that is not ok under what it says."""
        try:
            error = msgpack.unpackb(reply)["error"]
            self.refusals[f"{error['code']}: {error['message']}"] += 1
        except (ValueError, KeyError, TypeError):
            self.refusals[f"not a reply: {reply[:80]!r}"] += 1
