"""Section 2: limits of frames, messages, nesting, parameters and replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from tests.support.service import Service
from tests.support.wire import Storage, Wire, read_reply

MIB = 1024 * 1024
PING = msgpack.packb({"cmd": "ping"})


@pytest.fixture(autouse=True)
def _the_next_command_works(service: Service, wire: Wire) -> Iterator[None]:
    """Whatever a test sends, afterwards this connection and another one are served."""
    yield
    assert wire.call("ping")
    with service.connect() as another:
        assert another.call("ping")


def ping_of(size: int) -> bytes:
    """A ping whose frame has exactly so many bytes."""
    empty = len(msgpack.packb({"cmd": "ping", "pad": b"x" * 100_000})) - 100_000
    frame: bytes = msgpack.packb({"cmd": "ping", "pad": b"x" * (size - empty)})
    assert len(frame) == size
    return frame


def nested(levels: int) -> bytes:
    """A ping with so many levels of nesting, the envelope being the first."""
    value: list[Any] = []
    for _ in range(levels - 2):
        value = [value]
    return bytes(msgpack.packb({"cmd": "ping", "deep": value}))


def init(storage_id: str) -> bytes:
    """A command that would be seen if it ran."""
    args = {"storage_id": storage_id, "brg_name": storage_id}
    return bytes(msgpack.packb({"cmd": "init_storage", "id": "init", "args": args}))


def test_describe_tells_the_limits(wire: Wire) -> None:
    limits = wire.call("describe")["limits"]
    expected = {
        "frame_bytes": MIB,
        "message_bytes": 8 * MIB,
        "frames_per_message": 1024,
        "depth": 16,
        "value_bytes": 64 * 1024,
        "params": 1024,
        "params_bytes": 256 * 1024,
        "key_days": 7,
    }
    assert {name: limits[name] for name in expected} == expected


def test_a_frame_of_exactly_the_limit_is_taken(wire: Wire) -> None:
    assert wire.exchange(ping_of(MIB))[0]["ok"]


@pytest.mark.parametrize("size", [MIB + 1, 3_000_000, 8_000_000])
def test_a_frame_over_the_limit_is_refused_in_its_place(wire: Wire, size: int) -> None:
    replies = wire.exchange(PING, ping_of(size), PING)
    assert [reply["ok"] for reply in replies] == [True, False, True]
    assert replies[1]["error"]["code"] == "too_large"


def test_sixteen_levels_are_allowed_and_seventeen_are_refused_in_their_place(wire: Wire) -> None:
    replies = wire.exchange(PING, nested(16), nested(17), PING)
    assert [reply["ok"] for reply in replies] == [True, True, False, True]
    assert replies[2]["error"]["code"] == "too_large"


def test_fifty_thousand_levels_are_refused(wire: Wire) -> None:
    lists = b"\x82\xa3cmd\xa4ping\xa1x" + b"\x91" * 50_000 + b"\xc0"
    maps = b"\x82\xa3cmd\xa4ping\xa1x" + b"\x81\xa1a" * 50_000 + b"\xc0"
    assert [reply["error"]["code"] for reply in wire.exchange(lists, maps)] == ["too_large"] * 2


def test_a_bomb_of_list_headers_is_refused(wire: Wire) -> None:
    (reply,) = wire.exchange(b"\xdc\xff\xff" * 21_000)
    assert reply["error"]["code"] in {"bad_request", "too_large"}


def test_1024_frames_are_taken(wire: Wire) -> None:
    replies = wire.exchange(*[PING] * 1024)
    assert len(replies) == 1024
    assert all(reply["ok"] for reply in replies)


@pytest.mark.parametrize("count", [1025, 5000])
def test_a_message_of_too_many_frames_gets_one_refusal_and_none_of_it_runs(wire: Wire, count: int) -> None:
    replies = wire.exchange(init("too-many-frames"), *[PING] * (count - 1))
    assert len(replies) == 1
    assert replies[0]["error"]["code"] == "too_large"
    assert replies[0]["id"] is None
    assert wire.refusal("get_storage", storage_id="too-many-frames").code == "not_found"


def test_the_delimiter_comes_back_with_the_refusal_of_a_message(wire: Wire) -> None:
    wire.send_raw([b"", *[PING] * 1025])
    delimiter, *replies = wire.recv_raw()
    assert delimiter == b""
    assert [read_reply(frame)["error"]["code"] for frame in replies] == ["too_large"]


def test_the_delimiter_is_no_command_frame(wire: Wire) -> None:
    wire.send_raw([b"", *[PING] * 1024])
    assert len(wire.recv_raw()) == 1025


def test_a_message_below_eight_mebibytes_is_taken(wire: Wire) -> None:
    replies = wire.exchange(*[ping_of(1_000_000)] * 8)
    assert [reply["ok"] for reply in replies] == [True] * 8


def test_a_message_of_too_many_bytes_gets_one_refusal_and_none_of_it_runs(wire: Wire) -> None:
    replies = wire.exchange(init("too-many-bytes"), *[ping_of(1_000_000)] * 9)
    assert len(replies) == 1
    assert replies[0]["error"]["code"] == "too_large"
    assert replies[0]["id"] is None
    assert wire.refusal("get_storage", storage_id="too-many-bytes").code == "not_found"


def test_a_frame_over_eight_mebibytes_cuts_its_connection_and_harms_nobody_else(
    service: Service, wire: Wire
) -> None:
    with service.connect() as heavy:
        monitor = heavy.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            assert heavy.call("ping")
            heavy.send_raw([b"x" * (9 * MIB)])
            deadline = time.monotonic() + 20
            while not monitor.poll(50):
                assert wire.call("ping")
                assert time.monotonic() < deadline, "the connection was not cut"
            assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
        finally:
            heavy.socket.disable_monitor()
            monitor.close(0)


def test_the_largest_value_is_taken_and_a_larger_one_refused(storage: Storage) -> None:
    storage.run()
    storage.call("set_param_run_storage", run_name="run", param="x", value="ü" * 32 * 1024)
    refusal = storage.refusal("set_param_run_storage", run_name="run", param="x", value="ü" * 32 * 1024 + "a")
    assert refusal.code in {"too_large", "bad_request"}
    assert storage.run()["params"] == {"x": "ü" * 32 * 1024}


def test_a_run_takes_1024_parameters_and_no_more(storage: Storage) -> None:
    run = storage.run(params={f"p{n}": n for n in range(1024)})
    assert len(run["params"]) == 1024
    assert storage.call("set_param_run_storage", run_name="run", param="p5", value="again")["stored"]
    refusal = storage.refusal("set_param_run_storage", run_name="run", param="one_more", value=1)
    assert refusal.code == "too_large"
    params = storage.wire.call("get_run", run_id=run["run_id"])["params"]
    assert len(params) == 1024
    assert params["p5"] == "again"


def test_an_acquisition_takes_1024_parameters_and_no_more(storage: Storage) -> None:
    storage.run()
    refusal = storage.refusal(
        "new_acq_storage", run_name="run", acq_name="acq", params={f"p{n}": n for n in range(1025)}
    )
    assert refusal.code == "too_large"
    acq = storage.acq(params={f"p{n}": n for n in range(1024)})
    refusal = storage.refusal("set_param_acq_storage", acq_id=acq["acq_id"], param="one_more", value=1)
    assert refusal.code == "too_large"


def test_the_parameters_of_a_run_have_256_kibibytes_together(storage: Storage) -> None:
    run = storage.run(params={f"p{n}": "x" * 60_000 for n in range(4)})
    refusal = storage.refusal("set_param_run_storage", run_name="run", param="p4", value="x" * 60_000)
    assert refusal.code == "too_large"
    refusal = storage.refusal("new_run_storage", run_name="run", params={"p5": "x" * 60_000})
    assert refusal.code == "too_large"
    assert set(storage.wire.call("get_run", run_id=run["run_id"])["params"]) == {"p0", "p1", "p2", "p3"}


@pytest.mark.parametrize("limit", [0, -1, 10_001, 1.5, "5"])
@pytest.mark.parametrize("cmd", ["list_acqs", "list_nodes", "find_nodes", "list_conversions", "replay_events"])
def test_a_limit_is_1_to_10000(wire: Wire, cmd: str, limit: Any) -> None:
    refusal = wire.refusal(cmd, limit=limit)
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "limit")
    assert wire.call(cmd, limit=1)
    assert wire.call(cmd, limit=10_000)


def test_replies_are_cut_at_four_mebibytes(wire: Wire, plan: Callable[..., Storage]) -> None:
    storage = plan(wire).open()
    storage.run()
    heavy = {f"p{n}": "x" * 60_000 for n in range(4)}
    made = [storage.acq(f"acq{n}", params=heavy)["acq_id"] for n in range(20)]

    def pages(cmd: str, listed: str, key: str, **args: Any) -> list[str]:
        cursor, found, count = None, [], 0
        while True:
            args |= {"limit": 10_000, "cursor": cursor}
            wire.send_raw([msgpack.packb({"cmd": cmd, "args": args})])
            (frame,) = wire.recv_raw()
            assert len(frame) <= 4 * MIB
            result = read_reply(frame)["result"]
            found += [one[key] for one in result[listed]]
            count += 1
            if (cursor := result["cursor"]) is None:
                assert count > 1
                return found

    assert pages("list_acqs", "acqs", "acq_id", storage_id=storage.storage_id) == made[::-1]
    assert pages("list_nodes", "nodes", "id", parent_id=f"{storage.group}/run") == made
    assert pages("find_nodes", "nodes", "id", under=storage.group, kind="acq") == made[::-1]

    topic = f"acquisition.started/{storage.storage_id}/"
    first = wire.call("replay_events", topics=[topic], limit=10_000)
    assert first["more"]
    assert len(msgpack.packb(first)) <= 4 * MIB
    assert [event["subject"] for event in wire.journal(topics=[topic], limit=10_000)] == made


def test_nothing_in_all_this_was_a_defect(service: Service) -> None:
    assert "Traceback" not in service.log_text()
