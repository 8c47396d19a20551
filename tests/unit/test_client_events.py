"""The stream of events against a publisher that loses them: in order, each once, none missing."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage_client.events
from storage_client import (
    ClientClosedError,
    EventsForgottenError,
    EventStream,
    JournalChangedError,
    StorageClient,
)
from storage_client.subscription import reachable
from storage_protocol.events import Event
from tests.support.polling import until
from tests.support.scripted import ScriptedService

FINISHED = "acquisition.finished"
STARTED = "acquisition.started"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ScriptedService]:
    scripted = ScriptedService(tmp_path)
    yield scripted
    scripted.close()


async def take(stream: EventStream, count: int) -> list[Event]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def seqs(stream: EventStream, count: int) -> list[int | None]:
    return [event.seq for event in await take(stream, count)]


async def settled(service: ScriptedService, *topics: str) -> None:
    """Wait until the service knows of these subscriptions, and of no others but the heartbeat's."""
    await until(lambda: service.topics == {*topics, "service.heartbeat/"})


async def test_what_happens_after_the_stream_was_made_is_seen(service: ScriptedService) -> None:
    service.happen(FINISHED)
    async with StorageClient(service.commands) as client:
        stream = client.events()
        await client.ping()
        service.happen(FINISHED, told=False)
        seen = asyncio.ensure_future(seqs(stream, 2))
        await settled(service, "")
        service.happen(FINISHED)
        assert await seen == [2, 3]


async def test_history_comes_first_when_it_is_asked_for(service: ScriptedService) -> None:
    for _ in range(5):
        service.happen(FINISHED)
    async with StorageClient(service.commands) as client, client.events(after_seq=2) as stream:
        assert await seqs(stream, 3) == [3, 4, 5]


async def test_a_long_history_is_read_in_pages(service: ScriptedService) -> None:
    for _ in range(2500):
        service.happen(FINISHED, told=False)
    async with StorageClient(service.commands) as client, client.events(after_seq=0) as stream:
        assert await seqs(stream, 2500) == list(range(1, 2501))


async def test_a_lost_event_is_shown_by_the_next_of_its_topic(service: ScriptedService) -> None:
    topic = f"{FINISHED}/s1/"
    async with StorageClient(service.commands) as client, client.events(topic) as stream:
        await settled(service, topic)
        service.happen(FINISHED, told=False)
        service.happen(STARTED)
        service.happen(FINISHED)
        assert await seqs(stream, 2) == [1, 3]


