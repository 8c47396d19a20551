"""What is owed to logbooks, and what is in them: frozen records, as those of `state`."""

from __future__ import annotations

from msgspec import Struct

RUN, ACQUISITION, PROBLEM = "run", "acquisition", "problem"
"""What an entry is about: a run or an acquisition, and then it is edited later; or one thing that went wrong."""


def run_key(uid: str) -> str:
    """What the entry of a run is found by. No key is a part of another one: logbooks search by parts."""
    return f"run-{uid}"


def acq_key(uid: str) -> str:
    """What the entry of an acquisition is found by."""
    return f"acq-{uid}"


class Book(Struct, frozen=True):
    """Where the entries of a storage id go, and which. It outlives the storage, as its chain of manifests does.

    server   as the client named it; the configuration says where that is
    name     of the logbook on that server
    entries  `run`, `acquisition` or `problems`
    """

    storage_id: str
    server: str
    name: str
    entries: str

    @property
    def logbook(self) -> str:
        return f"{self.server}/{self.name}"


class Page(Struct, frozen=True):
    """An entry that is in a logbook and can be edited and replied to: its number there.

    logbook  `server/name`: the number says nothing in another one
    """

    key: str
    logbook: str
    number: int


class Owed(Struct, frozen=True):
    """What a logbook is still to be told: that the entry of a run or an acquisition is behind, or one problem.

    id          the run or the acquisition; of a problem the key of its entry
    kind        `run`, `acquisition`, `problem`
    node_id     the run or the acquisition that it is about
    run_id      its run
    version     one more each time that the entry falls further behind: what was written tells which it was
    fresh       nobody can have tried to write it before it was owed now: it need not be searched for
    uid         of the node: what is made anew under its id is told of by what is owed then. Empty: whichever run
                is there
    The others are of a problem alone:
    title       in a few words
    text        what is wrong; the node may be gone when its turn comes
    time        when that was
    replies_to  the key of the entry that it replies to; empty: that of its run; nil: it stands by itself
    """

    id: str
    kind: str
    storage_id: str
    server: str
    name: str
    node_id: str
    run_id: str
    version: int = 1
    fresh: bool = False
    uid: str = ""
    title: str = ""
    text: str = ""
    time: str = ""
    replies_to: str | None = None

    @property
    def logbook(self) -> str:
        return f"{self.server}/{self.name}"

    @property
    def thread(self) -> str:
        """Entries of one thread are written in the order in which they fell due."""
        return self.run_id
