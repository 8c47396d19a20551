"""Nothing that a name says leads out of a mount point, while a thread lets folders and links change places.

Five seconds here; R8_SECONDS makes it longer, and `pytest -s` shows the figures. What the test itself does among
the flipping names it does by descriptors that were opened before.
"""

from __future__ import annotations

import ctypes
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from storage_service.doors.trash_sweep import Sweep
from storage_service.rules.trash_work import GiveUp, LookIntoTrash, RestoreFolder
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER, TRASH, Done, Fault, MakeFolder, WriteMarker
from tests.support.place import MP, Place, marker_of, put

SECONDS = float(os.environ.get("R8_SECONDS", "5"))
NAMES = 5000
NASTY = (
    *("..", ".", "", "../outside", "a/../../outside", "/etc", "\0", "a\0b", "..\\outside", "~", "$HOME", "-rf"),
    *("\u202e", "\uff0e\uff0e", "%2e%2e", ".storage-trash", ".gone-x", "a\n", "x" * 300, "\ud800", "con", "*"),
)


class Outside:
    """A folder outside the mount point that looks as one inside does, and what is in it."""

    def __init__(self, place: Place) -> None:
        self._top = place.outside
        for at in ("", "beam/", "run/", "sub/", "u/"):
            put(self._top / f"{at}precious", "1")
        put(self._top / "u" / RUN_MARKER, marker_of(RUN_MARKER, "root/u", "u"))
        self.before = self.now()

    def now(self) -> dict[str, tuple[int, bytes]]:
        return {
            str(path.relative_to(self._top)): (path.lstat().st_ino, b"" if path.is_dir() else path.read_bytes())
            for path in self._top.rglob("*")
        }


@contextmanager
def flipping(pairs: list[tuple[int, str, int, str]]) -> Iterator[Callable[[], int]]:
    """Each two names, with the directories that they are in, change places all the time; yields how often."""
    libc, over, count = ctypes.CDLL(None, use_errno=True), threading.Event(), 0

    def flip() -> None:
        nonlocal count
        while not over.is_set():
            for one, name, other, link in pairs:
                if libc.renameat2(one, name.encode(), other, link.encode(), 2) == 0:
                    count += 1

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield lambda: count
    finally:
        over.set()
        thread.join()


def opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def planted(parent: int, folder: str, file: str, content: bytes, link: Path | None = None) -> None:
    """Put a folder with a file there, and a link, if nothing is in the way."""
    with suppress(FileExistsError):
        os.mkdir(folder, dir_fd=parent)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    with suppress(OSError), os.fdopen(os.open(file, flags, dir_fd=fd), "wb") as opened_file:
        opened_file.write(content)
    if link is not None:
        with suppress(OSError):
            os.symlink(link, "link", dir_fd=fd)
            os.mkdir("sub", dir_fd=fd)
            os.close(os.open("sub/data", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, dir_fd=fd))
    os.close(fd)


def names(chance: random.Random) -> Iterator[str]:
    """A good name, mostly; else one that leads out where it is not looked at."""
    for number in range(1 << 60):
        yield chance.choice(NASTY) if chance.random() < 0.2 else f"n{number}"


class Orders:
    """Each kind of order to the door, below folders that may be links at the next moment."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self._place = place
        self._chance = chance
        self._beam, self._trash = opened(place.root / "beam"), opened(place.root / TRASH)
        self._sweep = Sweep(place.mount.trash, MP, 0.0, lambda entries: None)

    def path(self, name: str) -> tuple[str, ...]:
        return self._chance.choice([("beam", name), ("beam", "run", name), (name,), (name, "run")])

    def make(self, name: str) -> Any:
        path, id = self.path(name), f"root/{name}"
        text = "{}" if "\ud800" in name else marker_of(RUN_MARKER, id, "u1").decode()
        return self._place.mount.carry_out(MakeFolder(MP, path, RUN_MARKER, text.encode(), id, "u1"))

    def write(self, name: str) -> Any:
        path, id = self._chance.choice([("beam", "run"), ("beam", name)]), "root/run"
        marker = marker_of(ACQ_MARKER, id, "u1", sealed=True)
        return self._place.mount.carry_out(WriteMarker(MP, path, ACQ_MARKER, marker, id, "u1"))

    def log(self, name: str) -> Any:
        try:
            os.close(self._place.mount.open_log(("beam", "run"), name))
        except Fault as fault:
            return fault
        return Done()

    def set_aside(self, name: str) -> Any:
        marker = marker_of(RUN_MARKER, "root/s", "u2")
        order = MakeFolder(MP, ("beam", "s"), RUN_MARKER, marker, "root/s", "u2", set_aside=name)
        planted(self._beam, "s", RUN_MARKER, marker_of(RUN_MARKER, "root/s", "u0"))
        return self._place.mount.carry_out(order)

    def restore(self, name: str) -> Any:
        planted(self._trash, "r", RUN_MARKER, marker_of(RUN_MARKER, "root/r", "r"))
        path = self.path(name)
        return self._place.mount.carry_out(RestoreFolder(MP, "r", path, RUN_MARKER, "root/r", "r"))

    def give_up(self, name: str) -> Any:
        found = self._place.mount.carry_out(LookIntoTrash(MP, contents=True, name=name))
        done = self._place.mount.carry_out(GiveUp(MP, ("r", "x")))
        return done if not hasattr(found, "code") else found

    def delete(self, name: str) -> Any:
        planted(self._trash, ".gone-d", "file", b"x", link=self._place.outside)
        try:
            self._sweep.sweep(expire=False)
        except OSError as error:
            return error
        return Done()


def test_no_name_leads_out_of_the_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, chance = Place(tmp_path), random.Random(8)
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # names are what counts here, and many of them
    outside = Outside(place)
    for folder in ("beam/run", f"{TRASH}/.gone-d/sub"):
        (place.root / folder).mkdir(parents=True)
    put(place.root / "beam/run" / ACQ_MARKER, marker_of(ACQ_MARKER, "root/run", "u1"))
    pairs, top = [], opened(place.top)
    for number, level in enumerate(("beam", "beam/run", TRASH, f"{TRASH}/.gone-d/sub", f"{TRASH}/.gone-d")):
        (place.top / f"link{number}").symlink_to(place.outside)
        path = place.root / level
        pairs.append((opened(path.parent), path.name, top, f"link{number}"))
    orders = Orders(place, chance)
    kinds = [orders.make, orders.write, orders.log, orders.set_aside]
    kinds += [orders.restore, orders.give_up, orders.delete]
    seen: Counter[str] = Counter()
    deadline, tried = time.monotonic() + SECONDS, 0
    good = {kind.__name__ for kind in kinds}
    with flipping(pairs) as flips:
        for name in names(chance):
            kind = kinds[tried % len(kinds)]
            result = kind(name)
            tried += 1
            code = "done" if isinstance(result, Done) else getattr(result, "code", type(result).__name__)
            seen[f"{kind.__name__}: {code}"] += 1
            assert code != "internal", result
            late = time.monotonic() > deadline
            if late and tried >= NAMES and good <= {each.split(":")[0] for each in seen if "done" in each}:
                break
            assert time.monotonic() < deadline + 120, seen
            if tried % 500 == 0:
                assert outside.now() == outside.before, f"after {tried} names, the last was {name!r}"
    assert flips() > 100
    assert outside.now() == outside.before
    print(f"\n{tried} names, {flips()} flips, 0 escapes; {dict(sorted(seen.items()))}")
