"""The statements of `queries/*.sql`, by the name before each, on one connection."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import apsw


def _read() -> dict[str, str]:
    found = {}
    for subject in ("storages", "nodes", "conversions", "journal", "variables"):
        file = files(__package__) / "queries" / f"{subject}.sql"
        text = re.sub(r"^-- (?!name:).*\n", "", file.read_text("utf-8"), flags=re.M)
        for name, sql in re.findall(r"^-- name: (\w+)\n(.*?);$", text, flags=re.M | re.S):
            found[name] = " ".join(sql.split())
    return found


SQL = _read()


class Statements:
    def __init__(self, database: apsw.Connection) -> None:
        self._db = database

    def one(self, query: str, **bindings: Any) -> Any:
        """The only row of a named query; its only column when it has one; None when there is no row."""
        return self._db.execute(SQL[query], bindings).get

    def all(self, query: str, **bindings: Any) -> list[Any]:
        return self._db.execute(SQL[query], bindings).fetchall()

    def rows(self, query: str, **bindings: Any) -> apsw.Cursor:
        """As `all`, but row by row; to be closed."""
        return self._db.execute(SQL[query], bindings)
