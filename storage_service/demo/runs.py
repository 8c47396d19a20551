"""What the demo does: two runs of two acquisitions, through nothing but the client library."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from storage_client import StorageClient
from storage_protocol.events import Event
from storage_protocol.records import Acquisition, Node
from storage_service.demo.folder import CONVERT_SCRIPT
from storage_service.demo.producer import PERIOD_S, STORAGE_ID

RUNS = 2
ACQUISITIONS = 2
"""In each run."""

_PATIENCE_S = 60.0  # for an acquisition of two seconds, and for its conversion
_TABLE = "table.csv"
_PLOT = "plot.svg"
_ENDED = ("conversion.succeeded", "conversion.failed", "conversion.cancelled")


class Taken(Struct):
    """An acquisition of this demo, and the data of the events that told how it went on."""

    opened: Acquisition
    finished: dict[str, Any] = field(default_factory=dict)
    conversion: dict[str, Any] = field(default_factory=dict)

    @property
    def plot(self) -> Path:
        """Where its plot is, once it is converted."""
        return Path(self.opened.location.local_path or "", _PLOT)

    def faults(self) -> Iterator[str]:
        """What is not as it should be, a sentence each."""
        id = self.opened.acq_id
        if not self.finished:
            yield f"{id} was not finished within {_PATIENCE_S:g} s."
        elif self.finished["verdict"] != "complete":
            missing = ", ".join(self.finished["missing"]) or "nobody"
            failed = ", ".join(str(name) for name in self.finished["failed"]) or "nobody"
            yield f"{id} is {self.finished['verdict']}: missing is {missing}, failed has {failed}."
        if not self.conversion:
            yield f"{id} was not converted within {_PATIENCE_S:g} s."
        elif self.conversion["state"] != "succeeded":
            yield f"The conversion of {id} has {self.conversion['state']}: {self.conversion['reason']}"
        else:
            for name in (_TABLE, _PLOT):
                file = self.plot.with_name(name)
                if not (file.is_file() and file.stat().st_size):
                    yield f"{file} was not written."


class Runs:
    """Takes the runs, while a subscriber follows the events and shows each."""

    def __init__(self, client: StorageClient, show: Callable[[Event], None]) -> None:
        self.taken: dict[str, Taken] = {}
        self._client = client
        self._show = show
        self._news = asyncio.Condition()

    async def configure(self) -> None:
        """Make the storage, or find that of an earlier demo and abort what was left open in it."""
        await self._client.init_storage(STORAGE_ID, "demo", brg_path="demo")
        await self._client.inval_storage(STORAGE_ID, force=True)
        await self._client.config_storage(STORAGE_ID)

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """The subscriber, until it is cancelled."""
        async for event in events:
            self._show(event)
            async with self._news:
                taken = self.taken.get(event.subject or "")
                if taken and event.type == "acquisition.finished":
                    taken.finished = event.data
                elif taken and event.type in _ENDED:
                    taken.conversion = event.data
                self._news.notify_all()

    async def take(self) -> None:
        """Take all runs. Conversions run while the next acquisitions are taken, and are waited for at the end."""
        for _ in range(RUNS):
            params = {"host": platform.node(), "rate [Hz]": round(1 / PERIOD_S)}
            run = await self._client.new_run(STORAGE_ID, "run_{n:03}", params=params)
            for number in range(1, ACQUISITIONS + 1):
                opened = await self._client.new_acq(
                    STORAGE_ID,
                    f"acq_{number}",
                    run.run_name,
                    convert_script=CONVERT_SCRIPT,
                    params={"cpu count": os.cpu_count()},
                )
                taken = self.taken.setdefault(...)
