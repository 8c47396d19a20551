"""One kind of kill campaign as a process of its own, life after life of a service, until it is enough.

    python -m tests.torture.row SCENARIO --seed S --folder FOLDER [--cycles N] [--seconds S] ...

Each life has a fresh service and the next seed; its folder is deleted when nothing was found, and kept otherwise.
Lines of JSON say how far it is; the last one is the result.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path

from tests.torture.campaign import SCENARIOS, Campaign
from tests.torture.tally import Goal, Tally

# Long enough that the service forgets, in memory, what it had under the first keys.
CYCLES_A_LIFE = 250
EVERY = 20


def main() -> int:
    """1 when anything was found, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.row", description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--every", type=int, default=EVERY)
    for name in ("cycles", "acknowledged", "events"):
        parser.add_argument(f"--{name}", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    goal = Goal(given.cycles, given.seconds, given.acknowledged, given.events)
    done = Tally(given.scenario, given.seed)
    seed = given.seed
    while True:
        folder = given.folder / f"{given.scenario}-{seed}"

        def tell(tally: Tally, doing: str, before: Tally = done) -> None:
            print(json.dumps({**before.add(tally).row(), "doing": doing}), flush=True)

        try:
            campaign = Campaign(SCENARIOS[given.scenario], folder, seed, tell)
            life = campaign.run(_of_life(goal.after(done)), given.every)
        except SystemExit:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        done = done.add(life)
        if life.found:
            print(json.dumps({**done.row(), "kept": str(folder)}))
            return 1
        shutil.rmtree(folder, ignore_errors=True)
        if goal.reached(done):
            # The seed that it began with repeats all lives.
            print(json.dumps({**done.row(), "seed": given.seed}))
            return 0
        seed += 1


def _end(*_: object) -> None:
    """Ended from outside, it still ends what it has started, and is not disturbed in that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(1)


def _of_life(left: Goal) -> Goal:
    """What of the goal a life has to do: its cycles, or fewer."""
    counted = left.cycles if left.acknowledged is None and left.events is None else None
    return Goal(min(CYCLES_A_LIFE, CYCLES_A_LIFE if counted is None else counted), left.seconds)


if __name__ == "__main__":
    sys.exit(main())
