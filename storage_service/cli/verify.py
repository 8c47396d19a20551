"""`storage-service verify`: hold data against their manifests. It needs the files alone, and no service."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from storage_client import StorageClient, StorageError
from storage_protocol.errors import shown as shown_id
from storage_service.cli.session import DEFAULT_ENDPOINT, WRONG_USAGE, Endpoint, complain, say
from storage_service.config import ConfigError, load
from storage_service.doors.manifest_check import Finding, Report, acquisitions_below, check, marker_of
from storage_service.doors.manifest_digests import Digests
from storage_service.mount_tables import folders
from storage_service.rules.work import RUN_MARKER

DAMAGED = 1
NOT_PROVEN = WRONG_USAGE

_PATIENCE_S = 2.0
_MOST_PROCESSES = 4
_LITTLE_BYTES = 64 << 20

Tell = Callable[[int], None]


def verify(
    what: str,
    /,
    *,
    json: Annotated[bool, Parameter(negative=(), help="One JSON document, when all is done.")] = False,
    chain: Annotated[bool, Parameter(help="Whether to look at the manifests before these.")] = True,
    fast: Annotated[bool, Parameter(negative=(), help="Sizes alone; no content is read.")] = False,
    processes: Annotated[int | None, Parameter(help="How many read at the same time.")] = None,
    config: Annotated[Path | None, Parameter(help="The service's configuration, to find an id.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Check data against their manifests, and each manifest against the chain of its storage.

    Exit codes: 0 everything is as it was; 1 something is damaged; 2 there was nothing to check, or not all of it
    has a manifest.

    Parameters
    ----------
    what
        The folder of an acquisition, or one above it; or an id: root/..., of an acquisition, a run or a group.
    """
    if processes is not None and not 1 <= processes <= 64:
        complain("--processes must be 1 to 64.")
        return WRONG_USAGE
    try:
        folders, known = _find(what, config, endpoint)
    except (ConfigError, OSError) as error:
        complain(str(error))
        return WRONG_USAGE
    if not folders:
        complain(f"There is no acquisition in {shown_id(what, 200)}: neither a marker file nor a manifest.")
        return WRONG_USAGE
    reports = []
    total = sum(_listed_bytes(folder) for folder in folders)
    # To start processes takes longer than to read a little.
    most = processes or (min(_MOST_PROCESSES, len(os.sched_getaffinity(0))) if total > _LITTLE_BYTES else 0)
    try:
        with _progress(total, quiet=json or fast) as (tell, above), Digests(most, tell) as digests:
            for folder in folders:
                report = check(folder, digests.of, fast=fast, chain=chain, known=known)
                reports.append(report)
                if not json:
                    above(_lines(report))
    except (BrokenProcessPool, OSError) as error:
        complain(f"The check ended early: {error}")
        return DAMAGED if any(each.state == "damaged" for each in reports) else WRONG_USAGE
    _sum_up(reports, fast, json)
    if any(each.state == "damaged" for each in reports):
        return DAMAGED
    return NOT_PROVEN if any(each.state == "unproven" for each in reports) else 0


# Where it is


def _find(what: str, config: Path | None, endpoint: str) -> tuple[list[Path], dict[str, str]]:
    """The folders of the acquisitions that are meant, and the digests that the service has, by manifest."""
    folder = Path(what)
    if folder.is_dir():
        return list(acquisitions_below(folder)), {}
    if not what.startswith("root/"):
        raise FileNotFoundError(f"{shown_id(what, 200)} is no folder, and an id begins with root/.")
    try:
        place, known = asyncio.run(_ask(what, endpoint))
    except StorageError:
        place, known = None, {}
    if place and Path(place).is_dir():
        return [Path(place)], known
    roots = folders(load(config, os.environ, {}).mounts).values()
    return [found for root in roots for found in _with_id(root, what)], {}


