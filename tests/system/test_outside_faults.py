"""Faults outside: folders that go or become another's, a mount point or scripts that vanish, rights taken away.

Each is a clear refusal or a recorded warning, no other storage notices, and all is right again when it is over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.own_mounts import CannotMount, empty_disk
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage

Make = Callable[..., Service]
OTHER = "file:///other"
# The superuser without the capabilities that pass over permissions: then those of a folder mean something.
PLAIN = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


class Bench:
    """A service with two mount points, and a storage on each: one that meets the faults, and one that must not."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.root = service.folder / "other"
        self.root.mkdir()
        service.script("quick.sh", '#!/bin/sh\necho "$CONVERSION_ATTEMPT" > "$ACQ_DIR/converted"\n')
        service.start()
        self.wire = service.connect()
        self.fine = Storage(self.wire, "fine", brg_name="fine", brg_path="p").open()
        self.hit = Storage(self.wire, "hit", brg_name="hit", brg_path="p", brg_mp=OTHER).open()
        self.fine.run()
        self.hit.run()
        self._count = 0

    def acq(self, name: str = "acq", script: str | None = "quick.sh") -> Any:
        return self.hit.acq(name, convert_script=script)

    def look(self, acq: dict[str, Any]) -> Any:
        return self.wire.call("get_acq", acq_id=acq["acq_id"])

    def conversion(self, acq: dict[str, Any]) -> Any:
        return self.wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"][0]

    def converted(self, acq: dict[str, Any]) -> bool:
        return bool(self.look(acq)["conversion"] == "succeeded")

    def warned(self, acq: dict[str, Any]) -> Any:
        """The one warning of an acquisition, which is an event as well."""
        (warning,) = eventually(lambda: self.look(acq)["warnings"])
        told = self.wire.journal(topics=["acquisition.warning/"])
        assert [event["data"]["message"] for event in told] == [warning["message"]]
        return warning

    def others_go_on(self) -> None:
        """The storage on the other mount point goes its whole way."""
        self._count += 1
        acq = self.fine.acq(f"acq{self._count}", convert_script="quick.sh")
        assert self.fine.mark(acq)["state"] == "finished"
        eventually(lambda: self.converted(acq))

    def mount(self, mp: str = OTHER) -> Any:
        (state,) = [each for each in self.wire.call("get_status")["mounts"] if each["mp"] == mp]
        return state

    def retry(self, acq: dict[str, Any]) -> None:
        self.wire.call("retry_conversion", conversion_id=self.conversion(acq)["conversion_id"])


def place(acq: dict[str, Any]) -> Path:
    return Path(acq["location"]["local_path"])


@pytest.fixture
def bench(own_service: Make) -> Iterator[Bench]:
    bench = Bench(own_service({"mounts": {"file:///": "data", OTHER: "other"}}, start=False))
    yield bench
    bench.wire.close()


def deleted(folder: Path) -> None:
    shutil.rmtree(folder)


def another_ones(folder: Path) -> None:
    other = folder.parent / "second"
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def a_link(folder: Path) -> None:
    outside = folder.parents[3] / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


FAULTS = {deleted: "gone", another_ones: "belongs to", a_link: "symbolic link", a_file: "is a file"}


def tree(top: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(top)): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_data_folder_lost_under_an_open_acquisition_is_a_warning_and_no_finish_is_lost(
    bench: Bench, fault: Callable[[Path], None]
) -> None:
    acq = bench.acq()
    bench.hit.acq("second")
    fault(place(acq))
    left = tree(bench.root)
    assert bench.hit.call("set_param_acq_storage", acq_id=acq["acq_id"], param="x", value=1)["stored"]
    assert bench.hit.mark(acq)["state"] == "finished"
    assert FAULTS[fault] in bench.warned(acq)["message"]
    told = bench.look(acq)
    assert (told["state"], told["verdict"], told["sealed"], told["conversion"]) == (
        "finished",
        "complete",
        False,
        "queued",
    )
    assert tree(bench.root) == left, "nothing was written where it does not belong"
    bench.others_go_on()
    bench.service.restart()
    assert bench.look(acq)["state"] == "finished"
    if fault is deleted:
        place(acq).mkdir()
    else:
        path = place(acq)
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
        path.mkdir()
    eventually(lambda: bench.converted(acq), 60)
    assert bench.look(acq)["sealed"]
    assert acq["uid"] in (place(acq) / "acquisition.json").read_text()


def test_a_data_folder_lost_after_the_seal_fails_the_conversion_with_its_reason(bench: Bench) -> None:
    acq = bench.acq()
    bench.hit.close(acq)
    eventually(lambda: bench.converted(acq))
    shutil.rmtree(place(acq))
    bench.retry(acq)
    eventually(lambda: bench.conversion(acq)["state"] == "failed")
    assert "gone" in bench.conversion(acq)["reason"]
    assert bench.look(acq)["state"] == "finished"
    bench.others_go_on()
    place(acq).mkdir()
    bench.retry(acq)
    eventually(lambda: bench.converted(acq))


