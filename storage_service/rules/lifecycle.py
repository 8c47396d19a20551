"""The state machines: three tables. A transition that is not a row does not exist.

Each row says: in this state, on this trigger, if the guard holds, go to that state and tell these events. Rows of
one state and trigger are tried from the top; a guard is a word that `decide` finds true or not. Triggers that
clients send are the names of commands; those of the service itself are in capitals. An empty `tells` changes
nothing. LIFECYCLE.md is drawn from these rows.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

ABSENT = "absent"


class Row(NamedTuple):
    state: str
    trigger: str
    guard: str
    next: str
    tells: str


def _rows(text: str) -> tuple[Row, ...]:
    """One row a line: state, trigger, guard, next state, events; `.x` after `a.b` is `a.x`."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return tuple(Row(*(part.strip() for part in line.split("|"))) for line in lines)


STORAGE = _rows("""
 absent     | init_storage                |           | ready      | storage.initialized
 absent     | deinit_storage              |           | absent     |
 ready      | init_storage                | same args | ready      |
 ready      | config_storage              |           | configured | group.created, storage.configured
 ready      | inval_storage               |           | ready      |
 ready      | deinit_storage              |           | absent     | storage.deinitialized
 ready      | register_producer_storage   |           | ready      | storage.producer_registered
 ready      | unregister_producer_storage |           | ready      | storage.producer_unregistered
 ready      | set_param_run_storage       |           | ready      | run.param_set
 ready      | PRODUCER_HEARD              |           | ready      | storage.producer_back
 configured | init_storage                | same args | configured |
 configured | config_storage              |           | configured |
 configured | inval_storage               |           | ready      | storage.invalidated
 configured | deinit_storage              | forced    | absent     | storage.invalidated, .deinitialized
 configured | register_producer_storage   |           | configured | storage.producer_registered
 configured | unregister_producer_storage |           | configured | storage.producer_unregistered
 configured | new_run_storage             |           | configured | run.created
 configured | set_param_run_storage       |           | configured | run.param_set
 configured | new_acq_storage             |           | acquiring  | acquisition.started
 configured | PRODUCER_HEARD              |           | configured | storage.producer_back
 acquiring  | init_storage                | same args | acquiring  |
 acquiring  | config_storage              |           | acquiring  |
 acquiring  | inval_storage               | forced    | ready      | acquisition.aborted, storage.invalidated
 acquiring  | deinit_storage              | forced    | absent     | acquisition.aborted, storage.invalidated, .deinitialized
 acquiring  | register_producer_storage   |           | acquiring  | storage.producer_registered
 acquiring  | unregister_producer_storage |           | acquiring  | storage.producer_unregistered
 acquiring  | new_run_storage             |           | acquiring  | run.created
 acquiring  | set_param_run_storage       |           | acquiring  | run.param_set
 acquiring  | new_acq_storage             |           | acquiring  | acquisition.started
 acquiring  | PRODUCER_SILENT             |           | acquiring  | storage.producer_lost
 acquiring  | PRODUCER_HEARD              |           | acquiring  | storage.producer_back
 acquiring  | LAST_ACQUISITION_ENDED      |           | configured |
""")

ACQUISITION = _rows("""
 absent   | new_acq_storage          |        | open     | acquisition.started
 open     | new_acq_storage          | append | open     |
 open     | set_param_acq_storage    |        | open     | acquisition.param_set
 open     | mark_as_finished_storage | misfit | open     |
 open     | mark_as_finished_storage | last   | finished | acquisition.producer_finished, .finished
 open     | mark_as_finished_storage |        | open     | acquisition.producer_finished
 open     | close_acq_storage        |        | finished | acquisition.finished
 open     | abort_acq_storage        |        | aborted  | acquisition.aborted
 open     | FINISH_TIMEOUT           |        | finished | acquisition.finished
 open     | ALL_OTHERS_MARKED        |        | finished | acquisition.finished
 finished | new_acq_storage          | append | open     | acquisition.started
 finished | new_acq_storage          | remove | open     | acquisition.removed, acquisition.started
 finished | mark_as_finished_storage |        | finished |
 finished | close_acq_storage        |        | finished |
 finished | retry_conversion         |        | finished | conversion.queued
 finished | SEALED                   |        | finished | acquisition.sealed
 aborted  | new_acq_storage          | append | open     | acquisition.started
 aborted  | new_acq_storage          | remove | open     | acquisition.removed, acquisition.started
 aborted  | mark_as_finished_storage |        | aborted  |
 aborted  | abort_acq_storage        |        | aborted  |
 aborted  | SEALED                   |        | aborted  | acquisition.sealed
""")

CONVERSION = _rows("""
 absent    | ACQUISITION_FINISHED |           | queued    | conversion.queued
 queued    | START                |           | running   | conversion.started
 queued    | cancel_conversion    |           | cancelled | conversion.cancelled
 queued    | OPENED_AGAIN         |           | cancelled | conversion.cancelled
 running   | cancel_conversion    |           | running   |
 running   | ENDED                | succeeded | succeeded | conversion.succeeded
 running   | ENDED                | cancelled | cancelled | conversion.cancelled
 running   | ENDED                | once more | queued    | conversion.queued
 running   | ENDED                |           | failed    | conversion.failed
 succeeded | cancel_conversion    |           | succeeded |
 succeeded | retry_conversion     |           | queued    | conversion.queued
 failed    | cancel_conversion    |           | failed    |
 failed    | retry_conversion     |           | queued    | conversion.queued
 cancelled | cancel_conversion    |           | cancelled |
 cancelled | retry_conversion     |           | queued    | conversion.queued
""")

TABLES: dict[str, tuple[Row, ...]] = {
    "storage": STORAGE,
    "acquisition": ACQUISITION,
    "conversion": CONVERSION,
}

_index: dict[tuple[str, str, str], tuple[Row, ...]] = {}
for _what, _table in TABLES.items():
    for _row in _table:
        _place = (_what, _row.state, _row.trigger)
        _index[_place] = (*_index.get(_place, ()), _row)


def transition(what: str, state: str, trigger: str, guards: Container[str] = ()) -> Row | None:
    """The row that holds, or None: the state machine has no such transition here."""
    for row in _index.get((what, state, trigger), ()):
        if not row.guard or row.guard in guards:
            return row
    return None


def allowed(what: str, state: str) -> list[str]:
    """The commands that have a row in this state."""
    return sorted({row.trigger for row in TABLES[what] if row.state == state and row.trigger.islower()})
