"""The database in its two threads: one that writes, and one that looks up what is not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .desk.batch import Batch
from .handing import Worker
from .rules.state import Key
from .store.interface import Committed


class Writes(Protocol):
    """The write side of a store. Raises what `store.interface` says."""

    def commit(self, batch: Batch, key_date: float) -> Committed: ...

    def tidy(self) -> bool: ...

    def close(self) -> None: ...


class LooksUp(Protocol):
    """The look-ups of a store by key."""

    def look_up(self, keys: Iterable[Key]) -> list[tuple[Key, Any]]: ...

    def document(self, digest: str) -> bytes | None: ...

    def close(self) -> None: ...


class Database:
    """Used by the loop's thread; `tell` is called there with what came of it, an exception too. `crash` hears, in
    the writer's thread, of what leaves nobody knowing what the database has."""

    def __init__(self, writer: Writes, lookups: LooksUp, crash: Callable[[Exception], None]) -> None:
        self._crash = crash
        self._writer = writer
        self._lookups = lookups
        self._writing = Worker("writer")
        self._looking = Worker("look-ups")
        self._ending = False

    def commit(self, batch: Batch, key_date: float, tell: Callable[[Any], None]) -> None:
        """Make a batch durable. What there is to tidy up comes after it was told."""
        self._writing.hand(lambda: self._writer.commit(batch, key_date), tell)
        self._writing.do(self._tidy)

    def _tidy(self) -> None:
        """In the writer's thread, one step, and the next one as long as nobody waits: a commit brings its own."""
        try:
            more = self._writer.tidy()
        except Exception as error:  # noqa: BLE001  nobody waits for what this thread does here
            self._crash(error)
            return
        if more and not self._ending and self._writing.is_idle():  # at an end, the next start goes on
            self._writing.do(self._tidy)

    def look_up(self, keys: list[Key], tell: Callable[[Any], None]) -> None:
        """Find records by their keys."""
        self._looking.hand(lambda: self._lookups.look_up(keys), tell)

    async def ask(self, work: Callable[[LooksUp], Any]) -> Any:
        """What `work` finds, in the thread of the look-ups. Raises what it raises."""
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def tell(result: Any) -> None:
            if not told.done():  # who asked may have been cancelled
                told.set_result(result)

        self._looking.hand(lambda: work(self._lookups), tell)
        found = await told
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Wait for what is under way, and close both sides."""
        self._ending = True
        for worker in (self._writing, self._looking):
            worker.close()
        self._lookups.close()
        self._writer.close()
