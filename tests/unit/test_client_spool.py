"""The spool against a scripted service: what goes into it, in which order it comes out, and what becomes of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_client import (
    BadRequestError,
    ClientClosedError,
    Drained,
    InvalidNameError,
    Refused,
    ReplyTimeoutError,
    ServiceUnreachableError,
    Spooled,
    StorageClient,
    TooLargeError,
    WrongStateError,
    read_spool,
)
from storage_protocol.commands import DeinitStorage, SetParamAcq
from storage_protocol.keys import uuid7_ms
from tests.support.polling import steps, until
from tests.support.scripted import Refuse, ScriptedService, Silent

SET = "set_param_acq_storage"
Start = Callable[[], ScriptedService]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the service, always at the same place; it ends with the test."""
    started: list[ScriptedService] = []

    def make() -> ScriptedService:
        service = ScriptedService(tmp_path)
        service.answers[SET] = lambda frame: {"stored": True}
        service.answers["deinit_storage"] = lambda frame: {}
        started.append(service)
        return service

    yield make
    for service in started:
        service.close()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[StorageClient[Spooled]]:
    async with spooling(tmp_path) as client:
        yield client


def spooling(folder: Path, **more: Any) -> StorageClient[Spooled]:
    """A client with a spool that loses patience soon."""
    return StorageClient(
        f"ipc://{folder}/commands.ipc", timeout_s=0.2, spool=folder / "spool.db", **{"deadline_s": 30.0} | more
    )


async def put(client: StorageClient[Spooled], value: int, **more: Any) -> Any:
    """A command that changes something; its number is `value`."""
    return await client.call(SetParamAcq(storage_id="s1", acq_id="root/a", param="p", value=value), **more)


def asked(service: ScriptedService) -> list[int]:
    """The numbers of the commands that came, each key once, in the order of their first coming."""
    return list({frame["key"]: frame["args"]["value"] for frame in service.frames(SET)}.values())


def refuses(code: str, *values: int) -> Callable[[dict[str, Any]], Any]:
    """An answer that refuses the commands of these numbers."""

    def answer(frame: dict[str, Any]) -> Any:
        if frame["args"]["value"] in values:
            raise Refuse(code, what="acquisition")
        return {"stored": True}

    return answer


async def test_with_a_service_that_answers_a_spool_changes_nothing(
    client: StorageClient[Spooled], start: Start
) -> None:
    service = start()
    assert await client.set_param_acq("s1", "root/a", "p", 1) is True
    assert await client.spooled() == []
    service.answers[SET] = refuses("wrong_state", 2)
    with pytest.raises(WrongStateError):
        await put(client, 2)
    assert await client.refused() == []
    await client.drained()


async def test_a_command_that_gets_no_answer_waits_in_the_file(
    client: StorageClient[Spooled], tmp_path: Path
) -> None:
    spooled = await client.mark_as_finished("s1", "root/a", summary={"events": 7}, uid="u", segment=2)
    assert isinstance(spooled, Spooled)
    assert (spooled.id, spooled.cmd, spooled.since[-1]) == (1, "mark_as_finished_storage", "Z")
    assert spooled.args == {
        "storage_id": "s1",
        "acq_id": "root/a",
        "summary": {"events": 7},
        "uid": "u",
        "segment": 2,
    }
    assert uuid7_ms(spooled.key) is not None
    assert await client.spooled() == [spooled]
    assert read_spool(tmp_path / "spool.db") == ([spooled], [])


async def test_only_the_first_caller_waits_for_a_service_that_is_away(tmp_path: Path) -> None:
    async with spooling(tmp_path, deadline_s=None) as client:
        await put(client, 0)
        # Each of these would wait for a minute.
        receipts = [await put(client, n, timeout_s=60) for n in range(1, 50)]
    assert [receipt.id for receipt in receipts] == list(range(2, 51))


async def test_what_waits_is_asked_in_its_order_and_before_what_comes_later(
    client: StorageClient[Spooled], start: Start
) -> None:
    receipts = [await put(client, n) for n in range(250)]
    service = start()
    await client.drained()
    assert await put(client, 250) == {"stored": True}
    assert asked(service) == list(range(251))
    assert [frame["key"] for frame in service.frames(SET)][:250] == [receipt.key for receipt in receipts]
    assert await client.spooled() == []


