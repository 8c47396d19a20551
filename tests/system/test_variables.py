"""Section 4.3: the built-in variable store."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from storage_client import StorageClient
from storage_client.errors import BadRequestError, NotFoundError
from tests.support.service import Service
from tests.support.wire import Event, Tail, Wire

Make = Callable[..., Service]

_numbers = itertools.count(1)


@pytest.fixture
def ns() -> str:
    """A namespace of the test's own."""
    return f"vars{next(_numbers)}"


def values(tail: Tail, ns: str) -> list[Any]:
    tail.pump()
    return [each.body["data"]["value"] for each in tail.seen if each.topic == f"variable/{ns}/"]


def test_a_variable_is_set_added_to_read_and_listed(wire: Wire, ns: str) -> None:
    assert wire.call("set_var", ns=ns, name="hv.state", value="on") == {"value": "on"}
    assert wire.call("add_var", ns=ns, name="hv.trips", delta=2) == {"value": 2}
    assert wire.call("add_var", ns=ns, name="hv.trips", delta=-0.5) == {"value": 1.5}
    assert wire.call("get_var", ns=ns, name="hv.trips") == {"value": 1.5}
    wire.call("set_var", ns=ns, name="temperature", value=None)
    assert wire.call("list_vars", ns=ns) == {"vars": {"hv.state": "on", "hv.trips": 1.5, "temperature": None}}
    assert wire.call("list_vars", ns=ns, prefix="hv.s") == {"vars": {"hv.state": "on"}}
    assert wire.call("set_var", ns=ns, name="nil", value="undef") == {"value": "undef"}


def test_the_namespace_is_default_unless_one_is_given(wire: Wire, ns: str) -> None:
    wire.call("set_var", name=ns, value=1)
    assert wire.call("get_var", ns="default", name=ns) == {"value": 1}
    assert wire.call("list_vars", prefix=ns) == {"vars": {ns: 1}}
    assert wire.refusal("get_var", ns=ns, name=ns).code == "not_found"


@pytest.mark.parametrize("ns", ["", "a/b", "a b", ".", "\u00e4", "x" * 65, "-a", "a\n"])
def test_a_namespace_is_part_of_a_topic_and_named_like_a_storage(wire: Wire, ns: str) -> None:
    refused = wire.refusal("set_var", ns=ns, name="x", value=1)
    assert (refused.code, refused.details) == ("invalid_name", {"field": "ns", "rule": "ns"})


@pytest.mark.parametrize(
    ("cmd", "args", "code", "field"),
    [
        ("set_var", {"name": "", "value": 1}, "invalid_name", "name"),
        ("set_var", {"name": "x" * 129, "value": 1}, "invalid_name", "name"),
        ("set_var", {"name": "x"}, "bad_request", "value"),
        ("set_var", {"name": "x", "value": [1]}, "bad_request", "value"),
        ("set_var", {"name": "x", "value": 2**63}, "bad_request", "value"),
        ("add_var", {"name": "x"}, "bad_request", "delta"),
        ("add_var", {"name": "x", "delta": "1"}, "bad_request", "delta"),
        ("add_var", {"name": "x", "delta": True}, "bad_request", "delta"),
        ("add_var", {"name": "x", "delta": 2**63}, "bad_request", "delta"),
        ("add_var", {"name": "x", "delta": None}, "bad_request", "delta"),
        ("list_vars", {"prefix": "x" * 129}, "bad_request", "prefix"),
        ("get_var", {"name": "x", "storage_id": "s"}, "bad_request", "storage_id"),
    ],
)
def test_what_is_not_allowed_is_refused_by_its_field(
    wire: Wire, cmd: str, args: dict[str, Any], code: str, field: str
) -> None:
    refused = wire.refusal(cmd, **args)
    assert (refused.code, refused.details["field"]) == (code, field)


def test_an_unknown_variable_is_not_found(wire: Wire, ns: str) -> None:
    refused = wire.refusal("get_var", ns=ns, name="none")
    assert (refused.code, refused.details) == ("not_found", {"what": "variable", "id": "none"})
    assert wire.call("list_vars", ns=ns) == {"vars": {}}


def test_text_and_an_int_that_is_full_cannot_be_added_to(wire: Wire, ns: str) -> None:
    wire.call("set_var", ns=ns, name="text", value="1")
    wire.call("set_var", ns=ns, name="full", value=2**63 - 1)
    assert wire.refusal("add_var", ns=ns, name="text", delta=1).code == "bad_request"
    assert wire.refusal("add_var", ns=ns, name="full", delta=1).code == "bad_request"
    assert wire.call("list_vars", ns=ns) == {"vars": {"full": 2**63 - 1, "text": "1"}}


def test_a_repeated_key_adds_once(wire: Wire, other: Wire, ns: str) -> None:
    key = str(uuid.uuid4())
    assert wire.call("add_var", ns=ns, name="n", delta=1, key=key) == {"value": 1}
    wire.call("add_var", ns=ns, name="n", delta=1)
    assert other.call("add_var", ns=ns, name="n", delta=1, key=key) == {"value": 1}
    assert other.call("get_var", ns=ns, name="n") == {"value": 2}
    assert wire.refusal("add_var", ns=ns, name="n", delta=2, key=key).code == "conflict"


