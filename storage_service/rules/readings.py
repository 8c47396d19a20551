"""Configuration and statistics of an acquisition: when they are read, what is asked for, what follows (SPEC 4.3).

An acquisition of which something is to be read owes a reading of its start, and when it has ended one of its end;
it is sealed after both. What is owed stands in its record (`Acq.reads`). What cannot be read is recorded as
missing, with the reason: nothing waits for it.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from storage_protocol import names
from storage_protocol.errors import shown
from storage_protocol.limits import Limits
from storage_protocol.names import Value
from storage_protocol.records import Configuration, Document, Statistic
from storage_protocol.records import Reading as TimedReading

from . import facts
from .decision import Moment
from .facts import Event
from .state import Acq, State, Storage

START, END = "start", "end"
MOST_BYTES = Limits().params_bytes
"""What the values of one reading may have together: as the parameters of an acquisition."""
FOUND_AS = "stats."
"""What the names begin with by which statistics are found."""
HANDED_IN = "set_config_storage"
"""The source of a configuration that was handed in."""


class Reading(Struct, frozen=True):
    """One look at a variable.

    value     what it was; nil too where `missing` says why it is not known
    unit      as its source says, nil where it has none
    severity  of its alarm, as its source says (`NO_ALARM`, `MINOR`, ...), nil where it has none
    missing   empty, or one sentence that says why it could not be read
    """

    value: Value = None
    unit: str | None = None
    severity: str | None = None
    missing: str = ""


class Wanted(Struct, frozen=True):
    """A configuration to be saved: the one handed in, or where that is nil what the service's own source has."""

    when: str
    document: Document | None = None


