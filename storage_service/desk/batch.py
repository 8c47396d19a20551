"""What is decided and not yet durable: the rows of one transaction, and how to take it all back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr, replace

from storage_protocol.errors import Refusal
from storage_protocol.events import topic
from storage_protocol.names import Value, value_bytes
from storage_protocol.records import Statistic

from ..rules import facts, manifests, notes, readings, render
from ..rules.decision import Intent
from ..rules.evolve import evolve
from ..rules.facts import Event
from ..rules.state import Acq, Key, Record, State, Variable
from .messages import Ticket

_encode = msgspec.msgpack.Encoder().encode
_MISSING: Any = object()

# The facts that their event's public data tell whole: the journal does not keep them twice.
SELF_TELLING = (facts.AcqParamSet, facts.RunParamSet, facts.ProducerFinished, facts.NodeAnnotated)


def _is_told_whole(fact: facts.AnyFact) -> bool:
    """Whether the event's public data tell all that the fact does."""
    return isinstance(fact, SELF_TELLING)


_TELLS_OF_WHAT_GOES = (facts.AcqRemoved, facts.RunRemoved, facts.StorageDeinitialized)


class _Body(Struct):
    """An event as it is published (SPEC 6.2)."""

    v: int
    seq: int
    time: str
    type: str
    storage_id: str | None
    prev_seq: int
    subject: str
    data: Any


class _Param(Struct):
    """The public data of a parameter that was set."""

    param: str
    value: Value


class JournalRow(Struct, frozen=True):
    """An event as the journal keeps it: `body` is what is published, `fact` what the public body leaves out."""

    seq: int
    topic: str
    subject: str
    body: bytes
    fact: bytes | None


class StoredIntent(Struct, frozen=True):
    """An intent with what a restart needs to go on: the key that waits for it, and the command's fingerprint."""

    intent_id: str
    intent: Intent
    key: str | None = None
    fingerprint: bytes = b""


class Journal:
    """The tail of the journal: the newest seq, and the newest of each topic."""

    def __init__(self, last_seq: int = 0, by_topic: dict[str, int] | None = None) -> None:
        self.last_seq = last_seq
        self.by_topic = by_topic or {}

    def tails(self) -> dict[str, int]:
        """The newest seq of each type of event."""
        tails: dict[str, int] = {}
        for where, seq in self.by_topic.items():
            type_ = where.split("/", 1)[0]
            tails[type_] = max(seq, tails.get(type_, 0))
        return tails


