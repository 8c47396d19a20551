"""Manifests of sealed acquisitions: when one is due, what is asked for, what follows when it is written.

An acquisition that is sealed owes the manifest of its segment, and after the end of a conversion one of what that
has left. What is owed is a record (`Due`), and the newest manifest of a storage id is one (`Chain`): the next
manifest names it. Opening an acquisition again, or removing it, takes back what it still owed: the manifest of the
next segment lists every file anew. One that is sealed a second time, since it could not be opened again, owes
nothing more for it: what the service itself changes in a marker file after the seal is known (docs/verify.md).
"""

from __future__ import annotations

from msgspec.structs import replace

from . import facts
from .decision import Moment
from .facts import Event
from .state import Acq, Chain, Conversion, Due, Key, Link, Record, State
from .work import ManifestDone, WriteManifest

Put = tuple[Key, Record | None]

OFF = "off"
SEGMENT_NAME = "manifest.blake3"
CONVERSION_NAME = "manifest.conversion_blake3"
"""What the digest of an acquisition's newest manifest is searched by, and that of a conversion's."""

_ENDED = ("succeeded", "failed", "cancelled")


# What the facts make due, for `evolve`


def after_seal(state: State, acq: Acq) -> list[Put]:
    """Sealed: the manifest of the segment is due; sealed a second time, what was due is so again, and no more."""
    due = state.due(acq.node_id)
    if due is None and acq.manifest != OFF and not acq.manifests:
        due = Due(acq.node_id, acq.uid, acq.segment, acq.storage_id, acq.manifest)
    return [(("due", acq.node_id), due)] if due is not None else []


def after_conversion(state: State, acq: Acq | None, conversion: Conversion) -> list[Put]:
    """A conversion ended: what it left is to be listed, unless the next segment's manifest will have it."""
    if acq is None or conversion.state not in _ENDED or not conversion.attempt or acq.uid != conversion.uid:
        return []
    if acq.state == "open" or acq.manifest == OFF:
        return []
    before = state.records.get(("conversion", conversion.conversion_id))
    if not isinstance(before, Conversion) or not (
        before.state == "running" or before.tries or before.interruptions
    ):
        return []  # queued anew, it was cancelled before it began: what it had left is listed
    after = Due(acq.node_id, acq.uid, acq.segment, acq.storage_id, acq.manifest, whole=False)
    after = replace(after, conversion=(conversion.segment, conversion.attempt))
    due = state.due(acq.node_id) or after
    return [(("due", acq.node_id), replace(due, conversion=after.conversion))]


def after_opening(state: State, acq_id: str) -> list[Put]:
    """Opened again or removed: nothing is due of what was there before."""
    return [(("due", acq_id), None)] if state.due(acq_id) is not None else []


def after_written(state: State, fact: facts.ManifestWritten) -> list[Put]:
    """Written: it is the chain's newest, and no longer due."""
    puts: list[Put] = [(("chain", fact.chain), Chain(fact.chain, fact.link))]
    due = state.due(fact.link.acq_id)
    if due is not None and due.name == fact.link.name:
        left = replace(due, whole=False) if due.whole and due.conversion is not None else None
        puts.append((("due", due.acq_id), left))
    return puts


def findable(link: Link) -> tuple[str, str]:
    """The name and the value by which `find_nodes` finds an acquisition by its manifest's digest."""
    return CONVERSION_NAME if "-conversion-" in link.name else SEGMENT_NAME, link.blake3


# What is asked, and what came of it


def may_begin(state: State, due: Due) -> bool:
    """Whether the files keep still: sealed and not opened again, and no conversion that had ended runs again."""
    acq = state.records.get(("node", due.acq_id))
    if not isinstance(acq, Acq) or (acq.uid, acq.segment) != (due.uid, due.segment):
        return False
    if acq.state == "open" or not acq.sealed:
        return False
    return due.whole or all(each.state != "running" for each in state.active_conversions(due.acq_id))


def order(state: State, due: Due, now: Moment) -> WriteManifest:
    """What the door is asked for the next manifest of an acquisition that may begin."""
    acq = state.acq(due.acq_id)
    if acq is None:
        raise KeyError(due.acq_id)
    chain = state.chain(due.storage_id)
    # What a conversion writes while the segment's files are listed is left to the manifest after it.
    converts = due.conversion is not None or bool(state.active_conversions(due.acq_id))
    return WriteManifest(
        storage_id=due.storage_id,
        acq_id=due.acq_id,
        uid=due.uid,
        segment=due.segment,
        mp=acq.mp,
        path=tuple(acq.path.split("/")),
        name=due.name,
        kind=due.kind,
        time=now.time,
        conversion=None if due.whole else due.conversion,
        over=() if due.whole else acq.manifests,
        later=not (due.whole and converts),
        previous=chain.tail if chain is not None else None,
    )


def written(state: State, asked: WriteManifest, result: ManifestDone) -> tuple[Event, ...]:
    """The events of a manifest that is in place; none when it is not due any more."""
    due = state.due(asked.acq_id)
    if due is None or (due.uid, due.segment) != (asked.uid, asked.segment):
        return ()
    acq = state.acq(asked.acq_id)
    if acq is None or not acq.sealed or due.whole != (asked.conversion is None):
        return ()
    link = Link(asked.acq_id, asked.uid, asked.segment, asked.mp, "/".join(asked.path), asked.name, result.blake3)
    fact = facts.ManifestWritten(asked.storage_id, link, result.files, result.bytes)
    events = [Event(fact, acq.storage_id, acq.node_id)]
    if result.problems:
        others = f" and {result.problems - 1} more" if result.problems > 1 else ""
        message = f"{asked.name} has no digest of {result.example}{others}."
        events.append(warned(acq, message))
    return tuple(events)


def warned(acq: Acq, message: str) -> Event:
    return Event(facts.AcqWarned(acq.node_id, "manifest", message), acq.storage_id, acq.node_id)
