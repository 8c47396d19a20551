"""Manifests of acquisitions that lie elsewhere: what is hashed is what is there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from msgspec.structs import replace

from storage_service.doors.manifest_format import Entry, ManifestReader
from storage_service.doors.manifest_marker import marker_digest
from storage_service.doors.manifest_worker import Asked, Told, carry_out
from storage_service.rules.work import ACQ_MARKER, OPENED_AGAIN, Failed, ManifestDone, WriteManifest
from tests.support.kinds import SftpSite, Site
from tests.support.place import ACQ, marker_of

FOLDER = "beam/run_1/acq_1"
MARKER = marker_of(ACQ_MARKER, ACQ, "a1", segment=1, state="finished", warnings=[])


def order(site: Site, **more: Any) -> WriteManifest:
    name = more.pop("name", "manifest-1.json")
    path = ("beam", "run_1", "acq_1")
    time = "2026-05-04T07:30:00.000000Z"
    return WriteManifest("s", ACQ, "a1", 1, site.mp, path, name, more.pop("kind", "blake3"), time, **more)


def write(
    site: Site, asked: WriteManifest, read: Callable[[int], None] = lambda count: None
) -> ManifestDone | Failed:
    return carry_out(site.table, asked, read)  # type: ignore[arg-type]


def entries(site: Site, name: str = "manifest-1.json") -> dict[str, Entry]:
    return {each.shown: each for each in ManifestReader(io.BytesIO(site.files()[f"{FOLDER}/{name}"])).entries()}


def sealed(site: Site, **files: bytes) -> None:
    for name, content in files.items():
        site.put(f"{FOLDER}/{name}", content)
    site.put(f"{FOLDER}/{ACQ_MARKER}", MARKER)


def test_every_file_has_size_and_digest_and_the_manifest_its_own(site: Site) -> None:
    large = os.urandom((9 << 20) + 17)
    sealed(site, **{"a.raw": b"", "a-b.raw": b"x", "a/b.raw": b"y" * 10, "large.raw": large})
    read: list[int] = []
    told = write(site, order(site), read.append)
    content = site.files()[f"{FOLDER}/manifest-1.json"]
    assert told == ManifestDone(5, 11 + len(large) + len(MARKER), blake3(content).hexdigest())
    found = entries(site)
    assert list(found) == ["a-b.raw", "a.raw", "a/b.raw", ACQ_MARKER, "large.raw"]
    assert found["large.raw"].blake3 == blake3(large).hexdigest()
    assert found["a.raw"].blake3 == blake3(b"").hexdigest()
    assert found[ACQ_MARKER].lasting_blake3 == marker_digest(MARKER)
    assert all(each.mtime_ns for each in found.values())
    assert sum(read) == told.bytes
    header = json.loads(content)
    assert (header["mp"], header["path"], header["count"]) == (site.mp, FOLDER, 5)
    assert write(site, order(site)) == told  # an earlier try of the same is replaced
    assert [path for path in site.files() if "manifest" in path] == [f"{FOLDER}/manifest-1.json"]


def test_sizes_alone_read_no_data(site: Site) -> None:
    sealed(site, **{"a.raw": b"x" * 1000})
    read: list[int] = []
    told = write(site, order(site, kind="sizes"), read.append)
    assert isinstance(told, ManifestDone)
    assert (entries(site)["a.raw"].size, entries(site)["a.raw"].blake3, read) == (1000, None, [])


def test_a_second_manifest_lists_what_is_new_or_gone(site: Site) -> None:
    sealed(site, **{"a.raw": b"x", "b.raw": b"y"})
    assert isinstance(write(site, order(site)), ManifestDone)
    site.put(f"{FOLDER}/b.raw", b"longer")
    site.put(f"{FOLDER}/c.raw", b"z")
    second = order(site, name="manifest-1-conversion-1.json", conversion=(1, 1), over=("manifest-1.json",))
    assert isinstance(write(site, second), ManifestDone)
    found = entries(site, "manifest-1-conversion-1.json")
    assert {name: each.size for name, each in found.items()} == {"b.raw": 6, "c.raw": 1}


def test_a_folder_of_another_or_opened_again_gets_none(site: Site) -> None:
    site.put(f"{FOLDER}/a.raw", b"x")
    told = write(site, order(site))
    assert isinstance(told, Failed)
    assert told.code == "already_exists"
    sealed(site)
    for marker in (
        marker_of(ACQ_MARKER, ACQ, "a1", segment=2, state="finished"),
        marker_of(ACQ_MARKER, ACQ, "a1", segment=1, state="open"),
    ):
        site.put(f"{FOLDER}/{ACQ_MARKER}", marker)
        told = write(site, order(site))
        assert isinstance(told, Failed)
        assert told.details["reason"] == OPENED_AGAIN
    assert not [path for path in site.files() if "manifest" in path]


def test_an_acquisition_that_is_opened_again_meanwhile_gets_none(site: Site) -> None:
    sealed(site, **{"a.raw": b"x"})
    told = write(
        site,
        order(site),
        lambda count: site.put(
            f"{FOLDER}/{ACQ_MARKER}", marker_of(ACQ_MARKER, ACQ, "a1", segment=1, state="open")
        ),
    )
    assert isinstance(told, Failed)
    assert told.details["reason"] == OPENED_AGAIN
    assert f"{FOLDER}/manifest-1.json" not in site.files()


@pytest.mark.parametrize("site", ["s3"], indirect=True)  # behind SFTP a second is the shortest time
def test_what_changes_while_it_is_read_has_no_digest(site: Site) -> None:
    sealed(site, **{"a.raw": b"x"})
    sizes = iter(range(2, 100))

    def grow(count: int) -> None:
        if count < 90:
            site.put(f"{FOLDER}/a.raw", b"x" * next(sizes))

    told = write(site, order(site), grow)
    assert isinstance(told, ManifestDone)
    assert told.problems == 1
    assert "a.raw" in told.example
    assert (entries(site)["a.raw"].blake3, entries(site)["a.raw"].problem) == (
        None,
        "it changed while it was read",
    )


def test_a_manifest_of_another_is_kept_under_another_name(site: Site) -> None:
    sealed(site, **{"a.raw": b"x"})
    assert isinstance(write(site, order(site)), ManifestDone)
    before = site.files()[f"{FOLDER}/manifest-1.json"]
    site.put(f"{FOLDER}/{ACQ_MARKER}", MARKER.replace(b'"a1"', b'"a2"'))
    assert isinstance(write(site, replace(order(site), uid="a2")), ManifestDone)
    assert site.files()[f"{FOLDER}/manifest-1-of-a1.json"] == before


def test_links_behind_sftp_are_listed_and_not_followed(sftp: Any) -> None:
    site = SftpSite(sftp)
    sealed(site, **{"a.raw": b"x"})
    for name, target in (("link", "a.raw"), ("out", "/etc/passwd")):
        (site.root / FOLDER / name).symlink_to(target)
    assert isinstance(write(site, order(site)), ManifestDone)
    found = entries(site)
    assert [(found[name].kind, found[name].blake3) for name in ("link", "out")] == [("link", None)] * 2
    site.door.close()


@pytest.mark.parametrize("site", ["s3", "sftp"], indirect=True)
def test_a_process_of_its_own_writes_one_and_ends(site: Site) -> None:
    sealed(site, **{"a.raw": b"x"})
    asked = msgspec.json.encode(Asked(site.table, order(site)), enc_hook=str) + b"\n"
    command = [sys.executable, "-W", "error", "-m", "storage_service.doors.manifest_worker", str(os.getpid())]
    done = subprocess.run(command, input=asked, capture_output=True, timeout=60, check=True)
    told = msgspec.json.decode(done.stdout.splitlines()[-1], type=Told)
    assert isinstance(told.result, ManifestDone)
    assert told.result.blake3 == blake3(site.files()[f"{FOLDER}/manifest-1.json"]).hexdigest()
    assert done.stderr == b""
