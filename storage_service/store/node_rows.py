"""Rows of nodes: groups, runs and acquisitions, their parameters, what is derived, noted and searched of them."""

from __future__ import annotations

from typing import Any

import apsw

from ..desk.batch import Batch
from ..rules.readings import FOUND_AS
from ..rules.state import Acq, Group, Node, Run
from .inserting import insert
from .rows import encode_node, value_row

# An open acquisition has no search rows.
_PUT_SEARCH = (
    "INSERT INTO search SELECT name, class, value, n FROM {} JOIN nodes USING (node_id)"
    " WHERE node_id = ? AND state IS NOT 'open'"
)
_PUT_NODE = """
INSERT INTO nodes (node_id, kind, parent_id, visible, at, storage_id, state, verdict, sealed, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (node_id) DO UPDATE SET
    visible = excluded.visible, at = excluded.at, storage_id = excluded.storage_id, state = excluded.state,
    verdict = excluded.verdict, sealed = excluded.sealed, record = excluded.record
"""


def write_nodes(db: apsw.Connection, batch: Batch) -> None:
    """Nodes and their parameters. What is wiped goes first: a node made anew gets a place of its own."""
    for id in batch.wiped:
        db.execute("DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?)", (id,))
        for table in ("params", "derived", "annotations"):
            db.execute(f"DELETE FROM {table} WHERE node_id = ?", (id,))  # noqa: S608  words of this file
        db.execute("DELETE FROM nodes WHERE node_id = ?", (id,))
    for (table, _), record in batch.records.items():
        if table == "node" and isinstance(record, Group | Run | Acq):
            db.execute(_PUT_NODE, _node_row(record))
    for id in batch.unmeasured:
        sql = "DELETE FROM derived WHERE node_id = ? AND name GLOB ?"
        db.execute(sql, (id, f"{FOUND_AS}*"))
    params = [(id, name, *value_row(value)) for (id, name), value in batch.params.items()]
    upsert = " ON CONFLICT (node_id, name) DO UPDATE SET class = excluded.class, value = excluded.value"
    insert(db, "INSERT INTO params VALUES ", params, upsert)
    for id, searched in batch.searched.items():
        db.execute("DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?)", (id,))
        for table in ("params", "derived") if searched else ():
            db.execute(_PUT_SEARCH.format(table), (id,))
    _write_annotations(db, batch)
    for id, name in [*batch.run_params, *batch.derived]:
        db.execute("DELETE FROM search WHERE n = (SELECT n FROM nodes WHERE node_id = ?) AND name = ?", (id, name))
        for table in ("params", "derived"):
            db.execute(_PUT_SEARCH.format(table) + " AND name = ?", (id, name))


def _write_annotations(db: apsw.Connection, batch: Batch) -> None:
    noted = [(seq, id, name, *value_row(value), *by) for seq, id, name, value, *by in batch.annotations]
    insert(db, "INSERT INTO annotations VALUES ", noted)
    derived = [(id, name, *value_row(value)) for (id, name), value in batch.derived.items()]
    upsert = " ON CONFLICT (node_id, name) DO UPDATE SET class = excluded.class, value = excluded.value"
    insert(db, "INSERT INTO derived VALUES ", derived, upsert)


def _node_row(node: Node) -> tuple[Any, ...]:
    """The columns of a node, in the order of `_PUT_NODE`."""
    record = encode_node(node)
    if isinstance(node, Acq):
        place = (node.node_id, "acq", node.run_id, node.visible, node.started_at)
        return (*place, node.storage_id, node.state, node.verdict, node.sealed, record)
    kind, storage_id = ("run", node.storage_id) if isinstance(node, Run) else ("group", None)
    place = (node.node_id, kind, node.parent_id, node.visible, node.created_at)
    return (*place, storage_id, None, None, None, record)
