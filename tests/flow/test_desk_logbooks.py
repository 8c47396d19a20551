"""Entries of logbooks: what is owed, when it is asked for and in which order; crashes, roll-backs, failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage_protocol import commands as c
from storage_service.rules.logbook_records import Book, Owed, Page
from storage_service.rules.logbook_work import EntryDone, LogbookAnswers
from storage_service.rules.work import Failed
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import ACQ, PLACES, StepShell, close, config, init, new_acq, new_run

RUN = "root/g/r"
MAIN: dict[str, Any] = {"elog_server": "main", "elog_name": "Shift log"}
AWAY = Failed("unavailable", "The logbook server main: it cannot be reached.", {"concerns": "server"})
NO_LOGIN = Failed("unavailable", "It does not take the login.", {"concerns": "logbook"})
REFUSED = Failed("unavailable", "Attribute Type not supplied.", {"concerns": "entry"})


def with_logbook(entries: str = "run", **more: Any) -> StepShell:
    """A configured storage s with a logbook and the run r; its logbook answers."""
    shell = StepShell(entries=entries, **more).must(init(**MAIN), config())
    if shell.looks:
        shell.looked(LogbookAnswers())
    return shell.must(new_run())


def owed(shell: StepShell) -> list[str]:
    """What is owed: a run or an acquisition by its id, a problem by the word that its key begins with."""
    ids = [key[1] for key, each in shell.store.everything().items() if isinstance(each, Owed)]
    return [id if "/" in id else id.partition("-")[0] for id in ids]


def partial(shell: StepShell, name: str = "a") -> StepShell:
    return shell.must(new_acq(acq_name=name, producers=("p",)), close(f"{RUN}/{name}"))


def complete(shell: StepShell, name: str = "a") -> StepShell:
    return shell.must(new_acq(acq_name=name, producers_count=0, producers=()), close(f"{RUN}/{name}"))


def told(shell: StepShell) -> list[str]:
    return [event.type for event in shell.events if event.type.startswith(("logbook.", "storage.warning"))]


def entered(shell: StepShell) -> list[Owed]:
    """What is owed, written one after another until nothing is."""
    written = []
    while owed(shell):
        while not shell.entries:
            shell.wait(0.5)
        written.append(shell.entered().owed)
    return written


def test_a_run_opens_its_entry() -> None:
    shell = with_logbook()
    order = shell.entered()
    assert (order.owed.id, order.owed.kind, order.owed.logbook, order.search) == (
        RUN,
        "run",
        "main/Shift log",
        False,
    )
    assert shell.events[-1].type == "logbook.written"
    assert shell.events[-1].subject == RUN
    assert shell.events[-1].data == {
        "logbook": "main/Shift log", "entry": 1, "what": "run", "key": f"key of {RUN}",
    }  # fmt: skip
    assert shell.store.record(("page", f"key of {RUN}")) == Page(f"key of {RUN}", "main/Shift log", 1)
    assert owed(shell) == []
    shell.sound()


def test_a_storage_without_a_logbook_owes_nothing() -> None:
    shell = partial(StepShell(entries="run").must(init(), config(), new_run()))
    assert (owed(shell), shell.entries, shell.looks) == ([], [], [])


def test_where_entries_are_off_nothing_is_owed_and_nobody_looked_at() -> None:
    shell = partial(with_logbook("off"))
    assert (owed(shell), shell.entries, shell.looks) == ([], [], [])


def test_many_ends_become_one_edit() -> None:
    shell = with_logbook()
    shell.entered()
    complete(shell, "a").wait(1)
    for name in "bcd":  # while the entry is being written
        complete(shell, name)
    assert (len(shell.entries), owed(shell)) == (1, [RUN])
    shell.entered()
    assert (owed(shell), shell.entries) == ([RUN], [])  # not at once: more may end
    assert [each.version for each in entered(shell)] == [4]
    shell.sound()


def test_what_went_wrong_is_a_reply_after_the_entry() -> None:
    shell = with_logbook()
    partial(shell)
    shell.must(new_acq(acq_name="b"), c.AbortAcq(storage_id="s", acq_id=f"{RUN}/b", reason="no beam"))
    written = entered(shell)
    assert [(each.kind, each.title) for each in written] == [
        ("run", ""),
        ("problem", "a of r is partial"),
        ("problem", "b of r was aborted"),
        ("run", ""),
    ]
    first, second = written[1:3]
    assert (first.replies_to, "Missing: p" in first.text, second.text) == ("", True, "no beam")
    assert first.id == f"partial-1-{shell.record(('node', ACQ)).uid}"
    assert owed(shell) == []
    shell.sound()


def test_a_conversion_that_failed_is_a_reply() -> None:
    shell = with_logbook()
    shell.must(new_acq(convert_script="convert.sh", producers_count=0, producers=()), close())
    (id,) = shell.scripts
    shell.end(id, exit_code=3)
    assert owed(shell) == [RUN, "failed"]
    shell.entered()
    order = shell.entered()
    assert order.owed.text == "The conversion convert.sh of segment 1 failed: exit code 3."
    shell.sound()


def test_one_entry_an_acquisition() -> None:
    shell = with_logbook("acquisition")
    assert shell.entries == []
    partial(shell)
    first, reply = shell.entered(), shell.entered()
    assert (first.owed.id, first.search) == (ACQ, False)
    assert reply.owed.replies_to == f"acq-{shell.record(('node', ACQ)).uid}"
    shell.must(new_acq(producers=("p",)), close()).entered()
    again = shell.wait(1).entered()
    assert (again.owed.id, again.search) == (ACQ, True)  # its number is looked up; if it has none, it is searched
    shell.sound()


def test_problems_alone_stand_by_themselves() -> None:
    shell = partial(complete(with_logbook("problems"), "b"))
    order = shell.entered()
    assert (order.owed.kind, order.owed.replies_to, shell.entries) == ("problem", None, [])
    shell.sound()


def test_an_entry_that_failed_is_tried_again_longer_apart_and_searched_for() -> None:
    shell = with_logbook()
    waits = []
    for _ in range(3):
        shell.entered(AWAY)
        before = shell.mono
        while not shell.entries:
            shell.wait(0.5)
        waits.append(shell.mono - before)
        assert shell.entries[0].search
    assert waits == sorted(waits)
    assert waits[0] < waits[2]
    shell.entered()
    assert told(shell) == ["logbook.failed", "storage.warning", "logbook.written", "logbook.recovered"]
    assert owed(shell) == []
    shell.sound()


def test_failures_are_told_once_and_to_each_storage() -> None:
    shell = with_logbook()
    shell.entered(AWAY)
    shell.must(init("t", brg_name="h", **MAIN), config("t"), new_run("t"))
    for _ in range(3):
        while not shell.entries:
            shell.wait(5)
        shell.entered(AWAY)
    shell.looked(AWAY)
    failed = [event for event in shell.events if event.type == "logbook.failed"]
    assert [(event.subject, event.data) for event in failed] == [
        ("main/Shift log", {"logbook": "main/Shift log", "message": AWAY.message})
    ]
    assert [e.storage_id for e in shell.events if e.type == "storage.warning"] == ["s", "t"]
    assert [each.what for each in shell.record(("storage", "s")).warnings] == ["logbook"]
    (status,) = shell.desk.work.logbooks.status()
    assert status == {"logbook": "main/Shift log", "waiting": 2, "state": "failed", "reason": AWAY.message}


def test_a_logbook_that_does_not_answer_when_it_is_configured_is_a_warning() -> None:
    shell = StepShell(entries="run")
    shell.must(init(**MAIN), config())
    assert [(look.book.server, look.book.name) for look in shell.looks] == [("main", "Shift log")]
    shell.looked(AWAY)
    assert told(shell) == ["logbook.failed", "storage.warning"]
    shell.must(new_run())
    shell.entered()
    assert told(shell)[-1] == "logbook.recovered"


def test_what_was_rolled_back_is_told_again() -> None:
    shell = with_logbook()
    shell.hold_commits = True
    shell.entered(AWAY)
    shell.roll_back().run()
    shell.hold_commits = False
    while not shell.entries:
        shell.wait(1)
    shell.entered(AWAY)
    assert told(shell) == ["logbook.failed", "storage.warning"]
    shell.sound()


def test_a_server_that_is_away_delays_no_other_one() -> None:
    shell = with_logbook()
    shell.entered(AWAY)
    other = {"elog_server": "other", "elog_name": "demo"}
    shell.must(init("t", brg_name="h", **other), config("t"), new_run("t"))
    assert [order.owed.server for order in shell.entries] == ["other"]


def test_a_wrong_login_delays_no_other_logbook_of_the_server() -> None:
    shell = with_logbook()
    shell.entered(NO_LOGIN)
    other = {"elog_server": "main", "elog_name": "demo"}
    shell.must(init("t", brg_name="h", **other), config("t"), new_run("t"))
    assert [order.owed.name for order in shell.entries] == ["demo"]


def test_an_entry_that_is_refused_keeps_its_run_in_order_and_others_going() -> None:
    shell = with_logbook()
    partial(shell)
    shell.must(new_run(run_name="other"))
    shell.entered(REFUSED)
    order: list[str] = []
    while len(order) < 3:
        while not shell.entries:
            shell.wait(1)
        if shell.entries[0].owed.id == RUN and len(order) == 0:
            shell.entered(REFUSED)
            continue
        order.append(shell.entered().owed.id.partition("-")[0])
    assert order == ["root/g/other", RUN, "partial"]
    assert told(shell).count("logbook.recovered") == 1
    shell.sound()


def test_after_a_crash_at_any_point_it_is_searched_for_and_written_once() -> None:
    shell = with_logbook()
    shell.restart()  # while it is being written
    assert [order.search for order in shell.entries] == [True]
    shell.hold_commits = True
    shell.entered()  # it is there, and nothing of it is durable
    shell.restart()
    assert [(order.owed.id, order.search) for order in shell.entries] == [(RUN, True)]
    shell.entered(EntryDone("run-key", 7))
    assert shell.store.record(("page", "run-key")).number == 7
    assert shell.restart().entries == []
    shell.sound()


def test_an_outcome_that_was_taken_back_is_asked_for_again() -> None:
    shell = with_logbook()
    shell.hold_commits = True
    shell.entered()
    shell.roll_back().run()
    shell.hold_commits = False
    assert [(order.owed.id, order.search) for order in shell.wait(1).entries] == [(RUN, True)]
    shell.entered()
    shell.sound()


def test_a_reply_waits_until_the_number_of_its_entry_is_durable() -> None:
    shell = partial(with_logbook())
    shell.hold_commits = True
    shell.entered()
    assert shell.entries == []
    shell.commit().run()
    assert [order.owed.kind for order in shell.entries] == ["problem"]


def test_a_run_that_is_removed_gets_a_reply_and_what_was_owed_of_it_goes_to_its_own_entry() -> None:
    shell = partial(with_logbook())
    uid = shell.record(("node", RUN)).uid
    shell.must(new_run(mode="remove"))  # the entry of the first one is being written
    assert owed(shell) == [RUN, "partial", "removed"]
    assert shell.entered(EntryDone(f"run-{uid}", 1)).owed.id == RUN
    assert owed(shell) == [RUN, "partial", "removed"]  # that of the new run
    replies = [shell.entered().owed for _ in range(2)]
    assert [(each.id.partition("-")[0], each.replies_to) for each in replies] == [
        ("partial", f"run-{uid}"), ("removed", f"run-{uid}"),
    ]  # fmt: skip
    assert [each.id for each in entered(shell)] == [RUN]
    shell.sound()


def test_an_acquisition_that_is_removed_is_gone_from_the_table() -> None:
    shell = complete(with_logbook())
    entered(shell)
    shell.must(new_acq(mode="remove")).wait(1)
    assert [order.owed.id for order in shell.entries] == [RUN]


def test_what_is_owed_outlives_its_storage() -> None:
    shell = with_logbook()
    shell.must(new_acq(convert_script="convert.sh"))
    shell.must(c.DeinitStorage(storage_id="s", force=True))
    assert owed(shell) == [RUN, "aborted"]
    shell.restart()
    entered(shell)
    assert owed(shell) == []
    assert shell.store.record(("book", "s")) == Book("s", "main", "Shift log", "run")
    shell.sound()


def test_the_kind_of_entries_is_that_of_the_configuring() -> None:
    shell = with_logbook()
    shell.entered()
    shell.entries_kind = "off"
    assert [each.id for each in entered(complete(shell))] == [RUN]
    shell.must(c.InvalStorage(storage_id="s"), config())
    complete(shell, "b")
    assert (owed(shell), shell.store.record(("book", "s"))) == ([], None)
    shell.sound()


@pytest.mark.parametrize("entries", ["run", "acquisition", "problems"])
def test_the_tables_say_what_the_journal_does(tmp_path: Path, entries: str) -> None:
    store = SqliteStore(tmp_path, PLACES)
    shell = partial(with_logbook(entries, store=store))
    if shell.entries:
        shell.entered()
    shell.restart()
    complete(shell, "b").must(new_acq(mode="remove"), new_run(run_name="other"))
    shell.restart()
    entered(shell)
    assert owed(shell) == []
    shell.sound()
    store.close()


def test_a_stop_asks_for_no_more() -> None:
    shell = with_logbook()
    shell.desk.start_no_more()
    shell.entered()
    assert complete(shell).entries == []


def test_what_is_made_anew_does_not_wait_as_an_edit_would() -> None:
    shell = with_logbook()
    shell.entered()
    shell.must(new_run(mode="remove"))
    assert shell.entered().owed.id.startswith("removed-") or shell.entries == []
    partial(shell)
    assert [order.owed.id for order in shell.entries] == [RUN]
    shell.entered()
    assert [order.owed.kind for order in shell.entries] == ["problem"]


def test_what_was_made_anew_is_searched_for_when_the_door_may_have_met_it() -> None:
    shell = with_logbook()
    shell.must(new_run(mode="remove"))  # while the entry of the first one is being written
    shell.entered(AWAY)
    while not shell.entries or shell.entries[0].owed.id != RUN:
        shell.entered() if shell.entries else shell.wait(1)
    assert shell.entries[0].search


def test_a_reply_does_not_overtake_an_entry_that_is_behind_by_more_than_is_durable() -> None:
    shell = partial(with_logbook())
    shell.entered(AWAY)
    shell.must(new_acq(acq_name="b", producers_count=0, producers=()))
    shell.hold_commits = True
    shell.send(close(f"{RUN}/b"))
    shell.run()
    assert shell.wait(5).entries == []
    shell.hold_commits = False
    shell.commit().run()
    assert [order.owed.id for order in shell.entries] == [RUN]


def test_what_is_owed_moves_with_its_storage_to_another_logbook() -> None:
    shell = with_logbook()
    shell.entered(AWAY)
    shell.must(c.DeinitStorage(storage_id="s", force=True), init(elog_server="other", elog_name="demo"), config())
    complete(shell.must(new_run()))
    assert shell.desk.work.logbooks.count == 1
    order = shell.entered()
    assert (order.owed.id, order.owed.logbook, order.search) == (RUN, "other/demo", True)
    assert owed(shell) == []
    shell.wait(120)
    assert shell.entries == []
    shell.sound()


def test_a_logbook_is_looked_at_whenever_its_storage_is_configured() -> None:
    shell = with_logbook("problems")
    shell.must(config())
    assert shell.looks == []
    shell.must(c.InvalStorage(storage_id="s"), config())
    assert len(shell.looks) == 1
    shell.sound()
