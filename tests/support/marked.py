"""Marker files for tests: runs and acquisitions as the service writes them, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from storage_service.rules import render
from storage_service.rules.marker_files import read_acquisition, read_run
from storage_service.rules.rebuild_work import AcqFile, RunFile
from storage_service.rules.state import Acq, Places, Run

MP = "file:///"
EARLY, LATE = "2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"


def a_run(id: str = "root/g/r", path: str = "p/r", **more: Any) -> Run:
    parent_id, _, name = id.rpartition("/")
    given = {"uid": f"uid-of-{name}", "storage_id": "s", "owner": "", "visible": True, "created_at": EARLY}
    return Run(node_id=id, name=name, parent_id=parent_id, mp=MP, path=path, **{**given, **more})


def an_acq(run: Run, name: str = "a", **more: Any) -> Acq:
    """One that is finished and sealed, unless it is said otherwise."""
    given: dict[str, Any] = {
        "uid": f"uid-of-{name.replace('/', '-')}",
        "started_at": LATE,
        "created_at": LATE,
        "finished_at": LATE,
        "state": "finished",
        "verdict": "complete",
        "sealed": True,
    }
    return Acq(
        node_id=f"{run.node_id}/{name}",
        name=name,
        run_id=run.node_id,
        run_name=run.name,
        storage_id=run.storage_id,
        mp=run.mp,
        path=f"{run.path}/{name}",
        visible=run.visible,
        **{**given, **more},
    )


def run_file(run: Run) -> RunFile:
    """What its run.json says."""
    told = read_run(render.run_marker(run, Places()))
    assert told is not None
    return told


def acq_file(acq: Acq) -> AcqFile:
    """What its acquisition.json says."""
    told = read_acquisition(render.acquisition_marker(acq, Places()))
    assert told is not None
    return told


def lay(root: Path, *nodes: Run | Acq) -> None:
    """Make the folders of these, with their marker files."""
    for node in nodes:
        folder = root / node.path
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(node, Run):
            (folder / "run.json").write_bytes(render.run_marker(node, Places()))
        else:
            (folder / "acquisition.json").write_bytes(render.acquisition_marker(node, Places()))


def lay_many(root: Path, runs: int, acqs: int) -> list[Run | Acq]:
    """So many runs with so many acquisitions each, in folders of two depths; in the order of a walk."""
    made: list[Run | Acq] = []
    for number in range(runs):
        run = a_run(f"root/g/r{number}", f"p/r{number}")
        made.append(run)
        made += [an_acq(run, f"deep/a{n}" if n % 2 else f"b{n}") for n in range(acqs)]
    lay(root, *made)
    return sorted(made, key=lambda node: tuple(part.encode() for part in node.path.split("/")))


def moved(node: Any, **more: Any) -> Any:
    """The same node with something else about it."""
    return replace(node, **more)
