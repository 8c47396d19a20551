"""A client with a spool and the real service: both are killed at any time, nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_client import Drained, Refused, Spooled, StorageClient, read_spool
from storage_protocol.records import Marked
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Wire

Make = Callable[..., Service]

# A producer that sets one parameter after the other, and says of each that it is done, or safe in the spool.
PRODUCER = """
import asyncio, pathlib, sys
from storage_client import Spooled, StorageClient

async def main(endpoint, spool, first):
    async with StorageClient(endpoint, timeout_s=0.3, spool=pathlib.Path(spool)) as client:
        n = int(first)
        while True:
            answers = await asyncio.gather(
                *(client.set_param_run("s", "run", f"p{k}", k) for k in range(n, n + 5))
            )
            for k, answer in enumerate(answers, n):
                print(k, "spooled" if isinstance(answer, Spooled) else "done", flush=True)
            n += 5

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def service(own_service: Make) -> Service:
    """A service of this test's own, with a configured storage `s` and its run `run`."""
    service = own_service()
    with service.connect() as wire:
        prepare(wire)
    return service


def prepare(wire: Wire) -> None:
    wire.call("init_storage", storage_id="s", brg_name="g", brg_path="g")
    wire.call("config_storage", storage_id="s")
    wire.call("new_run_storage", storage_id="s", run_name="run")


def spooling(service: Service, **more: Any) -> StorageClient[Spooled]:
    return StorageClient(service.commands, timeout_s=0.3, spool=service.folder / "spool.db", **more)


def params_set(service: Service) -> list[Any]:
    """The values of all parameters that the journal tells of, in its order."""
    found: list[Any] = []
    after, more = 0, True
    with service.connect() as wire:
        while more:
            page = wire.call("replay_events", after_seq=after, topics=["run.param_set/", "acquisition.param_set/"])
            found += [event["data"]["value"] for event in page["events"]]
            after = page["events"][-1]["seq"] if page["events"] else after
            more = page["more"]
    return found


def more_than(service: Service, count: int) -> None:
    """Wait until the journal tells of more parameters than that."""
    eventually(lambda: len(params_set(service)) > count)


async def test_what_is_set_while_the_service_is_away_happens_once_and_in_order(service: Service) -> None:
    async with spooling(service) as client:
        assert await client.set_param_run("s", "run", "p", 0) is True
        await asyncio.to_thread(service.kill)
        receipts = [await client.set_param_run("s", "run", "p", n) for n in range(1, 60)]
        assert all(isinstance(receipt, Spooled) for receipt in receipts)
        assert [each.args["value"] for each in await client.spooled()] == list(range(1, 60))
        await asyncio.to_thread(service.start)
        await client.drained()
        assert await client.set_param_run("s", "run", "p", 60) is True
    assert params_set(service) == list(range(61))


async def test_data_taking_goes_on_when_the_service_dies_in_the_middle_of_an_acquisition(service: Service) -> None:
    async with spooling(service) as client:
        async with client.acquisition("s", acq_name="a", run_name="run", producer="ecal") as block:
            assert block.path is not None
            (block.path / "ecal.raw").write_bytes(b"data")
            await asyncio.to_thread(service.kill)
            assert isinstance(await block.set_param("gain", 2), Spooled)
            block.summary["bytes"] = 4
        assert isinstance(block.marked, Spooled)
        assert (block.marked.args["uid"], block.marked.args["segment"]) == (block.acq.uid, 1)
        await asyncio.to_thread(service.start)
        await client.drained()
        acq = await client.get_acq(block.acq.acq_id)
        assert (acq.state, acq.verdict, acq.params) == ("finished", "complete", {"gain": 2})
        assert [mark.summary for mark in acq.producers] == [{"bytes": 4}]
        marked = await client.mark_as_finished("s", acq.acq_id, producer="ecal")
        assert isinstance(marked, Marked)
        assert not marked.counted


