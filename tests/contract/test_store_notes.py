"""What is noted of nodes: kept with its history, the newest found, gone with its node (SPEC 4.4.8)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from storage_protocol import commands as c
from storage_protocol.errors import Refusal
from storage_service.rules.work import ManifestDone
from storage_service.store.reader import Reader
from storage_service.store.search import Sizes
from tests.contract.test_search import WAYS
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import ACQ, PLACES, StepShell, close, config, init, new_acq, new_run

RUN = "root/g/r"


def note(value: Any, name: str = "quality", node_id: str = ACQ, author: str = "") -> c.Command:
    return c.AnnotateNode(node_id=node_id, name=name, value=value, author=author)


def opened(store: SqliteStore) -> StepShell:
    return StepShell(store=store).must(init(), config(), new_run(), new_acq())


def answer(store: SqliteStore, command: c.Command) -> dict[str, Any]:
    told = store.answer(command)
    assert isinstance(told, bytes), told
    decoded: dict[str, Any] = msgspec.msgpack.decode(told)
    return decoded


def notes(store: SqliteStore, node_id: str = ACQ, **args: Any) -> list[Any]:
    listed = answer(store, c.ListAnnotations(node_id=node_id, **args))["annotations"]
    return [(each["name"], each["value"]) for each in listed]


def search_rows(store: SqliteStore) -> list[Any]:
    return sorted(store.select("SELECT node_id, name, value FROM search JOIN nodes USING (n)"), key=repr)


@pytest.fixture(params=WAYS)
def sizes(request: pytest.FixtureRequest) -> Sizes:
    return WAYS[request.param]


def found(store: SqliteStore, sizes: Sizes, where: dict[str, Any], **args: Any) -> list[str]:
    reader = Reader(store.database, PLACES, store.writer.journal_id, sizes)
    try:
        told = reader.read(c.FindNodes(where=where, **args))
    finally:
        reader.close()
    assert isinstance(told, bytes), told
    return [node["id"] for node in msgspec.msgpack.decode(told)["nodes"]]


def test_all_that_was_noted_is_kept_newest_first(sqlite_store: SqliteStore) -> None:
    shell = opened(sqlite_store)
    shell.must(note("unknown", author="Zoë"), note("noisy", "comment"), close(), note("bad"), note("good"))
    assert notes(sqlite_store) == [
        ("quality", "good"),
        ("quality", "bad"),
        ("comment", "noisy"),
        ("quality", "unknown"),
    ]
    oldest = answer(sqlite_store, c.ListAnnotations(node_id=ACQ))["annotations"][-1]
    uid = sqlite_store.record(("node", ACQ)).uid
    assert oldest == {
        "node_id": ACQ, "uid": uid, "name": "quality", "value": "unknown", "author": "Zoë", "time": oldest["time"],
    }  # fmt: skip
    assert shell.types().count("node.annotated") == 4
    shell.restart().sound()
    assert len(notes(sqlite_store)) == 4


def test_annotations_come_in_pages(sqlite_store: SqliteStore) -> None:
    shell = opened(sqlite_store)
    shell.must(*(note(n, "comment") for n in range(5)))
    cursor, values = None, []
    while True:
        page = answer(sqlite_store, c.ListAnnotations(node_id=ACQ, limit=2, cursor=cursor))
        values += [each["value"] for each in page["annotations"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert values == [4, 3, 2, 1, 0]


def test_the_newest_is_found_whether_open_or_not(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store)
    shell.must(note("bad"))
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == [ACQ]
    assert search_rows(sqlite_store) == []
    shell.must(close())
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == [ACQ]
    shell.must(note("good"))
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == []
    assert found(sqlite_store, sizes, {"@quality": {"in": ["good"]}}, kind="acq") == [ACQ]
    assert search_rows(sqlite_store) == [(ACQ, "@quality", "good")]
    assert found(sqlite_store, sizes, {"quality": "good"}) == []


def test_notes_and_the_digest_of_the_manifest_are_found_side_by_side(
    sqlite_store: SqliteStore, sizes: Sizes
) -> None:
    shell = StepShell(store=sqlite_store, manifest_kind="blake3").must(init(), config(), new_run(), new_acq())
    shell.must(note("bad"), close())
    shell.hashed(ManifestDone(3, 100, "digest"))
    both = {"@quality": "bad", "manifest.blake3": "digest"}
    assert found(sqlite_store, sizes, both) == [ACQ]
    shell.must(note("good"))
    assert found(sqlite_store, sizes, both) == []
    assert found(sqlite_store, sizes, {"manifest.blake3": "digest"}) == [ACQ]
    assert found(sqlite_store, sizes, both | {"@quality": "good"}) == [ACQ]


def test_an_acquisition_without_a_note_has_that_of_its_run(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store).must(new_acq(acq_name="b"), close(), close(f"{RUN}/b"))
    shell.must(note("bad", node_id=RUN), note("good"))
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == [f"{RUN}/b", RUN]
    assert found(sqlite_store, sizes, {"@quality": "good"}) == [ACQ]
    shell.must(note("unknown", node_id=RUN))
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == []


def test_nil_takes_a_note_back_from_searches(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store).must(close(), note("x", "comment"), note(None, "comment"))
    assert found(sqlite_store, sizes, {"@comment": {"like": "*"}}) == []
    shell.must(note("y", "comment"))
    assert found(sqlite_store, sizes, {"@comment": "y"}) == [ACQ]
    assert search_rows(sqlite_store) == [(ACQ, "@comment", "y")]


def test_a_next_segment_keeps_what_was_noted(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store).must(close(), note("bad"), new_acq())
    assert search_rows(sqlite_store) == []
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == [ACQ]
    shell.must(close())
    assert (notes(sqlite_store), found(sqlite_store, sizes, {"@quality": "bad"})) == ([("quality", "bad")], [ACQ])


def test_a_take_over_keeps_what_was_noted(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store).must(close(), note("bad"), note("good", node_id=RUN))
    shell.must(c.DeinitStorage(storage_id="s", force=True), note("left", "comment"))
    shell.must(init("t"), config("t"), new_run("t"))
    assert notes(sqlite_store) == [("comment", "left"), ("quality", "bad")]
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == [ACQ]
    shell.must(note("taken over", "comment"))
    assert shell.events[-1].storage_id == "t"


def test_what_is_removed_loses_what_was_noted(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store).must(close(), note("bad"), note("bad", node_id=RUN), new_acq(mode="remove"))
    assert notes(sqlite_store) == []
    assert notes(sqlite_store, RUN) == [("quality", "bad")]
    shell.must(close(), note("x", "comment"), new_run(mode="remove"))
    assert notes(sqlite_store, RUN) == []
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == []
    assert [sqlite_store.select(f"SELECT * FROM {table}") for table in ("derived", "annotations")] == [[], []]
    shell.sound()


def test_what_was_noted_in_the_same_transaction_as_the_removal_is_gone_too(sqlite_store: SqliteStore) -> None:
    shell = opened(sqlite_store).must(close())
    shell.hold_commits = True
    shell.send(c.SetVar(name="x", value=1))
    shell.run()
    shell.send(note("bad"), new_acq(mode="remove"), note("good"))
    while shell.batch is not None:
        shell.commit().run()
    assert notes(sqlite_store) == [("quality", "good")]
    shell.sound()


def test_what_was_rolled_back_was_never_noted(sqlite_store: SqliteStore, sizes: Sizes) -> None:
    shell = opened(sqlite_store).must(close())
    shell.hold_commits = True
    sent = shell.send(note("bad"))
    shell.run().roll_back().run()
    assert shell.told(sent) == ["unavailable"]
    shell.hold_commits = False
    shell.must(note("good", author="b"))
    assert notes(sqlite_store) == [("quality", "good")]
    assert found(sqlite_store, sizes, {"@quality": "bad"}) == []
    shell.sound()


def test_a_repeat_notes_once(sqlite_store: SqliteStore) -> None:
    shell = opened(sqlite_store)
    assert shell.call(note("bad"), "k").result == shell.call(note("bad"), "k").result
    assert notes(sqlite_store) == [("quality", "bad")]


def test_without_the_rundb_nothing_is_noted(sqlite_store: SqliteStore) -> None:
    shell = StepShell(store=sqlite_store).must(init(use_rundb=False), config(), new_run(), new_acq())
    assert shell.call(note("bad")).error.code == "not_found"
    told = sqlite_store.answer(c.ListAnnotations(node_id=ACQ))
    assert isinstance(told, Refusal)
    assert (told.code, told.details["what"]) == ("not_found", "node")


def test_what_a_connection_sends_at_once_is_noted_of_what_it_made(sqlite_store: SqliteStore) -> None:
    """No reply is waited for, look-ups take their time: the note comes after what was sent before it."""
    shell = StepShell(store=sqlite_store).must(init(), config(), new_run()).restart()
    shell.delay = 3
    sent = shell.send(new_acq(acq_name="b"))
    sent += shell.send(new_acq())
    sent += shell.send(note("good"))
    sent += shell.send(close())
    sent += shell.send(new_acq(mode="remove"))
    sent += shell.send(note("bad"))
    shell.run()
    assert shell.told(sent) == ["ok"] * 6
    assert notes(sqlite_store) == [("quality", "bad")]
