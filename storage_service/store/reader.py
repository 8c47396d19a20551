"""What clients read from the store: one record, a page of a list, a search, a replay (SPEC 4).

A read is one snapshot, BEGIN to its end, so that a list and its `last_seq` agree. Records are rendered by
`rules/render.py`, as replies and events are. The SQL stands in `queries/`, by name.

A read ends: a page is cut short when it takes long, and what cannot be cut is given up at a deadline. So no reader
keeps others waiting for ever, nor the write-ahead log from being taken up.

A cursor is the place of the last item of a page, so that what comes and goes meanwhile shifts nothing.
"""

from __future__ import annotations

import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import quote
from uuid import UUID

import apsw
import msgspec
from msgspec import Meta, Raw
from msgspec.structs import replace

from storage_protocol import commands, errors, records
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_protocol.limits import REPLY_BYTES
from storage_protocol.names import INT64_MAX, Value

from ..rules import render
from ..rules.state import Acq, Node, Places, Run
from ..rules.storages import ROOT
from .interface import StoreError
from .replay import Replay
from .rows import decode_conversion, decode_shown_node, decode_storage, encode, value_of
from .search import NEWEST, OLDEST, Key, Search, Sizes, refused
from .statements import Statements

BUSY_MS = 5000
CACHE_KIB = 32 << 10
CONVERSION_STATES = ("queued", "running", "succeeded", "failed", "cancelled")

# What a reply holds besides its items: the envelope, an `id` of 128 characters, the other fields of the result.
_AROUND_ITEMS = 2048

# A page is cut short after so long, and a statement that still looks for its rows is ended. The clock is looked at
# after so many steps of SQLite's machine, which is about each millisecond.
PAGE_S = 2.0
READ_S = 5.0
_STEPS = 20_000

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


_decode_place = msgspec.msgpack.Decoder(tuple[str, Annotated[int, Meta(ge=0, le=INT64_MAX)]]).decode


_USUAL = Sizes()


