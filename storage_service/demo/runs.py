"""What the demo does: two runs of two acquisitions, through nothing but the client library."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage_client import StorageClient
from storage_protocol.events import Event
from storage_protocol.names import Value
from storage_protocol.records import Acquisition, Node
from storage_service.demo.folder import CONVERT_SCRIPT
from storage_service.demo.producer import PERIOD_S, STORAGE_ID

RUNS = 2
ACQUISITIONS = 2
"""In each run."""

_PATIENCE_S = 60.0  # for an acquisition of two seconds, and for all conversions at the end
_TABLE = "table.csv"
_PLOT = "plot.svg"
_ENDS = {"failed": "has failed", "cancelled": "was cancelled"}
_CONVERSION_ENDS = ("conversion.succeeded", "conversion.failed", "conversion.cancelled")


class Runs:
    """Takes the runs, while a subscriber follows the events and shows each.

    opened       the acquisitions, in their order
    finished     the data of `acquisition.finished`, by acq_id
    conversions  the data of the event that told of a conversion's end, by acq_id
    """

    def __init__(self, client: StorageClient, show: Callable[[Event], None]) -> None:
        self.opened: list[Acquisition] = []
        self.finished: dict[str, dict[str, Any]] = {}
        self.conversions: dict[str, dict[str, Any]] = {}
        self._client = client
        self._show = show
        self._news = asyncio.Condition()

    async def configure(self) -> None:
        """Make the storage; in the folder of an earlier demo, find it and abort what was left open."""
        await self._client.init_storage(STORAGE_ID, "demo", brg_path="demo")
        await self._client.inval_storage(STORAGE_ID, force=True)
        await self._client.config_storage(STORAGE_ID)

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """The subscriber. It never ends by itself."""
        async for event in events:
            self._show(event)
            async with self._news:
                if event.type == "acquisition.finished" and event.subject:
                    self.finished[event.subject] = event.data
                elif event.type in _CONVERSION_ENDS and event.subject:
                    self.conversions[event.subject] = event.data
                self._news.notify_all()

    async def take(self) -> None:
        """Take all runs. While an acquisition is converted the next one is taken already."""
        for _ in range(RUNS):
            params: dict[str, Value] = {"host": platform.node(), "sampling_rate_hz": round(1 / PERIOD_S)}
            run = await self._client.new_run(STORAGE_ID, "run_{n:03}", params=params)
            for number in range(1, ACQUISITIONS + 1):
                acq = await self._client.new_acq(
                    STORAGE_ID, f"acq_{number}", run.run_name, convert_script=CONVERT_SCRIPT
                )
                self.opened.append(acq)
                await self._told(self.finished)
        await self._told(self.conversions)

    async def _told(self, ends: dict[str, dict[str, Any]]) -> None:
        """Wait until all that were opened have ended, or patience has."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S), self._news:
                await self._news.wait_for(lambda: all(acq.acq_id in ends for acq in self.opened))

    async def nodes(self, parent_id: str = "root") -> AsyncIterator[Node]:
        """All of the RunDB, each node before its children."""
        cursor, more = None, True
        while more:
            page = await self._client.list_nodes(parent_id, cursor=cursor)
            for node in page.nodes:
                yield node
                if node.kind != "acq":
                    async for below in self.nodes(node.id):
                        yield below
            cursor = page.cursor
            more = cursor is not None

    def plots(self) -> list[Path]:
        """The plots that are there."""
        return [plot for acq in self.opened if (plot := _folder(acq) / _PLOT).is_file()]

    def faults(self) -> Iterator[str]:
        """What is not as it should be, a sentence each."""
        for acq in self.opened:
            yield from self._faults(acq)

    def _faults(self, acq: Acquisition) -> Iterator[str]:
        finished, conversion = self.finished.get(acq.acq_id), self.conversions.get(acq.acq_id)
        if finished is None:
            yield f"{acq.acq_id} was not finished in {_PATIENCE_S:g} s."
        elif finished["verdict"] != "complete":
            lacking = [f"{name} is missing" for name in finished["missing"]]
            lacking += [f"{name} has failed" for name in finished["failed"]]
            yield f"{acq.acq_id} is {finished['verdict']}: {', '.join(lacking)}."
        if conversion is None:
            yield f"{acq.acq_id} was not converted in {_PATIENCE_S:g} s."
        elif conversion["state"] != "succeeded":
            log = (conversion["log"] or {}).get("local_path", "it has no log")
            how = f"{_ENDS[conversion['state']]}: {conversion['reason']}"
            yield f"The conversion of {acq.acq_id} {how}; {log}."
        else:
            for file in (_folder(acq) / _TABLE, _folder(acq) / _PLOT):
                if not (file.is_file() and file.stat().st_size):
                    yield f"{file} was not written."


def _folder(acq: Acquisition) -> Path:
    return Path(acq.location.local_path or "")
