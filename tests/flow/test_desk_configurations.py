"""Configurations of acquisitions: which document is wanted when, and what becomes of what cannot be written."""

from __future__ import annotations

import itertools
from typing import Any

from blake3 import blake3
from msgspec.structs import replace

from storage_protocol import commands as c
from storage_protocol.records import Document
from storage_service.rules.readings import HANDED_IN, Reading, ReadingsTaken, TakeReadings
from storage_service.rules.work import Done, MakeFolder, SyncData
from tests.support.step_shell import ACQ, StepShell, close, config, done, init, new_acq, new_run, read

FULL = "The configuration is not saved yet: The disk is full."


def given(content: bytes | None, name: str = "config.xml", storage_id: str = "s") -> c.SetConfig:
    return c.SetConfig(storage_id=storage_id, document=content, name=name)


def digest(content: bytes) -> str:
    return blake3(content).hexdigest()


def with_config(content: bytes | None = b"one", **args: Any) -> StepShell:
    shell = StepShell(**args).must(init(stats_names=("x",)), config(), new_run())
    return shell.must(given(content)) if content is not None else shell


def saved(shell: StepShell) -> list[tuple[str, str]]:
    """When each configuration was saved, and its digest."""
    found = shell.store.record(("node", ACQ)).configurations
    return [(each.when, each.blake3) for each in found]


def warnings(shell: StepShell) -> list[str]:
    return [each.message for each in shell.store.record(("node", ACQ)).warnings]


def unwritten(order: TakeReadings) -> ReadingsTaken:
    """Variables are read, and nothing can be written."""
    return replace(read(order), configurations=(), again=FULL)


def test_what_was_handed_in_is_saved_once_where_it_did_not_change() -> None:
    shell = with_config().must(new_acq(), close())
    assert saved(shell) == [("start", digest(b"one"))]
    (told,) = shell.store.record(("node", ACQ)).configurations
    assert (told.file, told.bytes, told.source) == ("config.xml", 3, HANDED_IN)
    shell.sound()


def test_what_was_handed_in_while_it_was_open_is_saved_at_its_end() -> None:
    shell = with_config().must(new_acq(), given(b"two"), close())
    assert saved(shell) == [("start", digest(b"one")), ("end", digest(b"two"))]


def test_what_was_handed_in_after_its_end_is_not_saved_beside_it() -> None:
    shell = with_config().must(new_acq())
    shell.sources = lambda order: None
    shell.must(close(), given(b"two"))
    shell.taken()
    assert saved(shell) == [("start", digest(b"one"))]


def test_what_was_taken_back_is_not_looked_for_at_the_end() -> None:
    shell = with_config().must(new_acq(), given(None))
    asked = []

    def sources(order: TakeReadings) -> ReadingsTaken:
        asked.append(order)
        return read(order)

    shell.sources = sources
    shell.must(close())
    assert [order.wanted for order in asked] == [()]


def test_of_the_services_own_source_both_are_asked_for_where_nothing_is_handed_in() -> None:
    shell = with_config(None, fetches=True)
    asked = []

    def sources(order: TakeReadings) -> ReadingsTaken:
        asked.append([(each.when, each.document) for each in order.wanted])
        return read(order)

    shell.sources = sources
    shell.must(new_acq(), given(b"one"), close())
    assert asked == [[("start", None)], [("end", Document("config.xml", digest(b"one"), 3))]]


# What cannot be written


def test_what_cannot_be_written_at_the_start_is_a_warning_and_is_written_at_the_end() -> None:
    shell = with_config()
    shell.sources = unwritten
    shell.must(new_acq(), given(b"two"))
    assert warnings(shell) == [FULL]
    shell.sources = read
    shell.must(close())
    assert saved(shell) == [("start", digest(b"one")), ("end", digest(b"two"))]
    assert shell.types()[-2:] == ["acquisition.measured", "acquisition.sealed"]
    shell.sound()


def test_what_cannot_be_written_at_the_end_is_tried_again_with_one_warning_and_sealed_after() -> None:
    shell = with_config().must(new_acq(), given(b"two"))
    tries: list[float] = []

    def sources(order: TakeReadings) -> ReadingsTaken:
        tries.append(shell.mono)
        return unwritten(order) if len(tries) < 4 else read(order)

    shell.sources = sources
    shell.must(close()).wait(3.5)
    assert warnings(shell) == [FULL]
    assert not shell.store.record(("node", ACQ)).sealed
    shell.wait(60.0)
    assert [later - earlier for earlier, later in itertools.pairwise(tries)] == [1.0, 2.0, 4.0]
    assert saved(shell)[-1] == ("end", digest(b"two"))
    assert shell.types()[-3:] == ["acquisition.warning", "acquisition.measured", "acquisition.sealed"]
    assert warnings(shell) == [FULL]
    shell.sound()


