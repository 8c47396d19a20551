"""What entries of logbooks are made of, read from the database: bounded, and of the right run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_protocol import commands as c
from storage_service.rules.logbook_records import Owed
from storage_service.rules.logbook_text import MOST_PARAMS_OF_ROW, MOST_ROWS
from storage_service.rules.logbook_work import Content, EntryDone
from storage_service.store.contents import SqliteContents
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES, StepShell, close, config, init, new_acq, new_run

RUN = "root/g/r"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[StepShell]:
    store = SqliteStore(tmp_path, PLACES)
    yield StepShell(entries="run", store=store).must(
        init(elog_server="main", elog_name="demo"), config(), new_run()
    )
    store.close()


def read(shell: StepShell, owed: Owed) -> Content:
    contents = SqliteContents(shell.store.database)  # type: ignore[union-attr]
    try:
        return contents.read(owed)
    finally:
        contents.close()


def owed_run(shell: StepShell) -> Owed:
    found: Owed = shell.record(("owed", RUN)) or shell.entries[0].owed
    return found


def test_a_run_has_its_newest_acquisitions_and_how_many_there_are(shell: StepShell) -> None:
    params = {f"p{n:02}": n for n in range(20)}
    for n in range(MOST_ROWS + 5):
        shell.must(new_acq(acq_name=f"a{n:03}", params=params, producers_count=0, producers=())).wait(0.01)
        if n != MOST_ROWS + 4:
            shell.must(close(f"{RUN}/a{n:03}"))
    shell.must(new_run(run_name="other"), new_acq(run_name="other", acq_name="x"))
    content = read(shell, owed_run(shell))
    assert content.run is not None
    assert content.counts == {"open": 1, "complete": MOST_ROWS + 4}
    assert [acq.name for acq in content.acqs] == [f"a{n:03}" for n in range(MOST_ROWS + 4, 4, -1)]
    assert list(content.acqs[0].params) == list(params)[:MOST_PARAMS_OF_ROW]
    assert set(content.params.values()) == {20}
    assert content.ended is not None
    assert (content.ended.name, content.ended.params) == (f"a{MOST_ROWS + 3:03}", params)


def test_a_number_counts_in_the_logbook_that_it_is_from(shell: StepShell) -> None:
    uid = shell.record(("node", RUN)).uid
    shell.entered(EntryDone(f"run-{uid}", 7))
    owed = Owed(RUN, "run", "s", "main", "demo", RUN, RUN)
    assert read(shell, owed).number == 7
    assert read(shell, Owed(RUN, "run", "s", "main", "other", RUN, RUN)).number is None
    problem = Owed("partial-1-x", "problem", "s", "main", "demo", f"{RUN}/a", RUN, replies_to="")
    content = read(shell, problem)
    assert (content.reply_to, content.thread, content.acq) == (7, f"run-{uid}", None)


def test_what_was_made_anew_is_not_told_of_by_what_was_owed_before(shell: StepShell) -> None:
    before = owed_run(shell)
    assert before.uid == shell.record(("node", RUN)).uid
    shell.must(new_acq(), c.AbortAcq(storage_id="s", acq_id=f"{RUN}/a"), new_run(mode="remove"))
    assert read(shell, before) == Content()
    of_acq = Owed(f"{RUN}/a", "acquisition", "s", "main", "demo", f"{RUN}/a", RUN, uid="x")
    assert read(shell, of_acq) == Content()
