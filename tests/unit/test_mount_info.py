"""What is mounted where, as the kernel tells it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage_service.doors.mount_info import Mounted, missing, mount_of, mounts_in

TOLD = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
41 27 0:50 / /mnt/export rw,relatime shared:7 master:1 - nfs4 server:/export rw,vers=4.2
42 27 254:0 /srv/data /mnt/bound rw,relatime shared:1 - ext4 /dev/vda rw
43 41 0:51 / /mnt/export rw - tmpfs over rw
44 27 0:52 / /mnt/with\040space\011and\134slash rw propagate_from:2 - fuse.sshfs host:/a\040b rw
no line of a mount
45 27 0:53 / /mnt/cut rw -
x 27 0:53 / /mnt/no rw - ext4 /dev/x rw
"""


def test_each_mount_is_read_with_its_escapes_and_whatever_optional_fields_it_has() -> None:
    assert list(mounts_in(TOLD))[2:] == [
        Mounted(41, b"/", b"/mnt/export", "nfs4", b"server:/export"),
        Mounted(42, b"/srv/data", b"/mnt/bound", "ext4", b"/dev/vda"),
        Mounted(43, b"/", b"/mnt/export", "tmpfs", b"over"),
        Mounted(44, b"/", b"/mnt/with space\tand\\slash", "fuse.sshfs", b"host:/a b"),
    ]


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc/self that tells of three descriptors: below the NFS, in what is mounted over it, in no mount."""
    (tmp_path / "mountinfo").write_bytes(TOLD)
    for folder in ("fd", "fdinfo"):
        (tmp_path / folder).mkdir()
    for fd, (id, place) in {5: (41, "/mnt/export/a"), 6: (43, "/mnt/export"), 7: (99, "/"), 8: (42, "/b")}.items():
        (tmp_path / "fdinfo" / str(fd)).write_text(f"pos:\t0\nflags:\t0100000\nmnt_id:\t{id}\nino:\t2\n")
        (tmp_path / "fd" / str(fd)).symlink_to(place)
    (tmp_path / "fdinfo" / "9").write_text("pos:\t0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("fd", "wanted", "why"),
    [
        (5, "nfs", None),
        (5, "nfs4", None),
        (5, "any", "nothing is mounted there"),  # only above it
        (5, "ext4", "no ext4 is mounted there, the folder is on nfs4"),
        (6, "nfs", "no nfs is mounted there, the folder is on tmpfs"),  # mounted over it
        (6, "any", None),
        (7, "any", "what is mounted there cannot be seen"),
        (8, "nfs", "no nfs is mounted there, the folder is on ext4"),  # a bind mount of the local disk
        (8, "any", "nothing is mounted there"),
        (9, "any", "what is mounted there cannot be seen"),
    ],
)
def test_a_folder_is_on_what_its_own_descriptor_was_opened_in(proc: Path, fd: int, wanted: str, why: str) -> None:
    assert missing(fd, wanted, proc) == why


def test_the_mount_of_a_real_folder_is_found() -> None:
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        found = mount_of(fd)
        assert found is not None
        assert (found.kind, missing(fd, "proc")) == ("proc", None)
        assert missing(fd, "any") == "nothing is mounted there"
    finally:
        os.close(fd)
