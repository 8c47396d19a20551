"""The service dies at every failpoint of its code, twice in a row, under a workload that knows what it was told.

The failpoints are read from the code. Those of one room are gone through in one service: armed with a place it is
started, dies there, is started armed with the same place and dies there again, and so on with the next one. Then
it is started unarmed, and everything that was acknowledged must be there, once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.failpoints import Lives, places
from tests.support.polling import eventually
from tests.support.service import HELD, Service
from tests.support.wire import Wire
from tests.torture.fold import Fold
from tests.torture.reading import Told, differences, follow, on_disk, pending

Make = Callable[..., Service]

# Rooms whose places no command leads to, or not twice, or not in this process: the tests that go through them.
ELSEWHERE = {
    "manifest": "tests/system/test_manifests.py",
    "tidy": "tests/system/test_tidy_points.py",
    "entry": "tests/system/test_logbook.py",
    "migrate": "tests/system/test_store_kills.py",
    "trash": "tests/system/test_trash.py",
    "rebuild": "tests/system/test_rebuild.py",
    "runner": "tests/system/test_conversion_points.py",
    "keeper": "tests/system/test_conversion_points.py",
}

ROOMS = sorted({place.room for place in places()} - ELSEWHERE.keys())


class Errands:
    """Everything that a client can have done, in one round on a storage of its own."""

    def __init__(self, lives: Lives) -> None:
        self.lives = lives
        self.removed: set[str] = set()
        self.written: dict[str, str] = {}
        self.runs: list[str] = []
        self._ids = 0

    def id(self) -> int:
        self._ids += 1
        return self._ids

    def round(self, number: int) -> None:
        lives, storage, run = self.lives, {"storage_id": f"s{number}"}, f"scratch{number}"
        lives.call("init_storage", **storage, brg_name="g", brg_path="p", stats_names=["level"])
        lives.call("config_storage", **storage)
        lives.call("set_config_storage", **storage, document=f"round {number}")
        lives.call("set_var", name="level", value=number)
        run_id, acq_id = f"root/g/{run}", f"root/g/{run}/a"
        self.runs.append(run_id)
        first_run = lives.call("new_run_storage", **storage, run_name=run, params={"x": self.id()})
        lives.call("set_param_run_storage", **storage, run_name=run, param="y", value=self.id())
        acq = {**storage, "acq_name": "a", "run_name": run}
        first = lives.call("new_acq_storage", **acq, convert_script="quick.sh", params={"x": self.id()})
        self._write(first)
        lives.call("set_param_acq_storage", **storage, acq_id=acq_id, param="y", value=self.id())
        lives.call("mark_as_finished_storage", **storage, acq_id=acq_id, producer="p", summary={"id": self.id()})
        lives.until(lambda acq: acq["conversion"] == "succeeded", "get_acq", acq_id=acq_id)
        first_end = lives.ask("list_conversions", acq_id=acq_id)["conversions"][0]
        converted = first_end["conversion_id"]
        lives.call("retry_conversion", conversion_id=converted)
        again = first_end["attempt"] + 1
        lives.until(has("succeeded", again), "get_conversion", conversion_id=converted)

        lives.call("new_acq_storage", **acq, convert_script="held.sh")
        lives.call("close_acq_storage", **storage, acq_id=acq_id)
        held = lives.ask("list_conversions", acq_id=acq_id)["conversions"][0]["conversion_id"]
        lives.until(has("running"), "get_conversion", conversion_id=held)
        lives.call("cancel_conversion", conversion_id=held)
        lives.until(has("cancelled"), "get_conversion", conversion_id=held)

        lives.call("new_acq_storage", **acq)
        lives.call("abort_acq_storage", **storage, acq_id=acq_id)
        second = lives.call("new_acq_storage", **acq, mode="remove")
        self.removed.add(first["uid"])
        self._write(second)
        lives.call("close_acq_storage", **storage, acq_id=acq_id)
        lives.call("new_run_storage", **storage, run_name=run, params={"x": self.id()})
        lives.call("new_run_storage", **storage, run_name=run, mode="remove")
        self.removed.add(first_run["uid"])
        lives.call("new_acq_storage", **acq)
        lives.call("deinit_storage", **storage, force=True)

    def _write(self, acq: dict[str, Any]) -> None:
        name = f"{acq['uid']}.raw"
        (Path(acq["location"]["local_path"]) / name).write_text(acq["uid"])
        self.written[name] = acq["uid"]


def has(state: str, least_attempt: int = 0) -> Callable[[dict[str, Any]], bool]:
    """Whether a conversion is in that state, in that attempt or a later one."""
    return lambda conversion: conversion["state"] == state and conversion["attempt"] >= least_attempt


def at_rest(wire: Wire) -> bool:
    if pending(wire):
        return False
    queues = wire.call("get_status")["queues"]  # asked last: what is sealed owes a manifest from then on
    return not queues["intents"] and not queues["manifests"]


def hidden(mount: Path) -> list[Path]:
    """What the service left under names of its own outside the trash."""
    found = (path.relative_to(mount) for path in mount.rglob(".*"))
    return [path for path in found if path.parts[0] != ".storage-trash"]


def repeated(wire: Wire, lives: Lives) -> list[str]:
    """Where the repeat of an acknowledged command has another reply."""
    posted = [(cmd, wire.post(cmd, key=key, **args), result) for cmd, args, key, result in lives.acknowledged]
    told = [(cmd, wire.collect(number), result) for cmd, number, result in posted]
    return [f"{cmd}: {result}, then {again}" for cmd, again, result in told if again != result]


@pytest.mark.timeout(600)  # some fifty lives on a machine that may be busy; each wait has a deadline of its own
@pytest.mark.parametrize("room", ROOMS)
def test_a_service_that_dies_there_twice_in_a_row_loses_and_doubles_nothing(own_service: Make, room: str) -> None:
    names = [place.name for place in places() if place.room == room and place.name is not None]
    service = own_service({"conversion": {"max_interruptions": 1000}}, start=False)
    service.script("quick.sh", "#!/bin/sh\n")
    service.script("held.sh", HELD)
    lives = Lives(service, [name for name in names for _ in range(2)])
    try:
        errands = Errands(lives)
        for number in lives.rounds():
            errands.round(number)
        assert lives.deaths == [name for name in names for _ in range(2)]
    finally:
        lives.close()
    with service.connect() as wire:
        eventually(lambda: at_rest(wire), 60)
        fold = Fold()
        follow(wire, fold)
        assert fold.wrong == []
        told = Told(wire, errands.runs)
        assert differences(fold, told) == []
        assert on_disk(told, service.mount, errands.written) == []
        assert hidden(service.mount) == []
        trash = service.mount / ".storage-trash"
        # The sweep's own note begins with a dot.
        assert {path.name for path in trash.iterdir() if not path.name.startswith(".")} == errands.removed
        before = wire.last_seq()
        assert repeated(wire, lives) == []
        assert wire.last_seq() == before
        assert {len(seqs) for seqs in fold.told.values()} == {1}
        assert not [text for text in service.log_text().splitlines() if '"defect"' in text]
