"""The schema, version by version: numbered SQL files, each applied once, in a transaction of its own."""

from __future__ import annotations

import re
from importlib.resources import files

import apsw

from .interface import StoreError

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str]]:
    """(version, SQL), oldest first."""
    found = []
    for entry in files(__package__).joinpath("migrations").iterdir():
        if name := _NAME.fullmatch(entry.name):
            found.append((int(name[1]), entry.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(connection: apsw.Connection, where: str) -> int:
    """Bring a database to the newest version, which is returned.

    Raises StoreError when it was written by a newer version of the service: it is left as it is.
    """
    steps = migrations()
    newest = steps[-1][0]
    version = int(connection.pragma("user_version"))
    if version > newest:
        raise StoreError(
            f"The database {where} has version {version}, from a newer service; this one knows up to {newest}."
        )
    for number, sql in steps:
        if number > version:
            with connection:
                connection.execute(sql)
                connection.pragma("user_version", number)
    return newest
