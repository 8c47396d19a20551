"""What open intents hold: a command that touches the same waits, the rest goes on (see `rules.scope`).

A command also holds its scope while something is looked up for it that others could change meanwhile. Scopes are
indexed by storage and by node, so that a command is held against those that it can collide with, however many
others there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from ..rules.scope import Scope, above
from .messages import Ticket

Holder = str | Ticket
"""An intent, by its id, or a command."""


class Index:
    """Holders by what they hold, in the order in which they came."""

    def __init__(self) -> None:
        self._found: dict[Hashable, dict[Holder, None]] = {}

    def add(self, place: Hashable, holder: Holder) -> None:
        self._found.setdefault(place, {})[holder] = None

    def take_out(self, place: Hashable, holder: Holder) -> None:
        found = self._found[place]
        del found[holder]
        if not found:
            del self._found[place]

    def at(self, place: Hashable) -> Iterator[Holder]:
        return iter(self._found.get(place, ()))


class Scopes:
    """
    held       each holder's scope
    storages   who touches a storage; whole: who touches all of it
    nodes      who touches a node; below: who touches it or a node below it
    """

    def __init__(self) -> None:
        self.held: dict[Holder, Scope] = {}
        self._storages = Index()
        self._whole = Index()
        self._nodes = Index()
        self._below = Index()

    def hold(self, holder: Holder, scope: Scope) -> None:
        """In place of what it held before."""
        self.release(holder)
        self.held[holder] = scope
        for index, place in self._places(scope):
            index.add(place, holder)

    def widen(self, holder: Holder, scope: Scope) -> bool:
        """Hold another scope than before, unless that is somebody's: nobody waits while he holds something."""
        if self.in_the_way(scope, holder) is not None:
            return False
        self.hold(holder, scope)
        return True

    def release(self, holder: Holder) -> bool:
        """The intent's outcome is durable, or the command is decided. Whether it held anything."""
        scope = self.held.pop(holder, None)
        if scope is None:
            return False
        for index, place in self._places(scope):
            index.take_out(place, holder)
        return True

    def in_the_way(self, scope: Scope, asking: Holder) -> Holder | None:
        """Who a command of this scope has to wait for."""
        return next((holder for holder in self._colliding(scope) if holder != asking), None)

    def busy(self, nodes: Iterable[str], asking: Holder) -> frozenset[str]:
        """Those of the nodes that somebody else holds, or holds something above or below of."""
        return frozenset(node for node in nodes if self.in_the_way(Scope(node=node), asking) is not None)

    def _colliding(self, scope: Scope) -> Iterator[Holder]:
        if scope.storage:
            yield from (self._storages if scope.whole else self._whole).at(scope.storage)
        if scope.node:
            for node in above(scope.node):
                yield from self._nodes.at(node)
            yield from self._below.at(scope.node)

    def _places(self, scope: Scope) -> Iterator[tuple[Index, str]]:
        if scope.storage:
            yield self._storages, scope.storage
            if scope.whole:
                yield self._whole, scope.storage
        if scope.node:
            yield self._nodes, scope.node
            for node in above(scope.node):
                yield self._below, node