async def test_a_command_that_meets_the_drain_waits_for_its_own_answer_behind_it(
    client: StorageClient[Spooled], start: Start
) -> None:
    for n in range(100):
        await put(client, n)
    service = start()
    await until(lambda: service.frames(SET))
    answers = [await put(client, n, timeout_s=20) for n in range(100, 110)]
    assert asked(service) == list(range(110))
    assert answers[-1] == {"stored": True}


async def test_commands_that_travel_together_go_into_the_spool_in_their_order(
    client: StorageClient[Spooled], start: Start
) -> None:
    receipts = await asyncio.gather(*(put(client, n) for n in range(500)))
    assert [receipt.args["value"] for receipt in sorted(receipts, key=lambda each: each.id)] == list(range(500))
    service = start()
    await client.drained()
    assert asked(service) == list(range(500))


async def test_one_without_an_answer_takes_those_behind_it_along(
    client: StorageClient[Spooled], start: Start
) -> None:
    service = start()
    await client.ping()
    service.answers[SET] = silent_once = SilentOnce()
    first = client.submit(SetParamAcq(storage_id="s1", acq_id="root/a", param="p", value=0))
    await until(lambda: silent_once.asked)
    patient = [client.submit(command(n), timeout_s=30) for n in range(1, 4)]
    results = await asyncio.gather(first, *patient)
    await client.drained()
    # It was in doubt, so it was asked again with its key; the others were answered, or asked again after it.
    assert asked(service) == [0, 1, 2, 3]
    assert len({frame["key"] for frame in service.frames(SET)}) == 4
    assert isinstance(results[0], Spooled)


def command(value: int) -> SetParamAcq:
    return SetParamAcq(storage_id="s1", acq_id="root/a", param="p", value=value)


