"""Every way in which a command frame is refused (SPEC 2), with the field to blame and its id echoed."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from storage_protocol import commands as c
from storage_protocol import errors
from storage_protocol.codec import Rejected, decode_command, encode_refusal, encode_refusals
from storage_protocol.limits import Limits
from tests.support.frames import LIMITS, accepted, frame, init, new_acq, refused, set_param

# fmt: off
MALFORMED = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "cut off": frame(cmd="ping")[:-1],
    "more behind it": frame(cmd="ping") + b"\x00",
    "an array": b"\x91\x01",
    "a number": b"\x07",
    "nil": b"\xc0",
    "a key twice": b"\x82\xa3cmd\xa4ping\xa3cmd\xa4ping",
    "a key twice inside": b"\x82\xa3cmd\xa4ping\xa1x\x82\xa1a\x01\xa1a\x02",
    "a key twice beside a float of 32 bits": (
        b"\x84\xa3cmd\xa4ping\xa1x\xca\x3f\x80\x00\x00\xa1y\xcc\x80\xa1y\xcc\x81"
    ),
    "a number as key": b"\x82\xa3cmd\xa4ping\x07\x07",
    "bytes as key": b"\x82\xa3cmd\xa4ping\xc4\x01x\x07",
    "nil as key": b"\x82\xa3cmd\xa4ping\xc0\x07",
    "an array as key": b"\x82\xa3cmd\xa4ping\x90\x07",
    "a map as key": b"\x82\xa3cmd\xa4ping\x80\x07",
    "a number as key inside": b"\x82\xa3cmd\xa4ping\xa1x\x81\x07\x07",
    "an extension": b"\x82\xa3cmd\xa4ping\xa1x\xd4\x05\x00",
    "an empty extension": b"\x82\xa3cmd\xa4ping\xa1x\xc7\x00\x05",
    "a time as extension": frame(cmd="ping", x=msgpack.Timestamp(1, 1)),
    "an empty time as extension": b"\x82\xa3cmd\xa4ping\xa1x\xc7\x00\xff",
    "not a number": frame(cmd="ping", x=float("nan")),
    "infinity": frame(cmd="ping", x=[[float("inf")]]),
    "minus infinity": frame(cmd="ping", x={"y": float("-inf")}),
    "no UTF-8": b"\x82\xa3cmd\xa4ping\xa1x\xa1\xff",
    "no UTF-8 as key": b"\x82\xa3cmd\xa4ping\xa1\xff\x01",
    "half a surrogate": b"\x82\xa3cmd\xa4ping\xa1x\xa3\xed\xa0\x80",
}
# fmt: on


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_a_bad_request(raw: bytes) -> None:
    refusal = refused(raw)
    assert (refusal.code, refusal.details) == ("bad_request", {})
    assert refusal.message.endswith(".")
    assert "('')" not in refusal.message


def test_who_sends_another_format_is_told_so() -> None:
    assert "is JSON; it must be one msgpack map" in refused(b'{"v": 1, "cmd": "ping"}').message
    assert "is not msgpack: it has the byte 0xc1" in refused(b"\xc1").message


@pytest.mark.parametrize(
    "raw", [*MALFORMED.values(), frame(cmd="ping"), frame(cmd="no", id="x", args=1), b"x" * 9]
)
def test_what_is_refused_unread_is_answered_with_the_id_that_reading_finds(raw: bytes) -> None:
    named = raw.replace(b"\xa3cmd\xa4ping", b"\xa2id\x07\xa3cmd\xa4ping")
    if named != raw:
        named = bytes([named[0] + 1]) + named[1:]
    refusal = errors.overloaded(1.0, "Try again.")
    for each in (raw, named):
        assert encode_refusals([each], refusal) == [encode_refusal(decode_command(each, LIMITS).id, refusal)]


# fmt: off
BLAMED = [
    ({"cmd": "ping", "id": 1.5}, "id"),
    ({"cmd": "ping", "id": True}, "id"),
    ({"cmd": "ping", "id": "x" * 129}, "id"),
    ({"cmd": "ping", "id": b"x"}, "id"),
    ({"cmd": "ping", "id": {}}, "id"),
    ({"cmd": "ping", "v": "1"}, "v"),
    ({"cmd": "ping", "v": 1.0}, "v"),
    ({"cmd": "ping", "v": True}, "v"),
    ({"cmd": "ping", "v": False}, "v"),
    ({"cmd": "ping", "v": [1]}, "v"),
    ({"id": 1}, "cmd"),
    ({"cmd": None}, "cmd"),
    ({"cmd": 7}, "cmd"),
    ({"cmd": b"ping"}, "cmd"),
    ({"cmd": ["ping"]}, "cmd"),
    ({"cmd": "ping", "args": []}, "args"),
    ({"cmd": "ping", "args": "x"}, "args"),
    ({"cmd": "ping", "args": 0}, "args"),
    ({"cmd": "ping", "args": {"x": 1}}, "x"),
    ({"cmd": "ping", "args": {"storage_id": None}}, "storage_id"),
    ({"cmd": "config_storage"}, "storage_id"),
    ({"cmd": "config_storage", "args": {"storage_id": None}}, "storage_id"),
    ({"cmd": "config_storage", "args": {"storage_id": 7}}, "storage_id"),
    ({"cmd": "config_storage", "args": {"storage_id": b"s"}}, "storage_id"),
    ({"cmd": "config_storage", "args": {"storage_id": "s", "Force": 1}}, "Force"),
    ({"cmd": "config_storage", "args": {"storage_id": "s"}, "key": ""}, "key"),
    ({"cmd": "config_storage", "args": {"storage_id": "s"}, "key": "x" * 65}, "key"),
    ({"cmd": "config_storage", "args": {"storage_id": "s"}, "key": 7}, "key"),
    ({"cmd": "list_acqs", "args": {"limit": 0}}, "limit"),
    ({"cmd": "list_acqs", "args": {"limit": 10_001}}, "limit"),
    ({"cmd": "list_acqs", "args": {"limit": 1.0}}, "limit"),
    ({"cmd": "list_acqs", "args": {"limit": True}}, "limit"),
    ({"cmd": "list_acqs", "args": {"limit": "1"}}, "limit"),
    ({"cmd": "list_acqs", "args": {"state": "closed"}}, "state"),
    ({"cmd": "list_acqs", "args": {"state": 1}}, "state"),
    ({"cmd": "replay_events", "args": {"after_seq": -1}}, "after_seq"),
    ({"cmd": "replay_events", "args": {"after_seq": 2**63}}, "after_seq"),
    ({"cmd": "replay_events", "args": {"topics": "acq"}}, "topics"),
    ({"cmd": "replay_events", "args": {"topics": [1]}}, "topics"),
    ({"cmd": "find_nodes", "args": {"since": "yesterday"}}, "since"),
    ({"cmd": "find_nodes", "args": {"since": 7}}, "since"),
    ({"cmd": "find_nodes", "args": {"until": "9999-12-31T23:59:59-23:00"}}, "until"),
    ({"cmd": "find_nodes", "args": {"until": "0001-01-01T00:00:00+23:00"}}, "until"),
    ({"cmd": "find_nodes", "args": {"where": []}}, "where"),
    ({"cmd": "find_nodes", "args": {"where": {"x": {"near": 1}}}}, "where"),
    ({"cmd": "find_nodes", "args": {"kind": "runs"}}, "kind"),
]
ARGUMENTS = [
    (init(use_rundb=2), "use_rundb"),
    (init(use_rundb=0.0), "use_rundb"),
    (init(use_rundb="true"), "use_rundb"),
    (init(producers_count=-1), "producers_count"),
    (init(producers_count=1.0), "producers_count"),
    (init(producers_count=True), "producers_count"),
    (init(stats_names=7), "stats_names"),
    (init(stats_names=[7]), "stats_names"),
    (init(elog_server=""), "elog_server"),
    (init(elog_server="main\n"), "elog_server"),
    (init(elog_server=7), "elog_server"),
    (init(elog_name=""), "elog_name"),
    (init(elog_name="a/b"), "elog_name"),
    (init(elog_name=".."), "elog_name"),
    (init(finish_timeout_s="5"), "finish_timeout_s"),
    (init(producer_timeout_s=-0.5), "producer_timeout_s"),
    (init(producer_timeout_s=1e9), "producer_timeout_s"),
    (init(producer_timeout_s=True), "producer_timeout_s"),
    (init(finish_timeout_s=0), "finish_timeout_s"),
    (set_param(value=[1]), "value"),
    (set_param(value={}), "value"),
    (set_param(value=b"raw"), "value"),
    (set_param(value=2**63), "value"),
    (set_param(segment=0), "segment"),
    (set_param(segment=2.0), "segment"),
    (new_acq(params={"x": []}), "params"),
    (new_acq(params={"x": 2**64 - 1}), "params"),
    (new_acq(params=[]), "params"),
    (new_acq(mode="replace"), "mode"),
    (new_acq(producers="p"), "producers"),
    (new_acq(producers=[None]), "producers"),
    (new_acq(producers_count=-1), "producers_count"),
    (new_acq(convert_script=7), "convert_script"),
    (frame(cmd="mark_as_finished_storage", args={"storage_id": "s", "ok": 1}), "ok"),
    (frame(cmd="mark_as_finished_storage", args={"storage_id": "s", "summary": {"x": []}}), "summary"),
    (frame(cmd="mark_as_finished_storage", args={"storage_id": "s", "summary": dict.fromkeys("abcdefghijklmnopqrstuvwxyzABCDEFG", 1)}), "summary"),  # noqa: E501
]
# fmt: on


@pytest.mark.parametrize(("envelope", "field"), BLAMED, ids=str)
def test_a_wrong_field_is_blamed(envelope: dict[str, Any], field: str) -> None:
    refusal = refused(frame(**envelope))
    assert (refusal.code, refusal.details) == ("bad_request", {"field": field})


@pytest.mark.parametrize(
    ("raw", "field"), ARGUMENTS, ids=[f"{n}-{field}" for n, (_, field) in enumerate(ARGUMENTS)]
)
def test_a_wrong_argument_is_blamed(raw: bytes, field: str) -> None:
    refusal = refused(raw)
    assert (refusal.code, refusal.details) == ("bad_request", {"field": field})


@pytest.mark.parametrize("version", [0, 2, -1, 2**64 - 1])
def test_another_version_is_not_spoken(version: int) -> None:
    refusal = refused(frame(cmd="ping", v=version))
    assert (refusal.code, refusal.details) == ("unsupported_version", {"supported": [1]})


@pytest.mark.parametrize(
    ("name", "closest"),
    [("pong", "ping"), ("init_store", "init_storage"), ("zzz", None), ("", None), ("x" * 9999, None)],
)
def test_an_unknown_command_is_told_the_closest_one(name: str, closest: str | None) -> None:
    refusal = refused(frame(cmd=name))
    assert (refusal.code, refusal.details) == ("unknown_command", {"closest": closest})


@pytest.mark.parametrize(
    ("raw", "field", "rule"),
    [
        (init(storage_id=".."), "storage_id", "storage_id"),
        (init(brg_name="a/b"), "brg_name", "segment"),
        (init(brg_path="/a"), "brg_path", "brg_path"),
        (init(brg_mp=""), "brg_mp", "mount_point"),
        (new_acq(acq_name="a/.."), "acq_name", "acq_name"),
        (new_acq(run_name="r{n}"), "run_name", "run_name"),
        (new_acq(producers=["p", "-"]), "producers", "producer"),
        (new_acq(params={" x": 1}), "params", "param"),
        (set_param(param=""), "param", "param"),
        (frame(cmd="new_run_storage", args={"storage_id": "s", "run_name": "r{m}"}), "run_name", "run_pattern"),
        (frame(cmd="find_nodes", args={"where": {"": 1}}), "where", "param"),
    ],
)
def test_a_name_that_is_not_allowed_is_invalid(raw: bytes, field: str, rule: str) -> None:
    refusal = refused(raw)
    assert (refusal.code, refusal.details) == ("invalid_name", {"field": field, "rule": rule})


# Limits


def nested(depth: int) -> bytes:
    """A command whose envelope holds arrays and maps down to this depth."""
    inner: Any = 1
    for level in range(depth - 1):
        inner = [inner] if level % 2 else {"x": inner}
    return frame(id=7, cmd="ping", deep=inner)


@pytest.mark.parametrize(
    ("raw", "limits", "limit"),
    [
        (frame(id=7, cmd="ping", pad="x" * 100), Limits(frame_bytes=100), "frame_bytes"),
        (nested(17), LIMITS, "depth"),
        (nested(500), LIMITS, "depth"),
        (nested(3), Limits(depth=2), "depth"),
        (frame(id=7, cmd="set_param_acq_storage", args={"storage_id": "s", "acq_id": "a", "param": "x", "value": "ä" * 5}), Limits(value_bytes=9), "value_bytes"),  # noqa: E501
        (frame(id=7, cmd="new_run_storage", args={"storage_id": "s", "run_name": "r", "params": {"x": 1, "y": 2, "z": 3}}), Limits(params=2), "params"),  # noqa: E501
        (frame(id=7, cmd="new_run_storage", args={"storage_id": "s", "run_name": "r", "params": {str(n): n for n in range(9)}}), Limits(params=2), "params"),  # noqa: E501
        (frame(id=7, cmd="new_run_storage", args={"storage_id": "s", "run_name": "r", "params": {"x": "x" * 30}}), Limits(params_bytes=30), "params_bytes"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_is_over_a_limit_is_too_large_and_keeps_its_id(raw: bytes, limits: Limits, limit: str) -> None:
    read = decode_command(raw, limits)
    assert isinstance(read, Rejected)
    assert (read.id, read.refusal.code, read.refusal.details["limit"]) == (7, "too_large", limit)


def test_what_is_at_a_limit_is_taken() -> None:
    assert accepted(nested(16)) == c.Ping()
    raw = frame(cmd="ping", pad="x" * 50)
    assert accepted(raw, Limits(frame_bytes=len(raw))) == c.Ping()
    run = {"storage_id": "s", "run_name": "r", "params": {"x": "ä" * 4, "y": 1}}
    limits = Limits(value_bytes=8, params=2, params_bytes=18)
    assert accepted(frame(cmd="new_run_storage", args=run), limits).params == run["params"]
    many = {f"p{number}": number for number in range(1024)}
    assert accepted(new_acq(params=many)).params == many


OPENINGS = [b"\x91", b"\x81\xa1x", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\xa1x"]
PLACES = [b"", b"\x81\xa2id", b"\x82\xa2id\x07\xa4args", b"\x81\xa3cmd", b"\x81\xa1v", b"\x82\xa3cmd\xa4ping\xa1x"]


@pytest.mark.parametrize("depth", [17, 300, 900, 980, 1000, 1020, 5000])
def test_no_nesting_is_too_deep_to_be_refused(depth: int) -> None:
    for place in PLACES:
        for opening in OPENINGS:
            assert refused(place + opening * depth + b"\xc0").code in ("too_large", "bad_request")


# The id of what is refused


@pytest.mark.parametrize("id", [7, "seven", 2**64 - 1])
@pytest.mark.parametrize(
    "envelope",
    [
        {"cmd": "ping", "v": 2},
        {"cmd": "none"},
        {"cmd": "ping", "x": float("nan")},
        {"cmd": "ping", "args": {"x": 1}},
    ],
    ids=str,
)
def test_the_id_is_echoed_wherever_it_can_be_read(id: int | str, envelope: dict[str, Any]) -> None:
    for raw in (frame(id=id, **envelope), frame(**envelope, id=id)):
        assert decode_command(raw, LIMITS).id == id


@pytest.mark.parametrize("rest", [b"\xa1x\xc1", b"\x07\x07", b"\xa1x\xd4\x05\x00", b"\xa1x\xa1\xff"])
def test_the_id_is_echoed_from_what_is_malformed_behind_it(rest: bytes) -> None:
    assert decode_command(b"\x83\xa2id\x07\xa3cmd\xa4ping" + rest, LIMITS).id == 7


@pytest.mark.parametrize("id", [1.5, True, "x" * 129, b"x", [1]])
def test_an_id_that_is_none_is_echoed_as_nil(id: Any) -> None:
    assert decode_command(frame(cmd="ping", id=id), LIMITS).id is None
