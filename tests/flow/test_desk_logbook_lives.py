"""Seeded lives of what logbooks are owed: lost answers, refusals, crashes and roll-backs in any order.

The logbook of the test does what a door does, with the records as they are durable, and keeps every key that was
ever written: none may come twice. When faults stop, everything that was owed is there.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from storage_protocol import commands as c
from storage_service.rules.facts import AcqAborted, AcqFinished
from storage_service.rules.logbook_records import PROBLEM, Owed
from storage_service.rules.logbook_text import key_of
from storage_service.rules.logbook_work import Content as Made
from storage_service.rules.logbook_work import EntryDone, WriteEntry
from storage_service.rules.state import Acq, Run
from storage_service.rules.work import Failed
from storage_service.store.rows import decode_fact
from tests.support.step_shell import StepShell, config, init, new_acq, new_run

FAILURES = [
    Failed("unavailable", f"It fails for the {concerns}.", {"concerns": concerns})
    for concerns in ("server", "logbook", "entry")
]


class Logbook:
    """Keys in the order of their first writing, each with its number and how it came there."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.replies: dict[str, str | None] = {}
        self.seen: dict[str, set[Any]] = {}
        self.pending: tuple[WriteEntry, EntryDone | Failed] | None = None

    def said(self, order: WriteEntry) -> EntryDone | Failed | None:
        """What it said to this order already, if nobody has heard of it yet."""
        pending, self.pending = self.pending, None
        return pending[1] if pending is not None and pending[0] is order else None

    def take(self, shell: StepShell, order: WriteEntry) -> EntryDone | Failed:
        """What the door does with an order, step by step."""
        owed, store = order.owed, shell.store
        node = store.record(("node", owed.node_id))
        if owed.kind != PROBLEM and node is not None and owed.uid not in ("", node.uid):
            node = None
        key = key_of(owed, Made(run=node, acq=node))
        if key is None or (node is None and owed.kind != PROBLEM):
            return Failed("not_found", "It is gone.", {"concerns": "entry"})
        page = store.record(("page", key))
        number = page.number if page is not None else None
        if number is None and order.search:
            number = self.numbers.get(key)
        if number is None:
            assert key not in self.numbers, f"{key} is written twice"
            self.numbers[key] = number = len(self.numbers) + 1
            run = store.record(("node", owed.run_id))
            thread = (f"run-{run.uid}" if run else None) if owed.replies_to == "" else owed.replies_to
            self.replies[key] = thread if thread in self.numbers else None
        self.seen[key] = ended(shell, owed.run_id)
        return EntryDone(key, number)


def ended(shell: StepShell, run_id: str) -> set[Any]:
    """The acquisitions of a run that ended, as they are durable."""
    acqs = (each for each in shell.store.everything().values() if isinstance(each, Acq))
    return {(a.uid, a.segment, a.state, a.verdict) for a in acqs if a.run_id == run_id and a.state != "open"}


def act(shell: StepShell, dice: Random) -> None:
    """Something that clients do."""
    run, acq = f"r{dice.randrange(3)}", dice.choice("ab")
    acq_id = f"root/g/{run}/{acq}"
    if (storage := shell.record(("storage", "s"))) is None or not storage.configured:
        shell.call(init(elog_server="main", elog_name="demo"))
        shell.call(config())
        return
    match dice.randrange(9):
        case 0 | 1:
            shell.call(new_run(run_name=run, mode=dice.choice(["append", "append", "remove"])))
        case 2 | 3 | 4:
            mode = dice.choice(["append", "append", "remove"])
            shell.call(new_acq(run_name=run, acq_name=acq, mode=mode, producers=("p",)))
        case 5 | 6:
            shell.call(c.MarkAsFinished(storage_id="s", acq_id=acq_id, producer="p", ok=dice.random() < 0.5))
        case 7:
            shell.call(c.AbortAcq(storage_id="s", acq_id=acq_id))
        case _:
            shell.call(c.DeinitStorage(storage_id="s", force=True)) if dice.random() < 0.2 else shell.wait(1)


