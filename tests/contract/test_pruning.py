"""The oldest events of the journal are given up, by command or by age, and nothing else changes (SPEC 4.6.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage_protocol import commands as c
from storage_protocol.codec import decode_reply, encode_ok_raw
from storage_service.database import Database
from storage_service.desk.batch import Batch, Journal
from storage_service.rules import facts
from storage_service.rules.facts import Event
from storage_service.rules.state import Places, State
from storage_service.store import pruning
from storage_service.store.interface import Committed
from storage_service.store.lookups import SqliteLookups
from storage_service.store.sqlite import SqliteWriter
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import ACQ, PLACES, StepShell, close, config, init, new_acq, new_run

DAY_S = 86_400.0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[StepShell]:
    """A service that has told of twenty events and more."""
    store = SqliteStore(tmp_path, PLACES)
    shell = StepShell(store=store).must(init(), config(), new_run(), new_acq())
    for number in range(20):
        shell.must(c.SetParamAcq(storage_id="s", acq_id=ACQ, param="x", value=number))
    yield shell.must(close())
    store.close()


def replayed(shell: StepShell, **asked: Any) -> dict[str, Any]:
    answer = shell.store.answer(c.ReplayEvents(**asked))
    assert isinstance(answer, bytes)
    told: dict[str, Any] = decode_reply(encode_ok_raw(1, answer)).result
    return told


def rows(shell: StepShell) -> list[int]:
    assert isinstance(shell.store, SqliteStore)
    return [int(str(seq)) for (seq,) in shell.store.select("SELECT seq FROM journal ORDER BY seq")]


def test_what_is_given_up_is_told_no_more_and_the_rest_is(shell: StepShell) -> None:
    last = shell.seqs()[-1]
    before = shell.store.everything()
    assert shell.call(c.PruneEvents(before_seq=10), "k").result == {"before_seq": 10}
    for after in (0, 3, 9):
        told = replayed(shell, after_seq=after)
        assert [each["seq"] for each in told["events"]] == list(range(10, last + 1))
        assert (told["oldest_seq"], told["last_seq"]) == (10, last)
    for asked in ({"topics": ["acquisition."]}, {"subject": ACQ}):
        assert min(each["seq"] for each in replayed(shell, **asked)["events"]) >= 10
    assert shell.store.everything() == before


def test_rows_go_in_bites_between_the_commits_and_a_restart_goes_on(
    shell: StepShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BITE_ROWS", 4)
    assert isinstance(shell.store, SqliteStore)
    shell.must(c.PruneEvents(before_seq=10))
    assert rows(shell)[0] == 1
    assert shell.store.writer.tidy()
    assert rows(shell)[0] == 5
    shell.restart()
    assert replayed(shell)["oldest_seq"] == 10
    assert shell.store.writer.tidy()
    assert not shell.store.writer.tidy()
    assert rows(shell)[0] == 10
    assert not shell.store.writer.tidy()
    assert rows(shell)[0] == 10


def test_all_of_the_journal_can_be_given_up_and_its_numbers_go_on(shell: StepShell) -> None:
    last = shell.seqs()[-1]
    shell.must(c.PruneEvents(before_seq=last + 1))
    assert isinstance(shell.store, SqliteStore)
    shell.store.writer.tidy()
    told = replayed(shell)
    assert (told["events"], told["oldest_seq"], told["last_seq"]) == ([], last + 1, last)
    shell.restart()
    shell.must(new_acq(acq_name="b"))
    (event,) = [each for each in replayed(shell)["events"] if each["type"] == "acquisition.started"]
    assert event["seq"] == last + 1
    assert event["prev_seq"] > 0


def test_what_has_not_happened_yet_cannot_be_given_up(shell: StepShell) -> None:
    last = shell.seqs()[-1]
    refused = shell.call(c.PruneEvents(before_seq=last + 2)).error
    assert (refused.code, refused.details["field"]) == ("bad_request", "before_seq")
    assert str(last + 1) in refused.message
    assert replayed(shell)["oldest_seq"] == 1


def test_what_is_rolled_back_was_never_given_up(shell: StepShell) -> None:
    shell.hold_commits = True
    sent = shell.send(c.PruneEvents(before_seq=10))
    shell.run().roll_back().run()
    assert shell.told(sent) == ["unavailable"]
    assert replayed(shell)["oldest_seq"] == 1


def batch_of(events: int, journal: Journal) -> Batch:
    batch = Batch(1, State(Places()), journal)
    for _ in range(events):
        told = facts.MountLow("file:///", 1, "low")
        batch.apply(Event(told, None, "file:///"), "2026-11-27T00:00:00.000000Z")
    return batch


def committed(writer: SqliteWriter, journal: Journal, date: float, expire: float | None = None) -> None:
    """A batch of one event at a date of the keys' clock."""
    batch = batch_of(1, journal)
    batch.expire_events_before = expire
    writer.commit(batch, date)
    writer.tidy()