async def test_what_the_service_refuses_afterwards_is_kept_and_what_follows_is_done(service: Service) -> None:
    async with spooling(service) as client:
        answers = client.answers()
        await asyncio.to_thread(service.kill)
        await client.set_param_run("s", "nowhere", "p", 1)
        await client.set_param_run("s", "run", "p", 2)
        await asyncio.to_thread(service.start)
        await client.drained()
        told = [await anext(answers), await anext(answers)]
        assert [type(each) for each in told] == [Refused, Drained]
    async with spooling(service) as client:
        [refused] = await client.refused()
        assert refused == told[0]
        assert (refused.code, refused.details["id"]) == ("not_found", "root/g/nowhere")
    assert params_set(service) == [2]


async def test_a_service_that_dies_again_and_again_gets_everything_once(service: Service) -> None:
    done = asyncio.Event()

    async def produce(client: StorageClient[Spooled]) -> int:
        n, ended = 0, asyncio.ensure_future(done.wait())
        while not done.is_set():
            await asyncio.gather(*(client.set_param_run("s", "run", "p", k) for k in range(n, n + 10)))
            n += 10
            await asyncio.wait([ended], timeout=0.001)
        return n

    dice = random.Random(5)
    async with spooling(service) as client:
        producing = asyncio.create_task(produce(client))
        for _ in range(3):
            enough = len(params_set(service)) + dice.randrange(100)
            await asyncio.to_thread(more_than, service, enough)
            await asyncio.to_thread(service.restart)
        done.set()
        count = await producing
        await client.drained()
        assert await client.refused() == []
    assert params_set(service) == list(range(count))


@pytest.fixture
def produce(service: Service) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts the producer above; all are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(first: int) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", PRODUCER, service.commands, str(service.folder / "spool.db"), str(first)]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def killed_after(process: subprocess.Popen[str], words: int) -> list[int]:
    """`kill -9` after so many words of the producer; the numbers that it said were done or safe."""
    assert process.stdout
    said = [process.stdout.readline() for _ in range(words)]
    process.kill()
    said += process.stdout.read().splitlines()
    return [int(line.split()[0]) for line in said if len(line.split()) == 2]


async def test_a_killed_producer_has_lost_nothing_and_doubled_nothing(
    service: Service, produce: Callable[[int], subprocess.Popen[str]], tmp_path: Path
) -> None:
    dice = random.Random(7)
    promised: list[int] = []
    for life in range(6):
        process = produce(life * 10_000)
        promised += killed_after(process, dice.randrange(1, 40))
        process.wait(30)
        # The service is away in every other life, and comes back while the spool is not empty.
        if life % 2:
            service.start()
        else:
            service.kill()
    waiting, refused = read_spool(service.folder / "spool.db")
    assert refused == []
    async with spooling(service) as client:
        await client.drained()
        assert await client.spooled() == []
        assert await client.refused() == []
    happened = params_set(service)
    assert len(happened) == len(set(happened))
    assert set(promised) <= set(happened)
    # What was promised to one life came before what the next one asked.
    assert [n // 10_000 for n in happened] == sorted(n // 10_000 for n in happened)
    assert {each.args["value"] for each in waiting} <= set(happened)


async def test_the_shell_shows_what_waits_and_what_was_refused(service: Service) -> None:
    file = str(service.folder / "spool.db")

    def shell(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "storage_service", "spool", *words, file],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    async with spooling(service) as client:
        await asyncio.to_thread(service.kill)
        await client.set_param_run("s", "nowhere", "p", 1)
        shown = await asyncio.to_thread(shell, "list")
        assert "set_param_run_storage" in shown
        assert "nowhere  param=p value=1" in shown
        assert json.loads(await asyncio.to_thread(shell, "list", "--json"))["args"]["run_name"] == "nowhere"
        await asyncio.to_thread(service.start)
        await client.drained()
    assert await asyncio.to_thread(shell, "list") == ""
    assert "not_found: " in await asyncio.to_thread(shell, "refused")
    assert json.loads(await asyncio.to_thread(shell, "refused", "--json"))["code"] == "not_found"
