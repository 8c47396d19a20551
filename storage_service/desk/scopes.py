"""What open intents hold: a command that touches the same waits, the rest goes on (see `rules.scope`).

A command also holds its scope while something is looked up for it that others could change meanwhile.
"""

from __future__ import annotations

from ..rules.scope import Scope
from .messages import Ticket

Holder = str | Ticket
"""An intent, by its id, or a command."""


class Scopes:
    def __init__(self) -> None:
        self._held: dict[Holder, Scope] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, holder: Holder, scope: Scope) -> None:
        self._held[holder] = scope

    def widen(self, holder: Holder, scope: Scope) -> bool:
        """Hold another scope than before, unless that is somebody's: nobody waits while he holds something."""
        if self.in_the_way(scope, holder) is not None:
            return False
        self.hold(holder, scope)
        return True

    def release(self, holder: Holder) -> None:
        """The intent's outcome is durable, or the command is decided."""
        self._held.pop(holder, None)

    def in_the_way(self, scope: Scope, asking: Holder) -> Holder | None:
        """Who a command of this scope has to wait for."""
        for holder, held in self._held.items():
            if holder != asking and held.collides(scope):
                return holder
        return None