class Batch:
    """The commands that share one transaction.

    rows     journal rows, in order
    records  the records that changed, None where one is gone
    wiped    nodes whose parameters go before the new ones are written
    params   (node id, name) to the value that was set last
    searched nodes whose parameters become searchable (True) or are no longer (False): runs always are,
             acquisitions when they are finished; run_params: single parameters of runs that were set
    derived  (node id, name) to what is told of a node and searchable, beside its parameters
    unmeasured acquisitions whose statistics of an earlier segment go before the new ones are written
    annotations  (seq, node id, name, value, author, time)
    documents content by its BLAKE3, to be kept as long as a record names it
    forgets_documents  whether one may be named no more; documents_kept: those that still are, for that case
    registers variables, each with its newest value: rows of the transaction without an event
    keys     (key, fingerprint, result)
    intents  open ones by id; None: carried out
    prune_before  events before this seq are given up, 0: none; expire_events_before: those dated before this
    replies  (ticket, its result as msgpack, or a refusal), sent when the batch is durable
    """

    def __init__(self, number: int, state: State, journal: Journal) -> None:
        self.number = number
        self.rows: list[JournalRow] = []
        self.records: dict[Key, Record | None] = {}
        self.wiped: set[str] = set()
        self.params: dict[tuple[str, str], Value] = {}
        self.searched: dict[str, bool] = {}
        self.run_params: set[tuple[str, str]] = set()
        self.derived: dict[tuple[str, str], Value] = {}
        self.unmeasured: set[str] = set()
        self.annotations: list[tuple[int, str, str, Value, str, str]] = []
        self.documents: dict[str, bytes] = {}
        self.forgets_documents = False
        self.documents_kept: set[str] = set()
        self.registers: dict[Key, Variable] = {}
        self.keys: list[tuple[str, bytes, bytes]] = []
        self.intents: dict[str, StoredIntent | None] = {}
        self.replies: list[tuple[Ticket, bytes | Refusal]] = []
        self.expire_keys_before: float | None = None
        self.forget_up_to_ms = 0
        self.prune_before = 0
        self.expire_events_before: float | None = None
        self.key_clock: tuple[float, float] | None = None
        self.newest_key_ms = 0
        self.bytes = 0
        self._state = state
        self._journal = journal
        self._records_before: dict[Key, Any] = {}
        self._own_params: dict[Key, dict[str, Value]] = {}  # those that this batch alone has, and may change
        self._topics_before: dict[str, int] = {}
        self._seq_before = journal.last_seq

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        writes = self.rows or self.keys or self.registers or self.intents or self.prune_before
        return bool(writes or self.expire_keys_before is not None)

    def give_up(self, before_seq: int) -> None:
        """The events before this seq are no longer kept."""
        self.prune_before = max(self.prune_before, before_seq)

    def keep(self, digest: str, document: bytes) -> None:
        """An event of this batch names this document by its BLAKE3."""
        self.documents[digest] = document
        self.bytes += len(document)

    def register(self, variable: Variable) -> None:
        """The variable has this value: in memory, and in the transaction."""
        key = variable.key
        if key not in self._records_before:
            self._records_before[key] = self._state.records.get(key, _MISSING)
        self._state.records[key] = self.registers[key] = variable
        self.bytes += value_bytes(variable.value)

    def apply(self, event: Event, time: str) -> None:
        """Make the event true in memory, and write it into the transaction."""
        fact, state, kind = event.fact, self._state, type(event.fact)
        if isinstance(fact, facts.AcqParamSet):
            self.set_params(state.records["node", fact.acq_id], [(fact.param, fact.value)], time)  # type: ignore[arg-type]
            return
        goes = kind in _TELLS_OF_WHAT_GOES
        data = render.event_data(state, event) if goes else None
        is_param = kind is facts.RunParamSet
        records, before = state.records, self._records_before
        for key, record in evolve(state, event, time):
            if key not in before:
                before[key] = records.get(key, _MISSING)
            if record is None and key[0] == "storage":
                records.pop(key, None)
            else:
                records[key] = record
            if not is_param:
                self.records[key] = record
        self._note_params(fact)
        if kind is facts.NodeAnnotated:
            self._note_annotation(fact, time)  # type: ignore[arg-type]
        self._journal_row(event, data if goes else render.event_data(state, event), time)

    def set_params(self, acq: Acq, given: Sequence[tuple[str, Value]], time: str) -> None:
        """Set parameters of an acquisition, at least one, each with an event of its own: as `evolve` does, but all
        others are not copied each time. The first in a batch makes a record whose parameters are this batch's own,
        and later ones change that."""
        id, journal = acq.node_id, self._journal
        key, records, own = ("node", id), self._state.records, self._own_params
        if own.get(key) is not acq.params:
            self._records_before.setdefault(key, records[key])
            acq = records[key] = replace(acq, params=dict(acq.params))
            own[key] = acq.params
        params, size, put, rows = acq.params, acq.params_bytes, self.params, self.rows
        where, seq, bytes_ = topic(facts.AcqParamSet.TYPE, acq.storage_id), journal.last_seq, 0
        before = journal.by_topic.get(where, 0)
        self._topics_before.setdefault(where, before)
        told = _Param("", None)
        body = _Body(1, seq, time, facts.AcqParamSet.TYPE, acq.storage_id, before, id, told)
        for name, value in given:
            size += value_bytes(value)
            size += -value_bytes(params[name]) if name in params else value_bytes(name)
            params[name] = put[id, name] = value
            body.prev_seq, seq = before, seq + 1
            body.seq = before = seq
            told.param, told.value = name, value
            encoded = _encode(body)
            bytes_ += len(encoded)
            rows.append(JournalRow(seq, where, id, encoded, None))
        force_setattr(acq, "params_bytes", size)
        self.bytes += bytes_
        journal.last_seq = seq
        journal.by_topic[where] = before

    def _note_params(self, fact: facts.AnyFact) -> None:
        match fact:
            case facts.RunParamSet():
                self.params[fact.run_id, fact.param] = fact.value
                self.run_params.add((fact.run_id, fact.param))
            case facts.AcqFinished() | facts.AcqAborted():
                self.searched[fact.acq_id] = True
            case facts.AcqMeasured():
                self._find_statistics(fact.acq_id, fact.statistics)
                acq = self._state.acq(fact.acq_id)
                self.forgets_documents |= acq is not None and not acq.reads and bool(acq.config or acq.config_end)
            case facts.ConfigSet() | facts.StorageDeinitialized():
                self.forgets_documents = True
            case facts.ManifestWritten():
                name, digest = manifests.findable(fact.link)
                self.derived[fact.link.acq_id, name] = digest
            case facts.AcqStarted():
                self.searched[fact.acq.node_id] = False
                self._unmeasure(fact.acq.node_id)
                self.params.update({(fact.acq.node_id, name): value for name, value in fact.acq.params.items()})
            case facts.RunCreated() | facts.RunRestored():
                self.searched[fact.run.node_id] = True
                self.params.update({(fact.run.node_id, name): value for name, value in fact.run.params.items()})
            case facts.AcqRestored():
                self.searched[fact.acq.node_id] = True
                self.params.update({(fact.acq.node_id, name): value for name, value in fact.acq.params.items()})
                self._find_statistics(fact.acq.node_id, fact.acq.statistics)
                found = (manifests.findable(link) for link in fact.links)
                self.derived.update({(fact.acq.node_id, name): digest for name, digest in found})
            case facts.AcqRemoved():
                self._wipe(fact.acq_id)
            case facts.RunRemoved():
                self._wipe(fact.run_id)

    def _find_statistics(self, acq_id: str, statistics: dict[str, Statistic]) -> None:
        found = readings.findable(statistics)
        self.derived.update({(acq_id, name): value for name, value in found.items()})

    def _unmeasure(self, acq_id: str) -> None:
        self.unmeasured.add(acq_id)
        for place in [place for place in self.derived if place[0] == acq_id and readings.is_statistic(place[1])]:
            del self.derived[place]

    def _note_annotation(self, fact: facts.NodeAnnotated, time: str) -> None:
        self.derived[fact.node_id, notes.findable(fact)] = fact.value
        seq = self._journal.last_seq + 1
        self.annotations.append((seq, fact.node_id, fact.name, fact.value, fact.author, time))

    def _wipe(self, node_id: str) -> None:
        self.wiped.add(node_id)
        self.searched.pop(node_id, None)
        self.run_params = {place for place in self.run_params if place[0] != node_id}
        self.annotations = [each for each in self.annotations if each[1] != node_id]
        for values in (self.params, self.derived):
            for place in [place for place in values if place[0] == node_id]:
                del values[place]

    def _journal_row(self, event: Event, data: Any, time: str) -> None:
        journal, fact = self._journal, event.fact
        where = topic(fact.TYPE, event.storage_id)
        seq = journal.last_seq + 1
        before = journal.by_topic.get(where, 0)
        self._topics_before.setdefault(where, before)
        body = _encode(_Body(1, seq, time, fact.TYPE, event.storage_id, before, event.subject, data))
        kept = None if _is_told_whole(fact) else _encode(fact)
        self.bytes += len(body)
        self.rows.append(JournalRow(seq, where, event.subject, body, kept))
        journal.last_seq = seq
        journal.by_topic[where] = seq

    def undo(self) -> None:
        """Take everything back, as if it had never been decided. The newest batch is undone first."""
        for key, record in self._records_before.items():
            if record is _MISSING:
                self._state.records.pop(key, None)
            else:
                self._state.records[key] = record
        for where, seq in self._topics_before.items():
            if seq:
                self._journal.by_topic[where] = seq
            else:
                self._journal.by_topic.pop(where, None)
        self._journal.last_seq = self._seq_before

    def topics(self) -> dict[str, int]:
        """The newest seq of each topic that this batch tells something of."""
        return {row.topic: row.seq for row in self.rows}
