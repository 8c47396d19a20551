"""The door to the trash: what was set aside is found, brought back or given up, and deleted within bounds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage_protocol.records import TrashEntry
from storage_service.doors.trash import Trash
from storage_service.doors.trash_schedule import DAY_S
from storage_service.doors.trash_sweep import Sweep
from storage_service.rules.trash_work import GiveUp, Listing, LookIntoTrash, RestoreFolder, Seen
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER, TRASH, Done
from tests.support.place import ACQ, MP, RUN, Place, make_acq, make_run, marker_of, old_run, put, refused
from tests.support.shelf import Shelf


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def in_trash(place: Place, uid: str = "u0", name: str = "") -> Path:
    """A run that was set aside, with an acquisition."""
    folder = place.root / TRASH / (name or uid)
    where = {"location": {"mp": MP, "path": "beam/run_1"}, "storage_id": "daq"}
    put(folder / RUN_MARKER, marker_of(RUN_MARKER, RUN, uid, **where))
    put(folder / "deep/acq_1" / ACQ_MARKER, marker_of(ACQ_MARKER, ACQ, f"a-{uid}"))
    put(folder / "deep/acq_1/data.raw", "old data")
    return folder


def restore(uid: str = "u0", **more: Any) -> RestoreFolder:
    return RestoreFolder(MP, uid, ("beam", "run_1"), RUN_MARKER, RUN, uid, **more)


def sweep(
    place: Place,
    keep_s: float = 0.0,
    wall: Callable[[], float] | None = None,
    mono: Callable[[], float] | None = None,
) -> tuple[Sweep, list[str]]:
    """A sweep of the place's trash, and the names that it has told of as expired."""
    told: list[str] = []

    def expired(entries: tuple[TrashEntry, ...]) -> None:
        told.extend(entry.uid for entry in entries)

    clocks: dict[str, Any] = {"wall": wall, "mono": mono} if wall and mono else {}
    return Sweep(place.mount.trash, MP, keep_s, expired, **clocks), told


# Looking


def test_an_entry_is_what_its_marker_says_with_the_markers_of_its_acquisitions(place: Place) -> None:
    in_trash(place)
    found = place.mount.carry_out(LookIntoTrash(MP, "u0", contents=True))
    assert isinstance(found, Seen)
    (entry,) = found.entries
    assert (entry.uid, entry.id, entry.kind, entry.path, entry.storage_id) == (
        "u0",
        RUN,
        "run",
        "beam/run_1",
        "daq",
    )
    assert json.loads(found.marker)["uid"] == "u0"
    assert [json.loads(each)["uid"] for each in found.markers or ()] == ["a-u0"]


def test_the_manifests_of_a_segment_come_with_it_in_their_order(tmp_path: Path) -> None:
    place, shelf = Place(tmp_path / "mount"), Shelf(tmp_path / "shelf")
    shelf.put("a.dat")
    shelf.write()
    shelf.put("b.dat")
    shelf.converted(2)
    shelf.converted(1, over=("manifest-1.json", "manifest-1-conversion-2.json"))
    names = ("manifest-1.json", "manifest-1-conversion-2.json", "manifest-1-conversion-1.json")
    shelf.put("manifest-3.json", b"no manifest")
    shelf.put("sub/manifest-1-conversion-3.json", b"data")
    (shelf.folder / "manifest-7.json").symlink_to("manifest-1.json")
    listing = Listing("u1", 1, "blake3", names)
    for entry, folder in (("run", "deep/acq_1"), ("u1", "")):
        shutil.copytree(shelf.folder, place.root / TRASH / entry / folder, symlinks=True)
        found = place.mount.carry_out(LookIntoTrash(MP, entry, contents=True))
        assert isinstance(found, Seen)
        assert found.listings == (listing,)
    put(place.root / TRASH / "u1" / ACQ_MARKER, json.dumps({"acq_id": ACQ, "uid": "u1", "segment": 2}))
    found = place.mount.carry_out(LookIntoTrash(MP, "u1", contents=True))
    assert isinstance(found, Seen)
    assert found.listings == ()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": 7}', '{"run_id": "r", "location": 3}'])
def test_an_entry_with_a_marker_that_says_nothing_is_listed_all_the_same(place: Place, text: str) -> None:
    put(place.root / TRASH / "u0" / RUN_MARKER, text)
    put(place.root / TRASH / "plain file", "left by somebody")
    found = place.mount.carry_out(LookIntoTrash(MP))
    assert isinstance(found, Seen)
    assert {entry.uid for entry in found.entries} == {"u0", "plain file"}
    assert {entry.path for entry in found.entries} == {None}


def test_only_what_is_older_is_found(place: Place) -> None:
    in_trash(place)
    assert place.mount.carry_out(LookIntoTrash(MP, older_than_s=3600.0)) == Seen(())
    assert place.mount.carry_out(LookIntoTrash(MP, "other")) == Seen(())


