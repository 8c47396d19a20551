"""The door to mount points that are folders: no name and no link leads out of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage_service.doors.folders import FolderMount
from storage_service.doors.runnable import runnable_script
from storage_service.rules.work import TRASH, Done, Fault
from tests.support.place import MP, Place, keep, make_acq, make_run, put, refused, sync_acq, write_acq
from tests.symlinks import LEVELS, Flips, swapper


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# Names and links ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", ["", ".", "..", "a/b", "/", "a\0b", ".storage-trash", "\udc80"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_segment_that_leads_elsewhere_is_refused_and_nothing_is_made(
    place: Place, segment: str, at: int
) -> None:
    path = ["beam", "run_1", "acq_1"]
    path[at] = segment
    made = msgspec.structs.replace(make_acq(), path=tuple(path))
    refused(place.mount.carry_out(made), "invalid_name", field="path", rule="segment")
    written = msgspec.structs.replace(write_acq(), path=tuple(path))
    refused(place.mount.carry_out(written), "invalid_name", field="path", rule="segment")
    for refusing in (lambda: place.mount.open_log(("beam",), segment), lambda: place.mount.local_path((segment,))):
        with pytest.raises(Fault) as caught:
            refusing()
        assert caught.value.code == "invalid_name"
    assert place.tree() == {}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("level", ["beam", "beam/run_1", "beam/run_1/acq_1"])
def test_a_link_below_the_mount_is_never_followed(place: Place, level: str, inside: bool) -> None:
    target = place.root / "elsewhere" if inside else place.outside
    target.mkdir(exist_ok=True)
    link = place.root / level
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    before = place.tree()
    for order in (make_acq(), make_acq(set_aside="old"), write_acq(), sync_acq(), keep("c", b"x")):
        refused(place.mount.carry_out(order), "invalid_name", rule="symlink", field="path")
    with pytest.raises(Fault) as caught:
        place.mount.open_log(("beam", "run_1", "acq_1"), "conversion-1-1.log")
    assert (caught.value.code, caught.value.details["rule"]) == ("invalid_name", "symlink")
    assert place.tree() == before
    assert list(target.iterdir()) == []


def test_a_trash_that_is_a_link_is_not_followed(place: Place) -> None:
    put(place.root / "beam/run_1/data.raw", "old")
    (place.root / TRASH).symlink_to(place.outside)
    refused(place.mount.carry_out(make_run(set_aside="u0")), "invalid_name", rule="symlink")
    assert (place.root / "beam/run_1/data.raw").read_text() == "old"
    assert list(place.outside.iterdir()) == []


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_leaves_the_mount_while_a_folder_and_a_link_change_places(tmp_path: Path, level: str) -> None:
    flips = Flips(tmp_path, level)
    with flips.flipping():
        deadline = time.monotonic() + 60
        # 300 orders, and as many more as it takes to have met both the folder and the link.
        while flips.seen.total() < 300 or (not flips.met_both and time.monotonic() < deadline):
            flips.order()
    assert flips.met_both
    assert flips.wrong() == []


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_that_comes_between_a_look_and_an_open_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    flips, system_open = Flips(tmp_path, level), os.open
    folder = flips.place.root / level
    swap = swapper(folder, flips.place.root / "stash")

    def unlucky_open(path: str, *args: Any, **more: Any) -> int:
        if Path(path).name != folder.name:
            return system_open(path, *args, **more)
        swap()
        try:
            return system_open(path, *args, **more)
        finally:
            swap()

    monkeypatch.setattr(os, "open", unlucky_open)
    for _ in range(6):
        flips.order()
    assert "done" not in flips.seen
    assert flips.wrong() == []


# The log beside the data ----------------------------------------------------------------------------------------


def test_a_log_is_made_or_emptied_and_is_blocking_and_not_inherited(place: Place) -> None:
    (place.root / "beam").mkdir()
    for text in (b"first, and longer", b"second"):
        fd = place.mount.open_log(("beam",), "conversion-1-1.log")
        try:
            os.write(fd, text)
            assert os.get_blocking(fd)
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)
        assert (place.root / "beam/conversion-1-1.log").read_bytes() == text


LOG_BLOCKERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link": (lambda path: path.symlink_to("../../outside/log"), "invalid_name"),
    "a folder": (lambda path: path.mkdir(), "already_exists"),
    "a fifo": (lambda path: os.mkfifo(path), "already_exists"),
}


@pytest.mark.parametrize("kind", LOG_BLOCKERS)
def test_a_log_never_goes_through_what_is_no_plain_file(place: Place, kind: str) -> None:
    block, code = LOG_BLOCKERS[kind]
    (place.root / "beam").mkdir()
    block(place.root / "beam/log")
    with pytest.raises(Fault) as caught:
        place.mount.open_log(("beam",), "log")
    assert caught.value.code == code
    assert list(place.outside.iterdir()) == []


def test_a_log_in_a_folder_that_is_gone_is_unavailable(place: Place) -> None:
    with pytest.raises(Fault) as caught:
        place.mount.open_log(("beam",), "log")
    assert caught.value.code == "unavailable"
    assert caught.value.details["reason"]


def test_a_folder_s_place_in_this_host_is_told_as_an_absolute_path(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.top)
    mount = FolderMount(MP, Path("mount"), place.scripts)
    monkeypatch.chdir("/")
    assert mount.local_path(("beam", "run_1")) == place.root / "beam/run_1"
    assert mount.carry_out(make_run()) == Done()


# Conversion scripts ---------------------------------------------------------------------------------------------


def script(path: Path, mode: int = 0o755) -> Path:
    put(path, "#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_a_script_of_the_folder_can_be_run_also_below_it_and_by_a_link_that_stays_inside(place: Place) -> None:
    one = script(place.scripts / "one.sh")
    two = script(place.scripts / "deep/two.sh")
    (place.scripts / "latest").symlink_to("deep/two.sh")
    assert runnable_script(place.scripts, "one.sh") == one
    assert runnable_script(place.scripts, "deep/two.sh") == two
    assert runnable_script(place.scripts, "latest") == two


def test_a_scripts_folder_may_be_relative_and_a_link(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one = script(place.scripts / "one.sh")
    (place.top / "by_link").symlink_to(place.scripts)
    monkeypatch.chdir(place.top)
    assert runnable_script(Path("by_link"), "one.sh") == one


BAD_SCRIPTS = {
    "../outside/evil.sh": ("invalid_name", "inside"),
    "deep/../one.sh": ("invalid_name", "inside"),
    "..": ("invalid_name", "inside"),
    "": ("invalid_name", "inside"),
    "one.sh\0": ("invalid_name", "inside"),
    "\ud800": ("invalid_name", "inside"),
    "/bin/sh": ("invalid_name", "inside"),
    "way_out": ("invalid_name", "inside"),
    "way_out_to_nothing": ("invalid_name", "inside"),
    "folder_out/evil.sh": ("invalid_name", "inside"),
    "deep": ("invalid_name", "file"),
    ".": ("invalid_name", "file"),
    "plain.txt": ("invalid_name", "executable"),
    "nothing.sh": ("not_found", None),
    "one.sh/more": ("not_found", None),
    "circle": ("not_found", None),
    "n" * 300: ("not_found", None),
}


@pytest.mark.parametrize("name", BAD_SCRIPTS)
def test_a_script_that_cannot_be_run_is_refused_before_anything_is_made(place: Place, name: str) -> None:
    script(place.scripts / "one.sh")
    script(place.scripts / "plain.txt", 0o644)
    script(place.outside / "evil.sh")
    (place.scripts / "deep").mkdir()
    (place.scripts / "way_out").symlink_to("../outside/evil.sh")
    (place.scripts / "way_out_to_nothing").symlink_to("../outside/nothing")
    (place.scripts / "folder_out").symlink_to(place.outside)
    (place.scripts / "circle").symlink_to("circle")
    code, rule = BAD_SCRIPTS[name]
    result = place.mount.carry_out(make_acq(script=name))
    if code == "not_found":
        refused(result, code, what="script", id=name)
    else:
        refused(result, code, field="convert_script", rule=rule)
    assert place.tree() == {}
    assert place.mount.carry_out(make_acq(script="one.sh")) == Done()


def test_a_script_is_named_below_its_folder_and_never_by_its_absolute_path(place: Place) -> None:
    with pytest.raises(Fault) as caught:
        runnable_script(place.scripts, str(script(place.scripts / "one.sh")))
    assert (caught.value.code, caught.value.details["rule"]) == ("invalid_name", "inside")
