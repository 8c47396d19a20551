"""A disk that fails under a real process: compiles `faulty_disk.c`, and gives it its orders."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
NO_COMPILER = "no C compiler is there to build tests/support/faulty_disk.c"


class FaultyDisk:
    """Files below a folder, for processes that are started with `environment`. They are well until `order`."""

    def __init__(self, below: Path, work: Path) -> None:
        assert COMPILER, NO_COMPILER
        work.mkdir(exist_ok=True)
        self._library, self._orders, self._told = work / "faulty_disk.so", work / "orders", work / "told"
        options = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([COMPILER, *options, "-o", self._library, SOURCE, "-ldl", "-lpthread"], check=True)
        self._serials = itertools.count(1)
        self.environment = {
            "LD_PRELOAD": str(self._library),
            "FAULTY_DISK_BELOW": str(below),
            "FAULTY_DISK_ORDERS": str(self._orders),
            "FAULTY_DISK_TOLD": str(self._told),
        }

    def order(self, kinds: str, number: int, error: str, how_often: str) -> None:
        """From now on: see the words of `faulty_disk.c`."""
        fresh = self._orders.with_suffix(".new")
        fresh.write_text(f"{next(self._serials)} {kinds} {number} {error} {how_often}\n")
        os.replace(fresh, self._orders)

    def mend(self) -> list[str]:
        """The disk is well; the calls that failed since the last time."""
        self._orders.unlink(missing_ok=True)
        told = self._told.read_text().splitlines() if self._told.exists() else []
        self._told.unlink(missing_ok=True)
        return told
