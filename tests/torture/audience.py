"""The subscribers of a campaign: started, stopped in their tracks, and what each saw held against the journal."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgpack

from tests.support.polling import eventually
from tests.support.service import Service
from tests.torture.fold import NOBODYS
from tests.torture.trap import Trap

# Name, topic, seconds for each tenth event, high-water mark.
KINDS = (
    ("fast", "", 0.0, 100_000),
    ("narrow", "", 0.0, 5),
    ("slow", "", 0.001, 50),
    ("topic", "acquisition.param_set/s0/", 0.0, 20),
)

# More events than the service keeps for a subscriber, and how many commands a message holds.
OVERRUN = 60_000
AT_ONCE = 1000


@dataclass
class Subscriber:
    """One of them. `topic` "" is everything; `process` runs until it has all."""

    name: str
    topic: str
    out: Path
    process: subprocess.Popen[bytes]
    crcs: bool = True
    stopped: float = 0.0

    def seen(self) -> list[tuple[int, int]]:
        """What it has accepted, in its order: seq and crc."""
        return [(int(seq), int(crc)) for seq, crc in (line.split() for line in self.out.read_text().splitlines())]


class Audience:
    """All subscribers of one service."""

    def __init__(self, folder: Path, events: str, commands: str, chance: random.Random) -> None:
        self.folder = folder
        self.events = events
        self.commands = commands
        self.chance = chance
        self.here: list[Subscriber] = []
        self.stops = 0
        self.trap = Trap(events)
        folder.mkdir()

    def open(self) -> None:
        """The first of them; others come late."""
        for name, topic, slow_s, hwm in KINDS:
            self._come(name, topic, slow_s, hwm)
        out = self.folder / "client.seen"
        module = "tests.torture.client_subscriber"
        process = self._process(module, self.commands, str(out))
        self.here.append(Subscriber("client", "", out, process, crcs=False))

    def _come(self, name: str, topic: str, slow_s: float, hwm: int) -> None:
        out = self.folder / f"{name}.seen"
        module = "tests.torture.subscriber"
        process = self._process(module, self.events, self.commands, str(out), topic, str(slow_s), str(hwm))
        self.here.append(Subscriber(name, topic, out, process))

    def _process(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=errors)

    def disturb(self) -> None:
        """Stop one for a while, let those go on whose time is up."""
        now = time.monotonic()
        for one in self.here:
            if one.stopped and now > one.stopped:
                one.process.send_signal(signal.SIGCONT)
                one.stopped = 0.0
            elif not one.stopped and self.chance.random() < 0.15:
                one.process.send_signal(signal.SIGSTOP)
                one.stopped = now + self.chance.random() * 8
                self.stops += 1
        if len(self.here) < 7 and self.chance.random() < 0.05:
            self._come(f"late{len(self.here)}", "", 0.0, 1000)

    def overrun(self, service: Service) -> None:
        """Stop some, and tell more than the service keeps for any of them, then let them go on."""
        storage = {"storage_id": "s0"}
        stopped = [one for one in self.here if one.name in ("narrow", "topic", "client")]
        for one in stopped:
            one.process.send_signal(signal.SIGSTOP)
            self.stops += 1
        with service.connect(patience_s=60) as wire:
            wire.call("init_storage", **storage, brg_name="g0", brg_path="home/g0")
            wire.call("config_storage", **storage)
            wire.call("new_run_storage", **storage, run_name="overrun")
            acq = wire.call("new_acq_storage", **storage, run_name="overrun", acq_name="a", producers_count=0)
            where = {**storage, "acq_id": acq["acq_id"], "param": "overrun", "value": NOBODYS}
            frame = msgpack.packb({"id": 1, "cmd": "set_param_acq_storage", "args": where})
            for _ in range(OVERRUN // AT_ONCE):
                assert all(reply["ok"] for reply in wire.exchange(*[frame] * AT_ONCE))
            wire.call("close_acq_storage", **storage, acq_id=acq["acq_id"])
        for one in stopped:
            one.process.send_signal(signal.SIGCONT)

    def judge(self, rows: list[tuple[int, str]], patience_s: float) -> list[str]:
        """Let everybody come to the end of the journal; what they lack, have twice or in another order."""
        wrong = []
        deadline = time.monotonic() + patience_s
        for one in self.here:
            one.process.send_signal(signal.SIGCONT)
            part = one.out.with_suffix(".part")
            part.write_text(str(len(rows)))
            os.replace(part, one.out.with_suffix(".stop"))
        for one in self.here:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.1, deadline - time.monotonic()))
            if one.process.poll() != 0:
                wrong.append(f"lost: subscriber {one.name} did not come to the end: {one.process.poll()}")
            wrong += self._compare(one, rows)
        errors = (self.folder / "errors").read_text()
        return wrong + ([f"wrong: {errors[-1000:]}"] if errors else [])

    def with_another_store(self, service: Service, patience_s: float) -> list[str]:
        """The service comes back with another store: who stayed, and who returns later, is told so and not left
        to wait. Used at the very end; the service keeps the other store.
        """
        with service.connect() as wire:
            page = wire.call("replay_events", limit=1)
        cursor = f"{page['journal_id']}:{page['last_seq']}"
        module = "tests.torture.client_subscriber"
        outs = [self.folder / "stayed.seen", self.folder / "returned.seen"]
        processes = [self._process(module, self.commands, str(outs[0]), cursor)]
        wrong = []
        try:
            eventually(outs[0].exists, patience_s)
            service.kill()
            service.state.rename(service.state.with_name("var.before"))
            service.start()
            processes.append(self._process(module, self.commands, str(outs[1]), cursor))
            for out in outs:
                ended = out.with_suffix(".ended")
                eventually(lambda: ended.exists() and ended.read_text(), patience_s)  # noqa: B023  at once
                if (code := ended.read_text()) != "journal_changed":
                    wrong.append(f"wrong: {out.stem} met another store and was told {code}")
                if out.read_text():
                    wrong.append(f"wrong: {out.stem} was given events of another store: {out.read_text()[:200]}")
        except AssertionError as error:
            wrong.append(f"lost: a subscriber is not told that the store is another one: {error}")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return wrong

    def _compare(self, one: Subscriber, rows: list[tuple[int, str]]) -> list[str]:
        seen = one.seen()
        expected = [(seq, crc) for seq, (crc, topic) in enumerate(rows, 1) if topic.startswith(one.topic)]
        if not one.crcs:
            seen, expected = [(seq, 0) for seq, _ in seen], [(seq, 0) for seq, _ in expected]
        if seen == expected:
            return []
        seqs = [seq for seq, _ in seen]
        lost = {seq for seq, _ in expected} - set(seqs)
        doubled = len(seqs) - len(set(seqs))
        where = next((i for i, pair in enumerate(zip(seen, expected, strict=False)) if pair[0] != pair[1]), -1)
        kind = "lost" if lost else "doubled" if doubled else "wrong"
        here, there = seen[where : where + 3], expected[where : where + 3]
        told = f"lacks {len(lost)} {sorted(lost)[:5]}, has {doubled} twice, in order: {seqs == sorted(seqs)}"
        return [f"{kind}: subscriber {one.name} {told}, from row {where} on it has {here}, not {there}"]

    def close(self) -> None:
        """End those that are left."""
        self.trap.close()
        for one in self.here:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()
