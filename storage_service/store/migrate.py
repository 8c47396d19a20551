"""The schema, version by version: numbered SQL files, each applied once, in a transaction of its own."""

from __future__ import annotations

import re
from importlib.resources import files

import apsw

from ..failpoints import passing
from .interface import StoreError

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str]]:
    """(version, SQL), oldest first."""
    found = []
    for entry in files(__package__).joinpath("migrations").iterdir():
        if name := _NAME.fullmatch(entry.name):
            found.append((int(name[1]), entry.read_text(encoding="utf-8")))
    return sorted(found)


def refuse_newer(connection: apsw.Connection, where: str) -> int:
    """The version that a database has. Raises StoreError when it was written by a newer version of the service."""
    version, newest = int(connection.pragma("user_version")), migrations()[-1][0]
    if version > newest:
        raise StoreError(
            f"The database {where} has version {version}, from a newer service; this one knows up to {newest}."
        )
    return version


def migrate(connection: apsw.Connection, where: str) -> None:
    """Bring a database to the newest version. Raises StoreError as `refuse_newer` does."""
    version = refuse_newer(connection, where)
    for number, sql in migrations():
        if number > version:
            passing("migrate.begun")
            with connection:
                connection.execute(sql)
                connection.pragma("user_version", number)
                passing("migrate.written")
            passing("migrate.committed")
