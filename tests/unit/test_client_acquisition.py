"""The acquisition block against a scripted service: what it opens and how it marks."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_client import AcquisitionBlock, BadRequestError, StorageClient, WrongStateError
from storage_protocol.records import Storage
from tests.support.polling import until
from tests.support.scripted import Refuse, ScriptedService, Silent, now_text

LOCATION = {"mp": "file:///", "path": "g/run/a", "local_path": "/data/g/run/a", "url": "file:///data/g/run/a"}
ACQ: dict[str, Any] = {
    "acq_id": "root/g/run/a",
    "uid": "uid-7",
    "acq_name": "a",
    "run_id": "root/g/run",
    "run_name": "run",
    "storage_id": "s1",
    "segment": 3,
    "state": "open",
    "sealed": False,
    "verdict": None,
    "expected": 1,
    "finished": 0,
    "producers": [],
    "missing": [],
    "failed": [],
    "convert_script": None,
    "conversion": None,
    "location": LOCATION,
    "params": {},
    "started_at": now_text(),
    "finished_at": None,
    "reason": "",
    "warnings": [],
}
MARKED = {
    "acq_id": "root/g/run/a",
    "uid": "uid-7",
    "segment": 3,
    "state": "finished",
    "finished": 1,
    "expected": 1,
    "missing": [],
    "counted": True,
}
MARK = "mark_as_finished_storage"
BEAT = "heartbeat_producer_storage"


def storage_with(timeout_s: float | None) -> dict[str, Any]:
    """A storage with this time-out of its producers; the rest of it does not matter."""
    names = ("storage_id", "state", "brg_name", "brg_mp", "brg_path", "brg_parent_id", "created_at")
    told: dict[str, Any] = dict.fromkeys(Storage.__struct_fields__) | dict.fromkeys(names, "s1")
    told |= {name: [] for name in ("stats_names", "producers", "open_acqs", "warnings")}
    told |= {"use_rundb": True, "producers_count": 1, "producers_unnamed": 0}
    return told | {"producer_timeout_s": timeout_s}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ScriptedService]:
    scripted = ScriptedService(tmp_path)
    scripted.answers["new_acq_storage"] = lambda frame: ACQ
    scripted.answers["set_param_acq_storage"] = lambda frame: {"stored": True}
    scripted.answers[MARK] = lambda frame: MARKED
    scripted.answers["get_storage"] = lambda frame: storage_with(None)
    yield scripted
    scripted.close()


def block(client: StorageClient, **more: Any) -> AcquisitionBlock:
    return client.acquisition("s1", acq_name="a", run_name="run", **more)


def mark(service: ScriptedService) -> dict[str, Any]:
    """The arguments of the one mark that was sent."""
    [frame] = service.frames(MARK)
    args: dict[str, Any] = frame["args"]
    return args


async def test_the_block_opens_the_acquisition_with_what_it_was_given(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        given = {"convert_script": "c.sh", "params": {"x": 1}, "producers": ["ecal"], "producers_count": 2}
        async with block(client, **given) as opened:
            assert opened.acq.uid == "uid-7"
            assert opened.path == Path("/data/g/run/a")
    [frame] = service.frames("new_acq_storage")
    assert frame["args"] == {"storage_id": "s1", "acq_name": "a", "run_name": "run"} | given


async def test_a_block_that_ends_well_marks_ok_with_its_summary(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        async with block(client, producer="ecal") as opened:
            assert await opened.set_param("gain", 2)
            opened.summary["events"] = 5
        assert opened.marked is not None
        assert opened.marked.counted
    same = {"storage_id": "s1", "acq_id": "root/g/run/a", "uid": "uid-7", "segment": 3}
    assert mark(service) == same | {"producer": "ecal", "summary": {"events": 5}}
    [frame] = service.frames("set_param_acq_storage")
    assert frame["args"] == same | {"param": "gain", "value": 2}


async def test_an_exception_marks_not_ok_with_its_text_and_goes_on(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        opened = block(client)
        opened.summary["events"] = 5
        with pytest.raises(OSError, match="no beam"):
            async with opened:
                raise OSError("no beam")
    assert mark(service)["ok"] is False
    assert mark(service)["summary"] == {"events": 5, "error": "OSError: no beam"}


async def test_a_long_error_in_a_full_summary_still_fits(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        opened = block(client)
        opened.summary.update({f"n{n}": n for n in range(40)})
        with pytest.raises(OSError, match="xxx"):
            async with opened:
                raise OSError("\udcff" + "x" * 100_000)
    summary = mark(service)["summary"]
    assert len(summary) == 32
    assert len(summary["error"]) == 1000


async def test_a_cancelled_block_is_marked_before_the_cancellation_goes_on(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        inside = asyncio.Event()

        async def take_data() -> None:
            async with block(client):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(take_data())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mark(service)["ok"] is False
        assert mark(service)["summary"] == {"error": "CancelledError: "}


async def test_a_block_cancelled_while_it_marks_waits_for_the_mark(service: ScriptedService) -> None:
    async with StorageClient(service.commands, timeout_s=0.2) as client:
        loop = asyncio.get_running_loop()
        marking = asyncio.Event()
        attempts = itertools.count(1)

        def late(frame: dict[str, Any]) -> Any:
            loop.call_soon_threadsafe(marking.set)
            if next(attempts) == 1:
                raise Silent
            return MARKED

        service.answers[MARK] = late
        opened = block(client)

        async def take_data() -> None:
            async with opened:
                pass

        task = asyncio.create_task(take_data())
        await marking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert opened.marked is not None


async def test_the_error_of_the_block_is_told_even_when_the_mark_fails(service: ScriptedService) -> None:
    def refuse(frame: dict[str, Any]) -> Any:
        raise Refuse("wrong_state")

    service.answers[MARK] = refuse
    async with StorageClient(service.commands) as client:
        with pytest.raises(OSError, match="no beam") as error:
            async with block(client):
                raise OSError("no beam")
        assert "wrong_state" in error.value.__notes__[0]
        with pytest.raises(WrongStateError):
            async with block(client):
                pass


async def test_a_summary_that_is_refused_does_not_lose_the_mark(service: ScriptedService) -> None:
    def judge(frame: dict[str, Any]) -> Any:
        if "events" in frame["args"]["summary"]:
            raise Refuse("bad_request", field="summary")
        return MARKED

    service.answers[MARK] = judge
    async with StorageClient(service.commands) as client:
        with pytest.raises(BadRequestError):
            async with block(client) as opened:
                opened.summary["events"] = 5
        assert opened.marked is not None
    assert "summary" in service.frames(MARK)[-1]["args"]["summary"]["error"]
    assert service.frames(MARK)[-1]["args"].get("ok", True) is True


async def test_a_block_that_cannot_open_does_not_begin(service: ScriptedService) -> None:
    def refuse(frame: dict[str, Any]) -> Any:
        raise Refuse("wrong_state")

    service.answers["new_acq_storage"] = refuse
    async with StorageClient(service.commands) as client:
        with pytest.raises(WrongStateError):
            async with block(client):
                raise AssertionError("it began")
    assert service.frames(MARK) == []


async def test_a_block_says_that_its_producer_is_alive_as_often_as_the_storage_asks(
    service: ScriptedService,
) -> None:
    service.answers["get_storage"] = lambda frame: storage_with(0.3)
    service.answers[BEAT] = lambda frame: {}
    async with StorageClient(service.commands) as client:
        async with block(client, producer="ecal"):
            await until(lambda: len(service.frames(BEAT)) >= 4)
        sent = len(service.frames(BEAT))
        assert service.frames(BEAT)[0]["args"] == {"storage_id": "s1", "producer": "ecal"}
        assert len(service.frames(MARK)) == 1
        # Once it has marked, it says nothing more.
        await client.ping()
        assert len(service.frames(BEAT)) in (sent, sent + 1)


def never(frame: dict[str, Any]) -> Any:
    raise Silent


async def test_a_sign_of_life_without_an_answer_is_followed_by_the_next(service: ScriptedService) -> None:
    service.answers["get_storage"] = lambda frame: storage_with(0.3)
    service.answers[BEAT] = never
    async with StorageClient(service.commands) as client, block(client, producer="ecal"):
        await until(lambda: len({frame["id"] for frame in service.frames(BEAT)}) >= 3)
    assert len(service.frames(MARK)) == 1


def unknown(frame: dict[str, Any]) -> Any:
    raise Refuse("not_found")


@pytest.mark.parametrize("answer", [lambda frame: storage_with(None), unknown])
async def test_a_block_is_quiet_where_nobody_asks_for_signs_of_life(service: ScriptedService, answer: Any) -> None:
    service.answers["get_storage"] = answer
    async with StorageClient(service.commands) as client, block(client, producer="ecal"):
        await until(lambda: service.frames("get_storage"))
        await client.ping()
    assert service.frames(BEAT) == []
