"""Programs side by side under the same kinds of load, and what is said of each of them."""

import dataclasses
from pathlib import Path
from statistics import median

from bench.load import Load, measure
from bench.measured import LoadError, Measured
from bench.process import last_words
from bench.service import LOG

ECHO, STORE, LOOP, SERVICE, CLIENT = "(a) echo", "(b) store", "(c) loop", "service", "client"
LOGS = {ECHO: "echo.log", STORE: "store.log", LOOP: "loop.log"}
BUSY = 0.9  # a load generator busier than this measures itself


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of load."""

    title: str
    connections: int
    window: int  # messages outstanding on each connection
    frames: int  # commands a message


SINGLE = Row("8 connections, 64 commands outstanding on each, 1 a message", connections=8, window=64, frames=1)
MANY = Row("8 connections, 64 commands outstanding on each, 32 a message", connections=8, window=2, frames=32)
LONE = Row("1 connection, one command at a time", connections=1, window=1, frames=1)
ROWS = (SINGLE, MANY, LONE)


@dataclasses.dataclass(frozen=True)
class Line:
    """What is said of one program under one kind of load: medians over the rounds."""

    program: str
    rate: float  # commands a second
    of_echo: float
    of_store: float
    server_us: float  # a command
    p50_ms: float
    p99_ms: float
    generator_share: float  # 1.0 is one core
    failed: int  # in all rounds
    valid: bool
    rounds: list[Measured]


def lines_of(rounds: list[dict[str, Measured]]) -> list[Line]:
    """The lines of one row from what each program did in each round."""
    lines = []
    for program in rounds[0]:
        own = [each[program] for each in rounds]
        share = median(m.generator_share for m in own)
        line = Line(
            program=program,
            rate=median(m.rate for m in own),
            of_echo=median(each[program].rate / max(each[ECHO].rate, 1e-9) for each in rounds),
            of_store=median(each[program].rate / max(each[STORE].rate, 1e-9) for each in rounds),
            server_us=median(m.server_us for m in own),
            p50_ms=median(m.p50_ms for m in own),
            p99_ms=median(m.p99_ms for m in own),
            generator_share=share,
            failed=sum(m.failed for m in own),
            valid=share <= BUSY or program == CLIENT,  # which is what is measured there
            rounds=own,
        )
        lines.append(line)
    return lines


def show(row: Row, lines: list[Line]) -> None:
    """Print one row, a line for each program."""
    print(f"\n{row.title}")
    print(
        f"  {'':10}{'commands/s':>12}{'of (a)':>9}{'of (b)':>9}{'CPU us/cmd':>12}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'generator':>11}{'failed':>8}"
    )
    for line in lines:
        print(
            f"  {line.program:10}{line.rate:12,.0f}{line.of_echo:9.2f}{line.of_store:9.2f}{line.server_us:12.1f}"
            f"{line.p50_ms:9.2f}{line.p99_ms:9.2f}{line.generator_share:10.0%} {line.failed:8,}"
            + ("" if line.valid else f"  INVALID: the generator was over {BUSY:.0%} busy")
        )
        refusals = {text: count for measured in line.rounds for text, count in measured.refusals.items()}
        for text in list(refusals)[:3]:
            print(f"      refused: {text}")


class Side:
    """The programs that are loaded side by side, and what each has acknowledged so far."""

    def __init__(self, programs: dict[str, tuple[str, int]], places: list[tuple[str, str]], folder: Path) -> None:
        self.programs = programs
        self.acknowledged = dict.fromkeys(programs, 0)
        self._places = places
        self._folder = folder

    def add(self, program: str, at: tuple[str, int]) -> None:
        """One more, by its endpoint and process id, with the same open acquisitions."""
        self.programs[program] = at
        self.acknowledged[program] = 0

    def load(self, program: str, row: Row, seconds: float) -> Measured:
        """Load one of them, or CLIENT: the service by the client library. Raises LoadError."""
        of = SERVICE if program == CLIENT else program
        endpoint, pid = self.programs[of]
        places = self._places[: row.connections]
        module = "bench.client" if program == CLIENT else "bench.load"
        try:
            measured = measure(Load(endpoint, pid, places, row.window, row.frames, seconds), module)
        except LoadError as failure:
            raise LoadError(
                f"{program}: {failure}; {last_words(self._folder / LOGS.get(program, LOG))}"
            ) from failure
        self.acknowledged[of] += measured.acknowledged
        return measured
