"""What `verify` finds: damage is damage, what came later is not, and every link of the chain is looked at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from storage_service.doors.manifest_check import acquisitions_below, check
from storage_service.doors.manifest_digests import Digests
from tests.support.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    shelf.put("a.dat", b"0123456789" * 1000)
    shelf.put("d/b.dat", b"b")
    (shelf.folder / "link").symlink_to("a.dat")
    shelf.write()
    return shelf


def flip(path: Path, at: int = -1) -> None:
    """One bit is another, and the modification time is not."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_is_as_it_was_is_ok(shelf: Shelf) -> None:
    report = shelf.check()
    assert (report.state, report.damage, report.notes, report.touched) == ("ok", [], [], 0)
    assert (report.acq_id, report.uid, report.segment, report.files) == (shelf.acq_id, "u1", 1, 4)


@pytest.mark.parametrize("at", [0, 5_000, -1])
def test_one_bit_is_seen_and_told_where(shelf: Shelf, at: int) -> None:
    flip(shelf.folder / "a.dat", at)
    assert shelf.damage() == [("changed", "a.dat")]
    assert shelf.damage(fast=True) == []


DAMAGES: dict[str, tuple[Callable[[Path], object], tuple[str, str]]] = {
    "missing": (lambda folder: (folder / "a.dat").unlink(), ("missing", "a.dat")),
    "a whole folder": (lambda folder: shutil.rmtree(folder / "d"), ("missing", "d/b.dat")),
    "longer": (lambda folder: (folder / "a.dat").open("ab").write(b"x"), ("changed", "a.dat")),
    "a link now": (lambda folder: _relink(folder / "a.dat", "d/b.dat"), ("kind", "a.dat")),
    "leads elsewhere": (lambda folder: _relink(folder / "link", "d"), ("changed", "link")),
    "the marker": (lambda folder: flip(folder / "acquisition.json", 3), ("changed", "acquisition.json")),
}


def _relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def marked(shelf: Shelf, **more: object) -> None:
    """The service writes the marker file anew, with other values."""
    path = shelf.folder / "acquisition.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}, indent=2))


@pytest.mark.parametrize("kind", ["blake3", "sizes"])
@pytest.mark.parametrize("fast", [False, True])
def test_a_marker_file_of_a_second_seal_is_no_damage_if_what_lasts_of_it_is_the_same(
    shelf: Shelf, kind: str, fast: bool
) -> None:
    marked(shelf, params={"threshold": 200}, warnings=[], conversion=None)
    shelf.write(kind=kind)
    marked(
        shelf, warnings=[{"what": "reopening", "message": "x", "time": "t"}], conversion="failed", storage_id="t"
    )
    report = shelf.check(fast=fast)
    assert (report.state, [(each.what, each.path) for each in report.notes]) == (
        "ok",
        [("rewritten", "acquisition.json")],
    )
    marked(shelf, params={"threshold": 201, "more": "so that it is longer"})
    assert shelf.damage(fast=fast) == [("changed", "acquisition.json")]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(shelf: Shelf, name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(shelf.folder)
    report = shelf.check()
    assert report.state == "damaged"
    assert [(each.what, each.path) for each in report.damage] == [expected]


def test_a_copy_with_other_times_is_as_good(shelf: Shelf, tmp_path: Path) -> None:
    for path in shelf.folder.rglob("*.dat"):
        os.utime(path, ns=(1, 1))
    report = shelf.check()
    assert (report.state, report.touched) == ("ok", 2)
    flip(shelf.folder / "d/b.dat")
    assert shelf.check().touched == 1


def test_what_came_after_the_sealing_is_added_and_no_damage(shelf: Shelf) -> None:
    shelf.put("plot.svg")
    shelf.put(b"d/\xff")
    report = shelf.check()
    assert report.state == "ok"
    assert {(each.what, each.path) for each in report.notes} == {("added", "plot.svg"), ("added", "d/\\xff")}


def test_the_output_of_a_conversion_is_held_against_its_own_manifest(shelf: Shelf) -> None:
    shelf.put("plot.svg", b"plot")
    shelf.converted()
    assert shelf.notes() == []
    flip(shelf.folder / "plot.svg")
    assert shelf.damage() == [("changed", "plot.svg")]


def test_the_next_segment_is_held_against_its_own_manifest(shelf: Shelf) -> None:
    shelf.seal(segment=2, state="open")
    report = shelf.check()
    assert (report.state, [each.what for each in report.notes]) == ("unproven", ["unproven"])
    shelf.put("a.dat", b"replaced in segment 2")
    shelf.seal(segment=2)
    assert shelf.check().state == "unproven"
    shelf.write(name="manifest-2.json", segment=2)
    report = shelf.check()
    assert (report.state, report.segment, report.notes) == ("ok", 2, [])


def test_without_a_manifest_nothing_is_proven(tmp_path: Path) -> None:
    assert Shelf(tmp_path).check().state == "unproven"


def test_without_the_marker_the_rest_is_checked(shelf: Shelf) -> None:
    (shelf.folder / "acquisition.json").unlink()
    assert shelf.damage() == [("missing", "acquisition.json")]
    assert list(acquisitions_below(shelf.root)) == [shelf.folder]


@pytest.mark.parametrize("cut", [0, 1, 60, 400, -1, -2, -30])
def test_a_manifest_that_is_cut_off_is_damage(shelf: Shelf, cut: int) -> None:
    path = shelf.folder / "manifest-1.json"
    path.write_bytes(path.read_bytes()[:cut])
    report = shelf.check()
    assert report.state == "damaged"
    assert {each.what for each in report.damage} == {"manifest"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"count":4', b'"count":5'),
        (b'"size":10000', b'"size":10001'),
        (b"storage-service/manifest/1", b"storage-service/manifest/2"),
        (b'{"path":"a.dat"', b'{"path":"z.dat"'),
        (b'"segment":1,"conversion"', b'"segment":2,"conversion"'),
        (b'"kind":"file"', b'"kind":7'),
    ],
)
def test_a_manifest_that_was_edited_is_damage(shelf: Shelf, old: bytes, new: bytes) -> None:
    path = shelf.folder / "manifest-1.json"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    assert shelf.check().state == "damaged"


