"""`storage-service story`: the history of a run or an acquisition, from the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from cyclopts import Parameter

from storage_client import StorageClient
from storage_protocol import times
from storage_protocol.events import Event
from storage_service.cli.lines import brief, clock
from storage_service.cli.session import DEFAULT_ENDPOINT, REFUSED, Endpoint, complain, say, talk


def story(
    id: str,
    /,
    *,
    json: Annotated[bool, Parameter(negative=(), help="One JSON document a line.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Show the history of a run or an acquisition, and of everything below it.

    Parameters
    ----------
    id
        Its id, such as root/commissioning/run_1/threshold_200; a group's or a storage's id is understood too.
    """

    async def use(client: StorageClient) -> int:
        before: Event | None = None
        async for event in _history(client, id):
            say(msgspec.json.encode(event).decode() if json else _line(event, before, id))
            before = event
        if before is None:
            complain(f"The journal has no event about {id!r}.")
            return REFUSED
        return 0

    return talk(endpoint, use)


async def _history(client: StorageClient, id: str) -> AsyncIterator[Event]:
    after_seq, more = 0, True
    while more:
        page = await client.replay_events(after_seq, subject=id)
        for event in page.events:
            yield event
            after_seq = event.seq or after_seq
        more = page.more


def _line(event: Event, before: Event | None, id: str) -> str:
    """Its time, the time since the line before, what happened, and to what below the id."""
    waited_s = 0.0 if before is None else times.from_wire(event.time) - times.from_wire(before.time)
    below = (event.subject or "").removeprefix(id).lstrip("/")
    words = (
        clock(event),
        f"{waited_s:+11.3f} s",
        f"#{event.seq:<6}",
        f"{event.type:<29}",
        below,
        brief(event.data),
    )
    return "  ".join(word for word in words if word).rstrip()
