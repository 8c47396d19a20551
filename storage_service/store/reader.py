"""What clients read from the store: one record, a page of a list, a search, a replay (SPEC 4).

A read is one snapshot, BEGIN to its end, so that a list and its `last_seq` agree. Records are rendered by
`rules/render.py`, as replies and events are. The SQL stands in `queries/`, by name.

A cursor is the place of the last item of a page, so that what comes and goes meanwhile shifts nothing.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import quote
from uuid import UUID

import apsw
import msgspec
from msgspec import Meta, Raw, Struct

from storage_protocol import commands, errors, records
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_protocol.limits import REPLY_BYTES
from storage_protocol.names import INT64_MAX

from ..rules import render
from ..rules.state import Acq, Node, Places, Run
from ..rules.storages import ROOT
from .interface import StoreError
from .rows import decode_conversion, decode_node, decode_storage, encode, value_of
from .search import NEWEST, OLDEST, Key, Search, Sizes, refused

BUSY_MS = 5000
CACHE_KIB = 64 << 10
CONVERSION_STATES = ("queued", "running", "succeeded", "failed", "cancelled")

# What a reply holds besides its items: the envelope, an `id` of 128 characters, the other fields of the result.
_ITEMS_BYTES = REPLY_BYTES - 2048

# A replay looks at every event of a stretch of the journal that is not longer; in a longer one it asks an index.
_SHORT = 20_000
# So many events are followed back by their `prev_seq`, newest first, to find all those of some topics.
_FOLLOWED = 5_000

# The root of the RunDB has no row: it is there before anything is, and nobody made it.
_EPOCH = "1970-01-01T00:00:00.000000Z"
_ROOT_NODE = records.Node(ROOT, str(UUID(int=0)), "group", ROOT, None, "", "", {}, created_at=_EPOCH)

# What the disk and others do to a read; anything else is a defect.
_OUTSIDE = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.NotADBError,
)


class _Link(Struct):
    prev_seq: int


_decode_link = msgspec.msgpack.Decoder(_Link).decode
_decode_place = msgspec.msgpack.Decoder(tuple[str, Annotated[int, Meta(ge=0, le=INT64_MAX)]]).decode


def _queries() -> dict[str, str]:
    """The statements of `queries/*.sql`, by the name before each."""
    found = {}
    for subject in ("storages", "nodes", "conversions", "journal"):
        file = files(__package__) / "queries" / f"{subject}.sql"
        text = re.sub(r"^-- (?!name:).*\n", "", file.read_text("utf-8"), flags=re.M)
        for name, sql in re.findall(r"^-- name: (\w+)\n(.*?);$", text, flags=re.M | re.S):
            found[name] = " ".join(sql.split())
    return found


SQL = _queries()
_USUAL = Sizes()


class Reader:
    """A read-only connection. Used by one thread at a time.

    places  where this host reaches each mount point
    sizes   where one way of a search becomes dearer than the other

    Raises StoreError when the database cannot be opened.
    """

    def __init__(self, database: Path, places: Places, journal_id: str, sizes: Sizes = _USUAL) -> None:
        uri = f"file:{quote(str(database))}?mode=ro"
        try:
            self._db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            self._db.set_busy_timeout(BUSY_MS)
            self._db.execute(
                f"PRAGMA query_only = 1; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = memory"
            )
        except apsw.Error as error:
            raise StoreError(f"The database {database} cannot be opened for reading: {error}.") from None
        self._places = places
        self._journal_id = journal_id
        self._sizes = sizes
        self._reads: dict[type[Command], Callable[[Any], bytes | Refusal]] = {
            commands.GetStorage: self._get_storage,
            commands.ListStorages: self._list_storages,
            commands.GetRun: self._get_run,
            commands.GetAcq: self._get_acq,
            commands.ListAcqs: self._list_acqs,
            commands.GetNode: self._get_node,
            commands.ListNodes: self._list_nodes,
            commands.FindNodes: self._find_nodes,
            commands.ListConversions: self._list_conversions,
            commands.GetConversion: self._get_conversion,
            commands.ReplayEvents: self._replay_events,
        }

    def read(self, command: Command) -> bytes | Refusal:
        """The result of a command that only reads, as msgpack, or why there is none.

        Raises KeyError for any other command.
        """
        answer = self._reads[type(command)]
        try:
            with self._snapshot():
                return answer(command)
        except _OUTSIDE as error:
            return errors.unavailable("database", f"The database cannot be read: {error}.")

    def status(self) -> dict[str, Any]:
        """What `get_status` tells of the store. Raises StoreError when it cannot be read."""
        try:
            with self._snapshot():
                counts = dict(self._all("conversions_by_state"))
                first, last, storages = self._one("first_seq"), self._one("last_seq"), self._one("storages_count")
        except _OUTSIDE as error:
            raise StoreError(f"The database cannot be read: {error}.") from error
        journal = {"journal_id": self._journal_id, "first_seq": first, "last_seq": last}
        conversions = {state: counts.get(state, 0) for state in CONVERSION_STATES}
        return {"journal": journal, "conversions": conversions, "storages": storages}

    def explain(self, command: Command) -> list[str]:
        """How SQLite carries out the statements of a read, for tests: the lines of EXPLAIN QUERY PLAN."""
        seen: list[tuple[str, Any]] = []

        def note(_: apsw.Cursor, sql: str, bindings: Any) -> bool:
            seen.append((sql, bindings))
            return True

        self._db.exec_trace = note
        try:
            self.read(command)
        finally:
            self._db.exec_trace = None
        asked = [(f"EXPLAIN QUERY PLAN {sql}", bindings) for sql, bindings in seen if sql.startswith("SELECT")]
        return [str(line[3]) for sql, bindings in asked for line in self._db.execute(sql, bindings)]

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")  # nothing was written

    def _one(self, query: str, **bindings: Any) -> Any:
        """The only row of a named query; its only column when it has one; None when there is no row."""
        return self._db.execute(SQL[query], bindings).get

    def _all(self, query: str, **bindings: Any) -> list[Any]:
        return self._db.execute(SQL[query], bindings).fetchall()

    def _get_storage(self, command: commands.GetStorage) -> bytes | Refusal:
        record = self._one("storage", storage_id=command.storage_id)
        if record is None:
            return errors.not_found("storage", command.storage_id)
        return encode(render.storage(decode_storage(record)))

    def _list_storages(self, command: commands.ListStorages) -> bytes:
        storages = [render.storage(decode_storage(record)) for (record,) in self._all("storages")]
        return encode({"storages": storages, "last_seq": self._one("last_seq"), "journal_id": self._journal_id})

    def _node_at(self, n: int) -> Node:
        node_id, record = self._one("node_record", n=n)
        params = self._all("node_params", node_id=node_id)
        return decode_node(record, {name: value_of(class_, value) for name, class_, value in params})

    def _node(self, node_id: str) -> Node | None:
        n = self._one("node", node_id=node_id)
        return None if n is None else self._node_at(n)

    def _visible(self, node_id: str) -> bool:
        return node_id == ROOT or bool(self._one("is_visible", node_id=node_id))

    def _get_run(self, command: commands.GetRun) -> bytes | Refusal:
        node = self._node(command.run_id)
        if not isinstance(node, Run):
            return errors.not_found("run", command.run_id)
        return encode(render.run(node, self._places))

    def _get_acq(self, command: commands.GetAcq) -> bytes | Refusal:
        node = self._node(command.acq_id)
        if not isinstance(node, Acq):
            return errors.not_found("acquisition", command.acq_id)
        return encode(render.acquisition(node, self._places))

    def _list_acqs(self, command: commands.ListAcqs) -> bytes | Refusal:
        place = _place(command.cursor, NEWEST)
        if isinstance(place, Refusal):
            return place
        query = "acqs"
        if command.run_id is not None:
            query = "acqs_of_run"
        elif command.state == "open":
            query = "acqs_open"
        elif command.storage_id is not None:
            query = "acqs_of_storage"
        asked = {"run_id": command.run_id, "storage_id": command.storage_id, "state": command.state}
        keys = self._all(query, **asked, **_after(place, command.limit))

        def acquisition(key: Key) -> records.Acquisition:
            return render.acquisition(cast(Acq, self._node_at(key[1])), self._places)

        return _page("acqs", keys, command.limit, acquisition)

    def _get_node(self, command: commands.GetNode) -> bytes | Refusal:
        if command.node_id == ROOT:
            return encode(_ROOT_NODE)
        node = self._node(command.node_id)
        if node is None or not node.visible:
            return errors.not_found("node", command.node_id)
        return encode(render.node(node, self._places))

    def _list_nodes(self, command: commands.ListNodes) -> bytes | Refusal:
        place = _place(command.cursor, OLDEST)
        if isinstance(place, Refusal):
            return place
        if not self._visible(command.parent_id):
            return errors.not_found("node", command.parent_id)
        keys = self._all("children", parent_id=command.parent_id, **_after(place, command.limit))
        return _page("nodes", keys, command.limit, self._rendered)

    def _find_nodes(self, command: commands.FindNodes) -> bytes | Refusal:
        place = _place(command.cursor, NEWEST)
        if isinstance(place, Refusal):
            return place
        if refusal := refused(command):
            return refusal
        if not self._visible(command.under):
            return errors.not_found("node", command.under)
        keys = Search(self._db, command, place, self._sizes).keys()
        return _page("nodes", keys, command.limit, self._rendered)

    def _rendered(self, key: Key) -> records.Node:
        return render.node(self._node_at(key[1]), self._places)

    def _get_conversion(self, command: commands.GetConversion) -> bytes | Refusal:
        record = self._one("conversion", conversion_id=command.conversion_id)
        if record is None:
            return errors.not_found("conversion", command.conversion_id)
        return encode(render.conversion(decode_conversion(record), self._places))

    def _list_conversions(self, command: commands.ListConversions) -> bytes | Refusal:
        place = _place(command.cursor, NEWEST)
        if isinstance(place, Refusal):
            return place
        query = "conversions"
        if command.acq_id is not None:
            query = "conversions_of_acq"
        elif command.state is not None:
            query = "conversions_in_state"
        keys = self._all(query, acq_id=command.acq_id, state=command.state, **_after(place, command.limit))

        def conversion(key: Key) -> records.Conversion:
            record = self._one("conversion_record", n=key[1])
            return render.conversion(decode_conversion(record), self._places)

        return _page("conversions", keys, command.limit, conversion)

    def _replay_events(self, command: commands.ReplayEvents) -> bytes:
        last_seq = self._one("last_seq")
        events: list[Raw] = []
        room, more = _ITEMS_BYTES, False
        with closing(self._replayed(command, last_seq)) as bodies:
            for body in bodies:
                room -= len(body)
                more = len(events) == command.limit or (room < 0 and bool(events))
                if more:
                    break
                events.append(Raw(body))
        told = {"events": events, "last_seq": last_seq, "oldest_seq": self._one("first_seq")}
        return encode({**told, "journal_id": self._journal_id, "more": more})

    def _replayed(self, command: commands.ReplayEvents, last_seq: int) -> Generator[bytes]:
        """The bodies of the events that are asked for, oldest first; one over the limit when there are more."""
        subject, tails = command.subject, self._tails(command)
        if tails is not None and not tails:
            return
        asked: dict[str, Any] = {
            "after": command.after_seq,
            "rows": command.limit + 1,
            "subject": subject,
            "below": f"{subject}/",
            "beyond": f"{subject}0",  # 0 comes after /
            "topics": None if tails is None else json.dumps(list(tails)),
        }
        stretch = last_seq - max(command.after_seq, self._one("first_seq") - 1)
        seqs: Iterable[int] | None = None
        if stretch > _SHORT:
            seqs = self._of_subject(asked, stretch) if subject is not None else None
            if seqs is None and tails is not None:
                seqs = self._followed(tails, command.after_seq)
        if seqs is not None:
            for seq in seqs:
                if (body := self._one("event", seq=seq, **asked)) is not None:
                    yield body
            return
        with closing(self._db.execute(SQL["events"], asked)) as rows:
            for (body,) in rows:
                yield body

    def _tails(self, command: commands.ReplayEvents) -> dict[str, int] | None:
        """The topics that begin as asked and have something new, each with its newest seq; None: all topics."""
        if not command.topics or "" in command.topics:
            return None
        tails: dict[str, int] = {}
        for prefix in command.topics:
            # No topic has the byte ff in it: all that begin with the prefix are before it.
            beyond = prefix.encode() + b"\xff"
            tails |= self._all("topics", prefix=prefix, beyond_prefix=beyond, after=command.after_seq)
        return tails

    def _of_subject(self, asked: dict[str, Any], stretch: int) -> list[int] | None:
        """The seqs of a subject by its index; None where what is below it is so much that to look is cheaper."""
        most = max(_SHORT, stretch // 10)
        if self._one("below_count", most=most + 1, **asked) > most:
            return None
        wanted = asked["rows"] if asked["topics"] is None else -1
        return [seq for (seq,) in self._all("events_of_subject", most=wanted, **asked)]

    def _followed(self, tails: dict[str, int], after_seq: int) -> list[int] | None:
        """The seqs of some topics, from the newest back by `prev_seq`; None when there are too many."""
        seqs: list[int] = []
        for newest in tails.values():
            seq = newest
            while seq > after_seq and (body := self._one("body", seq=seq)) is not None:
                if len(seqs) == _FOLLOWED:
                    return None
                seqs.append(seq)
                seq = _decode_link(body).prev_seq
        return sorted(seqs)


def _place(cursor: str | None, start: Key) -> Key | Refusal:
    """Where a page begins: after the place of its cursor, or at the start."""
    if cursor is None:
        return start
    try:
        return _decode_place(b64decode(cursor, altchars=b"-_", validate=True))
    except (ValueError, msgspec.DecodeError):
        return errors.bad_request(f"cursor is {errors.shown(cursor)}; no page ended with that.", "cursor")


def _after(place: Key, limit: int) -> dict[str, Any]:
    return {"at": place[0], "n": place[1], "rows": limit + 1}


def _page(name: str, keys: Sequence[Key], limit: int, item: Callable[[Key], Any]) -> bytes:
    """The result of a list. `keys` are the places of its items: one over the limit when there are more."""
    items: list[Raw] = []
    room = _ITEMS_BYTES
    for key in keys[:limit]:
        encoded = encode(item(key))
        room -= len(encoded)
        if room < 0 and items:
            break
        items.append(Raw(encoded))
    cursor = urlsafe_b64encode(encode(keys[len(items) - 1])).decode() if len(items) < len(keys) else None
    return encode({name: items, "cursor": cursor})