class SilentOnce:
    """An answer that leaves the very first command without one."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, frame: dict[str, Any]) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise Silent
        return {"stored": True}


async def test_unavailable_and_overloaded_are_no_answers(client: StorageClient[Spooled], start: Start) -> None:
    service = start()
    codes = itertools.chain(["unavailable", "overloaded", "unavailable"], itertools.repeat(""))

    def recovers(frame: dict[str, Any]) -> Any:
        if code := next(codes):
            raise Refuse(code, retry_after_s=0.01, reason="disk")
        return {"stored": True}

    service.answers[SET] = recovers
    assert isinstance(await put(client, 0), Spooled)
    results = [await put(client, n) for n in range(1, 4)]
    await client.drained()
    assert asked(service) == [0, 1, 2, 3]
    assert len(results) == 3
    assert await client.refused() == []


async def test_what_is_refused_later_is_kept_and_told_and_the_drain_goes_on(
    client: StorageClient[Spooled], start: Start, tmp_path: Path
) -> None:
    answers = client.answers()
    receipts = [await put(client, n) for n in range(4)]
    service = start()
    service.answers[SET] = refuses("wrong_state", 1, 2)
    await client.drained()
    assert asked(service) == [0, 1, 2, 3]
    refused = await client.refused()
    assert [(each.id, each.args["value"], each.key) for each in refused] == [
        (2, 1, receipts[1].key),
        (3, 2, receipts[2].key),
    ]
    assert (refused[0].code, refused[0].message) == ("wrong_state", "The script says wrong_state.")
    assert refused[0].details == {"what": "acquisition"}
    assert refused[0].refused_at >= refused[0].since
    told = [await anext(answers) for _ in range(4)]
    assert [type(each) for each in told] == [Drained, Refused, Refused, Drained]
    assert told[0] == Drained(receipts[0], {"stored": True})
    assert read_spool(tmp_path / "spool.db") == ([], refused)
    assert await client.forget_refused(2)
    assert not await client.forget_refused(2)
    assert [each.id for each in await client.refused()] == [3]


async def test_a_refusal_whose_caller_still_waits_is_raised_and_not_kept(
    client: StorageClient[Spooled], start: Start
) -> None:
    for n in range(50):
        await put(client, n)
    service = start()
    service.answers[SET] = refuses("wrong_state", 50)
    await until(lambda: service.frames(SET))
    with pytest.raises(WrongStateError):
        await put(client, 50, timeout_s=30)
    await client.drained()
    assert await client.refused() == []


async def test_who_insists_gets_the_answer_after_what_waits(client: StorageClient[Spooled], start: Start) -> None:
    await put(client, 0)
    insisting = asyncio.ensure_future(client.waiting.set_param_acq("s1", "root/a", "p", 1))
    await steps()
    service = start()
    assert await insisting is True
    assert asked(service) == [0, 1]


async def test_who_insists_is_told_that_it_was_not_sent(client: StorageClient[Spooled], start: Start) -> None:
    with pytest.raises(ServiceUnreachableError):
        await put(client, 0, wait=True, deadline_s=0.3)
    assert await client.spooled() == []
    await put(client, 1)
    with pytest.raises(ReplyTimeoutError, match=r"1 wait in the spool .* not sent"):
        await put(client, 2, wait=True, deadline_s=0.3)
    service = start()
    await client.drained()
    assert 2 not in asked(service)


async def test_what_waits_outlives_its_client(tmp_path: Path, start: Start) -> None:
    async with spooling(tmp_path) as client:
        receipts = [await put(client, n) for n in range(3)]
    async with spooling(tmp_path) as client:
        assert await client.spooled() == receipts
        receipts.append(await put(client, 3))
        service = start()
        await client.drained()
    assert asked(service) == [0, 1, 2, 3]
    assert [frame["key"] for frame in service.frames(SET)] == [receipt.key for receipt in receipts]
    async with spooling(tmp_path) as client:
        assert await client.spooled() == []


async def test_what_has_no_answer_when_the_client_is_closed_is_spooled(tmp_path: Path, start: Start) -> None:
    service = start()

    def say_nothing(frame: dict[str, Any]) -> Any:
        raise Silent

    service.answers[SET] = say_nothing
    async with spooling(tmp_path) as client:
        waiting = [client.submit(command(n), timeout_s=60) for n in range(3)]
        await until(lambda: len(service.frames(SET)) == 3)
    receipts = [await each for each in waiting]
    keys = [frame["key"] for frame in service.frames(SET)]
    assert [receipt.key for receipt in receipts] == keys
    assert read_spool(tmp_path / "spool.db")[0] == receipts


async def test_what_would_be_refused_for_certain_is_not_spooled(client: StorageClient[Spooled]) -> None:
    await put(client, 0)
    with pytest.raises(InvalidNameError):
        await client.new_run("s1", "../escape")
    with pytest.raises(BadRequestError):
        await client.set_param_acq("s1", "root/a", "p", float("nan"))
    with pytest.raises(BadRequestError):
        await client.call_named(SET, {"storage_id": "s1", "parm": 1})
    with pytest.raises(TooLargeError):
        await client.set_param_acq("s1", "root/a", "p", "x" * 70_000)
    with pytest.raises(BadRequestError):
        await client.call_named(SET, {"storage_id": object()})
    assert len(await client.spooled()) == 1


async def test_what_changes_nothing_or_is_not_known_is_never_spooled(client: StorageClient[Spooled]) -> None:
    await put(client, 0)
    with pytest.raises(ServiceUnreachableError):
        await client.call_named("get_storage", {"storage_id": "s1"}, deadline_s=0.3)
    with pytest.raises(ReplyTimeoutError):
        await client.call_named("of_a_newer_service", deadline_s=0.3)
    assert len(await client.spooled()) == 1


async def test_a_key_of_the_callers_own_is_kept(client: StorageClient[Spooled], start: Start) -> None:
    receipt = await client.call(DeinitStorage(storage_id="s1"), key="mine")
    assert receipt.key == "mine"
    service = start()
    await client.drained()
    assert {frame["key"] for frame in service.frames("deinit_storage")} == {"mine"}


async def test_a_client_with_a_spool_begins_with_async_with_and_ends_with_close(tmp_path: Path) -> None:
    client = spooling(tmp_path)
    with pytest.raises(RuntimeError, match="async with"):
        await put(client, 0)
    before = asyncio.all_tasks()
    async with client:
        answers = client.answers()
        await put(client, 0)
        waiting = asyncio.ensure_future(client.drained())
        await steps()
    with pytest.raises(ClientClosedError):
        await waiting
    assert [answer async for answer in answers] == []
    with pytest.raises(ClientClosedError):
        await put(client, 1)
    assert asyncio.all_tasks() == before


async def test_a_client_without_a_spool_has_none_to_ask_about(tmp_path: Path) -> None:
    async with StorageClient(f"ipc://{tmp_path}/commands.ipc") as client:
        with pytest.raises(RuntimeError, match="no spool"):
            await client.spooled()
