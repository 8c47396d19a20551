"""How the typed methods ask, and how what came is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

import msgspec

from storage_protocol import commands as c

from .errors import UnexpectedReplyError
from .spool import Spooled

if TYPE_CHECKING:
    S = TypeVar("S", default=Never)
else:
    S = TypeVar("S")  # at run time, a TypeVar has no default before Python 3.13

T = TypeVar("T")


def read(result: Any, into: type[T], cmd: str) -> T:
    """A result as a record. Raises UnexpectedReplyError when it is shaped otherwise."""
    try:
        return msgspec.convert(result, into)
    except msgspec.ValidationError as error:
        raise UnexpectedReplyError(f"The answer to {cmd} is not what this client knows: {error}.") from None


class Calls(Generic[S]):
    """`call` brings a command to the service; the methods of the classes below it are typed.

    S is Spooled where what changes something may wait in a spool, and Never where everything waits for its answer.
    """

    async def call(self, command: c.Command, *, wait: bool = False) -> Any:
        """Ask any command; its result as it came. `wait`: never a Spooled instead."""
        raise NotImplementedError

    async def _ask(self, command: c.Command, into: type[T]) -> T:
        return read(await self.call(command), into, command.CMD)

    async def _change(self, command: c.Command, into: type[T]) -> T | S:
        return await self._change_to(command, lambda result: read(result, into, command.CMD))

    async def _change_to(self, command: c.Command, answer: Callable[[Any], T]) -> T | S:
        result = await self.call(command)
        waits = isinstance(result, Spooled)
        changed: T | S = result if waits else answer(result)
        return changed
