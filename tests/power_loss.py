"""The power goes while the store is at work, over and over: `python -m tests.power_loss --cycles 10000 --seed 7`.

The desk lives a random life on the real store, on a disk that loses what was not synced (`support/crash_vfs.py`):
in the middle of a commit, of a checkpoint, of the first start. After each loss the real store opens what is left,
and must have

- every batch whose commit returned, whole and in order; of the one that was out all or nothing; nothing else;
- a journal without holes, and tables that are its fold; whole indexes;
- each key with its reply: a repeat is answered as the first time.

The last line of the output is the result as JSON. What is found wrong is printed with the words that show it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from storage_protocol.commands import Command
from storage_service.desk.batch import Batch, JournalRow
from storage_service.store.interface import Committed, UnknownOutcomeError
from tests.support import lives
from tests.support.crash_vfs import CrashDisk
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, init
from tests.support.tally import Tally, Violation

LOSSES_OF_A_STORE = 12
STEPS = 240
# Things that happen to a file before the power goes: some commits, or a long life with checkpoints.
SOON, LATE = 60, 400
# So many that the first start is still under way.
FIRST = 40


@dataclass
class Kept:
    """What has to be in the database: everything that commits wrote."""

    rows: list[JournalRow] = field(default_factory=list)
    keys: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    intents: set[str] = field(default_factory=set)

    def and_then(self, batch: Batch) -> Kept:
        intents = set(self.intents)
        for id, intent in batch.intents.items():
            intents.discard(id)
            if intent is not None:
                intents.add(id)
        keys = self.keys | {key: (fingerprint, result) for key, fingerprint, result in batch.keys}
        return Kept([*self.rows, *batch.rows], keys, intents)


class PoweredStore(SqliteStore):
    """The store on a disk whose power goes.

    kept     what is acknowledged
    out      the batch whose commit was under way at the loss
    struck   what losses met: `between` commits, `opening`, and a commit that came to be `whole` or `gone`
    """

    def __init__(self, folder: Path, disk: CrashDisk) -> None:
        self.disk = disk
        self.kept = Kept()
        self.out: Batch | None = None
        self.acknowledged = 0
        self.struck: Counter[str] = Counter()
        super().__init__(folder, PLACES)

    def _open(self) -> None:
        super()._open()
        # Often so small that checkpoints come all the time.
        self.writer.checkpoint_pages = self.disk.random.choice([1, 4, 20, 1000])

    def reopen(self) -> None:
        """The power goes, if it is not gone; the next life is on what the disk has."""
        files = self.disk.lose_power()
        before, self._starts = self._home(self._starts), self._starts + 1
        home = self._home(self._starts)
        home.mkdir()
        self.close()
        shutil.rmtree(before)
        moved = {home / path.name: content for path, content in files.items()}
        for path, content in moved.items():
            path.write_bytes(content)
        self.disk.begin(moved)
        self.disk.arm(self.disk.random.choice([0, self.disk.random.randrange(1, SOON), 0, LATE]))
        self._open()
        self.struck["opening"] += self.disk.left is not None
        self._look()

    def commit(self, batch: Batch, wall: float) -> Committed:
        gone = self.disk.left is not None
        done = super().commit(batch, wall)
        if self.disk.left is None:
            self.kept, self.acknowledged = self.kept.and_then(batch), self.acknowledged + 1
        elif not gone:
            self.out = batch
        with suppress(UnknownOutcomeError):  # the power goes there, too: the next life looks
            self.writer.tidy()
        return done

    def _look(self) -> None:
        """Hold what is there against what must be."""
        broken = self.select("PRAGMA integrity_check")
        if broken != [("ok",)]:
            raise Violation(f"wrong: {broken[:3]}")
        keys = {key: (told.fingerprint, told.result) for key, (told, _) in self.keys.items()}
        there = Kept(list(self.journal), keys, set(self.intents))
        out, self.out = self.out, None
        if out is not None and there == (more := self.kept.and_then(out)):
            self.kept = more
            self.struck["whole"] += 1
            return
        if there == self.kept:
            self.struck["between" if out is None else "gone"] += 1
            return
        lacks = [row.seq for row in self.kept.rows if row not in there.rows]
        lacks_keys = sorted(self.kept.keys.keys() - keys.keys())
        if lacks or lacks_keys or self.kept.intents - there.intents:
            raise Violation(f"lost: of the journal {lacks}, of the keys {lacks_keys}, of the intents the rest")
        raise Violation(f"wrong: there is more than was committed, or in parts: {len(there.rows)} rows")


class Clients(lives.Clients):
    """Those of the random lives; `asked` has what was sent with a key, `told` its reply before the loss."""

    def __init__(self, store: PoweredStore) -> None:
        self.powered = store
        self.asked: dict[tuple[bytes, Any], tuple[Command, str]] = {}
        self.told: dict[str, tuple[Command, Any]] = {}
        store.disk.on_loss = self._lost
        super().__init__(store)

    def send(self, peer: bytes, *asked: Command | tuple[Command, str]) -> None:
        ids = self.shell.send(*asked, peer=peer)
        self.asked.update(
            {(peer, id): each for id, each in zip(ids, asked, strict=True) if isinstance(each, tuple)}
        )

    def _lost(self) -> None:
        """The replies that were sent before this instant."""
        replies = getattr(self, "shell", None) and getattr(self.shell, "replies", {})
        for where, reply in (replies or {}).items():
            if where in self.asked and reply.ok:
                command, key = self.asked[where]
                self.told[key] = (command, reply.result)

    def ask_again(self) -> None:
        """Repeat some of what was answered: the answer is the same, or a promise is broken."""
        random, kept = self.powered.disk.random, self.powered.kept.keys
        told = [(key, *each) for key, each in self.told.items() if key in kept]
        for key, command, result in random.sample(told, min(3, len(told))):
            again = self.shell.call(command, key)
            if not again.ok or again.result != result:
                raise Violation(f"doubled: {command} with {key!r} was answered {result}, and now {again}")


def one_store(folder: Path, seed: int, number: int, losses: int, tally: Tally) -> None:
    """A store from its first start over so many losses of power."""
    random = Random(f"{seed} {number}")
    folder.mkdir()
    disk = CrashDisk(random)
    store = None
    try:
        disk.arm(random.choice([0, random.randrange(1, FIRST)]))
        store = PoweredStore(folder, disk)
        clients = Clients(store)
        tally.cycles += 1
        for _ in range(losses - 1):
            _life(clients, random)
            tally.cycles += 1
            clients.shell.start().sound()
            if disk.left is None:
                clients.ask_again()
            clients.shell.hold_commits = random.random() < 0.7
    except AssertionError as error:
        tally.broken(error, f"python -m tests.power_loss --seed {seed} --store {number}")
    finally:
        if store is not None:
            tally.acknowledged += store.acknowledged
            tally.met += store.struck
            store.close()
        disk.unregister()
        shutil.rmtree(folder)


def _life(clients: Clients, random: Random) -> None:
    """Some steps, until the power is gone."""
    if not clients.shell.record(("storage", "s")) and clients.powered.disk.left is None:
        clients.send(b"p", init(), init("t"))
        clients.shell.turn()
    for _ in range(random.randrange(STEPS)):
        if clients.powered.disk.left is not None:
            return
        step = lives.step(random)
        if step[0] != "kill":
            clients.step(step)


def lose_power(folder: Path, cycles: int, seed: int, only: int | None = None) -> Tally:
    """So many losses of power, on one store after the other; `only`: that one alone."""
    tally, begun = Tally("R1", seed), time.monotonic()
    number = only or 0
    while tally.cycles < cycles:
        one_store(folder / f"store-{number}", seed, number, LOSSES_OF_A_STORE, tally)
        number += 1
        if only is not None:
            break
    tally.faults, tally.seconds = tally.cycles, round(time.monotonic() - begun, 1)
    return tally


def main() -> int:
    """1 when anything is lost, doubled or wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.power_loss", description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000, help="losses of power")
    parser.add_argument("--seed", type=int, default=None, help="of everything random; drawn when left out")
    parser.add_argument("--store", type=int, default=None, help="only the store of this number")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory(prefix="power-loss-") as place:
        tally = lose_power(Path(place), given.cycles, seed, given.store)
    return tally.tell()


if __name__ == "__main__":
    sys.exit(main())
