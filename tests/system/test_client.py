"""The client library with the real service."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from storage_client import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    EventStream,
    InvalidNameError,
    NotFoundError,
    StorageClient,
    UnknownCommandError,
    WrongStateError,
)
from storage_protocol.commands import NewRun
from storage_protocol.events import Event
from storage_protocol.records import AcquisitionNode
from tests.support.polling import steps
from tests.support.service import Service

Make = Callable[..., Service]

_numbers = itertools.count(1)


@pytest.fixture
async def client(service: Service) -> AsyncIterator[StorageClient]:
    async with StorageClient(service.commands) as client:
        yield client


@pytest.fixture
async def storage_id(client: StorageClient) -> AsyncIterator[str]:
    """A configured storage with a run `run`, in the group `root/<storage_id>`."""
    name = f"client{next(_numbers)}"
    await open_storage(client, name)
    yield name
    await client.deinit_storage(name, force=True)


async def open_storage(client: StorageClient, name: str) -> None:
    await client.init_storage(name, name, brg_path=name)
    await client.config_storage(name)
    await client.new_run(name, "run", params={"beam": "e-", "energy": 10})


async def take(stream: EventStream, count: int, patience_s: float = 60.0) -> list[Event]:
    async with asyncio.timeout(patience_s):
        return [await anext(stream) for _ in range(count)]


async def test_a_storage_from_its_begin_to_its_end(client: StorageClient) -> None:
    assert (await client.init_storage("life", "life", brg_path="life", producers_count=0)).state == "ready"
    assert (await client.config_storage("life")).state == "configured"
    assert (await client.register_producer("life", "ecal")).producers == ("ecal",)
    await client.heartbeat_producer("life", "ecal")
    run = await client.new_run("life", "r{n:03}", params={"energy": 10})
    assert run.run_id == "root/life/r001"
    assert await client.get_run(run.run_id) == run
    assert await client.set_param_run("life", "r001", "energy", 20)
    acq = await client.new_acq("life", "scan/t200", "r001", params={"threshold": 200})
    assert (await client.get_storage("life")).state == "acquiring"
    assert await client.set_param_acq("life", acq.acq_id, "gain", 2.5, uid=acq.uid, segment=acq.segment)
    marked = await client.mark_as_finished("life", acq.acq_id, producer="ecal", summary={"events": 5})
    assert (marked.counted, marked.finished, marked.expected, marked.missing) == (True, 1, 1, ())
    finished = await client.get_acq(acq.acq_id)
    assert (finished.state, finished.verdict) == ("finished", "complete")
    assert finished.params == {"threshold": 200, "gain": 2.5}
    assert finished.producers[0].summary == {"events": 5}
    assert [each.acq_id for each in (await client.list_acqs(storage_id="life")).acqs] == [acq.acq_id]
    assert (await client.unregister_producer("life", "ecal")).producers == ()
    assert (await client.inval_storage("life")).state == "ready"
    await client.deinit_storage("life")
    assert "life" not in [each.storage_id for each in (await client.list_storages()).storages]


async def test_an_acquisition_closed_and_one_aborted(client: StorageClient, storage_id: str) -> None:
    acq = await client.new_acq(storage_id, "closed", "run", producers=["ecal"])
    closed = await client.close_acq(storage_id, acq.acq_id, reason="enough")
    assert (closed.state, closed.verdict, closed.missing, closed.reason) == (
        "finished",
        "partial",
        ("ecal",),
        "enough",
    )
    acq = await client.new_acq(storage_id, "aborted", "run")
    assert (await client.abort_acq(storage_id, acq.acq_id, reason="no beam")).state == "aborted"


async def test_the_run_database_is_searched(client: StorageClient, storage_id: str) -> None:
    group = await client.new_group(f"campaign-{storage_id}")
    assert await client.get_node(group.id) == group
    assert group.id in [node.id for node in (await client.list_nodes(limit=10_000)).nodes]
    acq = await client.new_acq(storage_id, "a", "run", params={"threshold": 200})
    found = await client.find_nodes(f"root/{storage_id}", kind="acq", where={"threshold": {"ge": 200}})
    assert [node.id for node in found.nodes] == [acq.acq_id]
    assert isinstance(found.nodes[0], AcquisitionNode)
    assert found.nodes[0].state == "open"
    assert found.cursor is None


async def test_a_conversion_is_followed_and_retried(
    client: StorageClient, service: Service, storage_id: str
) -> None:
    script = service.script(f"{storage_id}.sh", "#!/bin/sh\nexit 3\n")
    async with client.events(f"conversion.failed/{storage_id}/") as failures:
        acq = await client.new_acq(storage_id, "a", "run", convert_script=script)
        await client.mark_as_finished(storage_id, acq.acq_id)
        await take(failures, 1)
        [conversion] = (await client.list_conversions(acq.acq_id)).conversions
        assert (conversion.state, conversion.exit_code, conversion.attempt) == ("failed", 3, 1)
        await client.retry_conversion(conversion.conversion_id)
        await take(failures, 1)
    assert (await client.get_conversion(conversion.conversion_id)).attempt == 2
    assert (await client.cancel_conversion(conversion.conversion_id)).state == "failed"


async def test_the_service_tells_about_itself(client: StorageClient, service: Service) -> None:
    described = await client.describe()
    assert described.events_endpoint == service.events
    assert described.limits["frames_per_message"] == 1024
    status = await client.get_status()
    assert status.journal.journal_id == described.journal_id
    assert (await client.replay_events(limit=1)).events[0].seq == status.journal.first_seq
    assert (await client.ping()).endswith("Z")


async def test_refusals_are_raised_as_what_they_are(client: StorageClient, storage_id: str) -> None:
    with pytest.raises(NotFoundError) as missing:
        await client.config_storage("nobody")
    assert missing.value.details["what"] == "storage"
    assert missing.value.details["id"] == "nobody"
    with pytest.raises(AlreadyExistsError):
        await client.init_storage(storage_id, storage_id, producers_count=7)
    with pytest.raises(InvalidNameError):
        await client.new_run(storage_id, "../escape")
    with pytest.raises(BadRequestError):
        await client.list_acqs(limit=0)
    with pytest.raises(UnknownCommandError) as unknown:
        await client.call_named("new_run_storag")
    assert unknown.value.details["closest"] == "new_run_storage"
    await client.new_acq(storage_id, "a", "run")
    with pytest.raises(WrongStateError):
        await client.inval_storage(storage_id)


async def test_a_key_of_the_callers_own_takes_effect_once(client: StorageClient, storage_id: str) -> None:
    command = NewRun(storage_id=storage_id, run_name="n{n}")
    key = f"mine-{storage_id}"
    first = await client.call(command, key=key)
    assert await client.call(command, key=key) == first
    with pytest.raises(ConflictError):
        await client.call(NewRun(storage_id=storage_id, run_name="m{n}"), key=key)


async def test_a_thousand_coroutines_set_a_thousand_parameters(client: StorageClient, storage_id: str) -> None:
    acq = await client.new_acq(storage_id, "a", "run")
    stored = await asyncio.gather(*(client.set_param_acq(storage_id, acq.acq_id, f"p{n}", n) for n in range(1000)))
    assert stored == [True] * 1000
    assert (await client.get_acq(acq.acq_id)).params == {f"p{n}": n for n in range(1000)}


async def test_producers_that_open_one_acquisition_share_it(client: StorageClient, storage_id: str) -> None:
    opened = asyncio.Barrier(2)

    async def produce(producer: str) -> str:
        async with client.acquisition(
            storage_id, acq_name="a", run_name="run", producer=producer, producers=["ecal", "hcal"]
        ) as block:
            await opened.wait()
            assert block.path is not None
            (block.path / f"{producer}.raw").write_bytes(b"data")
            block.summary["bytes"] = 4
        return block.acq.uid

    uids = await asyncio.gather(produce("ecal"), produce("hcal"))
    assert len(set(uids)) == 1
    acq = await client.get_acq(f"root/{storage_id}/run/a")
    assert (acq.state, acq.verdict, acq.segment) == ("finished", "complete", 1)
    assert {(mark.producer, mark.summary["bytes"]) for mark in acq.producers} == {("ecal", 4), ("hcal", 4)}


async def test_a_producer_that_fails_makes_the_acquisition_partial(client: StorageClient, storage_id: str) -> None:
    with pytest.raises(OSError, match="no beam"):
        async with client.acquisition(storage_id, acq_name="a", run_name="run", producer="ecal"):
            raise OSError("no beam")
    acq = await client.get_acq(f"root/{storage_id}/run/a")
    assert (acq.verdict, acq.failed) == ("partial", ("ecal",))
    assert acq.producers[0].summary == {"error": "OSError: no beam"}


async def test_the_events_of_a_storage_come_once_and_in_order(client: StorageClient, storage_id: str) -> None:
    seen: list[Event] = []
    async with client.events("acquisition.") as stream:
        for n in range(20):
            async with client.acquisition(storage_id, acq_name=f"a{n}", run_name="run") as block:
                await block.set_param("n", n)
        while [event.type for event in seen].count("acquisition.manifest_written") < 20:
            seen += [event for event in await take(stream, 1) if event.storage_id == storage_id]
    journal = (await client.replay_events(topics=["acquisition."], subject=f"root/{storage_id}")).events
    assert [event.seq for event in seen] == [event.seq for event in journal]
    finished = [event.data["acq_name"] for event in seen if event.type == "acquisition.finished"]
    assert finished == [f"a{n}" for n in range(20)]


async def test_a_command_that_meets_a_restart_takes_effect_once(own_service: Make) -> None:
    service = own_service()
    async with StorageClient(service.commands, timeout_s=0.5, deadline_s=60) as client:
        await open_storage(client, "s")
        runs = asyncio.gather(*(client.new_run("s", "r{n}") for _ in range(50)))
        await steps()  # they are on their way
        await asyncio.to_thread(service.restart)
        more = [await client.new_run("s", "r{n}") for _ in range(3)]
        assert {run.run_name for run in [*await runs, *more]} == {f"r{n}" for n in range(1, 54)}


async def test_events_go_on_after_a_restart(own_service: Make) -> None:
    service = own_service()
    async with (
        StorageClient(service.commands, timeout_s=0.5, deadline_s=60) as client,
        client.events() as stream,
    ):
        await open_storage(client, "s")
        await asyncio.to_thread(service.restart)
        await client.new_run("s", "again")
        last = (await client.get_status()).journal.last_seq
        assert [event.seq for event in await take(stream, last)] == list(range(1, last + 1))


async def test_a_client_that_came_before_the_service_finds_it(own_service: Make) -> None:
    service = own_service(start=False)
    async with StorageClient(service.commands, deadline_s=60) as client:
        stream = client.events(after_seq=0)
        first = asyncio.ensure_future(take(stream, 1))
        waiting = asyncio.ensure_future(open_storage(client, "s"))
        await steps()
        await asyncio.to_thread(service.start)
        await waiting
        assert (await first)[0].seq == 1
