"""Entries of electronic logbooks: when one is due, and what follows when it is written (SPEC 4.9).

By default a run has one entry, opened when the run is created and edited at each end of an acquisition; what goes
wrong is a reply to it. What is owed is a record (`Owed`): that an entry is behind, never what it is to say. So
many ends become one edit, and the text is made from the records when its turn comes.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from . import barrier, facts
from .facts import Event
from .logbook_records import ACQUISITION, PROBLEM, RUN, Book, Owed, Page, acq_key, run_key
from .state import Acq, Conversion, Key, Record, Run, State, Storage

Put = tuple[Key, Record | None]

OFF = "off"
MOST_TEXT = 2000
"""Characters of a problem's text: its marks may name hundreds of producers."""


# What the facts make due, for `evolve`


def after_config(state: State, storage: Storage, entries: str) -> list[Put]:
    """Configured: from now on its entries go into the logbook that it names, if there are to be any."""
    server, name = storage.init.elog_server, storage.init.elog_name
    book = None
    if server is not None and name is not None and entries != OFF:
        book = Book(storage.storage_id, server, name, entries)
    # Put anew also where it is the same: it is looked at whenever its storage is configured.
    return [(("book", storage.storage_id), book)] if book or state.book(storage.storage_id) else []


def after_run(state: State, run: Run, is_new: bool) -> list[Put]:
    """Created, or restored from the trash: its entry is to be opened, or brought up to date."""
    book = state.book(run.storage_id)
    if book is None or book.entries != RUN:
        return []
    behind = _behind(state, book, RUN, run.node_id, run.node_id, run.uid, fresh=is_new)
    return [behind] if is_new else [behind, *_no_removal(state, run.uid)]


def after_end(state: State, acq: Acq, time: str) -> list[Put]:
    """Finished or aborted, at `time`: the entry is behind, and what is wrong is a reply."""
    book = state.book(acq.storage_id)
    if book is None:
        return []
    puts = _changed(state, book, acq)
    if acq.state == "aborted":
        text = acq.reason or "No reason was given."
        puts.append(_problem(book, acq, f"aborted-{acq.segment}-{acq.uid}", "was aborted", text, time))
    elif acq.verdict == "partial":
        puts.append(_problem(book, acq, f"partial-{acq.segment}-{acq.uid}", "is partial", _missing(acq), time))
    return puts


def after_measured(state: State, acq: Acq) -> list[Put]:
    """Its end was read: what the entry has of it is behind, if there is anything to show."""
    book = state.book(acq.storage_id)
    if book is None or not acq.statistics or acq.state == "open":
        return []
    if book.entries == ACQUISITION:  # as it may be written already, it is not fresh
        return [_behind(state, book, ACQUISITION, acq.node_id, acq.run_id, acq.uid)]
    return _changed(state, book, acq)


def after_conversion(state: State, acq: Acq | None, conversion: Conversion, time: str) -> list[Put]:
    """A conversion failed for good: a reply, though nothing of the acquisition itself has changed."""
    if conversion.state != "failed" or acq is None or acq.uid != conversion.uid:
        return []
    book = state.book(acq.storage_id)
    if book is None:
        return []
    text = f"The conversion {conversion.script} of segment {conversion.segment} failed: {conversion.reason}."
    key = f"failed-{conversion.attempt}-{conversion.conversion_id}"
    return [*_changed(state, book, acq), _problem(book, acq, key, "was not converted", text, time)]


def after_removed_acq(state: State, acq: Acq, time: str) -> list[Put]:
    """Removed: the run's entry tells of it no more; its own entry gets a reply that says so."""
    book = state.book(acq.storage_id)
    puts: list[Put] = []
    if state.owed(acq.node_id) is not None:
        puts.append((("owed", acq.node_id), None))
    if book is not None and book.entries == RUN:
        puts += _changed(state, book, acq)
    elif book is not None and book.entries == ACQUISITION:
        key = _removal(acq.uid, time)
        puts.append(_problem(book, acq, key, "was removed", _SET_ASIDE.format(acq.uid), time))
    return puts


def after_restored_acq(state: State, acq: Acq) -> list[Put]:
    """It came back from the trash: the entry is behind; that it was removed need not be said any more."""
    book = state.book(acq.storage_id)
    puts = _changed(state, book, acq) if book is not None else []
    return [*puts, *_no_removal(state, acq.uid)]


def after_removed_run(state: State, run: Run, time: str) -> list[Put]:
    """Removed: its entry stays as it was written last, and gets a reply that says so. What else was still to be
    told of it is told, in replies to its own entry: the next run of this id has another."""
    puts: list[Put] = [
        (("owed", each.id), replace(each, replies_to=run_key(run.uid)))
        for each in owed_of(state)
        if each.run_id == run.node_id and each.replies_to == ""
    ]
    if state.owed(run.node_id) is not None:
        puts.append((("owed", run.node_id), None))
    book = state.book(run.storage_id)
    if book is not None and book.entries == RUN:
        told = Owed(
            **_place(book, _removal(run.uid, time), PROBLEM, run.node_id, run.node_id),
            uid=run.uid,
            title=f"The run {run.name} was removed",
            text=_SET_ASIDE.format(run.uid),
            time=time,
            replies_to=run_key(run.uid),
            fresh=True,
        )
        puts.append((("owed", told.id), told))
    return puts


