"""For how long an open acquisition is waited for: `finish_timeout_s` and `producer_timeout_s` (SPEC 4.2.13).

The waits are on the monotonic clock. A restart knows when the first mark came by the other one, which may have
jumped: it waits for the time that is left by it, never less than nothing and never more than the whole. Silence
counts from the service's start at the earliest: a producer must have had the chance to say something.
"""

from __future__ import annotations

from functools import partial
from typing import get_args

from msgspec import Struct

from storage_protocol import commands
from storage_protocol.times import from_wire

from ..rules import barrier, facts, silence
from ..rules.decision import Moment
from ..rules.facts import Event
from ..rules.state import Acq, Storage
from .ledger import Ledger
from .signs import Producer, Signs

NamesProducer = commands.HeartbeatProducer | commands.RegisterProducer | commands.MarkAsFinished
NAMING = frozenset(get_args(NamesProducer))
"""The commands by which a connection names a producer."""


class _Opened(Struct):
    """An open segment. since: when it was started, or the service. marked: when its first mark came, or None."""

    uid: str
    segment: int
    since: float
    marked: float | None = None


class Patience:
    """Follows every open acquisition of a storage that has a time-out."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._signs = Signs()
        self._opened: dict[str, _Opened] = {}
        self._lost: set[Producer] = set()
        self._to_look: set[str] = set()

    # What is heard

    def heard(self, peer: bytes, moment: Moment) -> None:
        """A message came: a sign of life of all whom its connection has named."""
        if self._signs.heard(peer, moment.mono) and self._lost:
            self._back(peer, moment)

    def named(self, peer: bytes, command: NamesProducer, moment: Moment) -> None:
        """A command names its producer, if it has one: its connection vouches for that one from now on."""
        if command.producer is not None:
            self._signs.named(peer, (command.storage_id, command.producer), moment.mono)
            if self._lost:
                self._back(peer, moment)

    def _back(self, peer: bytes, moment: Moment) -> None:
        for storage_id, producer in self._lost.intersection(self._signs.names(peer)):
            storage = self._ledger.state.storage(storage_id)
            if storage is not None:
                self._ledger.apply(silence.producer_heard(storage, producer), moment)

    # What becomes true

    def follow(self, event: Event, moment: Moment) -> None:
        """An event became true: who is waited for now."""
        match event.fact:
            case facts.AcqStarted(acq):
                self._open(acq, moment)
            case facts.ProducerFinished(acq_id) if (opened := self._opened.get(acq_id)) is not None:
                if opened.marked is None:
                    opened.marked = moment.mono
                self._to_look.add(acq_id)
            case facts.AcqFinished(acq_id) | facts.AcqAborted(acq_id):
                self._opened.pop(acq_id, None)
            case facts.ProducerLost(producer):
                self._lost.add((event.subject, producer))
            case facts.ProducerBack(producer):
                self._lost.discard((event.subject, producer))
                self._look_at_all_of(event.subject)
            case facts.StorageDeinitialized():
                self._lost = {each for each in self._lost if each[0] != event.subject}

    def resume(self, moment: Moment) -> None:
        """Read from the records who is waited for: after a restart, or a batch that was taken back."""
        self._lost.clear()
        before, self._opened = self._opened, {}
        for record in list(self._ledger.state.records.values()):
            if isinstance(record, Storage):
                self._lost.update((record.storage_id, name) for name in record.lost)
            elif isinstance(record, Acq) and record.state == "open":
                self._open(record, moment, before.get(record.node_id))

    def _open(self, acq: Acq, moment: Moment, before: _Opened | None = None) -> None:
        storage = self._ledger.state.storage(acq.storage_id)
        if storage is None or (storage.init.finish_timeout_s or storage.init.producer_timeout_s) is None:
            return
        if before is not None and (before.uid, before.segment) == (acq.uid, acq.segment):
            opened = before
        else:
            opened = _Opened(acq.uid, acq.segment, moment.mono)
        if not acq.marks:
            opened.marked = None
        elif opened.marked is None:
            ago = moment.wall - from_wire(acq.marks[0].time)
            opened.marked = moment.mono - min(max(ago, 0.0), storage.init.finish_timeout_s or 0.0)
        self._opened[acq.node_id] = opened
        self._to_look.add(acq.node_id)

    def _look_at_all_of(self, storage_id: str) -> None:
        storage = self._ledger.state.storage(storage_id)
        self._to_look.update(storage.open_acqs if storage is not None else ())

    # What is due

    def look(self, moment: Moment) -> None:
        """End what nobody is waited for any more, tell who is lost, and be woken when the next wait is over."""
        while self._to_look:
            acq_id = self._to_look.pop()
            opened = self._opened.get(acq_id)
            if opened is None:
                continue
            acq = self._ledger.state.acq(acq_id)
            storage = self._ledger.state.storage(acq.storage_id) if acq is not None else None
            if acq is None or storage is None or acq.state != "open":
                del self._opened[acq_id]
                continue
            self._look_at(acq, storage, opened, moment)

    def _look_at(self, acq: Acq, storage: Storage, opened: _Opened, moment: Moment) -> None:
        ledger, waits = self._ledger, []
        after_s = storage.init.finish_timeout_s
        if after_s is not None and opened.marked is not None:
            if moment.mono >= opened.marked + after_s:
                ledger.apply(silence.finish_timed_out(acq, after_s, moment), moment)
                return
            waits.append(opened.marked + after_s)
        after_s = storage.init.producer_timeout_s
        if after_s is not None:
            silent = []
            for name in barrier.missing(acq.required, acq.marks):
                until = max(opened.since, self._signs.last((storage.storage_id, name))) + after_s
                if moment.mono >= until:
                    silent.append(name)
                else:
                    waits.append(until)
            ledger.apply(silence.producers_silent(storage, silent, after_s), moment)
            ledger.apply(silence.others_marked(acq, silent, moment), moment)
        if waits and acq.node_id in self._opened:
            ledger.timers.at(min(waits), partial(self._to_look.add, acq.node_id))
