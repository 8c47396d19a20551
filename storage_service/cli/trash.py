"""`storage-service trash`: what `remove` has set aside, brought back or given up."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.filesize import decimal
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from storage_client import StorageClient
from storage_protocol.records import TrashEntry
from storage_service.cli.session import (
    DEFAULT_ENDPOINT,
    REFUSED,
    WRONG_USAGE,
    Endpoint,
    complain,
    say,
    talk,
)

app = App(name="trash", help="Show, restore or empty what was set aside.")

DAY_S = 86_400.0

Mp = Annotated[str | None, Parameter(help="Only this mount point, as clients name it.")]
Json = Annotated[bool, Parameter(negative=(), help="One JSON document a line.")]


@app.command(name="list")
def list_entries(*, mp: Mp = None, json: Json = False, endpoint: Endpoint = DEFAULT_ENDPOINT) -> int:
    """Show what was set aside and is still there, newest first."""

    async def use(client: StorageClient) -> int:
        silent: set[str] = set()
        found = [entry async for entry in _entries(client, mp, silent)]
        if json:
            for entry in found:
                say(msgspec.json.encode(entry).decode())
        else:
            _show(found)
        for each in sorted(silent):
            complain(f"The trash of {each} cannot be looked into now.")
        return REFUSED if silent else 0

    return talk(endpoint, use)


@app.command
def restore(
    uid: str,
    /,
    *,
    mp: Mp = None,
    replace: Annotated[
        bool, Parameter(negative=(), help="Set aside what stands in its place now: a remove is taken back.")
    ] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Move what was set aside back to where it was.

    Parameters
    ----------
    uid
        Its uid, as `trash list` shows it.
    """

    async def use(client: StorageClient) -> int:
        back = await client.restore_trash(uid, mp=mp, replace=replace)
        say(f"{back.id} is back in {back.path} below {back.mp}.")
        if not back.rundb:
            say("Only its files are back: the RunDB has no place for it.")
            say("new_run_storage and new_acq_storage with mode append adopt them.")
        elif back.kind == "run":
            say(f"The RunDB has it again, with {back.acqs} of its acquisitions.")
        else:
            say("The RunDB has it again.")
        return 0

    return talk(endpoint, use)


@app.command
def empty(
    uid: str | None = None,
    /,
    *,
    older_than: Annotated[float, Parameter(help="Only what was set aside so many days ago, or earlier.")] = 0.0,
    mp: Mp = None,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Delete what was set aside, for good.

    Parameters
    ----------
    uid
        The one entry that is meant, as `trash list` shows it; left out, everything.
    """
    if older_than < 0:
        complain(f"--older-than is {older_than:g}; it must be a number of days, 0 or more.")
        return WRONG_USAGE
    if not yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        complain("Nothing was deleted: there is no terminal to ask at, so --yes must say that you are sure.")
        return WRONG_USAGE
    what = f"{uid}" if uid else "everything in the trash"
    where = f" of {mp}" if mp else ""
    age = f" that is older than {older_than:g} days" if older_than else ""
    if not yes and not Confirm.ask(f"Delete {what}{where}{age}, for good?", default=False):
        return REFUSED

    async def use(client: StorageClient) -> int:
        entries = size = 0
        while True:
            gone = await client.empty_trash(mp=mp, uid=uid, older_than_s=older_than * DAY_S)
            entries, size = entries + gone.entries, size + gone.bytes
            if not (gone.more and gone.entries):
                break
        noun = "entry" if entries == 1 else "entries"
        say(f"{entries} {noun} given up, {decimal(size)} as far as measured; the disk is freed in the background.")
        for each in gone.unreachable:
            complain(f"The trash of {each} cannot be looked into now.")
        return REFUSED if gone.unreachable else 0

    return talk(endpoint, use)


async def _entries(client: StorageClient, mp: str | None, silent: set[str]) -> AsyncIterator[TrashEntry]:
    cursor: str | None = None
    while True:
        page = await client.list_trash(mp=mp, limit=1000, cursor=cursor)
        silent.update(page.unreachable)
        for entry in page.entries:
            yield entry
        cursor = page.cursor
        if cursor is None:
            return


def _show(found: list[TrashEntry]) -> None:
    if not found:
        say("The trash is empty.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("uid", no_wrap=True)
    table.add_column("set aside (UTC)", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("files", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    for entry in found:
        known = entry.bytes is not None
        table.add_row(
            Text(entry.uid),
            entry.set_aside_at[:19].replace("T", " "),
            decimal(entry.bytes or 0) if known else "-",
            str(entry.files) if known else "-",
            Text(entry.id or f"unknown, on {entry.mp}"),
        )
    # A pipe gets whole lines, and no terminal's width.
    console = Console(width=None if sys.stdout.isatty() else 4000)
    console.print(table)
    console.print(Text(f"{len(found)} in all, {decimal(sum(each.bytes or 0 for each in found))}"))
