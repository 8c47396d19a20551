"""The disk of the database fails under the real service: `python -m tests.disk_faults --cycles 5000 --seed 7`.

Each cycle has one fault (support/faulty_disk.c): the n-th write or sync from now on in the state folder fails with
EIO or ENOSPC, or writes a part, once or until it is mended, while commands with keys are under way. Then

- a command is acknowledged, refused as `unavailable`, or has no reply since the service ended, with exit code 75;
- a start on a disk that fails succeeds, or ends with one sentence and exit code 75;
- when the disk is well, and the service started again if it ended, the repeat of each command is answered: as the
  first time if it was, and each took effect once.

The last line of the output is the result as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.support.faulty_disk import FaultyDisk
from tests.support.fold import folded
from tests.support.service import Died, Service
from tests.support.sqlite_store import reading
from tests.support.step_shell import PLACES
from tests.support.tally import Tally, Violation
from tests.support.wire import NoReply, Refused, Storage, read_reply

TRY_AGAIN = 75
PATIENCE_S = 60.0
RUN = "root/g/run"

Sent = tuple[str, str, dict[str, Any]]


class DiskFaults:
    """One service in one folder, cycle after cycle."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = Random(f"disk faults {seed}")
        self.tally = Tally("R3", seed)
        folder.mkdir(exist_ok=True)
        self.disk = FaultyDisk(folder / "service" / "var", folder / "disk")
        self.service = Service(folder / "service", environment=self.disk.environment)
        self.sent: list[Sent] = []
        self._seq = 0
        self._effects: Counter[str] = Counter()

    def run(self, cycles: int) -> Tally:
        begun = time.monotonic()
        again = f"python -m tests.disk_faults --seed {self.tally.seed} --cycles"
        try:
            with self.service.start().connect() as wire:
                Storage(wire, "s", brg_name="g", brg_path="p").open().run()
                self._seq = wire.last_seq()
            while self.tally.cycles < cycles and not self.tally.found:
                self.tally.cycles += 1
                try:
                    self._cycle()
                except (AssertionError, Refused, NoReply, Died) as error:
                    told = error if isinstance(error, AssertionError) else Violation(f"wrong: {error!r}")
                    self.tally.broken(told, f"{again} {self.tally.cycles}")
            if not self.tally.found:
                self.service.terminate()
                self._look_inside()
        finally:
            self.service.close()
        self.tally.seconds = round(time.monotonic() - begun, 1)
        return self.tally

    def _cycle(self) -> None:
        pick = self.random.choice
        starts = self.random.random() < 0.1
        if starts:
            self.service.terminate()
        error, kinds = pick(["EIO", "EIO", "ENOSPC", "ENOSPC", "SHORT"]), pick(["w", "w", "s", "ws"])
        self.disk.order(kinds, self.random.randrange(1, 16), error, pick(["once", "ever"]))
        if starts:
            self._start()
        commands = [self._command() for _ in range(self.random.randrange(1, 9))]
        replies = self._ask(commands) if self.service.running else {}
        met = self.disk.mend()
        self.tally.faults += bool(met)
        self.tally.acknowledged += sum(reply["ok"] for reply in replies.values())
        if not self.service.running:
            self.service.start()
        self._ask_again(commands, replies)
        self._count_effects()

    def _start(self) -> None:
        """Start the service while the disk fails."""
        try:
            self.service.start()
        except Died:
            code = self.service.exit_code
            self.tally.met["refused to start"] += 1
            last = self.service.log_text().splitlines()[-1]
            if code != TRY_AGAIN or not last.startswith(("storage-service: ", "{")):
                raise Violation(f"wrong: a start ended with {code}:\n{self.service.log_text()[-2000:]}") from None

    def _command(self) -> Sent:
        """A command whose effect can be counted."""
        number = len(self.sent)
        key = f"key {number}"
        made: Sent = self.random.choice(
            [
                ("set_param_run_storage", key, {"run_name": "run", "param": f"p{number % 50}", "value": number}),
                ("register_producer_storage", key, {}),
                ("new_run_storage", key, {"run_name": "r{n}", "params": {"by": number}}),
            ]
        )
        self.sent.append(made)
        return made

    def _ask(self, commands: list[Sent]) -> dict[str, dict[str, Any]]:
        """Send them all at once; the replies by key, of all, or of those that came before the service ended."""
        replies: dict[str, dict[str, Any]] = {}
        with self.service.connect() as wire:
            ids = {wire.post(cmd, key=key, storage_id="s", **args): key for cmd, key, args in commands}
            deadline = time.monotonic() + PATIENCE_S
            while len(replies) < len(ids):
                with contextlib.suppress(NoReply):
                    ended = not self.service.running
                    (frame,) = wire.recv_raw(0.02)
                    reply = read_reply(frame)
                    replies[ids[reply["id"]]] = reply
                    continue
                if ended:
                    break
                if time.monotonic() > deadline:
                    raise Violation(
                        f"wrong: {len(ids) - len(replies)} commands have no reply, and the service runs"
                    )
        for key, reply in replies.items():
            if not reply["ok"]:
                if reply["error"]["code"] != "unavailable":
                    raise Violation(f"wrong: {key!r} was refused with {reply['error']}")
                self.tally.met["unavailable"] += 1
        if not self.service.running:
            self.tally.met["ended"] += 1
            if (code := self.service.exit_code) != TRY_AGAIN:
                raise Violation(f"wrong: the service ended with {code}:\n{self.service.log_text()[-2000:]}")
        return replies

    def _ask_again(self, commands: list[Sent], replies: dict[str, dict[str, Any]]) -> None:
        """The disk is well: each repeat is answered, as the first time where it was acknowledged then."""
        with self.service.connect() as wire:
            ids = [(wire.post(cmd, key=key, storage_id="s", **args), key) for cmd, key, args in commands]
            for number, key in ids:
                result, first = wire.collect(number), replies.get(key)
                if first is not None and first["ok"] and first["result"] != result:
                    raise Violation(f"doubled: {key!r} was answered {first['result']}, and now {result}")

    def _count_effects(self) -> None:
        """Each command took effect once, as its events tell."""
        with self.service.connect() as wire:
            events = wire.journal(self._seq)
        if [event["seq"] for event in events] != list(range(self._seq + 1, self._seq + len(events) + 1)):
            raise Violation(f"lost: the journal has holes after {self._seq}")
        self._seq += len(events)
        for event in events:
            self._effects[self._effect_of(event)] += 1
        wanted = Counter(self._wanted(*each) for each in self.sent)
        if missing := wanted - self._effects:
            raise Violation(f"lost: {missing}")
        if more := self._effects - wanted:
            raise Violation(f"doubled: {more}")

    def _effect_of(self, event: dict[str, Any]) -> str:
        match event["type"]:
            case "run.param_set":
                return f"set {event['data']['value']}"
            case "run.created":
                return f"run {event['data']['params']['by']}"
            case other:
                return str(other)

    def _wanted(self, cmd: str, key: str, args: dict[str, Any]) -> str:
        if cmd == "set_param_run_storage":
            return f"set {args['value']}"
        return f"run {args['params']['by']}" if cmd == "new_run_storage" else "storage.producer_registered"

    def _look_inside(self) -> None:
        """The database that is left: whole, and its tables are the fold of its journal."""
        again = f"python -m tests.disk_faults --seed {self.tally.seed} --cycles {self.tally.cycles}"
        with reading(self.service.state / "storage.db") as store:
            if store.select("PRAGMA integrity_check") != [("ok",)]:
                self.tally.broken(Violation("wrong: the database is not whole"), again)
            elif folded(store.journal, PLACES) != store.everything():
                self.tally.broken(Violation("wrong: the tables are not the fold of the journal"), again)


def main() -> int:
    """1 when anything is lost, doubled or wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk_faults", description=__doc__)
    parser.add_argument("--cycles", type=int, default=5000, help="faults of the disk")
    parser.add_argument("--seed", type=int, default=None, help="of everything random; drawn when left out")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory(prefix="disk-faults-") as place:
        return DiskFaults(Path(place), seed).run(given.cycles).tell()


if __name__ == "__main__":
    sys.exit(main())
