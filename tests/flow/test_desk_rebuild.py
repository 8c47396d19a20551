"""A rebuild and the desk: page by page, committed, carried out forward; nobody waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from storage_protocol import commands as c
from storage_service.desk import residents
from storage_service.rules.rebuild_work import FindMarkers, Found, FoundAcq, FoundRun, Proof
from storage_service.rules.state import Acq, Link, Run
from storage_service.rules.trash_work import Listing
from storage_service.rules.work import Done, Failed, MakeFolder, Order, Result
from tests.support.marked import MP, a_run, acq_file, an_acq, run_file
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, StepShell, close, config, init, new_acq, new_run

R = a_run("root/g/r", "r")


class Walk:
    """A door that finds these nodes, `most` of them a page. `hangs`: it does not answer; `away`: it fails."""

    def __init__(self, *nodes: Run | Acq, most: int = 2) -> None:
        self.nodes = nodes
        self.most = most
        self.hangs = self.away = False
        self.orders: list[FindMarkers] = []

    def __call__(self, order: Order) -> Result | None:
        if not isinstance(order, FindMarkers):
            return Done()
        self.orders.append(order)
        if self.away:
            return Failed("unavailable", "The mount point file:/// is away.", {"reason": "away"})
        return None if self.hangs else self.page(order)

    def page(self, order: FindMarkers) -> Found:
        first = int(order.after[0]) if order.after else 0
        nodes, last = self.nodes[first : first + self.most], first + self.most
        runs = tuple(FoundRun(each.path, run_file(each)) for each in nodes if isinstance(each, Run))
        acqs = tuple(found(each) for each in nodes if isinstance(each, Acq))
        return Found(runs, acqs, (), len(nodes), (b"%d" % last,) if last < len(self.nodes) else None)


def found(acq: Acq, **more: Any) -> FoundAcq:
    return FoundAcq(acq.path, acq_file(acq), f"uid-of-{acq.run_name}", **more)


def rebuild(path: str = "") -> c.RebuildRundb:
    return c.RebuildRundb(path=path)


def lost(*nodes: Run | Acq, **more: Any) -> tuple[StepShell, Walk]:
    """A service that knows nothing of these, and the door that finds them."""
    shell, walk = StepShell(), Walk(*(nodes or (R, *(an_acq(R, f"a{n}") for n in range(4)))), **more)
    shell.door = walk
    return shell, walk


def test_what_comes_back_is_told_and_the_tables_say_what_the_journal_does() -> None:
    shell, walk = lost()
    done = shell.call(rebuild()).result
    assert (done["groups"], done["runs"], done["acqs"], done["known"], done["folders"]) == (1, 1, 4, 0, 5)
    assert shell.types() == ["group.created", "run.restored", *["acquisition.restored"] * 4]
    assert [order.after for order in walk.orders] == [None, (b"2",), (b"4",)]
    shell.sound()
    shell.restart().sound()
    shell.door = walk
    again = shell.call(rebuild()).result
    assert (again["groups"], again["runs"], again["acqs"], again["known"]) == (0, 0, 0, 5)
    assert len(shell.seqs()) == 6


def test_each_page_is_durable_with_the_place_of_the_next_before_that_is_asked_for() -> None:
    shell, walk = lost()
    shell.hold_commits = True
    (id,) = shell.send((rebuild(), "k"))
    for pages in range(4):
        while shell.batch is None:
            shell.turn()
        assert len(walk.orders) == pages
        assert shell.told([id]) == [""]
        shell.commit()
        if pages < 3:
            (stored,) = shell.store.intents.values()
            assert stored.intent.order.after == (None if pages == 0 else (b"%d" % (2 * pages),))
    shell.hold_commits = False
    shell.run()
    assert shell.told([id]) == ["ok"]
    assert shell.store.intents == {}


@pytest.mark.parametrize("page", range(3))
def test_after_a_restart_it_goes_on_with_its_page_and_its_key_joins_it(page: int) -> None:
    shell, walk = lost()
    walk.hangs = True
    shell.send((rebuild(), "k"))
    shell.run()
    for _ in range(page):
        (work_id, order), shell.hung = shell.hung[0], []
        shell.desk.outcome(work_id, walk.page(order), shell.now)
        shell.run()
    shell.start()
    shell.door = walk
    walk.hangs = False
    (id,) = shell.send((rebuild(), "k"))
    shell.run()
    assert shell.told([id]) == ["ok"]
    assert walk.orders[page].after == walk.orders[page + 1].after
    assert shell.types().count("run.restored") == (0 if page else 1)  # of this life
    shell.sound()
    assert shell.call(rebuild(), "k").result["acqs"] == 4


@pytest.mark.parametrize("turn", range(4))
def test_a_batch_that_is_lost_at_any_step_leaves_a_rebuild_that_can_be_asked_again(turn: int) -> None:
    shell, _ = lost()
    shell.hold_commits = True
    (id,) = shell.send((rebuild(), "k"))
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
    done = shell.call(rebuild(), "k").result
    assert done["acqs"] + done["known"] >= 4
    assert shell.types().count("acquisition.restored") == 4
    assert shell.types().count("run.restored") == 1
    shell.sound()


# Others


def test_while_it_is_under_way_another_one_is_refused_and_everybody_else_goes_on() -> None:
    shell, walk = lost()
    walk.hangs = True
    (first,) = shell.send((rebuild(), "k"))
    shell.run()
    refused = shell.call(rebuild("r"), peer=b"q").error
    assert (refused.code, refused.details["reason"]) == ("unavailable", "busy")
    repeat = shell.send((rebuild(), "k"), peer=b"q")
    for command in (init(), config(), new_run(run_name="other"), new_acq(run_name="other")):
        assert shell.call(command, peer=b"w").ok
    assert shell.told([first]) == [""]
    walk.hangs = False
    (work_id, order), shell.hung = shell.hung[0], []
    shell.desk.outcome(work_id, walk.page(order), shell.now)
    shell.run()
    assert (shell.told([first]), shell.told(repeat, b"q")) == (["ok"], ["ok"])
    assert shell.call(rebuild()).result["known"] == 5
    shell.sound()


def test_what_is_being_opened_is_left_to_who_opens_it() -> None:
    shell, walk = lost()
    shell.must(init(), config(), new_run())
    made: list[MakeFolder] = []

    def door(order: Order) -> Result | None:
        if isinstance(order, MakeFolder):
            made.append(order)
            return None
        return walk(order)

    shell.door = door
    opening = shell.send(new_acq(), peer=b"q")
    shell.run()
    run = shell.record(("node", "root/g/r"))
    # Its marker file is there already, and says that it is open.
    acq = an_acq(run, "a", uid=made[0].uid, state="open", sealed=False, verdict=None, finished_at=None)
    walk.nodes = (run, acq)
    page = replace(walk.page(FindMarkers(MP)), acqs=(replace(found(acq), run_uid=run.uid),))
    shell.door = lambda order: page if isinstance(order, FindMarkers) else None
    done = shell.call(rebuild()).result
    assert (done["acqs"], done["known"], done["skipped_count"]) == (0, 1, 1)
    assert "under way" in done["skipped"][0]["reason"]
    shell.release()
    assert shell.told(opening, b"q") == ["ok"]
    assert shell.record(("node", "root/g/r/a")).state == "open"
    shell.sound()


def test_what_comes_into_being_between_reading_and_deciding_is_known_or_another_one() -> None:
    shell, walk = lost()
    walk.hangs = True
    walk.most = 10
    (id,) = shell.send(rebuild())
    shell.run()
    shell.must(init(), config(), new_run(), new_acq(acq_name="a0"))
    walk.hangs = False
    (work_id, order), shell.hung = shell.hung[0], []
    shell.desk.outcome(work_id, walk.page(order), shell.now)
    shell.run()
    done = shell.replies[b"p", id].result
    assert (done["runs"], done["acqs"], done["skipped_count"]) == (0, 0, 5)
    assert shell.record(("node", "root/g/r/a0")).state == "open"
    shell.sound()


def test_work_goes_on_in_what_came_back() -> None:
    shell, _ = lost()
    shell.must(rebuild(), init(), config(), new_run(), new_acq(acq_name="a0"), close("root/g/r/a0"))
    assert shell.record(("node", "root/g/r/a0")).segment == 2
    shell.sound()


def test_a_mount_point_that_fails_refuses_it_and_the_next_try_begins_anew() -> None:
    shell, walk = lost()
    walk.away = True
    assert shell.call(rebuild(), "k").error.code == "unavailable"
    assert shell.store.intents == {}
    walk.away = False
    assert shell.call(rebuild(), "k").result["acqs"] == 4
    shell.sound()


def test_how_far_it_is_can_be_seen_as_long_as_it_lasts() -> None:
    shell, walk = lost()
    walk.hangs = True
    shell.send(rebuild())
    shell.run()
    seen = []
    while shell.hung:
        seen.append(shell.desk.counts()["rebuild_folders"])
        (work_id, order), shell.hung = shell.hung[0], []
        shell.desk.outcome(work_id, walk.page(order), shell.now)
        shell.run()
    assert seen == [0, 2, 4]
    assert shell.desk.counts()["rebuild_folders"] == 0


def test_memory_stays_bounded_however_much_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residents, "MAX_RESIDENT", 500)
    runs = [a_run(f"root/g/r{n}", f"r{n}") for n in range(6)]
    nodes: list[Run | Acq] = []
    for run in runs:
        nodes += [run, *(an_acq(run, f"a{n}") for n in range(400))]
    shell = StepShell(store=SqliteStore(tmp_path, PLACES))
    shell.door = Walk(*nodes, most=128)
    done = shell.call(rebuild()).result
    assert (done["runs"], done["acqs"]) == (6, 2400)
    assert len(shell.desk.state.records) <= 500 + 4 * 128
    assert shell.desk.state.nested == {}
    shell.store.close()


# In SQLite: what is searched


def test_digests_of_manifests_are_searched_again_and_a_chain_goes_on(tmp_path: Path) -> None:
    acqs = [an_acq(R, f"a{n}") for n in range(3)]
    names = ("manifest-1.json", "manifest-1-conversion-1.json")

    def proven(acq: Acq, number: int) -> FoundAcq:
        links = [Link(acq.node_id, acq.uid, 1, MP, acq.path, name, f"{name} of {acq.name}") for name in names]
        time = f"2026-01-0{number + 1}T00:00:00.000000Z"
        proofs = tuple(Proof("s", time, link) for link in links)
        return found(acq, listing=Listing(acq.uid, 1, "blake3", names), proofs=proofs if number else proofs[:1])

    page = Found(
        (FoundRun(R.path, run_file(R)),), tuple(proven(acq, n) for n, acq in enumerate(acqs)), (), 4, None
    )
    shell = StepShell(store=SqliteStore(tmp_path, PLACES), manifest_kind="blake3")
    shell.door = lambda order: page if isinstance(order, FindMarkers) else Done()
    shell.must(rebuild())
    for value, ids in (
        ("manifest-1.json of a1", ["root/g/r/a1"]),
        ("manifest-1-conversion-1.json of a2", ["root/g/r/a2"]),
        ("manifest-1-conversion-1.json of a0", []),
    ):
        name = "manifest.conversion_blake3" if "conversion" in value else "manifest.blake3"
        nodes = shell.call(c.FindNodes(where={name: value})).result["nodes"]
        assert [node["id"] for node in nodes] == ids
    shell.must(init(), config(), new_run(), new_acq(acq_name="a0"), close("root/g/r/a0"))
    (order,) = shell.manifests
    assert order.previous is not None
    assert (order.previous.acq_id, order.previous.blake3) == ("root/g/r/a2", "manifest-1.json of a2")
    shell.store.close()
