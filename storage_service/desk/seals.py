"""Seals: the data of each acquisition that ended are synced, its log and marker file completed, however long it
takes. What is to be read of its end comes first."""

from __future__ import annotations

from functools import partial

from storage_protocol import errors
from storage_protocol.errors import Refusal
from storage_protocol.records import DiskUse

from ..rules import facts
from ..rules.decision import Moment
from ..rules.facts import Event
from ..rules.state import Acq
from ..rules.work import Done, Failed, Result, Synced
from .ledger import Ledger
from .messages import Ticket
from .peers import SEALING
from .timers import Retries
from .works import seal_order, sync_order

WAIT_S = 5.0
"""How long a command waits for an acquisition that is being sealed (SPEC 4.2)."""


class Seals:
    """Which acquisitions are being sealed; the state says which still have to be."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: dict[str, DiskUse | None] = {}  # what was counted, once the data are synced
        self._retries = Retries()

    @property
    def count(self) -> int:
        return len(self._under_way)

    def give(self, acq: Acq) -> None:
        """Hand an acquisition to its mount point's door, if it ended, is durable, and is not there already."""
        if acq.state != "open" and not acq.sealed and not acq.reads and acq.node_id not in self._under_way:
            self._under_way[acq.node_id] = None
            self._ledger.out.orders.append((f"seal {acq.node_id}", sync_order(acq)))

    def outcome(self, acq_id: str, result: Result, moment: Moment) -> None:
        """Sealed, or tried again later; the first failure is a warning on the acquisition."""
        acq = self._to_seal(acq_id)
        if acq is None:
            self._under_way.pop(acq_id, None)
        elif isinstance(result, Synced):
            self._under_way[acq_id] = result.disk
            order = seal_order(acq, self._ledger.state.places, result.disk)
            self._ledger.out.orders.append((f"seal {acq_id}", order))
        elif isinstance(result, Failed):
            if self._retries.is_first(acq_id):
                warned = facts.AcqWarned(acq_id, "seal", f"The data are not synced yet: {result.message}")
                self._ledger.apply((Event(warned, acq.storage_id, acq_id),), moment)
            again = moment.mono + self._retries.wait(acq_id)
            self._ledger.timers.at(again, partial(self._give_again, acq_id))
        else:
            disk = acq.disk or self._under_way.pop(acq_id, None)
            self._under_way.pop(acq_id, None)
            self._retries.forget(acq_id)
            remark = result.remark if isinstance(result, Done) else ""
            told: list[facts.AnyFact] = [facts.AcqWarned(acq_id, "log", remark)] if remark else []
            sealed = facts.AcqSealed(acq_id, self._ledger.manifest_kind(acq.storage_id), disk)
            events = [Event(fact, acq.storage_id, acq_id) for fact in (*told, sealed)]
            self._ledger.apply(events, moment)

    def wait(self, ticket: Ticket, acq_id: str, moment: Moment) -> Refusal | None:
        """A command waits for an acquisition to be sealed; a refusal when it has waited long enough."""
        if ticket.deadline is None:
            ticket.deadline = moment.mono + WAIT_S
            self._ledger.timers.at(ticket.deadline, partial(self._ledger.peers.came, SEALING))
        elif moment.mono >= ticket.deadline:
            message = f"The acquisition {acq_id} is still being sealed after {WAIT_S:g} s; try again."
            return errors.unavailable("sealing", message)
        ticket.sealing = acq_id
        self._ledger.peers.wait_for(SEALING, ticket)
        return None

    def holds(self, ticket: Ticket, moment: Moment) -> bool:
        """Whether a command still waits for a seal: then nothing of it needs to be looked at again."""
        waits = ticket.sealing is not None and ticket.deadline is not None and moment.mono < ticket.deadline
        if not waits or self._to_seal(ticket.sealing or "") is None:
            return False
        self._ledger.peers.wait_for(SEALING, ticket)
        return True

    def _give_again(self, acq_id: str) -> None:
        self._under_way.pop(acq_id, None)
        acq = self._to_seal(acq_id)
        if acq is not None:
            self.give(acq)

    def _to_seal(self, acq_id: str) -> Acq | None:
        """The acquisition, if it still has to be sealed."""
        state = self._ledger.state
        acq = state.acq(acq_id) if state.has(("node", acq_id)) else None
        return acq if acq is not None and acq.state != "open" and not acq.sealed else None
