"""Section 2: how command messages are framed and what a command frame may hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from tests.support.service import Service
from tests.support.wire import Storage, Wire, read_reply

PING = msgpack.packb({"cmd": "ping"})


@pytest.fixture(autouse=True)
def _the_next_command_works(service: Service, wire: Wire) -> Iterator[None]:
    """Whatever a test sends, afterwards this connection and another one are served."""
    yield
    assert wire.call("ping")
    with service.connect() as another:
        assert another.call("ping")


def refused(wire: Wire, frame: bytes, code: str) -> dict[str, Any]:
    """The reply to a frame that must be refused with a code."""
    replies = wire.exchange(frame)
    assert len(replies) == 1
    assert not replies[0]["ok"], replies
    assert replies[0]["error"]["code"] == code, replies
    return replies[0]


def test_a_message_without_a_delimiter_is_answered_without_one(wire: Wire) -> None:
    wire.send_raw([PING])
    frames = wire.recv_raw()
    assert len(frames) == 1
    assert read_reply(frames[0])["ok"]


def test_a_message_with_a_delimiter_is_answered_with_one(wire: Wire) -> None:
    wire.send_raw([b"", PING, PING])
    frames = wire.recv_raw()
    assert frames[0] == b""
    assert [read_reply(frame)["ok"] for frame in frames[1:]] == [True, True]


def test_a_req_socket_is_served(service: Service) -> None:
    with Wire(service.commands, kind=zmq.REQ) as wire:
        assert wire.call("ping")["time"]
        assert wire.call("ping")["time"]


def test_each_frame_gets_its_reply_in_its_place(wire: Wire) -> None:
    frames = [msgpack.packb({"id": n, "cmd": "ping" if n % 3 else "no_such_command"}) for n in range(50)]
    replies = wire.exchange(*frames)
    assert [reply["id"] for reply in replies] == list(range(50))
    assert [reply["ok"] for reply in replies] == [bool(n % 3) for n in range(50)]


@pytest.mark.parametrize("frames", [[b""], [b"", b""]])
def test_a_message_with_nothing_in_it_is_a_bad_request(wire: Wire, frames: list[bytes]) -> None:
    wire.send_raw(frames)
    delimiter, *replies = wire.recv_raw()
    assert delimiter == b""
    assert [read_reply(frame)["error"]["code"] for frame in replies] == ["bad_request"]
    assert read_reply(replies[0])["id"] is None


@pytest.mark.parametrize("identity", ["a", "ü" * 20, "x" * 128, 0, -5, 2**31, 2**53])
def test_the_id_is_echoed(wire: Wire, identity: str | int) -> None:
    assert wire.ask(id=identity, cmd="ping")["id"] == identity


def test_an_id_left_out_is_echoed_as_nil(wire: Wire) -> None:
    assert wire.ask(cmd="ping")["id"] is None
    assert wire.ask(id=None, cmd="ping")["id"] is None


@pytest.mark.parametrize("identity", ["x" * 129, 1.5, ["a"], {"a": 1}, b"abc"])
def test_an_id_of_another_shape_is_a_bad_request(wire: Wire, identity: Any) -> None:
    refused(wire, msgpack.packb({"id": identity, "cmd": "ping"}), "bad_request")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"cmd": "no_such_command"}, "unknown_command"),
        ({"cmd": "ping", "v": 2}, "unsupported_version"),
        ({"cmd": "ping", "args": {"colour": 1}}, "bad_request"),
        ({"cmd": "get_storage", "args": {"storage_id": "nobody"}}, "not_found"),
        ({"cmd": "get_storage", "args": {"storage_id": "no body"}}, "invalid_name"),
        ({"args": {}}, "bad_request"),
    ],
)
def test_a_refusal_echoes_the_id(wire: Wire, frame: dict[str, Any], code: str) -> None:
    reply = refused(wire, msgpack.packb(frame | {"id": "mine"}), code)
    assert reply["id"] == "mine"


def test_version_1_may_be_said_or_left_out(wire: Wire) -> None:
    assert wire.ask(cmd="ping", v=1)["ok"]
    assert wire.ask(cmd="ping", v=None)["ok"]
    assert wire.ask(cmd="ping")["ok"]


@pytest.mark.parametrize("version", [0, 2, -1, 1000])
def test_another_version_is_unsupported(wire: Wire, version: int) -> None:
    refused(wire, msgpack.packb({"v": version, "cmd": "ping"}), "unsupported_version")


def test_envelope_keys_that_are_nil_count_as_left_out(wire: Wire) -> None:
    assert wire.ask(v=None, id=None, cmd="ping", args=None, key=None)["ok"]
    storage_id = "never-made-by-a-nil-key"
    assert wire.ask(cmd="deinit_storage", args={"storage_id": storage_id}, key=None)["ok"]


@pytest.mark.parametrize("extra", [1, "text", [1, {"a": None}], {"cmd": "x"}, b"bytes"])
def test_unknown_envelope_keys_are_ignored(wire: Wire, extra: Any) -> None:
    assert wire.ask(cmd="ping", trace=extra)["ok"]


def test_a_key_on_a_command_that_changes_nothing_is_ignored(wire: Wire) -> None:
    assert wire.ask(cmd="ping", key="same")["ok"]
    assert wire.ask(cmd="get_status", key="same")["ok"]


def test_unknown_arguments_are_refused_by_name(wire: Wire) -> None:
    assert wire.refusal("ping", colour="red").details["field"] == "colour"
    refusal = wire.refusal("get_storage", storage_id="nobody", storage_ids="nobody")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "storage_ids")


def test_a_missing_argument_is_refused_by_name(wire: Wire) -> None:
    refusal = wire.refusal("get_storage")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "storage_id")


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], {"a": 1}, b"name"])
def test_a_mistyped_argument_is_refused_by_name(wire: Wire, value: Any) -> None:
    refusal = wire.refusal("get_storage", storage_id=value)
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "storage_id")


@pytest.mark.parametrize("args", [[], "ping", 5, [["a", 1]]])
def test_args_that_are_no_map_are_a_bad_request(wire: Wire, args: Any) -> None:
    refused(wire, msgpack.packb({"cmd": "ping", "args": args}), "bad_request")


@pytest.mark.parametrize("cmd", [None, 5, ["ping"], b"ping", True])
def test_a_command_that_is_no_text_is_a_bad_request(wire: Wire, cmd: Any) -> None:
    refused(wire, msgpack.packb({"cmd": cmd}), "bad_request")


@pytest.mark.parametrize(
    ("wrong", "closest"),
    [
        ("pnig", "ping"),
        ("new_run_storag", "new_run_storage"),
        ("get_aqc", "get_acq"),
        ("init_storge", "init_storage"),
    ],
)
def test_an_unknown_command_names_the_closest(wire: Wire, wrong: str, closest: str) -> None:
    refusal = wire.refusal(wrong)
    assert (refusal.code, refusal.details["closest"]) == ("unknown_command", closest)
    assert wrong in refusal.message


@pytest.mark.parametrize("wrong", ["", "é" * 10, "x" * 5000, "__class__", "PING", "ping\n"])
def test_a_strange_command_is_unknown(wire: Wire, wrong: str) -> None:
    closest = wire.refusal(wrong).details["closest"]
    assert closest is None or closest in wire.call("describe")["commands"]


NOT_ALLOWED = {
    "nothing": b"",
    "a list": msgpack.packb(["cmd", "ping"]),
    "a text": msgpack.packb("ping"),
    "nil": msgpack.packb(None),
    "a never used byte": b"\xc1",
    "half a map": PING[:-1],
    "a map and more": PING + b"\xc0",
    "two maps": PING + PING,
    "a repeated key": b"\x82\xa3cmd\xa4ping\xa3cmd\xa4ping",
    "a repeated unknown key": b"\x83\xa3cmd\xa4ping\xa1a\x01\xa1a\x01",
    "a repeated argument": b"\x82\xa3cmd\xabget_storage\xa4args\x82\xaastorage_id\xa1a\xaastorage_id\xa1a",
    "a number as key": msgpack.packb({"cmd": "ping", 1: 2}),
    "nil as key": msgpack.packb({"cmd": "ping", None: 2}),
    "bytes as key": msgpack.packb({"cmd": "ping", b"a": 2}),
    "a list as key": b"\x82\xa3cmd\xa4ping\x91\x01\x01",
    "an extension": msgpack.packb({"cmd": "ping", "a": msgpack.ExtType(5, b"xyz")}),
    "a timestamp": msgpack.packb({"cmd": "ping", "a": msgpack.Timestamp(1, 1)}),
    "a broken timestamp": b"\x82\xa3cmd\xa4ping\xa1a\xc7\x0c\xff\xff\xff\xff\xff" + b"\x7f" * 8,
    "not a number": msgpack.packb({"cmd": "ping", "a": float("nan")}),
    "infinity": msgpack.packb({"cmd": "ping", "a": float("inf")}),
    "minus infinity": msgpack.packb({"cmd": "ping", "args": {"a": [float("-inf")]}}),
    "a command that is not UTF-8": b"\x81\xa3cmd\xa2\xff\xfe",
    "a key that is not UTF-8": b"\x82\xa3cmd\xa4ping\xa2\xc3\x28\x01",
    "a surrogate": b"\x82\xa3cmd\xa4ping\xa1a\xa3\xed\xa0\x80",
    "a list of four milliards": b"\xdd\xff\xff\xff\xff",
    "a map of four milliards": b"\xdf\xff\xff\xff\xff",
    "a text of four gigabytes": b"\x81\xa3cmd\xdb\xff\xff\xff\xff",
}


@pytest.mark.parametrize("what", NOT_ALLOWED)
def test_what_msgpack_allows_and_the_page_does_not_is_a_bad_request(wire: Wire, what: str) -> None:
    replies = wire.exchange(PING, NOT_ALLOWED[what], PING)
    assert [reply["ok"] for reply in replies] == [True, False, True]
    assert replies[1]["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    "params",
    [
        b"\x82\xa1a\x01\xa1a\x02",
        msgpack.packb({1: 1}),
        msgpack.packb({"a": msgpack.ExtType(1, b"a")}),
        msgpack.packb({"a": float("nan")}),
        b"\x81\xa1a\xa1\xff",
    ],
)
def test_it_holds_deep_inside_the_arguments_too(wire: Wire, storage: Storage, params: bytes) -> None:
    args = {"storage_id": storage.storage_id, "run_name": "never", "params": None}
    frame = msgpack.packb({"cmd": "new_run_storage", "args": args})
    assert frame.endswith(b"\xc0")
    refused(wire, frame[:-1] + params, "bad_request")
    assert wire.refusal("get_run", run_id=f"{storage.group}/never").code == "not_found"


def test_random_bytes_are_refused_one_by_one(wire: Wire) -> None:
    chance = random.Random(20240607)
    for _ in range(60):
        frames = [chance.randbytes(chance.randrange(1, 200)) for _ in range(chance.randrange(1, 8))]
        replies = wire.exchange(*frames)
        assert len(replies) == len(frames)
        assert {reply["error"]["code"] for reply in replies} <= {"bad_request", "too_large"}


def test_damaged_commands_get_a_proper_reply_each(wire: Wire) -> None:
    chance = random.Random(17)
    whole = msgpack.packb({"v": 1, "id": "x", "cmd": "find_nodes", "args": {"where": {"a": {"in": [1, 2.5]}}}})
    for _ in range(60):
        frames = []
        for _ in range(20):
            damaged = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            frames.append(bytes(damaged))
        replies = wire.exchange(*frames)
        assert len(replies) == len(frames)
        assert all(reply["ok"] or reply["error"]["code"] != "internal" for reply in replies)


def test_commands_of_one_message_run_in_order(wire: Wire, storage: Storage) -> None:
    where = {"storage_id": storage.storage_id}
    frames = [msgpack.packb({"cmd": "new_run_storage", "args": where | {"run_name": "run"}})]
    for value in range(100):
        args = where | {"run_name": "run", "param": "x", "value": value}
        frames.append(msgpack.packb({"cmd": "set_param_run_storage", "args": args}))
    frames.append(msgpack.packb({"cmd": "get_run", "args": {"run_id": f"{storage.group}/run"}}))
    replies = wire.exchange(*frames)
    assert all(reply["ok"] for reply in replies)
    assert replies[-1]["result"]["params"] == {"x": 99}


def test_a_reply_reflects_all_that_was_sent_before_on_its_connection(wire: Wire, storage: Storage) -> None:
    storage.run()
    where = {"storage_id": storage.storage_id, "run_name": "run", "param": "x"}
    for round_ in range(20):
        for value in range(10):
            wire.post("set_param_run_storage", **where, value=value + 100 * round_)
        question = wire.post("get_run", run_id=f"{storage.group}/run")
        assert wire.collect(question)["params"] == {"x": 9 + 100 * round_}


def test_a_reply_reflects_what_was_acknowledged_on_another_connection(
    wire: Wire, other: Wire, storage: Storage
) -> None:
    run = storage.run()
    for value in range(30):
        storage.call("set_param_run_storage", run_name="run", param="x", value=value)
        assert other.call("get_run", run_id=run["run_id"])["params"]["x"] == value
        assert other.call("get_node", node_id=run["run_id"])["params"]["x"] == value


def test_one_failing_command_does_not_stop_the_others_of_its_message(wire: Wire, storage: Storage) -> None:
    where = {"storage_id": storage.storage_id}
    commands = [
        {"cmd": "new_run_storage", "args": where | {"run_name": "one"}},
        {"cmd": "new_run_storage", "args": where | {"run_name": "t w o"}},
        {"cmd": "new_run_storage", "args": where | {"run_name": "three"}},
    ]
    replies = wire.exchange(*map(msgpack.packb, commands))
    assert [reply["ok"] for reply in replies] == [True, False, True]
    assert wire.call("get_run", run_id=f"{storage.group}/three")
