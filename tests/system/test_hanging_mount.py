"""No hang is silent, and none spreads: a mount that never answers under one storage, FIFOs in place of files."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.own_mounts import CannotMount, silent_mount
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Refused, Storage, Wire

Make = Callable[..., Service]
MOUNTS = {"file:///": "data", "file:///other": "other"}


class Halves:
    """A service with two mount points and a storage on each, both with a run and an open acquisition."""

    def __init__(self, make: Make) -> None:
        conversion = {"max_parallel": 1, "scripts_dir": "conversions", "grace_s": 1}
        self.service = make({"mounts": MOUNTS, "conversion": conversion}, start=False)
        self.hung = self.service.folder / "other"
        self.hung.mkdir()
        self.service.script("quick.sh", "#!/bin/sh\n")
        self.service.start()

    def storages(self, wire: Wire) -> tuple[Storage, Storage]:
        """The one on the mount point that goes on, and the one on that which will hang."""
        fine = Storage(wire, "fine", brg_name="fine", brg_path="p").open()
        hangs = Storage(wire, "hangs", brg_name="hangs", brg_path="p", brg_mp="file:///other").open()
        for storage in (fine, hangs):
            storage.run()
        return fine, hangs


@pytest.fixture
def halves(own_service: Make) -> Halves:
    return Halves(own_service)


@pytest.fixture
def hang(halves: Halves) -> Iterator[Callable[..., Any]]:
    """Makes the other mount point hang, or another folder; the `close` of what it gives lets it answer again."""
    mounts: list[Any] = []

    def begin(place: Path = halves.hung) -> Any:
        mount = silent_mount(place)
        try:
            mount.__enter__()
        except CannotMount as error:
            pytest.skip(f"there cannot be a mount that hangs here: {error}")
        mounts.append(mount)
        return end

    def end() -> None:
        while mounts:
            mounts.pop().__exit__(None, None, None)

    yield begin
    end()


def mount_state(wire: Wire, mp: str) -> Any:
    (state,) = [each for each in wire.call("get_status")["mounts"] if each["mp"] == mp]
    return state


def conversion_state(wire: Wire, acq: dict[str, Any]) -> Any:
    found = wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"]
    return found[0]["state"] if found else None


def test_a_mount_that_never_answers_holds_up_its_own_storage_alone(
    halves: Halves, hang: Callable[[], Any]
) -> None:
    with halves.service.connect() as wire, halves.service.connect() as blocked:
        fine, hangs = halves.storages(wire)
        acq, sealing = (
            hangs.acq("open", convert_script="quick.sh"),
            hangs.acq("sealing", convert_script="quick.sh"),
        )
        answer_again = hang()

        # Its own storage: a folder that cannot be made is told as unavailable, a seal and a conversion wait.
        waiting = blocked.post("new_acq_storage", storage_id="hangs", acq_name="new", run_name="run")
        assert hangs.close(sealing)["state"] == "finished"
        begun = time.monotonic()
        eventually(lambda: mount_state(wire, "file:///other")["state"] == "unavailable", 5)
        assert time.monotonic() - begun < 5
        assert "answer" in mount_state(wire, "file:///other")["reason"]
        assert mount_state(wire, "file:///")["state"] == "ok"

        # Meanwhile the other one goes its whole way, and what needs no disk goes on in the hanging one too.
        for number in range(20):
            assert wire.call("ping")
            one = fine.acq(f"acq{number}", convert_script="quick.sh")
            assert fine.mark(one)["state"] == "finished"
            eventually(lambda one=one: conversion_state(wire, one) == "succeeded")
        assert hangs.call("set_param_acq_storage", acq_id=acq["acq_id"], param="x", value=1)["stored"]
        assert hangs.mark(acq)["state"] == "finished"
        with pytest.raises(Exception, match=r"unavailable.*does not answer"):
            blocked.collect(waiting)
        # From now on nothing waits for it any more.
        refused = hangs.refusal("new_acq_storage", acq_name="new", run_name="run")
        assert (refused.code, refused.details["reason"]) == ("unavailable", "no answer")

        answer_again()
        eventually(lambda: mount_state(wire, "file:///other")["state"] == "ok")
        for each in (acq, sealing):
            eventually(lambda each=each: conversion_state(wire, each) == "succeeded", 60)
        assert hangs.acq("new")["state"] == "open"


def test_a_service_whose_mount_hangs_ends_within_twelve_seconds_and_goes_on_later(
    halves: Halves, hang: Callable[[], Any]
) -> None:
    with halves.service.connect() as wire, ExitStack() as opened:
        fine, hangs = halves.storages(wire)
        acq = hangs.acq("acq", convert_script="quick.sh")
        answer_again = hang()
        hangs.close(acq)
        for number in range(6):
            blocked = opened.enter_context(halves.service.connect())
            new = {"storage_id": "hangs", "acq_name": f"n{number}", "run_name": "run"}
            blocked.post("new_acq_storage", key=f"k{number}", **new)
        eventually(lambda: wire.call("get_status")["queues"]["intents"] >= 6)
        fine.acq("mine")
        begun = time.monotonic()
        assert halves.service.signal(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 12
    # It also starts while the mount hangs: that it cannot be used is a warning.
    halves.service.start()
    with halves.service.connect() as wire:
        assert wire.call("get_acq", acq_id="root/fine/run/mine")["state"] == "open"
        assert "a mount point cannot be used" in halves.service.log_text()
        answer_again()
        eventually(lambda: mount_state(wire, "file:///other")["state"] == "ok")
        for number in range(6):
            new = {"storage_id": "hangs", "acq_name": f"n{number}", "run_name": "run"}
            assert eventually(partial(answered, wire, f"k{number}", new), 60)["state"] == "open"
        eventually(lambda: conversion_state(wire, acq) == "succeeded", 60)


def answered(wire: Wire, key: str, args: dict[str, Any]) -> Any:
    """The result of a new acquisition; nil while it is unavailable."""
    try:
        return wire.call("new_acq_storage", key=key, **args)
    except Refused as refused:
        if refused.code != "unavailable":
            raise
        return None


def test_a_conversion_is_not_failed_by_a_mount_that_hangs_and_keeps_no_place(
    halves: Halves, hang: Callable[[], Any]
) -> None:
    halves.service.script("held.sh", '#!/bin/sh\nwhile [ ! -e "$ACQ_DIR/go" ]; do sleep 0.05; done\n')
    with halves.service.connect() as wire:
        fine, hangs = halves.storages(wire)
        holds = fine.acq("holds", convert_script="held.sh")
        fine.close(holds)
        eventually(lambda: conversion_state(wire, holds) == "running")
        acq = hangs.acq("acq", convert_script="quick.sh")
        hangs.close(acq)
        eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
        answer_again = hang()
        after = fine.acq("after", convert_script="quick.sh")
        fine.close(after)
        (Path(holds["location"]["local_path"]) / "go").touch()  # the place is free: the hanging one is the next
        eventually(lambda: conversion_state(wire, after) == "succeeded", 60)
        (waits,) = wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"]
        assert (waits["state"], "does not answer" in waits["reason"]) == ("queued", True)
        answer_again()
        eventually(lambda: conversion_state(wire, acq) == "succeeded", 60)


def test_a_scripts_folder_that_never_answers_holds_up_what_needs_a_script_alone(
    halves: Halves, hang: Callable[..., Any]
) -> None:
    with halves.service.connect() as wire, halves.service.connect() as blocked:
        fine, hangs = halves.storages(wire)
        acq = hangs.acq("acq", convert_script="quick.sh")
        answer_again = hang(halves.service.scripts)
        hangs.close(acq)
        new = {"storage_id": "fine", "run_name": "run", "acq_name": "with", "convert_script": "quick.sh"}
        waiting = blocked.post("new_acq_storage", **new)
        for number in range(20):
            one = fine.acq(f"acq{number}")
            assert fine.mark(one)["state"] == "finished"
            eventually(lambda one=one: wire.call("get_acq", acq_id=one["acq_id"])["sealed"])
        with pytest.raises(Refused, match="scripts folder does not answer"):
            blocked.collect(waiting)
        assert {state["state"] for state in wire.call("get_status")["mounts"]} == {"ok"}
        assert conversion_state(wire, acq) in ("queued", "running")
        answer_again()
        eventually(lambda: conversion_state(wire, acq) == "succeeded", 60)
        assert eventually(partial(answered, wire, "k", new), 60)["state"] == "open"


@pytest.mark.parametrize("name", ["run.json", "acquisition.json", "conversion-1-1.log"])
def test_a_fifo_in_place_of_a_file_of_ours_holds_nobody(halves: Halves, name: str) -> None:
    with halves.service.connect() as wire:
        fine, hangs = halves.storages(wire)
        acq = hangs.acq("acq", convert_script="quick.sh")
        folder = Path(acq["location"]["local_path"])
        place = folder.parent / name if name == "run.json" else folder / name
        place.unlink(missing_ok=True)
        os.mkfifo(place)
        assert hangs.mark(acq)["state"] == "finished"
        refused = hangs.refusal("new_acq_storage", acq_name="new", run_name="run") if name == "run.json" else None
        assert refused is None or refused.code == "already_exists"
        mine = fine.acq("mine", convert_script="quick.sh")
        fine.close(mine)
        eventually(lambda: conversion_state(wire, mine) == "succeeded")
        assert mount_state(wire, "file:///other")["state"] == "ok"
        if name.endswith(".log"):
            eventually(lambda: conversion_state(wire, acq) == "failed")
        elif name == "acquisition.json":
            eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["warnings"])
            place.unlink()
            eventually(lambda: conversion_state(wire, acq) == "succeeded", 60)
