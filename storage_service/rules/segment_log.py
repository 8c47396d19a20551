"""`acquisition.log`: what happened to an acquisition, for people: one block a segment (SPEC 4.3).

A block is written when its segment is sealed, and never changed: the first line tells whose it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from storage_protocol import times
from storage_protocol.names import Value
from storage_protocol.records import Configuration, CountedMark, DiskUse, Reading, Statistic

from . import barrier
from .state import Acq

Row = Sequence[str]

WIDEST = 64
"""Characters of a column at most: one long text among hundreds of rows must not make them all as long."""


def head(acq: Acq) -> str:
    """The first line of a segment's block, which no other block has."""
    return f"== segment {acq.segment} of {acq.node_id} (uid {acq.uid})"


def block(acq: Acq) -> str:
    """The block of a segment that ended."""
    lines = [head(acq), ""]
    lines += _table(_summary(acq))
    lines += _section("marks", (_mark(each) for each in acq.marks))
    lines += _section("parameters", ((name, _shown(value)) for name, value in acq.params.items()))
    lines += _section("statistics", _statistics(acq.statistics))
    lines += _section("statistics that could not be read", _reasons(acq.statistics))
    lines += _section("configuration", (_configuration(each) for each in acq.configurations))
    lines += _section("warnings", ((each.time, each.what, _line(each.message)) for each in acq.warnings))
    return "\n".join(lines) + "\n\n"


def _summary(acq: Acq) -> Iterable[Row]:
    missing, failed = barrier.missing(acq.required, acq.marks), barrier.failed(acq.marks)
    yield "storage", acq.storage_id
    yield "started", acq.started_at
    if acq.finished_at is not None:
        took = times.from_wire(acq.finished_at) - times.from_wire(acq.started_at)
        yield "ended", acq.finished_at, f"after {took:.6f} s"
    yield "state", acq.state
    if acq.verdict is not None:
        yield "verdict", acq.verdict
    if acq.reason:
        yield "reason", _line(acq.reason)
    yield "marks", f"{len(acq.marks)} of {acq.expected}"
    if missing:
        yield "missing", ", ".join(missing)
    if failed:
        yield "failed", ", ".join(each or "(without a name)" for each in failed)
    if acq.convert_script is not None:
        yield "conversion", _line(acq.convert_script)
    if acq.disk is not None:
        yield "disk", _disk(acq.disk)


def _configuration(saved: Configuration) -> Row:
    return saved.file, saved.when, saved.blake3, f"{saved.bytes} bytes", _line(saved.source)


def _disk(disk: DiskUse) -> str:
    return f"{disk.files} files, {disk.bytes} bytes, {disk.allocated} bytes on the disk"


def _mark(mark: CountedMark) -> Row:
    summary = " ".join(f"{name}={_shown(value)}" for name, value in mark.summary.items())
    return mark.time, mark.producer or "(without a name)", "ok" if mark.ok else "NOT OK", summary


def _statistics(statistics: dict[str, Statistic]) -> Iterable[Row]:
    if statistics:
        yield "", "start", "end", "difference", "unit"
    for name, each in statistics.items():
        units = (reading.unit for reading in (each.end, each.start) if reading is not None and reading.unit)
        difference = "" if each.difference is None else _shown(each.difference)
        yield _line(name), _reading(each.start), _reading(each.end), difference, _line(next(units, ""))


def _reading(reading: Reading | None) -> str:
    if reading is None or reading.missing is not None:
        return "missing"
    alarm = reading.severity not in (None, "NO_ALARM")
    return f"{_shown(reading.value)} ({_line(reading.severity or '')})" if alarm else _shown(reading.value)


def _reasons(statistics: dict[str, Statistic]) -> Iterable[Row]:
    for name, each in statistics.items():
        for when, reading in (("start", each.start), ("end", each.end)):
            if reading is not None and reading.missing is not None:
                yield _line(name), when, _line(reading.missing)


def _shown(value: Value) -> str:
    """On one line, and told from a text that looks like it."""
    return _escaped(json.dumps(value, ensure_ascii=False))


def _line(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    """Control characters, and those that would end the line for whoever reads it, as JSON has them."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _section(title: str, rows: Iterable[Row]) -> list[str]:
    found = _table(rows, indent=4)
    return ["", title, *found] if found else []


def _table(rows: Iterable[Row], indent: int = 0) -> list[str]:
    """Rows in columns. The last of a row may be as long as it is, and one that is very long moves its own row
    alone."""
    found = [list(row) for row in rows]
    widths: dict[int, int] = {}
    for row in found:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, 0), min(len(cell), WIDEST))
    return [
        " " * indent + "  ".join([*(cell.ljust(widths[n]) for n, cell in enumerate(row[:-1])), row[-1]]).rstrip()
        for row in found
    ]