class Reader:
    """A read-only connection. Used by one thread at a time.

    places     where this host reaches each mount point
    sizes      where one way of a search becomes dearer than the other
    cache_kib  memory that it may take for pages of the database

    Raises StoreError when the database cannot be opened.
    """

    def __init__(
        self, database: Path, places: Places, journal_id: str, sizes: Sizes = _USUAL, cache_kib: int = CACHE_KIB
    ) -> None:
        uri = f"file:{quote(str(database))}?mode=ro"
        try:
            self._db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            self._db.set_busy_timeout(BUSY_MS)
            self._db.execute(
                f"PRAGMA query_only = 1; PRAGMA cache_size = -{cache_kib}; PRAGMA temp_store = memory"
            )
        except apsw.Error as error:
            raise StoreError(f"The database {database} cannot be opened for reading: {error}.") from None
        self._db.set_progress_handler(self._is_late, _STEPS)
        self._statements = Statements(self._db)
        self._replay = Replay(self._statements)
        self._one, self._all = self._statements.one, self._statements.all
        self._began = 0.0
        self._room = 0
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
            commands.ListAnnotations: self._list_annotations,
            commands.ListConversions: self._list_conversions,
            commands.GetConversion: self._get_conversion,
            commands.ReplayEvents: self._replay_events,
            commands.GetVar: self._get_var,
            commands.ListVars: self._list_vars,
        }

    def read(self, command: Command, room: int = REPLY_BYTES) -> bytes | Refusal:
        """The result of a command that only reads, as msgpack, or why there is none.

        room  bytes that it may have; a page ends there, but has always one item

        Raises KeyError for any other command.
        """
        answer = self._reads[type(command)]
        self._began = time.monotonic()
        self._room = room - _AROUND_ITEMS
        try:
            with self._snapshot():
                return answer(command)
        except apsw.InterruptError:
            message = (
                f"{command.CMD} found nothing in {READ_S:g} s; ask for less, by a narrower time, place or kind."
            )
            return errors.unavailable("deadline", message)
        except _OUTSIDE as error:
            return errors.unavailable("database", f"The database cannot be read: {error}.")

    def _is_late(self) -> bool:
        """Whether a statement is to be ended."""
        return time.monotonic() > self._began + READ_S

    def _is_full(self, size: int) -> bool:
        """Whether a page of so many bytes, which has an item, ends before the next one."""
        return size > self._room or time.monotonic() > self._began + PAGE_S

    def status(self) -> dict[str, Any]:
        """What `get_status` tells of the store. Raises StoreError when it cannot be read."""
        self._began = time.monotonic()
        try:
            with self._snapshot():
                counts = dict(self._all("conversions_by_state"))
                first, last, storages = self._one("first_seq"), self._one("last_seq"), self._one("storages_count")
        except (*_OUTSIDE, apsw.InterruptError) as error:
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
        return decode_shown_node(record, {name: value_of(class_, value) for name, class_, value in params})

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

        return self._page("acqs", keys, command.limit, acquisition)

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
        return self._page("nodes", keys, command.limit, self._rendered)

    def _find_nodes(self, command: commands.FindNodes) -> bytes | Refusal:
        place = _place(command.cursor, NEWEST)
        if isinstance(place, Refusal):
            return place
        if refusal := refused(command):
            return refusal
        if not self._visible(command.under):
            return errors.not_found("node", command.under)
        keys = Search(self._db, command, place, self._sizes).keys()
        return self._page("nodes", keys, command.limit, self._rendered)

    def _list_annotations(self, command: commands.ListAnnotations) -> bytes | Refusal:
        place = _place(command.cursor, NEWEST)
        if isinstance(place, Refusal):
            return place
        node = self._node(command.node_id)
        if command.node_id != ROOT and (node is None or not node.visible):
            return errors.not_found("node", command.node_id)
        keys = self._all("annotations", node_id=command.node_id, **_after(place, command.limit))

        def annotation(key: Key) -> records.Annotation:
            name, class_, value, author, at = self._one("annotation", seq=key[1])
            uid = node.uid if node is not None else ""
            return records.Annotation(command.node_id, uid, name, value_of(class_, value), author, at)

        return self._page("annotations", keys, command.limit, annotation)

    def _page(self, name: str, keys: Sequence[Key], limit: int, item: Callable[[Key], Any]) -> bytes:
        """The result of a list. `keys` are the places of its items: one over the limit when there are more."""
        items: list[Raw] = []
        size = 0
        for key in keys[:limit]:
            encoded = encode(item(key))
            size += len(encoded)
            if items and self._is_full(size):
                break
            items.append(Raw(encoded))
        cursor = urlsafe_b64encode(encode(keys[len(items) - 1])).decode() if len(items) < len(keys) else None
        return encode({name: items, "cursor": cursor})

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

        return self._page("conversions", keys, command.limit, conversion)

    def _get_var(self, command: commands.GetVar) -> bytes | Refusal:
        row = self._one("variable", ns=command.ns, name=command.name)
        if row is None:
            return errors.not_found("variable", command.name)
        return encode({"value": value_of(*row)})

    def _list_vars(self, command: commands.ListVars) -> bytes:
        """`more` is there only where the list is cut."""
        found: dict[str, Value] = {}
        size = 0
        with closing(self._statements.rows("variables", ns=command.ns, prefix=command.prefix)) as rows:
            for name, class_, value in rows:
                if not name.startswith(command.prefix):
                    break
                size += len(encode(name)) + len(encode(value))
                if found and self._is_full(size):
                    return encode({"vars": found, "more": True})
                found[name] = value_of(class_, value)
        return encode({"vars": found})

    def _replay_events(self, command: commands.ReplayEvents) -> bytes:
        last_seq, oldest_seq = self._one("last_seq"), self._one("first_seq")
        command = replace(command, after_seq=max(command.after_seq, oldest_seq - 1))
        events: list[Raw] = []
        size, more = 0, False
        with closing(self._replay.bodies(command, last_seq)) as bodies:
            for body in bodies:
                size += len(body)
                more = len(events) == command.limit or (bool(events) and self._is_full(size))
                if more:
                    break
                events.append(Raw(body))
        told = {"events": events, "last_seq": last_seq, "oldest_seq": oldest_seq}
        return encode({**told, "journal_id": self._journal_id, "more": more})


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
