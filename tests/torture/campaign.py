"""One campaign: a service, its clients, kills at random instants, and every few cycles a look at everything."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.service import Service, alive
from tests.support.wire import NoReply, Wire
from tests.torture import lives, reading, verdicts
from tests.torture.audience import Audience
from tests.torture.crew import Crew
from tests.torture.fold import Fold
from tests.torture.lives import Mix, Site
from tests.torture.scripts import SCRIPTS

QUIET_S = 60.0


@dataclass(frozen=True)
class Scenario:
    """What one promise is tortured with."""

    promise: str
    title: str
    mix: Mix
    storages: int = 6
    proxied: float = 0.0
    audience: bool = False


SCENARIOS = {
    "R1": Scenario("R1", "what is acknowledged survives", Mix(convert=0.1)),
    "R2": Scenario("R2", "a key takes effect once", Mix(convert=0.1, params=10), proxied=0.7),
    "R4": Scenario("R4", "every event, once, in order", Mix(convert=0.1), audience=True),
    "R5": Scenario(
        "R5", "conversions", Mix(tuple(SCRIPTS), 0.9, reopen=0.3, meddle=0.5, params=4), storages=4, proxied=0.2
    ),
}


@dataclass
class Tally:
    """A line of the summary. `found`: every violation, each with `lost:`, `doubled:` or `wrong:` before it."""

    promise: str
    seed: int
    cycles: int = 0
    faults: int = 0
    acknowledged: int = 0
    repeated: int = 0
    events: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many violations are of a kind."""
        return sum(each.startswith(f"{kind}:") for each in self.found)

    @property
    def others(self) -> int:
        """Violations that are neither lost nor doubled."""
        return len(self.found) - self.count("lost") - self.count("doubled")


