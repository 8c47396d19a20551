"""`storage-service demo`: a service, three producers and two runs, on this host and in a folder of its own."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from storage_client import StorageClient, StorageError
from storage_protocol import times
from storage_protocol.events import Event
from storage_protocol.records import AcquisitionNode, Node
from storage_service.cli.session import WRONG_USAGE, complain
from storage_service.demo.folder import Folder, FolderError
from storage_service.demo.processes import ProcessError, Processes
from storage_service.demo.producer import SAMPLES
from storage_service.demo.runs import Runs
from storage_service.demo.sampling import SOURCES

FAILED = 1
TERMINATED = 143  # as a shell reports a program that SIGTERM ended

_WIDTH = 120  # of what goes into a pipe or a file
_STYLES = {
    "failed": "bold red",
    "aborted": "red",
    "warning": "yellow",
    "finished": "bold green",
    "succeeded": "green",
}


def demo(*, keep: Path | None = None) -> int:
    """See the service at work, in a folder of its own.

    It starts a real service and three processes that sample this host (CPU, memory, disks, network) at 100 Hz,
    and takes two runs of two acquisitions of two seconds, each converted into a table and a plot.

    Parameters
    ----------
    keep
        Where all of it goes: a folder that is new, empty, or an earlier demo's, which goes on. Without it, a new
        temporary folder.
    """
    try:
        folder = Folder(keep)
    except FolderError as error:
        complain(str(error))
        return WRONG_USAGE
    except OSError as error:
        complain(f"{keep or 'A temporary folder'} cannot be written: {error.strerror}.")
        return WRONG_USAGE
    code = None
    try:
        code = asyncio.run(_demo(folder, Screen()))
    except asyncio.CancelledError:
        return TERMINATED
    finally:
        if code is None and folder.temporary:
            shutil.rmtree(folder.path, ignore_errors=True)
    return code


class Screen:
    """What people see of the demo: lines of text, and on a terminal a bar for each producer below them."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = _WIDTH
        self.bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("samples"),
            console=self.console,
            transient=True,
            expand=True,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {name: self.bars.add_task(name, total=SAMPLES) for name in SOURCES}
        self._began_at: float | None = None

    def say(self, line: str = "", style: str = "") -> None:
        """A line that is never cut or broken: it may be a path to be copied."""
        self.console.print(Text(line, style), soft_wrap=True)

    def head(self, line: str) -> None:
        """A line above what belongs together."""
        self.say()
        self.say(line, "bold")

    def show_event(self, event: Event) -> None:
        """A line as long as the terminal is wide."""
        at = times.from_wire(event.time)
        self._began_at = at if self._began_at is None else self._began_at
        line = Text()
        line.append(f"{at - self._began_at:7.3f} s  ", "dim")
        line.append(f"{event.type:<30}", _STYLES.get(event.type.rpartition(".")[2], "cyan"))
        line.append(f"{(event.subject or '').removeprefix('root/demo/'):<13}  ")
        line.append(_told(event), "dim")
        self.console.print(line, no_wrap=True, overflow="ellipsis", crop=self.console.is_terminal)
        if event.type == "acquisition.started":
            for name in self._tasks:
                self.show_samples(name, 0)

    def show_samples(self, producer: str, samples: int) -> None:
        """How far a producer is."""
        self.bars.update(self._tasks[producer], completed=samples)

    async def show_rundb(self, runs: Runs) -> None:
        """The RunDB as a tree."""
        self.head("The RunDB")
        branches = {"root": Tree("root")}
        async for node in runs.nodes():
            branches[node.id] = branches[node.parent_id or "root"].add(_label(node))
        self.console.print(branches["root"])

    def show_finished(self, runs: Runs) -> None:
        """The `acquisition.finished` events, and how the conversions ended."""
        self.head("The finished acquisitions")
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("acquisition", no_wrap=True)
        table.add_column("verdict")
        table.add_column("samples", justify="right")
        table.add_column("bytes", justify="right")
        table.add_column("conversion")
        for acq_id, finished in runs.finished.items():
            summaries = [mark["summary"] for mark in finished["producers"]]
            samples = " + ".join(str(summary.get("samples", "?")) for summary in summaries)
            size = sum(summary.get("bytes", 0) for summary in summaries)
            conversion = runs.conversions.get(acq_id, {}).get("state", "")
            table.add_row(acq_id, finished["verdict"], samples, f"{size:,}", conversion)
        self.console.print(table)


async def _demo(folder: Folder, screen: Screen) -> int:
    loop, myself = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: myself and myself.cancel())
    screen.say("A service, three producers, two runs of two acquisitions of two seconds.", "bold")
    screen.say(f"Everything is in {folder.path}")
    faults = []
    try:
        async with Processes(folder) as processes:
            faults += await processes.beside(_play(processes, screen))
    except* (ProcessError, StorageError) as errors:
        faults += [str(error) for error in errors.exceptions]
    screen.say()
    if faults:
        for fault in faults:
            screen.say(fault, "bold red")
        screen.say(f"The service's log is {folder.service_log}")
        return FAILED
    screen.say("Every acquisition is complete and converted.", "bold green")
    if folder.temporary:
        screen.say("The folder is a temporary one; --keep DIR takes another.", "dim")
    else:
        screen.say(f"Look around in it: storage-service serve --config {folder.config}", "dim")
    return 0


async def _play(processes: Processes, screen: Screen) -> list[str]:
    """The demo while its processes are alive; what went wrong."""
    endpoint = await processes.start_service()
    async with StorageClient(endpoint) as client:
        runs = Runs(client, screen.show_event)
        screen.head(f"The events of the service at {endpoint}")
        with screen.bars:
            async with client.events() as events, asyncio.TaskGroup() as group:
                following = group.create_task(runs.follow(events))
                await runs.configure()
                await asyncio.gather(
                    *(processes.start_producer(name, endpoint, screen.show_samples) for name in SOURCES)
                )
                await runs.take()
                following.cancel()
        await screen.show_rundb(runs)
        screen.show_finished(runs)
        screen.head("The plots, each beside its table.csv")
        for plot in runs.plots():
            screen.say(str(plot))
        return list(runs.faults())


def _told(event: Event) -> str:
    """What an event's data say that its type and its subject do not."""
    data = event.data
    match event.type:
        case "storage.producer_registered":
            return str(data["producer"])
        case "acquisition.started":
            return f"{data['expected']} producers are to mark it"
        case "acquisition.producer_finished":
            return f"{data['producer']}, {data['finished']} of {data['expected']}"
        case "acquisition.finished":
            return str(data["verdict"])
        case "conversion.queued" | "conversion.started" | "conversion.succeeded":
            return str(data["script"])
        case _:
            return str(data.get("reason") or data.get("message") or "")


def _label(node: Node) -> Text:
    """A node's name, for an acquisition how it is, and its parameters."""
    label = Text()
    label.append(node.name, "bold" if node.kind == "run" else "")
    if isinstance(node, AcquisitionNode):
        label.append(f"  {node.state}, {node.verdict}" if node.verdict else f"  {node.state}", "green")
    for param, value in node.params.items():
        label.append(f"  {param} = {value}", "dim")
    return label
