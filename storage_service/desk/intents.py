"""An intent that is not carried out yet, and who waits for it."""

from __future__ import annotations

from storage_protocol.errors import Refusal

from .batch import StoredIntent
from .messages import Ticket


class OpenIntent:
    """An intent that is not carried out yet. `at_door`: an order for it is out; `stalled`: why it will be tried
    again; `ticket`: who waits for it, None after a restart; `before`: the durable one that it is to replace;
    `lost`: how often its outcome could not be written."""

    __slots__ = ("at_door", "before", "durable", "lost", "stalled", "stored", "ticket")

    def __init__(self, stored: StoredIntent, ticket: Ticket | None, durable: bool = False) -> None:
        self.stored = stored
        self.ticket = ticket
        self.durable = durable
        self.at_door = False
        self.before: StoredIntent | None = None
        self.stalled: Refusal | None = None
        self.lost = 0
