"""The client's connection against a scripted service: batches, repeats, time-outs, refusals."""

import asyncio
import inspect
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_client import (
    REFUSALS,
    BadRequestError,
    ClientClosedError,
    OverloadedError,
    RefusedError,
    ReplyTimeoutError,
    ServiceUnreachableError,
    StorageClient,
    TooLargeError,
    UnexpectedReplyError,
    WrongStateError,
)
from storage_protocol.commands import COMMANDS, ConfigStorage, DeinitStorage, Ping, SetParamAcq
from storage_protocol.errors import CODES
from storage_protocol.keys import uuid7_ms
from tests.support.polling import steps, until
from tests.support.scripted import Refuse, ScriptedService, Silent


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ScriptedService]:
    scripted = ScriptedService(tmp_path)
    scripted.answers["set_param_acq_storage"] = lambda frame: {"stored": True}
    scripted.answers["deinit_storage"] = lambda frame: {}
    yield scripted
    scripted.close()


class FirstOnly:
    """An answer that stays silent to the first attempts of each command."""

    def __init__(self, silent: int, result: Any) -> None:
        self.silent = silent
        self.result = result

    def __call__(self, frame: dict[str, Any]) -> Any:
        self.silent -= 1
        if self.silent >= 0:
            raise Silent
        return self.result