def after_written(state: State, fact: facts.LogbookWritten) -> list[Put]:
    """It is in the logbook: its number is known, and what was written is no longer owed."""
    puts: list[Put] = []
    if fact.kind != PROBLEM:
        puts.append((("page", fact.key), Page(fact.key, fact.logbook, fact.number)))
    owed = state.owed(fact.owed_id)
    if owed is not None and owed.version == fact.version:
        puts.append((("owed", fact.owed_id), None))
    return puts


_SET_ASIDE = "What was there was set aside; it is in the trash as {}, for as long as that is kept."


def _removal(uid: str, time: str) -> str:
    """The key of the entry that says so: what is restored may be removed once more."""
    return f"removed-{re.sub('[^0-9]', '', time)}-{uid}"


def _no_removal(state: State, uid: str) -> list[Put]:
    removals = [each for each in owed_of(state) if each.uid == uid and each.id.startswith("removed-")]
    return [(("owed", each.id), None) for each in removals]


def _changed(state: State, book: Book, acq: Acq) -> list[Put]:
    """The entry that tells of this acquisition is behind, where there is to be one."""
    if book.entries == RUN:
        return [_behind(state, book, RUN, acq.run_id, acq.run_id, "")]
    if book.entries == ACQUISITION:
        ends_first = acq.segment == 1 and acq.state != "open" and not acq.sealed
        return [_behind(state, book, ACQUISITION, acq.node_id, acq.run_id, acq.uid, fresh=ends_first)]
    return []


def _behind(state: State, book: Book, kind: str, node_id: str, run_id: str, uid: str, fresh: bool = False) -> Put:
    owed, place = state.owed(node_id), _place(book, node_id, kind, node_id, run_id)
    if owed is None:
        return ("owed", node_id), Owed(**place, uid=uid, fresh=fresh)
    if uid in ("", owed.uid):
        uid, fresh = owed.uid, owed.fresh and owed.logbook == book.logbook
    return ("owed", node_id), Owed(**place, version=owed.version + 1, uid=uid, fresh=fresh)


def _problem(book: Book, acq: Acq, key: str, wrong: str, text: str, time: str) -> Put:
    replies_to: str | None = {RUN: "", ACQUISITION: acq_key(acq.uid)}.get(book.entries)
    owed = Owed(
        **_place(book, key, PROBLEM, acq.node_id, acq.run_id),
        uid=acq.uid,
        title=f"{acq.name} of {acq.run_name} {wrong}",
        text=text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} ...",
        time=time,
        replies_to=replies_to,
        fresh=True,
    )
    return ("owed", key), owed


def _place(book: Book, id: str, kind: str, node_id: str, run_id: str) -> dict[str, Any]:
    return {
        "id": id,
        "kind": kind,
        "storage_id": book.storage_id,
        "server": book.server,
        "name": book.name,
        "node_id": node_id,
        "run_id": run_id,
    }


def _missing(acq: Acq) -> str:
    missing, failed = barrier.missing(acq.required, acq.marks), barrier.failed(acq.marks)
    lines = [f"{len(acq.marks)} of {acq.expected} marks came."]
    if missing:
        lines.append(f"Missing: {', '.join(missing)}")
    for mark in acq.marks:
        if not mark.ok:
            said = ", ".join(f"{name}: {value}" for name, value in mark.summary.items())
            lines.append(f"Failed: {mark.producer or 'a producer without a name'}{f' ({said})' if said else ''}")
    if not missing and not failed:
        lines.append(f"It was closed before all had marked: {acq.reason or 'no reason was given'}.")
    elif acq.reason:
        lines.append(f"Reason: {acq.reason}")
    return "\n".join(lines)


# What is told


def owed_of(state: State) -> list[Owed]:
    """All that is owed; it is always in memory."""
    return [each for each in state.records.values() if isinstance(each, Owed)]


def written(owed: Owed, key: str, number: int, version: int) -> Event:
    """The event of an entry that is in its logbook. `version` 0: what is owed now is something else."""
    fact = facts.LogbookWritten(owed.id, owed.kind, owed.logbook, key, number, version)
    return Event(fact, owed.storage_id, owed.node_id)


def failed(logbook: str, message: str) -> Event:
    return Event(facts.LogbookFailed(logbook, message), None, logbook)


def recovered(logbook: str) -> Event:
    return Event(facts.LogbookRecovered(logbook, f"The logbook {logbook} takes entries again."), None, logbook)


def warned(state: State, storage_id: str, message: str) -> list[Event]:
    """The warning of a storage, if it is still there."""
    if state.storage(storage_id) is None:
        return []
    return [Event(facts.StorageWarned("logbook", message), storage_id, storage_id)]
