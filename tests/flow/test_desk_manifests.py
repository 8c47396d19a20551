"""Manifests: when they are asked for, in which order, and what a crash, a roll-back or a removal does to them."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_service.rules.state import Chain, Due
from storage_service.rules.work import Done, Failed, MakeFolder, ManifestDone, WriteManifest
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import ACQ, PLACES, StepShell, close, config, init, new_acq, new_run

WRITTEN = "acquisition.manifest_written"
AWAY = Failed("unavailable", "The folder is gone.", {"reason": "No such file or directory"})


def with_manifests(kind: str = "blake3", **more: Any) -> StepShell:
    """A configured storage s with the run r, whose acquisitions get manifests."""
    return StepShell(manifest_kind=kind, **more).must(init(), config(), new_run())


def sealed(shell: StepShell, *names: str, **more: Any) -> StepShell:
    for name in names or ("a",):
        shell.must(new_acq(acq_name=name, **more), close(f"root/g/r/{name}"))
    return shell


def asked(shell: StepShell) -> list[tuple[str, str]]:
    """What is being written: the acquisition and the file."""
    return [(order.acq_id.rpartition("/")[2], order.name) for order in shell.manifests]


def converted(shell: StepShell, how: str = "exited", exit_code: int | None = 0) -> StepShell:
    (id,) = shell.scripts
    return shell.end(id, how, exit_code)


def test_a_sealed_acquisition_gets_its_manifest() -> None:
    shell = sealed(with_manifests())
    order = shell.hashed(ManifestDone(3, 100, "digest"))
    assert order == WriteManifest(
        storage_id="s",
        acq_id=ACQ,
        uid=shell.record(("node", ACQ)).uid,
        segment=1,
        mp="file:///",
        path=("r", "a"),
        name="manifest-1.json",
        kind="blake3",
        time=order.time,
    )
    assert shell.types()[-2:] == ["acquisition.sealed", WRITTEN]
    assert shell.events[-1].data == {
        "acq_id": ACQ,
        "uid": order.uid,
        "segment": 1,
        "name": "manifest-1.json",
        "files": 3,
        "bytes": 100,
        "manifest_blake3": "digest",
    }
    assert shell.record(("node", ACQ)).manifests == ("manifest-1.json",)
    assert shell.store.record(("due", ACQ)) is None
    shell.sound()


def test_where_manifests_are_off_none_is_asked_for() -> None:
    shell = sealed(with_manifests("off"), convert_script="convert")
    converted(shell)
    assert (shell.manifests, WRITTEN in shell.types()) == ([], False)
    shell.sound()


def test_sizes_alone_are_asked_for_as_configured_at_the_sealing() -> None:
    shell = sealed(with_manifests("sizes"))
    shell.manifest_kind = "blake3"
    assert shell.hashed().kind == "sizes"


def test_one_manifest_of_a_storage_is_written_at_a_time_and_names_the_one_before() -> None:
    shell = sealed(with_manifests(), "a", "b", "c")
    assert asked(shell) == [("a", "manifest-1.json")]
    first = shell.hashed()
    second = shell.hashed()
    third = shell.hashed()
    assert first.previous is None
    assert (second.previous.acq_id, second.previous.name, second.previous.blake3) == (  # type: ignore[union-attr]
        ACQ,
        "manifest-1.json",
        "digest 0",
    )
    assert third.previous.blake3 == "digest 1"  # type: ignore[union-attr]
    shell.sound()


def test_storages_do_not_wait_for_each_other() -> None:
    shell = sealed(with_manifests())
    shell.must(init("t", brg_name="h"), config("t"), new_run("t"))
    shell.must(new_acq("t"), c.CloseAcq(storage_id="t", acq_id="root/h/r/a"))
    assert {order.storage_id for order in shell.manifests} == {"s", "t"}


def test_the_next_is_asked_for_when_the_link_before_is_durable() -> None:
    shell = sealed(with_manifests(), "a", "b")
    shell.hold_commits = True
    shell.hashed()
    assert (shell.manifests, shell.types().count(WRITTEN)) == ([], 0)
    shell.commit().run()
    assert asked(shell) == [("b", "manifest-1.json")]


def test_a_link_that_was_taken_back_is_made_again_with_the_same_one_before() -> None:
    shell = sealed(with_manifests(), "a", "b")
    shell.hashed()
    shell.hold_commits = True
    before = shell.hashed()
    shell.roll_back().run()
    assert asked(shell) == [("b", "manifest-1.json")]
    shell.hold_commits = False
    again = shell.hashed()
    assert again.previous == before.previous
    shell.sound()


def test_after_a_crash_at_any_point_it_is_done_again_with_the_same_one_before() -> None:
    shell = sealed(with_manifests(), "a", "b")
    shell.hashed()
    (order,) = shell.manifests
    shell.restart()  # while it is being written
    assert [each.previous for each in shell.manifests] == [order.previous]
    shell.hold_commits = True
    shell.hashed()  # it is in place, and nothing of it is durable
    shell.restart()
    assert [(each.name, each.previous) for each in shell.manifests] == [(order.name, order.previous)]
    shell.hashed()
    shell.sound()
    assert shell.restart().manifests == []


def test_what_is_due_and_the_chain_are_read_from_the_database(sqlite_store_folder: SqliteStore) -> None:
    shell = sealed(with_manifests(store=sqlite_store_folder), "a", "b")
    shell.hashed()
    shell.must(c.DeinitStorage(storage_id="s", force=True))
    shell.restart()
    assert asked(shell) == [("b", "manifest-1.json")]
    assert shell.hashed().previous.acq_id == ACQ  # type: ignore[union-attr]
    shell.must(init(brg_name="h"), config(), new_run(), new_acq(), c.CloseAcq(storage_id="s", acq_id="root/h/r/a"))
    shell.restart()
    assert shell.hashed().previous.acq_id == "root/g/r/b"  # type: ignore[union-attr]
    shell.sound()


@pytest.fixture
def sqlite_store_folder(tmp_path: Any) -> Any:
    store = SqliteStore(tmp_path, PLACES)
    yield store
    store.close()


def test_an_old_acquisition_without_manifest_is_left_as_it_is() -> None:
    shell = sealed(with_manifests("off"))
    shell.manifest_kind = "blake3"
    assert shell.restart().manifests == []
    sealed(shell, "b")
    assert asked(shell) == [("b", "manifest-1.json")]


# Conversions


def test_a_conversion_does_not_wait_and_gets_a_manifest_of_its_own() -> None:
    shell = sealed(with_manifests(), convert_script="convert")
    assert shell.scripts
    (order,) = shell.manifests
    assert (order.later, order.over) == (False, ())
    converted(shell)
    assert asked(shell) == [("a", "manifest-1.json")]
    shell.hashed()
    after = shell.hashed()
    assert (after.name, after.conversion, after.over, after.later) == (
        "manifest-1-conversion-1.json",
        (1, 1),
        ("manifest-1.json",),
        True,
    )
    assert after.previous.name == "manifest-1.json"  # type: ignore[union-attr]
    assert shell.store.record(("due", ACQ)) is None
    shell.sound()


@pytest.mark.parametrize(("how", "exit_code"), [("exited", 3), ("timed_out", -9), ("cancelled", None)])
def test_a_conversion_that_did_not_succeed_left_something_too(how: str, exit_code: int | None) -> None:
    shell = sealed(with_manifests(), convert_script="convert")
    shell.hashed()
    if how == "cancelled":
        shell.must(c.CancelConversion(conversion_id=next(iter(shell.scripts))))
    converted(shell, how, exit_code)
    assert asked(shell) == [("a", "manifest-1-conversion-1.json")]


def test_an_attempt_that_is_tried_again_has_not_ended() -> None:
    shell = sealed(with_manifests(), convert_script="convert")
    shell.hashed()
    converted(shell, "interrupted", None)
    assert shell.manifests == []
    converted(shell)
    assert asked(shell) == [("a", "manifest-1-conversion-2.json")]


def test_nothing_is_listed_while_a_conversion_that_had_ended_runs_again() -> None:
    shell = sealed(with_manifests(), "a", convert_script="convert")
    sealed(shell, "b")
    (conversion_id,) = shell.scripts
    converted(shell)
    shell.must(c.RetryConversion(conversion_id=conversion_id))
    shell.hashed()
    assert asked(shell) == [("b", "manifest-1.json")]
    shell.hashed()
    assert shell.manifests == []
    converted(shell)
    assert asked(shell) == [("a", "manifest-1-conversion-2.json")]
    shell.hashed()
    shell.sound()


def test_each_attempt_that_ended_is_listed_over_those_before() -> None:
    shell = sealed(with_manifests(), convert_script="convert")
    (conversion_id,) = shell.scripts
    converted(shell)
    shell.hashed()
    shell.hashed()
    shell.must(c.RetryConversion(conversion_id=conversion_id))
    converted(shell)
    assert shell.hashed().over == ("manifest-1.json", "manifest-1-conversion-1.json")


# Opened again, removed, failing


def test_opened_again_before_it_was_written_the_segment_gets_none() -> None:
    shell = sealed(with_manifests())
    shell.must(new_acq())
    assert shell.manifest_cancels == [ACQ]
    shell.hashed(Failed("unavailable", "It was opened again or removed."))
    shell.must(close())
    order = shell.hashed()
    assert (order.name, order.segment, order.previous) == ("manifest-2.json", 2, None)
    shell.sound()


def test_a_manifest_that_is_in_place_too_late_is_no_link() -> None:
    shell = sealed(with_manifests())
    shell.must(new_acq())
    shell.hashed()  # it was published in the same moment
    assert WRITTEN not in shell.types()
    shell.must(close())
    assert shell.hashed().previous is None
    shell.sound()


def test_of_a_removed_acquisition_nothing_is_written() -> None:
    shell = sealed(with_manifests(), "a", "b")
    shell.must(new_acq(mode="remove"))
    assert set(shell.manifest_cancels) == {ACQ}
    shell.hashed(Failed("unavailable", "It was opened again or removed."))
    assert asked(shell) == [("b", "manifest-1.json")]
    shell.must(new_run(mode="append"))
    shell.hashed()
    assert [event.subject for event in shell.events if event.type == WRITTEN] == ["root/g/r/b"]
    assert shell.restart().manifests == []
    shell.sound()


def test_what_cannot_be_written_is_tried_again_told_once_and_holds_nobody_up() -> None:
    shell = sealed(with_manifests(), "a", "b")
    shell.hashed(AWAY)
    assert asked(shell) == [("b", "manifest-1.json")]
    warned = [event.data for event in shell.events if event.type == "acquisition.warning"]
    assert warned == [{"what": "manifest", "message": "manifest-1.json is not written yet: The folder is gone."}]
    shell.hashed()
    assert shell.manifests == []
    shell.wait(1.0)
    assert asked(shell) == [("a", "manifest-1.json")]
    shell.hashed(AWAY)
    shell.wait(1.9)
    assert shell.manifests == []
    shell.wait(0.1)
    assert shell.hashed().previous.acq_id == "root/g/r/b"  # type: ignore[union-attr]
    assert shell.types().count("acquisition.warning") == 1
    shell.sound()


@pytest.mark.parametrize("reason", ["opened again", "cancelled"])
def test_who_opens_an_acquisition_again_is_not_warned_of_the_manifest_that_this_ends(reason: str) -> None:
    shell = sealed(with_manifests())
    shell.hashed(Failed("unavailable", "It was opened again.", {"reason": reason}))
    assert "acquisition.warning" not in shell.types()
    shell.must(new_acq())
    shell.wait(5.0)
    assert (shell.manifests, shell.desk.counts()["manifests"]) == ([], 0)


def test_a_removal_that_is_refused_lets_the_manifest_go_on() -> None:
    shell = with_manifests().must(new_acq())
    shell.door = lambda order: None if isinstance(order, MakeFolder) else Done()
    shell.must(close())
    shell.hashed(AWAY)
    shell.send(new_acq(mode="remove"))
    shell.run().wait(5.0)
    assert shell.manifests == []
    shell.release(Failed("already_exists", "The folder is another's.", {"what": "folder", "id": "x"}))
    assert asked(shell) == [("a", "manifest-1.json")]


def test_files_without_digest_are_a_warning() -> None:
    shell = sealed(with_manifests())
    shell.hashed(ManifestDone(3, 100, "digest", 2, "x.dat (not readable: Input/output error)"))
    assert shell.types()[-2:] == [WRITTEN, "acquisition.warning"]
    message = "manifest-1.json has no digest of x.dat (not readable: Input/output error) and 1 more."
    assert shell.events[-1].data == {"what": "manifest", "message": message}


def test_a_service_that_stops_begins_no_more() -> None:
    shell = sealed(with_manifests(), "a", "b")
    shell.desk.start_no_more()
    shell.hashed()
    assert shell.manifests == []
    assert asked(shell.restart()) == [("b", "manifest-1.json")]


def test_what_is_due_is_counted_and_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.residents.MAX_RESIDENT", 0)
    shell = sealed(with_manifests(), "a", "b", "c")
    assert shell.desk.counts()["manifests"] == 3
    records = shell.desk.state.records.values()
    assert sum(isinstance(record, Due) for record in records) == 3
    for _ in range(3):
        shell.hashed()
    assert shell.desk.counts()["manifests"] == 0
    assert sum(isinstance(record, Chain) for record in shell.desk.state.records.values()) == 1
    shell.sound()
