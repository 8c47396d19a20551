"""What the desk wants done outside: collected between two calls, taken by the shell."""

from __future__ import annotations

from storage_protocol.commands import Command

from ..rules.logbook_work import LogbookOrder
from ..rules.readings import TakeReadings
from ..rules.state import Key, Variable
from ..rules.work import Order, RunScript, WriteManifest
from .batch import JournalRow
from .messages import Ticket


class Out:
    """
    replies   reply messages, ready to be sent: the peer first
    events    journal rows that are durable, in order
    variables to be told of, durable
    look_ups  records to be looked up in the store
    queries   queries to be answered from what is durable
    orders    (work id, order) for the doors to mount points
    readings  (work id, order) for the sources of variables and configurations
    scripts   conversions to be started
    cancels   conversions to be ended
    manifests         manifests to be written
    manifest_cancels  acquisitions of which none is to be written any more
    logbooks          entries to be written, and logbooks to be looked at
    """

    def __init__(self) -> None:
        self.replies: list[list[bytes]] = []
        self.events: list[JournalRow] = []
        self.variables: list[Variable] = []
        self.look_ups: list[Key] = []
        self.queries: list[tuple[Ticket, Command]] = []
        self.orders: list[tuple[str, Order]] = []
        self.readings: list[tuple[str, TakeReadings]] = []
        self.scripts: list[RunScript] = []
        self.cancels: list[str] = []
        self.manifests: list[WriteManifest] = []
        self.manifest_cancels: list[str] = []
        self.logbooks: list[LogbookOrder] = []

    def take(self) -> Out:
        """All of it, which is then the shell's; here nothing is left."""
        taken = Out.__new__(Out)
        taken.__dict__ |= self.__dict__
        Out.__init__(self)
        return taken

    def __bool__(self) -> bool:
        return bool(self.replies or self.events or self.look_ups or self.queries or self.has_work)

    @property
    def has_work(self) -> bool:
        """Whether there is any of what most commands bring none of."""
        return bool(
            self.variables
            or self.orders
            or self.readings
            or self.scripts
            or self.cancels
            or self.manifests
            or self.manifest_cancels
            or self.logbooks
        )
