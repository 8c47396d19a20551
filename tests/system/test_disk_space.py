"""Disk space of mount points: told when it changes, and nothing new is begun where there is too little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.small_disk import SmallDisks, fill
from tests.support.wire import Storage, Wire

Make = Callable[..., Service]
SMALL = "file:///small"
MIB = 1 << 20


def told(wire: Wire, mp: str) -> list[str]:
    return [event["type"] for event in wire.journal(topics=["mount."]) if event["subject"] == mp]


def small(own_service: Make, place: Path, **space: Any) -> Service:
    settings = {"mounts": {"file:///": "data", SMALL: str(place)}, "space": {"look_s": 0.1, **space}}
    return own_service(settings)


def test_a_disk_that_gets_full_is_told_and_nothing_new_is_begun(
    own_service: Make, small_disks: SmallDisks
) -> None:
    place = small_disks.mount("small", 8 * 1024)
    bounds = {"min_free_bytes_of": {SMALL: 2 * MIB}, "low_free_bytes_of": {SMALL: 5 * MIB}}
    service = small(own_service, place, **bounds)
    with service.connect() as wire:
        storage = Storage(wire, "small", brg_name="small", brg_mp=SMALL).open()
        storage.run()
        open_ = storage.acq("open")
        assert told(wire, SMALL) == []
        half = place / "half"
        half.write_bytes(bytes(4 * MIB))
        eventually(lambda: told(wire, SMALL) == ["mount.low"])
        storage.acq("low")
        fill(place)
        # The command looks for itself, and need not wait until anybody was told.
        refused = storage.refusal("new_acq_storage", run_name="run", acq_name="full")
        assert (refused.code, refused.details) == ("unavailable", {"reason": "space"})
        assert "Make room" in refused.message
        eventually(lambda: told(wire, SMALL) == ["mount.low", "mount.full"])
        assert storage.mark(open_)["state"] == "finished"
        event = wire.journal(topics=["mount.full"])[-1]
        assert (event["storage_id"], event["data"]["mp"]) == (None, SMALL)
        assert event["data"]["free_bytes"] < 2 * MIB
        for each in (half, place / "filler"):
            each.unlink()
        eventually(lambda: told(wire, SMALL) == ["mount.low", "mount.full", "mount.recovered"])
        storage.acq("full")
        assert told(wire, "file:///") == []


def test_a_mount_point_that_goes_away_and_comes_back_is_told(own_service: Make, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    service = small(own_service, place)
    with service.connect() as wire:
        place.rename(tmp_path / "away")
        eventually(lambda: told(wire, SMALL) == ["mount.unreachable"])
        (event,) = wire.journal(topics=["mount."])
        assert event["data"]["free_bytes"] is None
        assert SMALL in event["data"]["message"]
        (tmp_path / "away").rename(place)
        eventually(lambda: told(wire, SMALL) == ["mount.unreachable", "mount.recovered"])


def test_a_start_tells_what_is_wrong_and_not_what_is_well(own_service: Make, tmp_path: Path) -> None:
    service = small(own_service, tmp_path / "never")
    for count in (1, 2):
        with service.connect() as wire:
            eventually(lambda count=count, wire=wire: told(wire, SMALL) == ["mount.unreachable"] * count)  # type: ignore[misc]
            assert told(wire, "file:///") == []
        service.restart()
