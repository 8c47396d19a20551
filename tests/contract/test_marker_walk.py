"""The walk for marker files: a page after the other, everything once, whatever lies about in the folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from storage_service.doors.directory import Directory
from storage_service.doors.marker_walk import PAGE_BYTES, PAGE_S, MarkerWalk
from storage_service.doors.markers import LIMIT_BYTES
from storage_service.rules.rebuild_work import FindMarkers, Found
from storage_service.rules.state import Acq
from tests.support.marked import MP, a_run, an_acq, lay, lay_many
from tests.support.place import Place, put, refused
from tests.support.shelf import Shelf


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def pages(place: Place, path: str = "", most: int = 256, clock: Callable[[], float] | None = None) -> list[Found]:
    """All pages, each with what the page before said."""
    order = FindMarkers(MP, tuple(path.split("/")) if path else (), None, most)
    found: list[Found] = []
    while True:
        with Directory.at(place.root) as root:
            found.append((MarkerWalk(order, clock) if clock else MarkerWalk(order)).page(root))
        after = found[-1].after
        if after is None:
            return found
        assert order.after is None or after > order.after, "it went back"
        order = FindMarkers(MP, order.path, after, most)


def markers(found: list[Found]) -> list[str]:
    """The paths of what was found, in the order of the pages; within one, as a walk has them."""
    return [
        path
        for page in found
        for path in sorted([each.path for each in (*page.runs, *page.acqs)], key=lambda path: path.split("/"))
    ]


def skipped(found: list[Found]) -> dict[str, str]:
    return {each.path: each.reason for page in found for each in page.skipped}


@pytest.mark.parametrize("most", [1, 2, 3, 7, 256])
def test_pages_of_any_size_have_everything_once_and_in_order(place: Place, most: int) -> None:
    made = lay_many(place.root, 4, 5)
    put(place.root / "p/r1/notes/a.txt", "nothing of ours")
    put(place.root / "empty/of/markers/x.txt", "")
    before = place.tree()
    found = pages(place, most=most)
    assert markers(found) == [node.path for node in made]
    assert all(len(page.runs) + len(page.acqs) <= most for page in found)
    folders = sum(path.is_dir() for path in place.root.rglob("*")) + 1
    assert sum(page.folders for page in found) == folders
    assert skipped(found) == {}
    assert place.tree() == before
    uids = {each.path: each.run_uid for page in found for each in page.acqs}
    assert uids == {node.path: f"uid-of-{node.run_name}" for node in made if isinstance(node, Acq)}


def test_a_page_ends_in_time_and_the_walk_does_all_the_same(place: Place) -> None:
    made = lay_many(place.root, 2, 3)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += PAGE_S
        return now

    found = pages(place, clock=clock)
    assert markers(found) == [node.path for node in made]
    assert max(page.folders for page in found) == 1


def test_a_page_ends_when_it_has_bytes_enough(place: Place) -> None:
    run = a_run()
    params = {f"p{n}": "x" * 60_000 for n in range(16)}
    acqs = [an_acq(run, f"a{n}", params=params) for n in range(12)]
    lay(place.root, run, *acqs)
    found = pages(place)
    assert markers(found) == ["p/r", *sorted(acq.path for acq in acqs)]
    assert len(found) == 3
    assert PAGE_BYTES < 5 * 960_000


def test_links_are_not_followed_and_loops_of_them_end(place: Place) -> None:
    run = a_run()
    lay(place.root, run)
    lay(place.outside, a_run("root/g/other", "other"))
    (place.root / "p/r/loop").symlink_to("..")
    (place.root / "self").symlink_to("self")
    (place.root / "out").symlink_to(place.outside)
    (place.root / "p/linked").mkdir()
    (place.root / "p/linked/run.json").symlink_to(place.root / "p/r/run.json")
    found = pages(place)
    assert markers(found) == ["p/r"]
    assert skipped(found) == {"p/linked": "Its run.json cannot be understood."}


def test_the_service_s_own_names_and_data_are_not_entered(place: Place) -> None:
    run = a_run()
    acq = an_acq(run)
    lay(place.root, run, acq)
    shutil.copytree(place.root / "p/r", place.root / ".storage-trash/u0")
    shutil.copytree(place.root / "p/r", place.root / "p/.draft")
    lay(place.root, an_acq(run, "a/inside"))
    found = pages(place)
    assert markers(found) == ["p/r", "p/r/a"]
    assert sum(page.folders for page in found) == 4


@pytest.mark.parametrize("most", [1, 256])
def test_names_that_are_not_utf_8_are_walked_and_told(place: Place, most: int) -> None:
    run = a_run()
    lay(place.root, run, an_acq(run), a_run("root/g/z", "z"))
    strange = os.path.join(os.fsencode(place.root), b"p/\xff\xfe")
    shutil.copytree(os.fsencode(place.root / "p/r"), strange)
    found = pages(place, most=most)
    assert sorted(markers(found)) == sorted(["p/r", "p/r/a", "p/\\xff\\xfe", "p/\\xff\\xfe/a", "z"])


def fifo(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, LIMIT_BYTES + 1)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "a fifo": fifo,
    "huge": huge,
    "garbage": lambda path: path.write_bytes(b"\xff\x00{"),
    "cut off": lambda path: path.write_bytes(b'{"run_id": "root/g/r"'),
    "a list": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a folder": lambda path: path.mkdir(),
    "of numbers without end": lambda path: path.write_text('{"segment": 1' + "0" * 5000 + "}"),
}


@pytest.mark.parametrize("name", ["run.json", "acquisition.json"])
@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_marker_is_told_and_keeps_nobody_from_the_rest(place: Place, how: str, name: str) -> None:
    run = a_run("root/g/z", "p/z")
    lay(place.root, run, an_acq(run))
    (place.root / "p/broken").mkdir(parents=True)
    BROKEN[how](place.root / "p/broken" / name)
    lay(place.root, an_acq(a_run("root/g/broken", "p/broken"), "below"))
    found = pages(place)
    assert skipped(found) == {"p/broken": f"Its {name} cannot be understood."}
    # What is below a run that says nothing is no run's; what is below an acquisition is data.
    below = ["p/broken/below"] if name == "run.json" else []
    assert markers(found) == [*below, "p/z", "p/z/a"]
    assert [each.run_uid for page in found for each in page.acqs] == [*("" for _ in below), "uid-of-z"]


def test_an_empty_marker_is_none(place: Place) -> None:
    put(place.root / "p/r/run.json", "")
    found = pages(place)
    assert (markers(found), skipped(found)) == ([], {})


def test_a_folder_with_both_markers_is_not_taken(place: Place) -> None:
    run = a_run()
    lay(place.root, run)
    shutil.copy(place.root / "p/r/run.json", place.root / "p/r/acquisition.json")
    found = pages(place)
    assert markers(found) == []
    assert list(skipped(found)) == ["p/r"]


@pytest.mark.parametrize("most", [1, 256])
def test_what_vanishes_meanwhile_is_told_and_the_walk_goes_on(place: Place, most: int) -> None:
    lay(place.root, *(a_run(f"root/g/{name}", f"p/{name}") for name in ("a", "b", "c")))
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if (place.root / "p/b").exists() and calls == 4:  # once p was listed, and p/a was looked into
            shutil.rmtree(place.root / "p/b")
        return 0.0

    found = pages(place, most=most, clock=clock)
    assert [path for path in markers(found) if path != "p/b"] == ["p/a", "p/c"]
    assert (place.root / "p/b").exists() is False
    if most == 256:
        assert skipped(found) == {"p/b": "It cannot be read: No such file or directory."}


def test_a_page_goes_on_after_a_folder_that_is_gone(place: Place) -> None:
    made = lay_many(place.root, 3, 2)
    first = pages(place, most=1)[0]
    assert first.after == (b"p", b"r0")
    shutil.rmtree(place.root / "p/r0")
    order = FindMarkers(MP, (), first.after)
    found = place.mount.carry_out(order)
    assert isinstance(found, Found)
    assert markers([found]) == [node.path for node in made if not node.path.startswith("p/r0")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(place: Place) -> None:
    lay(place.root, *(a_run(f"root/g/{name}", f"p/{name}") for name in ("a", "b", "c")))
    (place.root / "p/b").chmod(0)
    found = pages(place, most=1)
    (place.root / "p/b").chmod(0o755)
    assert markers(found) == ["p/a", "p/c"]
    assert skipped(found) == {"p/b": "It cannot be read: Permission denied."}


def test_what_lies_too_deep_is_told(place: Place) -> None:
    deep = place.root.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    found = pages(place)
    assert list(skipped(found)) == ["/".join(["d"] * 32)]


# A folder of it


def test_below_a_folder_only_that_is_found_and_what_stands_above_it_is_known(place: Place) -> None:
    made = lay_many(place.root, 3, 3)
    for most in (1, 256):
        found = pages(place, "p/r1", most)
        assert markers(found) == [node.path for node in made if f"{node.path}/".startswith("p/r1/")]
        found = pages(place, "p/r1/deep/a1", most)
        assert markers(found) == ["p/r1/deep/a1"]
        assert found[0].acqs[0].run_uid == "uid-of-r1"
    (place.root / "p/r1/b0/data").mkdir()
    assert markers(pages(place, "p/r1/b0/data")) == []


def test_a_path_that_leads_to_no_folder_is_refused(place: Place) -> None:
    lay(place.root, a_run())
    put(place.root / "p/file", "")
    (place.root / "p/link").symlink_to("r")
    refused(place.mount.carry_out(FindMarkers(MP, ("p", "no"))), "not_found", what="folder", id="p/no")  # type: ignore[arg-type]
    for path in (("p", "link"), ("p", "link", "x")):
        refused(place.mount.carry_out(FindMarkers(MP, path)), "invalid_name", rule="symlink")  # type: ignore[arg-type]
    refused(place.mount.carry_out(FindMarkers(MP, ("p", "file"))), "already_exists", what="file")  # type: ignore[arg-type]
    refused(place.mount.carry_out(FindMarkers(MP, ("..",))), "invalid_name", rule="segment")  # type: ignore[arg-type]


# Manifests


def test_manifests_come_with_their_digests_and_the_newest_of_each_storage(tmp_path: Path) -> None:
    place = Place(tmp_path / "top")
    shelf = Shelf(tmp_path / "shelf")
    run = a_run()
    shelf.write(time="2026-05-04T07:00:00.000000Z")
    shelf.converted(1, time="2026-05-04T09:00:00.000000Z")
    names = ("manifest-1.json", "manifest-1-conversion-1.json", "manifest-1-conversion-2.json")
    shelf.converted(2, over=names[:2], time="2026-05-04T09:00:00.000000Z")
    shelf.put("manifest-7.json", b"no manifest")
    os.mkfifo(shelf.folder / "manifest-8.json")
    lay(place.root, run, an_acq(run, uid="u1"))
    for name in names:
        shutil.copy(shelf.folder / name, place.root / "p/r/a" / name)
    ((acq,),) = [page.acqs for page in pages(place)]
    assert acq.listing is not None
    assert acq.listing.names == names
    digests = {name: blake3((shelf.folder / name).read_bytes()).hexdigest() for name in names}
    found = {proof.link.name: (proof.storage_id, proof.link.blake3) for proof in acq.proofs}
    # Of the same time, the one that lists over the other is the newer.
    assert found == {name: ("s", digests[name]) for name in (names[0], names[2])}


def test_manifests_of_earlier_segments_are_the_newest_where_the_present_one_has_none(tmp_path: Path) -> None:
    place = Place(tmp_path / "top")
    shelf = Shelf(tmp_path / "shelf")
    shelf.write()
    run = a_run()
    lay(place.root, run, an_acq(run, uid="u1", segment=2))
    shutil.copy(shelf.folder / "manifest-1.json", place.root / "p/r/a")
    ((acq,),) = [page.acqs for page in pages(place)]
    assert acq.listing is None
    assert [(proof.link.name, proof.link.segment) for proof in acq.proofs] == [("manifest-1.json", 1)]
    lay(place.root, an_acq(run, uid="another"))
    ((acq,),) = [page.acqs for page in pages(place)]
    assert (acq.listing, acq.proofs) == (None, ())


def test_hidden_and_numbered_runs_say_so_in_their_markers(place: Place) -> None:
    lay(place.root, a_run("root/g/r007", "p/r007", visible=False, numbered="r{n:03}"), a_run())
    (page,) = pages(place)
    assert {each.path: (each.told.rundb, each.told.numbered) for each in page.runs} == {
        "p/r007": (False, "r{n:03}"),
        "p/r": (True, None),
    }
    assert b"rundb" not in (place.root / "p/r/run.json").read_bytes()