def test_the_trash_being_a_link_is_no_trash(place: Place) -> None:
    put(place.outside / "u0" / RUN_MARKER, marker_of(RUN_MARKER, RUN, "u0"))
    (place.root / TRASH).symlink_to(place.outside)
    for order in (LookIntoTrash(MP), GiveUp(MP, ("u0",))):
        refused(place.mount.carry_out(order), "unavailable")
    refused(place.mount.carry_out(restore()), "invalid_name", rule="symlink")
    assert (place.outside / "u0" / RUN_MARKER).exists()


# Restoring


def test_what_is_restored_is_back_whole_and_a_second_try_finds_it_done(place: Place) -> None:
    in_trash(place)
    for _ in range(2):
        assert place.mount.carry_out(restore()) == Done()
        assert {path for path, text in place.tree().items() if text is not None} == {
            "beam/run_1/run.json",
            "beam/run_1/deep/acq_1/acquisition.json",
            "beam/run_1/deep/acq_1/data.raw",
        }


def test_what_stands_in_the_place_stays_and_so_does_the_entry(place: Place) -> None:
    in_trash(place)
    put(place.root / "beam/run_1/precious", "1")
    before = place.tree()
    refused(place.mount.carry_out(restore()), "already_exists", what="folder", id="beam/run_1")
    assert place.tree() == before


