"""The real service with mount points elsewhere: S3 and SFTP on the loopback, well, hanging and gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.kinds import FolderSite, S3Site, SftpSite
from tests.support.polling import eventually
from tests.support.s3_server import S3Server, refusing_s3
from tests.support.service import Service
from tests.support.sftp_server import SftpServer
from tests.support.wire import Refused, Wire


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Site]:
    server = S3Server()
    yield S3Site(server, tmp_path)
    server.close()


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpSite]:
    (tmp_path / "sftp").mkdir()
    server = SftpServer(tmp_path / "sftp", tmp_path / "keys")
    yield SftpSite(server)
    server.close()


def table(site: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(site.table, enc_hook=str)
    return found


def serve(folder: Path, *sites: Any, **settings: Any) -> Service:
    folder.mkdir()
    mounts = {site.mp: table(site) for site in sites}
    return Service(folder, settings={"mounts": mounts, **settings}).start()


def plan(wire: Wire, mp: str, storage_id: str = "daq") -> None:
    wire.call("init_storage", storage_id=storage_id, brg_name=f"group_{storage_id}", brg_mp=mp, brg_path="beam")
    wire.call("config_storage", storage_id=storage_id)
    wire.call("new_run_storage", storage_id=storage_id, run_name=f"run_{storage_id}")


def acquire(wire: Wire, storage_id: str = "daq", **more: Any) -> Any:
    acq = {"acq_name": "acq", "run_name": f"run_{storage_id}", **more}
    return wire.call("new_acq_storage", storage_id=storage_id, **acq)


def state_of(wire: Wire, mp: str) -> Any:
    return next(each for each in wire.call("get_status")["mounts"] if each["mp"] == mp)


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_an_acquisition_elsewhere_is_made_sealed_listed_removed_and_brought_back(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: S3Site | FolderSite = request.getfixturevalue(kind)
    service = serve(tmp_path / "service", site)
    try:
        with service.connect() as wire:
            plan(wire, site.mp)
            with pytest.raises(Refused) as refused:
                acquire(wire, convert_script=service.script("convert", "#!/bin/sh\n"))
            assert (refused.value.code, refused.value.details["rule"]) == ("invalid_name", "elsewhere")
            acq = acquire(wire)
            assert (acq["location"]["local_path"], acq["location"]["url"]) == (None, f"{site.mp}/beam/run_daq/acq")
            site.put("beam/run_daq/acq/data.raw", b"x" * 1000)
            wire.call("close_acq_storage", storage_id="daq", acq_id=acq["acq_id"])
            eventually(lambda: "beam/run_daq/acq/manifest-1.json" in site.files())
            found = site.files()
            marker = json.loads(found["beam/run_daq/acq/acquisition.json"])
            assert (marker["sealed"], marker["uid"]) == (True, acq["uid"])
            listed = json.loads(found["beam/run_daq/acq/manifest-1.json"])["files"]
            assert {each["path"] for each in listed} == {"acquisition.json", "acquisition.log", "data.raw"}
            assert state_of(wire, site.mp)["state"] == "ok"
            removed = wire.call("new_run_storage", storage_id="daq", run_name="run_daq", mode="remove")
            uid = wire.call("list_trash")["entries"][0]["uid"]
            assert site.files()[f".storage-trash/{uid}/acq/data.raw"] == b"x" * 1000
            assert removed["uid"] != uid
            service.restart()
            wire.call("restore_trash", uid=uid, replace=True)
            assert wire.call("get_acq", acq_id=acq["acq_id"])["uid"] == acq["uid"]
            assert site.files()["beam/run_daq/acq/data.raw"] == b"x" * 1000
            wire.call("empty_trash")
            eventually(lambda: not [path for path in site.files() if path.startswith(".storage-trash/")])
    finally:
        service.close()
    assert "test-secret" not in service.log_text()
    assert "hunter2" not in service.log_text()


def test_a_mount_point_that_hangs_stops_nothing_else_and_the_status_names_it(
    sftp: SftpSite, tmp_path: Path
) -> None:
    service = serve(tmp_path / "service", sftp)
    try:
        with service.connect() as wire:
            plan(wire, sftp.mp, "far")
            plan(wire, "file:///", "near")
            sftp.server.hang(True)
            with pytest.raises(Refused, match="does not answer") as refused:
                acquire(wire, "far")
            assert refused.value.code == "unavailable"
            begin = time.monotonic()
            assert acquire(wire, "near")["state"] == "open"
            assert time.monotonic() - begin < 5
            eventually(lambda: state_of(wire, sftp.mp)["state"] == "unavailable")
            assert state_of(wire, "file:///")["state"] == "ok"
            sftp.server.hang(False)
            eventually(lambda: state_of(wire, sftp.mp)["state"] == "ok")
            eventually(lambda: _answers(wire))
            sftp.server.hang(True)
        begin = time.monotonic()
        assert service.terminate() == 0
        assert time.monotonic() - begin < 15
    finally:
        service.close()


def _answers(wire: Wire) -> bool:
    reply = wire.ask(cmd="new_acq_storage", args={"storage_id": "far", "acq_name": "acq", "run_name": "run_far"})
    return bool(reply["ok"] or reply["error"]["code"] != "unavailable")


def test_a_bucket_that_says_no_is_unavailable_with_the_reason_and_the_start_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    with refusing_s3("NoSuchBucket", 404) as url:
        service = Service(tmp_path / "service", settings={"mounts": {"s3://none": {"endpoint_url": url}}})
        (tmp_path / "service/aws").write_text("")
        service.environment.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="hunter2")
        try:
            service.start()
            with service.connect() as wire:
                wire.call("init_storage", storage_id="daq", brg_name="g", brg_mp="s3://none")
                with pytest.raises(Refused, match="the bucket none does not exist") as refused:
                    wire.call("config_storage", storage_id="daq")
                assert refused.value.code == "unavailable"
                plan(wire, "file:///", "near")
            assert "the bucket none does not exist" in service.log_text()
            assert "hunter2" not in service.log_text()
        finally:
            service.close()


def test_a_mount_point_that_vanished_from_the_configuration_is_told_and_nothing_is_lost(
    sftp: SftpSite, tmp_path: Path
) -> None:
    service = serve(tmp_path / "service", sftp)
    try:
        with service.connect() as wire:
            plan(wire, sftp.mp)
            acq = acquire(wire)
            service.terminate()
            text = service.config.read_text()
            service.config.write_text("\n".join(line for line in text.splitlines() if "sftp://" not in line))
            service.start()
            wire.call("close_acq_storage", storage_id="daq", acq_id=acq["acq_id"])
            with pytest.raises(Refused, match="not configured any more") as refused:
                acquire(wire, acq_name="other")
            assert refused.value.code == "unavailable"
            assert wire.call("get_acq", acq_id=acq["acq_id"])["location"]["url"] is None
            service.terminate()
            service.config.write_text(text)
            service.start()
            eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
    finally:
        service.close()


CONVERT = """#!/bin/sh
set -e
echo "in $PWD with $1"
[ "$PWD" = "$ACQ_DIR" ] && [ "$1" = "$ACQ_DIR" ] && [ -f "$ACQ_METADATA" ]
mkdir -p plots
tr x y < data.raw > plots/converted.raw
echo changed > notes.txt
ln -s /etc/passwd link
rm -f gone.raw
echo mine > acquisition.json
[ ! -e fail ]
"""


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_conversion_runs_in_a_copy_and_what_it_made_is_brought_back(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: Any = request.getfixturevalue(kind)
    service = serve(tmp_path / "service", site, conversion={"remote": "scratch", "scratch_dir": "scratch"})
    try:
        with service.connect() as wire:
            plan(wire, site.mp)
            acq = acquire(wire, convert_script=service.script("convert", CONVERT))
            for name in ("data.raw", "notes.txt", "gone.raw"):
                site.put(f"beam/run_daq/acq/{name}", b"xxx")
            wire.call("close_acq_storage", storage_id="daq", acq_id=acq["acq_id"])
            (done,) = ended(wire, acq)
            assert (done["state"], done["attempt"], done["log"]["local_path"]) == ("succeeded", 1, None)
            name = "manifest-1-conversion-1.json"
            eventually(lambda: f"beam/run_daq/acq/{name}" in site.files())
            found = {path.removeprefix("beam/run_daq/acq/"): each for path, each in site.files().items()}
            assert found["plots/converted.raw"] == b"yyy"
            assert found["notes.txt"] == b"changed\n"
            assert found["gone.raw"] == b"xxx"
            assert "link" not in found
            assert json.loads(found["acquisition.json"])["uid"] == acq["uid"]
            assert found["conversion-1-1.log"].startswith(b"in ")
            # To the second, which is what SFTP tells, the first manifest may have been later than the script.
            both = json.loads(found["manifest-1.json"])["files"] + json.loads(found[name])["files"]
            listed = {each["path"] for each in both}
            assert {"plots/converted.raw", "notes.txt", "conversion-1-1.log"} <= listed
            assert list((service.folder / "scratch").iterdir()) == []
            site.put("beam/run_daq/acq/fail", b"")
            wire.call("retry_conversion", conversion_id=done["conversion_id"])
            eventually(lambda: ended(wire, acq)[0]["state"] == "failed")
            assert ended(wire, acq)[0]["reason"] == "exit code 1"
            assert "beam/run_daq/acq/conversion-1-2.log" in site.files()
    finally:
        service.close()


def ended(wire: Wire, acq: Any) -> list[Any]:
    """The conversions of an acquisition, when none is under way."""

    def look() -> list[Any]:
        found: list[Any] = wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"]
        return found if all(each["state"] not in ("queued", "running") for each in found) else []

    return eventually(look)


def test_what_cannot_be_brought_back_is_a_failure_with_its_reason(sftp: SftpSite, tmp_path: Path) -> None:
    service = serve(tmp_path / "service", sftp, conversion={"remote": "scratch", "scratch_dir": "scratch"})
    go = tmp_path / "go"
    script = f'#!/bin/sh\ntouch "{tmp_path}/runs"\nwhile [ ! -e "{go}" ]; do sleep 0.05; done\necho 1 > made\n'
    try:
        with service.connect() as wire:
            plan(wire, sftp.mp)
            acq = acquire(wire, convert_script=service.script("convert", script))
            wire.call("close_acq_storage", storage_id="daq", acq_id=acq["acq_id"])
            eventually((tmp_path / "runs").exists)
            sftp.server.full = True
            go.touch()
            (done,) = ended(wire, acq)
            assert done["state"] == "failed"
            assert "its files cannot be brought back" in done["reason"]
            assert "it is full" in done["reason"]
            sftp.server.full = False
            wire.call("retry_conversion", conversion_id=done["conversion_id"])
            assert ended(wire, acq)[0]["state"] == "succeeded"
            assert sftp.files()["beam/run_daq/acq/made"] == b"1\n"
    finally:
        service.close()


def test_a_conversion_that_a_killed_service_left_runs_again_in_a_fresh_copy(
    sftp: SftpSite, tmp_path: Path
) -> None:
    service = serve(tmp_path / "service", sftp, conversion={"remote": "scratch", "scratch_dir": "scratch"})
    go = tmp_path / "go"
    script = f'#!/bin/sh\n[ ! -e made ] || exit 3\necho 1 > made\ntouch "{tmp_path}/runs"\n'
    script += f'while [ ! -e "{go}" ]; do sleep 0.05; done\n'
    try:
        with service.connect() as wire:
            plan(wire, sftp.mp)
            acq = acquire(wire, convert_script=service.script("convert", script))
            wire.call("close_acq_storage", storage_id="daq", acq_id=acq["acq_id"])
            eventually((tmp_path / "runs").exists)
            service.kill()
            (service.folder / "scratch" / "of-an-earlier-life").mkdir()
            go.touch()
            service.start()
            (done,) = ended(wire, acq)
            assert (done["state"], done["attempt"]) == ("succeeded", 2)
            assert list((service.folder / "scratch").iterdir()) == []
    finally:
        service.close()
