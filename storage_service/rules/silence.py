"""What does not come is not waited for for ever (SPEC 4.2.13): time-outs of marks and of producers.

Who is silent, and for how long, is told by the desk, on a clock that never jumps; here is what follows from it.
"""

from __future__ import annotations

from collections.abc import Collection

from . import barrier, facts
from .acquisitions import finish
from .decision import Moment
from .facts import Event
from .lifecycle import transition
from .state import Acq, Storage


def finish_timed_out(acq: Acq, after_s: float, now: Moment) -> list[Event]:
    """The marks that are missing did not come within `after_s` seconds of the first."""
    if transition("acquisition", acq.state, "FINISH_TIMEOUT") is None:
        return []
    return finish(acq, f"finish_timeout_s: {after_s:g} s have passed since the first mark", now)


def others_marked(acq: Acq, silent: Collection[str], now: Moment) -> list[Event]:
    """The acquisition's end, if nobody but silent producers is waited for."""
    if not barrier.is_met_without(acq.required, acq.expected, acq.marks, silent):
        return []
    if transition("acquisition", acq.state, "ALL_OTHERS_MARKED") is None:
        return []
    absent = ", ".join(barrier.missing(acq.required, acq.marks))
    return finish(acq, f"producer_timeout_s: nothing is heard of {absent}", now)


def producers_silent(storage: Storage, silent: Collection[str], after_s: float) -> list[Event]:
    """Those of the silent producers that were not told as lost yet."""
    if transition("storage", storage.state, "PRODUCER_SILENT") is None:
        return []
    id = storage.storage_id
    return [Event(facts.ProducerLost(name, after_s), id, id) for name in silent if name not in storage.lost]


def producer_heard(storage: Storage, producer: str) -> list[Event]:
    """A producer gave a sign of life."""
    if producer not in storage.lost or transition("storage", storage.state, "PRODUCER_HEARD") is None:
        return []
    return [Event(facts.ProducerBack(producer), storage.storage_id, storage.storage_id)]
