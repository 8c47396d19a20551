"""Command and reply frames (SPEC 2): their bytes, and what is taken. Refusals: see `test_codec_refusals`."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.codec import decode_command
from storage_protocol.errors import Refusal
from storage_protocol.plain import Request
from tests.support.frames import LIMITS, accepted, frame, init, new_acq, set_param

# Golden bytes


def test_the_bytes_of_a_command() -> None:
    assert decode_command(b"\x81\xa3cmd\xa4ping", LIMITS) == Request(None, c.Ping(), None, False)
    assert codec.encode_command(7, c.Ping()) == b"\x84\xa1v\x01\xa2id\x07\xa3cmd\xa4ping\xa4args\x80"
    assert codec.encode_command("i", c.ConfigStorage(storage_id="s"), "k") == (
        b"\x85\xa1v\x01\xa2id\xa1i\xa3cmd\xaeconfig_storage\xa4args\x81\xaastorage_id\xa1s\xa3key\xa1k"
    )


def test_the_bytes_of_a_reply() -> None:
    assert codec.encode_ok(7, {}) == b"\x84\xa1v\x01\xa2id\x07\xa2ok\xc3\xa6result\x80"
    assert codec.encode_ok_raw("i", b"\xc0") == b"\x84\xa1v\x01\xa2id\xa1i\xa2ok\xc3\xa6result\xc0"
    assert codec.encode_refusal(None, Refusal("internal", "m", {"incident": "x"})) == (
        b"\x84\xa1v\x01\xa2id\xc0\xa2ok\xc2\xa5error\x83\xa4code\xa8internal\xa7message\xa1m"
        b"\xa7details\x81\xa8incident\xa1x"
    )


def test_a_reply_is_read_as_it_was_written() -> None:
    assert codec.decode_reply(codec.encode_ok(7, {"a": [1, None]})) == codec.Reply(7, True, {"a": [1, None]})
    refusal = Refusal("conflict", "m")
    assert codec.decode_reply(codec.encode_refusal("i", refusal)) == codec.Reply("i", False, None, refusal)


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x90", b"\x84", b"\xa1\xff", b"\x81\xa2ok\x01", b"\x91" * 5000])
def test_what_is_no_reply_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a reply"):
        codec.decode_reply(raw)


# What is taken


def test_the_envelope_may_leave_out_all_but_the_command() -> None:
    full = frame(v=1, id="i", cmd="ping", args={}, key="k")
    assert decode_command(full, LIMITS) == Request("i", c.Ping(), None, False)
    nils = frame(v=None, id=None, cmd="ping", args=None, key=None)
    assert decode_command(nils, LIMITS) == decode_command(frame(cmd="ping"), LIMITS)


def test_unknown_keys_of_the_envelope_are_ignored() -> None:
    assert accepted(frame(cmd="ping", trace={"deep": [1]}, blob=b"x")) == c.Ping()


@pytest.mark.parametrize("id", [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, "", "x" * 128, "ä" * 128])
def test_an_id_is_an_int_or_a_short_text(id: int | str) -> None:
    assert decode_command(frame(cmd="ping", id=id), LIMITS) == Request(id, c.Ping(), None, False)


@pytest.mark.parametrize("key", ["k", "x" * 64, "ä" * 64])
def test_a_key_belongs_to_commands_that_mutate(key: str) -> None:
    args = {"storage_id": "s"}
    read = decode_command(frame(cmd="config_storage", args=args, key=key), LIMITS)
    assert isinstance(read, Request)
    assert (read.key, read.mutating) == (key, True)
    for ignored in (key, "", 7, "x" * 65):
        assert decode_command(frame(cmd="ping", key=ignored), LIMITS) == Request(None, c.Ping(), None, False)


@pytest.mark.parametrize("nothing", [None, "undef"])
def test_nil_and_undef_mean_not_given(nothing: str | None) -> None:
    optional = {
        name: nothing for name in c.COMMANDS["init_storage"].args if name not in ("storage_id", "brg_name")
    }
    assert accepted(init(**optional)) == c.InitStorage(storage_id="s", brg_name="g")
    assert accepted(new_acq(convert_script=nothing, params=nothing)) == accepted(new_acq())


@pytest.mark.parametrize("value", ["undef", None, "", 0, False, 0.5])
def test_nil_and_undef_are_values_of_a_parameter(value: Any) -> None:
    assert accepted(set_param(value=value)).value == value
    assert accepted(new_acq(params={"x": value})).params == {"x": value}


@pytest.mark.parametrize(("given", "flag"), [(True, True), (False, False), (1, True), (0, False)])
def test_a_flag_may_be_zero_or_one(given: Any, flag: bool) -> None:
    assert accepted(init(use_rundb=given)).use_rundb is flag


@pytest.mark.parametrize("given", ["a,b", " a , b ", "a,,b,", ["a", "b"]])
def test_names_may_be_one_text_with_commas(given: Any) -> None:
    assert accepted(init(stats_names=given)).stats_names == ("a", "b")


def test_a_time_is_brought_into_one_form() -> None:
    found = accepted(frame(cmd="find_nodes", args={"since": "2026-01-31T13:00:00+01:00"}))
    assert found.since == "2026-01-31T12:00:00.000000Z"