class Campaign:
    """Cycles of load and kill on one service in one folder."""

    def __init__(self, scenario: Scenario, folder: Path, seed: int, tell: Callable[[Tally, str], None]) -> None:
        self.scenario = scenario
        self.tally = Tally(scenario.promise, seed)
        self.tell = tell
        self.chance = random.Random(f"{scenario.promise} {seed}")
        # Apart from the clients', so that the same seed kills in the same way however fast they are.
        self.faults = random.Random(f"faults {scenario.promise} {seed}")
        self.tallies = folder / "tally"
        self.tallies.mkdir(parents=True)
        conversion = {
            "scripts_dir": "conversions",
            "max_parallel": 3,
            "max_attempts": 3,
            "retry_backoff_s": 0.05,
            "max_interruptions": 100_000,
            "grace_s": 0.3,
            "env": {"TALLY": str(self.tallies)},
        }
        self.service = Service(folder / "service", settings={"conversion": conversion})
        for name, body in SCRIPTS.items():
            self.service.script(name, body)
        self.crew = Crew(self.chance)
        self.fold = Fold()
        self.proxy: subprocess.Popen[bytes] | None = None
        self.audience: Audience | None = None
        if scenario.audience:
            endpoints = self.service.events, self.service.commands
            self.audience = Audience(folder / "audience", *endpoints, random.Random(seed))
        self.sites = [self._site(number) for number in range(scenario.storages)]

    def run(self, cycles: int, every: int) -> Tally:
        """Kill so many times; look at everything after each `every` cycles and at the end."""
        began = time.monotonic()
        try:
            self.service.start()
            if self.scenario.proxied:
                self._forward()
            if self.audience is not None:
                self.audience.open()
            self._hire()
            for cycle in range(1, cycles + 1):
                self._cycle()
                self.tally.cycles = cycle
                self._say(began, "killed")
                if cycle % every == 0 or cycle == cycles:
                    self._say(began, "looking")
                    self._look(last=cycle == cycles)
                    self._say(began, "looked")
                if self.tally.found:
                    break
        finally:
            self._close()
        self._say(began, "done")
        return self.tally

    def _site(self, number: int) -> Site:
        # Two storages share a base run group, and so the numbers of its runs.
        group = f"g{number // 2}"
        return Site(f"s{number}", group, f"home/{group}", random.Random(self.chance.random()), self.scenario.mix)

    def _hire(self) -> None:
        for site in self.sites:
            works = [lives.owner(site), *(lives.producer(site, name) for name in lives.PRODUCERS)]
            for life in works:
                proxied = self.chance.random() < self.scenario.proxied
                self.crew.hire(life, self._front if proxied else self.service.commands, proxied=proxied)

    @property
    def _front(self) -> str:
        return f"ipc://{self.service.folder}/proxy.ipc"

    def _forward(self) -> None:
        words = [
            sys.executable,
            "-m",
            "tests.torture.proxy",
            self._front,
            self.service.commands,
            str(self.tally.seed),
        ]
        self.proxy = subprocess.Popen(words)

    def _cycle(self) -> None:
        """Load, a kill, a start; now and then the start is killed as well."""
        if self.faults.random() < 0.5:
            self.crew.pump(self.faults.random() * 1.2)
        else:
            self.crew.pump(5.0, enough=self.faults.randrange(1, 600))
        if self.audience is not None:
            self.audience.disturb()
        self._kill()
        while self.faults.random() < 0.15:
            self.service.launch()
            self.crew.pump(self.faults.random() * 0.9)
            self._kill()
        self.service.launch()
        self._wait_until_ready()

    def _kill(self) -> None:
        """`kill -9`; now and then it is asked to end, which is to leave as much behind."""
        gently = self.faults.random() < 0.1
        code = self.service.signal(signal.SIGTERM if gently else signal.SIGKILL)
        if code not in ((0, -signal.SIGTERM) if gently else (-signal.SIGKILL,)):
            self.tally.found.append(f"wrong: the service had ended by itself: {code}, {self._end_of_log()}")
        self.tally.faults += 1
        self.crew.after_a_kill()

    def _wait_until_ready(self) -> None:
        """The clients go on meanwhile, and are heard as soon as it answers."""
        deadline = time.monotonic() + 30
        with self.service.connect(patience_s=0.01) as wire:
            asked = wire.post("ping")
            while time.monotonic() < deadline and self.service.running:
                self.crew.pump(0.02)
                with contextlib.suppress(NoReply):
                    wire.collect(asked)
                    return
        self.tally.found.append(f"wrong: it did not start: {self._end_of_log()}")

    def _end_of_log(self) -> str:
        return self.service.log_text()[-3000:]

    def _look(self, last: bool) -> None:
        found = self.tally.found
        if not self.crew.settle(QUIET_S):
            left = [str(each) for each in self.crew.unanswered()[:5]]
            found.append(f"lost: no answer in {QUIET_S} s to {left}, {self._end_of_log()}")
            return
        self.crew.repeat_answered(300)
        if not self.crew.settle(QUIET_S):
            found.append("lost: no answer to repeats")
            return
        try:
            self._compare_all()
            if last:
                self.service.restart()
                self._compare_all()
                self._read_anew()
                if self.audience is not None:
                    found += self.audience.judge(self.fold.rows, QUIET_S)
        except (NoReply, AssertionError) as error:
            found.append(f"wrong: {error!r}, {self._end_of_log()}")
        self.crew.resting = False

    def _compare_all(self) -> None:
        found = self.tally.found
        with self.service.connect() as wire:
            if left := _stuck(wire):
                found.append(f"lost: nothing happens for {QUIET_S} s, and this is still to be done: {left[:3]}")
            reading.follow(wire, self.fold)
            told = reading.Told(wire, self.fold.runs)
            found += reading.differences(self.fold, told)
            found += self._on_disk(told)
        book, proxied = self.crew.book, self.crew.proxied
        found += self.fold.wrong + [f"wrong: {each}" for each in self.crew.found]
        found += verdicts.effects(book, proxied, self.fold) + verdicts.order(book, proxied, self.fold)
        found += verdicts.conversions(self.fold, self.tallies)
        if survivors := _alive_with(f"TALLY={self.tallies}"):
            found.append(f"wrong: nothing is at work, and processes of conversions live: {survivors}")
        if "Traceback" in self.service.log_text():
            text = self.service.log_text()
            found.append(f"wrong: a traceback in the log: {text[text.index('Traceback') - 500 :][:3000]}")

    def _on_disk(self, told: reading.Told) -> list[str]:
        """A run's marker file follows shortly after a change; so it may be looked at more than once."""
        written = set().union(*(site.written for site in self.sites))
        deadline = time.monotonic() + 10
        while wrong := reading.on_disk(told, self.service.mount, written):
            if time.monotonic() > deadline:
                return wrong
            time.sleep(0.2)
        return []

    def _read_anew(self) -> None:
        """The journal read from its begin is the one that was read bit by bit."""
        again = Fold()
        with self.service.connect() as wire:
            reading.follow(wire, again)
        if again.rows != self.fold.rows:
            self.tally.found.append("wrong: the journal has changed since it was read")

    def _say(self, began: float, what: str) -> None:
        self.tally.acknowledged = self.crew.acknowledged
        self.tally.repeated = self.crew.repeated
        self.tally.events = len(self.fold.rows)
        self.tally.seconds = time.monotonic() - began
        self.tell(self.tally, what)

    def _close(self) -> None:
        self.crew.close()
        if self.proxy is not None:
            self.proxy.kill()
            self.proxy.wait()
        if self.audience is not None:
            self.audience.close()
        self.service.close()


def _stuck(wire: Wire) -> list[str]:
    """What is still at work although nothing has happened for long; nothing once everything is done."""
    last, deadline = 0, 0.0
    while left := reading.pending(wire):
        if (now := wire.last_seq()) > last:
            last, deadline = now, time.monotonic() + QUIET_S
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return []


def _alive_with(variable: str) -> list[int]:
    """Processes that have this in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return [pid for pid in found if alive(pid)]
