"""A mount point for tests of its door: the orders given to it, and what is found in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage_service.doors.folders import FolderMount
from storage_service.rules.work import (
    ACQ_MARKER,
    RUN_MARKER,
    Failed,
    KeepFile,
    MakeFolder,
    Result,
    SyncData,
    WriteMarker,
)

MP = "file:///"
RUN = "root/beam/run_1"
ACQ = "root/beam/run_1/acq_1"


class Place:
    """A mount point, the folder outside it that nothing may reach, and a scripts folder."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "mount"
        self.outside = top / "outside"
        self.scripts = top / "scripts"
        for folder in (self.root, self.outside, self.scripts):
            folder.mkdir(parents=True)
        self.mount = FolderMount(MP, self.root, self.scripts)

    def tree(self) -> dict[str, str | None]:
        """Everything below the mount: a file's text, `-> target` of a link, nil for a folder."""
        found: dict[str, str | None] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_dir():
                found[name] = None
            else:
                found[name] = path.read_text()
        return found


def marker_of(name: str, id_: str, uid: str, **more: object) -> bytes:
    return json.dumps({"run_id" if name == RUN_MARKER else "acq_id": id_, "uid": uid, **more}).encode()


def make_run(path: str = "beam/run_1", id_: str = RUN, uid: str = "u1", **more: Any) -> MakeFolder:
    return MakeFolder(MP, tuple(path.split("/")), RUN_MARKER, marker_of(RUN_MARKER, id_, uid), id_, uid, **more)


def make_acq(path: str = "beam/run_1/acq_1", id_: str = ACQ, uid: str = "a1", **more: Any) -> MakeFolder:
    more.setdefault("above", ((2, RUN),))
    return MakeFolder(MP, tuple(path.split("/")), ACQ_MARKER, marker_of(ACQ_MARKER, id_, uid), id_, uid, **more)


def write_acq(content: bytes | None = None, uid: str = "a1", **more: Any) -> WriteMarker:
    content = content or marker_of(ACQ_MARKER, ACQ, uid, sealed=True)
    return WriteMarker(MP, ("beam", "run_1", "acq_1"), ACQ_MARKER, content, ACQ, uid, **more)


def sync_acq(uid: str = "a1") -> SyncData:
    return SyncData(MP, ("beam", "run_1", "acq_1"), ACQ_MARKER, ACQ, uid)


def keep(name: str, content: bytes, uid: str = "a1") -> KeepFile:
    return KeepFile(MP, ("beam", "run_1", "acq_1"), ACQ_MARKER, ACQ, uid, name, content)


def put(path: Path, content: str | bytes = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def refused(result: Result, code: str, **details: object) -> Failed:
    assert isinstance(result, Failed), result
    assert result.code == code, result
    assert result.message.endswith(".")
    assert {name: result.details.get(name) for name in details} == details, result
    if code == "unavailable":
        assert result.details["reason"]
        assert MP in result.message
    return result


def old_run(place: Place) -> None:
    put(place.root / "beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "u0"))
    put(place.root / "beam/run_1/acq_1/acquisition.json", marker_of(ACQ_MARKER, ACQ, "a0"))
    put(place.root / "beam/run_1/acq_1/data.raw", "old")
