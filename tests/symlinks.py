"""A folder and a symbolic link change places all the time while the door to a mount point works below them.

    python -m tests.symlinks --seconds 60

Whatever the moment, an order is done inside of the mount, or refused: nothing ever appears where the link leads.
The last line of the output is the result as JSON; a cycle is an order, a fault one that met the link.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from storage_service.rules.work import RUN_MARKER, TRASH, Done, MakeFolder, WriteMarker
from tests.support.place import MP, RUN, Place, make_acq, make_run, put

LEVELS = ("beam", "beam/run_1", TRASH)
SAY_EVERY_S = 1.0


def swapper(one: Path, other: Path) -> Callable[[], None]:
    """Exchanges two names in one step, so that both are always there."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    first, second = os.fsencode(one), os.fsencode(other)

    def swap() -> None:
        if renameat2(-100, first, -100, second, 2) != 0:
            raise OSError(ctypes.get_errno(), "no exchange")

    return swap


def order_below(place: Place, level: str, number: int) -> MakeFolder | WriteMarker:
    """An order whose path leads through the folder that is swapped."""
    path, id_ = f"beam/run_1/n{number}", f"{RUN}/n{number}"
    if level == TRASH:
        put(place.root / path / "data.raw", "old")
        return make_acq(path, id_, set_aside=f"old{number}")
    if number % 3 == 0:
        return make_run()
    if number % 3 == 1:
        return WriteMarker(MP, ("beam", "run_1"), RUN_MARKER, make_run().marker, RUN, "u1")
    return make_acq(path, id_)


class Flips:
    """One level of the path flips. `seen`: how often an order came to what."""

    def __init__(self, top: Path, level: str) -> None:
        self.place = Place(top)
        self.level = level
        self.seen: Counter[str] = Counter()
        self._folder, self._link = self.place.root / level, self.place.root / "stash"
        self._folder.mkdir(parents=True)
        (self.place.outside / "run_1").mkdir()
        self._link.symlink_to(self.place.outside)

    @contextlib.contextmanager
    def flipping(self) -> Iterator[None]:
        """The two change places as fast as they can."""
        swap, over = swapper(self._folder, self._link), threading.Event()

        def flip() -> None:
            while not over.is_set():
                swap()

        thread = threading.Thread(target=flip)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def order(self) -> None:
        """One order more."""
        result = self.place.mount.carry_out(order_below(self.place, self.level, self.seen.total()))
        self.seen["done" if isinstance(result, Done) else getattr(result, "code", "taken")] += 1

    @property
    def met_both(self) -> bool:
        """Whether orders have met the folder as well as the link."""
        return {"done", "invalid_name"} <= self.seen.keys()

    def wrong(self) -> list[str]:
        """What is outside and must not be, and answers that there must not be."""
        outside = self.place.outside
        there = [str(path.relative_to(outside)) for path in outside.rglob("*")]
        wrong = [f"wrong: outside of the mount, by {self.level}: {there[:9]}"] if there != ["run_1"] else []
        if strange := self.seen.keys() - {"done", "invalid_name", "unavailable"}:
            wrong.append(f"wrong: orders came to {sorted(strange)}")
        return wrong


def main() -> int:
    """1 when anything got out, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.symlinks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="is told back: what happens is up to the scheduler")
    given = parser.parse_args()
    began = said = time.monotonic()
    all_seen: Counter[str] = Counter()
    found: list[str] = []

    def tell(**more: object) -> None:
        numbers = {"cycles": all_seen.total(), "faults": all_seen["invalid_name"], "acknowledged": 0}
        failures = {"lost": 0, "doubled": 0, "wrong": len(found)}
        rest = {"seconds": time.monotonic() - began, "seed": given.seed, "found": found}
        print(json.dumps({"promise": "R8", **numbers, **failures, **rest, **more}), flush=True)

    for number, level in enumerate(LEVELS, 1):
        with tempfile.TemporaryDirectory(prefix="symlinks-") as top:
            flips = Flips(Path(top), level)
            until = began + given.seconds * number / len(LEVELS)
            with flips.flipping():
                while time.monotonic() < until:
                    flips.order()
                    if time.monotonic() - said > SAY_EVERY_S:
                        said = time.monotonic()
                        tell(doing=f"flipping {level}")
            all_seen += flips.seen
            found += flips.wrong()
            if not flips.met_both:
                found.append(f"wrong: orders below {level} did not meet both: {dict(flips.seen)}")
    tell()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
