"""Short random lives on a store whose disk fails: what clients, doors and clocks do, drawn from a seed.

What the desk makes of it is judged by `tests/simulation`; here only what the store has kept matters.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_service.rules.conversions import Policy
from storage_service.rules.work import Done, Failed, MakeFolder, Order, Result, Taken

from .memory_store import MemoryStore
from .sqlite_store import SqliteStore
from .step_shell import StepShell, init

AWAY = Failed("unavailable", "The mount point is not there.", {"reason": "mount"})
ANOTHERS = Failed("already_exists", "The folder is another's.", {"what": "run", "id": "x"})
Step = tuple[Any, ...]

ACQS = ["root/g/r/a"] * 3 + ["root/g/r/b", "root/g/r1/a"]


def command(random: Random) -> Any:
    """What a client may ask: mostly for the life of a few acquisitions."""
    pick, flag = random.choice, random.random() < 0.5
    storage = pick("sssssst")
    mode: Any = pick(["append", "append", "append", "remove"])
    params: dict[str, Any] = {name: random.randint(0, 2) for name in "xy" if random.random() < 0.3}
    producer = pick([None, "p", "q"])
    new_acq: dict[str, Any] = {
        "storage_id": storage,
        "run_name": pick(["r", "r", "r", "r1"]),
        "acq_name": pick("aab"),
    }
    makers: list[tuple[float, Callable[[], Command]]] = [
        (3, lambda: c.ConfigStorage(storage_id=storage)),
        (0.4, lambda: c.InvalStorage(storage_id=storage, force=flag)),
        (0.4, lambda: c.DeinitStorage(storage_id=storage, force=flag)),
        (3, lambda: init(storage, use_rundb=random.random() < 0.9)),
        (2, lambda: c.RegisterProducer(storage_id=storage, producer=producer)),
        (1, lambda: c.UnregisterProducer(storage_id=storage, producer="p")),
        (
            4,
            lambda: c.NewRun(
                storage_id=storage, run_name=pick(["r", "r", "r1", "r{n}"]), mode=mode, params=params
            ),
        ),
        (2, lambda: c.SetParamRun(storage_id=storage, run_name="r", param="x", value=random.randint(0, 9))),
        (9, lambda: c.NewAcq(**new_acq, mode=mode, convert_script=pick([None, "convert", "convert"]))),
        (2, lambda: c.NewAcq(**new_acq, params=params)),
        (5, lambda: c.SetParamAcq(storage_id=storage, acq_id=pick(ACQS), param="x", value=random.randint(0, 9))),
        (6, lambda: c.MarkAsFinished(storage_id=storage, acq_id=pick(ACQS), producer=producer, ok=flag)),
        (1, lambda: c.MarkAsFinished(storage_id=storage)),
        (6, lambda: c.CloseAcq(storage_id=storage, acq_id=pick(ACQS))),
        (2, lambda: c.AbortAcq(storage_id=storage, acq_id=pick(ACQS))),
        (1, lambda: c.NewGroup(name=pick("hr"), parent_id=pick(["root", "root/g"]))),
        (2, lambda: c.GetStorage(storage_id=storage)),
        (2, lambda: c.GetAcq(acq_id=pick(ACQS))),
        (1, lambda: c.ListStorages()),
    ]
    weights, made = zip(*makers, strict=True)
    return random.choices(made, weights)[0]()


ENDS = [("exited", 0), ("exited", 0), ("exited", 1), ("timed_out", -9), ("interrupted", None)]


def step(random: Random) -> Any:
    """What may happen next."""
    pick = random.choice
    kinds: list[tuple[int, Callable[[], Step]]] = [
        (30, lambda: ("send", pick([b"p", b"q"]), [command(random) for _ in range(pick([1, 1, 1, 2, 3]))])),
        (4, lambda: ("again", pick([b"p", b"q"]), random.randrange(99))),
        (30, lambda: ("turn",)),
        (25, lambda: ("commit",)),
        (3, lambda: ("roll back",)),
        (5, lambda: ("door", pick(["done", "done", "done", "hangs", "away", "another's", "taken"]))),
        (6, lambda: ("released", pick([Done(), Done(), Done(), AWAY]))),
        (6, lambda: ("end", pick(ENDS))),
        (6, lambda: ("hashed", pick([None, None, None, AWAY]))),
        (4, lambda: ("on conversion", pick([c.CancelConversion, c.RetryConversion]), random.randrange(9))),
        (6, lambda: ("wait", pick([0.5, 2.0, 6.0, 70.0]))),
        (2, lambda: ("look-ups held", pick([True, False]))),
        (1, lambda: ("kill",)),
    ]
    weights, made = zip(*kinds, strict=True)
    return random.choices(made, weights)[0]()


def life(seed: int, length: int) -> list[Step]:
    random = Random(seed)
    return [step(random) for _ in range(length)]


def door(how: str) -> Callable[[Order], Result | None]:
    def opened(order: Order) -> Result | None:
        if how == "hangs":
            return None
        if how == "taken" and isinstance(order, MakeFolder) and order.fresh:
            # Some numbers are free.
            return Done() if order.path[-1].endswith(("3", "6", "9")) else Taken()
        if how == "another's" and isinstance(order, MakeFolder):
            return ANOTHERS
        return AWAY if how == "away" else Done()

    return opened


class Clients:
    """What clients sent with which key, and who waits for a reply."""

    def __init__(self, store: MemoryStore | SqliteStore | None = None) -> None:
        policy = Policy(max_attempts=2, backoff_s=1.0, max_interruptions=3)
        self.shell = StepShell(policy=policy, store=store, manifest_kind="blake3")
        self.keyed: list[tuple[Command, str]] = []
        self.waiting: list[tuple[bytes, int]] = []

    def send(self, peer: bytes, *asked: Command | tuple[Command, str]) -> None:
        self.waiting += [(peer, id) for id in self.shell.send(*asked, peer=peer)]

    def step(self, step: Step) -> None:
        """What means nothing now is left out: there is no batch to commit, no script to end."""
        shell = self.shell
        match step:
            case ("send", peer, commands):
                fresh = [(each, f"key {len(self.keyed) + n}") for n, each in enumerate(commands)]
                self.keyed += fresh
                self.send(peer, *fresh)
            case ("again", peer, number) if self.keyed:
                self.send(peer, self.keyed[number % len(self.keyed)])
            case ("turn",):
                shell.turn()
            case ("commit",) if shell.batch is not None:
                shell.commit()
            case ("roll back",) if shell.batch is not None:
                shell.roll_back()
            case ("door", how):
                shell.door = door(how)
            case ("released", result) if shell.hung:
                work_id, _ = shell.hung.pop()
                shell.desk.outcome(work_id, result, shell.now)
            case ("end", (how, exit_code)) if shell.scripts:
                shell.end(next(iter(shell.scripts)), how, exit_code)
            case ("hashed", result) if shell.manifests:
                shell.hashed(result)
            case ("on conversion", make, number):
                ids = [id for table, id in shell.store.records if table == "conversion"]
                if ids:
                    self.send(b"p", make(conversion_id=ids[number % len(ids)]))
            case ("wait", seconds):
                shell.wait(seconds)
            case ("look-ups held", held):
                shell.hold_look_ups = held
            case ("kill",):
                shell.start().hold_commits = True
                self.waiting.clear()

    def settle(self) -> StepShell:
        """The world is well again: everything comes to its end."""
        shell = self.shell
        shell.hold_commits = shell.hold_look_ups = False
        if shell.batch is not None:
            shell.commit()
        shell.release()
        for _ in range(20):
            for id in list(shell.scripts):
                shell.end(id)
            while shell.manifests:
                shell.hashed()
            shell.wait(70.0)
        return shell
