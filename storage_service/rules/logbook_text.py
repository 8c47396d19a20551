"""Entries of logbooks as people read them: plain text, made from the records when an entry's turn comes.

All of it is bounded: a run may have thousands of acquisitions, and an acquisition a thousand parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from storage_protocol.records import Statistic

from . import barrier, render
from .logbook_records import ACQUISITION, PROBLEM, RUN, Owed, acq_key, run_key
from .logbook_work import Attachment, Content, Draft
from .state import Acq, Places, Run
from .work import ACQ_MARKER

MOST_ROWS = 100
"""Acquisitions that the table of a run's entry has: the newest."""
MOST_PARAMS = 40
MOST_PARAMS_OF_ROW = 12
MOST_NAMES = 40
MOST_VALUE = 200
"""Characters of a value."""


def key_of(owed: Owed, content: Content) -> str | None:
    """What the entry is found by; None when what it is about is gone, and nothing is to be written."""
    if owed.kind == PROBLEM:
        return owed.id
    if owed.kind == RUN:
        return run_key(content.run.uid) if content.run is not None else None
    return acq_key(content.acq.uid) if content.acq is not None else None


def draft(owed: Owed, content: Content, places: Places) -> Draft | None:
    """The entry as it is to stand in the logbook; None when what it is about is gone."""
    key = key_of(owed, content)
    if key is None:
        return None
    if owed.kind == RUN and content.run is not None:
        title = f"Run {content.run.name}"
        return Draft(key, title, _run_text(content.run, content, places), _marker(content.ended, places))
    if owed.kind == ACQUISITION and content.acq is not None:
        acq = content.acq
        title = f"Acquisition {acq.name} of run {acq.run_name}: {_verdict(acq)}"
        lines = [
            *_heading(acq.node_id, acq.storage_id, acq.mp, acq.path, places),
            *_acq_lines(acq, MOST_PARAMS, len(acq.params)),
        ]
        return Draft(key, title, "\n".join(lines) + "\n", _marker(acq, places))
    about = content.acq if content.acq is not None and content.acq.uid == owed.uid else None
    text = f"{owed.title}, {_time(owed.time)}.\n\n{owed.text}\n\n{owed.node_id}\n"
    return Draft(key, owed.title, text, _marker(about, places))


def _marker(acq: Acq | None, places: Places) -> tuple[Attachment, ...]:
    """What stands, or will stand, in the marker file beside the data."""
    if acq is None:
        return ()
    return (Attachment(ACQ_MARKER, render.marker(render.acquisition(acq, places))),)


def _heading(id: str, storage_id: str, mp: str, path: str, places: Places) -> list[str]:
    location = places.location(mp, path)
    folder = [f"on this host  {location.local_path}"] if location.local_path is not None else []
    return [id, f"storage       {storage_id}", f"folder        {path} on {mp}", *folder]


def _run_text(run: Run, content: Content, places: Places) -> str:
    lines = [
        *_heading(run.node_id, run.storage_id, run.mp, run.path, places),
        f"begun         {_time(run.created_at)}",
        *_list(run.params, MOST_PARAMS, "", "parameters", len(run.params)),
        "",
        _counted(content),
    ]
    for acq in content.acqs:
        lines += ["", *_acq_lines(acq, MOST_PARAMS_OF_ROW, content.params.get(acq.node_id, len(acq.params)))]
    return "\n".join(lines) + "\n"


def _counted(content: Content) -> str:
    total = sum(content.counts.values())
    if not total:
        return "No acquisitions yet."
    counts = ", ".join(f"{content.counts[name]} {name}" for name in sorted(content.counts))
    shown = len(content.acqs)
    bounded = f"; the newest {shown} of them" if shown < total else ", newest first"
    return f"{total} acquisition{'s' if total > 1 else ''}: {counts}{bounded}:"


def _acq_lines(acq: Acq, most: int, params: int) -> list[str]:
    segment = f", segment {acq.segment}" if acq.segment > 1 else ""
    lines = [f"{_time(acq.finished_at or acq.started_at)}  {_verdict(acq):<10}  {acq.name}{segment}"]
    missing = barrier.missing(acq.required, acq.marks)
    failed = [name or "(without a name)" for name in barrier.failed(acq.marks)]
    if missing and acq.state != "open":
        lines.append(f"    missing: {_names(missing)}")
    if failed:
        lines.append(f"    failed: {_names(failed)}")
    if acq.reason:
        lines.append(f"    reason: {_cut(acq.reason)}")
    if acq.conversion is not None:
        lines.append(f"    conversion: {acq.conversion}")
    return lines + _list(acq.params, most, "    ", "parameters", params) + statistics(acq, most)


def statistics(acq: Acq, most: int) -> list[str]:
    """The statistics of an acquisition, a line each."""
    shown = {name: _statistic(each) for name, each in acq.statistics.items()}
    return _list(shown, most, "    ", "statistics", len(shown))


def _statistic(each: Statistic) -> str:
    newest = each.end or each.start
    if newest is None:
        return "not read yet"
    if newest.missing is not None:
        return f"missing: {newest.missing}"
    unit = f" {newest.unit}" if newest.unit else ""
    alarm = f" ({newest.severity})" if newest.severity not in (None, "NO_ALARM") else ""
    more = "" if each.difference is None else f", {each.difference:+g} since its start"
    return f"{newest.value}{unit}{alarm}{more}"


def _list(values: Mapping[str, object], most: int, indent: str, called: str, total: int) -> list[str]:
    if not values:
        return []
    shown = sorted(values)[:most]
    lines = [f"{indent}{name} = {_cut(str(values[name]))}" for name in shown]
    left = total - len(shown)
    return [*lines, f"{indent}and {left} more {called}"] if left else lines


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    left = len(listed) - MOST_NAMES
    return ", ".join(listed[:MOST_NAMES]) + (f" and {left} more" if left > 0 else "")


def _verdict(acq: Acq) -> str:
    return acq.verdict or acq.state


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MOST_VALUE else f"{one_line[:MOST_VALUE]} ..."


def _time(wire: str) -> str:
    """To the second; the microseconds of the wire are in the attached file."""
    return f"{wire[:19].replace('T', ' ')} UTC"
