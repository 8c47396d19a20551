"""Manifests of a real service: in processes of their own, over kills and restarts, and held against the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.support.polling import eventually
from tests.support.service import HELD, Service, alive
from tests.support.wire import Storage, Wire

Make = Callable[..., Service]

CONVERT = '#!/bin/sh\nwc -c < "$ACQ_DIR/raw.dat" > "$ACQ_DIR/size.txt"\n'


def storage_on(wire: Wire, name: str = "s") -> Storage:
    return Storage(wire, name, brg_name=f"g{name}", brg_path=f"p{name}")


def folder_of(acq: dict[str, Any]) -> Path:
    return Path(acq["location"]["local_path"])


def taken(storage: Storage, name: str, content: bytes = b"raw data", **more: Any) -> dict[str, Any]:
    """An acquisition with a file of data, closed."""
    acq: dict[str, Any] = storage.acq(name, **more)
    (folder_of(acq) / "raw.dat").write_bytes(content)
    storage.close(acq)
    return acq


def quiet(wire: Wire) -> None:
    """All that ended is sealed, and every manifest that is due is written."""

    def settled() -> bool:
        types = [event["type"] for event in wire.journal(topics=["acquisition."])]
        ends = types.count("acquisition.finished") + types.count("acquisition.aborted")
        return ends == types.count("acquisition.sealed") and not wire.call("get_status")["queues"]["manifests"]

    eventually(settled, 60)


def verify(what: object, *words: str, endpoint: str = "ipc:///nowhere") -> tuple[int, dict[str, Any]]:
    """The exit code and the document of `storage-service verify --json`."""
    done = subprocess.run(
        [sys.executable, "-m", "storage_service", "verify", str(what), "--json", "--endpoint", endpoint, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}


def damage(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["what"], each["path"]) for one in document["acquisitions"] for each in one["damage"]]


def workers(service: Service) -> list[int]:
    """The processes that the service has started to write manifests."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"storage_service.doors.manifest_worker" in words and str(service.pid).encode() in words:
                found.append(int(entry.name))
    return found


def at_work(wire: Wire) -> dict[str, int]:
    """The queues, once some of a large file is read."""

    def look() -> dict[str, int] | None:
        queues: dict[str, int] = wire.call("get_status")["queues"]
        return queues if queues["manifest_bytes"] > 0 else None

    return eventually(look, 40)  # type: ignore[return-value]


def large(path: Path) -> None:
    """A file that takes a while to read, and no place on the disk."""
    with path.open("wb") as file:
        file.truncate(16 << 30)


def test_the_manifest_stands_beside_the_data_and_its_digest_is_told(storage: Storage, wire: Wire) -> None:
    before = wire.last_seq()
    storage.run()
    acq = taken(storage, "a")
    (event,) = eventually(lambda: storage.events(before, "acquisition.manifest_written"))
    content = (folder_of(acq) / "manifest-1.json").read_bytes()
    marker, log = ((folder_of(acq) / f"acquisition.{end}").read_bytes() for end in ("json", "log"))
    assert event["data"] == {
        "acq_id": acq["acq_id"],
        "uid": acq["uid"],
        "segment": 1,
        "name": "manifest-1.json",
        "files": 3,
        "bytes": 8 + len(marker) + len(log),
        "manifest_blake3": blake3(content).hexdigest(),
    }
    digests = {each["path"]: each["blake3"] for each in json.loads(content)["files"]}
    assert digests == {
        "acquisition.json": blake3(marker).hexdigest(),
        "acquisition.log": blake3(log).hexdigest(),
        "raw.dat": blake3(b"raw data").hexdigest(),
    }
    where = {"manifest.blake3": event["data"]["manifest_blake3"]}
    assert [node["id"] for node in wire.call("find_nodes", where=where)["nodes"]] == [acq["acq_id"]]
    assert wire.call("get_acq", acq_id=acq["acq_id"])["params"] == {}