def kept(writer: SqliteWriter) -> list[int]:
    return [int(str(seq)) for (seq,) in writer._db.execute("SELECT seq FROM journal ORDER BY seq")]


def test_events_go_by_their_age_and_none_too_early(tmp_path: Path) -> None:
    writer, journal = SqliteWriter(tmp_path / "storage.db"), Journal()
    for day in range(10):
        committed(writer, journal, day * DAY_S + 1.0)
    # Noted at day d is what there was before it: 1 to d. Older than five days at the end of day 9: up to day 3.
    committed(writer, journal, 9 * DAY_S + 2.0, expire=9 * DAY_S + 2.0 - 5 * DAY_S)
    assert kept(writer)[0] == 5
    committed(writer, journal, 9 * DAY_S + 3.0, expire=9 * DAY_S + 3.0 - 5 * DAY_S)
    assert kept(writer)[0] == 5
    # A date from before everything gives nothing up.
    committed(writer, journal, 9 * DAY_S + 4.0, expire=-DAY_S)
    assert kept(writer)[0] == 5
    writer.close()


class NotedWriter(SqliteWriter):
    """Notes what it does, in order."""

    def __init__(self, database: Path) -> None:
        self.noted: list[str] = []
        super().__init__(database)

    def commit(self, batch: Batch, key_date: float) -> Committed:
        self.noted.append("commit")
        return super().commit(batch, key_date)

    def tidy(self) -> bool:
        self.noted.append("tidy")
        return super().tidy()


async def test_no_commit_waits_for_more_than_a_bite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BITE_ROWS", 1)
    writer, journal = NotedWriter(tmp_path / "storage.db"), Journal()
    writer.commit(batch_of(3_000, journal), 1.0)
    database = Database(writer, SqliteLookups(tmp_path / "storage.db"), pytest.fail)
    for number in range(40):
        batch = batch_of(1, journal)
        batch.prune_before = 2_999 if number == 0 else 0
        told = asyncio.Event()
        writer.noted.append("handed")
        database.commit(batch, 1.0, lambda result, told=told: told.set())
        await asyncio.wait_for(told.wait(), 30)
    waits = " ".join(writer.noted[writer.noted.index("handed") :]).replace("handed", "|").split("|")
    assert max(each.split("commit")[0].count("tidy") for each in waits) <= 1
    database.close()


def test_without_a_number_of_days_nothing_goes_by_age(shell: StepShell) -> None:
    shell.wait(2 * DAY_S)
    assert replayed(shell)["oldest_seq"] == 1


def test_the_log_is_taken_up_between_commits_and_stays_short(tmp_path: Path) -> None:
    writer, journal = SqliteWriter(tmp_path / "storage.db"), Journal()
    log = tmp_path / "storage.db-wal"
    for number in range(300):
        batch = Batch(1, State(Places()), journal)
        event = Event(facts.MountLow("file:///", 1, f"{number} " * 8000), None, "file:///")
        batch.apply(event, "2026-11-27T00:00:00.000000Z")
        writer.commit(batch, 1.0)
        size = log.stat().st_size
        assert size < 8 << 20
        writer.tidy()
    assert len(kept(writer)) == 300
    writer.close()


def test_the_reply_is_msgpack_of_what_the_specification_says(shell: StepShell) -> None:
    told = shell.call(c.PruneEvents(before_seq=0)).result
    assert msgspec.msgpack.encode(told) == msgspec.msgpack.encode({"before_seq": 0})
