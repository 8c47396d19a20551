"""What open intents hold: a command that touches the same waits, the rest goes on (see `rules.scope`)."""

from __future__ import annotations

from ..rules.scope import Scope


class Scopes:
    def __init__(self) -> None:
        self._held: dict[str, Scope] = {}

    def hold(self, intent_id: str, scope: Scope) -> None:
        self._held[intent_id] = scope

    def release(self, intent_id: str) -> None:
        """The intent's outcome is durable."""
        self._held.pop(intent_id, None)

    def in_the_way(self, scope: Scope) -> str | None:
        """The intent that a command of this scope has to wait for."""
        return next((id for id, held in self._held.items() if held.collides(scope)), None)
