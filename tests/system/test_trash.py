"""The trash, with the real service: listed, restored and emptied, across kills at every step, and in a shell."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import NoReply, Storage, Wire

Make = Callable[..., Service]
Plan = Callable[..., Storage]

ROOT = Path(__file__).parents[2]
POINTS = [
    name
    for source in sorted((ROOT / "storage_service/doors").glob("*.py"))
    for name in re.findall(r'passing\("(trash\.[a-z_.]+)"\)', source.read_text())
]


def a_run(storage: Storage, name: str = "run", acqs: int = 2, **params: Any) -> dict[str, Any]:
    """A run with acquisitions that have ended and are sealed, each with data."""
    run: dict[str, Any] = storage.run(name, params=params)
    for number in range(acqs):
        acq = storage.acq(f"deep/a{number}", name, params={"n": number})
        (Path(acq["location"]["local_path"]) / "data.raw").write_text(f"data {number} of {run['uid']}")
        storage.mark(acq, "p", summary={"events": number})
        storage.close(acq)
        eventually(lambda id=acq["acq_id"]: storage.wire.call("get_acq", acq_id=id)["sealed"])
    return run


def told(node: dict[str, Any]) -> dict[str, Any]:
    """What of an acquisition must come back as it was."""
    return {name: value for name, value in node.items() if name not in ("conversion",)}


def entries(wire: Wire, storage: Storage) -> list[dict[str, Any]]:
    found = wire.call("list_trash", limit=10_000)["entries"]
    return [each for each in found if each["storage_id"] == storage.storage_id]


def test_what_was_removed_is_listed_with_its_size(wire: Wire, storage: Storage) -> None:
    run = a_run(storage)
    eventually(lambda: not wire.call("get_status")["queues"]["manifests"])
    assert entries(wire, storage) == []
    storage.run(mode="remove")
    (entry,) = entries(wire, storage)
    assert (entry["uid"], entry["id"], entry["kind"], entry["mp"]) == (
        run["uid"],
        run["run_id"],
        "run",
        "file:///",
    )
    assert entry["path"] == run["location"]["path"]
    measured = eventually(lambda: [each for each in entries(wire, storage) if each["bytes"] is not None])[0]
    assert measured["files"] == 9  # each acquisition has its manifest and its log
    assert measured["bytes"] > 200
    mounts = {each["mp"]: each["trash"] for each in wire.call("get_status")["mounts"]}
    assert mounts["file:///"]["entries"] >= 1
    assert mounts["file:///"]["bytes"] >= measured["bytes"]
    assert mounts["file:///spare"] == {"entries": None, "bytes": None, "measured_at": None}


def test_a_remove_is_taken_back_with_everything_that_the_rundb_knew(wire: Wire, storage: Storage) -> None:
    old = a_run(storage, voltage=200)
    before = [told(wire.call("get_acq", acq_id=f"{old['run_id']}/deep/a{n}")) for n in range(2)]
    storage.call("set_param_run_storage", run_name="run", param="late", value="yes")
    old["params"]["late"] = "yes"
    new = storage.run(mode="remove", params={"voltage": 1})
    refused = wire.refusal("restore_trash", uid=old["uid"])
    assert (refused.code, refused.details["what"], refused.details["id"]) == (
        "already_exists",
        "run",
        old["run_id"],
    )
    seq = wire.last_seq()
    back = wire.call("restore_trash", uid=old["uid"], replace=True)
    assert (back["id"], back["rundb"], back["acqs"]) == (old["run_id"], True, 2)
    assert wire.call("get_run", run_id=old["run_id"]) == old
    assert [told(wire.call("get_acq", acq_id=f"{old['run_id']}/deep/a{n}")) for n in range(2)] == before
    data = Path(old["location"]["local_path"]) / "deep/a1/data.raw"
    assert data.read_text() == f"data 1 of {old['uid']}"
    assert storage.types(seq) == [
        "run.removed",
        "run.restored",
        "acquisition.restored",
        "acquisition.restored",
        "trash.restored",
    ]
    found = wire.call("find_nodes", under=storage.group, where={"voltage": 200}, kind="acq")["nodes"]
    assert len(found) == 2
    assert [each["uid"] for each in entries(wire, storage)] == [new["uid"]]
    # It is the storage's again, and work goes on in it.
    again = storage.acq("deep/a0")
    assert (again["segment"], again["uid"]) == (2, before[0]["uid"])


def test_an_acquisition_comes_back_to_its_run(wire: Wire, storage: Storage) -> None:
    a_run(storage, acqs=1)
    old = wire.call("get_acq", acq_id=f"{storage.group}/run/deep/a0")
    new = storage.acq("deep/a0", mode="remove")
    refused = wire.refusal("restore_trash", uid=old["uid"], replace=True)
    assert (refused.code, refused.details["state"]) == ("wrong_state", "open")
    storage.close(new)
    eventually(lambda: wire.call("get_acq", acq_id=new["acq_id"])["sealed"])
    back = wire.call("restore_trash", uid=old["uid"], replace=True)
    assert (back["kind"], back["rundb"], back["acqs"]) == ("acq", True, 1)
    assert told(wire.call("get_acq", acq_id=old["acq_id"])) == told(old)


def test_without_a_place_in_the_rundb_only_files_come_back_and_the_reply_says_so(own_service: Make) -> None:
    service = own_service(name="one")
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        old = a_run(storage)
        new = storage.run(mode="remove")
    service.terminate()
    for file in service.state.iterdir():  # a database that was lost; the data and their markers are there
        file.unlink()
    (service.mount / "p/run").rename(service.mount / "p/run_of_the_lost_database")
    service.start()
    with service.connect() as wire:
        back = wire.call("restore_trash", uid=old["uid"])
        assert (back["rundb"], back["acqs"]) == (False, 0)
        assert (service.mount / "p/run/deep/a0/data.raw").exists()
        assert wire.refusal("get_run", run_id=old["run_id"]).code == "not_found"
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        assert storage.run()["run_id"] == old["run_id"]  # append adopts them
        assert new["uid"] != old["uid"]


def test_what_is_not_there_or_does_not_say_where_it_was_is_not_found(own_service: Make) -> None:
    # One of its own: others make the folder of the mount point that is not there.
    service = own_service({"mounts": {"file:///": "data", "file:///spare": "spare"}})
    with service.connect() as wire:
        nothing_is_found(wire, service, str(uuid.uuid4()))


def nothing_is_found(wire: Wire, service: Service, nobody: str) -> None:
    for cmd, args in (("restore_trash", {"uid": nobody}), ("empty_trash", {"uid": nobody})):
        refused = wire.refusal(cmd, mp="file:///", **args)
        assert (refused.code, refused.details["what"], refused.details["id"]) == ("not_found", "trash", nobody)
    for cmd in ("list_trash", "empty_trash"):
        assert wire.refusal(cmd, mp="file:///nowhere").details["what"] == "mount"
        assert wire.refusal(cmd, mp="file:///spare").code == "unavailable"
    assert wire.call("list_trash")["unreachable"] == ["file:///spare"]
    (service.mount / ".storage-trash" / nobody).mkdir(parents=True)
    refused = wire.refusal("restore_trash", uid=nobody, mp="file:///")
    assert (refused.code, refused.details["what"]) == ("not_found", "place")
    assert wire.refusal("list_trash", cursor="x").details["field"] == "cursor"


def test_what_is_given_up_is_told_and_deleted(wire: Wire, storage: Storage, service: Service) -> None:
    run = a_run(storage)
    storage.run(mode="remove")
    storage.run("other")
    storage.run("other", mode="remove")
    assert len(wire.pages("list_trash", "entries", limit=1)) >= 2
    eventually(lambda: [each for each in entries(wire, storage) if each["bytes"]])
    assert wire.call("empty_trash", mp="file:///", older_than_s=3600)["entries"] == 0
    seq = wire.last_seq()
    done = wire.call("empty_trash", mp="file:///", uid=run["uid"], key="k")
    assert (done["entries"], done["more"], done["unreachable"]) == (1, False, [])
    assert done["bytes"] > 0
    assert wire.call("empty_trash", mp="file:///", uid=run["uid"], key="k") == done
    (event,) = storage.events(seq)
    assert (event["type"], event["subject"]) == ("trash.emptied", run["run_id"])
    assert (event["data"]["uid"], event["data"]["why"]) == (run["uid"], "asked")
    assert wire.refusal("restore_trash", uid=run["uid"], mp="file:///").code == "not_found"
    trash = service.mount / ".storage-trash"
    eventually(lambda: not [each for each in trash.iterdir() if run["uid"] in each.name])
    assert len(entries(wire, storage)) == 1


# Kills


def _dies(service: Service) -> bool:
    """Wait until the service has died, or is at rest with nothing left to do."""

    def looked() -> str:
        if not service.running:
            return "dead"
        with contextlib.suppress(NoReply, Exception), service.connect(patience_s=1) as wire:
            left = [each.name for each in (service.mount / ".storage-trash").iterdir() if "gone" in each.name]
            if wire.call("get_status")["queues"]["intents"] == 0 and not left:
                return "quiet"
        return ""

    return eventually(looked, 60) == "dead"


@pytest.mark.parametrize("point", POINTS)
def test_killed_twice_at_any_step_it_is_carried_out_once(own_service: Make, point: str) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        old = a_run(storage)
        new = storage.run(mode="remove")
        before = wire.last_seq()
    commands = [
        ("restore_trash", "k1", {"uid": old["uid"], "replace": True}),
        ("empty_trash", "k2", {"uid": new["uid"]}),
    ]
    service.kill()
    service.environment["STORAGE_FAILPOINT"] = point
    deaths = 0
    for _ in range(2):
        with contextlib.suppress(Exception):
            service.start()
            with service.connect(patience_s=5) as wire:
                for cmd, key, args in commands:
                    wire.call(cmd, key=key, **args)
        deaths += _dies(service)
        if service.running:
            service.kill()
    assert deaths >= 1, f"{point} was never passed"
    del service.environment["STORAGE_FAILPOINT"]
    service.start()
    with service.connect() as wire:
        replies = [wire.call(cmd, key=key, **args) for cmd, key, args in commands]
        assert (replies[0]["rundb"], replies[0]["acqs"], replies[1]["entries"]) == (True, 2, 1)
        assert wire.call("get_run", run_id=old["run_id"])["uid"] == old["uid"]
        data = Path(old["location"]["local_path"]) / "deep/a1/data.raw"
        assert data.read_text() == f"data 1 of {old['uid']}"
        eventually(lambda: {each.name for each in (service.mount / ".storage-trash").iterdir()} <= {".sweep.json"})
        types = [each["type"] for each in wire.journal(before)]
    assert sorted(types) == sorted(
        ["run.removed", "run.restored", *["acquisition.restored"] * 2, "trash.restored", "trash.emptied"]
    )


# The command line


def cli(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "storage_service", "trash", *words, "--endpoint", service.commands],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if not key.startswith("STORAGE_SERVICE__")},
    )


def test_the_command_line_lists_restores_and_empties(own_service: Make) -> None:
    service = own_service()
    assert cli(service, "list").stdout == "The trash is empty.\n"
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        old = a_run(storage)
        new = storage.run(mode="remove")
        eventually(lambda: wire.call("list_trash")["entries"][0]["bytes"])
    shown = cli(service, "list")
    assert shown.returncode == 0, shown
    for word in (old["uid"], old["run_id"], "1 in all", "kB"):
        assert word in shown.stdout
    (line,) = cli(service, "list", "--json").stdout.splitlines()
    assert json.loads(line)["uid"] == old["uid"]

    stands = cli(service, "restore", old["uid"])
    assert stands.returncode == 1
    assert "already_exists" in stands.stderr or "replace" in stands.stderr
    back = cli(service, "restore", old["uid"], "--replace")
    assert back.returncode == 0, back
    assert "with 2 of its acquisitions" in back.stdout

    asked = cli(service, "empty")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "--yes" in asked.stderr
    assert cli(service, "empty", "--older-than", "-1", "--yes").returncode == 2
    young = cli(service, "empty", "--older-than", "1", "--yes")
    assert (young.returncode, young.stdout.split()[0]) == (0, "0")
    gone = cli(service, "empty", new["uid"], "--yes")
    assert (gone.returncode, gone.stdout.split()[0]) == (0, "1")
    assert cli(service, "list").stdout == "The trash is empty.\n"
    assert cli(service, "empty", new["uid"], "--yes").returncode == 1


def at_a_terminal(service: Service, answer: str) -> tuple[int, str]:
    """`trash empty` with a person who answers; the exit code and what was shown."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "storage_service", "trash", "empty", "--endpoint", service.commands]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown, asked = "", False
    with contextlib.suppress(OSError):  # the end of the other side
        while select.select([ours], [], [], 60)[0]:
            shown += os.read(ours, 4096).decode()
            if "for good?" in shown and not asked:
                asked = True
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return process.wait(60), shown


def test_at_a_terminal_it_asks_before_it_deletes(own_service: Make) -> None:
    service = own_service()
    (service.mount / ".storage-trash/u0").mkdir(parents=True)
    assert at_a_terminal(service, "")[0] == 1
    assert (service.mount / ".storage-trash/u0").exists()
    code, shown = at_a_terminal(service, "y")
    assert code == 0
    assert "1 entry given up" in shown
    eventually(lambda: not (service.mount / ".storage-trash/u0").exists())
