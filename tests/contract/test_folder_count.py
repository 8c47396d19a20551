"""The door to mount points that are folders: what is in an acquisition's folder is counted when it is sealed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from storage_protocol.records import DiskUse
from storage_service.rules.work import Done, Synced
from tests.support.place import Place, make_acq, put, sync_acq


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    assert place.mount.carry_out(make_acq()) == Done()
    return place


def folder(place: Place) -> Path:
    return place.root / "beam/run_1/acq_1"


def counted(place: Place) -> DiskUse:
    """Without the marker file, which is one of them."""
    synced = place.mount.carry_out(sync_acq())
    assert isinstance(synced, Synced), synced
    marker = (folder(place) / "acquisition.json").stat()
    disk = synced.disk
    return DiskUse(disk.files - 1, disk.bytes - marker.st_size, disk.allocated - 512 * marker.st_blocks)


def test_an_empty_folder_has_its_marker_alone(place: Place) -> None:
    assert counted(place) == DiskUse(0, 0, 0)


def test_files_of_nested_folders_count_and_folders_do_not(place: Place) -> None:
    for number in range(20):
        put(folder(place).joinpath(*["deeper"] * (number % 3), f"f{number}"), b"x" * number)
    (folder(place) / "empty").mkdir()
    found = counted(place)
    assert (found.files, found.bytes) == (20, sum(range(20)))


def test_a_sparse_file_has_its_size_and_takes_what_it_takes(place: Place) -> None:
    path = folder(place) / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"x" * 4096)
    found = counted(place)
    assert (found.files, found.bytes) == (1, 1 << 30)
    assert found.allocated == 512 * path.stat().st_blocks < 1 << 20


def test_a_loop_of_links_is_not_followed_and_links_count_as_themselves(place: Place) -> None:
    loop = folder(place) / "a" / "b"
    loop.mkdir(parents=True)
    (loop / "up").symlink_to("../..")
    (loop / "out").symlink_to(place.outside)
    (loop / "self").symlink_to("self")
    put(place.outside / "large", b"x" * 100_000)
    found = counted(place)
    assert found.files == 3
    assert found.bytes == sum((loop / name).lstat().st_size for name in ("up", "out", "self"))


def test_what_is_no_plain_file_holds_nobody_up(place: Place) -> None:
    os.mkfifo(folder(place) / "fifo")
    assert counted(place) == DiskUse(1, 0, 0)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[31m", b"-rf", b"x" * 255, " é".encode()])
def test_names_that_are_odd_count(place: Place, name: bytes) -> None:
    below = os.fsencode(folder(place)) + b"/" + name
    os.mkdir(below)
    with open(below + b"/" + name, "wb") as file:
        file.write(b"123")
    found = counted(place)
    assert (found.files, found.bytes) == (1, 3)


@pytest.mark.parametrize("call", ["open", "scandir"])
def test_a_folder_that_cannot_be_read_is_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    put(folder(place) / "closed" / "inside", b"123")
    put(folder(place) / "zebra", b"12345")
    real = getattr(os, call)
    closed = (folder(place) / "closed").stat().st_ino

    def refusing(given: Any, *args: Any, **more: Any) -> Any:
        if given == b"closed" or (isinstance(given, int) and os.fstat(given).st_ino == closed):
            raise PermissionError(13, "Permission denied")
        return real(given, *args, **more)

    monkeypatch.setattr(os, call, refusing)
    found = counted(place)
    assert (found.files, found.bytes) == (1, 5)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_what_may_be_listed_and_not_looked_at_is_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    put(folder(place) / "listed" / "broken", b"123")
    put(folder(place) / "zebra", b"12345")
    status = os.stat

    def refusing(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if path == b"broken":
            raise error
        return status(path, *args, **more)

    monkeypatch.setattr(os, "stat", refusing)
    found = counted(place)
    assert (found.files, found.bytes) == (1, 5)


def test_a_file_that_vanishes_meanwhile_does_not_count(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        put(folder(place) / name, b"123")
    put(folder(place) / "d" / "inside", b"123")
    status = os.stat

    def vanishing(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if path == b"a":
            (folder(place) / "b").unlink()
        elif path == b"d":
            found = status(path, *args, **more)
            (folder(place) / "d" / "inside").unlink()
            (folder(place) / "d").rmdir()
            return found
        return status(path, *args, **more)

    monkeypatch.setattr(os, "stat", vanishing)
    found = counted(place)
    assert (found.files, found.bytes) == (2, 6)


def test_a_folder_that_may_not_be_entered_is_no_hindrance(place: Place) -> None:
    closed = folder(place) / "closed"
    put(closed / "inside", b"123")
    put(folder(place) / "zebra", b"12345")
    for mode in (0o000, 0o400, 0o100):
        closed.chmod(mode)
        try:
            found = counted(place)
        finally:
            closed.chmod(0o700)
        everything = os.geteuid() == 0
        assert (found.files, found.bytes) == ((2, 8) if everything else (1, 5))


def test_descriptors_are_closed(place: Place) -> None:
    put(folder(place) / "a" / "b" / "c", b"1")

    def opened() -> list[str]:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return [target for link in links if (target := os.path.realpath(link)).startswith(str(place.root))]

    counted(place)
    before = opened()
    for _ in range(10):
        counted(place)
    assert opened() == before