async def _ask(acq_id: str, endpoint: str) -> tuple[str | None, dict[str, str]]:
    """Where a service has the acquisition, and the digests of its manifests, as the journal told them."""
    async with StorageClient(endpoint.replace("://*:", "://127.0.0.1:"), deadline_s=_PATIENCE_S) as client:
        acq = await client.get_acq(acq_id)
        topics, after_seq, more = ("acquisition.manifest_written/",), 0, True
        known = {}
        while more:
            page = await client.replay_events(after_seq, topics=topics, subject=acq_id)
            for event in page.events:
                if event.data["uid"] == acq.uid:
                    known[event.data["name"]] = event.data["manifest_blake3"]
                after_seq = event.seq or after_seq
            more = page.more
        return acq.location.local_path, known


def _with_id(root: Path, id: str) -> Iterator[Path]:
    """The folders below a mount point whose marker has this id, or one below it; other runs are passed over."""
    for folder, below, files in os.walk(root):
        if RUN_MARKER in files:
            run_id = _run_id(Path(folder))
            if not (f"{id}/".startswith(f"{run_id}/") or run_id.startswith(f"{id}/")):
                below.clear()
                continue
            for acquisition in acquisitions_below(Path(folder)):
                acq_id = str(marker_of(acquisition).get("acq_id", ""))
                if acq_id == id or acq_id.startswith(f"{id}/"):
                    yield acquisition
            below.clear()
        else:
            below[:] = sorted(name for name in below if not name.startswith("."))


def _run_id(folder: Path) -> str:
    try:
        return str(msgspec.json.decode((folder / RUN_MARKER).read_bytes())["run_id"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""


def _listed_bytes(folder: Path) -> int:
    """What is to be read in a folder, about: what its newest manifest says of itself at its end."""
    size = 0
    for path in folder.glob("manifest-*.json"):
        try:
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - 128, 0))
                tail = file.read().rpartition(b'"bytes":')[2]
            listed = int(tail.rstrip(b"}\n"))
        except (OSError, ValueError):
            continue
        size = max(size, listed) if "-conversion-" not in path.name else size + listed
    return size


# What is said


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[tuple[Tell, Callable[[list[str]], None]]]:
    """A bar on standard error, where that is a terminal; lines go above it."""
    if quiet or not sys.stderr.isatty():
        yield lambda count: None, lambda lines: say("\n".join(lines))
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def above(lines: list[str]) -> None:
            bar.stop()
            say("\n".join(lines))
            bar.start()

        yield lambda count: bar.update(task, completed=count), above


def _lines(report: Report) -> list[str]:
    what = f"{_many(report.files, 'file')}, {_size(report.bytes)}" if report.files else ""
    head = f"{report.state:<9} {report.acq_id or report.folder}"
    lines = [f"{head}  segment {report.segment}  {what}".rstrip() if report.segment else head]
    lines += [f"    {_line(each)}" for each in report.damage]
    lines += [f"    ({_line(each)})" for each in report.notes]
    if report.touched:
        lines.append(f"    ({_many(report.touched, 'file')} of the same size with another modification time)")
    lines += [f"    {name} has the BLAKE3 {digest}" for name, digest in report.blake3.items()]
    return lines


def _line(finding: Finding) -> str:
    told = f"{finding.what:<10} {finding.path}"
    return f"{told}: {finding.detail}" if finding.detail else told


def _sum_up(reports: list[Report], fast: bool, json: bool) -> None:
    files, size = sum(each.files for each in reports), sum(each.bytes for each in reports)
    counts = {state: sum(each.state == state for each in reports) for state in ("ok", "damaged", "unproven")}
    if json:
        document = {
            "ok": counts["ok"] == len(reports),
            "counts": counts,
            "files": files,
            "bytes": size,
            "fast": fast,
            "acquisitions": reports,
        }
        say(msgspec.json.encode(document).decode())
        return
    how = "compared by size alone" if fast else "compared"
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    say(f"{_many(len(reports), 'acquisition')}, {_many(files, 'file')}, {_size(size)} {how}: {told}")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 4)
    return f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