def test_a_manifest_that_the_rundb_does_not_know_is_damage(shelf: Shelf) -> None:
    digest = shelf.check().blake3["manifest-1.json"]
    assert shelf.damage(known={"manifest-1.json": digest}) == []
    assert shelf.damage(known={"manifest-1.json": "0" * 64}) == [("manifest", "manifest-1.json")]


# The chain


def test_the_manifest_before_must_be_the_one_that_is_named(tmp_path: Path) -> None:
    first = Shelf(tmp_path)
    done = first.write()
    second = Shelf(tmp_path, "b", "u2")
    second.write(previous=first.link(done))
    assert (second.check().state, second.notes()) == ("ok", [])
    manifest = first.folder / "manifest-1.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"2026", b"2027"))
    assert first.damage() == []  # whoever changes data and manifest alike is found by the next link
    assert second.damage() == [("chain", "manifest-1.json")]
    assert second.damage(chain=False) == []


def test_the_chain_within_one_folder_is_looked_at_wherever_it_was_moved(shelf: Shelf, tmp_path: Path) -> None:
    done = shelf.write()
    shelf.converted(previous=shelf.link(done))
    shelf.folder = shelf.folder.rename(tmp_path / "moved")
    assert (shelf.damage(), shelf.notes()) == ([], [])
    manifest = shelf.folder / "manifest-1.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"2026", b"2027"))
    assert shelf.damage() == [("chain", "manifest-1-conversion-1.json")]


def test_a_link_that_is_not_here_is_told_and_no_damage(tmp_path: Path) -> None:
    first = Shelf(tmp_path)
    done = first.write()
    second = Shelf(tmp_path, "b", "u2")
    second.write(previous=first.link(done))
    trash = tmp_path / ".storage-trash"
    trash.mkdir()
    first.folder.rename(trash / "u1")  # as mode `remove` sets it aside
    assert (second.damage(), second.notes()) == ([], [])
    # Made anew under the same name: it is another one's.
    shutil.rmtree(trash)
    Shelf(tmp_path, uid="u3").write()
    assert (second.damage(), second.notes()) == ([], [("chain", "manifest-1.json")])


@pytest.mark.parametrize("path", ["../outside/p/r/x", "out", "/etc", ""])
def test_a_manifest_names_no_way_out_of_the_mount_point(tmp_path: Path, path: str) -> None:
    outside, mount = Shelf(tmp_path / "outside", "x", "u9"), tmp_path / "mount"
    named = replace(outside.link(outside.write()), path=path, blake3="0" * 64)
    inside = Shelf(mount, "b", "u2")
    (mount / "out").symlink_to("../outside/p/r/x")
    inside.write(previous=named)
    assert (inside.damage(), inside.notes()) == ([], [("chain", "manifest-1.json")])


# Several processes


def test_several_processes_read_the_same(shelf: Shelf) -> None:
    for number in range(300):
        shelf.put(f"many/{number}", b"%d" % number)
    done = shelf.write()
    flip(shelf.folder / "many/77")
    (shelf.folder / "many/78").unlink()
    heard: list[int] = []
    with Digests(2, heard.append) as digests:
        report = check(shelf.folder, digests.of)
    assert {(each.what, each.path) for each in report.damage} == {("changed", "many/77"), ("missing", "many/78")}
    assert heard[-1] <= done.bytes


def test_acquisitions_are_found_below_a_folder_but_not_in_the_trash(tmp_path: Path) -> None:
    shelves = [Shelf(tmp_path, name, name) for name in ("b", "a/deep", "c")]
    Shelf(tmp_path / ".storage-trash/x", "d", "d")
    shelves[0].put("sub/acquisition.json", b"{}")
    assert list(acquisitions_below(tmp_path)) == sorted(each.folder for each in shelves)
    assert json.loads((shelves[0].folder / "acquisition.json").read_bytes())["uid"] == "b"
