"""How a fact changes what is known: `evolve(state, event, time)` gives the records that are new.

Pure: the state is read, never written. `apply` writes; a rolled-back batch is undone by putting the old records
back. None stands for a record that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from storage_protocol.names import value_bytes
from storage_protocol.records import CountedMark, Warn

from . import facts, logbooks, manifests, readings
from .facts import Event
from .state import MAX_WARNINGS, Acq, Conversion, Counter, Key, Record, Run, State, Storage

Put = tuple[Key, Record | None]


def evolve(state: State, event: Event, time: str) -> list[Put]:
    """The records that this event makes new; `time` (RFC 3339) is when it happened.

    Raises KeyError when the state lacks what the event is about: the event does not belong to this history.
    """
    return _EVOLVE[type(event.fact)](state, event, event.fact, time)


def _storage(state: State, event: Event) -> Storage:
    found = state.storage(event.storage_id or "")
    if found is None:
        raise KeyError(event.storage_id)
    return found


def _run(state: State, run_id: str) -> Run:
    found = state.run(run_id)
    if found is None:
        raise KeyError(run_id)
    return found


def _acq(state: State, acq_id: str) -> Acq:
    found = state.acq(acq_id)
    if found is None:
        raise KeyError(acq_id)
    return found


def _storage_initialized(state: State, event: Event, fact: facts.StorageInitialized, time: str) -> list[Put]:
    storage = Storage(fact.init.storage_id, fact.uid, fact.init, created_at=time)
    return [(("storage", storage.storage_id), storage)]


def _storage_configured(state: State, event: Event, fact: facts.StorageConfigured, time: str) -> list[Put]:
    storage = replace(_storage(state, event), configured=True)
    return [
        (("storage", storage.storage_id), storage),
        (("node", fact.group.node_id), fact.group),
        *logbooks.after_config(state, storage, fact.entries),
    ]


def _storage_invalidated(state: State, event: Event, fact: Any, time: str) -> list[Put]:
    storage = replace(_storage(state, event), configured=False)
    return [(("storage", storage.storage_id), storage)]


def _storage_deinitialized(state: State, event: Event, fact: Any, time: str) -> list[Put]:
    return [(("storage", _storage(state, event).storage_id), None)]


def _producer_registered(state: State, event: Event, fact: facts.ProducerRegistered, time: str) -> list[Put]:
    storage = _storage(state, event)
    if fact.producer is None:
        storage = replace(storage, producers_unnamed=storage.producers_unnamed + 1)
    else:
        storage = replace(storage, producers=(*storage.producers, fact.producer))
    return [(("storage", storage.storage_id), storage)]


def _producer_unregistered(state: State, event: Event, fact: facts.ProducerUnregistered, time: str) -> list[Put]:
    storage = _storage(state, event)
    left = tuple(name for name in storage.producers if name != fact.producer)
    return [(("storage", storage.storage_id), replace(storage, producers=left))]


def _producer_lost(state: State, event: Event, fact: facts.ProducerLost, time: str) -> list[Put]:
    storage = _storage(state, event)
    message = f"Nothing was heard of the producer {fact.producer} for {fact.silent_s:g} s."
    warnings = _warned(storage.warnings, "producer_lost", message, time)
    lost = (*storage.lost, fact.producer)
    return [(("storage", storage.storage_id), replace(storage, lost=lost, warnings=warnings))]


def _producer_back(state: State, event: Event, fact: facts.ProducerBack, time: str) -> list[Put]:
    storage = _storage(state, event)
    lost = tuple(name for name in storage.lost if name != fact.producer)
    return [(("storage", storage.storage_id), replace(storage, lost=lost))]


def _warned(warnings: tuple[Warn, ...], what: str, message: str, time: str) -> tuple[Warn, ...]:
    return (*warnings, Warn(what, message, time))[-MAX_WARNINGS:]


def _config_set(state: State, event: Event, fact: facts.ConfigSet, time: str) -> list[Put]:
    storage = replace(_storage(state, event), config=fact.document)
    return [(("storage", storage.storage_id), storage)]


def _storage_warned(state: State, event: Event, fact: facts.StorageWarned, time: str) -> list[Put]:
    storage = _storage(state, event)
    warnings = _warned(storage.warnings, fact.what, fact.message, time)
    return [(("storage", storage.storage_id), replace(storage, warnings=warnings))]


def _group_created(state: State, event: Event, fact: facts.GroupCreated, time: str) -> list[Put]:
    return [(("node", fact.group.node_id), fact.group)]


def _run_created(state: State, event: Event, fact: facts.RunCreated | facts.RunRestored, time: str) -> list[Put]:
    is_new = isinstance(fact, facts.RunCreated)
    puts: list[Put] = [(("node", fact.run.node_id), fact.run)]
    puts += logbooks.after_run(state, fact.run, is_new=is_new)
    if fact.counter is not None:
        puts.append((("counter", fact.counter), Counter(max(fact.number, state.counter(fact.counter)))))
    return puts


def _run_taken_over(state: State, event: Event, fact: facts.RunTakenOver, time: str) -> list[Put]:
    storage = _storage(state, event)
    new = {"storage_id": storage.storage_id, "visible": fact.visible}
    run = replace(_run(state, fact.run_id), owner=fact.owner, **new)
    puts: list[Put] = [(("node", run.node_id), run)]
    puts += [(("node", acq.node_id), replace(acq, **new)) for acq in state.acqs_of(fact.run_id)]
    return puts


def _run_param_set(state: State, event: Event, fact: facts.RunParamSet, time: str) -> list[Put]:
    return [(("node", fact.run_id), _with_param(_run(state, fact.run_id), fact.param, fact.value))]


def _run_removed(state: State, event: Event, fact: facts.RunRemoved, time: str) -> list[Put]:
    run = _run(state, fact.run_id)
    return [(("node", run.node_id), None), *logbooks.after_removed_run(state, run, time)]


def _node_annotated(state: State, event: Event, fact: facts.NodeAnnotated, time: str) -> list[Put]:
    if state.node(fact.node_id) is None:
        raise KeyError(fact.node_id)
    return []


def _with_param(node: Any, param: str, value: Any) -> Any:
    params = node.params
    size = node.params_bytes + value_bytes(value)
    size += -value_bytes(params[param]) if param in params else value_bytes(param)
    return replace(node, params=params | {param: value}, params_bytes=size)


def _acq_started(state: State, event: Event, fact: facts.AcqStarted, time: str) -> list[Put]:
    storage = _storage(state, event)
    opened = (*storage.open_acqs, fact.acq.node_id)
    return [
        (("storage", storage.storage_id), replace(storage, open_acqs=opened)),
        (("node", fact.acq.node_id), fact.acq),
        *manifests.after_opening(state, fact.acq.node_id),
    ]


def _acq_param_set(state: State, event: Event, fact: facts.AcqParamSet, time: str) -> list[Put]:
    return [(("node", fact.acq_id), _with_param(_acq(state, fact.acq_id), fact.param, fact.value))]


def _producer_finished(state: State, event: Event, fact: facts.ProducerFinished, time: str) -> list[Put]:
    acq = _acq(state, fact.acq_id)
    mark = CountedMark(fact.producer, fact.ok, fact.summary, time)
    return [(("node", acq.node_id), replace(acq, marks=(*acq.marks, mark)))]


def _closed(state: State, acq: Acq) -> list[Put]:
    storage = state.storage(acq.storage_id)
    if acq.reads and storage is not None:
        acq = replace(acq, config_end=storage.config)
    puts: list[Put] = [(("node", acq.node_id), acq)]
    if storage is not None and acq.node_id in storage.open_acqs:
        still = tuple(each for each in storage.open_acqs if each != acq.node_id)
        puts.append((("storage", storage.storage_id), replace(storage, open_acqs=still)))
    return puts


def _acq_finished(state: State, event: Event, fact: facts.AcqFinished, time: str) -> list[Put]:
    acq = _acq(state, fact.acq_id)
    new = replace(acq, state="finished", verdict=fact.verdict, finished_at=time, reason=fact.reason)
    return [*_closed(state, new), *logbooks.after_end(state, new, time)]


def _acq_aborted(state: State, event: Event, fact: facts.AcqAborted, time: str) -> list[Put]:
    acq = _acq(state, fact.acq_id)
    new = replace(acq, state="aborted", finished_at=time, reason=fact.reason)
    return [*_closed(state, new), *logbooks.after_end(state, new, time)]


def _acq_measured(state: State, event: Event, fact: facts.AcqMeasured, time: str) -> list[Put]:
    acq = readings.after(_acq(state, fact.acq_id), fact)
    puts: list[Put] = [(("node", acq.node_id), acq)]
    return puts + logbooks.after_measured(state, acq) if fact.when == readings.END else puts


def _acq_sealed(state: State, event: Event, fact: facts.AcqSealed, time: str) -> list[Put]:
    acq = _acq(state, fact.acq_id)
    # Sealed a second time, its manifests stay of the kind that they were.
    kind = fact.manifest if acq.manifest == manifests.OFF else acq.manifest
    acq = replace(acq, sealed=True, manifest=kind, disk=fact.disk)
    return [(("node", acq.node_id), acq), *manifests.after_seal(state, acq)]


def _manifest_written(state: State, event: Event, fact: facts.ManifestWritten, time: str) -> list[Put]:
    acq = _acq(state, fact.link.acq_id)
    acq = replace(acq, manifests=(*acq.manifests, fact.link.name))
    return [(("node", acq.node_id), acq), *manifests.after_written(state, fact)]


def _acq_removed(state: State, event: Event, fact: facts.AcqRemoved, time: str) -> list[Put]:
    acq = _acq(state, fact.acq_id)
    gone: list[Put] = [(("node", acq.node_id), None), *manifests.after_opening(state, fact.acq_id)]
    return gone + logbooks.after_removed_acq(state, acq, time)


def _acq_restored(state: State, event: Event, fact: facts.AcqRestored, time: str) -> list[Put]:
    puts: list[Put] = [(("node", fact.acq.node_id), fact.acq), *logbooks.after_restored_acq(state, fact.acq)]
    return puts + [(("chain", chain.storage_id), chain) for chain in fact.tails]


def _logbook_written(state: State, event: Event, fact: facts.LogbookWritten, time: str) -> list[Put]:
    return logbooks.after_written(state, fact)


def _no_record(state: State, event: Event, fact: Any, time: str) -> list[Put]:
    return []


def _acq_warned(state: State, event: Event, fact: facts.AcqWarned, time: str) -> list[Put]:
    acq = _acq(state, fact.acq_id)
    warnings = _warned(acq.warnings, fact.what, fact.message, time)
    sealed = acq.sealed and not fact.unsealed
    return [(("node", acq.node_id), replace(acq, warnings=warnings, sealed=sealed))]


def _conversion(state: State, event: Event, fact: Any, time: str) -> list[Put]:
    conversion: Conversion = fact.conversion
    puts: list[Put] = [(("conversion", conversion.conversion_id), conversion)]
    acq = state.acq(conversion.acq_id)
    if acq is not None and acq.uid == conversion.uid and conversion.segment >= acq.conversion_segment:
        told = replace(acq, conversion=conversion.state, conversion_segment=conversion.segment)
        puts.append((("node", acq.node_id), told))
    puts += manifests.after_conversion(state, acq, conversion)
    return puts + logbooks.after_conversion(state, acq, conversion, time)


_EVOLVE: dict[type, Callable[[State, Event, Any, str], list[Put]]] = {
    facts.StorageInitialized: _storage_initialized,
    facts.StorageConfigured: _storage_configured,
    facts.StorageInvalidated: _storage_invalidated,
    facts.StorageDeinitialized: _storage_deinitialized,
    facts.ProducerRegistered: _producer_registered,
    facts.ProducerUnregistered: _producer_unregistered,
    facts.ProducerLost: _producer_lost,
    facts.ProducerBack: _producer_back,
    facts.ConfigSet: _config_set,
    facts.StorageWarned: _storage_warned,
    facts.GroupCreated: _group_created,
    facts.RunCreated: _run_created,
    facts.RunTakenOver: _run_taken_over,
    facts.RunParamSet: _run_param_set,
    facts.RunRemoved: _run_removed,
    facts.NodeAnnotated: _node_annotated,
    facts.AcqStarted: _acq_started,
    facts.AcqParamSet: _acq_param_set,
    facts.ProducerFinished: _producer_finished,
    facts.AcqFinished: _acq_finished,
    facts.AcqAborted: _acq_aborted,
    facts.AcqMeasured: _acq_measured,
    facts.AcqSealed: _acq_sealed,
    facts.ManifestWritten: _manifest_written,
    facts.AcqRemoved: _acq_removed,
    facts.AcqWarned: _acq_warned,
    facts.RunRestored: _run_created,
    facts.AcqRestored: _acq_restored,
    facts.TrashRestored: _no_record,
    facts.TrashEmptied: _no_record,
    facts.MountLow: _no_record,
    facts.MountFull: _no_record,
    facts.MountUnreachable: _no_record,
    facts.MountRecovered: _no_record,
    facts.LogbookFailed: _no_record,
    facts.LogbookRecovered: _no_record,
    facts.LogbookWritten: _logbook_written,
    facts.ConversionQueued: _conversion,
    facts.ConversionStarted: _conversion,
    facts.ConversionSucceeded: _conversion,
    facts.ConversionFailed: _conversion,
    facts.ConversionCancelled: _conversion,
}
