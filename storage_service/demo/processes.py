"""The processes of a demo: the service and the producers, each a real one, all ended with it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from storage_client import ServiceUnreachableError, StorageClient
from storage_protocol.commands import Ping
from storage_service.config import VARIABLE
from storage_service.demo.folder import Folder

T = TypeVar("T")

_PATIENCE_S = 20.0  # until the service answers, and until a process that was asked to has ended


class ProcessError(Exception):
    """A process did not do its part. The message is one sentence for a person, and names the log."""


class Processes:
    """Starts processes, and ends them when the `async with` block does."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._producers: list[asyncio.subprocess.Process] = []
        self._service: asyncio.subprocess.Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End them all. Raises ProcessError when the service does not end as it should."""
        for task in self._tasks:
            task.cancel()
        service, everyone = self._service, [*self._producers, *([self._service] if self._service else [])]
        try:
            for process in everyone:
                await _ended(process)
        finally:
            for process in everyone:
                with suppress(ProcessLookupError):
                    process.kill()
        if service is not None and service.returncode != 0 and kind is None:
            raise ProcessError(
                f"The service ended with exit code {service.returncode}; {self._folder.service_log}."
            )

    async def beside(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. Raises ProcessError as soon as a process ends that was started here."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ProcessError(self._lost.result())
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def start_service(self) -> str:
        """Start the service and wait until it answers; its commands endpoint. Raises ProcessError."""
        log = self._folder.service_log
        commands, events = _free_endpoints()
        configuration = (f"--config={self._folder.config}", f"--set=endpoints.commands={commands}")
        words = ("storage_service", "serve", *configuration, f"--set=endpoints.events={events}")
        self._service = await self._start("The service", log, *words)
        async with StorageClient(commands, timeout_s=1.0) as client:
            try:
                await client.call(Ping(), deadline_s=_PATIENCE_S)
            except ServiceUnreachableError as error:
                raise ProcessError(f"{error.message} Its log is {log}.") from None
        return commands

    async def start_producer(self, name: str, endpoint: str, on_samples: Callable[[str, int], None]) -> None:
        """Start a producer and wait until it is ready; from then on it tells `on_samples` how many it has."""
        words = ("storage_service.demo.producer", name, f"--endpoint={endpoint}")
        producer = await self._start(f"The producer {name}", self._folder.producers_log, *words, heard=True)
        self._producers.append(producer)
        ready = asyncio.Event()

        async def listen() -> None:
            while producer.stdout and (line := await producer.stdout.readline()):
                if line == b"ready\n":
                    ready.set()
                else:
                    on_samples(name, int(line))

        self._keep(listen())
        await ready.wait()

    async def _start(self, who: str, log: Path, *words: str, heard: bool = False) -> asyncio.subprocess.Process:
        """Start a module of Python. What it writes goes to its log; when it is to be heard, not what it says."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE)}
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if heard else errors,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo alone, which ends its processes itself
            )

        async def watch() -> None:
            code = await process.wait()
            if not self._lost.done():
                self._lost.set_result(f"{who} ended with exit code {code}; its log is {log}.")

        self._keep(watch())
        return process

    def _keep(self, task: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(task))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and wait until it has, as long as that is in order."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _PATIENCE_S)


def _free_endpoints() -> tuple[str, str]:
    """Two endpoints of this host that are free."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    return f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}"
