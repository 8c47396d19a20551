"""Where a producer writes: a location, and what it is called on the producer's host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage_client import MountError, Mounts
from storage_protocol.records import Location
from storage_service.rules.state import Places
from storage_service.rules.work import Done
from tests.support.kinds import FolderSite, S3Site, SftpSite, Site
from tests.support.place import make_acq
from tests.support.s3_server import refusing_s3
from tests.support.sftp_server import SftpServer

PATH = "beam/run_1/acq_1"


def location(site: Site) -> Location:
    assert site.door.carry_out(make_acq()) == Done()
    return Places({site.mp: str(site.table.path) if site.table.path else None}).location(site.mp, PATH)


def table(site: Site) -> dict[str, Any]:
    if site.table.path is not None:
        return {site.mp: str(site.table.path)}
    given = msgspec.to_builtins(site.table, enc_hook=str)
    del given["timeout_s"]
    return {site.mp: given}


def test_where_do_i_write_is_one_call_on_every_kind_of_mount_point(site: Site) -> None:
    place = Mounts(table(site)).resolve(location(site))
    with place.open("deep/er/tracker.raw", "wb") as file:
        file.write(b"x" * 1000)
    assert site.files()[f"{PATH}/deep/er/tracker.raw"] == b"x" * 1000
    with place.open("deep/er/tracker.raw") as file:
        assert file.read() == b"x" * 1000
    assert place.url.endswith(f"/{PATH}")
    assert (place.path is None) == (place.system is not None) == (site.table.path is None)
    if place.system is not None:
        assert place.system.cat_file(f"{place.at}/deep/er/tracker.raw") == b"x" * 1000
    for name in ("../out", "/etc/passwd", "a//b", "."):
        with pytest.raises(ValueError, match="no path below"):
            place.open(name, "wb")


async def test_it_can_be_asked_within_an_event_loop(site: Site) -> None:
    place = await asyncio.to_thread(Mounts(table(site)).resolve, location(site))
    with place.open("a.raw", "wb") as file:
        file.write(b"x")
    assert site.files()[f"{PATH}/a.raw"] == b"x"


def test_an_export_is_found_where_this_host_has_mounted_it(tmp_path: Path) -> None:
    site = FolderSite(tmp_path / "export")
    location(site)
    told = Location("nfs://server/export", PATH, f"/mnt/export/{PATH}", f"file:///mnt/export/{PATH}")
    assert Mounts({"nfs://server/export": site.root}).resolve(told).path == site.root / PATH
    with pytest.raises(MountError, match=r"is not on this host: is nfs://server/export mounted at .*/empty\?"):
        Mounts({"nfs://server/export": tmp_path / "empty"}).resolve(told)
    with pytest.raises(MountError, match=r"give a path of this host for nfs://server/export"):
        Mounts().resolve(told)


def test_without_a_table_the_services_own_host_needs_none(tmp_path: Path) -> None:
    site = FolderSite(tmp_path / "data")
    assert Mounts().resolve(location(site)).path == site.root / PATH
    with pytest.raises(MountError, match="There is no path for the mount point gone://; the table has none"):
        Mounts().resolve(Location("gone://", PATH))
    with pytest.raises(MountError, match="no path below"):
        Mounts({"file:///": site.root}).resolve(Location("file:///", "../x"))


def test_the_table_can_stand_in_a_file(tmp_path: Path, sftp: SftpServer) -> None:
    site = SftpSite(sftp)
    file = tmp_path / "mounts.toml"
    (tmp_path / "known_hosts").write_text(sftp.known_hosts.read_text())
    file.write_text(
        f'[mounts]\n"file:///" = "data"\n"{site.mp}" = {{ username = "daq", known_hosts = "known_hosts",'
        f' client_keys = ["{sftp.client_key}"] }}\n'
    )
    mounts = Mounts.from_file(file)
    assert mounts.resolve(location(site)).system is not None
    with pytest.raises(MountError, match=f"mounted at {tmp_path}/data"):
        mounts.resolve(Location("file:///", PATH))
    for text, wrong in (("x", "cannot be read"), ("mounts = 3", "is no table")):
        file.write_text(text)
        with pytest.raises(MountError, match=wrong):
            Mounts.from_file(file)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"file:///": ""}, "must have the path of a folder of this host"),
        ({"nfs://a/b": {"path": "/x"}}, "must have the path of a folder of this host"),
        ({"s3://b": {"secret": "x"}}, "'secret' is not a known key of s3://b; there are: endpoint_url"),
        ({"sftp://h/x": {"username": "x"}}, "sftp://h/x must have known_hosts"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(MountError, match=wrong):
        Mounts(given)


def test_what_the_other_side_refuses_is_told_without_a_secret(sftp: SftpServer, tmp_path: Path, s3: Any) -> None:
    behind, bucket = SftpSite(sftp), S3Site(s3, tmp_path)
    told = location(behind)
    other = tmp_path / "other"
    other.write_text(sftp.line(sftp.another_key()))
    given = table(behind)[behind.mp]
    (tmp_path / "wrong").write_text("hunter22")
    for more, wrong in (
        ({"known_hosts": str(other)}, "Host key is not trusted"),
        ({"password_file": str(tmp_path / "wrong")}, "Permission denied"),
        ({"password_file": str(tmp_path / "none")}, "cannot be read"),
    ):
        with pytest.raises(MountError, match=wrong) as raised:
            Mounts({behind.mp: {**given, **more}}).resolve(told)
        assert "hunter2" not in str(raised.value)
    with pytest.raises(MountError, match="is not there"):
        Mounts(table(bucket)).resolve(Location(bucket.mp, "beam/none"))
    with refusing_s3("AccessDenied", 403) as url, pytest.raises(MountError, match="cannot be used"):
        Mounts({bucket.mp: {**table(bucket)[bucket.mp], "endpoint_url": url}}).resolve(location(bucket))
