"""How much is measured: the sizes of a whole run, and of a quick one, which shows that the bench works."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    quick          whether the sizes are too small for figures
    rounds         how often each load is repeated; seconds: how long each lasts
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
    rounds: int = 3
    seconds: float = 2.0
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
    rounds=1,
    seconds=0.5,
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
