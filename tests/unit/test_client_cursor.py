"""Going on from a cursor, and the file that keeps it: never ahead of what was consumed, and never lost."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from storage_client import (
    Cursor,
    CursorFileError,
    EventsForgottenError,
    EventStream,
    JournalChangedError,
    StorageClient,
)
from storage_client.cursor import CursorFile
from tests.support.polling import until
from tests.support.scripted import ScriptedService

FINISHED = "acquisition.finished"
STARTED = "acquisition.started"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ScriptedService]:
    scripted = ScriptedService(tmp_path)
    scripted.answers["list_storages"] = lambda frame: {
        "storages": [],
        "last_seq": len(scripted.journal),
        "journal_id": scripted.journal_id,
    }
    yield scripted
    scripted.close()


async def seqs(stream: EventStream, count: int) -> list[int | None]:
    async with asyncio.timeout(20):
        return [(await anext(stream)).seq for _ in range(count)]


def held(file: Path) -> int | None:
    """The seq that a cursor file holds."""
    return Cursor.parse(file.read_text()).seq if file.exists() else None


def holds(file: Path, seq: int) -> bool:
    """Whether a cursor file holds this seq."""
    return held(file) == seq


def test_a_cursor_is_its_text() -> None:
    cursor = Cursor("0198c3f0-1111-7000-8000-000000000000", 42)
    assert str(cursor) == "0198c3f0-1111-7000-8000-000000000000:42"
    assert Cursor.parse(f"{cursor}\n") == cursor
    assert Cursor.parse("a:b:7") == Cursor("a:b", 7)


@pytest.mark.parametrize("text", ["", "42", ":42", "journal:", "journal:-1", "journal:4.2", "journal:\u0664"])
def test_what_is_no_cursor_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="is no cursor"):
        Cursor.parse(text)


async def test_the_stream_has_the_cursor_of_what_it_gave_last(service: ScriptedService) -> None:
    for _ in range(3):
        service.happen(FINISHED)
    async with StorageClient(service.commands) as client:
        async with client.events(after_seq=0) as stream:
            before = stream.cursor
            await seqs(stream, 2)
            assert before is None
            assert stream.cursor == Cursor("journal-1", 2)
        cursor = stream.cursor
        async with client.events(after=cursor) as stream:
            assert stream.cursor == cursor
            assert await seqs(stream, 1) == [3]


async def test_events_that_are_not_taken_move_the_cursor_on(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events(f"{FINISHED}/") as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: f"{FINISHED}/" in service.topics)
        for _ in range(5):
            service.happen(STARTED)
        service.heartbeat()
        await until(lambda: stream.cursor == Cursor("journal-1", 5))
        service.happen(FINISHED)
        assert (await waiting).seq == 6


async def test_a_cursor_of_another_journal_is_told(service: ScriptedService) -> None:
    service.happen(FINISHED)
    async with StorageClient(service.commands) as client, client.events(after=Cursor("old", 1)) as stream:
        with pytest.raises(JournalChangedError, match="take a new snapshot") as changed:
            await seqs(stream, 1)
    assert changed.value.details == {"journal_id": "journal-1", "before": "old"}


async def test_a_journal_that_was_set_back_is_told(service: ScriptedService) -> None:
    service.happen(FINISHED)
    async with StorageClient(service.commands) as client, client.events(after=Cursor("journal-1", 9)) as stream:
        with pytest.raises(JournalChangedError, match="an older state of it was restored"):
            await seqs(stream, 1)


@pytest.mark.parametrize("seq", [0, 2])
async def test_a_cursor_before_the_oldest_kept_is_told(service: ScriptedService, seq: int) -> None:
    for _ in range(10):
        service.happen(FINISHED)
    service.oldest_seq = 6
    async with StorageClient(service.commands) as client:
        async with client.events(after=Cursor("journal-1", seq)) as stream:
            with pytest.raises(EventsForgottenError, match=f"The events {seq + 1} to 5 are no longer kept"):
                await seqs(stream, 1)
        async with client.events(after=Cursor("journal-1", 5)) as stream:
            assert await seqs(stream, 1) == [6]


async def test_a_snapshot_and_its_stream_have_nothing_between_and_nothing_twice(service: ScriptedService) -> None:
    for _ in range(3):
        service.happen(FINISHED)
    async with StorageClient(service.commands) as client:
        snapshot, stream = await client.snapshot_and_events("acquisition.")
        assert snapshot.cursor == Cursor("journal-1", 3)
        service.happen(FINISHED)
        async with stream:
            assert await seqs(stream, 1) == [4]


async def test_a_place_is_given_once(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        with pytest.raises(ValueError, match="twice"):
            client.events(after=Cursor("journal-1", 0), after_seq=0)


async def test_a_cursor_file_goes_on_where_its_reader_ended(service: ScriptedService, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    async with StorageClient(service.commands) as client:
        async with client.events(cursor_file=file) as stream:
            assert held(file) == 0  # durable before the first event: what comes from here on is not missed
        for _ in range(5):
            service.happen(FINISHED)
        async with client.events(cursor_file=file) as stream:
            assert await seqs(stream, 3) == [1, 2, 3]
        # The third was given, but whether it was dealt with is not known.
        assert held(file) == 2
        async with client.events(cursor_file=file, after_seq=0) as stream:
            assert await seqs(stream, 2) == [3, 4]
            await stream.done()
            assert held(file) == 4
        async with client.events(cursor_file=file) as stream:
            assert await seqs(stream, 1) == [5]
    assert [name for name in os.listdir(tmp_path) if "cursor" in name] == ["cursor"]


async def test_the_file_is_never_ahead_of_what_was_consumed(service: ScriptedService, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    for _ in range(200):
        service.happen(FINISHED)
    async with (
        StorageClient(service.commands) as client,
        client.events(cursor_file=file, after_seq=0) as stream,
    ):
        for consumed in range(200):
            assert (await anext(stream)).seq == consumed + 1
            assert (held(file) or 0) <= consumed
            if consumed % 50 == 49:
                await until(partial(holds, file, consumed))


async def test_an_idle_reader_has_its_file_written(service: ScriptedService, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    async with StorageClient(service.commands) as client, client.events(cursor_file=file) as stream:
        service.happen(FINISHED)
        await seqs(stream, 1)
        assert held(file) == 0
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: held(file) == 1)
        service.happen(FINISHED)
        await waiting


async def test_a_reader_that_failed_meets_the_same_event_again(service: ScriptedService, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    for _ in range(3):
        service.happen(FINISHED)
    async with StorageClient(service.commands) as client:
        for _ in range(2):
            with contextlib.suppress(OSError):
                async with client.events(cursor_file=file, after_seq=0) as stream:
                    async for event in stream:
                        if event.seq == 2:
                            raise OSError("the disk of the reader is full")
            assert held(file) == 1


@pytest.mark.parametrize("text", ["", "torn", "journal-1:"])
async def test_a_file_that_holds_no_cursor_is_not_taken_for_a_new_one(
    service: ScriptedService, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "cursor"
    file.write_text(text)
    async with StorageClient(service.commands) as client:
        with pytest.raises(CursorFileError, match="cannot be used"):
            client.events(cursor_file=file)
    assert file.read_text() == text


async def test_a_file_that_cannot_be_written_is_told(service: ScriptedService, tmp_path: Path) -> None:
    file = tmp_path / "gone" / "cursor"
    async with StorageClient(service.commands) as client:
        with pytest.raises(CursorFileError, match="cannot be written"):
            async with client.events(cursor_file=file):
                pass


async def test_a_write_that_failed_is_told_to_who_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = CursorFile(folder / "cursor")
    file.note(Cursor("journal-1", 1))
    await file.flush()
    (folder / "cursor").unlink()
    folder.rmdir()
    file.note(Cursor("journal-1", 2))

    def refused() -> bool:
        try:
            file.note(Cursor("journal-1", 3))
            file.note(Cursor("journal-1", 4))
        except CursorFileError:
            return True
        return False

    await until(refused)
    folder.mkdir()
    await file.flush()
    assert held(folder / "cursor") == 3


async def test_the_file_is_put_in_place_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    file = CursorFile(tmp_path / "cursor")
    file.note(Cursor("journal-1", 1))
    await file.flush()
    assert synced == [str(tmp_path / ".cursor.new"), str(tmp_path)]
    assert CursorFile(tmp_path / "cursor").read() == Cursor("journal-1", 1)
