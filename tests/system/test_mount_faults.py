"""A mount point that fails under the real service: refused or warned of, others unharmed, right again after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_disk import COMPILER, NO_COMPILER, FaultyDisk
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.small_disk import SmallDisks, fill
from tests.support.wire import Refused, Storage, Wire

Make = Callable[..., Service]
BAD = "file:///bad"
MOUNTS = {"mounts": {"file:///": "data", BAD: "bad"}}
# Beyond the waits between the tries to seal an acquisition, which are doubled.
PATIENCE_S = 60.0


def storages(wire: Wire) -> tuple[Storage, Storage]:
    """One on the mount point that fails, one on another."""
    bad = Storage(wire, "bad", brg_name="bad", brg_path="p", brg_mp=BAD).open()
    good = Storage(wire, "good", brg_name="good", brg_path="p").open()
    for each in (bad, good):
        each.run()
    return bad, good


def marker(acq: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(acq["location"]["local_path"], "acquisition.json").read_text())
    return found


def sealed(wire: Wire, acq: dict[str, Any]) -> bool:
    return bool(wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])


def lives_through(wire: Wire, fail: Callable[[], object], mend: Callable[[], object], reason: str) -> None:
    """What both storages do while the mount point of one fails, and after."""
    bad, good = storages(wire)
    acq = bad.acq("before")
    fail()
    refused = [
        bad.refusal("new_run_storage", run_name="new", key="run"),
        bad.refusal("new_acq_storage", acq_name="new", run_name="run", key="acq"),
    ]
    for each in refused:
        assert (each.code, reason in each.message, BAD in each.message) == ("unavailable", True, True), each
    # What needs no folder goes on, and says what it could not do.
    assert bad.call("set_param_acq_storage", acq_id=acq["acq_id"], param="x", value=1) == {"stored": True}
    assert bad.close(acq)["state"] == "finished"
    eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["warnings"])
    (warning,) = wire.call("get_acq", acq_id=acq["acq_id"])["warnings"]
    assert (warning["what"], reason in warning["message"]) == ("seal", True)
    assert not sealed(wire, acq)
    # The other storage does not notice.
    other = good.acq("other")
    good.close(other)
    eventually(lambda: sealed(wire, other))
    assert wire.call("get_acq", acq_id=other["acq_id"])["warnings"] == []
    mend()
    run, new = bad.run("new", key="run"), bad.acq("new", key="acq")
    assert (run["run_name"], marker(new)["uid"]) == ("new", new["uid"])
    eventually(lambda: sealed(wire, acq), PATIENCE_S)
    assert marker(acq)["state"] == "finished"
    types = [event["type"] for event in wire.journal() if event["storage_id"] == "bad"]
    assert [types.count(each) for each in ("run.created", "acquisition.started", "acquisition.warning")] == [
        2,
        2,
        1,
    ]


def test_a_full_mount_is_unavailable_until_there_is_space(small_disks: SmallDisks, own_service: Make) -> None:
    place = small_disks.mount("own/bad", 256)
    with own_service(MOUNTS).connect() as wire:
        lives_through(wire, lambda: fill(place), (place / "filler").unlink, "No space left on device")


def test_a_mount_that_may_only_be_read_is_unavailable_until_it_may_be_written(
    small_disks: SmallDisks, own_service: Make
) -> None:
    place = small_disks.mount("own/bad", 256)
    with own_service(MOUNTS).connect() as wire:
        lives_through(
            wire,
            lambda: small_disks.read_only(place, True),
            lambda: small_disks.read_only(place, False),
            "Read-only file system",
        )


needs_a_compiler = pytest.mark.skipif(not COMPILER, reason=NO_COMPILER)


@pytest.fixture
def faulty(own_service: Make, tmp_path: Path) -> tuple[Service, FaultyDisk]:
    """A service whose second mount point can fail."""
    (tmp_path / "own/bad").mkdir(parents=True)
    disk = FaultyDisk(tmp_path / "own/bad", tmp_path / "disk")
    return own_service(MOUNTS, environment=disk.environment), disk


@needs_a_compiler
def test_a_mount_whose_disk_is_broken_is_unavailable_until_it_is_mended(
    faulty: tuple[Service, FaultyDisk],
) -> None:
    service, disk = faulty
    with service.connect() as wire:
        lives_through(wire, lambda: disk.order("ws", 1, "EIO", "ever"), disk.mend, "Input/output error")


@needs_a_compiler
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "SHORT"])
def test_a_marker_that_is_not_written_is_never_told_of(faulty: tuple[Service, FaultyDisk], error: str) -> None:
    service, disk = faulty
    met = 0
    with service.connect() as wire:
        bad, _ = storages(wire)
        for number in range(1, 9):
            disk.order("ws", number, error, "once")
            name = f"acq{number}"
            try:
                first = bad.acq(name, key=name)
            except Refused as refused:
                first = None
                code = refused.code
            met += len(disk.mend())
            assert first is not None or code == "unavailable"
            acq = bad.acq(name, key=name)
            assert first in (None, acq)
            assert marker(acq)["uid"] == acq["uid"]
        started = [event["subject"] for event in wire.journal(topics=["acquisition.started/"])]
        assert started == [f"root/bad/run/acq{number}" for number in range(1, 9)]
    assert met >= 1
