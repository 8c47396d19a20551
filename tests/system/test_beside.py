"""What a real service puts beside the data: configurations, statistics, the log; kills and failing sources too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from blake3 import blake3

from storage_service.failpoints import VARIABLE
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire
from tests.system.test_manifests import verify

Make = Callable[..., Service]

SCHEMA = json.loads((Path(__file__).parents[2] / "protocol/schemas/acquisition.json").read_text("utf-8"))
ODD = [b"caf\xe9.raw", b"new\nline", b"\x1b[31mred", b"-rf", b" ", "für".encode(), b"x" * 255]


def storage_on(wire: Wire, name: str = "s", **arguments: Any) -> Storage:
    storage = Storage(wire, name, brg_name=f"g{name}", brg_path=f"p{name}", **arguments).open()
    storage.run()
    return storage


def folder_of(acq: dict[str, Any]) -> Path:
    return Path(acq["location"]["local_path"])


def sealed(wire: Wire, acq: dict[str, Any]) -> dict[str, Any]:
    """The acquisition as its marker tells, which is what clients are told too."""

    def told() -> Any:
        found = wire.call("get_acq", acq_id=acq["acq_id"])
        return found if found["sealed"] else None

    found: dict[str, Any] = eventually(told)
    marker: dict[str, Any] = json.loads((folder_of(acq) / "acquisition.json").read_bytes())
    jsonschema.validate(marker, SCHEMA)
    assert marker.pop("format") == "storage-service/acquisition/1"
    marker.pop("created_at", None)  # clients are told of it as that of the node
    assert marker.pop("disk")["files"] > 0  # for who has only the folder
    assert {**marker, "warnings": found["warnings"]} == found
    return found


def blocks(acq: dict[str, Any], name: str = "acquisition.log") -> list[str]:
    """The segments of which the log has a block."""
    lines = (folder_of(acq) / name).read_text().splitlines()
    return [line for line in lines if line.startswith("== segment ")]


def test_the_folder_alone_tells_what_was_configured_and_measured(own_service: Make) -> None:
    with own_service().connect() as wire:
        storage = storage_on(wire, stats_names=["temperature", "triggers", "varmod:hv"])
        wire.call("set_var", name="temperature", value=20.5)
        wire.call("set_var", name="triggers", value=100)
        told = storage.call("set_config_storage", document="<config/>", name="daq.xml")
        assert told == {"blake3": blake3(b"<config/>").hexdigest()}
        acq = storage.acq(params={"beam": "e-"})
        eventually(lambda: (folder_of(acq) / "daq.xml").exists())
        eventually(lambda: storage.types(0, "acquisition.measured"))
        (folder_of(acq) / "raw.dat").write_bytes(b"raw data")
        wire.call("add_var", name="triggers", delta=17)
        storage.call("set_config_storage", document=b"<config>2</config>", name="daq.xml")
        storage.mark(acq, "dif", summary={"events": 117})
        found = sealed(wire, acq)
        assert (folder_of(acq) / "daq.xml").read_bytes() == b"<config/>"
        assert (folder_of(acq) / "daq-2.xml").read_bytes() == b"<config>2</config>"
        saved = [(each["file"], each["when"], each["source"]) for each in found["configurations"]]
        handed_in = "set_config_storage"
        assert saved == [("daq.xml", "start", handed_in), ("daq-2.xml", "end", handed_in)]
        statistics = found["statistics"]
        assert [statistics["triggers"][when]["value"] for when in ("start", "end")] == [100, 117]
        assert statistics["triggers"]["difference"] == 17
        assert statistics["varmod:hv"]["end"]["missing"].startswith("No address is configured for varmod")
        assert json.loads((folder_of(acq) / "acquisition.json").read_text())["disk"]["files"] == 4
        types = storage.types(0, "acquisition.")
        assert [each for each in types if each != "acquisition.manifest_written"] == [
            "acquisition.started",
            "acquisition.measured",
            "acquisition.producer_finished",
            "acquisition.finished",
            "acquisition.measured",
            "acquisition.sealed",
        ]
        log = (folder_of(acq) / "acquisition.log").read_text()
        for words in ("verdict", "complete", 'beam  "e-"', "events=117", "triggers", "daq-2.xml", "4 files"):
            assert words in log, (words, log)
        nodes = wire.call("find_nodes", where={"stats.triggers.difference": {"ge": 17}}, kind="acq")["nodes"]
        assert [node["id"] for node in nodes] == [acq["acq_id"]]
        eventually(lambda: not wire.call("get_status")["queues"]["manifests"])
        code, report = verify(folder_of(acq))
        assert code == 0, report


def test_each_segment_has_its_block_and_its_own_readings(own_service: Make) -> None:
    with own_service().connect() as wire:
        storage = storage_on(wire, stats_names=["n"])
        storage.call("set_config_storage", document="one")
        for segment in (1, 2, 3):
            wire.call("set_var", name="n", value=segment)
            acq = storage.acq()
            storage.close(acq)
            found = sealed(wire, acq)
            assert found["statistics"]["n"]["end"]["value"] == segment
            assert [each["file"] for each in found["configurations"]] == ["config.xml"]
        uid = acq["uid"]
        assert blocks(acq) == [f"== segment {n} of {acq['acq_id']} (uid {uid})" for n in (1, 2, 3)]


@pytest.mark.parametrize("point", ["beside.keep", "beside.kept", "beside.log", "beside.logged", "folders.marked"])
def test_a_kill_at_any_moment_leaves_one_block_a_segment_and_one_file_a_document(
    own_service: Make, point: str
) -> None:
    service = own_service(start=False)
    service.environment[VARIABLE] = point
    service.start()
    with service.connect(patience_s=2) as wire:
        storage = storage_on(wire, stats_names=["n"])
        storage.call("set_config_storage", document="one")
        number = storage.wire.post("new_acq_storage", storage_id="s", run_name="run", acq_name="acq")
        if not point.startswith("beside.k"):
            storage.wire.collect(number)
            storage.wire.post("close_acq_storage", storage_id="s", acq_id="root/gs/run/acq")
        eventually(lambda: not service.running)
    assert service.exit_code == -9
    if point in ("beside.keep", "beside.log"):  # it comes there again
        service.launch()
        eventually(lambda: not service.running)
    service.environment.pop(VARIABLE)
    service.start()
    with service.connect() as wire:
        acq = eventually(lambda: wire.call("get_acq", acq_id="root/gs/run/acq"))
        if point.startswith("beside.k"):
            eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"]).get("configurations"))
            wire.call("close_acq_storage", storage_id="s", acq_id=acq["acq_id"])
        found = sealed(wire, acq)
        assert len(blocks(acq)) == 1
        assert [each["file"] for each in found["configurations"]] == ["config.xml"]
        eventually(lambda: not wire.call("get_status")["queues"]["manifests"])
        names = {path.name for path in folder_of(acq).iterdir()}
        assert names == {"acquisition.json", "acquisition.log", "config.xml", "manifest-1.json"}
        measured = [event["data"]["when"] for event in wire.journal(topics=["acquisition.measured"])]
        assert measured == ["start", "end"]


FAILING = {
    "garbage": ('printf "\\377\\000"', None),
    "nothing": ("exit 3", "exit code 3"),
    "hanging": ("exec sleep 600", "gave no configuration within 1 s"),
    "endless": ("cat /dev/zero", "more than 16777216 bytes"),
}


def test_sources_that_fail_are_warnings_and_delay_no_other_storage(own_service: Make) -> None:
    service = own_service(start=False)
    sources: dict[str, Any] = {}
    for name, (body, _) in FAILING.items():
        program = service.folder / f"{name}.sh"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        sources[f"{name}*"] = {"config": {"program": [str(program)]}}
    missing = service.folder / "missing.xml"
    sources["file*"] = {"config": {"file": str(missing)}}
    sources["away*"] = {"config": {"cmod": "127.0.0.1:1"}}
    settings = {"storages": sources, "sources": {"timeout_s": 1.0, "settle_s": 0.0}}
    service = own_service(settings, name="sources")
    expected = {name: said for name, (_, said) in FAILING.items()}
    expected |= {"file": "missing.xml", "away": "127.0.0.1:1"}
    with service.connect() as wire:
        storages = {name: storage_on(wire, name, stats_names=["x"]) for name in expected}
        plain = storage_on(wire, "plain")
        wire.call("set_var", name="x", value=1)
        acqs = {name: storage.acq() for name, storage in storages.items()}
        other = plain.acq()
        for name, storage in storages.items():
            storage.close(acqs[name])
        plain.close(other)
        sealed(wire, other)
        assert not wire.call("get_acq", acq_id=acqs["hanging"]["acq_id"])["sealed"]
        for name, said in expected.items():
            found = sealed(wire, acqs[name])
            assert found["statistics"]["x"]["difference"] == 0
            warnings = [each["message"] for each in found["warnings"] if each["what"] == "configuration"]
            if said is None:
                assert warnings == []
                (saved,) = found["configurations"]
                assert (folder_of(acqs[name]) / saved["file"]).read_bytes() == b"\xff\0"
            else:
                assert len(warnings) == 2, (name, found["warnings"])
                assert all(said in message for message in warnings), (name, warnings)
                assert "configurations" not in found
            assert len(blocks(acqs[name])) == 1


def test_a_stop_does_not_wait_for_a_source_that_hangs_and_the_next_start_asks_it_again(own_service: Make) -> None:
    service = own_service(start=False)
    program = service.folder / "slow.sh"
    program.write_text('#!/bin/sh\n[ -e "$0.go" ] && exec echo there\nexec sleep 600\n')
    program.chmod(0o755)
    settings = {"storages": {"*": {"config": {"program": [str(program)]}}}, "sources": {"timeout_s": 600.0}}
    service = own_service(settings, name="slow")
    with service.connect() as wire:
        acq = storage_on(wire).acq()
        eventually(lambda: wire.call("get_status")["queues"]["readings"])
        assert service.terminate() == 0
        (service.folder.parent / "own" / "slow.sh.go").touch()
        service.start()
        eventually(lambda: (folder_of(acq) / "config.xml").exists())
        wire.call("close_acq_storage", storage_id="s", acq_id=acq["acq_id"])
        found = sealed(wire, acq)
        assert [each["when"] for each in found["configurations"]] == ["start"]
        assert found["warnings"] == []


def test_what_stands_in_the_place_of_the_log_is_a_warning_and_stays(own_service: Make) -> None:
    with own_service().connect() as wire:
        storage = storage_on(wire)
        acq = storage.acq()
        (folder_of(acq) / "acquisition.log").mkdir()
        storage.close(acq)
        found = sealed(wire, acq)
        (warning,) = found["warnings"]
        assert warning["what"] == "log"
        assert "acquisition-2.log" in warning["message"]
        assert len(blocks(acq, "acquisition-2.log")) == 1


def test_a_folder_of_very_many_files_and_odd_names_is_counted_and_sealed(own_service: Make) -> None:
    settings = {"storages": {"*": {"manifest": "sizes"}}}
    with own_service(settings).connect() as wire:
        storage = storage_on(wire)
        acq = storage.acq()
        top = os.fsencode(folder_of(acq))
        for number in range(20_000):
            below = top + b"/%d" % (number // 5_000)
            if number % 5_000 == 0:
                os.mkdir(below)
            os.close(os.open(below + b"/f%d" % number, os.O_CREAT | os.O_WRONLY))
        for name in ODD:
            with open(top + b"/" + name, "wb") as file:
                file.write(b"12345")
        (folder_of(acq) / "loop").symlink_to(".")
        os.mkfifo(folder_of(acq) / "fifo")
        storage.close(acq)
        sealed(wire, acq)
        told = json.loads((folder_of(acq) / "acquisition.json").read_text())
        assert told["disk"]["files"] == 20_000 + len(ODD) + 3
        assert wire.call("ping")
        eventually(lambda: not wire.call("get_status")["queues"]["manifests"])
        assert verify(folder_of(acq))[0] == 0
