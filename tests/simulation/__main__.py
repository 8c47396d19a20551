"""Simulate lives of the service: `python -m tests.simulation --seconds 60`, and again what broke: `--replay SEED`.

Everything of a life follows from its seed. The last line of the output is one map in JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback

from storage_service.rules.lifecycle import TABLES

from .broken import Broken
from .campaign import Campaign
from .life import STEPS, Life, life
from .shrink import shrunk
from .world import World


def main() -> int:
    """1 when a promise was broken, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--lives", type=int, default=None, help="how many; 2,000 unless --seconds is given")
    parser.add_argument("--seconds", type=float, default=None, help="how long, instead")
    parser.add_argument("--seed", type=int, default=None, help="of the first life, the others follow; or drawn")
    parser.add_argument("--replay", type=int, default=None, help="one life again, told step by step")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a life")
    given = parser.parse_args()
    if given.replay is not None:
        return replay(life(given.replay, given.steps))
    seed = random.randrange(1 << 31) if given.seed is None else given.seed
    most = given.lives if given.lives is not None else 2_000 if given.seconds is None else 1 << 31
    return campaign(seed, most, given.seconds, given.steps)


def campaign(seed: int, most: int, seconds: float | None, steps: int) -> int:
    count, began, worked = Campaign(), time.monotonic(), time.process_time()
    failed: Life | None = None
    for number in range(most):
        took = time.monotonic() - began
        if seconds is not None and took > seconds:
            break
        one = life(seed + number, steps)
        world = World(one)
        try:
            world.live()
        except Broken as wrong:
            count.broken[wrong.what] += 1
        except Exception as error:  # noqa: BLE001  a defect of the service is what is looked for
            print(f"{type(error).__name__}: {error}")
            count.broken["doubled" if "ran twice" in str(error) else "wrong"] += 1
        count.add(world)
        if count.broken:
            failed = one
            break
    took, worked = time.monotonic() - began, time.process_time() - worked
    report(count, took, worked)
    if failed is not None:
        print(
            f"\nseed {failed.seed} fails; again: python -m tests.simulation --replay {failed.seed} --steps {steps}"
        )
        replay(shrunk(failed))
    print(json.dumps(summary(count, took, seed)))
    return 1 if count.broken else 0


def report(count: Campaign, took: float, worked: float) -> None:
    """`worked`: seconds of one processor, which other programs may have kept from us."""
    often, pace = count.lives * 60 / max(took, 0.001), count.lives * 60 / max(worked, 0.001)
    print(f"{count.lives} lives, {count.steps} steps; {often:.0f} lives a minute, {pace:.0f} of processor time")
    print(f"{count.acknowledged} commands were acknowledged")
    print("faults: " + ", ".join(f"{name} {often}" for name, often in sorted(count.faults.items())))
    print("manifests: " + ", ".join(f"{name} {often}" for name, often in sorted(count.manifests.items())))
    print("readings: " + ", ".join(f"{name} {often}" for name, often in sorted(count.readings.items())))
    never = count.never()
    rows = sum(map(len, TABLES.values()))
    print(f"{rows - len(never)} of {rows} rows of the state machines were gone through")
    for row in never:
        print(f"  never: {row}")


def summary(count: Campaign, took: float, seed: int) -> dict[str, object]:
    return {
        "promise": "simulation",
        "cycles": count.lives,
        "faults": sum(count.faults.values()),
        "acknowledged": count.acknowledged,
        "lost": count.broken["lost"],
        "doubled": count.broken["doubled"],
        "wrong": count.broken["wrong"] + count.broken["waits"],
        "seconds": round(took, 1),
        "seed": seed,
    }


def replay(one: Life) -> int:
    """One life, told step by step; what breaks at the end of it."""
    print(f"seed {one.seed}, {len(one.steps)} steps: {one._replace(steps=[])}")
    try:
        World(one, tell=print).live()
    except Broken as wrong:
        print(wrong)
        return 1
    except Exception:  # noqa: BLE001  a defect of the service is what is looked for
        print(traceback.format_exc())
        return 1
    print("nothing broke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
