"""When faults stop: everything that was begun comes to its end in bounded time, and then it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import sums
from .broken import must
from .patience import overdue

if TYPE_CHECKING:
    from .world import World

MOST_STEPS = 20_000
MOST_S = 2_000.0
"""How many steps, and seconds of the monotonic clock, everything may take to end when faults have stopped."""


def calm(world: World) -> None:
    """See above. Raises Broken where something waits for ever, or came to a wrong end."""
    world.mount.away = world.mount.half = world.mount.blind = False
    _come_to_rest(world)
    for letter in world.clients.unanswered():
        world.post(letter, 0)
    _come_to_rest(world)
    _wait_out(world)
    waiting = [each.ask for letter in world.network.unanswered() for each in letter.attempts if each]
    must(not waiting, "waits", "never answered", waiting)
    _ended(world)


def _come_to_rest(world: World) -> None:
    until = world.mono + MOST_S
    for number in range(MOST_STEPS):
        world.chance.seed(number)
        world.steps += 1
        actions = world.actions()
        if actions:
            actions[0][2]()
            world.after()
        elif _is_done(world):
            return
        else:
            service = world.service
            must(service is not None and world.mono < until, "waits", "no end comes", _left(world))
            world.let_pass(1.0 + max(0.0, service.desk.next_tick() - world.mono if service else 0.0))
    must(False, "waits", "it never comes to rest", _left(world))


def _wait_out(world: World) -> None:
    """Time passes, longer than all time-outs: what was waited for is given up."""
    terms = world.life.terms
    until = world.mono + 1.0 + (terms.finish_timeout_s or 0.0) + (terms.producer_timeout_s or 0.0)
    while world.mono < until:
        world.let_pass(until - world.mono)
        _come_to_rest(world)
    journal = world.journal
    for acq in journal.acqs.values():
        storage = journal.storages.get(acq["storage_id"])
        due = overdue(acq, storage, journal.lost) if storage and acq["state"] == "open" else None
        must(not due, "waits", f"an acquisition is waited for: {due}", acq, storage, journal.lost)


def _left(world: World) -> object:
    service = world.service
    return service and (service.desk.counts(), list(world.store.intents.values())[:3])


def _is_done(world: World) -> bool:
    service = world.service
    if service is None or not service.rests or world.scripts.running or world.network.sendable():
        return False
    return service.desk.is_quiet() and not any(service.desk.counts().values())


def _ended(world: World) -> None:
    journal, service = world.journal, world.service
    must(not world.store.intents, "waits", "intents are open", list(world.store.intents.values()))
    for acq in journal.acqs.values():
        must(acq["sealed"] == (acq["state"] != "open"), "waits", "it is not sealed", acq)
    must(not journal.owed(), "waits", "manifests are not written", journal.owed())
    must(not journal.owes_reading(), "waits", "readings are not taken", journal.owes_reading())
    kept, needed = set(world.store.documents), journal.documents()
    must(
        kept == needed, "lost" if needed - kept else "wrong", "other documents are kept than needed", kept ^ needed
    )
    for conversion in journal.conversions.values():
        active = conversion["state"] in ("queued", "running")
        must(not active, "waits", "a conversion has no end", conversion)
    for id, storage in journal.storages.items():
        opened = [
            acq_id for acq_id, acq in journal.acqs.items() if acq["state"] == "open" and acq["storage_id"] == id
        ]
        must(sorted(storage["open_acqs"]) == sorted(opened), "wrong", "it lists others as open", storage, opened)
    world.tables.one_place_each()
    world.tables.folders(world.mount)
    world.tables.whole()
    world.asked.ended()
    sums.hold(world.asked, world.store)
    if service is not None:
        world.tables.memory(service.desk)
