"""The RunDB made anew from the files beside the data, with the real service, across kills, and in a shell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage_client import StorageClient
from storage_client.replies import Rebuilt
from storage_protocol.records import Skipped
from tests.support.failpoints import places
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import NoReply, Storage, Wire

Make = Callable[..., Service]

# What a search for anything of this world may ask.
SEARCHES: list[dict[str, Any]] = [
    {},
    {"kind": "acq"},
    {"kind": "run"},
    {"kind": "acq", "where": {"threshold": {"ge": 150}}},
    {"where": {"gas": "argon"}},  # of runs, and of what is in them
    {"where": {"masked": False}},
    {"where": {"hv": 1450.5}},
    {"verdict": "partial"},
    {"state": "aborted"},
    {"under": "root/commissioning/first", "kind": "acq"},
    {"where": {"manifest.blake3": {"like": "*"}}},
    {"where": {"hidden": 1}},
]


def quiet(wire: Wire) -> bool:
    queues = wire.call("get_status")["queues"]
    return not queues["intents"] and not queues["seals"] and not queues["manifests"]


def fill(wire: Wire, service: Service) -> None:
    """Three storages: one deep in groups, one with everything that can become of an acquisition, one hidden."""
    wire.call("new_group", name="commissioning", path="comm")
    deep = Storage(
        wire, "deep", brg_name="first", brg_path="comm/first", brg_parent_id="root/commissioning"
    ).open()
    for number in range(3):
        run = deep.run("cal_{n:03}", params={"gas": "argon", "hv": 1450.5 + number})["run_name"]
        for threshold in (200, 100):
            acq = deep.acq(
                f"scan/t{threshold}", run, params={"threshold": threshold, "masked": False, "note": None}
            )
            (Path(acq["location"]["local_path"]) / "hits.raw").write_text(f"{run} {threshold}")
            deep.call("set_param_acq_storage", acq_id=acq["acq_id"], param="temperature", value=-21.5)
            deep.mark(acq, "tracker", summary={"events": 7, "text": "Zoë"})
            eventually(lambda id=acq["acq_id"]: wire.call("get_acq", acq_id=id)["sealed"])
    mixed = Storage(wire, "mixed", brg_name="mixed", brg_path="mixed", producers_count=0).open()
    mixed.call("register_producer_storage", producer="ecal")
    mixed.call("register_producer_storage", producer="hcal")
    service.script("quick.sh", "#!/bin/sh\necho done > converted.txt\n")
    mixed.run("zz_last_by_name", params={"gas": "neon"})
    mixed.run("run", params={"gas": "argon"})
    mixed.call("set_param_run_storage", run_name="run", param="late", value="yes")
    partial = mixed.acq("partial", convert_script="quick.sh")
    mixed.mark(partial, "ecal", ok=False, summary={"error": "no spill"})
    mixed.close(partial, reason="end of the shift")
    aborted = mixed.acq("aborted", params={"threshold": 300})
    mixed.call("abort_acq_storage", acq_id=aborted["acq_id"], reason="tripped")
    for segment in range(3):
        acq = mixed.acq("segments", params={f"p{segment}": segment})
        mixed.mark(acq, "hcal", summary={"segment": segment})
        mixed.mark(acq, "ecal")
        eventually(lambda: wire.call("get_acq", acq_id="root/mixed/run/segments")["sealed"])
    mixed.run("gone")
    mixed.run("gone", mode="remove", params={"second": True})
    hidden = Storage(wire, "hidden", brg_name="hidden", brg_path="hidden", use_rundb=False).open()
    hidden.run("run", params={"hidden": 1})
    hidden.mark(hidden.acq(params={"hidden": 1}), "p")
    eventually(lambda: quiet(wire))
    eventually(lambda: wire.call("get_conversion", conversion_id=conversion_of(wire))["state"] == "succeeded")
    eventually(lambda: quiet(wire))


def conversion_of(wire: Wire) -> str:
    found = wire.call("list_conversions", acq_id="root/mixed/run/partial")["conversions"]
    return str(found[0]["conversion_id"])


def as_before(node: dict[str, Any]) -> dict[str, Any]:
    """What of a node must come back: the database alone knows conversions, and warnings of after a seal."""
    return {name: value for name, value in node.items() if name not in ("conversion", "warnings")}


def all_of(wire: Wire, cmd: str, items: str, **args: Any) -> list[dict[str, Any]]:
    """Everything that all pages have."""
    return [each for page in wire.pages(cmd, items, **args) for each in page]


def answers(wire: Wire) -> dict[str, Any]:
    """All that the RunDB and the commands on runs and acquisitions say."""
    told: dict[str, Any] = {}
    for search in SEARCHES:
        told[f"find {search}"] = [
            as_before(node) for node in all_of(wire, "find_nodes", "nodes", limit=3, **search)
        ]
    waiting = ["root"]
    while waiting:
        parent = waiting.pop()
        children = [as_before(node) for node in all_of(wire, "list_nodes", "nodes", parent_id=parent, limit=2)]
        told[f"children of {parent}"] = (
            sorted(children, key=lambda node: str(node["id"])) if parent == "root" else children
        )
        waiting += [str(node["id"]) for node in children if node["kind"] != "acq"]
    told["acqs"] = [as_before(acq) for acq in all_of(wire, "list_acqs", "acqs", limit=4)]
    for acq in told["acqs"]:
        told[acq["acq_id"]] = as_before(wire.call("get_acq", acq_id=acq["acq_id"]))
        told[acq["run_id"]] = wire.call("get_run", run_id=acq["run_id"])
    for storage_id in ("deep", "mixed", "hidden"):
        told[f"acqs of {storage_id}"] = [
            each["acq_id"] for each in wire.call("list_acqs", storage_id=storage_id)["acqs"]
        ]
    return told


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a folder: its time of change, its inode, its content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".sweep.json"
    }


def lose_the_database(service: Service) -> None:
    service.terminate()
    for file in service.state.rglob("*"):
        if file.is_file():
            file.unlink()


def test_after_a_rebuild_the_rundb_answers_as_before_and_no_file_is_changed(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        fill(wire, service)
        before, trees = answers(wire), tree(service.mount)
        assert [search for search in SEARCHES if not before[f"find {search}"]] == [{"where": {"hidden": 1}}]
        tail = json.loads((service.mount / "mixed/run/segments/manifest-3.json").read_bytes())
    lose_the_database(service)
    service.start()
    with service.connect() as wire:
        assert wire.call("find_nodes")["nodes"] == []
        done = wire.call("rebuild_rundb")
        counts = {name: done[name] for name in ("groups", "runs", "acqs", "known", "skipped_count")}
        assert counts == {"groups": 4, "runs": 7, "acqs": 10, "known": 0, "skipped_count": 0}
        assert done["skipped"] == []
        after = answers(wire)
        assert {name: (value, after[name]) for name, value in before.items() if after[name] != value} == {}
        assert tree(service.mount) == trees
        seq = wire.last_seq()
        again = wire.call("rebuild_rundb")
        assert (again["groups"], again["runs"], again["acqs"], again["known"]) == (0, 0, 0, 17)
        assert wire.last_seq() == seq
        goes_on(wire, service, tail)


def goes_on(wire: Wire, service: Service, tail: dict[str, Any]) -> None:
    """Work goes on where it was: numbers, segments, and the chain of manifests."""
    wire.call("new_group", name="commissioning", path="comm")
    deep = Storage(
        wire, "deep", brg_name="first", brg_path="comm/first", brg_parent_id="root/commissioning"
    ).open()
    assert deep.run("cal_{n:03}")["run_name"] == "cal_004"
    mixed = Storage(wire, "mixed", brg_name="mixed", brg_path="mixed").open()
    mixed.run("run")
    acq = mixed.acq("segments")
    assert (acq["segment"], acq["params"]) == (4, {"p0": 0, "p1": 1, "p2": 2})
    mixed.mark(acq)
    manifest = service.mount / "mixed/run/segments/manifest-4.json"
    eventually(manifest.exists)
    previous = json.loads(manifest.read_bytes())["previous"]
    assert (previous["acq_id"], previous["name"]) == (tail["acq_id"], "manifest-3.json")
    eventually(lambda: quiet(wire))
    checked = cli(service, "verify", str(service.mount / "mixed/run"))
    assert checked.returncode == 0, checked.stdout


def test_what_was_open_when_the_database_was_lost_comes_back_as_aborted(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        storage.run(params={"x": 1})
        acq = storage.acq(params={"y": 2})
    service.kill()
    lose_after_kill(service)
    with service.connect() as wire:
        assert wire.call("rebuild_rundb")["acqs"] == 1
        back = wire.call("get_acq", acq_id=acq["acq_id"])
        assert (back["uid"], back["state"], back["verdict"], back["params"]) == (
            acq["uid"],
            "aborted",
            None,
            {"y": 2},
        )
        assert "open when the database was lost" in back["reason"]
        assert json.loads(Path(acq["location"]["local_path"], "acquisition.json").read_text())["state"] == "open"
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        storage.run()
        assert storage.acq()["segment"] == 2


def lose_after_kill(service: Service) -> None:
    for file in service.state.rglob("*"):
        if file.is_file():
            file.unlink()
    service.start()


def test_what_cannot_be_rebuilt_is_refused_with_what_is_wrong(own_service: Make) -> None:
    with own_service({"mounts": {"file:///": "data", "file:///spare": "spare"}}).connect() as wire:
        refused = wire.refusal("rebuild_rundb", mp="file:///nowhere")
        assert (refused.code, refused.details["what"]) == ("not_found", "mount")
        assert wire.refusal("rebuild_rundb", mp="file:///spare").code == "unavailable"
        refused = wire.refusal("rebuild_rundb", path="not/there")
        assert (refused.code, refused.details["what"]) == ("not_found", "folder")
        refused = wire.refusal("rebuild_rundb", path="../etc")
        assert (refused.code, refused.details["field"]) == ("invalid_name", "path")


# Kills

POINTS = sorted(place.name for place in places() if place.room == "rebuild" and place.name is not None)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A mount with more markers than a page has, and what the RunDB said of them."""
    with contextlib.closing(Service(tmp_path_factory.mktemp("many"))) as service:
        with service.start().connect() as wire:
            storage = Storage(wire, "s", brg_name="g", brg_path="p", producers_count=0).open()
            for number in range(9):
                storage.run(f"r{number}")
                for name in range(30):
                    storage.close(storage.acq(f"a{name}", f"r{number}"))
            eventually(lambda: quiet(wire))
            before = all_of(wire, "find_nodes", "nodes", limit=1000)
        service.terminate()
        return service.mount, before


