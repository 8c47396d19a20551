"""Give the codec millions of frames: `python -m tests.fuzz --inputs 10000000 --seed 7`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time

from tests.fuzz.frames import Frames
from tests.fuzz.verdict import LIMITS, MOST_BYTES, MOST_S, check, peak, slow

BATCH = 500
MOST_FOUND = 20
SAY_EVERY_S = 1.0


class Fuzz:
    """Frames by the hundred: each is answered, each in time; a batch's memory is looked at as a whole first."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.frames = Frames(seed)
        self.began = time.monotonic()
        self.inputs = 0
        self.refused = 0
        self.found: list[str] = []

    def batch(self, count: int) -> None:
        """So many frames more."""
        raws = [self.frames.next() for _ in range(count)]
        for raw in raws:
            self._answer(raw)
        # The most that all of them take is no less than what any of them takes.
        if peak(raws) > MOST_BYTES:
            for raw in raws:
                if (most := peak([raw])) > MOST_BYTES:
                    self._note(raw, f"takes {most} bytes, {MOST_BYTES} are the most")
        self.inputs += count

    def _answer(self, raw: bytes) -> None:
        began = time.perf_counter()
        try:
            read = check(raw, (LIMITS,))
        except Exception as error:  # noqa: BLE001  whatever it is, it is found
            self._note(raw, f"raises {error!r}")
            return
        if time.perf_counter() - began > MOST_S and (seconds := slow(raw)) > MOST_S:
            self._note(raw, f"takes {seconds * 1000:.1f} ms, {MOST_S * 1000:.0f} are the most")
        self.refused += hasattr(read, "refusal")

    def _note(self, raw: bytes, what: str) -> None:
        self.found.append(f"wrong: {len(raw)} bytes {raw[:200].hex()}: {what}")

    def row(self) -> dict[str, object]:
        """As every part of the long tier tells of itself; a fault is a frame that was refused."""
        numbers = {"cycles": self.inputs, "faults": self.refused, "acknowledged": 0}
        failures = {"lost": 0, "doubled": 0, "wrong": len(self.found)}
        rest = {"seconds": time.monotonic() - self.began, "seed": self.seed, "found": self.found[:MOST_FOUND]}
        return {"promise": "R8", **numbers, **failures, **rest}


def main() -> int:
    """1 when anything is found, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="frames to read")
    parser.add_argument("--seconds", type=float, default=None, help="end earlier, after so long")
    parser.add_argument("--seed", type=int, default=None, help="of the frames; drawn when left out")
    given = parser.parse_args()
    fuzz = Fuzz(random.randrange(1 << 32) if given.seed is None else given.seed)
    until = float("inf") if given.seconds is None else fuzz.began + given.seconds
    said = fuzz.began
    while fuzz.inputs < given.inputs and (now := time.monotonic()) < until and len(fuzz.found) < MOST_FOUND:
        fuzz.batch(min(BATCH, given.inputs - fuzz.inputs))
        if now - said > SAY_EVERY_S:
            said = now
            print(json.dumps({**fuzz.row(), "doing": "reading"}), flush=True)
    for each in fuzz.found:
        print(each, file=sys.stderr)
    print(json.dumps(fuzz.row()))
    return 1 if fuzz.found else 0


if __name__ == "__main__":
    sys.exit(main())
