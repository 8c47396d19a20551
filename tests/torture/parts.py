"""The parts of the long tier: what each is called, what it runs, and how much of it is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """How much: what is None is left to the part. `cycles` are kills, power losses, faults, or frames."""

    cycles: int | None = None
    seconds: float | None = None
    acknowledged: int | None = None
    events: int | None = None


Words = Callable[[Size, int, Path], list[str]]


@dataclass(frozen=True)
class Part:
    """One row of the summary.

    name     as it is chosen by; its promise is what stands before the dash
    module   what `python -m` runs; it prints lines of JSON, of which the last is the result
    hour     its size when all parts together are to last about an hour, one after another on two cores
    long     its size by the page of promises
    words    its arguments for a size, a seed, and the folder that it may keep things in
    """

    name: str
    title: str
    module: str
    hour: Size
    long: Size
    words: Words

    @property
    def promise(self) -> str:
        """`R1`, or the name itself where it is of no single promise."""
        return self.name.partition("-")[0]

    @property
    def is_there(self) -> bool:
        """Whether this checkout has it."""
        try:
            return find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False


def _options(size: Size, seed: int | None, **names: str) -> list[str]:
    """Those numbers of a size that are given, under the names that the part has for them."""
    words = [] if seed is None else ["--seed", str(seed)]
    for attribute, option in names.items():
        if (value := getattr(size, attribute)) is not None:
            words += [f"--{option}", str(value)]
    return words


def _kills(scenario: str) -> Words:
    numbers = {name: name for name in ("cycles", "seconds", "acknowledged", "events")}
    return lambda size, seed, folder: [scenario, "--folder", str(folder), *_options(size, seed, **numbers)]


def _cycles(a_second: float) -> Words:
    """A part that knows no seconds: they are as many cycles as it makes in them on two cores."""

    def words(size: Size, seed: int, folder: Path) -> list[str]:
        by_time = None if size.seconds is None else max(1, round(size.seconds * a_second))
        given = [cycles for cycles in (size.cycles, by_time) if cycles is not None]
        return _options(Size(min(given, default=None)), seed, cycles="cycles")

    return words


def _seconds(size: Size, seed: int, folder: Path) -> list[str]:
    return _options(size, seed, seconds="seconds")


def _frames(size: Size, seed: int, folder: Path) -> list[str]:
    # It has a number of its own that it begins with; seconds alone are to be all of them.
    sized = Size(10_000_000 if size.cycles is None else size.cycles, size.seconds)
    return _options(sized, seed, cycles="inputs", seconds="seconds")


def _nothing(size: Size, seed: int, folder: Path) -> list[str]:
    return ["--json"]


ROW = "tests.torture.row"
PARTS: Sequence[Part] = (
    Part(
        "R1-kill",
        "what is acknowledged survives kill -9",
        ROW,
        Size(seconds=660),
        Size(cycles=1_000, acknowledged=500_000),
        _kills("R1"),
    ),
    Part(
        "R1-power",
        "and power losses",
        "tests.power_loss",
        Size(cycles=10_000),
        Size(cycles=10_000),
        _cycles(45),
    ),
    Part(
        "R2",
        "a key takes effect once, through a proxy",
        ROW,
        Size(seconds=660),
        Size(acknowledged=1_000_000),
        _kills("R2"),
    ),
    Part(
        "R3",
        "a disk that fails never leads to a wrong answer",
        "tests.disk_faults",
        Size(cycles=500),
        Size(cycles=5_000),
        _cycles(2.5),
    ),
    Part(
        "R4",
        "every event reaches every subscriber, once and in order",
        ROW,
        Size(seconds=600),
        Size(cycles=500, events=1_000_000),
        _kills("R4"),
    ),
    Part(
        "R5",
        "conversions: one at a time, one result, no survivors",
        ROW,
        Size(seconds=600),
        Size(cycles=2_000),
        _kills("R5"),
    ),
    Part(
        "R8-frames",
        "bytes from the net are answered in bounded time and memory",
        "tests.fuzz",
        Size(cycles=10_000_000, seconds=240),
        Size(cycles=10_000_000),
        _frames,
    ),
    Part(
        "R8-paths",
        "symbolic links that flip lead nowhere",
        "tests.symlinks",
        Size(seconds=60),
        Size(seconds=60),
        _seconds,
    ),
    Part(
        "simulation",
        "whole lives with an injected clock, store and network",
        "tests.simulation",
        Size(seconds=240),
        Size(seconds=1_200),
        _seconds,
    ),
    Part("mutants", "planted bugs are caught", "tests.mutants", Size(), Size(), _nothing),
)


def chosen(names: Sequence[str]) -> list[Part]:
    """Those that are named, or whose promise is; all when none is. Raises ValueError for a name of nothing."""
    for name in names:
        if not any(name in (part.name, part.promise) for part in PARTS):
            raise ValueError(f"there is no part {name}; there are {', '.join(part.name for part in PARTS)}")
    return [part for part in PARTS if not names or part.name in names or part.promise in names]