def free_tcp_endpoint() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_thousand_coroutines_share_a_few_messages(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        stored = await asyncio.gather(*(client.set_param_acq("s1", "root/a", "p", n) for n in range(1000)))
    assert stored == [True] * 1000
    frames = service.frames("set_param_acq_storage")
    assert [frame["args"]["value"] for frame in frames] == list(range(1000))
    assert len({frame["key"] for frame in frames}) == 1000
    assert len(service.messages) <= 3


async def test_a_message_has_half_the_frames_that_a_service_takes_by_default(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        await asyncio.gather(*(client.submit(Ping()) for _ in range(2500)))
    assert max(map(len, service.messages)) == 512
    assert sum(map(len, service.messages)) == 2500


async def test_no_message_has_more_bytes_than_a_service_takes_by_default(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        value = "x" * 60_000
        await asyncio.gather(*(client.set_param_acq("s1", "root/a", "p", value) for _ in range(300)))
    sizes = [sum(len(frame["args"].get("value", "")) for frame in message) for message in service.messages]
    assert sum(sizes) == 300 * 60_000
    assert max(sizes) <= 8 << 20


async def test_a_service_with_smaller_limits_gets_smaller_messages(service: ScriptedService) -> None:
    service.most_frames = 10
    async with StorageClient(service.commands) as client:
        stored = await asyncio.gather(*(client.set_param_acq("s1", "root/a", "p", n) for n in range(100)))
    assert stored == [True] * 100
    assert max(len(message) for message in service.messages[-10:]) == 10


async def test_a_mutating_command_without_an_answer_is_repeated_with_its_key(service: ScriptedService) -> None:
    service.answers["set_param_acq_storage"] = FirstOnly(2, {"stored": True})
    async with StorageClient(service.commands, timeout_s=0.2) as client:
        assert await client.set_param_acq("s1", "root/a", "p", 1)
    frames = service.frames("set_param_acq_storage")
    assert len(frames) == 3
    assert frames[0] == frames[1] == frames[2]
    assert uuid7_ms(frames[0]["key"]) is not None


async def test_a_connection_that_went_silent_is_replaced(service: ScriptedService) -> None:
    async with StorageClient(service.commands, timeout_s=0.2) as client:
        await client.ping()
        service.answers["ping"] = FirstOnly(1, service.answers["ping"]({}))
        await client.ping()
    assert service.peers[0] == service.peers[1] != service.peers[2]


async def test_a_connection_that_still_answers_others_is_kept(service: ScriptedService) -> None:
    service.answers["describe"] = FirstOnly(1, service.answers["describe"]({}))
    async with StorageClient(service.commands, timeout_s=0.3) as client:
        slow = client.submit(COMMANDS["describe"].command())
        while not slow.done():
            await client.ping()
        await slow
    assert len(service.frames("describe")) == 2
    assert len(set(service.peers)) == 1


async def test_two_answers_to_one_command_do_no_harm(service: ScriptedService) -> None:
    service.echoes = 2
    async with StorageClient(service.commands) as client:
        for n in range(3):
            assert await client.set_param_acq("s1", "root/a", "p", n)
        assert await client.ping()


async def test_keys_are_made_with_the_services_clock(service: ScriptedService) -> None:
    service.answers["ping"] = lambda frame: {"time": "2001-02-03T04:05:06.000000Z"}
    async with StorageClient(service.commands) as client:
        await client.deinit_storage("s1")
    [frame] = service.frames("deinit_storage")
    assert abs((uuid7_ms(frame["key"]) or 0) - 981_173_106_000) < 60_000


async def test_a_service_that_does_not_tell_its_time_gets_commands_all_the_same(service: ScriptedService) -> None:
    service.answers["ping"] = FirstOnly(10, None)
    async with StorageClient(service.commands) as client:
        await client.deinit_storage("s1")


async def test_a_key_of_the_callers_own_is_sent_as_it_is(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        command = SetParamAcq(storage_id="s1", acq_id="root/a", param="p", value=1)
        await client.call(command, key="mine")
    assert [frame["key"] for frame in service.frames("set_param_acq_storage")] == ["mine"]


async def test_only_mutating_commands_carry_a_key(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        await client.describe()
    assert "key" not in service.frames("describe")[0]


@pytest.mark.parametrize("code", [code for code in CODES if code != "overloaded"])
async def test_each_refusal_has_a_class_of_its_own(service: ScriptedService, code: str) -> None:
    def refuse(frame: dict[str, Any]) -> Any:
        raise Refuse(code, what="storage")

    service.answers["config_storage"] = refuse
    async with StorageClient(service.commands) as client:
        with pytest.raises(RefusedError) as refusal:
            await client.config_storage("s1")
    assert type(refusal.value) is REFUSALS[code]
    assert refusal.value.code == code
    assert refusal.value.message == f"The script says {code}."
    assert refusal.value.details == {"what": "storage"}
    assert len(service.frames("config_storage")) == 1


def test_there_is_a_class_for_every_code_and_no_other() -> None:
    assert set(REFUSALS) == set(CODES)
    assert REFUSALS["wrong_state"] is WrongStateError


async def test_a_code_of_a_newer_service_is_a_refusal_too(service: ScriptedService) -> None:
    def refuse(frame: dict[str, Any]) -> Any:
        raise Refuse("too_tired")

    service.answers["config_storage"] = refuse
    async with StorageClient(service.commands) as client:
        with pytest.raises(RefusedError) as refusal:
            await client.config_storage("s1")
    assert refusal.value.code == "too_tired"


async def test_an_overloaded_service_is_asked_again_with_the_same_key(service: ScriptedService) -> None:
    def refuse_first(frame: dict[str, Any]) -> Any:
        if len(service.frames("deinit_storage")) < 3:
            raise Refuse("overloaded", retry_after_s=0.05)
        return {}

    service.answers["deinit_storage"] = refuse_first
    async with StorageClient(service.commands) as client:
        await client.deinit_storage("s1")
    frames = service.frames("deinit_storage")
    assert len(frames) == 3
    assert len({frame["key"] for frame in frames}) == 1


async def test_overloaded_beyond_the_deadline_is_raised(service: ScriptedService) -> None:
    def refuse(frame: dict[str, Any]) -> Any:
        raise Refuse("overloaded", retry_after_s=7)

    service.answers["deinit_storage"] = refuse
    async with StorageClient(service.commands, deadline_s=5) as client:
        with pytest.raises(OverloadedError) as refusal:
            await client.deinit_storage("s1")
    assert refusal.value.retry_after_s == 7


async def test_a_service_that_is_not_there_is_said_to_be_unreachable() -> None:
    async with StorageClient(free_tcp_endpoint(), deadline_s=0.3) as client:
        with pytest.raises(ServiceUnreachableError):
            await client.ping()


async def test_no_answer_of_a_service_that_is_there_is_a_timeout(service: ScriptedService) -> None:
    service.answers["deinit_storage"] = FirstOnly(1000, None)
    async with StorageClient(service.commands, timeout_s=0.1, deadline_s=0.6) as client:
        with pytest.raises(ReplyTimeoutError) as timeout:
            await client.deinit_storage("s1")
    assert type(timeout.value) is ReplyTimeoutError
    assert timeout.value.details["key"] == service.frames("deinit_storage")[0]["key"]


async def test_an_endpoint_that_is_none_is_said_so() -> None:
    async with StorageClient("nowhere") as client:
        with pytest.raises(ServiceUnreachableError, match="nowhere"):
            await client.ping()


async def test_a_service_that_comes_later_is_found(tmp_path: Path) -> None:
    async with StorageClient(f"ipc://{tmp_path}/commands.ipc") as client:
        asked = client.submit(Ping())
        await steps()  # the command is on its way
        service = ScriptedService(tmp_path)
        try:
            await asked
        finally:
            service.close()


async def test_an_answer_that_nobody_waits_for_any_more_does_no_harm(service: ScriptedService) -> None:
    given_up_on = threading.Event()

    def late(frame: dict[str, Any]) -> Any:
        assert given_up_on.wait(60)
        return {}

    service.answers["deinit_storage"] = late
    async with StorageClient(service.commands) as client:
        given_up = client.submit(DeinitStorage(storage_id="s1"))
        await until(lambda: service.frames("deinit_storage"))
        given_up.cancel()
        given_up_on.set()
        await client.ping()
    assert given_up.cancelled()


async def test_what_cannot_be_sent_is_a_bad_request(service: ScriptedService) -> None:
    async with StorageClient(service.commands) as client:
        with pytest.raises(BadRequestError):
            await client.call_named("ping", {"x": object()})
        with pytest.raises(BadRequestError):
            await client.set_param_acq("s1", "root/a", "p", 1 << 70)
        with pytest.raises(TooLargeError):
            await client.set_param_acq("s1", "root/a", "p", "x" * (9 << 20))
        await client.ping()


async def test_an_answer_of_another_shape_is_an_unexpected_reply(service: ScriptedService) -> None:
    service.answers["config_storage"] = lambda frame: {"storage_id": 7}
    async with StorageClient(service.commands) as client:
        with pytest.raises(UnexpectedReplyError):
            await client.config_storage("s1")


async def test_a_closed_client_answers_nobody(service: ScriptedService) -> None:
    service.answers["config_storage"] = FirstOnly(1000, None)
    client = StorageClient(service.commands)
    waiting = asyncio.ensure_future(client.call(ConfigStorage(storage_id="s1")))
    await client.ping()
    await client.close()
    with pytest.raises(ClientClosedError):
        await waiting
    with pytest.raises(ClientClosedError):
        await client.ping()
    await client.close()


async def test_a_client_leaves_no_task_behind(service: ScriptedService) -> None:
    before = asyncio.all_tasks()
    async with StorageClient(service.commands) as client:
        await asyncio.gather(*(client.ping() for _ in range(10)))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_method_with_its_arguments_and_defaults(name: str) -> None:
    methods = dict(inspect.getmembers(StorageClient, inspect.iscoroutinefunction))
    method = methods.get(name) or methods[name.removesuffix("_storage")]
    parameters = list(inspect.signature(method).parameters.values())[1:]
    args = COMMANDS[name].args
    assert [parameter.name for parameter in parameters] == list(args)
    for parameter in parameters:
        arg = args[parameter.name]
        assert (parameter.default is parameter.empty) == arg.required
        if not arg.required:
            # A mutable default is None in Python.
            assert parameter.default == (None if arg.default == {} else arg.default)
