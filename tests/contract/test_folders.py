"""The door to mount points that are folders: what it makes, and whose folders it leaves alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage_service.doors import directory
from storage_service.doors.folders import FolderMount
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER, TRASH, Done, ReachMount, Taken, WriteMarker
from tests.support.place import ACQ, MP, RUN, Place, make_acq, make_run, marker_of, put, refused


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# What is made ---------------------------------------------------------------------------------------------------


def test_a_run_and_an_acquisition_get_their_folders_and_markers(place: Place) -> None:
    assert place.mount.carry_out(make_run()) == Done()
    assert place.mount.carry_out(make_acq("beam/run_1/deep/er/acq_1")) == Done()
    assert place.tree() == {
        "beam": None,
        "beam/run_1": None,
        "beam/run_1/run.json": make_run().marker.decode(),
        "beam/run_1/deep": None,
        "beam/run_1/deep/er": None,
        "beam/run_1/deep/er/acq_1": None,
        "beam/run_1/deep/er/acq_1/acquisition.json": make_acq().marker.decode(),
    }


def test_the_same_order_again_changes_nothing(place: Place) -> None:
    place.mount.carry_out(make_run())
    before = place.tree()
    assert place.mount.carry_out(make_run()) == Done()
    assert place.tree() == before


def test_a_mount_may_itself_be_reached_through_a_link(place: Place) -> None:
    (place.top / "by_link").symlink_to(place.root)
    mount = FolderMount(MP, place.top / "by_link", place.scripts)
    assert mount.carry_out(ReachMount(MP)) == Done()
    assert mount.carry_out(make_run()) == Done()
    assert (place.root / "beam/run_1/run.json").is_file()


def test_a_folder_with_files_is_adopted_and_its_files_are_kept(place: Place) -> None:
    put(place.root / "beam/run_1/data.raw", "precious")
    put(place.root / "beam/run_1/run.json", "")
    assert place.mount.carry_out(make_run()) == Done()
    assert place.tree() == {
        "beam": None,
        "beam/run_1": None,
        "beam/run_1/data.raw": "precious",
        "beam/run_1/run.json": make_run().marker.decode(),
    }


def test_the_same_id_with_an_unknown_uid_is_adopted_and_rewritten(place: Place) -> None:
    put(place.root / "beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "of another database"))
    put(place.root / "beam/run_1/data.raw", "precious")
    assert place.mount.carry_out(make_run()) == Done()
    assert (place.root / "beam/run_1/run.json").read_bytes() == make_run().marker
    assert (place.root / "beam/run_1/data.raw").read_text() == "precious"


def test_done_means_that_the_chain_up_to_the_mount_is_synced_the_innermost_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = [place.root / path for path in ("beam/run_1/acq_1", "beam/run_1", "beam", ".")]
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):  # a second time too: the first may have ended before it was synced
        synced.clear()
        assert place.mount.carry_out(make_acq()) == Done()
        assert (place.root / "beam/run_1/acq_1/acquisition.json").stat().st_ino in synced
        assert synced[-4:] == [folder.stat().st_ino for folder in chain]


# Whose folder it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("name", [RUN_MARKER, ACQ_MARKER])
@pytest.mark.parametrize("more", [{}, {"set_aside": "old"}])
def test_a_folder_of_something_else_is_refused_on_the_way_and_at_its_end(
    place: Place, depth: int, name: str, more: dict[str, Any]
) -> None:
    owned = place.root.joinpath(*("beam", "run_1", "acq_1")[:depth])
    put(owned / name, marker_of(name, "root/other", "x1"))
    before = place.tree()
    result = place.mount.carry_out(make_acq(above=((2, RUN),), **more))
    failed = refused(result, "already_exists", what="folder", id="root/other")
    assert "root/other" in failed.message
    assert place.tree() == before


def test_a_marker_above_counts_only_at_the_depth_that_is_its_own(place: Place) -> None:
    put(place.root / "beam/run.json", marker_of(RUN_MARKER, RUN, "u1"))
    refused(place.mount.carry_out(make_acq(above=((2, RUN),))), "already_exists", id=RUN)
    assert place.mount.carry_out(make_acq(above=((1, RUN),))) == Done()


def test_the_same_id_in_the_marker_of_the_other_kind_is_another_thing(place: Place) -> None:
    put(place.root / "beam/run_1/acq_1/run.json", marker_of(RUN_MARKER, ACQ, "a1"))
    refused(place.mount.carry_out(make_acq()), "already_exists", id=ACQ)


def _too_large(path: Path) -> None:
    put(path, marker_of(RUN_MARKER, RUN, "u1") + b" " * (16 << 20))


GARBAGE: dict[str, Callable[[Path], None]] = {
    "no json": lambda path: put(path, "not json"),
    "truncated": lambda path: put(path, marker_of(RUN_MARKER, RUN, "u1")[:-3]),
    "no map": lambda path: put(path, "[1]"),
    "no id": lambda path: put(path, b'{"uid": "u1"}'),
    "an id that is no text": lambda path: put(path, b'{"run_id": 7, "uid": "u1"}'),
    "no utf-8": lambda path: put(path, b'{"run_id": "\xff", "uid": "u1"}'),
    "deep": lambda path: put(path, b"[" * 100_000),
    "huge": _too_large,
    "a folder": lambda path: path.mkdir(parents=True),
    "a link": lambda path: path.symlink_to("data.raw"),
    "a fifo": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("where", ["beam/run_1", "beam"])
def test_a_marker_that_nobody_understands_keeps_its_folder(place: Place, kind: str, where: str) -> None:
    put(place.root / "beam/run_1/data.raw", marker_of(RUN_MARKER, RUN, "u1"))
    GARBAGE[kind](place.root / where / "run.json")
    for order in (make_run(), make_run(set_aside="old")):
        failed = refused(place.mount.carry_out(order), "already_exists", what="folder", id=None)
        assert where in failed.message
        assert "run.json" in failed.message
    assert (place.root / "beam/run_1/data.raw").read_bytes() == marker_of(RUN_MARKER, RUN, "u1")
    assert not (place.root / TRASH).exists()
    if where == "beam/run_1":
        written = WriteMarker(MP, ("beam", "run_1"), RUN_MARKER, make_run().marker, RUN, "u1")
        refused(place.mount.carry_out(written), "already_exists", what="folder", id=None)


@pytest.mark.parametrize("level", ["beam", "beam/run_1"])
@pytest.mark.parametrize("make_it", [put, os.mkfifo])
def test_a_file_in_the_way_is_refused(place: Place, level: str, make_it: Callable[[Path], None]) -> None:
    (place.root / level).parent.mkdir(exist_ok=True)
    make_it(place.root / level)
    for order in (make_run(), make_run(set_aside="old")):
        refused(place.mount.carry_out(order), "already_exists", what="file", id=level)


# Numbered runs --------------------------------------------------------------------------------------------------


def test_a_numbered_run_that_is_not_there_is_made_and_its_repeat_is_done(place: Place) -> None:
    assert place.mount.carry_out(make_run(fresh=True)) == Done()
    before = place.tree()
    assert place.mount.carry_out(make_run(fresh=True)) == Done()
    assert place.tree() == before


FRESH_BLOCKERS: dict[str, Callable[[Path], None]] = {
    "an empty folder": lambda path: path.mkdir(),
    "files": lambda path: put(path / "data.raw", "x"),
    "another uid": lambda path: put(path / "run.json", marker_of(RUN_MARKER, RUN, "u0")),
    "garbage": lambda path: put(path / "run.json", "garbage"),
    "a file": lambda path: put(path, "x"),
    "a link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("kind", FRESH_BLOCKERS)
def test_a_numbered_run_skips_what_is_there_already(place: Place, kind: str) -> None:
    (place.root / "beam").mkdir()
    FRESH_BLOCKERS[kind](place.root / "beam/run_1")
    before = place.tree()
    assert place.mount.carry_out(make_run(fresh=True)) == Taken()
    assert place.tree() == before


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_folder_that_appears_at_the_last_moment_is_not_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch, flagged: bool, fresh: bool
) -> None:
    if not flagged:  # as on a file system that knows no rename without replacing
        monkeypatch.setattr(directory, "_renameat2", None)
    real = os.rename

    def rename(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        put(place.root / "beam/run_1/data.raw", "x")  # after the marker's rename, before the folder's

    monkeypatch.setattr(os, "rename", rename)
    result = place.mount.carry_out(make_run(fresh=fresh))
    if fresh:
        assert result == Taken()
    else:
        refused(result, "unavailable")
    assert place.tree() == {"beam": None, "beam/run_1": None, "beam/run_1/data.raw": "x"}
    monkeypatch.undo()
    assert place.mount.carry_out(make_run(fresh=fresh)) == (Taken() if fresh else Done())