class TakeReadings(Struct, frozen=True):
    """Read variables and save configurations beside the data.

    when     `start` or `end`
    mp, path where the acquisition's folder is
    names    the variables, with the prefix of their source
    wanted   configurations, in this order
    saved    the BLAKE3 of those that are saved already: none is saved twice
    about    what a source is told of the acquisition: name to value
    """

    acq_id: str
    uid: str
    segment: int
    storage_id: str
    when: str
    mp: str
    path: tuple[str, ...]
    names: tuple[str, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    saved: tuple[str, ...] = ()
    about: dict[str, str] = {}


class ReadingsTaken(Struct, frozen=True):
    """What came of it.

    readings        by name
    configurations  those that were saved now
    failures        sentences about those that were not, and will not be
    again           why one could not be written: tried again, where it is the end's
    """

    readings: dict[str, Reading]
    configurations: tuple[Configuration, ...] = ()
    failures: tuple[str, ...] = ()
    again: str = ""


# When


def owed(state: State, storage: Storage) -> str:
    """What an acquisition that starts now owes: a reading of its start, if there is anything to read."""
    reads = storage.init.stats_names or storage.config is not None or state.fetches(storage.storage_id)
    return START if reads else ""


def is_due(acq: Acq) -> bool:
    """Whether what the acquisition owes can be read by now."""
    return acq.reads == START or (acq.reads == END and acq.state != "open")


# What is asked, and what came of it


def order(state: State, acq: Acq) -> TakeReadings:
    """What is asked for the reading that is due."""
    return TakeReadings(
        acq_id=acq.node_id,
        uid=acq.uid,
        segment=acq.segment,
        storage_id=acq.storage_id,
        when=acq.reads,
        mp=acq.mp,
        path=tuple(acq.path.split("/")),
        names=tuple(acq.statistics),
        wanted=_wanted(state, acq),
        saved=tuple(each.blake3 for each in acq.configurations),
        about={
            "STORAGE_ID": acq.storage_id,
            "ACQ_ID": acq.node_id,
            "ACQ_UID": acq.uid,
            "ACQ_NAME": acq.name,
            "ACQ_SEGMENT": str(acq.segment),
            "RUN_ID": acq.run_id,
            "RUN_NAME": acq.run_name,
            "READING": acq.reads,
        },
    )


def _wanted(state: State, acq: Acq) -> tuple[Wanted, ...]:
    """What was handed in wins over the service's own source. At the end the start's is wanted still, where it was
    handed in and could not be written."""
    given = acq.config if acq.reads == START else acq.config_end
    wanted = []
    if acq.reads == END and acq.config is not None and acq.config.blake3 not in _digests(acq):
        wanted.append(Wanted(START, acq.config))
    if given is not None or state.fetches(acq.storage_id):
        wanted.append(Wanted(acq.reads, given))
    return tuple(wanted)


def _digests(acq: Acq) -> set[str]:
    return {each.blake3 for each in acq.configurations}


def taken(acq: Acq, result: ReadingsTaken, now: Moment) -> list[Event]:
    """The events of a reading that was taken, whatever it brought."""
    nothing, statistics, size = Reading(missing="It was not looked at."), dict[str, Statistic](), 0
    for name, each in acq.statistics.items():
        reading = _sound(result.readings.get(name, nothing))
        size += names.value_bytes(reading.value)
        if size > MOST_BYTES:
            size -= names.value_bytes(reading.value)
            reading = Reading(missing=f"With it the values would have more than {MOST_BYTES} bytes together.")
        statistics[name] = _with(each, acq.reads, reading, now)
    fact = facts.AcqMeasured(acq.node_id, acq.reads, statistics, result.configurations)
    warned = (*result.failures, *filter(None, [result.again]))
    return [_event(acq, fact), *(warning(acq, message) for message in warned)]


def too_late(acq: Acq, now: Moment) -> list[Event]:
    """The acquisition ended, and the service with it, before its start was read."""
    missing = Reading(missing="The acquisition had ended before the service could read it.")
    return taken(acq, ReadingsTaken(dict.fromkeys(acq.statistics, missing)), now)


def warning(acq: Acq, message: str) -> Event:
    return _event(acq, facts.AcqWarned(acq.node_id, "configuration", message))


def _event(acq: Acq, fact: facts.AnyFact) -> Event:
    return Event(fact, acq.storage_id, acq.node_id)


def _sound(reading: Reading) -> Reading:
    """The reading, or why no record can hold it: sources are many, and one that is wrong must not end a commit."""
    wrong = names.value(reading.value)
    try:
        for text in (reading.value, reading.unit, reading.severity, reading.missing):
            if isinstance(text, str):
                text.encode()
    except UnicodeEncodeError:
        wrong = "it must be Unicode text"
    if wrong is None:
        return reading
    return Reading(missing=f"Its source gave {shown(ascii(reading.value))}; {wrong}.")


def _with(statistic: Statistic, when: str, reading: Reading, now: Moment) -> Statistic:
    timed = TimedReading(reading.value, reading.unit, reading.severity, reading.missing or None, now.time)
    if when == START:
        return replace(statistic, start=timed)
    return replace(statistic, end=timed, difference=_difference(statistic.start, timed))


def _difference(start: TimedReading | None, end: TimedReading) -> int | float | None:
    before, after = start.value if start is not None else None, end.value
    if isinstance(before, bool) or isinstance(after, bool):
        return None
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return None
    difference = after - before
    return difference if names.value(difference) is None else None


# What the facts change, for `evolve` and for what is searched


def after(acq: Acq, fact: facts.AcqMeasured) -> Acq:
    """The acquisition, measured."""
    return replace(
        acq,
        statistics=fact.statistics,
        configurations=(*acq.configurations, *fact.configurations),
        reads=END if fact.when == START else "",
    )


def findable(statistics: dict[str, Statistic]) -> dict[str, Value]:
    """Names and values by which an acquisition is found: the newest value, and the difference if there is one."""
    found: dict[str, Value] = {}
    for name, each in statistics.items():
        newest = each.end if each.end is not None else each.start
        found[f"{FOUND_AS}{name}"] = newest.value if newest is not None else None
        found[f"{FOUND_AS}{name}.difference"] = each.difference
    return found


def is_statistic(name: str) -> bool:
    """Whether `findable` gives such names."""
    return name.startswith(FOUND_AS)


def documents(state: State) -> set[str]:
    """The BLAKE3 of every document that is still needed."""
    needed = set[Document | None]()
    for record in state.records.values():
        if isinstance(record, Storage):
            needed.add(record.config)
        elif isinstance(record, Acq) and record.reads:
            needed |= {record.config, record.config_end}
    return {each.blake3 for each in needed if each is not None}
