"""What comes back of a page of marker files, and why the rest of it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from storage_protocol.commands import AnnotateNode, NewGroup, NewRun, RebuildRundb
from storage_protocol.records import CountedMark, Location, Skipped
from storage_service.rules.decision import RebuildIntent
from storage_service.rules.rebuild import LOST, MOST_SKIPS
from storage_service.rules.rebuild_work import FindMarkers, Found, FoundAcq, FoundRun, Proof
from storage_service.rules.state import Acq, Chain, Group, GroupPlace, Link, Run
from storage_service.rules.trash_work import Listing
from storage_service.rules.work import Done, Failed
from tests.support.marked import EARLY, LATE, MP, a_run, acq_file, an_acq, run_file
from tests.support.world import Outcome, World

R = a_run()
A = an_acq(R)


def of_run(run: Run, **more: Any) -> FoundRun:
    return FoundRun(run.path, replace(run_file(run), **more))


def of_acq(acq: Acq, run_uid: str = "uid-of-r", found: dict[str, Any] | None = None, **more: Any) -> FoundAcq:
    return FoundAcq(acq.path, replace(acq_file(acq), **more), run_uid, **(found or {}))


def page(*found: FoundRun | FoundAcq, **more: Any) -> Found:
    runs = tuple(each for each in found if isinstance(each, FoundRun))
    acqs = tuple(each for each in found if isinstance(each, FoundAcq))
    return Found(runs, acqs, **{"skipped": (), "folders": 1, "after": None, **more})


def rebuilt(world: World, *pages: Found | Failed) -> Outcome:
    return world.do(RebuildRundb(), *pages)


def counts(outcome: Outcome) -> tuple[int, int, int, int, int]:
    told = outcome.reply
    return told["groups"], told["runs"], told["acqs"], told["known"], told["skipped_count"]


def reason(outcome: Outcome) -> str:
    (skipped,) = outcome.reply["skipped"]
    return str(skipped["reason"])


def test_what_is_not_known_comes_back_with_the_groups_above_it() -> None:
    world = World()
    run = a_run("root/x/y/r", "p/q/r", params={"v": 1})
    outcome = rebuilt(world, page(of_run(run), of_acq(an_acq(run))))
    assert counts(outcome) == (2, 1, 1, 0, 0)
    assert outcome.types == ["group.created", "group.created", "run.restored", "acquisition.restored"]
    assert world.a_run("root/x/y/r") == replace(run, params_bytes=9)
    assert world.acquisition("root/x/y/r/a") == replace(an_acq(run), conversion_segment=1)
    above, base = (world.state.node(id) for id in ("root/x", "root/x/y"))
    assert isinstance(above, Group)
    assert isinstance(base, Group)
    assert [(each.path, each.visible, each.created_at) for each in (above, base)] == [
        ("", True, EARLY),
        ("p/q", True, EARLY),
    ]
    assert above.uid != base.uid


def test_what_is_known_stays_and_nothing_is_told() -> None:
    world = World()
    found = page(of_run(R), of_acq(A))
    rebuilt(world, found)
    before = world.records()
    changed = page(of_run(R, params={"new": 1}), of_acq(A, reason="new"))
    for each in (found, changed):
        outcome = rebuilt(world, each)
        assert (counts(outcome), outcome.types) == ((0, 0, 0, 2, 0), [])
    assert world.records() == before


def test_pages_follow_each_other_and_each_is_true_before_the_next() -> None:
    world = World()
    pages = [page(of_run(R), after=(b"p", b"r"), folders=3), page(of_acq(A), folders=4)]
    outcome = rebuilt(world, *pages)
    first, second = outcome.intents
    assert isinstance(first, RebuildIntent)
    assert (first.order, second.order) == (FindMarkers(MP), FindMarkers(MP, after=(b"p", b"r")))
    assert (second.groups, second.runs, second.folders) == (1, 1, 3)
    assert (counts(outcome), outcome.reply["folders"]) == ((1, 1, 1, 0, 0), 7)


def test_a_page_that_cannot_be_read_ends_it_and_what_came_back_stays() -> None:
    world = World()
    away = Failed("unavailable", "away.", {"reason": "away"})
    outcome = rebuilt(world, page(of_run(R), after=(b"p",)), away)
    assert outcome.code == "unavailable"
    assert world.a_run() == R
    assert rebuilt(world, page(of_run(R), of_acq(A))).reply["known"] == 1


def test_what_is_older_comes_back_first() -> None:
    late = a_run("root/g/a", "p/a", created_at=LATE)
    acqs = [an_acq(R, name, started_at=time, created_at=time) for name, time in (("a", LATE), ("b", EARLY))]
    outcome = rebuilt(World(), page(of_run(late), of_run(R), *map(of_acq, acqs)))
    assert [event.subject for event in outcome.events] == [
        "root/g",
        "root/g/r",
        "root/g/a",
        "root/g/r/b",
        "root/g/r/a",
    ]


def test_what_was_open_is_aborted_and_says_why() -> None:
    world = World()
    acq = an_acq(
        R, state="open", sealed=False, finished_at=None, verdict=None, required=("ecal",), expected=2, segment=3
    )
    rebuilt(world, page(of_run(R), of_acq(acq)))
    back = world.acquisition()
    assert (back.state, back.sealed, back.verdict, back.reason, back.segment) == ("aborted", True, None, LOST, 3)
    assert back.finished_at == world.moment().time
    assert (back.required, back.expected) == (("ecal",), 2)


def test_a_segment_remembers_when_the_first_one_was_opened() -> None:
    world = World()
    rebuilt(world, page(of_run(R), of_acq(an_acq(R, created_at=EARLY, segment=2))))
    back = world.acquisition()
    assert (back.created_at, back.started_at) == (EARLY, LATE)


def test_a_numbered_run_brings_its_counter_back() -> None:
    world = World()
    runs = [a_run(f"root/g/r{n:03}", f"p/r{n:03}", numbered="r{n:03}") for n in (7, 3)]
    rebuilt(world, page(*map(of_run, runs)))
    world.init(brg_path="p").config()
    assert world.do(NewRun(storage_id="s", run_name="r{n:03}")).reply.run_name == "r008"


# Hidden storages


def test_what_was_not_in_the_rundb_does_not_get_into_it() -> None:
    world = World()
    run = a_run("root/x/y/r", "p/r", visible=False)
    outcome = rebuilt(world, page(of_run(run), of_acq(an_acq(run))))
    assert counts(outcome) == (1, 1, 1, 0, 0)
    assert not world.a_run("root/x/y/r").visible
    assert not world.acquisition("root/x/y/r/a").visible
    (group,) = [each for each in world.records().values() if isinstance(each, Group)]
    assert (group.node_id, group.visible) == ("root/x/y", False)


def test_a_group_of_hidden_runs_is_shown_by_the_first_one_that_is_not() -> None:
    world = World()
    rebuilt(world, page(of_run(a_run("root/g/a", "p/a", visible=False)), of_run(R)))
    group = world.state.node("root/g")
    assert isinstance(group, Group)
    assert group.visible
    assert [event.fact.TYPE for event in world.told].count("group.created") == 2


# Groups


def test_a_group_whose_place_was_guessed_gets_its_own_as_soon_as_that_is_told() -> None:
    world = World()
    deep, shallow = a_run("root/g/sub/r", "p/sub/r"), a_run("root/g/z", "elsewhere/z")
    outcome = rebuilt(world, page(of_run(deep), after=(b"p",)), page(of_run(shallow)))
    assert counts(outcome) == (2, 2, 0, 0, 0)
    group = world.state.node("root/g")
    assert isinstance(group, Group)
    assert group.path == "elsewhere"
    third = a_run("root/g/y", "third/y")
    assert "lies in 'elsewhere'" in reason(rebuilt(world, page(of_run(third))))


X = GroupPlace("root/g", "uid-of-g", "file:///other", "else/where", "2025-01-01T00:00:00.000000Z")
BASE = GroupPlace("root/g/sub", "uid-of-sub", MP, "p/sub", EARLY)


def test_groups_come_back_as_a_run_remembers_them() -> None:
    world = World()
    told, untold = a_run("root/g/sub/r", "p/sub/r", groups=(X, BASE)), a_run("root/g/sub/q", "p/sub/q")
    rebuilt(world, page(of_run(told), of_run(untold)))
    for place in (X, BASE):
        group = world.state.node(place.id)
        assert isinstance(group, Group)
        assert GroupPlace(group.node_id, group.uid, group.mp, group.path, group.created_at) == place
    assert world.a_run("root/g/sub/r").groups == (X, BASE)


def test_a_group_that_was_guessed_becomes_what_a_run_remembers_of_it() -> None:
    world = World()
    untold, told = a_run("root/g/sub/q", "p/sub/q"), a_run("root/g/sub/r", "p/sub/r", groups=(X, BASE))
    outcome = rebuilt(world, page(of_run(untold), after=(b"p",)), page(of_run(told)))
    assert counts(outcome) == (2, 2, 0, 0, 0)
    group = world.state.node("root/g")
    assert isinstance(group, Group)
    assert (group.uid, group.mp, group.path) == ("uid-of-g", "file:///other", "else/where")


def test_a_new_run_remembers_the_groups_that_it_is_made_in() -> None:
    world = World().must(NewGroup(name="top", path="t"))
    world.init(brg_parent_id="root/top", brg_path="p").config().run()
    run = world.a_run("root/top/g/r")
    nodes = [world.state.node(id) for id in ("root/top", "root/top/g")]
    assert [(place.id, place.uid, place.path) for place in run.groups] == [
        (each.node_id, each.uid, each.path) for each in nodes if each is not None
    ]
    assert run_file(run).groups == run.groups


def test_a_group_that_somebody_made_keeps_its_place() -> None:
    world = World().must(NewGroup(name="g", path="other"))
    outcome = rebuilt(world, page(of_run(R)))
    assert (counts(outcome)[:3], "lies in 'other'" in reason(outcome)) == ((0, 0, 0), True)
    world = World().must(NewGroup(name="g", path="p"))
    assert counts(rebuilt(world, page(of_run(R)))) == (0, 1, 0, 0, 0)


# Whose it is


def test_a_run_is_its_storage_s_again_only_if_that_is_older() -> None:
    world = World().init(brg_path="p").config()
    old = a_run("root/g/old", "p/old", created_at="2020-01-01T00:00:00.000000Z")
    rebuilt(world, page(of_run(R), of_run(old)))
    assert world.a_run("root/g/old").owner == ""
    assert world.a_run().owner == world.storage().uid


# What is left out


def with_r(world: World) -> World:
    rebuilt(world, page(of_run(R)))
    return world


SKIPPED: dict[str, tuple[Callable[[], World], Found, str]] = {
    "a copy of it, elsewhere": (World, page(FoundRun("copy/r", run_file(R))), "says that it lies in 'p/r'"),
    "of another mount point": (
        World,
        page(of_run(R, location=Location("file:///old", "p/r"))),
        "below 'file:///old'",
    ),
    "a copied acquisition": (
        lambda: with_r(World()),
        page(FoundAcq("p/r/b", acq_file(A), "uid-of-r")),
        "says that it lies in 'p/r/a'",
    ),
    "another run of that id": (lambda: with_r(World()), page(of_run(R, uid="u2")), "with uid uid-of-r"),
    "another acquisition of that id": (
        lambda: with_a(World()),
        page(of_acq(A, uid="u2")),
        "with uid uid-of-a",
    ),
    "a group of that id": (
        lambda: World().must(NewGroup(name="g", path="p")).must(NewGroup(name="r", parent_id="root/g")),
        page(of_run(R)),
        "is that of another node",
    ),
    "in a group that is a run": (
        lambda: with_r(World()),
        page(of_run(a_run("root/g/r/x", "p/r/x"))),
        "root/g/r is no group",
    ),
    "of no run": (World, page(of_acq(A)), "run root/g/r is not known"),
    "of another run than lies above it": (
        lambda: with_r(World()),
        page(of_acq(A, run_uid="u2")),
        "is another one",
    ),
    "below a run that says nothing": (lambda: with_r(World()), page(of_acq(A, run_uid="")), "is another one"),
    "inside another": (
        lambda: with_a(World()),
        page(of_acq(an_acq(R, "a/b"))),
        "inside the acquisition root/g/r/a",
    ),
    "around another": (
        lambda: with_a(World(), an_acq(R, "b/c")),
        page(of_acq(an_acq(R, "b"))),
        "inside the acquisition root/g/r/b/c, or around it",
    ),
    "busy": (World, page(of_run(R), busy=frozenset({"root/g/r"})), "under way with root/g/r"),
    "too deep": (
        World,
        page(of_run(a_run("root/g/r", "/".join(["d"] * 17) + "/r"))),
        "base run group lies too deep",
    ),
    "told by the door": (World, page(skipped=(Skipped("x", "It is so."),)), "It is so."),
}


def with_a(world: World, acq: Acq = A) -> World:
    rebuilt(world, page(of_run(R), of_acq(acq)))
    return world


@pytest.mark.parametrize("why", SKIPPED)
def test_what_does_not_fit_is_left_out_with_the_reason(why: str) -> None:
    make, found, words = SKIPPED[why]
    world = make()
    before = world.records()
    outcome = rebuilt(world, found)
    assert words in reason(outcome), outcome.reply
    assert (outcome.types, world.records()) == ([], before)


def test_what_is_known_is_so_also_while_something_is_under_way_with_it() -> None:
    world = with_a(World())
    outcome = rebuilt(world, page(of_run(R), of_acq(A), busy=frozenset({"root/g/r", "root/g/r/a"})))
    assert counts(outcome) == (0, 0, 0, 2, 0)


RUN_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"run_id": ""}, "run_id"),
    "an id without a group": ({"run_id": "root/r"}, "run_id"),
    "an id of another name": ({"run_id": "root/g/other"}, "run_id"),
    "an id that no group can have": ({"run_id": "root/a b/r"}, "id"),
    "an id with a NUL": ({"run_id": "root/a\0/r"}, "id"),
    "a uid that is a path": ({"uid": "../x"}, "uid"),
    "no uid": ({"uid": ""}, "uid"),
    "a storage that is a path": ({"storage_id": "a/b"}, "storage_id"),
    "a time of another form": ({"created_at": "2026-01-01T00:00:00Z"}, "time"),
    "no time": ({"created_at": "yesterday"}, "time"),
    "a parameter's name": ({"params": {" x": 1}}, "params"),
    "a large number": ({"params": {"x": 1 << 70}}, "params"),
    "an endless number": ({"params": {"x": float("inf")}}, "params"),
    "too many parameters": ({"params": {f"p{n}": n for n in range(1025)}}, "params"),
    "no number": ({"numbered": "q{n}"}, "numbered"),
    "a group of others": ({"groups": (replace(X, id="root/h"),)}, "groups"),
    "a group's uid": ({"groups": (replace(X, uid="."),)}, "groups"),
    "a group's time": ({"groups": (replace(X, created_at=""),)}, "groups"),
    "a base run group elsewhere": ({"groups": (replace(X, path="q", mp=MP),)}, "groups"),
    "a base run group on another mount point": ({"groups": (replace(X, path="p"),)}, "groups"),
}


@pytest.mark.parametrize("why", RUN_FAULTS)
def test_a_run_that_says_what_cannot_be_is_left_out(why: str) -> None:
    more, word = RUN_FAULTS[why]
    outcome = rebuilt(World(), page(of_run(R, **more)))
    assert reason(outcome) == f"Its run.json has a {word} that cannot be."


ACQ_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an id of another run": ({"acq_id": "root/g/other/a"}, "acq_id"),
    "no state": ({"state": "lost"}, "state"),
    "unsealed": ({"sealed": False}, "state"),
    "open and sealed": ({"state": "open"}, "state"),
    "no verdict": ({"verdict": None}, "verdict"),
    "another verdict": ({"verdict": "good"}, "verdict"),
    "aborted with a verdict": ({"state": "aborted"}, "verdict"),
    "segment 0": ({"segment": 0}, "segment"),
    "a segment without end": ({"segment": 1 << 70}, "segment"),
    "a producer's name": ({"missing": ("a b",)}, "producers"),
    "a mark's name": ({"producers": (CountedMark("a b", True, {}, LATE),)}, "producers"),
    "a mark's number": ({"producers": (CountedMark("a", True, {"n": 1 << 70}, LATE),)}, "producers"),
    "a mark's time": ({"producers": (CountedMark("a", True, {}, "now"),)}, "time"),
    "a storage": ({"storage_id": ""}, "storage_id"),
    "an end that is no time": ({"finished_at": "later"}, "time"),
}


@pytest.mark.parametrize("why", ACQ_FAULTS)
def test_an_acquisition_that_says_what_cannot_be_is_left_out(why: str) -> None:
    more, word = ACQ_FAULTS[why]
    world = with_r(World())
    assert reason(rebuilt(world, page(of_acq(A, **more)))) == f"Its acquisition.json has a {word} that cannot be."


def test_of_very_many_that_are_left_out_the_first_are_named_and_all_counted() -> None:
    found = page(skipped=tuple(Skipped(f"f{n}" + "x" * 5000, "why") for n in range(250)))
    outcome = rebuilt(World(), replace(found, after=(b"x",)), found)
    assert (len(outcome.reply["skipped"]), outcome.reply["skipped_count"]) == (MOST_SKIPS, 500)
    assert max(len(each["path"]) for each in outcome.reply["skipped"]) <= 1024


# Manifests


def link(acq: Acq, name: str = "manifest-1.json") -> Link:
    return Link(acq.node_id, acq.uid, 1, MP, acq.path, name, f"digest of {name} of {acq.name}")


def proven(acq: Acq, time: str, storage_id: str = "s", name: str = "manifest-1.json") -> FoundAcq:
    proof = Proof(storage_id, time, link(acq, name))
    return of_acq(acq, found={"listing": Listing(acq.uid, 1, "blake3", (name,)), "proofs": (proof,)})


def test_manifests_count_again_and_a_chain_goes_on_from_its_newest() -> None:
    world = World()
    one, two, three = (an_acq(R, name) for name in ("one", "two", "three"))
    found = [proven(one, EARLY), proven(two, LATE), proven(three, EARLY)]
    rebuilt(world, page(of_run(R), found[0], after=(b"p",)), page(found[1], found[2]))
    assert world.state.chain("s") == Chain("s", link(two))
    back = world.acquisition("root/g/r/two")
    assert (back.manifest, back.manifests) == ("blake3", ("manifest-1.json",))


def test_a_chain_that_is_known_stays_and_so_does_one_that_went_on_meanwhile() -> None:
    world = with_r(World())
    known = Chain("s", link(A, "known"))
    world.state.records["chain", "s"] = known
    one, two = an_acq(R, "one"), an_acq(R, "two")
    rebuilt(world, page(proven(one, LATE), proven(two, LATE, "t")))
    assert world.state.chain("s") == known
    assert world.state.chain("t") == Chain("t", link(two))

    world = with_r(World())
    first = world.do(RebuildRundb(), page(proven(one, EARLY), after=(b"p",)), Failed("unavailable", "away.", {}))
    world.state.records["chain", "s"] = known  # a manifest was written between two pages
    world.settle(first.intents[1], page(proven(two, LATE)))
    assert world.state.chain("s") == known


@pytest.mark.parametrize(("storage_id", "time"), [("a/b", LATE), ("s", "now")])
def test_a_manifest_that_says_what_cannot_be_makes_no_chain(storage_id: str, time: str) -> None:
    world = with_r(World())
    rebuilt(world, page(proven(A, time, storage_id)))
    assert not any(isinstance(each, Chain) for each in world.records().values())


# The command itself


def test_a_mount_point_that_is_not_configured_is_not_found() -> None:
    outcome = World().do(RebuildRundb(mp="file:///no"))
    assert (outcome.code, outcome.reply.details["what"]) == ("not_found", "mount")


def test_the_folder_that_is_meant_is_told_to_the_door_and_in_the_reply() -> None:
    outcome = World().do(RebuildRundb(path="p/r"), page())
    assert outcome.intents[0].order.path == ("p", "r")
    assert (outcome.reply["mp"], outcome.reply["path"]) == (MP, "p/r")


def test_another_answer_than_a_page_is_a_defect() -> None:
    with pytest.raises(TypeError):
        World().do(RebuildRundb(), Done())


def test_work_goes_on_in_what_came_back() -> None:
    world = with_a(World())
    world.init(brg_path="p").config().run().acq()
    assert world.acquisition().segment == 2
    assert world.do(AnnotateNode(node_id="root/g/r", name="quality", value="good")).types == ["node.annotated"]
