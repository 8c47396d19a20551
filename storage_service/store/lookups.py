"""Look-ups by key in SQLite: records that are not in memory, through a connection that only reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw

from ..desk.keyring import Remembered
from ..rules.state import Counter, Key, Node, Variable
from .rows import decode_conversion, decode_node, value_of

BUSY_MS = 5000
# "0" is the character after "/": the range is everything below. The + keeps SQLite from going through every
# acquisition that there is by an index on the kind.
ANY_BELOW = "SELECT node_id FROM nodes WHERE node_id > ? AND node_id < ? AND +kind = 'acq' LIMIT 1"


def read_node(db: apsw.Connection, node_id: str) -> Node | None:
    """A node with its parameters; None when there is none of that id."""
    record = db.execute("SELECT record FROM nodes WHERE node_id = ?", (node_id,)).get
    if record is None:
        return None
    rows = db.execute("SELECT name, class, value FROM params WHERE node_id = ?", (node_id,))
    return decode_node(record, {name: value_of(class_, value) for name, class_, value in rows})


class SqliteLookups:
    """Records that are not in memory, for the desk. Used by one thread."""

    def __init__(self, database: Path) -> None:
        self._db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(BUSY_MS)

    def close(self) -> None:
        self._db.close()

    def look_up(self, keys: Iterable[Key]) -> list[tuple[Key, Any]]:
        """What the database has of each key, None where nothing:

        (`node`, id), (`conversion`, id), (`counter`, id),
        (`variable`, namespace and name)                    the record
        (`acqs_of`, run id)                                 every acquisition of the run, as a list
        (`nested`, acquisition id)                          the id of one that lies inside of it or around it
        (`key`, idempotency key)                            what is remembered of it
        """
        found = []
        with self._db:
            for key in keys:
                found.append((key, self._one(*key)))
        return found

    def document(self, digest: str) -> bytes | None:
        """The configuration of this BLAKE3 that was handed in; None when nothing names it any more."""
        content = self._db.execute("SELECT content FROM documents WHERE blake3 = ?", (digest,)).get
        return bytes(content) if content is not None else None

    def _one(self, table: str, id: str) -> Any:
        db = self._db
        match table:
            case "node":
                return read_node(db, id)
            case "conversion":
                record = db.execute("SELECT record FROM conversions WHERE conversion_id = ?", (id,)).get
                return decode_conversion(record) if record is not None else None
            case "counter":
                highest = db.execute("SELECT highest FROM counters WHERE counter_id = ?", (id,)).get
                return Counter(highest) if highest is not None else None
            case "variable":
                ns, _, name = id.partition("/")
                row = db.execute(
                    "SELECT class, value FROM variables WHERE ns = ? AND name = ?", (ns, name)
                ).fetchone()
                return Variable(ns, name, value_of(*row)) if row else None
            case "acqs_of":
                found = db.execute(
                    "SELECT node_id FROM nodes WHERE parent_id = ? AND kind = 'acq' ORDER BY n", (id,)
                )
                return [read_node(db, str(acq_id)) for (acq_id,) in found.fetchall()]
            case "nested":
                return self._nested(id)
            case "key":
                row = db.execute("SELECT fingerprint, result FROM keys WHERE key = ?", (id,)).fetchone()
                return Remembered(*row) if row else None
            case _:
                raise ValueError(table)

    def _nested(self, acq_id: str) -> str | None:
        parts = acq_id.split("/")
        around = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        marks = ",".join("?" * len(around))
        sql = f"SELECT node_id FROM nodes WHERE node_id IN ({marks}) AND kind = 'acq'"  # noqa: S608  marks only
        found = self._db.execute(sql, around).get
        if found is None:
            found = self._db.execute(ANY_BELOW, (f"{acq_id}/", f"{acq_id}0")).get
        return str(found) if found is not None else None
