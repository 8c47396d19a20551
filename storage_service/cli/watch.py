"""`storage-service watch`: events as they happen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from storage_client import StorageClient
from storage_service.cli.lines import event_line
from storage_service.cli.session import DEFAULT_ENDPOINT, Endpoint, say, talk


def watch(
    *topics: str,
    after_seq: Annotated[
        int | None, Parameter(validator=Number(gte=0), help="Begin with the history after this seq.")
    ] = None,
    cursor: Annotated[
        Path | None,
        Parameter(help="Go on after what this file says was shown before, and keep it so; made if there is none."),
    ] = None,
    count: Annotated[int | None, Parameter(validator=Number(gte=1), help="End after so many events.")] = None,
    json: Annotated[bool, Parameter(negative=(), help="One JSON document a line.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Show events as they happen, until interrupted.

    Parameters
    ----------
    topics
        Prefixes such as acquisition. or acquisition.finished/daq/; none: every event of the journal.
    """

    async def use(client: StorageClient) -> int:
        shown = 0
        async with client.events(*topics, after_seq=after_seq, cursor_file=cursor) as events:
            async for event in events:
                say(msgspec.json.encode(event).decode() if json else event_line(event))
                shown += 1
                if shown == count:
                    await events.done()
                    break
        return 0

    return talk(endpoint, use)
