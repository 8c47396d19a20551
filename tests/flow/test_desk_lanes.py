"""Commands of one storage are executed in order; storages do not wait for each other (SPEC 2)."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_service.rules.work import Done, MakeFolder, SyncData
from tests.support.step_shell import (
    ACQ,
    StepShell,
    close,
    config,
    done,
    init,
    new_acq,
    new_run,
    set_acq,
    with_acq,
    with_run,
)


def hanging(shell: StepShell) -> StepShell:
    """From now on, no door answers."""
    shell.door = lambda order: None
    return shell


def two() -> StepShell:
    """Storages s and t, each with a run r of a group of its own."""
    return with_run().must(init("t", brg_name="h", brg_path="h"), config("t"), new_run("t"))


@pytest.mark.parametrize("peer", [b"p", b"q"], ids=["on the same connection", "on another one"])
def test_a_hung_storage_does_not_hold_another_one(peer: bytes) -> None:
    shell = hanging(two())
    hung = shell.send(new_acq())
    shell.run()
    shell.door = lambda order: Done() if isinstance(order, MakeFolder) and order.path[0] == "h" else None
    others = [
        shell.send(c.RegisterProducer(storage_id="t", producer="p"), peer=peer),
        shell.send(new_acq("t"), peer=peer),
        shell.send(set_acq(1, "root/h/r/a", "t"), peer=peer),
        shell.send(c.GetStorage(storage_id="t"), peer=peer),
    ]
    shell.run()
    assert [shell.told(sent, peer) for sent in others] == [["ok"]] * 4
    assert shell.told(hung) == [""]
    shell.release()
    assert shell.told(hung) == ["ok"]


def test_later_commands_of_the_hung_storage_wait_on_the_same_connection() -> None:
    shell = hanging(with_run().must(new_run(run_name="other")))
    hung = shell.send(new_acq())
    later = [
        shell.send(c.SetParamRun(storage_id="s", run_name="other", param="x", value=1)),
        shell.send(c.RegisterProducer(storage_id="s", producer="p")),
        shell.send(c.MarkAsFinished(storage_id="s")),
    ]
    shell.run()
    assert [shell.told(sent) for sent in (hung, *later)] == [[""]] * 4
    shell.release()
    assert [shell.told(sent) for sent in (hung, *later)] == [["ok"]] * 4
    assert shell.store.record(("node", ACQ)).state == "finished"


def test_the_rest_of_the_storage_goes_on_for_other_connections() -> None:
    shell = hanging(with_acq().must(new_run(run_name="other")))
    hung = shell.send(new_acq(acq_name="b"))
    shell.run()
    others = [
        shell.send(set_acq(1), peer=b"q"),
        shell.send(c.SetParamRun(storage_id="s", run_name="other", param="x", value=1), peer=b"q"),
        shell.send(c.MarkAsFinished(storage_id="s", acq_id=ACQ), peer=b"q"),
    ]
    shell.run()
    assert (shell.told(hung), [shell.told(sent, b"q") for sent in others]) == ([""], [["ok"]] * 3)


COLLIDING: list[tuple[str, Command]] = [
    ("the same acquisition", new_acq()),
    ("its parameter", set_acq(1)),
    ("its end", close()),
    ("its run", new_run(mode="remove")),
    ("its run's parameter", c.SetParamRun(storage_id="s", run_name="r", param="x", value=1)),
    ("one inside of it", new_acq(acq_name="a/b")),
    ("the storage", c.RegisterProducer(storage_id="s", producer="p")),
    ("the storage's end", c.DeinitStorage(storage_id="s", force=True)),
    ("the open acquisitions", c.MarkAsFinished(storage_id="s")),
]


@pytest.mark.parametrize("command", [each for _, each in COLLIDING], ids=[name for name, _ in COLLIDING])
def test_what_collides_with_what_is_at_a_door_waits_for_it(command: Command) -> None:
    shell = hanging(with_run())
    hung = shell.send(new_acq())
    shell.run()
    other = shell.send(command, peer=b"q")
    shell.run()
    assert (shell.told(hung), shell.told(other, b"q")) == ([""], [""])
    shell.release()
    assert shell.told(hung) == ["ok"]
    assert shell.told(other, b"q") != [""]
    shell.wait(1.0)
    shell.sound()


def test_what_collides_waits_until_the_outcome_is_durable() -> None:
    shell = hanging(with_run())
    shell.send(new_acq())
    shell.run()
    other = shell.send(set_acq(1), peer=b"q")
    shell.run()
    shell.hold_commits = True
    shell.release()
    assert (shell.told(other, b"q"), len(shell.batch.rows)) == ([""], 1)
    shell.commit().run()
    assert len(shell.batch.rows) == 1
    shell.commit().run()
    assert shell.told(other, b"q") == ["ok"]


def test_a_config_at_its_door_holds_the_whole_storage() -> None:
    shell = hanging(StepShell().must(init()))
    hung = shell.send(config())
    shell.run()
    other = shell.send(c.RegisterProducer(storage_id="s", producer="p"), peer=b"q")
    shell.run()
    assert (shell.told(hung), shell.told(other, b"q")) == ([""], [""])
    shell.release()
    assert (shell.told(hung), shell.told(other, b"q")) == (["ok"], ["ok"])


def test_two_numbered_runs_are_not_numbered_around_each_other() -> None:
    shell = StepShell().must(init(), config())
    shell.door = lambda order: None
    sent = [shell.send(new_run(run_name="r{n}"), peer=peer) for peer in (b"p", b"q", b"o")]
    shell.run()
    while shell.hung:
        shell.release()
    names = [
        shell.replies[peer, ids[0]].result["run_name"] for peer, ids in zip((b"p", b"q", b"o"), sent, strict=True)
    ]
    assert sorted(names) == ["r1", "r2", "r3"]
    shell.sound()


def test_two_widths_of_the_same_number_are_not_numbered_around_each_other() -> None:
    shell = StepShell().must(init(), config())
    shell.door = lambda order: None
    sent = [shell.send(new_run(run_name=name), peer=name.encode()) for name in ("r{n}", "r{n:03}")]
    shell.run()
    while shell.hung:
        shell.release()
    assert [shell.told(ids, name) for ids, name in zip(sent, (b"r{n}", b"r{n:03}"), strict=True)] == [["ok"]] * 2
    assert sorted(key[1] for key in shell.store.everything() if key[0] == "node") == [
        "root/g",
        "root/g/r002",
        "root/g/r1",
    ]
    shell.sound()


@pytest.mark.parametrize("mode", ["append", "remove"])
@pytest.mark.parametrize("names", [("r{n}", "r1"), ("r1", "r{n}")], ids=["the number first", "the name first"])
def test_a_number_at_a_door_is_not_taken_by_a_name_meanwhile(names: tuple[str, str], mode: str) -> None:
    shell = hanging(StepShell().must(init(), config()))
    for name in names:
        shell.send(new_run(run_name=name, mode=mode if "{" in name else "append"), peer=name.encode())
    shell.run()
    while shell.hung:
        shell.release()
    assert "run.removed" not in shell.types()
    shell.sound()


def test_a_numbered_run_never_removes_an_open_acquisition() -> None:
    shell = StepShell().must(init(), config())
    shell.door = lambda order: None if isinstance(order, MakeFolder) and order.fresh else Done()
    numbered = shell.send(new_run(run_name="r{n}", mode="remove"), peer=b"q")
    shell.run()
    shell.must(new_run(run_name="r1"), new_acq(run_name="r1"))
    shell.release()
    assert shell.replies[b"q", numbered[0]].result["run_name"] == "r2"
    assert shell.record(("node", "root/g/r1/a")).state == "open"
    shell.must(c.InvalStorage(storage_id="s", force=True)).sound()


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")], ids=["around first", "inside first"])
def test_acquisitions_that_are_looked_up_at_the_same_time_do_not_come_to_lie_in_each_other(
    names: tuple[str, str],
) -> None:
    shell = with_run()
    shell.hold_look_ups = True
    sent = [shell.send(new_acq(acq_name=name), peer=name.encode()) for name in names]
    shell.run()
    while late := shell.take_look_ups():
        # What was read is told only after the others had all the time that there is.
        shell.hold_look_ups = False
        shell.run()
        shell.hold_look_ups = True
        shell.desk.looked_up(late, shell.now)
        shell.run()
    told = [shell.told(ids, name.encode()) for ids, name in zip(sent, names, strict=True)]
    assert sorted(told) == [["invalid_name"], ["ok"]]


def test_a_run_is_not_removed_with_an_acquisition_that_was_opened_while_it_was_looked_up() -> None:
    shell = with_acq().must(close())
    shell.hold_look_ups = True
    removal = shell.send(new_run(mode="remove"), peer=b"q")
    shell.run()
    late = shell.take_look_ups()
    opening = shell.send(new_acq(acq_name="b"))
    shell.hold_look_ups = False
    shell.run()
    shell.desk.looked_up(late, shell.now)
    shell.run()
    assert shell.told(removal, b"q") + shell.told(opening) in (["ok", "ok"], ["wrong_state", "ok"])
    assert shell.record(("node", "root/g/r/b")).state == "open"
    shell.sound()


def test_what_a_look_up_found_is_no_news_when_it_was_changed_and_forgotten_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", 0)
    shell = with_run()
    shell.door = lambda order: None if isinstance(order, SyncData) else done(order)
    shell.must(new_acq(), close())
    shell.hold_look_ups = True
    shell.send(new_run(mode="remove"), peer=b"q")
    shell.run()
    if shell.record(("node", "root/g/r")) is None:
        shell.tell_look_ups()
        shell.run()
    late = shell.take_look_ups()
    shell.hold_look_ups = False
    shell.release()
    shell.desk.looked_up(late, shell.now)
    shell.run()
    for key, record in shell.desk.state.records.items():
        assert record == shell.store.record(key)


def test_a_command_that_was_refused_while_it_was_looked_up_holds_nobody() -> None:
    shell = with_acq().must(new_acq(acq_name="b"), close())
    shell.hold_look_ups = True
    removal = shell.send((new_run(mode="remove"), "k"))
    shell.run().tell_look_ups()
    shell.run()
    other = shell.send((init("t"), "k"), peer=b"q")
    shell.hold_look_ups = False
    shell.run()
    assert [shell.told(removal), shell.told(other, b"q")] in ([["conflict"], ["ok"]], [["wrong_state"], ["ok"]])
    assert shell.call(set_acq(1, "root/g/r/b"), peer=b"o").ok
    shell.sound()
