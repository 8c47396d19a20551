"""What any kind of electronic logbook can do, and how an entry gets into one exactly once.

A kind is a class with these three methods (`elog.py` is one). Each call ends in bounded time, whatever the other
side does, and meets every fault of the outside as a `Fault` with `concerns` in its details: the whole `server`,
one `logbook` on it, or the one `entry`.
"""

from __future__ import annotations

from typing import Protocol

from ..failpoints import passing
from ..rules.logbook_work import ENTRY, Content, Draft
from ..rules.work import Fault


class Logbook(Protocol):
    """A server of logbooks. `name` is that of the logbook, as clients give it."""

    async def look(self, name: str) -> None:
        """Whether it is there, takes us, and can be searched by key. Raises Fault."""
        ...

    async def find(self, name: str, key: str) -> int | None:
        """The number of the entry with exactly this key; the first, if a person has copied it. Raises Fault."""
        ...

    async def write(self, name: str, draft: Draft, number: int | None, reply_to: int | None) -> int:
        """A new entry, or the entry `number` written anew; its number. Raises Fault: it may be there all the same,
        unless the fault concerns the `entry`."""
        ...


async def bring_in(
    logbook: Logbook, name: str, draft: Draft, content: Content, search: bool, is_final: bool
) -> int:
    """The entry's number, once it stands in the logbook as it should. Raises Fault.

    It can be done twice with the same result: what may be there is looked for by its key. One that `is_final` is
    never edited: found, it is done. One that a person has deleted is written anew.
    """
    number = content.number
    if number is None and search:
        passing("entry.search")
        number = await logbook.find(name, draft.key)
        if number is not None and is_final:
            return number
    reply_to = content.reply_to
    if reply_to is None and content.thread is not None and number is None:
        reply_to = await logbook.find(name, content.thread)
    passing("entry.write")
    try:
        number = await logbook.write(name, draft, number, reply_to if number is None else None)
    except Fault as fault:
        if fault.details.get("concerns") != ENTRY or (number is None and reply_to is None):
            raise
        number = await _without(logbook, name, draft, number, fault)
    passing("entry.accepted")
    return number


async def _without(logbook: Logbook, name: str, draft: Draft, number: int | None, fault: Fault) -> int:
    """The logbook did not take an edit or a reply: what it was to may have been deleted there, or moved."""
    there = await logbook.find(name, draft.key)
    if there is not None and there == number:
        raise fault
    return await logbook.write(name, draft, there, None)