def test_what_is_replaced_takes_the_place_in_the_trash(place: Place) -> None:
    in_trash(place)
    put(place.root / "beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "u1"))
    for _ in range(2):
        assert place.mount.carry_out(restore(set_aside="u1")) == Done()
        tree = place.tree()
        assert tree["beam/run_1/deep/acq_1/data.raw"] == "old data"
        assert f"{TRASH}/u1/run.json" in tree
        assert f"{TRASH}/u0" not in tree


def test_an_entry_never_goes_below_what_is_anothers(place: Place) -> None:
    in_trash(place)
    put(place.root / "beam" / ACQ_MARKER, marker_of(ACQ_MARKER, "root/other/a", "x"))
    before = place.tree()
    refused(place.mount.carry_out(restore()), "already_exists", what="folder", id="root/other/a")
    assert place.tree() == before


def test_an_entry_that_is_not_there_is_not_found_and_one_that_changed_is_left(place: Place) -> None:
    refused(place.mount.carry_out(restore()), "not_found", what="trash", id="u0")
    in_trash(place, uid="other", name="u0")
    refused(place.mount.carry_out(restore()), "unavailable")
    assert (place.root / TRASH / "u0").exists()


@pytest.mark.parametrize("name", [".gone-u0", "..", "a/b", ""])
def test_a_name_that_leads_elsewhere_is_no_entry(place: Place, name: str) -> None:
    put(place.root / TRASH / ".gone-u0" / RUN_MARKER, marker_of(RUN_MARKER, RUN, ".gone-u0"))
    refused(place.mount.carry_out(restore(name)), "invalid_name")


# Giving up


def test_what_is_given_up_is_out_of_the_trash_at_once_and_gone_after_a_sweep(place: Place) -> None:
    in_trash(place)
    in_trash(place, "u1")
    for _ in range(2):
        assert place.mount.carry_out(GiveUp(MP, ("u0",))) == Done()
        found = place.mount.carry_out(LookIntoTrash(MP))
        assert isinstance(found, Seen)
        assert [entry.uid for entry in found.entries] == ["u1"]
        refused(place.mount.carry_out(restore()), "not_found")
    sweep(place)[0].sweep(expire=False)
    assert {each.name for each in (place.root / TRASH).iterdir()} == {"u1"}


def test_the_same_name_may_be_given_up_while_the_one_before_is_still_being_deleted(place: Place) -> None:
    for _ in range(3):
        in_trash(place)
        assert place.mount.carry_out(GiveUp(MP, ("u0",))) == Done()
    assert {each.name for each in (place.root / TRASH).iterdir()} == {".gone-u0", ".gone-u0.1", ".gone-u0.2"}
    sweep(place)[0].sweep(expire=False)
    assert list((place.root / TRASH).iterdir()) == []


def test_deleting_takes_everything_below_and_follows_no_link(place: Place) -> None:
    put(place.outside / "folder/precious", "1")
    gone = in_trash(place, name=".gone-u0")
    (gone / "to a file").symlink_to(place.outside / "folder/precious")
    (gone / "to a folder").symlink_to(place.outside / "folder")
    (gone / "nowhere").symlink_to("nowhere")
    (place.root / TRASH / ".gone-link").symlink_to(place.outside / "folder")
    os.link(place.outside / "folder/precious", gone / "same file")
    os.mkfifo(gone / "fifo")
    deep = gone
    for level in range(300):  # deeper than a path may be long, one descriptor a level would be too many
        deep = deep / f"level-{level % 10}"
        deep.mkdir()
    put(deep / "data", "x")
    (gone / "not for us").mkdir(mode=0o500)
    sweep(place)[0].sweep(expire=False)
    assert (place.outside / "folder/precious").exists()
    assert list((place.root / TRASH).iterdir()) == []


def test_a_sweep_goes_on_where_an_earlier_one_ended(place: Place) -> None:
    gone = in_trash(place, name=".gone-u0")
    for number in range(600):
        put(gone / f"f{number}")
    one, _ = sweep(place)
    one.stop()
    one.sweep(expire=False)
    assert gone.exists()
    sweep(place)[0].sweep(expire=False)
    assert not gone.exists()


# Measuring


def test_a_sweep_measures_what_is_there(place: Place) -> None:
    assert place.mount.trash.measured.entries is None
    sweep(place)[0].sweep(expire=False)
    assert (place.mount.trash.measured.entries, place.mount.trash.measured.bytes) == (0, 0)
    folder = in_trash(place)
    (folder / "link").symlink_to("/")
    expected = sum(each.lstat().st_size for each in folder.rglob("*") if not each.is_dir() or each.is_symlink())
    sweep(place)[0].sweep(expire=False)
    assert (place.mount.trash.measured.entries, place.mount.trash.measured.bytes) == (1, expected)
    found = place.mount.carry_out(LookIntoTrash(MP))
    assert isinstance(found, Seen)
    assert (found.entries[0].bytes, found.entries[0].files) == (expected, 4)


def test_what_comes_into_the_trash_and_goes_wakes_the_sweep(place: Place) -> None:
    changed = place.mount.trash.changed
    old_run(place)
    for order in (make_run(set_aside="u0"), restore(set_aside="u1"), GiveUp(MP, ("u1",))):
        changed.clear()
        assert place.mount.carry_out(order) == Done()
        assert changed.is_set()


# Expiry


class Clocks:
    """Both clocks, moved by a test: the wall clock begins where the file system's is."""

    def __init__(self, place: Place) -> None:
        self.real = (place.root / TRASH / "u0").stat().st_ctime
        self.wall, self.mono = self.real, 0.0

    def go(self, seconds: float, *, jump: bool = False) -> None:
        self.wall += seconds
        self.mono += 0.0 if jump else seconds


def hours(each: Sweep, clocks: Clocks, count: int) -> None:
    for _ in range(count):
        clocks.go(3600.0)
        each.sweep(expire=True)


def test_an_entry_expires_when_it_is_older_than_it_is_kept(place: Place) -> None:
    in_trash(place)
    clocks = Clocks(place)
    each, told = sweep(place, 3 * DAY_S, lambda: clocks.wall, lambda: clocks.mono)
    each.sweep(expire=True)
    hours(each, clocks, 3 * 24 - 1)
    assert told == []
    hours(each, clocks, 2)
    assert "u0" in told


def test_with_nothing_to_keep_for_nothing_expires(place: Place) -> None:
    in_trash(place)
    clocks = Clocks(place)
    each, told = sweep(place, 0.0, lambda: clocks.wall, lambda: clocks.mono)
    hours(each, clocks, 100)
    clocks.go(3650 * DAY_S)
    hours(each, clocks, 50)
    assert told == []


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_jumps_ten_years_empties_no_trash_for_a_day(place: Place, restarts: bool) -> None:
    in_trash(place)
    clocks = Clocks(place)
    each, told = sweep(place, 7 * DAY_S, lambda: clocks.wall, lambda: clocks.mono)
    hours(each, clocks, 30)
    clocks.go(3650 * DAY_S, jump=True)
    for _ in range(23):
        if restarts:  # the hold is on the disk, not in memory
            each, told = sweep(place, 7 * DAY_S, lambda: clocks.wall, lambda: clocks.mono)
        hours(each, clocks, 1)
        assert told == []
    clocks.go(-3650 * DAY_S, jump=True)  # somebody looked
    hours(each, clocks, 30)
    assert told == []


def test_an_unreadable_note_of_the_clock_holds_everything_for_a_day(place: Place) -> None:
    in_trash(place)
    put(place.root / TRASH / ".sweep.json", "{")
    clocks = Clocks(place)
    clocks.go(100 * DAY_S)
    each, told = sweep(place, DAY_S, lambda: clocks.wall, lambda: clocks.mono)
    hours(each, clocks, 23)
    assert told == []
    hours(each, clocks, 3)
    assert "u0" in told


def test_the_trash_of_a_mount_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    trash = Trash(MP, tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        trash.page(None, 10)


def test_pages_follow_each_other_without_a_gap(place: Place) -> None:
    for number in range(7):
        in_trash(place, f"u{number}")
    place.mount.carry_out(make_acq("other/acq", "root/other/acq", above=()))
    seen: list[str] = []
    before, more = None, True
    while more:
        page, more = place.mount.trash.page(before, 3)
        seen += [entry.uid for _, entry in page]
        before = (*page[-1][0], MP)
    assert sorted(seen) == [f"u{number}" for number in range(7)]
