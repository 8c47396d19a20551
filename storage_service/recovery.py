"""What an earlier life left open is taken up again, and told in one line."""

from __future__ import annotations

from typing import Any

from .desk.desk import Desk, Now
from .rules.state import Acq
from .rules.work import Ended
from .store.interface import Snapshot


def take_up(desk: Desk, snapshot: Snapshot, now: Now) -> dict[str, Any]:
    """Give the desk what is open, once nothing runs any more of what an earlier life had started.

    Returns what is to be logged: how much of each kind goes on.
    """
    desk.restore(snapshot.records(), snapshot.intents, now)
    running = [each for each in snapshot.conversions if each.state == "running"]
    for each in running:
        reason = "the service ended while it ran"
        desk.ended(Ended(each.conversion_id, each.attempt, "interrupted", reason=reason), now)
    acqs = [node for node in snapshot.nodes if isinstance(node, Acq)]
    kinds = [type(each.intent).__name__.removesuffix("Intent").lower() for each in snapshot.intents]
    return {
        "journal_id": snapshot.journal_id,
        "last_seq": snapshot.last_seq,
        "storages": len(snapshot.storages),
        "acquisitions_open": sum(acq.state == "open" for acq in acqs),
        "acquisitions_to_seal": sum(acq.state != "open" and not acq.sealed for acq in acqs),
        "conversions_queued": len(snapshot.conversions) - len(running),
        "conversions_interrupted": len(running),
        "manifests_to_write": len(snapshot.dues),
        "entries_to_write": len(snapshot.owed),
        "intents": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
    }
