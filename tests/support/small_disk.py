"""Small file systems of their own, for tests that fill them or take the right to write away."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class SmallDisks:
    """tmpfs below a folder. The test is skipped where none can be mounted: that takes the rights of root."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = []

    def mount(self, name: str, kib: int) -> Path:
        """A file system of so many KiB, at a folder that is made."""
        place = self._folder / name
        place.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no tmpfs can be mounted: that takes the rights of root")
        self._made.append(place)
        return place

    def read_only(self, place: Path, yes: bool) -> None:
        subprocess.run(["mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(place)], check=True)

    def close(self) -> None:
        for place in self._made:
            subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that leaves nothing free."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler
