"""One campaign: a service, its clients, kills at random instants, and every few cycles a look at everything."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.service import Died, Service
from tests.support.wire import NoReply
from tests.torture import lives
from tests.torture.asked import Asked
from tests.torture.audience import Audience
from tests.torture.crew import Crew
from tests.torture.lives import Mix, Site
from tests.torture.look import QUIET_S, Look
from tests.torture.scripts import SCRIPTS
from tests.torture.staff import Staff
from tests.torture.tally import Goal, Tally

# Looks grow with the journal: between two there is at least this many times as much load as a look takes.
LOAD_A_LOOK = 3.0
SAY_EVERY_S = 0.3
# Events that any subscriber can take in a second, on a busy machine.
READ_A_SECOND = 1000.0


@dataclass(frozen=True)
class Scenario:
    """What one promise is tortured with.

    proxied   the part of the clients whose messages are lost, doubled, delayed and cut on the way
    audience  whether there are subscribers
    strikes   how likely a process of a conversion is killed, in a cycle
    staff     producers that are programs of their own, with the client library
    """

    promise: str
    title: str
    mix: Mix
    storages: int = 6
    proxied: float = 0.0
    audience: bool = False
    strikes: float = 0.0
    staff: int = 0


SCENARIOS = {
    "R1": Scenario("R1", "what is acknowledged survives", Mix(convert=0.1), staff=3),
    "R2": Scenario("R2", "a key takes effect once", Mix(convert=0.1, params=10), proxied=0.7),
    "R4": Scenario("R4", "every event, once, in order", Mix(convert=0.1), audience=True),
    "R5": Scenario(
        "R5",
        "conversions",
        Mix(tuple(SCRIPTS), 0.9, reopen=0.3, meddle=0.5, params=4),
        storages=4,
        proxied=0.2,
        strikes=0.5,
    ),
}


class Campaign:
    """Cycles of load and kill on one service in one folder."""

    def __init__(self, scenario: Scenario, folder: Path, seed: int, tell: Callable[[Tally, str], None]) -> None:
        self.scenario = scenario
        self.folder = folder
        self.tally = Tally(scenario.promise, seed)
        self.tell = tell
        self.chance = random.Random(f"{scenario.promise} {seed}")
        # Apart from the clients', so that the same seed kills in the same way however fast they are.
        self.faults = random.Random(f"faults {scenario.promise} {seed}")
        self.strikes = random.Random(f"strikes {scenario.promise} {seed}")
        tallies = folder / "tally"
        tallies.mkdir(parents=True)
        conversion = {
            "scripts_dir": "conversions",
            "max_parallel": 3,
            "max_attempts": 3,
            "retry_backoff_s": 0.05,
            "max_interruptions": 100_000,
            "grace_s": 0.3,
            "env": {"TALLY": str(tallies)},
        }
        self.service = Service(folder / "service", settings={"conversion": conversion})
        for name, body in SCRIPTS.items():
            self.service.script(name, body)
        self.crew = Crew(self.chance)
        self.staff = Staff(folder / "staff", self.service.commands, scenario.staff, seed)
        self.look = Look(self.service, tallies, seed)
        self.proxy: subprocess.Popen[bytes] | None = None
        self.audience: Audience | None = None
        if scenario.audience:
            endpoints = self.service.events, self.service.commands
            self.audience = Audience(folder / "audience", *endpoints, random.Random(seed))
        self.sites = [self._site(number) for number in range(scenario.storages)]
        self._began = time.monotonic()
        self._said = 0.0

    def run(self, goal: Goal, every: int) -> Tally:
        """Kill until it is enough; look at everything after `every` cycles or more, and at the end."""
        self._began = looked = time.monotonic()
        looking_s = 0.0
        try:
            self.service.start()
            if self.scenario.proxied:
                self._forward()
            if self.audience is not None:
                self.audience.open()
            self.staff.open()
            self._hire()
            while not self.tally.found:
                self._cycle()
                self.tally.cycles += 1
                self._say("load and kill")
                last = goal.reached(self.tally)
                loaded_s = time.monotonic() - looked
                if last or (self.tally.cycles % every == 0 and loaded_s > LOAD_A_LOOK * looking_s):
                    self._say("looking", at_once=True)
                    began = time.monotonic()
                    self._look(last)
                    looked = time.monotonic()
                    looking_s = looked - began
                if last:
                    break
        except Died as error:
            self.tally.found.append(f"wrong: it did not start: {error}")
        finally:
            self._close()
        self._say("done", at_once=True)
        if self.tally.found:
            self._keep()
        return self.tally

    def _site(self, number: int) -> Site:
        # Two storages share a base run group, and so the numbers of its runs.
        group = f"g{number // 2}"
        chance = random.Random(self.chance.random())
        # The acquisitions of some end by themselves, a while after their first mark.
        patience_s = 1.5 if number % 3 == 2 else None
        place = (f"s{number}", group, f"home/{group}")
        return Site(*place, chance, self.scenario.mix, written=self.look.written, finish_timeout_s=patience_s)

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
        words = [sys.executable, "-m", "tests.torture.proxy", self._front, self.service.commands]
        self.proxy = subprocess.Popen([*words, str(self.tally.seed)])

    def _cycle(self) -> None:
        """Load, a kill, a start; now and then the start is killed as well."""
        if self.faults.random() < 0.5:
            self.crew.pump(self.faults.random() * 1.2)
        else:
            self.crew.pump(5.0, enough=self.faults.randrange(1, 600))
        if self.audience is not None:
            self.audience.disturb()
        self.staff.disturb()
        self._strike()
        self._kill(self._moment())
        while self.faults.random() < 0.15:
            self.service.launch()
            self.crew.pump(self.faults.random() * 0.9)
            self._kill("while it started")
        self.service.launch()
        self._wait_until_ready()

    def _strike(self) -> None:
        """`kill -9` to something below a conversion, and on with the load for a moment."""
        if self.strikes.random() >= self.scenario.strikes or not (pids := self.look.at_work()):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.strikes.choice(pids), signal.SIGKILL)
        self.tally.faults += 1
        self.tally.newest = "kill -9 of a script"
        self.crew.pump(self.strikes.random() * 0.3)

    def _moment(self) -> str:
        """Return when the service is to be killed: now, or at its next event."""
        if self.audience is None or self.faults.random() < 0.4:
            return "under load"
        self.audience.trap.set()
        self.crew.ask_on()
        self.audience.trap.spring()
        return "at an event"

    def _kill(self, when: str) -> None:
        """`kill -9`; now and then it is asked to end, which is to leave as much behind."""
        gently = self.faults.random() < 0.1
        code = self.service.signal(signal.SIGTERM if gently else signal.SIGKILL)
        if code not in ((0, -signal.SIGTERM) if gently else (-signal.SIGKILL,)):
            self.tally.found.append(f"wrong: the service had ended by itself: {code}, {self._end_of_log()}")
        self.tally.faults += 1
        self.tally.newest = f"{'SIGTERM' if gently else 'kill -9'} {when}"
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
        crew, staff = self.crew, self.staff
        if not (crew.settle(QUIET_S) and staff.settle(QUIET_S)):
            left = [*map(str, crew.unanswered()), *staff.unanswered()][:5]
            found += [*staff.wrong, f"lost: no answer in {QUIET_S} s to {left}, {self._end_of_log()}"]
            return
        crew.repeat_answered(300)
        if not crew.settle(QUIET_S):
            found.append("lost: no answer to repeats")
            return
        try:
            if last and self.audience is not None:
                self.audience.overrun(self.service)
            found += self._compare()
            if self.audience is not None:
                found += self.audience.trap.strangers(self.look.fold.rows)
            if last and not found:
                self.service.restart()
                found += self._compare() + self.look.read_anew()
                if self.audience is not None:
                    rows = self.look.fold.rows
                    found += self.audience.judge(rows, QUIET_S + len(rows) / READ_A_SECOND)
                    found += self.audience.with_another_store(self.service, QUIET_S)
        except (NoReply, AssertionError) as error:
            found.append(f"wrong: {error!r}, {self._end_of_log()}")
        crew.resting = False
        staff.wake()

    def _compare(self) -> list[str]:
        told = [f"wrong: {each}" for each in self.crew.found] + self.staff.wrong
        books = [self.crew.book, self.staff.book]
        unsure = self.crew.proxied | self.staff.book.keys()
        return told + self.look.compare(self.crew.book | self.staff.book, unsure, books)

    def _say(self, what: str, *, at_once: bool = False) -> None:
        self.tally.acknowledged = self.crew.acknowledged + self.staff.acknowledged
        self.tally.repeated = self.crew.repeated
        self.tally.events = len(self.look.fold.rows)
        self.tally.seconds = time.monotonic() - self._began
        if at_once or time.monotonic() - self._said > SAY_EVERY_S:
            self._said = time.monotonic()
            self.tell(self.tally, what)

    def _close(self) -> None:
        self.crew.close()
        self.staff.close()
        if self.proxy is not None:
            self.proxy.kill()
            self.proxy.wait()
        if self.audience is not None:
            self.audience.close()
        self.service.close()

    def _keep(self) -> None:
        """What was found and what was told, beside the journal, the log and the records of the clients."""
        (self.folder / "found.txt").write_text("\n".join(self.tally.found) + "\n")
        with (self.folder / "told.jsonl").open("w") as file:
            for asked in (self.crew.book | self.staff.book).values():
                file.write(json.dumps(_told(asked)) + "\n")


def _told(asked: Asked) -> dict[str, object]:
    names = ("id", "key", "cmd", "args", "copies", "line", "first_sent", "answered", "result", "code")
    return {name: getattr(asked, name) for name in names}
