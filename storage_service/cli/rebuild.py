"""`storage-service rebuild`: the RunDB made anew from the marker files below a mount point."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from storage_client import StorageClient, StorageError
from storage_client.replies import Rebuilt
from storage_protocol.commands import RebuildRundb
from storage_service.cli.session import DEFAULT_ENDPOINT, REFUSED, Endpoint, complain, say, talk

_ASK_S = 60.0
_LOOK_S = 0.5


def rebuild(
    *,
    mp: Annotated[str, Parameter(help="The mount point, as clients name it.")] = "file:///",
    path: Annotated[str, Parameter(help="Only what lies in this folder below the mount point.")] = "",
    json: Annotated[bool, Parameter(negative=(), help="The result as one JSON document.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Bring back into the RunDB what the marker files below a mount point tell of and it does not know.

    What it knows stays as it is, and no file is changed. The exit code is 1 when a folder could not be taken.
    """

    async def use(client: StorageClient) -> int:
        shown = asyncio.create_task(_show(client.endpoint)) if sys.stderr.isatty() else None
        try:
            result = await client.call(RebuildRundb(mp=mp, path=path), timeout_s=_ASK_S, deadline_s=None)
        finally:
            if shown is not None:
                shown.cancel()
                await asyncio.gather(shown, return_exceptions=True)
        done = msgspec.convert(result, Rebuilt)
        if json:
            say(msgspec.json.encode(done).decode())
        else:
            say(_sentence(done))
            for each in done.skipped:
                complain(f"{each.path or mp}: {each.reason}")
            if done.skipped_count > len(done.skipped):
                complain(f"... and {done.skipped_count - len(done.skipped)} more folders that could not be taken.")
        return REFUSED if done.skipped_count else 0

    return talk(endpoint, use)


def _sentence(done: Rebuilt) -> str:
    if not (done.groups or done.runs or done.acqs):
        looked = f"{_counted(done.folders, 'folder')} looked into."
        return f"Nothing was missing: {done.known} were known already. {looked}"
    back = (
        f"{_counted(done.groups, 'group')}, {_counted(done.runs, 'run')} and {_counted(done.acqs, 'acquisition')}"
    )
    return f"{back} are back; {done.known} were known already. {_counted(done.folders, 'folder')} looked into."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


async def _show(endpoint: str) -> None:
    """How many folders the service has looked into, as it says itself; over a connection of its own, since a query
    waits for what its connection has asked before."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} folders looked into"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        async with StorageClient(endpoint) as client:
            while True:
                try:
                    folders = (await client.get_status()).queues.get("rebuild_folders", 0)
                    progress.update(task, completed=max(folders, progress.tasks[0].completed))
                except StorageError:
                    pass  # the command itself says what is wrong
                await asyncio.sleep(_LOOK_S)
