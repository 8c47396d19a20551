"""What the door to logbooks is asked, and what it answers: frozen values, as those of `work`."""

from __future__ import annotations

from msgspec import Struct, field

from .logbook_records import Book, Owed
from .state import Acq, Run

SERVER, LOGBOOK, ENTRY = "server", "logbook", "entry"
"""What a failure concerns (`concerns` in the details of a `Failed`): nothing on that server is tried until later,
nothing of that logbook, or nothing of the thread of that entry."""


class LookIntoLogbook(Struct, frozen=True):
    """See whether the logbook that a storage names answers, and is what its configuration says."""

    book: Book


class WriteEntry(Struct, frozen=True):
    """Bring one entry of a logbook up to date, or write a reply.

    search  whether it may be there already, under its key: it was tried before, in this life or in an earlier one
    """

    owed: Owed
    search: bool = False


class EntryDone(Struct, frozen=True):
    """The entry is in the logbook, with this number; `key` is what it is found by."""

    key: str
    number: int


class LogbookAnswers(Struct, frozen=True):
    """The logbook is there and takes entries."""


class Content(Struct, frozen=True):
    """What an entry is made of, as it is durable when its turn comes; nil is gone, or was never there.

    acqs      of a run's entry: its newest acquisitions, newest first, each with the first of its parameters
    params    how many parameters each of these has, by id
    ended     of a run's entry: the newest of them that ended, whole
    counts    of a run's entry: acquisitions by `open`, `complete`, `partial`, `aborted`
    number    of the entry, where it is known to be in the logbook
    reply_to  the number of the entry that it replies to, where it is known
    thread    the key of that entry
    """

    run: Run | None = None
    acq: Acq | None = None
    acqs: tuple[Acq, ...] = ()
    params: dict[str, int] = field(default_factory=dict)
    ended: Acq | None = None
    counts: dict[str, int] = field(default_factory=dict)
    number: int | None = None
    reply_to: int | None = None
    thread: str | None = None


class Attachment(Struct, frozen=True):
    """A file that goes with an entry."""

    name: str
    content: bytes


class Draft(Struct, frozen=True):
    """An entry as it is to stand in a logbook. `key` is what it is found by, exactly."""

    key: str
    title: str
    text: str
    attachments: tuple[Attachment, ...] = ()


LogbookOrder = WriteEntry | LookIntoLogbook
LogbookResult = EntryDone | LogbookAnswers
