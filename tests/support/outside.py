"""What the world outside the desk says where nothing is wrong: mount points, and sources of variables."""

from __future__ import annotations

from storage_protocol.records import Configuration, DiskUse
from storage_service.rules.readings import HANDED_IN, Reading, ReadingsTaken, TakeReadings
from storage_service.rules.rebuild_work import FindMarkers, Found
from storage_service.rules.work import Done, Order, Result, SyncData, Synced


def done(order: Order) -> Result:
    """What an order comes to where nothing is wrong."""
    if isinstance(order, FindMarkers):
        return Found((), (), (), 1, None)
    return Synced(DiskUse(2, 1000, 8192)) if isinstance(order, SyncData) else Done()


def read(order: TakeReadings) -> ReadingsTaken:
    """What is read where nothing is wrong: every variable is 1 at the start and 3 at the end, and every
    configuration that is wanted is saved, unless it is already."""
    done, saved = set(order.saved), list[Configuration]()
    for each in order.wanted:
        digest, name, size = f"digest of {order.acq_id} {order.segment}", "config.xml", 7
        if each.document is not None:
            digest, name, size = each.document.blake3, each.document.name, each.document.bytes
        if digest not in done:
            saved.append(Configuration(name, each.when, digest, size, HANDED_IN if each.document else "file:/c"))
        done.add(digest)
    value = 1 if order.when == "start" else 3
    return ReadingsTaken(dict.fromkeys(order.names, Reading(value)), tuple(saved))
