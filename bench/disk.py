"""The disk that is measured on: its file system, and what one synced append costs there."""

import os
import tempfile
import time
from pathlib import Path

MEMORY = ("tmpfs", "ramfs")  # file systems on which a sync costs nothing
APPENDS = 300
APPEND_BYTES = 4096


def file_system(folder: Path) -> str:
    """The type of the file system that holds a folder, as the kernel names it (`ext4`, `tmpfs`).

    Raises OSError when the kernel's table of mounts cannot be read.
    """
    place = folder.resolve()
    best, kind = -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        point = Path(mount.split()[4].encode().decode("unicode_escape"))
        if (
            place.is_relative_to(point) and len(point.parts) >= best
        ):  # of two on one point, the later hides the first
            best, kind = len(point.parts), source.split()[0]
    return kind


def synced_append_ms(folder: Path) -> tuple[float, float]:
    """The median and the 99th percentile of a 4 KiB append and its fdatasync, in milliseconds.

    Raises OSError when the folder cannot be written to.
    """
    block = os.urandom(APPEND_BYTES)
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(APPENDS):
            start = time.perf_counter()
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    return times[APPENDS // 2], times[APPENDS * 99 // 100]
