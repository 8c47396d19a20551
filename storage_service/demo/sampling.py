"""Readings of this host, from /proc: what a producer samples, and the raw file that it goes into.

A raw file is one line of JSON, which says all that is needed to read it, and then records of a fixed size:

    {"format": 1, "producer": "disk", "host": "daq1", "period_s": 0.01, "record": "<d2Q", "channels": [...]}

A record is the time of the sample, as seconds of the monotonic clock, which all processes of a host share, and one
unsigned number for each channel, as /proc has it.
"""

from __future__ import annotations

import json
import os
import platform
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

RAW_FORMAT = 1

_KIB = 1024
_PERCENT_A_TICK = 100 / (os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Channel:
    """One number of a sample.

    panel    the plot that it goes into
    unit     of the number times `scale`; of a counter, whose change is what is told, per second
    """

    panel: str
    name: str
    unit: str
    scale: float
    counter: bool = True


@dataclass(frozen=True)
class Source:
    """What one producer reads: files of /proc, of which `parse` makes the numbers of the channels."""

    channels: tuple[Channel, ...]
    files: tuple[str, ...]
    parse: Callable[..., tuple[int, ...]]


def _compute(stat: bytes, meminfo: bytes) -> tuple[int, ...]:
    user, nice, system, _idle, iowait, irq, softirq = (int(word) for word in stat.split(None, 8)[1:8])
    memory = _named(meminfo)
    return user + nice, system + irq + softirq, iowait, memory[b"MemTotal:"] - memory[b"MemAvailable:"]


def _disk(vmstat: bytes) -> tuple[int, ...]:
    counts = _named(vmstat)
    return counts[b"pgpgin"], counts[b"pgpgout"]


def _network(dev: bytes) -> tuple[int, ...]:
    received = sent = loopback = 0
    for line in dev.splitlines()[2:]:
        name, _, numbers = line.partition(b":")
        words = numbers.split()
        if name.strip() == b"lo":
            loopback += int(words[0])
        else:
            received += int(words[0])
            sent += int(words[8])
    return received, sent, loopback


def _named(text: bytes) -> dict[bytes, int]:
    """Lines of a name, a number, and perhaps a unit."""
    return {words[0]: int(words[1]) for line in text.splitlines() if len(words := line.split(None, 2)) > 1}


SOURCES: dict[str, Source] = {
    "compute": Source(
        (
            Channel("CPU", "user", "%", _PERCENT_A_TICK),
            Channel("CPU", "system", "%", _PERCENT_A_TICK),
            Channel("CPU", "waiting for disks", "%", _PERCENT_A_TICK),
            Channel("Memory", "used", "B", _KIB, counter=False),
        ),
        ("/proc/stat", "/proc/meminfo"),
        _compute,
    ),
    "disk": Source(
        (Channel("Disk", "read", "B/s", _KIB), Channel("Disk", "written", "B/s", _KIB)),
        ("/proc/vmstat",),
        _disk,
    ),
    "network": Source(
        (
            Channel("Network", "received", "B/s", 1),
            Channel("Network", "sent", "B/s", 1),
            Channel("Network", "within the host", "B/s", 1),
        ),
        ("/proc/net/dev",),
        _network,
    ),
}
"""The producers of the demo, by name."""


class Sampler:
    """Reads a source, once a sample. Opening raises OSError where this host has no such file."""

    def __init__(self, producer: str) -> None:
        self._producer = producer
        self._source = SOURCES[producer]
        self._record = struct.Struct(f"<d{len(self._source.channels)}Q")
        # Unbuffered: /proc makes the numbers when it is read, again each time from the beginning.
        self._files = [Path(name).open("rb", buffering=0) for name in self._source.files]  # noqa: SIM115

    def header(self, period_s: float) -> bytes:
        """The first line of a raw file whose samples are `period_s` apart."""
        head = {
            "format": RAW_FORMAT,
            "producer": self._producer,
            "host": platform.node(),
            "period_s": period_s,
            "record": self._record.format,
            "channels": [asdict(channel) for channel in self._source.channels],
        }
        return json.dumps(head).encode() + b"\n"

    def sample(self, now_s: float) -> bytes:
        """One record, read now. Raises LookupError or ValueError when /proc is not as this code knows it."""
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read())
        return self._record.pack(now_s, *self._source.parse(*texts))

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
