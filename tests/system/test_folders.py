"""Section 3: folders on disk, their markers, and what stands in their way."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Refused, Storage, Wire

Plan = Callable[..., Storage]


def outcome(storage: Storage, run_name: str = "run") -> Refused:
    """The refusal on the way from init to a new run; its place on that way is not laid down."""
    with pytest.raises(Refused) as caught:
        storage.open().run(run_name)
    return caught.value


def home(service: Service, storage: Storage) -> Path:
    """The folder of the storage's base run group."""
    return service.mount / str(storage.arguments["brg_path"])


def described(marker: Path) -> set[object]:
    """What a marker file says, without a look at the names of its keys."""
    return {value for value in json.loads(marker.read_text()).values() if isinstance(value, str)}


def test_folders_and_their_markers_are_there_before_the_reply(service: Service, storage: Storage) -> None:
    run = storage.run()
    assert {run["run_id"], run["uid"]} <= described(home(service, storage) / "run/run.json")
    acq = storage.acq("iteration_1/threshold_200")
    marker = home(service, storage) / "run/iteration_1/threshold_200/acquisition.json"
    assert {acq["acq_id"], acq["uid"]} <= described(marker)


def test_a_marker_still_tells_who_it_is_when_all_is_sealed(service: Service, storage: Storage) -> None:
    storage.run()
    acq = storage.acq()
    storage.close(acq)
    eventually(lambda: storage.wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
    assert {acq["acq_id"], acq["uid"]} <= described(home(service, storage) / "run/acq/acquisition.json")


def test_a_removed_ones_successor_has_its_own_uid_in_the_marker(service: Service, storage: Storage) -> None:
    old = storage.run()
    new = storage.run(mode="remove")
    says = described(home(service, storage) / "run/run.json")
    assert new["uid"] in says
    assert old["uid"] not in says


def test_folders_without_a_marker_are_adopted_with_what_is_in_them(service: Service, storage: Storage) -> None:
    data = home(service, storage) / "run/acq/events.dat"
    data.parent.mkdir(parents=True)
    data.write_text("older than the service")
    run, acq = storage.run(), storage.acq()
    assert data.read_text() == "older than the service"
    assert run["uid"] in described(data.parent.parent / "run.json")
    assert acq["uid"] in described(data.parent / "acquisition.json")


def test_a_run_folder_that_describes_another_id_is_refused(service: Service, wire: Wire, plan: Plan) -> None:
    first = plan(wire).open()
    first.run()
    second = plan(wire, brg_path=first.arguments["brg_path"])
    says = (home(service, first) / "run/run.json").read_bytes()
    assert outcome(second).code == "already_exists"
    assert wire.refusal("get_run", run_id=f"{second.group}/run").code == "not_found"
    assert (home(service, first) / "run/run.json").read_bytes() == says


def test_a_copied_run_folder_is_refused(service: Service, wire: Wire, plan: Plan) -> None:
    first, second = plan(wire).open(), plan(wire).open()
    first.run()
    shutil.copytree(home(service, first) / "run", home(service, second) / "copy")
    assert second.refusal("new_run_storage", run_name="copy").code == "already_exists"


def test_a_copied_acquisition_folder_is_refused(service: Service, storage: Storage) -> None:
    storage.run()
    storage.acq()
    run = home(service, storage) / "run"
    shutil.copytree(run / "acq", run / "copy")
    assert storage.refusal("new_acq_storage", run_name="run", acq_name="copy").code == "already_exists"
    assert storage.wire.refusal("get_acq", acq_id=f"{storage.group}/run/copy").code == "not_found"


@pytest.mark.parametrize("below", ["run", "run/acq", "run/acq/deeper", "run/beside"])
def test_a_folder_below_what_describes_another_id_is_refused(wire: Wire, plan: Plan, below: str) -> None:
    first = plan(wire).open()
    first.run()
    first.acq()
    second = plan(wire, brg_path=f"{first.arguments['brg_path']}/{below}")
    assert outcome(second).code == "already_exists"


def test_no_acquisition_lies_inside_another(storage: Storage) -> None:
    storage.run()
    storage.acq("a")
    storage.close(storage.acq("b/c/d"))
    for name in ("a/x", "a/x/y", "b", "b/c", "b/c/d/e"):
        refusal = storage.refusal("new_acq_storage", run_name="run", acq_name=name)
        assert (refusal.code, refusal.details["field"]) == ("invalid_name", "acq_name"), name
    for name in ("b/c/e", "b/x", "ab", "a-1"):
        assert storage.acq(name)["state"] == "open"


@pytest.mark.parametrize("target", ["outside", "inside", "nowhere"])
def test_a_link_in_the_groups_path_is_not_followed(
    service: Service, wire: Wire, plan: Plan, tmp_path: Path, target: str
) -> None:
    storage = plan(wire, brg_path=f"links-{target}/here")
    there = {"outside": tmp_path, "inside": service.mount / "inside", "nowhere": tmp_path / "nothing"}[target]
    (service.mount / "inside").mkdir(exist_ok=True)
    (service.mount / f"links-{target}").symlink_to(there)
    refusal = outcome(storage)
    assert (refusal.code, refusal.details["rule"]) == ("invalid_name", "symlink")
    assert not any(tmp_path.iterdir())
    assert not any((service.mount / "inside").iterdir())


def test_a_link_as_run_folder_is_not_followed(service: Service, storage: Storage, tmp_path: Path) -> None:
    home(service, storage).mkdir(exist_ok=True)
    (home(service, storage) / "run").symlink_to(tmp_path)
    refusal = storage.refusal("new_run_storage", run_name="run")
    assert (refusal.code, refusal.details["rule"]) == ("invalid_name", "symlink")
    assert not any(tmp_path.iterdir())
    assert storage.wire.refusal("get_run", run_id=f"{storage.group}/run").code == "not_found"


@pytest.mark.parametrize("acq_name", ["link", "link/acq"])
def test_a_link_in_an_acquisitions_path_is_not_followed(
    service: Service, storage: Storage, tmp_path: Path, acq_name: str
) -> None:
    storage.run()
    (home(service, storage) / "run/link").symlink_to(tmp_path)
    refusal = storage.refusal("new_acq_storage", run_name="run", acq_name=acq_name)
    assert (refusal.code, refusal.details["rule"]) == ("invalid_name", "symlink")
    assert not any(tmp_path.iterdir())
    assert storage.state() == "configured"


def test_the_same_id_with_an_unknown_uid_is_adopted_and_rewritten(service: Service, storage: Storage) -> None:
    elsewhere = storage.run("elsewhere")
    folder = home(service, storage) / "run"
    folder.mkdir()
    told = (home(service, storage) / "elsewhere/run.json").read_text()
    stranger = str(uuid.uuid4())
    told = told.replace(elsewhere["run_id"], f"{storage.group}/run").replace(elsewhere["uid"], stranger)
    (folder / "run.json").write_text(told)
    run = storage.run()
    says = described(folder / "run.json")
    assert run["uid"] in says
    assert stranger not in says


def test_data_outlive_the_database(own_service: Callable[..., Service]) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        old_run, old_acq = storage.run(), storage.acq()
        data = service.mount / "p/run/acq/events.dat"
        data.write_text("kept")
    service.kill()
    shutil.rmtree(service.state)
    service.start()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        run, acq = storage.run(), storage.acq()
    assert data.read_text() == "kept"
    assert run["uid"] != old_run["uid"]
    assert acq["uid"] != old_acq["uid"]
    assert run["uid"] in described(service.mount / "p/run/run.json")
    assert acq["uid"] in described(data.parent / "acquisition.json")
