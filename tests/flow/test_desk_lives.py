"""Random lives of the desk: whatever happens, the tables are the folded journal and everybody has one reply."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_service.rules.conversions import Policy
from storage_service.rules.work import Done, Failed, MakeFolder, Order, Result, Taken
from tests.support.step_shell import StepShell, init

AWAY = Failed("unavailable", "The mount point is not there.", {"reason": "mount"})
ANOTHERS = Failed("already_exists", "The folder is another's.", {"what": "run", "id": "x"})
Step = tuple[Any, ...]

storages = st.sampled_from(["s", "s", "s", "t"])
runs = st.sampled_from(["r", "r", "r{n}", "r1"])
acqs = st.sampled_from(["a", "a", "b"])
acq_ids = st.sampled_from(["root/g/r/a", "root/g/r/a", "root/g/r/b", "root/g/r1/a"])
modes = st.sampled_from(["append", "append", "remove"])
params = st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), max_size=2)
producers = st.sampled_from([None, "p", "q"])
flags = st.booleans()

mutating: st.SearchStrategy[Command] = st.one_of(
    st.builds(c.ConfigStorage, storage_id=storages),
    st.builds(c.InvalStorage, storage_id=storages, force=flags),
    st.builds(c.DeinitStorage, storage_id=storages, force=flags),
    st.builds(c.InitStorage, storage_id=storages, brg_name=st.just("g"), use_rundb=flags),
    st.builds(c.RegisterProducer, storage_id=storages, producer=producers),
    st.builds(c.UnregisterProducer, storage_id=storages, producer=st.just("p")),
    st.builds(c.NewRun, storage_id=storages, run_name=runs, mode=modes, params=params),
    st.builds(c.NewRun, storage_id=storages, run_name=st.just("r")),
    st.builds(c.SetParamRun, storage_id=storages, run_name=st.just("r"), param=st.just("x"), value=st.integers(0, 3)),
    *[
        st.builds(
            c.NewAcq,
            storage_id=storages,
            run_name=st.sampled_from(["r", "r", "r1"]),
            acq_name=acqs,
            mode=modes,
            convert_script=st.sampled_from([None, "convert"]),
            params=params,
        )
    ]
    * 3,
    st.builds(c.SetParamAcq, storage_id=storages, acq_id=acq_ids, param=st.just("x"), value=st.integers(0, 3)),
    *[st.builds(c.MarkAsFinished, storage_id=storages, acq_id=acq_ids, producer=producers, ok=flags)] * 2,
    st.builds(c.CloseAcq, storage_id=storages, acq_id=acq_ids),
    st.builds(c.AbortAcq, storage_id=storages, acq_id=acq_ids),
    st.builds(c.NewGroup, name=st.just("h")),
)
queries: st.SearchStrategy[Command] = st.one_of(
    st.builds(c.GetStorage, storage_id=storages), st.builds(c.GetAcq, acq_id=acq_ids), st.builds(c.ListStorages)
)
asked = st.one_of(*[mutating] * 4, queries)
peers = st.sampled_from([b"p", b"q"])
steps: st.SearchStrategy[Step] = st.one_of(
    *[st.tuples(st.just("send"), peers, st.lists(asked, min_size=1, max_size=3))] * 6,
    st.tuples(st.just("again"), peers, st.integers(0, 99)),
    *[st.tuples(st.just("turn"))] * 5,
    *[st.tuples(st.just("commit"))] * 5,
    st.tuples(st.just("roll back")),
    st.tuples(st.just("door"), st.sampled_from(["done", "done", "hangs", "away", "another's", "taken"])),
    st.tuples(st.just("released"), st.sampled_from([Done(), Done(), AWAY])),
    st.tuples(st.just("end"), st.sampled_from([("exited", 0), ("exited", 1), ("timed_out", -9), ("interrupted", None)])),
    st.tuples(st.just("on conversion"), st.sampled_from([c.CancelConversion, c.RetryConversion]), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 6.0, 70.0])),
    st.tuples(st.just("kill")),
)


def door(how: str) -> Any:
    def opened(order: Order) -> Result | None:
        if how == "hangs":
            return None
        if how == "taken" and isinstance(order, MakeFolder) and order.fresh:
            return Taken()
        if how == "another's" and isinstance(order, MakeFolder):
            return ANOTHERS
        return AWAY if how == "away" else Done()

    return opened


class Life:
    """What clients sent with which key, and who waits for a reply."""

    def __init__(self) -> None:
        self.shell = StepShell(policy=Policy(max_attempts=2, backoff_s=1.0, max_interruptions=3))
        self.keyed: list[tuple[Command, str]] = []
        self.waiting: list[tuple[bytes, int]] = []

    def send(self, peer: bytes, *asked: Command | tuple[Command, str]) -> None:
        self.waiting += [(peer, id) for id in self.shell.send(*asked, peer=peer)]

    def step(self, step: Step) -> None:
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
            case ("on conversion", make, number):
                ids = [id for table, id in shell.store.records if table == "conversion"]
                if ids:
                    self.send(b"p", make(conversion_id=ids[number % len(ids)]))
            case ("wait", seconds):
                shell.wait(seconds)
            case ("kill",):
                shell.start().hold_commits = True
                self.waiting.clear()

    def settle(self) -> StepShell:
        """The world is well again: everything comes to its end."""
        shell = self.shell
        shell.hold_commits = False
        if shell.batch is not None:
            shell.commit()
        shell.release()
        for _ in range(40):
            for id in list(shell.scripts):
                shell.end(id)
            shell.wait(70.0)
        return shell


lives = st.lists(steps, min_size=4, max_size=50)


@settings(max_examples=3000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(lives)
def test_a_life_is_its_journal(life: list[Step]) -> None:
    lived = Life()
    lived.shell.must(init(), c.ConfigStorage(storage_id="s"), c.NewRun(storage_id="s", run_name="r"))
    lived.shell.must(c.NewAcq(storage_id="s", run_name="r", acq_name="a", convert_script="convert"))
    lived.shell.hold_commits = True
    for step in life:
        lived.step(step)
    shell = lived.settle()
    shell.sound()
    assert [waiting for waiting in lived.waiting if waiting not in shell.replies] == []
    assert (shell.store.intents, shell.desk.is_quiet()) == ({}, True)
    for key, record in shell.desk.state.records.items():
        assert record == shell.store.record(key)
    for (table, _), record in shell.store.records.items():
        if table == "conversion":
            assert not record.active
        if table == "node" and hasattr(record, "sealed"):
            assert record.sealed == (record.state != "open")
    shell.restart()
    assert shell.types() == []
