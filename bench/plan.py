"""How much is measured: the sizes of a whole run, and of a quick one, which shows that the bench works."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    quick          whether the sizes are too small for figures
    turns          how often each load of commands is repeated, by turns; seconds: how long each lasts
    rounds         how often everything else is repeated
    appends        synced appends that the disk's own time is taken from
    outstanding    the points of the curve over outstanding commands, and point_s: how long each lasts
    finishes       acquisitions that are finished before subscribers
    conversions    runs of the script
    events         journal rows that are replayed
    acquisitions   those of the grown store; a hundred journal rows and 50 parameters each
    stages         shares of them at which the cost is looked at
    lone_s         how long lone commands are sent for a p99.9
    searches       how often each search is asked
    load_s         how long the grown store is kept under load to look at its memory
    manifest_gib   data that a manifest is made of
    """

    quick: bool = False
    turns: int = 7
    seconds: float = 1.0
    rounds: int = 3
    appends: int = 2_000
    outstanding: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    point_s: float = 1.0
    finishes: int = 1_000
    conversions: int = 1_000
    events: int = 1_000_000
    acquisitions: int = 100_000
    stages: tuple[float, ...] = (0.0, 0.01, 0.1, 0.3, 1.0)
    lone_s: float = 8.0
    searches: int = 400
    load_s: float = 600.0
    manifest_gib: float = 4.0


QUICK = Plan(
    quick=True,
    turns=1,
    seconds=0.5,
    rounds=1,
    appends=200,
    outstanding=(1, 8, 64, 512),
    point_s=0.2,
    finishes=40,
    conversions=20,
    events=20_000,
    acquisitions=200,
    stages=(0.0, 1.0),
    lone_s=0.5,
    searches=20,
    load_s=1.0,
    manifest_gib=0.0625,
)
