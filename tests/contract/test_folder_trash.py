"""The door to mount points that are folders: what is set aside is never lost."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from storage_service.doors import directory
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER, TRASH, Done
from tests.support.place import ACQ, RUN, Place, make_run, marker_of, old_run, put, refused


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("flagged", [True, False])
def test_what_stood_there_is_set_aside_whole(place: Place, monkeypatch: pytest.MonkeyPatch, flagged: bool) -> None:
    if not flagged:
        monkeypatch.setattr(directory, "_renameat2", None)
    old_run(place)
    for _ in range(2):  # the second finds the new folder, by its uid, and leaves it alone
        assert place.mount.carry_out(make_run(set_aside="u0")) == Done()
        assert {path: text for path, text in place.tree().items() if text is not None} == {
            f"{TRASH}/u0/run.json": marker_of(RUN_MARKER, RUN, "u0").decode(),
            f"{TRASH}/u0/acq_1/acquisition.json": marker_of(ACQ_MARKER, ACQ, "a0").decode(),
            f"{TRASH}/u0/acq_1/data.raw": "old",
            "beam/run_1/run.json": make_run().marker.decode(),
        }


def test_what_is_set_aside_is_synced_where_it_went_before_where_it_was_and_again_by_a_second_try(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_run(place)
    (place.root / TRASH).mkdir()
    names = {(place.root / path).stat().st_ino: path for path in (TRASH, "beam", ".")}
    done: list[str] = []
    real_sync, real_move = os.fsync, directory.Directory.move

    def fsync(fd: int) -> None:
        real_sync(fd)
        done.append(names.get(os.fstat(fd).st_ino, "new"))

    def move(*args: Any) -> None:
        real_move(*args)
        done.append("move")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(directory.Directory, "move", move)
    assert place.mount.carry_out(make_run(set_aside="u0")) == Done()
    # The trash has its own name before anything is in it, and all of it is synced before the new folder is made.
    assert done[: done.index("new")] == [".", "move", TRASH, "beam"]
    done.clear()
    assert place.mount.carry_out(make_run(set_aside="u0")) == Done()
    assert "move" not in done
    assert done[-4:] == [TRASH, "new", "beam", "."]


def test_what_is_set_aside_gets_its_newest_marker_before_if_it_is_the_one_that_is_meant(place: Place) -> None:
    newest = marker_of(RUN_MARKER, RUN, "u0", params={"x": 1})
    old_run(place)
    assert place.mount.carry_out(make_run(set_aside="u0", aside=newest)) == Done()
    assert (place.root / TRASH / "u0" / RUN_MARKER).read_bytes() == newest
    # A folder that somebody else put there says what it said.
    assert place.mount.carry_out(make_run(uid="u2", set_aside="other", aside=newest)) == Done()
    assert (place.root / TRASH / "other" / RUN_MARKER).read_bytes() == make_run().marker


def test_with_nothing_there_setting_aside_only_makes_the_folder(place: Place) -> None:
    assert place.mount.carry_out(make_run(set_aside="u0")) == Done()
    assert set(place.tree()) == {"beam", "beam/run_1", "beam/run_1/run.json"}


@pytest.mark.parametrize("flagged", [True, False])
def test_what_is_in_the_trash_is_never_replaced_nor_merged(
    place: Place, monkeypatch: pytest.MonkeyPatch, flagged: bool
) -> None:
    if not flagged:
        monkeypatch.setattr(directory, "_renameat2", None)
    put(place.root / TRASH / "u0/first", "1")
    (place.root / TRASH / "u0.1").mkdir()
    put(place.root / "beam/run_1/second", "2")
    assert place.mount.carry_out(make_run(set_aside="u0")) == Done()
    assert {path for path in place.tree() if path.startswith(TRASH)} == {
        TRASH,
        f"{TRASH}/u0",
        f"{TRASH}/u0/first",
        f"{TRASH}/u0.1",
        f"{TRASH}/u0.2",
        f"{TRASH}/u0.2/second",
    }


def test_setting_aside_onto_another_file_system_is_unavailable_and_never_a_copy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_run(place)
    before = place.tree()

    def renameat2(*_: object) -> int:
        ctypes.set_errno(errno.EXDEV)
        return -1

    monkeypatch.setattr(directory, "_renameat2", renameat2)
    failed = refused(place.mount.carry_out(make_run(set_aside="u0")), "unavailable")
    assert "another file system" in failed.message
    assert place.tree() == {TRASH: None, **before}
