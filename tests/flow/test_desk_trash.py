"""The trash and the desk: looked into, decided on, committed, carried out; nothing of it meets another command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from storage_protocol import commands as c
from storage_protocol.records import TrashEntry
from storage_service.desk.desk import EXPIRED
from storage_service.rules import render
from storage_service.rules.state import Places
from storage_service.rules.trash_work import GiveUp, LookIntoTrash, RestoreFolder, Seen
from storage_service.rules.work import Done, Failed, Order, Result
from tests.support.step_shell import ACQ, PLACES, StepShell, close, new_acq, new_run, set_acq, with_acq

RUN = "root/g/r"
AWAY = Failed("unavailable", "The mount point file:/// is away.", {"reason": "away"})


def entry(uid: str, id: str = RUN, kind: str = "run", path: str = "r") -> TrashEntry:
    return TrashEntry("file:///", uid, id, kind, path, "s", "2026-01-01T00:00:00.000000Z", 10, 1)


class Trash:
    """A door whose trash holds what a test put there; `answers` are what orders of a kind come to instead."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.answers: dict[type, Result | None] = {}
        self.orders: list[Order] = []

    def __call__(self, order: Order) -> Result | None:
        self.orders.append(order)
        if type(order) in self.answers:
            return self.answers[type(order)]
        if isinstance(order, LookIntoTrash):
            found = [each for uid, each in self.seen.items() if order.name in (None, uid)]
            if order.contents:
                return found[0] if found else Seen(())
            return Seen(tuple(one for each in found for one in each.entries))
        return Done()

    def of(self, kind: type) -> list[Any]:
        return [order for order in self.orders if isinstance(order, kind)]


@pytest.fixture
def trash() -> Trash:
    return Trash()


@pytest.fixture
def shell(trash: Trash) -> StepShell:
    """A run r with a finished, sealed acquisition, that was removed: the old r is set aside."""
    shell = with_acq().must(set_acq(7), close())
    run, acq = shell.record(("node", RUN)), shell.record(("node", ACQ))
    marker = render.marker(render.run(run, PLACES))
    trash.seen[run.uid] = Seen(
        (entry(run.uid),), marker=marker, markers=(render.marker(render.acquisition(acq, PLACES)),)
    )
    shell.must(new_run(mode="remove"))
    shell.door = trash
    return shell


def old(trash: Trash) -> str:
    return next(iter(trash.seen))


def restore(trash: Trash, **more: Any) -> c.RestoreTrash:
    return c.RestoreTrash(uid=old(trash), **{"replace": True, **more})


def test_a_run_comes_back_with_its_acquisitions_and_the_tables_say_what_the_journal_does(
    shell: StepShell, trash: Trash
) -> None:
    done = shell.call(restore(trash))
    assert (done.result["rundb"], done.result["acqs"]) == (True, 1)
    acq = shell.record(("node", ACQ))
    assert (acq.state, acq.sealed, acq.params) == ("finished", True, {"x": 7})
    assert shell.record(("node", RUN)).uid == old(trash)
    shell.sound()
    shell.restart().sound()
    assert shell.call(new_acq()).result["segment"] == 2


def test_the_second_decision_and_the_reply_are_in_one_transaction(shell: StepShell, trash: Trash) -> None:
    shell.hold_commits = True
    (id,) = shell.send((restore(trash), "k"))
    for _ in range(2):  # what is meant, then what was found
        while shell.batch is None:
            shell.turn()
        assert trash.of(RestoreFolder) == []
        shell.commit()
        shell.run()
    while shell.batch is None:
        shell.turn()
    assert shell.told([id]) == [""]
    assert len(trash.of(RestoreFolder)) == 1
    shell.commit()
    shell.hold_commits = False
    shell.run()
    assert shell.told([id]) == ["ok"]
    assert shell.call(restore(trash), "k").result["uid"] == old(trash)
    assert len(trash.of(RestoreFolder)) == 1


@pytest.mark.parametrize("kind", [LookIntoTrash, RestoreFolder])
def test_after_a_restart_a_restore_goes_on_and_its_key_joins_it(
    shell: StepShell, trash: Trash, kind: type
) -> None:
    trash.answers[kind] = None
    shell.send((restore(trash), "k"))
    shell.run()
    shell.start()
    shell.door = trash
    trash.answers.clear()
    (id,) = shell.send((restore(trash), "k"))
    shell.run()
    assert shell.told([id]) == ["ok"]
    assert shell.types().count("trash.restored") == 1
    shell.sound()