def test_verify_needs_the_files_alone_and_says_which_byte_of_which_file(own_service: Make) -> None:
    service = own_service()
    service.script("convert.sh", CONVERT)
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = taken(storage, "a", convert_script="convert.sh")
        taken(storage, "b")
        eventually(lambda: (folder_of(acq) / "manifest-1-conversion-1.json").exists())
        quiet(wire)
        for what in (acq["acq_id"], acq["run_id"]):
            assert verify(what, "--config", str(service.config), endpoint=service.commands)[0] == 0
    service.terminate()
    for what, count in ((folder_of(acq), 1), (service.mount, 2), (service.mount / "ps/run", 2)):
        code, told = verify(what)
        assert (code, told["ok"], len(told["acquisitions"])) == (0, True, count), told
        assert [each["notes"] for each in told["acquisitions"]] == [[]] * count
    for what in (acq["acq_id"], acq["run_id"], "root/gs"):
        assert verify(what, "--config", str(service.config))[0] == 0
    raw = folder_of(acq) / "raw.dat"
    raw.write_bytes(b"raw dat\xe1")
    (folder_of(acq) / "later.txt").write_text("added")
    code, told = verify(service.mount)
    assert (code, damage(told)) == (1, [("changed", "raw.dat")])
    assert told["acquisitions"][0]["notes"] == [{"what": "added", "path": "later.txt", "detail": ""}]
    assert verify(service.mount, "--fast")[0] == 0
    assert verify(folder_of(acq) / "nothing")[0] == 2
    assert verify(service.scripts)[0] == 2
    assert verify("root/gs/run/none", "--config", str(service.config))[0] == 2


