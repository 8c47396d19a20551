"""What is mounted where: `/proc/self/mountinfo`, as proc(5) has it.

A folder is asked for by the descriptor that is used afterwards: the kernel says which mount it was opened in, so
that neither a mount over another one nor an unmounting between a look and an open leads us astray.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_OCTAL = re.compile(rb"\\([0-7]{3})")
_PROC = Path("/proc/self")


class Mounted(NamedTuple):
    """A line of mountinfo.

    id        of the mount; `fdinfo` of a descriptor names it
    root      what of its file system is mounted: `/`, or a folder of it (a bind mount)
    point     where it is mounted, as this process sees it
    kind      the type of the file system, like `ext4`, `nfs4`
    source    what the file system says it is made of, like `server:/export`
    """

    id: int
    root: bytes
    point: bytes
    kind: str
    source: bytes


def mounts_in(text: bytes) -> Iterator[Mounted]:
    """The mounts that a mountinfo tells of, in its order. A line that is not understood is passed over."""
    for line in text.splitlines():
        # 36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw: as many optional fields as there are.
        before, dash, after = line.partition(b" - ")
        fields, more = before.split(b" "), after.split(b" ")
        if not dash or len(fields) < 6 or len(more) < 2 or not fields[0].isdigit():
            continue
        kind, source = more[0].decode(errors="replace"), _plain(more[1])
        yield Mounted(int(fields[0]), _plain(fields[3]), _plain(fields[4]), kind, source)


def mount_of(fd: int, proc: Path = _PROC) -> Mounted | None:
    """The mount that a descriptor was opened in; None: there is no telling. Raises OSError."""
    said = re.search(rb"^mnt_id:\s*(\d+)$", (proc / "fdinfo" / str(fd)).read_bytes(), re.MULTILINE)
    if said is None:
        return None
    id = int(said[1])
    return next((each for each in mounts_in((proc / "mountinfo").read_bytes()) if each.id == id), None)


def missing(fd: int, wanted: str, proc: Path = _PROC) -> str | None:
    """Why the folder of this descriptor is not what has to be mounted there; None: it is.

    `wanted` is a type of file systems (`nfs` stands for nfs4 too), or `any`: then something is mounted at the
    folder itself. Raises OSError.
    """
    found = mount_of(fd, proc)
    if found is None:
        return "what is mounted there cannot be seen"
    if wanted == "any":
        here = os.fsencode(os.readlink(proc / "fd" / str(fd)))
        return None if found.point == here else "nothing is mounted there"
    if found.kind in ((wanted, "nfs4") if wanted == "nfs" else (wanted,)):
        return None
    return f"no {wanted} is mounted there, the folder is on {found.kind}"


def _plain(field: bytes) -> bytes:
    """A field without its escapes: space, tab, line end and backslash stand in it as three octal digits."""
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field)