def test_what_was_measured_at_the_end_stays_however_late_its_configuration_is_written() -> None:
    shell = with_config().must(new_acq())
    until = shell.mono + 30
    values = itertools.count(10)
    asked: list[tuple[str, ...]] = []

    def sources(order: TakeReadings) -> ReadingsTaken:
        asked.append(order.names)
        readings = {name: Reading(next(values)) for name in order.names}
        again = FULL if shell.mono < until else ""
        return ReadingsTaken(readings, again=again)

    shell.sources = sources
    shell.must(close()).wait(120.0)
    acq = shell.store.record(("node", ACQ))
    found = acq.statistics["x"]
    assert (found.end.value, found.difference, found.end.time) == (10, 9, acq.finished_at)
    assert acq.sealed
    assert asked[0] == ("x",)
    assert set(asked[1:]) == {()}


def test_what_a_source_does_not_give_is_a_warning_and_nothing_waits_for_it() -> None:
    def sources(order: TakeReadings) -> ReadingsTaken:
        return replace(read(order), failures=("cmod:daq1:9001 gave no configuration within 5 s.",))

    shell = with_config()
    shell.sources = sources
    shell.must(new_acq(), close())
    assert len(warnings(shell)) == 2
    assert shell.types()[-3:] == ["acquisition.measured", "acquisition.warning", "acquisition.sealed"]


# Documents are there as long as somebody needs them


def test_a_configuration_is_not_exchanged_while_an_acquisitions_folder_is_made() -> None:
    shell = with_config()
    shell.door = lambda order: None if isinstance(order, MakeFolder) else done(order)
    shell.send(new_acq())
    shell.run()
    sent = shell.send(given(b"two"), peer=b"q")
    shell.run()
    assert shell.told(sent, b"q") == [""]
    shell.release(Done())
    assert shell.told(sent, b"q") == ["ok"]
    assert saved(shell) == [("start", digest(b"one"))]
    shell.must(close())
    shell.sound()


def test_documents_are_kept_for_an_acquisition_that_still_has_to_save_them() -> None:
    shell = with_config()
    shell.sources = unwritten
    shell.must(new_acq(), given(b"two"), close(), given(None))
    assert set(shell.store.documents.values()) == {b"one", b"two"}
    shell.restart()
    assert saved(shell) == [("start", digest(b"one")), ("end", digest(b"two"))]
    assert shell.store.documents == {}
    shell.sound()


def test_a_document_that_was_not_saved_at_the_start_is_kept_while_it_is_open() -> None:
    shell = with_config()
    shell.sources = unwritten
    shell.must(new_acq(), given(None)).restart()
    assert set(shell.store.documents.values()) == {b"one"}
    shell.must(close())
    assert (saved(shell), shell.store.documents) == ([("start", digest(b"one"))], {})
    shell.sound()


def test_a_storage_that_goes_leaves_the_document_until_its_acquisitions_are_read() -> None:
    shell = with_config()
    shell.sources = lambda order: None
    shell.must(new_acq(), c.DeinitStorage(storage_id="s", force=True))
    assert set(shell.store.documents.values()) == {b"one"}
    shell.taken()
    shell.taken()
    assert (saved(shell), shell.store.documents) == ([("start", digest(b"one"))], {})


def test_a_document_that_was_taken_back_while_in_use_goes_with_the_end_of_its_use() -> None:
    shell = with_config().must(new_acq(), given(None))
    assert set(shell.store.documents.values()) == {b"one"}
    shell.must(close())
    assert shell.store.documents == {}


def test_of_two_storages_that_share_a_document_one_may_take_it_back() -> None:
    shell = with_config().must(init("t", brg_name="h"), given(b"one", "other.xml", "t"), given(None))
    assert set(shell.store.documents.values()) == {b"one"}
    shell.must(given(None, storage_id="t"))
    assert shell.store.documents == {}


def test_a_configuration_whose_batch_was_lost_was_never_handed_in() -> None:
    shell = with_config()
    shell.hold_commits = True
    shell.send(given(b"two"))
    shell.run()
    shell.roll_back().run()
    shell.hold_commits = False
    assert set(shell.store.documents.values()) == {b"one"}
    shell.must(new_acq(), close())
    assert saved(shell) == [("start", digest(b"one"))]
    shell.sound()


def test_a_document_that_was_to_be_forgotten_stays_where_that_was_lost() -> None:
    shell = with_config()
    shell.hold_commits = True
    shell.send(given(None))
    shell.run()
    shell.roll_back().run()
    shell.hold_commits = False
    shell.must(new_acq(), close())
    assert saved(shell) == [("start", digest(b"one"))]


def test_a_repeat_hands_nothing_in_a_second_time() -> None:
    shell = with_config(None)
    first = shell.call(given(b"one"), "k")
    shell.must(given(b"two"))
    assert shell.call(given(b"one"), "k").result == first.result
    assert shell.record(("storage", "s")).config.blake3 == digest(b"two")


def test_an_acquisition_that_is_opened_again_saves_what_is_handed_in_then() -> None:
    shell = with_config().must(new_acq(), close(), given(b"two"), new_acq(), close())
    assert saved(shell) == [("start", digest(b"two"))]
    assert shell.store.record(("node", ACQ)).segment == 2


def test_the_seal_tells_what_was_saved() -> None:
    orders = []
    shell = with_config().must(new_acq())

    def door(order: Any) -> Any:
        orders.append(order)
        return done(order)

    shell.door = door
    shell.must(close())
    sync, write = orders
    assert isinstance(sync, SyncData)
    assert digest(b"one").encode() in write.marker
    assert digest(b"one") in write.log
