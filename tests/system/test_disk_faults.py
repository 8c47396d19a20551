"""An error of the database never produces a wrong answer (promise R3): its disk fails under the real service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disk_faults import DiskFaults
from tests.support.faulty_disk import COMPILER, NO_COMPILER, FaultyDisk
from tests.support.polling import eventually
from tests.support.service import Died, Service
from tests.support.small_disk import SmallDisks, fill
from tests.support.wire import NoReply, Refused, Storage, Wire

Make = Callable[..., Service]
FAULTS = 100
SEED = 1
needs_a_compiler = pytest.mark.skipif(not COMPILER, reason=NO_COMPILER)


@needs_a_compiler
@pytest.mark.timeout(600)
def test_no_fault_of_the_disk_loses_or_doubles_anything(tmp_path: Path) -> None:
    tally = DiskFaults(tmp_path / "faults", SEED).run(FAULTS)
    assert tally.found == []
    assert tally.faults >= FAULTS // 2
    # They met what they are meant to meet.
    assert all(tally.met[what] for what in ("unavailable", "ended", "refused to start")), tally.met


def storage_on(wire: Wire, name: str = "s", **more: object) -> Storage:
    return Storage(wire, name, **{"brg_name": f"g-{name}", "brg_path": f"p-{name}", **more})


@pytest.fixture
def faulty(own_service: Make, tmp_path: Path) -> tuple[Service, FaultyDisk]:
    """A service that runs, with a configured storage and a run, whose state folder can fail."""
    disk = FaultyDisk(tmp_path / "own" / "var", tmp_path / "disk")
    service = own_service(environment=disk.environment)
    with service.connect() as wire:
        storage_on(wire).open().run()
    return service, disk


@needs_a_compiler
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_takes_nothing_is_unavailable_for_as_long_as_that_lasts(
    faulty: tuple[Service, FaultyDisk], error: str
) -> None:
    service, disk = faulty
    where = {"run_name": "run", "param": "x"}
    with service.connect() as wire:
        storage = storage_on(wire)
        before = wire.journal()
        disk.order("w", 1, error, "ever")
        for n in range(4):
            refused = storage.refusal("set_param_run_storage", value=n, key=f"k{n}", **where)
            assert refused.code == "unavailable"
            assert ("full" if error == "ENOSPC" else "I/O") in refused.message
            # Who only reads is not harmed.
            assert wire.call("get_run", run_id="root/g-s/run")["params"] == {}
        assert len(disk.mend()) == 4
        assert wire.journal() == before
        for n in range(4):
            assert storage.call("set_param_run_storage", value=n, key=f"k{n}", **where) == {"stored": True}
        assert [event["data"]["value"] for event in wire.journal(before[-1]["seq"])] == [0, 1, 2, 3]


@needs_a_compiler
def test_a_commit_of_unknown_outcome_ends_the_service_without_a_reply(faulty: tuple[Service, FaultyDisk]) -> None:
    service, disk = faulty
    args = {"storage_id": "s", "run_name": "run", "param": "x", "value": 1}
    with service.connect(patience_s=1.0) as wire:
        disk.order("s", 1, "EIO", "ever")
        number = wire.post("set_param_run_storage", key="k", **args)
        assert eventually(lambda: service.exit_code) == 75
        with pytest.raises(NoReply):
            wire.collect(number)
    assert [line.split()[1] for line in disk.mend()] == ["EIO"]
    service.start()
    with service.connect() as wire:
        assert wire.call("set_param_run_storage", key="k", **args) == {"stored": True}
        assert len(wire.journal(topics=["run.param_set/"])) == 1


@needs_a_compiler
def test_a_start_on_a_disk_that_fails_says_so_and_is_to_be_tried_again(faulty: tuple[Service, FaultyDisk]) -> None:
    service, disk = faulty
    service.kill()
    for kinds in ("w", "s"):
        disk.order(kinds, 2 if kinds == "w" else 1, "EIO", "ever")
        with pytest.raises(Died):
            service.start()
        assert service.exit_code == 75
        assert service.log_text().splitlines()[-1].startswith("storage-service: The database ")
        assert disk.mend()
    with service.start().connect() as wire:
        assert wire.call("get_run", run_id="root/g-s/run")["run_name"] == "run"


# A full disk


def refusal_of(wire: Wire, number: int) -> Refused | None:
    """Why a command was refused; None when it was not."""
    try:
        wire.collect(number)
    except Refused as refused:
        return refused
    return None


def test_a_full_disk_below_the_database_is_unavailable_until_there_is_space(
    own_service: Make, small_disks: SmallDisks
) -> None:
    state = small_disks.mount("own/var", 4096)
    service = own_service()
    text = "x" * 4000
    sent: dict[str, dict[str, object]] = {}
    acknowledged, unknown = set[str](), set[str]()
    with service.connect() as wire:
        storage_on(wire).open().run()
        filler = fill(state)
    refusals = 0
    while refusals < 5:
        assert len(sent) < 500, "the disk is not full"
        key = f"k{len(sent)}"
        sent[key] = {"storage_id": "s", "run_name": "run", "param": key, "value": text}
        with service.connect() as wire:
            number = wire.post("set_param_run_storage", key=key, **sent[key])
            if eventually(lambda: wire.socket.poll(0) or service.exit_code) == 75:
                # It was the very last page: nobody can tell, and the supervisor starts the service again.
                unknown.add(key)
                service.start()
                continue
            refused = refusal_of(wire, number)
            if refused is None:
                acknowledged.add(key)
                continue
            assert (refused.code, "full" in refused.message) == ("unavailable", True)
            refusals += 1
            there = set(wire.call("get_run", run_id="root/g-s/run")["params"])
            assert acknowledged <= there <= acknowledged | unknown
    filler.unlink()
    with service.connect() as wire:
        for key, args in sent.items():
            assert wire.call("set_param_run_storage", key=key, **args) == {"stored": True}
        assert set(wire.call("get_run", run_id="root/g-s/run")["params"]) == set(sent)
        assert len(wire.journal(topics=["run.param_set/"])) == len(sent)