def write(shell: StepShell, logbook: Logbook, dice: Random) -> None:
    """The logbook has its turn, and what it says may get lost."""
    if not shell.entries:
        shell.wait(dice.choice([0.3, 2.0, 30.0]))
        return
    order = shell.entries[0]
    if (said := logbook.said(order)) is not None:
        shell.entered(said)
        return
    if dice.random() < 0.3:
        logbook.pending = order, logbook.take(shell, order)  # the answer is on its way
        return
    fails = dice.random() < 0.4
    result = dice.choice(FAILURES) if fails else logbook.take(shell, order)
    if fails and dice.random() < 0.5:
        logbook.take(shell, order)  # it is there, and nobody hears of it
    match dice.randrange(5):
        case 0:
            shell.restart()
        case 1 if not shell.batch:
            shell.hold_commits = True
            shell.entered(result)
            if shell.batch is not None:
                shell.roll_back().run()
            shell.hold_commits = False
            shell.run()
        case _:
            shell.entered(result)


def problems(shell: StepShell) -> set[str]:
    """What the journal says went wrong, as keys of entries."""
    wrong = set[str]()
    for row in shell.store.journal:
        fact = decode_fact(row.fact) if row.fact is not None else None
        data = msgspec.msgpack.decode(row.body)["data"]
        if isinstance(fact, AcqAborted):
            wrong.add(f"aborted-{data['segment']}-{data['uid']}")
        elif isinstance(fact, AcqFinished) and fact.verdict == "partial":
            wrong.add(f"partial-{data['segment']}-{data['uid']}")
    return wrong


def runs_of_problems(shell: StepShell) -> dict[str, str]:
    """Of what may have gone wrong, by the key of its entry: the key of its run's."""
    there, run_of = dict[str, str](), dict[str, str]()
    for row in shell.store.journal:
        body = msgspec.msgpack.decode(row.body)
        if body["type"] == "run.created":
            there[body["data"]["run_id"]] = body["data"]["uid"]
        elif body["type"] in ("acquisition.aborted", "acquisition.finished"):
            data = body["data"]
            how = "aborted" if body["type"] == "acquisition.aborted" else "partial"
            run_of[f"{how}-{data['segment']}-{data['uid']}"] = f"run-{there[data['run_id']]}"
    return run_of


@pytest.mark.parametrize("first", range(0, 120, 10))
def test_nothing_is_written_twice_and_nothing_is_forgotten(first: int) -> None:
    for seed in range(first, first + 10):
        dice, logbook = Random(seed), Logbook()
        shell = StepShell(entries=dice.choice(["run", "run", "acquisition", "problems"]))
        for _ in range(80):
            act(shell, dice)
            write(shell, logbook, dice)
        for _ in range(400):
            owed = [each for each in shell.store.everything().values() if isinstance(each, Owed)]
            if not owed and not shell.entries:
                break
            if shell.entries:
                order = shell.entries[0]
                shell.entered(logbook.said(order) or logbook.take(shell, order))
            else:
                shell.wait(30)
        assert not owed, (seed, owed)
        shell.sound()
        wrong = problems(shell)
        assert wrong == {key for key in logbook.numbers if key.startswith(("aborted-", "partial-"))}, seed
        if shell.entries_kind == "run":
            runs = {f"run-{r.uid}": r for r in shell.store.everything().values() if isinstance(r, Run)}
            for key, run in runs.items():
                assert ended(shell, run.node_id) <= logbook.seen[key], seed
            # What went wrong is a reply, but where its run was removed before it had an entry.
            threads = runs_of_problems(shell)
            for key in wrong:
                alone = logbook.replies[key] is None and threads[key] not in runs
                assert alone or logbook.replies[key] == threads[key], seed