COMMITS = ["store.written:2", "store.committed:3"]


@pytest.mark.parametrize("point", [*POINTS, *(f"{name}:2" for name in POINTS), *COMMITS])
def test_killed_at_any_step_in_two_lives_it_is_carried_out_once(
    own_service: Make, many: tuple[Path, list[dict[str, Any]]], point: str
) -> None:
    """At the failpoints of its first page, of its second, and around the commit of what the first brought back."""
    service, (mount, before) = own_service(start=False), many
    shutil.copytree(mount, service.mount, dirs_exist_ok=True)
    service.environment["STORAGE_FAILPOINT"] = point
    deaths = 0
    for _ in range(2):
        service.launch()
        with service.connect(patience_s=0.2) as wire:
            wire.post("rebuild_rundb", key="k")
            deaths += died(service)
    # What dies in its second page or at its end has less left to do in its second life.
    assert deaths == 2 or (deaths == 1 and ":" in point), f"{point} was passed {deaths} times"
    del service.environment["STORAGE_FAILPOINT"]
    service.start()
    with service.connect() as wire:
        done = wire.call("rebuild_rundb", key="k")
        assert (done["groups"], done["runs"], done["acqs"], done["skipped_count"]) == (1, 9, 270, 0)
        assert all_of(wire, "find_nodes", "nodes", limit=1000) == before
        types = [event["type"] for event in wire.journal(0)]
    assert {type_: types.count(type_) for type_ in set(types)} == {
        "group.created": 1,
        "run.restored": 9,
        "acquisition.restored": 270,
    }


