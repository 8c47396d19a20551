"""Mount points below which something has to be mounted: without it nothing is done, and nothing is written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_service.doors.folders import FolderMount
from storage_service.doors.mount_kinds import door_of
from storage_service.doors.trash_sweep import Sweep
from storage_service.mount_tables import Mount, placed
from storage_service.rules.trash_work import LookIntoTrash
from storage_service.rules.work import TRASH, Done, Fault, ReachMount, Synced
from tests.support.place import MP, Place, keep, make_acq, make_run, put, refused, sync_acq, write_acq
from tests.support.small_disk import SmallDisks


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[SmallDisks]:
    found = SmallDisks(tmp_path)
    yield found
    found.close()


def test_an_nfs_is_done_without_where_none_is_mounted_and_nothing_is_written(tmp_path: Path) -> None:
    place = Place(tmp_path)
    mount = door_of("nfs://server/export", _table("nfs://server/export", str(place.root)), place.scripts)
    for order in (ReachMount(MP), make_run(), make_acq(), write_acq(), sync_acq(), keep("config.xml", b"x")):
        failed = mount.carry_out(order)
        assert "nfs://server/export" in failed.message  # type: ignore[union-attr]
        assert "no nfs is mounted there" in failed.message  # type: ignore[union-attr]
    with pytest.raises(Fault, match="no nfs is mounted"):
        mount.open_log(("beam",), "log")
    assert place.tree() == {}


def test_a_mount_of_a_named_type_counts_at_the_folder_and_above_it(disks: SmallDisks, tmp_path: Path) -> None:
    disk = disks.mount("disk", 512)
    (disk / "below").mkdir()
    for root in (disk, disk / "below"):
        assert FolderMount(MP, root, tmp_path, "tmpfs").carry_out(make_run()) == Done()
    refused(FolderMount(MP, disk / "below", tmp_path, "any").carry_out(make_run()), "unavailable")


def test_a_mount_that_goes_and_comes_back_is_unavailable_meanwhile(tmp_path: Path) -> None:
    disks = SmallDisks(tmp_path)
    disk = disks.mount("disk", 512)
    mount = FolderMount(MP, disk, tmp_path, "any")
    assert mount.carry_out(make_acq()) == Done()
    disks.close()
    # What somebody wrote into the folder while nothing was mounted is left alone, the trash too.
    put(disk / TRASH / ".gone-u1/data.raw", "x")
    for order in (make_acq(), write_acq(), LookIntoTrash(MP)):
        assert "nothing is mounted there" in refused(mount.carry_out(order), "unavailable").message
    with pytest.raises(Fault, match="nothing is mounted there"):
        Sweep(mount.trash, MP, 1.0, lambda entries: None).sweep(expire=True)
    assert [path.name for path in disk.iterdir()] == [TRASH]
    assert (disk / TRASH / ".gone-u1/data.raw").is_file()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
    try:
        assert mount.carry_out(make_acq()) == Done()
        assert isinstance(mount.carry_out(sync_acq()), Synced)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _table(name: str, value: object) -> Mount:
    table = placed(name, value, Path("/"))
    return Mount(path=Path(table["path"]), mounted=table["mounted"])


def test_a_table_can_ask_for_a_mount_below_any_name() -> None:
    assert _table("file:///", {"path": "/a", "mounted": True}) == Mount(path=Path("/a"), mounted="any")
    assert _table("file:///", {"path": "/a", "mounted": "lustre"}).mounted == "lustre"
    assert _table("nfs://server/x", "/a").mounted == "nfs"
    assert placed("nfs://server/x", json.loads('{"path": "/a", "mounted": false}'), Path("/")) == {"path": "/a"}
