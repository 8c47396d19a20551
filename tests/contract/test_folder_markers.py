"""The door to mount points that are folders: the marker of a folder that is there is replaced."""

from __future__ import annotations

import ctypes
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage_protocol.records import DiskUse
from storage_service.doors import directory
from storage_service.rules.work import ACQ_MARKER, Done, Order, Synced
from tests.support.place import ACQ, Place, keep, make_acq, make_run, marker_of, put, refused, sync_acq, write_acq


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_marker_is_replaced(place: Place) -> None:
    place.mount.carry_out(make_acq())
    put(place.root / "beam/run_1/acq_1/.acquisition.json.new", "left by a kill")
    for _ in range(2):
        assert place.mount.carry_out(write_acq()) == Done()
        assert place.tree() == {
            "beam": None,
            "beam/run_1": None,
            "beam/run_1/acq_1": None,
            "beam/run_1/acq_1/acquisition.json": write_acq().marker.decode(),
        }


def test_a_folder_without_a_marker_gets_one(place: Place) -> None:
    put(place.root / "beam/run_1/acq_1/data.raw", "x")
    assert place.mount.carry_out(write_acq()) == Done()
    assert (place.root / "beam/run_1/acq_1/acquisition.json").read_bytes() == write_acq().marker


@pytest.mark.parametrize("order", [write_acq(), sync_acq(), keep("config.xml", b"x")])
@pytest.mark.parametrize(("id_", "uid"), [(ACQ, "a2"), ("root/other", "a1")])
def test_a_marker_of_another_id_or_uid_is_not_replaced(place: Place, order: Order, id_: str, uid: str) -> None:
    put(place.root / "beam/run_1/acq_1/acquisition.json", marker_of(ACQ_MARKER, id_, uid))
    before = place.tree()
    refused(place.mount.carry_out(order), "already_exists", what="folder", id=id_)
    assert place.tree() == before


@pytest.mark.parametrize("there", ["", "beam", "beam/run_1"])
def test_a_marker_for_a_folder_that_is_gone_is_unavailable_and_makes_nothing(place: Place, there: str) -> None:
    (place.root / there).mkdir(parents=True, exist_ok=True)
    before = place.tree()
    for order in (write_acq(), sync_acq(), keep("config.xml", b"x")):
        failed = refused(place.mount.carry_out(order), "unavailable")
        assert failed.details["reason"].endswith("is gone")
    assert place.tree() == before


def test_data_are_synced_and_others_go_on_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mount.carry_out(make_acq())
    marker = place.root / "beam/run_1/acq_1/acquisition.json"
    seen: list[bytes] = []

    def syncfs(fd: int) -> int:
        if not seen:
            seen.append(marker.read_bytes())
            assert os.fstat(fd).st_ino == marker.parent.stat().st_ino
            with ThreadPoolExecutor(1) as pool:  # would wait for ever if the lock were held
                assert pool.submit(place.mount.carry_out, make_run("beam/r2", "r2")).result(30) == Done()
            ctypes.set_errno(errno.EINTR)
            return -1
        seen.append(marker.read_bytes())
        return 0

    monkeypatch.setattr(directory, "_syncfs", syncfs)
    size = len(make_acq().marker)
    allocated = 512 * marker.stat().st_blocks
    assert place.mount.carry_out(sync_acq()) == Synced(DiskUse(1, size, allocated))
    assert seen == [make_acq().marker] * 3  # interrupted, done, and asked of the descriptor that is held


def test_data_that_could_not_be_synced_leave_the_marker_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mount.carry_out(make_acq())

    def syncfs(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(directory, "_syncfs", syncfs)
    assert "lost" in refused(place.mount.carry_out(sync_acq()), "unavailable").message
    assert (place.root / "beam/run_1/acq_1/acquisition.json").read_bytes() == make_acq().marker


def test_without_syncfs_everything_is_synced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mount.carry_out(make_acq())
    calls: list[str] = []
    monkeypatch.setattr(directory, "_syncfs", None)
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    assert isinstance(place.mount.carry_out(sync_acq()), Synced)
    assert calls