def died(service: Service) -> bool:
    """Wait until the service has died, or has nothing left to do; then it is killed."""

    def looked() -> str:
        if not service.running:
            return "dead"
        with contextlib.suppress(NoReply), service.connect(patience_s=0.5) as wire:
            status = wire.call("get_status")
            if status["queues"]["intents"] == 0 and status["journal"]["last_seq"]:
                return "quiet"
        return ""

    dead = eventually(looked) == "dead"
    if not dead:
        service.kill()
    return dead


# The command line


def cli(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    talks = () if words[0] == "verify" else ("--endpoint", service.commands)
    return subprocess.run(
        [sys.executable, "-m", "storage_service", *words, *talks],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if not key.startswith("STORAGE_SERVICE__")},
    )


def test_the_command_line_tells_what_came_back_and_what_did_not(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        for number in range(2):
            storage.run(f"r{number}")
            storage.mark(storage.acq("a", f"r{number}"))
        eventually(lambda: quiet(wire))
    lose_the_database(service)
    service.start()
    shown = cli(service, "rebuild", "--path", "p/r0")
    assert shown.returncode == 0, shown
    assert "1 group, 1 run and 1 acquisition are back" in shown.stdout
    (service.mount / "p/r1/run.json").rename(service.mount / "p/r1/elsewhere.json")
    shown = cli(service, "rebuild")
    assert shown.returncode == 1, shown
    assert "Nothing was missing: 2 were known already." in shown.stdout
    assert "p/r1/a: Its run root/g/r1 is not known." in shown.stderr
    (service.mount / "p/r1/elsewhere.json").rename(service.mount / "p/r1/run.json")
    told = cli(service, "rebuild", "--json")
    assert told.returncode == 0, told
    done = json.loads(told.stdout)
    assert (done["groups"], done["runs"], done["acqs"], done["known"], done["skipped"]) == (0, 1, 1, 2, [])
    assert cli(service, "rebuild", "--mp", "file:///nowhere").returncode == 1


def test_at_a_terminal_it_shows_how_far_it_is(own_service: Make, many: tuple[Path, list[dict[str, Any]]]) -> None:
    service = own_service(start=False)
    shutil.copytree(many[0], service.mount, dirs_exist_ok=True)
    service.start()
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "storage_service", "rebuild", "--endpoint", service.commands]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    shown = ""
    with contextlib.suppress(OSError):  # the end of the other side
        while select.select([ours], [], [], 60)[0]:
            shown += os.read(ours, 4096).decode()
    os.close(ours)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "1 group, 9 runs and 270 acquisitions are back; 0 were known already. 281 folders looked into." in said
    assert "folders looked into" in shown


def test_the_client_has_a_method_for_it(own_service: Make, many: tuple[Path, list[dict[str, Any]]]) -> None:
    service = own_service(start=False)
    shutil.copytree(many[0] / "p/r1", service.mount / "p/r1")
    (service.mount / "p/r2").mkdir()
    (service.mount / "p/r2/run.json").write_text("{}")
    service.start()

    async def use() -> Rebuilt:
        async with StorageClient(service.commands) as client:
            return await client.rebuild_rundb(path="p")

    done = asyncio.run(use())
    assert (done.mp, done.path, done.runs, done.acqs, done.known) == ("file:///", "p", 1, 30, 0)
    assert done.skipped == (Skipped("p/r2", "Its run.json cannot be understood."),)
