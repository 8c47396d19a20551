"""The machine that is measured on: what the figures depend on, and how much of it others took meanwhile."""

import os
import platform
import resource
from pathlib import Path
from typing import Any

import apsw

from bench.disk import file_system, percentile, synced_appends_ms
from bench.measured import TICKS


def described(folder: Path, appends: int) -> dict[str, Any]:
    """Cores, versions and the disk of a folder, printed; so many synced appends are timed. Raises OSError."""
    took = synced_appends_ms(folder, appends)
    p50, p99, p999 = (percentile(took, share) for share in (0.5, 0.99, 0.999))
    found = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "file_system": file_system(folder),
        "fdatasync_ms": {"p50": p50, "p99": p99, "p99.9": p999},
    }
    print(f"{found['cores']} cores, Python {found['python']}, SQLite {found['sqlite']}")
    print(
        f"state on {found['file_system']}; 4 KiB append + fdatasync: "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms"
    )
    return found


def busy_s() -> tuple[float, float]:
    """CPU that the whole machine has spent on work so far, and that there was, in seconds. Raises OSError."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, idle, waiting, interrupt, soft, _ = (int(word) / TICKS for word in words)
    busy = user + nice + system + interrupt + soft
    return busy, busy + idle + waiting


def own_s() -> float:
    """CPU of this process and of all below it that have ended, in seconds."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


class Neighbours:
    """What runs beside the bench: where others work, a figure is worth less, and a ratio a little less."""

    def __init__(self) -> None:
        self._busy, self._all = busy_s()
        self._own = own_s()

    def share(self) -> float:
        """The share of the machine that others took since then; what the bench started must have ended."""
        busy, whole = busy_s()
        others = busy - self._busy - (own_s() - self._own)
        return max(others, 0.0) / max(whole - self._all, 1e-9)