def test_for_people_a_line_tells_each_file_that_differs(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = taken(storage, "a")
        quiet(wire)
    (folder_of(acq) / "raw.dat").unlink()
    words = [sys.executable, "-m", "storage_service", "verify", str(folder_of(acq))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"damaged   {acq['acq_id']}  segment 1" in done.stdout
    assert "    missing    raw.dat" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("compared: 1 damaged")


def test_a_manifest_that_was_changed_with_its_data_is_seen_by_who_asks_the_service(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = taken(storage, "a")
        quiet(wire)
        manifest = folder_of(acq) / "manifest-1.json"
        old, new = blake3(b"raw data").hexdigest(), blake3(b"RAW data").hexdigest()
        (folder_of(acq) / "raw.dat").write_bytes(b"RAW data")
        manifest.write_text(manifest.read_text().replace(old, new))
        assert verify(folder_of(acq))[0] == 0
        code, told = verify(acq["acq_id"], endpoint=service.commands)
        assert (code, damage(told)) == (1, [("manifest", "manifest-1.json")])


def test_manifests_of_a_storage_are_a_chain_that_outlives_it(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        first = [taken(storage, f"a{n}") for n in range(4)]
        quiet(wire)
        storage.call("deinit_storage", force=True)
        service.restart()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="other", brg_path="q").open()
        storage.run()
        acqs = [*first, taken(storage, "b")]
        quiet(wire)
        told = [event["data"] for event in wire.journal(topics=["acquisition.manifest_written/"])]
    written = {each["acq_id"]: each["manifest_blake3"] for each in told}
    tail = None
    for each in told:
        folder = folder_of(next(acq for acq in acqs if acq["acq_id"] == each["acq_id"]))
        previous = json.loads((folder / "manifest-1.json").read_bytes())["previous"]
        assert (previous and previous["blake3"]) == (tail and written[tail])
        tail = each["acq_id"]
    assert verify(service.mount)[1]["counts"] == {"ok": 5, "damaged": 0, "unproven": 0}
    chained = folder_of(acqs[1]) / "manifest-1.json"
    chained.write_bytes(chained.read_bytes().replace(b'"time":"2', b'"time":"3'))
    assert damage(verify(service.mount)[1]) == [("chain", "manifest-1.json")]
    assert verify(service.mount, "--no-chain")[0] == 0


def test_killed_while_it_reads_the_service_writes_the_manifest_at_the_next_start(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = storage.acq("a")
        large(folder_of(acq) / "z-large.dat")
        (folder_of(acq) / "raw.dat").write_bytes(b"raw data")
        storage.close(acq)
        assert at_work(wire)["manifests_writing"] == 1
        pids = workers(service)
        assert pids
        service.kill()
    eventually(lambda: not any(map(alive, pids)))
    assert not (folder_of(acq) / "manifest-1.json").exists()
    os.truncate(folder_of(acq) / "z-large.dat", 1000)
    with service.start().connect() as wire:
        quiet(wire)
        assert len(wire.journal(topics=["acquisition.manifest_written/"])) == 1
    assert verify(folder_of(acq))[0] == 0


@pytest.mark.parametrize("place", ["begun", "synced", "renamed", "published"])
def test_a_process_that_dies_at_any_step_leaves_what_the_next_one_completes(own_service: Make, place: str) -> None:
    service = own_service(environment={"STORAGE_FAILPOINT": f"manifest.{place}"})
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = taken(storage, "a")
        eventually(lambda: storage.types(0, "acquisition.warning"))
        assert storage.types(0, "acquisition.manifest_written") == []
        service.environment.clear()
        service.restart()
    with service.connect() as wire:
        quiet(wire)
        (event,) = wire.journal(topics=["acquisition.manifest_written/"])
    content = (folder_of(acq) / "manifest-1.json").read_bytes()
    assert event["data"]["manifest_blake3"] == blake3(content).hexdigest()
    assert not (folder_of(acq) / ".manifest-1.json.new").exists()
    assert verify(folder_of(acq))[0] == 0


def test_a_stop_ends_the_processes_and_the_next_start_goes_on(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = storage.acq("a")
        large(folder_of(acq) / "large.dat")
        storage.close(acq)
        at_work(wire)
        pids = workers(service)
        assert service.terminate() == 0
    assert not any(map(alive, pids))
    assert not (folder_of(acq) / "manifest-1.json").exists()


def test_nothing_waits_for_a_manifest(own_service: Make) -> None:
    """A conversion starts, the acquisition is opened again or removed, while a large file is read."""
    service = own_service()
    service.script("held.sh", HELD)
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = storage.acq("a", convert_script="held.sh")
        large(folder_of(acq) / "large.dat")
        storage.close(acq)
        at_work(wire)
        eventually(lambda: (folder_of(acq) / "pid-1").exists())
        (folder_of(acq) / "go").touch()
        eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["conversion"] == "succeeded")
        assert storage.types(0, "acquisition.manifest_written") == []
        assert storage.acq("a")["segment"] == 2
        os.truncate(folder_of(acq) / "large.dat", 10)
        storage.close(acq)
        quiet(wire)
        (told,) = [event["data"] for event in wire.journal(topics=["acquisition.manifest_written/"])]
        assert (told["segment"], told["name"]) == (2, "manifest-2.json")
        large(folder_of(acq) / "large.dat")
        storage.acq("a")
        storage.close(acq)
        at_work(wire)
        storage.acq("a", mode="remove")
        quiet(wire)
    assert not (folder_of(acq) / "manifest-3.json").exists()


def test_what_is_written_is_chosen_by_storage(own_service: Make) -> None:
    tables = {"storages": {"none*": {"manifest": "off"}, "n*": {"manifest": "sizes"}}}
    service = own_service(tables)
    kinds = {}
    with service.connect() as wire:
        for name in ("none1", "nose", "other"):
            storage = storage_on(wire, name).open()
            storage.run()
            acq = taken(storage, "a")
            eventually(lambda acq=acq: wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
            quiet(wire)
            path = folder_of(acq) / "manifest-1.json"
            kinds[name] = json.loads(path.read_bytes())["kind"] if path.exists() else None
    assert kinds == {"none1": None, "nose": "sizes", "other": "blake3"}
    code, told = verify(service.mount)
    assert (code, told["counts"]) == (2, {"ok": 2, "damaged": 0, "unproven": 1})


def test_the_processes_are_modest_and_few(own_service: Make) -> None:
    service = own_service({"manifest": {"processes": 2}})
    with service.connect() as wire:
        for n in range(4):
            storage = storage_on(wire, f"s{n}").open()
            storage.run()
            acq = storage.acq("a")
            large(folder_of(acq) / "large.dat")
            storage.close(acq)
        eventually(lambda: wire.call("get_status")["queues"]["manifests_writing"] == 2)
        eventually(lambda: wire.call("get_status")["queues"]["manifests"] == 4)
        pids = workers(service)
        assert len(pids) == 2
        eventually(lambda: all(os.getpriority(os.PRIO_PROCESS, pid) == 19 for pid in pids))


def test_a_mount_point_whose_files_take_long_keeps_no_other_waiting(own_service: Make) -> None:
    service = own_service({"mounts": {"file:///": "data", "file:///other": "other"}}, start=False)
    (service.folder / "other").mkdir()
    with service.start().connect() as wire:
        slow = storage_on(wire, "slow").open()
        slow.run()
        acq = slow.acq("a")
        large(folder_of(acq) / "large.dat")
        slow.close(acq)
        at_work(wire)
        quick = Storage(wire, "quick", brg_name="gq", brg_path="q", brg_mp="file:///other").open()
        quick.run()
        taken(quick, "a")
        eventually(lambda: quick.types(0, "acquisition.manifest_written"))
        assert slow.types(0, "acquisition.manifest_written") == []
