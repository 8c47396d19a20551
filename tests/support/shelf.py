"""An acquisition's folder for tests of manifests: with its marker, and the orders and checks that tests give."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
from blake3 import blake3

from storage_service.doors.manifest_check import Report, check
from storage_service.doors.manifest_digests import Digests
from storage_service.doors.manifest_worker import carry_out
from storage_service.mount_tables import Mount
from storage_service.rules.state import Link
from storage_service.rules.work import Failed, ManifestDone, WriteManifest

MP = "file:///"
ACQ = "root/g/r/a"
SCHEMA = json.loads((Path(__file__).parents[2] / "protocol/schemas/manifest.json").read_text("utf-8"))
_validator = jsonschema.Draft202012Validator(SCHEMA)


class Shelf:
    """One acquisition `p/r/<name>` below `root`, sealed as `segment`."""

    def __init__(self, root: Path, name: str = "a", uid: str = "u1") -> None:
        self.root, self.name, self.uid = root, name, uid
        self.acq_id = f"root/g/r/{name}"
        self.folder = root / "p/r" / name
        self.folder.mkdir(parents=True)
        self.seal()

    def seal(self, segment: int = 1, state: str = "finished") -> None:
        """Write the marker file, as the seal does."""
        content = {"acq_id": self.acq_id, "uid": self.uid, "segment": segment, "state": state}
        new = self.folder / ".acquisition.json.new"
        new.write_text(json.dumps(content))
        new.rename(self.folder / "acquisition.json")

    def put(self, name: str | bytes, content: bytes = b"data") -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.folder), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def order(self, **more: Any) -> WriteManifest:
        given: dict[str, Any] = {
            "storage_id": "s",
            "acq_id": self.acq_id,
            "uid": self.uid,
            "segment": 1,
            "mp": MP,
            "path": ("p", "r", self.name),
            "name": "manifest-1.json",
            "kind": "blake3",
            "time": "2026-05-04T07:30:00.000000Z",
        }
        return WriteManifest(**{**given, **more})

    def write(self, **more: Any) -> ManifestDone:
        """Write a manifest; it must fit its schema, and its digest must be that of its bytes."""
        order = self.order(**more)
        done = self.tried(order)
        assert isinstance(done, ManifestDone), done
        content = (self.folder / order.name).read_bytes()
        assert done.blake3 == blake3(content).hexdigest()
        document = json.loads(content)
        _validator.validate(document)
        assert (document["count"], document["bytes"]) == (done.files, done.bytes)
        assert not (self.folder / f".{order.name}.new").exists()
        return done

    def converted(
        self, attempt: int = 1, over: tuple[str, ...] = ("manifest-1.json",), **more: Any
    ) -> ManifestDone:
        """Write the manifest after a conversion."""
        name = f"manifest-1-conversion-{attempt}.json"
        return self.write(name=name, conversion=(1, attempt), over=over, **more)

    def tried(self, order: WriteManifest) -> ManifestDone | Failed:
        return carry_out(Mount(self.root), order, lambda count: None)

    def listed(self, name: str = "manifest-1.json") -> dict[str, dict[str, Any]]:
        """The entries of a manifest by path, `acquisition.json` left out."""
        document = json.loads((self.folder / name).read_bytes())
        entries = {each.get("path", each.get("path_b64")): each for each in document["files"]}
        entries.pop("acquisition.json", None)
        return entries

    def link(self, done: ManifestDone, name: str = "manifest-1.json") -> Link:
        """How the next manifest names one that was written."""
        return Link(self.acq_id, self.uid, 1, MP, f"p/r/{self.name}", name, done.blake3)

    def check(self, **more: Any) -> Report:
        with Digests(0, lambda count: None) as digests:
            return check(self.folder, digests.of, **more)

    def damage(self, **more: Any) -> list[tuple[str, str]]:
        """What `check` finds damaged: what, and where."""
        return [(each.what, each.path) for each in self.check(**more).damage]

    def notes(self, **more: Any) -> list[tuple[str, str]]:
        return [(each.what, each.path) for each in self.check(**more).notes]
