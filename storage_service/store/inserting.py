"""Many rows a statement: each statement takes and gives back the interpreter lock, which the loop needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import apsw

# Rows of one statement, at most: as few statements as there are ones in the number of rows. After each the writer
# waits until the loop lets go of the interpreter. All sizes between would fill the statement cache.
_MOST_ROWS = 512


def insert(db: apsw.Connection, head: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """INSERT rows of equal length; `head` is the statement up to VALUES, `tail` what comes after."""
    at, left = 0, len(rows)
    while left:
        chunk = min(1 << left.bit_length() - 1, _MOST_ROWS)
        values = [value for row in rows[at : at + chunk] for value in row]
        db.execute(_inserting(head, len(rows[at]), chunk, tail), values)
        at, left = at + chunk, left - chunk


@lru_cache(maxsize=64)
def _inserting(head: str, columns: int, rows: int, tail: str) -> str:
    one = "(" + ",".join("?" * columns) + ")"
    return head + ",".join([one] * rows) + tail