@contextmanager
def away(root: Path) -> Iterator[None]:
    """The folder of a mount point is not there, in the block."""
    root.rename(root.with_name("away"))
    try:
        yield
    finally:
        root.with_name("away").rename(root)


@pytest.mark.parametrize("restarted", [False, True], ids=["in one life", "over a restart"])
def test_a_mount_point_that_vanishes_and_comes_back(bench: Bench, restarted: bool) -> None:
    before, acq = bench.acq("before"), bench.acq()
    bench.hit.close(before)
    eventually(lambda: bench.converted(before))
    with away(bench.root):
        bench.retry(before)
        assert bench.hit.mark(acq)["state"] == "finished"
        for cmd, args in (
            ("new_run_storage", {"run_name": "r2"}),
            ("new_acq_storage", NEW),
            ("new_run_storage", AGAIN),
        ):
            refused = bench.hit.refusal(cmd, **args)
            assert refused.code == "unavailable", refused
            assert OTHER in refused.message
        assert bench.mount()["state"] == "unavailable"
        assert bench.mount("file:///")["state"] == "ok"
        bench.warned(acq)
        if restarted:
            bench.service.restart()
        bench.others_go_on()
        waits = eventually(lambda: (found := bench.conversion(before))["attempt"] > 1 and found)
        assert waits["state"] == "queued", "no fault of the script"
        assert not bench.root.exists()
    for each in (before, acq):
        eventually(lambda each=each: bench.converted(each), 60)
    assert bench.mount()["state"] == "ok"
    assert bench.hit.run("r2")["run_name"] == "r2"
    assert bench.hit.acq("new")["state"] == "open"


NEW = {"run_name": "run", "acq_name": "new"}
AGAIN = {"run_name": "run", "mode": "append", "params": {"x": 1}}


def test_a_disk_that_is_unmounted_is_not_written_below(bench: Bench) -> None:
    try:
        with empty_disk(bench.root):
            assert bench.mount()["state"] == "ok"
            assert bench.hit.run("on_disk")
            acq = bench.hit.acq("acq", "on_disk")
    except CannotMount as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    left = tree(bench.root)
    assert bench.hit.mark(acq)["state"] == "finished"
    assert "nothing is mounted" in bench.warned(acq)["message"]
    refused = bench.hit.refusal("new_run_storage", run_name="r2")
    assert (refused.code, "nothing is mounted" in refused.message) == ("unavailable", True)
    assert "nothing is mounted" in bench.mount()["reason"]
    assert tree(bench.root) == left
    bench.others_go_on()
    with empty_disk(bench.root):
        assert bench.mount()["state"] == "ok"
        assert bench.hit.run("r2")
        place(acq).mkdir(parents=True)
        eventually(lambda: bench.look(acq)["sealed"], 60)


def test_rights_taken_away_are_a_refusal_and_are_tried_again(own_service: Make) -> None:
    through = PLAIN if os.geteuid() == 0 else []
    if through and (shutil.which("setpriv") is None or subprocess.run([*through, "true"], check=False).returncode):
        pytest.skip("the superuser passes over permissions, and setpriv cannot take that from it here")
    mounts = {"mounts": {"file:///": "data", OTHER: "other"}}
    bench = Bench(own_service(mounts, start=False, through=through))
    with bench.wire:
        acq = bench.acq()
        folders = [place(acq), place(acq).parent, place(acq).parents[1]]
        for folder in folders:
            folder.chmod(0o555)
        try:
            refused = bench.hit.refusal("new_acq_storage", **NEW)
            assert (refused.code, "Permission denied" in refused.message) == ("unavailable", True)
            assert bench.hit.refusal("new_run_storage", run_name="r2").code == "unavailable"
            assert bench.hit.mark(acq)["state"] == "finished"
            assert "Permission denied" in bench.warned(acq)["message"]
            bench.others_go_on()
        finally:
            for folder in folders:
                folder.chmod(0o755)
        eventually(lambda: bench.converted(acq), 60)
        assert bench.hit.acq("new")["state"] == "open"
        assert bench.hit.run("r2")


def test_a_scripts_folder_that_vanishes_is_a_refusal_and_fails_what_needs_it(bench: Bench) -> None:
    acq = bench.acq()
    scripts = bench.service.scripts
    scripts.rename(scripts.with_name("away"))
    assert bench.hit.refusal("new_acq_storage", **NEW, convert_script="quick.sh").code == "not_found"
    assert bench.hit.acq("without")["state"] == "open"
    assert bench.hit.mark(acq)["state"] == "finished"
    eventually(lambda: bench.conversion(acq)["state"] == "failed")
    assert "quick.sh" in bench.conversion(acq)["reason"]
    assert bench.look(acq)["sealed"]
    scripts.with_name("away").rename(scripts)
    bench.retry(acq)
    eventually(lambda: bench.converted(acq))