def test_what_is_at_work_in_the_place_keeps_a_restore_away_and_is_not_kept(shell: StepShell, trash: Trash) -> None:
    shell.door = lambda order: None  # the new acquisition's folder is being made
    opened = shell.send(new_acq(), peer=b"q")
    shell.run()
    shell.door = trash
    assert shell.call(restore(trash)).error.code == "unavailable"
    assert trash.of(RestoreFolder) == []
    shell.release()
    assert shell.told(opened, b"q") == ["ok"]


def test_while_a_run_is_being_restored_nothing_is_made_in_it(shell: StepShell, trash: Trash) -> None:
    trash.answers[RestoreFolder] = None
    (restoring,) = shell.send(restore(trash))
    shell.run()
    made = shell.send(new_acq(acq_name="b"), peer=b"q")
    shell.run()
    assert shell.told(made, b"q") == [""]
    shell.release()
    assert shell.told([restoring]) == ["ok"]
    assert shell.told(made, b"q") == ["ok"]
    assert shell.types()[-2:] == ["trash.restored", "acquisition.started"]


REFUSED: dict[str, tuple[Callable[[StepShell], Any], bool, str]] = {
    "it stands there": (lambda shell: None, False, "already_exists"),
    "open": (lambda shell: shell.must(new_acq()), True, "wrong_state"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_stands_in_the_place_stays_unless_it_may_be_replaced(
    shell: StepShell, trash: Trash, why: str
) -> None:
    prepare, replace, code = REFUSED[why]
    prepare(shell)
    before = shell.types()
    assert shell.call(restore(trash, replace=replace)).error.code == code
    assert shell.types() == before
    assert trash.of(RestoreFolder) == []


def test_markers_that_do_not_agree_with_themselves_bring_nothing_back(shell: StepShell, trash: Trash) -> None:
    for wrong in ({"run_id": "root/other/r2"}, {"location": {"mp": "file:///", "path": "../r"}}, {"uid": 7}):
        (found,) = trash.seen.values()
        text = json.dumps({**json.loads(found.marker), **wrong}).encode()
        trash.seen = {old(trash): Seen(found.entries, marker=text)}
        refused = shell.call(restore(trash)).error
        assert (refused.code, refused.details["what"]) == ("not_found", "place")
        trash.seen = {old(trash): found}


def test_a_run_whose_group_has_another_place_comes_back_as_files_only(shell: StepShell, trash: Trash) -> None:
    (found,) = trash.seen.values()
    said = json.loads(found.marker)
    said["location"]["path"] = "elsewhere/r"
    trash.seen = {old(trash): Seen(found.entries, marker=json.dumps(said).encode(), markers=found.markers)}
    done = shell.call(restore(trash))
    assert (done.result["rundb"], done.result["acqs"]) == (False, 0)
    (order,) = trash.of(RestoreFolder)
    assert order.path == ("elsewhere", "r")
    shell.sound()


def test_what_is_given_up_is_committed_by_name_before_the_door_hears_of_it(shell: StepShell, trash: Trash) -> None:
    trash.answers[GiveUp] = None
    (id,) = shell.send((c.EmptyTrash(), "k"))
    shell.run()
    (stored,) = shell.store.intents.values()
    assert [each.uid for each in stored.intent.entries] == [old(trash)]
    assert shell.told([id]) == [""]
    shell.release()
    assert shell.told([id]) == ["ok"]
    assert shell.events[-1].type == "trash.emptied"
    assert (shell.events[-1].data["why"], shell.events[-1].data["uid"]) == ("asked", old(trash))
    shell.sound()


def test_one_that_fails_is_told_so_and_is_carried_out_all_the_same(shell: StepShell, trash: Trash) -> None:
    trash.answers[GiveUp] = AWAY
    assert shell.call(c.EmptyTrash()).error.code == "unavailable"
    assert "trash.emptied" not in shell.types()
    assert shell.call(restore(trash)).error.code == "unavailable"  # what is going for good is not brought back
    trash.answers.clear()
    shell.wait(120)
    assert shell.types().count("trash.emptied") == 1
    shell.sound()


def test_what_has_expired_is_given_up_and_told_but_not_while_the_trash_is_in_use(
    shell: StepShell, trash: Trash
) -> None:
    trash.answers[RestoreFolder] = None
    shell.send(restore(trash))
    shell.run()
    shell.desk.outcome(EXPIRED, (entry("u9"),), shell.now)
    shell.run()
    assert trash.of(GiveUp) == []
    shell.release()
    shell.door = trash
    shell.desk.outcome(EXPIRED, (entry("u9"),), shell.now)
    shell.run()
    assert trash.of(GiveUp) == [GiveUp("file:///", ("u9",))]
    assert shell.events[-1].type == "trash.emptied"
    assert (shell.events[-1].data["why"], shell.events[-1].subject) == ("expired", RUN)
    shell.sound()


@pytest.mark.parametrize("turn", range(3))
def test_a_batch_that_is_lost_at_any_step_leaves_a_restore_that_can_be_asked_again(
    shell: StepShell, trash: Trash, turn: int
) -> None:
    shell.hold_commits = True
    (id,) = shell.send((restore(trash), "k"))
    for _ in range(turn):
        while shell.batch is None:
            shell.turn()
        shell.commit()
    while shell.batch is None:
        shell.turn()
    shell.roll_back()
    shell.hold_commits = False
    shell.run()
    assert shell.told([id]) == ["unavailable"]
    assert shell.call(restore(trash), "k").ok
    assert shell.types().count("trash.restored") == 1
    shell.sound()


def test_a_storage_s_topic_is_only_what_may_be_a_storage_s_id(shell: StepShell) -> None:
    strange = TrashEntry("file:///", "u9", None, None, None, "../x", "2026-01-01T00:00:00.000000Z")
    shell.desk.outcome(EXPIRED, (strange,), shell.now)
    shell.run()
    assert (shell.events[-1].storage_id, shell.events[-1].subject) == (None, "u9")


def test_of_several_mount_points_one_is_emptied_at_a_time_and_one_that_is_away_is_named(trash: Trash) -> None:
    shell = StepShell()
    shell.desk.state.places = Places({"one:///": "/1", "two:///": "/2", "away:///": "/3"})

    def door(order: Order) -> Result:
        trash.orders.append(order)
        if not isinstance(order, LookIntoTrash):
            return Done()
        if order.mp == "away:///":
            return AWAY
        gone = {name for given_up in trash.of(GiveUp) if given_up.mp == order.mp for name in given_up.names}
        found = tuple(replace(entry(uid), mp=order.mp) for uid in ("u1", "u2") if uid not in gone)
        return Seen(tuple(each for each in found if order.name in (None, each.uid)))

    shell.door = door
    for more in (True, False):
        done = shell.call(c.EmptyTrash()).result
        assert (done["entries"], done["bytes"], done["more"]) == (2, 20, more)
        assert done["unreachable"] == ["away:///"]
    assert trash.of(GiveUp) == [GiveUp("one:///", ("u1", "u2")), GiveUp("two:///", ("u1", "u2"))]
    assert shell.call(c.EmptyTrash()).result["entries"] == 0
    assert shell.call(c.EmptyTrash(mp="away:///")).error.code == "unavailable"
    assert shell.call(c.EmptyTrash(uid="u1")).error.code == "unavailable"  # it may be in the one that is away


def test_what_two_mount_points_have_is_restored_from_the_one_that_is_named(trash: Trash) -> None:
    shell = StepShell()
    shell.desk.state.places = Places({"one:///": "/1", "two:///": "/2"})
    shell.door = lambda order: (
        Seen((replace(entry("u1"), mp=order.mp),)) if isinstance(order, LookIntoTrash) else Done()
    )
    refused = shell.call(c.RestoreTrash(uid="u1")).error
    assert (refused.code, refused.details["field"]) == ("bad_request", "mp")
    assert shell.call(c.RestoreTrash(uid="u1", mp="two:///")).error.details["what"] == "place"
    assert shell.call(c.RestoreTrash(uid="u1", mp="three:///")).error.details["what"] == "mount"


def test_a_mount_point_that_fails_in_the_middle_keeps_nobody_from_the_others(trash: Trash) -> None:
    shell = StepShell()
    shell.desk.state.places = Places({"one:///": "/1", "two:///": "/2"})

    def door(order: Order) -> Result:
        if isinstance(order, LookIntoTrash):
            return Seen((replace(entry("u1"), mp=order.mp),))
        return AWAY if order.mp == "one:///" else Done()

    shell.door = door
    assert shell.call(c.EmptyTrash(mp="one:///")).error.code == "unavailable"
    assert shell.call(c.EmptyTrash(mp="one:///")).error.code == "unavailable"
    assert shell.call(c.EmptyTrash(mp="two:///")).result["entries"] == 1
