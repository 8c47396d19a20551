"""The door to mount points that are folders: documents that are saved beside the data, and never over anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from storage_service.rules.work import ACQ_MARKER, Done, KeepFile, Kept
from tests.support.place import ACQ, MP, Place, keep, make_acq, marker_of, put, refused

CONFIG = b"<config/>"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    assert place.mount.carry_out(make_acq()) == Done()
    return place


def folder(place: Place) -> Path:
    return place.root / "beam/run_1/acq_1"


def kept(place: Place, name: str = "config.xml", content: bytes = CONFIG) -> str:
    """Save it; the name that it got, under which it is."""
    done = place.mount.carry_out(keep(name, content))
    assert isinstance(done, Kept), done
    path = folder(place) / done.name
    assert not path.is_symlink()
    assert path.read_bytes() == content
    assert not [each for each in os.listdir(folder(place)) if each.endswith(".new")]
    return done.name


@pytest.mark.parametrize("content", [b"", b"\xff\x00", CONFIG, bytes(3 << 20)], ids=len)
def test_a_document_is_saved_as_it_is(place: Place, content: bytes) -> None:
    assert kept(place, content=content) == "config.xml"


def test_what_has_the_same_content_is_it(place: Place) -> None:
    assert [kept(place) for _ in range(3)] == ["config.xml"] * 3
    assert len(os.listdir(folder(place))) == 2


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("config.xml", ["config.xml", "config-2.xml", "config-3.xml"]),
        ("config", ["config", "config-2", "config-3"]),
        ("dump.tar.gz", ["dump.tar.gz", "dump.tar-2.gz", "dump.tar-3.gz"]),
        ("a.", ["a.", "a-2.", "a-3."]),
        ("config-2.xml", ["config-2.xml", "config-2-2.xml", "config-2-3.xml"]),
    ],
)
def test_other_content_gets_the_next_name_and_each_is_found_again(
    place: Place, name: str, names: list[str]
) -> None:
    contents = [b"one", b"two", b"three"]
    for _ in range(2):
        assert [kept(place, name, content) for content in contents] == names
    assert sorted(os.listdir(folder(place))) == sorted([*names, "acquisition.json"])


def test_what_begins_alike_and_is_longer_or_shorter_is_other_content(place: Place) -> None:
    put(folder(place) / "config.xml", CONFIG + b"\n")
    put(folder(place) / "config-2.xml", CONFIG[:-1])
    put(folder(place) / "config-3.xml", b"")
    assert kept(place) == "config-4.xml"


@pytest.mark.parametrize("what", ["folder", "link", "dangling link", "link to the same", "fifo"])
def test_what_is_no_plain_file_stays_and_is_not_followed(place: Place, what: str) -> None:
    path, secret = folder(place) / "config.xml", place.outside / "secret"
    put(secret, CONFIG if what == "link to the same" else b"precious")
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(place.outside / "nothing" if what == "dangling link" else secret)
    before = path.lstat()
    assert [kept(place) for _ in range(2)] == ["config-2.xml"] * 2
    assert path.lstat().st_ino == before.st_ino
    assert [each.name for each in place.outside.iterdir()] == ["secret"]


def test_what_a_kill_left_half_written_goes(place: Place) -> None:
    put(folder(place) / ".config.xml.new", CONFIG[:4])
    assert kept(place) == "config.xml"


def test_a_file_that_comes_at_the_same_moment_is_not_written_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    theirs = [b"theirs", CONFIG + b"!"]

    def synced(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".new") and theirs:
            name = "config.xml" if len(theirs) == 2 else "config-2.xml"
            put(folder(place) / name, theirs.pop(0))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", synced)
    assert kept(place) == "config-3.xml"
    assert (folder(place) / "config.xml").read_bytes() == b"theirs"
    assert (folder(place) / "config-2.xml").read_bytes() == CONFIG + b"!"


def test_a_file_that_may_not_be_read_is_another(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder(place) / "config.xml", CONFIG)
    opened = os.open

    def refusing(name: Any, *args: Any, **more: Any) -> int:
        if name == "config.xml":
            raise PermissionError(13, "Permission denied", name)
        return opened(name, *args, **more)

    monkeypatch.setattr(os, "open", refusing)
    assert kept(place) == "config-2.xml"


def test_a_document_whose_folder_was_not_synced_is_synced_by_the_next_try(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced = os.fsync, list[str]()

    def failing(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        if len(synced) == 2:
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    refused(place.mount.carry_out(keep("config.xml", CONFIG)), "unavailable")
    assert synced == [".config.xml.new", "acq_1"]
    assert kept(place) == "config.xml"
    assert synced[2:] == ["acq_1"]


def test_nothing_is_saved_in_anothers_folder(place: Place) -> None:
    put(folder(place) / "acquisition.json", marker_of(ACQ_MARKER, ACQ, "a2"))
    refused(place.mount.carry_out(keep("config.xml", CONFIG)), "already_exists", what="folder", id=ACQ)
    assert os.listdir(folder(place)) == ["acquisition.json"]


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "../escape", "a\nb"])
def test_a_name_that_is_no_files_is_refused_before_anything_is_done(place: Place, name: str) -> None:
    refused(place.mount.carry_out(keep(name, CONFIG)), "invalid_name", field="path")
    assert os.listdir(folder(place)) == ["acquisition.json"]


def test_in_a_folder_that_is_gone_nothing_is_made(place: Place) -> None:
    order = KeepFile(MP, ("beam", "other"), ACQ_MARKER, ACQ, "a1", "config.xml", CONFIG)
    refused(place.mount.carry_out(order), "unavailable")
    assert not (place.root / "beam/other").exists()
