"""The door to mount points that are folders: the log of an acquisition, to which each seal appends its block."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage_service.doors.beside import LOG_BYTES
from storage_service.rules.work import Done
from tests.support.place import Place, make_acq, put, write_acq

HEAD = "== segment 1 of root/beam/run_1/acq_1 (uid a1)"
BLOCK = f"{HEAD}\n\nstate  finished\n\n"
NEXT = BLOCK.replace("segment 1", "segment 2")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    assert place.mount.carry_out(make_acq()) == Done()
    return place


def folder(place: Place) -> Path:
    return place.root / "beam/run_1/acq_1"


def log(place: Place, name: str = "acquisition.log") -> str:
    return (folder(place) / name).read_bytes().decode()


def seal(place: Place, block: str = BLOCK) -> Done:
    """Write the block and the marker; returns the answer, with the marker in place."""
    order = write_acq(log=block, head=block.partition("\n")[0])
    done = place.mount.carry_out(order)
    assert isinstance(done, Done), done
    assert (folder(place) / "acquisition.json").read_bytes() == order.marker
    assert not [name for name in os.listdir(folder(place)) if name.endswith(".new")]
    return done


def test_a_log_begins_with_its_first_block_and_gets_one_a_segment(place: Place) -> None:
    assert seal(place) == Done()
    assert log(place) == BLOCK
    assert seal(place, NEXT) == Done()
    assert log(place) == BLOCK + NEXT


def test_a_block_that_is_there_stays_as_it_is(place: Place) -> None:
    seal(place)
    seal(place, NEXT)
    assert seal(place, f"{HEAD}\n\nother\n\n") == Done()
    assert log(place) == BLOCK + NEXT


def test_a_line_that_only_contains_the_head_is_none(place: Place) -> None:
    put(folder(place) / "acquisition.log", f"I saw: {HEAD}\n{HEAD} twice\n  {HEAD}\n")
    seal(place)
    assert log(place).endswith(f"\n\n{BLOCK}")


@pytest.mark.parametrize("before", ["by hand", "by hand\n", f"{BLOCK[:40]}", "x\ny\r\nz", "\n"])
def test_what_was_written_or_cut_by_somebody_stays_and_is_set_apart(place: Place, before: str) -> None:
    put(folder(place) / "acquisition.log", before)
    seal(place, NEXT)
    assert log(place) == before + "\n\n" + NEXT


def test_bytes_that_are_no_text_stay(place: Place) -> None:
    put(folder(place) / "acquisition.log", b"\xff\x00\xfe\n\n")
    seal(place)
    assert (folder(place) / "acquisition.log").read_bytes() == b"\xff\x00\xfe\n\n" + BLOCK.encode()


def test_what_a_kill_left_of_a_block_is_no_block(place: Place) -> None:
    put(folder(place) / ".acquisition.log.new", BLOCK[:30])
    seal(place)
    assert log(place) == BLOCK


# What stands in its place keeps nothing from its seal


def stands(path: Path, what: str, outside: Path) -> None:
    match what:
        case "folder":
            path.mkdir()
        case "link":
            put(outside / "secret", "precious")
            path.symlink_to(outside / "secret")
        case "dangling link":
            path.symlink_to(outside / "made by whoever follows it")
        case "fifo":
            os.mkfifo(path)
        case "too large":
            with path.open("wb") as file:
                file.truncate(LOG_BYTES + 1)
        case "full":
            path.write_bytes(b"x" * LOG_BYTES)


OBSTACLES = ["folder", "link", "dangling link", "fifo", "too large", "full"]


@pytest.mark.parametrize("what", OBSTACLES)
def test_what_cannot_be_appended_to_makes_a_second_log_and_is_told(place: Place, what: str) -> None:
    path = folder(place) / "acquisition.log"
    stands(path, what, place.outside)
    before = path.lstat()
    for _ in range(2):  # as a seal is tried again
        done = seal(place)
        assert done.remark == (
            "beam/run_1/acq_1/acquisition.log is no plain file, or too large, or may not be read: "
            "what belongs there is in acquisition-2.log."
        )
        assert log(place, "acquisition-2.log") == BLOCK
    seal(place, NEXT)
    assert log(place, "acquisition-2.log") == BLOCK + NEXT
    after = path.lstat()
    assert (after.st_ino, after.st_size, after.st_mode) == (before.st_ino, before.st_size, before.st_mode)
    assert {each.name for each in place.outside.iterdir()} <= {"secret"}


def test_of_several_in_the_way_the_first_that_is_free_is_taken(place: Place) -> None:
    for number, what in enumerate(OBSTACLES, 1):
        stands(folder(place) / f"acquisition{f'-{number}' if number > 1 else ''}.log", what, place.outside)
    assert seal(place).remark.endswith("what belongs there is in acquisition-7.log.")
    assert log(place, "acquisition-7.log") == BLOCK


def test_a_log_that_may_not_be_read_makes_a_second_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(place) / "acquisition.log"
    put(path, "of another")
    opened = os.open

    def refusing(name: str, *args: int, **more: int) -> int:
        if name == "acquisition.log":
            raise PermissionError(13, "Permission denied", name)
        return opened(name, *args, **more)

    monkeypatch.setattr(os, "open", refusing)
    assert "acquisition-2.log" in seal(place).remark
    assert path.read_text() == "of another"


def test_a_log_is_full_when_its_next_block_would_make_it_too_large(place: Place) -> None:
    path = folder(place) / "acquisition.log"
    put(path, "x" * (LOG_BYTES - len(BLOCK) - 2) + "\n\n")
    assert seal(place) == Done()
    assert path.stat().st_size == LOG_BYTES
    assert seal(place) == Done()  # its head is found in a log that is full
    assert "acquisition-2.log" in seal(place, NEXT).remark
    assert path.stat().st_size == LOG_BYTES


def test_a_marker_without_a_block_leaves_the_log_alone(place: Place) -> None:
    assert place.mount.carry_out(write_acq()) == Done()
    assert not (folder(place) / "acquisition.log").exists()
