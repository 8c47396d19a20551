"""The disk that is measured on: its file system, and what one synced append costs there."""

import os
import tempfile
import time
from pathlib import Path

MEMORY = ("tmpfs", "ramfs")  # file systems on which a sync costs nothing
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


def synced_appends_ms(folder: Path, appends: int) -> list[float]:
    """What 4 KiB appends with their fdatasync took, in milliseconds, the shortest first.

    Raises OSError when the folder cannot be written to.
    """
    block = os.urandom(APPEND_BYTES)
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(appends):
            start = time.perf_counter()
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the others does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