async def test_a_lost_event_of_another_topic_still_comes_in_its_order(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events("acquisition.") as stream:
        await settled(service, "acquisition.")
        service.happen(STARTED, told=False)
        service.happen(FINISHED)  # its prev_seq is 0: by itself it shows no gap
        assert await seqs(stream, 2) == [1, 2]


async def test_a_lost_event_with_none_behind_it_is_shown_by_a_heartbeat(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events(f"{FINISHED}/") as stream:
        await settled(service, f"{FINISHED}/")
        service.happen(FINISHED, told=False)
        service.happen(STARTED)
        service.heartbeat()
        assert await seqs(stream, 1) == [1]


async def test_an_event_that_comes_twice_is_given_once(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events() as stream:
        await settled(service, "")
        for n in range(1, 6):
            event = service.happen(FINISHED, told=n % 2 == 0)
            service.tell(f"{FINISHED}/s1/", event)
            service.heartbeat()
        assert await seqs(stream, 5) == [1, 2, 3, 4, 5]
        service.tell(f"{FINISHED}/s1/", service.journal[0])
        service.happen(FINISHED)
        assert await seqs(stream, 1) == [6]
        assert len(service.frames("replay_events")) == 1  # its start: none was missing


async def test_the_journal_is_not_asked_where_nothing_can_be_missing(service: ScriptedService) -> None:
    topic = f"{FINISHED}/s1/"
    async with (
        StorageClient(service.commands) as client,
        client.events(topic) as one,
        client.events() as all_events,
    ):
        await settled(service, topic, "")
        for _ in range(20):
            service.happen(STARTED)
            service.happen(FINISHED, "s2")
            service.happen(FINISHED)
        assert await seqs(one, 20) == list(range(3, 61, 3))
        assert await seqs(all_events, 60) == list(range(1, 61))
    assert len(service.frames("replay_events")) == 2  # each stream's start


async def test_events_that_are_in_no_journal_come_only_where_they_are_named(service: ScriptedService) -> None:
    async with (
        StorageClient(service.commands) as client,
        client.events() as all_events,
        client.events("conversion.") as conversions,
    ):
        await settled(service, "", "conversion.")
        service.tell("conversion.progress/s1/", service.unnumbered("conversion.progress", "s1", {"progress": 0.5}))
        service.heartbeat()
        service.happen("conversion.succeeded")
        assert [event.type for event in await take(all_events, 1)] == ["conversion.succeeded"]
        assert [event.type for event in await take(conversions, 2)] == [
            "conversion.progress",
            "conversion.succeeded",
        ]


async def test_a_subscriber_that_slept_beyond_the_high_water_mark_misses_nothing(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events() as stream:
        await settled(service, "")
        for _ in range(30_000):
            service.happen(FINISHED)
        assert await seqs(stream, 30_000) == list(range(1, 30_001))
        assert len(service.frames("replay_events")) > 1  # it did miss some


async def test_a_cancelled_wait_loses_no_event(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events("acquisition.") as stream:
        await settled(service, "acquisition.")
        found: list[int | None] = []
        async with asyncio.timeout(30):
            while len(found) < 300:
                if len(service.journal) < 300:
                    service.happen(FINISHED, f"s{len(service.journal) % 3}", told=len(service.journal) % 7 > 0)
                service.heartbeat()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        found.append((await anext(stream)).seq)
        assert found == list(range(1, 301))


async def test_another_journal_is_told_and_not_waited_for(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client, client.events(f"{FINISHED}/") as stream:
        await settled(service, f"{FINISHED}/")
        service.journal_id = "journal-2"
        service.heartbeat()
        with pytest.raises(JournalChangedError) as changed:
            await take(stream, 1)
    assert changed.value.details == {"journal_id": "journal-2", "before": "journal-1"}


async def test_who_goes_on_from_a_seq_is_told_what_the_journal_forgot(service: ScriptedService) -> None:
    for _ in range(10):
        service.happen(FINISHED)
    service.oldest_seq = 6
    async with StorageClient(service.commands) as client:
        async with client.events(after_seq=2) as stream:
            with pytest.raises(EventsForgottenError) as forgotten:
                await take(stream, 1)
        async with client.events(after_seq=5) as stream:
            assert await seqs(stream, 1) == [6]
        async with client.events(after_seq=0) as stream:
            assert await seqs(stream, 1) == [6]
    assert forgotten.value.details == {"after_seq": 2, "oldest_seq": 6}


async def test_a_silent_publisher_is_looked_for_anew(
    service: ScriptedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_client.events, "_SILENCE_S", 0.2)
    async with StorageClient(service.commands, timeout_s=0.2) as client, client.events() as stream:
        await settled(service, "")
        service.happen(FINISHED)
        assert await seqs(stream, 1) == [1]
        service.close()
        moved = ScriptedService(tmp_path, events="elsewhere.ipc")
        try:
            moved.journal = service.journal
            moved.happen(FINISHED, told=False)
            waiting = asyncio.ensure_future(seqs(stream, 1))
            await settled(moved, "")
            moved.heartbeat()
            assert await waiting == [2]
        finally:
            moved.close()


async def test_a_closed_client_ends_its_streams(service: ScriptedService) -> None:
    client = StorageClient(service.commands)
    waiting = asyncio.ensure_future(take(client.events(), 1))
    await settled(service, "")
    await client.close()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(waiting, 5)  # and not only when the stream looks around


async def test_a_stream_that_nothing_refers_to_is_unsubscribed(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        service.happen(FINISHED)
        async for _ in client.events(f"{FINISHED}/", after_seq=0):
            break
        await until(lambda: not service.topics)


async def test_a_closed_stream_has_ended(service: ScriptedService) -> None:
    service.happen(FINISHED)
    async with StorageClient(service.commands) as client:
        async with client.events(after_seq=0) as stream:
            pass
        assert [event async for event in stream] == []


@pytest.mark.parametrize(
    ("events", "commands", "wanted"),
    [
        ("tcp://*:5571", "tcp://daq.example:5570", "tcp://daq.example:5571"),
        ("tcp://0.0.0.0:5571", "tcp://10.0.0.7:5570", "tcp://10.0.0.7:5571"),
        ("tcp://[::]:5571", "tcp://[fe80::1]:5570", "tcp://[fe80::1]:5571"),
        ("tcp://127.0.0.1:5571", "tcp://daq.example:5570", "tcp://127.0.0.1:5571"),
        ("ipc:///run/events", "ipc:///run/commands", "ipc:///run/events"),
    ],
)
def test_a_service_bound_everywhere_is_reached_where_its_commands_are(
    events: str, commands: str, wanted: str
) -> None:
    assert reachable(events, commands) == wanted
