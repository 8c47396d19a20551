"""Section 5: a command with a key takes effect at most once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]


def fresh() -> str:
    return str(uuid.uuid4())


def uuid7(unix_s: float) -> str:
    """A UUIDv7 of that time, in its form of 36 characters."""
    number = int(unix_s * 1000) << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & ((1 << 62) - 1)
    return str(uuid.UUID(int=number))


def test_a_repeat_gets_the_first_reply_and_does_nothing(storage: Storage) -> None:
    key = fresh()
    run = storage.run("r{n}", key=key)
    before = storage.wire.last_seq()
    assert storage.run("r{n}", key=key) == run
    assert storage.types(before) == []
    assert storage.run("r{n}", key=fresh())["run_name"] == "r2"
    assert storage.run("r{n}")["run_name"] == "r3"


def test_a_repeat_gets_the_first_reply_whatever_happened_since(storage: Storage) -> None:
    key = fresh()
    run = storage.run(key=key)
    storage.call("set_param_run_storage", run_name="run", param="x", value=1)
    assert storage.run(key=key) == run
    assert run["params"] == {}
    storage.run(mode="remove")
    assert storage.run(key=key) == run
    storage.call("deinit_storage", force=True)
    assert storage.run(key=key) == run


def test_a_repeat_has_its_own_id(wire: Wire, storage: Storage) -> None:
    frame = {"cmd": "register_producer_storage", "args": {"storage_id": storage.storage_id}, "key": fresh()}
    first = wire.ask(id="first", **frame)
    again = wire.ask(id="again", **frame)
    assert again == first | {"id": "again"}
    assert storage.call("get_storage")["producers_unnamed"] == 1


def test_a_repeat_may_come_on_another_connection(storage: Storage, other: Wire) -> None:
    key = fresh()
    run = storage.run("r{n}", key=key)
    assert other.call("new_run_storage", storage_id=storage.storage_id, run_name="r{n}", key=key) == run


def test_a_repeat_while_the_first_is_at_work_waits_for_it(storage: Storage, other: Wire) -> None:
    where = {"storage_id": storage.storage_id, "run_name": "r{n}"}
    for _ in range(10):
        key = fresh()
        asked = [(wire, wire.post("new_run_storage", **where, key=key)) for wire in (storage.wire, other) * 2]
        replies = [wire.collect(number) for wire, number in asked]
        assert replies == [replies[0]] * 4
    assert storage.run("r{n}")["run_name"] == "r11"


def test_a_repeat_within_one_message_is_a_repeat(wire: Wire, storage: Storage) -> None:
    args = {"storage_id": storage.storage_id, "run_name": "r{n}"}
    frame = msgpack.packb({"cmd": "new_run_storage", "args": args, "key": fresh()})
    replies = wire.exchange(frame, frame, frame)
    assert replies == [replies[0]] * 3
    assert replies[0]["result"]["run_name"] == "r1"


@pytest.mark.parametrize(
    "same",
    [
        {"run_name": "run", "params": {"a": 1, "b": 2}, "mode": "append"},
        {"params": {"b": 2, "a": 1}, "mode": None, "run_name": "run"},
        {"mode": "undef", "params": {"a": 1, "b": 2}, "run_name": "run"},
    ],
)
def test_arguments_are_the_same_once_defaults_are_filled_in(storage: Storage, same: dict[str, Any]) -> None:
    key = fresh()
    run = storage.call("new_run_storage", run_name="run", params={"a": 1, "b": 2}, key=key)
    before = storage.wire.last_seq()
    assert storage.call("new_run_storage", **same, key=key) == run
    assert storage.types(before) == []


@pytest.mark.parametrize(
    "other",
    [
        {"run_name": "other"},
        {"params": {"a": 2}},
        {"params": {"a": True}},
        {"params": {"a": "1"}},
        {"params": {}},
        {"mode": "remove"},
    ],
)
def test_other_arguments_with_the_same_key_are_a_conflict(storage: Storage, other: dict[str, Any]) -> None:
    key = fresh()
    args: dict[str, Any] = {"run_name": "run", "params": {"a": 1}}
    run = storage.call("new_run_storage", **args, key=key)
    before = storage.wire.last_seq()
    assert storage.refusal("new_run_storage", **args | other, key=key).code == "conflict"
    assert storage.types(before) == []
    assert storage.wire.call("get_run", run_id=run["run_id"]) == run


def test_another_command_or_storage_with_the_same_key_is_a_conflict(wire: Wire, plan: Plan) -> None:
    first, second = plan(wire).open(), plan(wire).open()
    key = fresh()
    first.call("register_producer_storage", producer="a", key=key)
    assert first.refusal("unregister_producer_storage", producer="a", key=key).code == "conflict"
    assert second.refusal("register_producer_storage", producer="a", key=key).code == "conflict"
    assert first.call("get_storage")["producers"] == ["a"]
    assert second.call("get_storage")["producers"] == []


def test_a_refusal_is_not_remembered(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    storage.call("init_storage", **storage.arguments)
    key = fresh()
    assert storage.refusal("new_run_storage", run_name="run", key=key).code == "wrong_state"
    storage.call("config_storage")
    assert storage.run(key=key)["run_name"] == "run"


def test_an_unnamed_mark_counts_once_for_each_key(storage: Storage) -> None:
    storage.run()
    acq = storage.acq(producers_count=3)
    first, second = fresh(), fresh()
    replies = [storage.mark(acq, key=key) for key in (first, second, first, second)]
    assert replies[:2] == replies[2:]
    there = storage.wire.call("get_acq", acq_id=acq["acq_id"])
    assert (there["finished"], there["state"]) == (2, "open")


def test_a_remove_is_not_done_twice(storage: Storage) -> None:
    storage.run()
    key = fresh()
    new = storage.run(mode="remove", key=key)
    before = storage.wire.last_seq()
    assert storage.run(mode="remove", key=key) == new
    assert storage.types(before) == []


@pytest.mark.parametrize("key", ["k", "x" * 64, "ü", "a b/c"])
def test_a_key_is_any_short_text(storage: Storage, key: str) -> None:
    key = (key + storage.storage_id)[-64:]
    assert storage.run("r{n}", key=key) == storage.run("r{n}", key=key)


@pytest.mark.parametrize("key", ["", "x" * 65, 5, b"key", ["k"]])
def test_a_key_of_another_shape_is_a_bad_request(wire: Wire, storage: Storage, key: Any) -> None:
    args = {"storage_id": storage.storage_id, "run_name": "run"}
    reply = wire.ask(cmd="new_run_storage", args=args, key=key)
    assert reply["error"]["code"] == "bad_request"
    assert reply["error"]["details"]["field"] == "key"
    assert wire.refusal("get_run", run_id=f"{storage.group}/run").code == "not_found"


@pytest.mark.parametrize("age_days", [0, 3, 6])
def test_a_key_that_is_a_uuid_of_these_days_is_taken(storage: Storage, age_days: int) -> None:
    key = uuid7(time.time() - age_days * 86_400)
    assert storage.run("r{n}", key=key) == storage.run("r{n}", key=key)