def test_the_journal_does_not_know_of_variables(wire: Wire, ns: str) -> None:
    before = wire.last_seq()
    wire.call("set_var", ns=ns, name="x", value=1)
    wire.call("add_var", ns=ns, name="x", delta=1)
    assert [event for event in wire.journal(before) if event["type"].startswith("variable")] == []


def test_what_a_variable_becomes_is_told_without_a_number(wire: Wire, tail: Tail, ns: str) -> None:
    wire.call("set_var", ns=ns, name="x", value=1)
    told = tail.wait(lambda event: event.topic == f"variable/{ns}/")
    assert {name: told.body[name] for name in told.body if name != "time"} == {
        "v": 1, "seq": None, "prev_seq": None, "type": "variable", "storage_id": None, "subject": ns,
        "data": {"name": "x", "value": 1},
    }  # fmt: skip


def test_a_busy_variable_is_told_seldom_and_its_newest_value_always(wire: Wire, tail: Tail, ns: str) -> None:
    numbers = [wire.post("set_var", ns=ns, name="x", value=n) for n in range(2000)]
    for number in numbers:
        wire.collect(number)

    def newest(event: Event) -> bool:
        return event.topic == f"variable/{ns}/" and event.body["data"]["value"] == 1999

    tail.wait(newest)
    told = values(tail, ns)
    assert told == sorted(set(told))
    assert told[-1] == 1999
    assert len(told) < 1000


def test_the_newest_value_is_told_when_the_service_is_stopped(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire, service.tail("variable/", "service.heartbeat/") as tail:
        tail.settle()
        for n in range(30):
            wire.call("set_var", name="x", value=n)
        assert service.terminate() == 0
        tail.wait(lambda event: event.topic == "variable/default/" and event.body["data"]["value"] == 29)


def test_what_was_acknowledged_is_there_after_a_kill(own_service: Make) -> None:
    service = own_service()
    key = str(uuid.uuid4())
    with service.connect() as wire:
        wire.call("set_var", name="x", value=1.0)
        for _ in range(5):
            wire.call("add_var", ns="n", name="x", delta=3)
        wire.call("add_var", ns="n", name="x", delta=3, key=key)
    service.kill()
    service.start()
    with service.connect() as wire:
        assert wire.call("get_var", name="x") == {"value": 1.0}
        assert wire.call("add_var", ns="n", name="x", delta=3, key=key) == {"value": 18}
        assert wire.call("add_var", ns="n", name="x", delta=1) == {"value": 19}


def test_connections_that_add_at_once_lose_nothing(service: Service, ns: str) -> None:
    wires = [service.connect() for _ in range(4)]
    try:
        sent = [(wire, wire.post("add_var", ns=ns, name="n", delta=1)) for _ in range(250) for wire in wires]
        sums = [wire.collect(number)["value"] for wire, number in sent]
        assert sorted(sums) == list(range(1, 1001))
    finally:
        for wire in wires:
            wire.close()


def test_one_message_may_set_and_read(wire: Wire, ns: str) -> None:
    frames = [
        {"id": 1, "cmd": "set_var", "args": {"ns": ns, "name": "x", "value": 1}},
        {"id": 2, "cmd": "add_var", "args": {"ns": ns, "name": "x", "delta": 1}},
        {"id": 3, "cmd": "get_var", "args": {"ns": ns, "name": "x"}},
        {"id": 4, "cmd": "set_var", "args": {"ns": ns, "name": "x", "value": "last"}},
        {"id": 5, "cmd": "list_vars", "args": {"ns": ns}},
    ]
    replies = wire.exchange(*(msgpack.packb(each) for each in frames))
    assert [each["result"] for each in replies] == [
        {"value": 1}, {"value": 2}, {"value": 2}, {"value": "last"}, {"vars": {"x": "last"}},
    ]  # fmt: skip


async def test_the_client_has_a_method_for_each(service: Service, ns: str) -> None:
    async with StorageClient(service.commands) as client:
        events = client.events(f"variable/{ns}/")
        async with events:
            assert await client.set_var("hv", 1450, ns=ns) == 1450
            event = await anext(events)
        assert (event.seq, event.data) == (None, {"name": "hv", "value": 1450})
        assert await client.add_var("hv", 0.5, ns=ns) == 1450.5
        assert await client.get_var("hv", ns=ns) == 1450.5
        listed = await client.list_vars("h", ns=ns)
        assert (listed.vars, listed.more) == ({"hv": 1450.5}, False)
        with pytest.raises(NotFoundError):
            await client.get_var("none", ns=ns)
        await client.set_var("text", "a", ns=ns)
        with pytest.raises(BadRequestError):
            await client.add_var("text", 1, ns=ns)


def test_the_command_line_has_them_too(service: Service, ns: str) -> None:
    def call(*words: str) -> Any:
        command = [sys.executable, "-m", "storage_service", "call", *words, "--endpoint", service.commands]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)

    assert call("add_var", f"ns={ns}", "name=n", "delta=2") == {"value": 2}
    assert call("list_vars", f"ns={ns}") == {"vars": {"n": 2}}
