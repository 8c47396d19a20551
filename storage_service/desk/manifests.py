"""Manifests: each sealed acquisition's files are listed with their digests, one manifest of a storage at a time.

A manifest names the one before it in its storage's chain. So the next is asked for when that one is durable, and
one that fails goes to the end of the queue: a folder that is gone must not keep the others waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..rules import facts, manifests
from ..rules.decision import Moment
from ..rules.facts import Event
from ..rules.state import Acq, Due
from ..rules.work import CANCELLED, OPENED_AGAIN, Failed, ManifestDone, WriteManifest
from .batch import Batch
from .ledger import Ledger
from .timers import Retries


class Manifests:
    """Which manifests wait and which are being written; the state says which are due.

    `is_going` says whether an acquisition, by id, is about to be removed: nothing of it is begun then.
    """

    def __init__(self, ledger: Ledger, is_going: Callable[[str], bool]) -> None:
        self._ledger = ledger
        self._is_going = is_going
        self._queues: dict[str, dict[str, Due]] = {}  # by storage id and acquisition: as they are durable
        self._at_door: dict[str, WriteManifest] = {}  # by storage id
        self._settling: set[str] = set()  # storage ids whose newest link is not durable yet
        self._delayed: set[str] = set()  # acquisitions that are tried again later
        self._retries = Retries()
        self._look = False
        self._stopped = False

    @property
    def count(self) -> int:
        return sum(map(len, self._queues.values()))

    def stop(self) -> None:
        """Ask for no more."""
        self._stopped = True

    def follow(self, event: Event) -> None:
        """What is opened again or removed is listed no further, nor is what has to be sealed once more."""
        match event.fact:
            case facts.AcqStarted(acq):
                self._cancel(acq.node_id)
            case facts.AcqRemoved(acq_id):
                self._cancel(acq_id)
            case facts.AcqWarned(acq_id, unsealed=True):
                self._cancel(acq_id)
            case facts.AcqSealed(acq_id):
                self._forget(acq_id)  # what is due then comes with its commit

    def _cancel(self, acq_id: str) -> None:
        if any(order.acq_id == acq_id for order in self._at_door.values()):
            self._ledger.out.manifest_cancels.append(acq_id)

    def _forget(self, acq_id: str) -> None:
        for queue in self._queues.values():
            queue.pop(acq_id, None)

    def committed(self, batch: Batch) -> None:
        """What became due is durable, and links are: the next may be asked for."""
        for (table, id), record in batch.records.items():
            if table == "chain":
                self._settling.discard(id)
            elif table == "due" and isinstance(record, Due):
                self._queues.setdefault(record.storage_id, {})[id] = record
            elif table == "due":
                self._retries.forget(id)
                self._forget(id)
        # Whatever it was: an acquisition may stay after all, a conversion may be over.
        self._look = self._look or bool(self._queues)

    def resume(self) -> None:
        """Read from the records what is due: after a restart, or a batch that was taken back."""
        self._settling.clear()
        self._queues.clear()
        for record in self._ledger.state.records.values():
            if isinstance(record, Due):
                self._queues.setdefault(record.storage_id, {})[record.acq_id] = record
        self._look = True

    def pump(self, moment: Moment) -> None:
        """Ask for the next manifest of each storage that has none under way."""
        if not self._look or self._stopped:
            return
        self._look = False
        for storage_id in list(self._queues):
            if storage_id not in self._at_door and storage_id not in self._settling:
                self._begin(storage_id, moment)

    def _begin(self, storage_id: str, moment: Moment) -> None:
        state, queue = self._ledger.state, self._queues[storage_id]
        if not queue:
            del self._queues[storage_id]
        for acq_id, due in queue.items():
            # What was decided since is not durable yet: it comes with its commit.
            if acq_id in self._delayed or state.due(acq_id) != due:
                continue
            if manifests.may_begin(state, due) and not self._is_going(acq_id):
                order = manifests.order(state, due, moment)
                self._at_door[storage_id] = order
                self._ledger.out.manifests.append(order)
                return

    def outcome(self, storage_id: str, result: ManifestDone | Failed, moment: Moment) -> None:
        """Written, or tried again later; the first failure is a warning on the acquisition."""
        order = self._at_door.pop(storage_id, None)
        if order is None:
            return
        self._look = True
        if isinstance(result, ManifestDone):
            events = manifests.written(self._ledger.state, order, result)
            if events:
                self._settling.add(storage_id)
                self._retries.forget(order.acq_id)
                self._ledger.apply(events, moment)
            return
        due = self._ledger.state.due(order.acq_id)
        acq = self._ledger.state.records.get(("node", order.acq_id))
        if due is None or not isinstance(acq, Acq) or due.name != order.name:
            return  # it was cancelled, or there is a newer one to be written
        if self._retries.is_first(order.acq_id) and not self._is_in_the_way(order.acq_id, result):
            warning = manifests.warned(acq, f"{order.name} is not written yet: {result.message}")
            self._ledger.apply((warning,), moment)
        queue = self._queues.get(storage_id, {})
        if order.acq_id in queue:
            queue[order.acq_id] = queue.pop(order.acq_id)
        self._delayed.add(order.acq_id)
        again = moment.mono + self._retries.wait(order.acq_id)
        self._ledger.timers.at(again, partial(self._try_again, order.acq_id))

    def _is_in_the_way(self, acq_id: str, result: Failed) -> bool:
        """Whether it failed because it is being opened again or removed at this moment."""
        return result.details.get("reason") in (OPENED_AGAIN, CANCELLED) or self._is_going(acq_id)

    def _try_again(self, acq_id: str) -> None:
        self._delayed.discard(acq_id)
        self._look = True
