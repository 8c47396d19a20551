"""Frames that nobody would send by hand: each is answered, in bounded memory. The long form is tests/fuzz."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_protocol import codec, names
from storage_protocol import commands as c
from storage_protocol.codec import Rejected, decode_command
from storage_protocol.commands import COMMANDS, Command
from storage_protocol.plain import Request
from storage_protocol.times import to_wire
from storage_service.desk.keyring import fingerprint
from tests.fuzz.verdict import LIMITS, MOST_BYTES, check, peak

# Arbitrary bytes and values

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    st.sampled_from(["undef", "ping", "init_storage", "s", "append", "root/g/r/a", 1, 0]),
)
keys = st.one_of(st.text(max_size=4), st.integers(-2, 2), st.binary(max_size=2), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(raw: bytes) -> None:
    check(raw)


@given(values)
def test_any_value_is_answered(value: Any) -> None:
    check(msgpack.packb(value))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("v", "id", "cmd", "args", "key", "x"), values)))
def test_any_envelope_is_answered(envelope: dict[str, Any]) -> None:
    check(msgpack.packb(envelope))


@settings(max_examples=600)
@given(st.data())
def test_any_arguments_of_any_command_are_answered(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    args = data.draw(st.dictionaries(st.sampled_from([*COMMANDS[name].args, "x"]), values))
    check(msgpack.packb({"id": 7, "cmd": name, "args": args, "key": data.draw(scalars)}))


# Commands, as a client sends them

token = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True).filter(lambda text: text != "undef")
segment = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,10}", fullmatch=True).filter(lambda text: text != "undef")
acq_name = st.lists(segment, min_size=1, max_size=8).map("/".join)
param = st.text(min_size=1, max_size=12).filter(lambda text: names.param(text) is None)
value = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
params = st.dictionaries(param, value, max_size=4)
text = st.text(max_size=20).filter(lambda text: text != "undef")
comparison = st.one_of(
    value,
    st.dictionaries(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), value, min_size=1),
    st.fixed_dictionaries({"in": st.lists(value, max_size=4)}),
    st.fixed_dictionaries({"like": text}),
)
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "storage_id": token,
    "producer": token,
    "list of producer": st.lists(token, max_size=3).map(tuple),
    "segment": segment,
    "run_name": segment,
    "run_name, may hold {n}": st.one_of(segment, segment.map(lambda text: text + "{n:03}")),
    "acq_name": acq_name,
    "brg_path": st.one_of(st.just(""), acq_name),
    "tree_path": st.one_of(st.just(""), acq_name),
    "ns": token,
    "int or float": st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)),
    "str of at most 128 characters": text,
    "str or bin of at most 983040 bytes, or nil": st.one_of(st.none(), st.binary(max_size=40)),
    "mount point": st.sampled_from(["file:///", "nfs://host/export"]),
    "param": param,
    "map of param to value": params,
    "map of at most 32 values": params,
    "value": value,
    "map of param to a value or a map of comparisons": st.dictionaries(param, comparison, max_size=3),
    "id": text,
    "str of at most 65536 characters": text,
    "bool, or 0 or 1": st.booleans(),
    "bool": st.booleans(),
    "list of str, or one comma-separated str": st.lists(text, max_size=3).map(tuple),
    "int >= 0": st.integers(0, 1_000_000),
    "seconds > 0": st.floats(0.001, 31_622_400),
    "int >= 1": st.integers(1, 2**63 - 1),
    "seconds, int or float >= 0": st.floats(0, 1e10, allow_nan=False),
    "int from 1 to 10000": st.integers(1, 10_000),
    "cursor of the page before": text,
    "RFC 3339 time": st.integers(0, 2**32).map(to_wire),
    '"append" or "remove"': st.sampled_from(["append", "remove"]),
    '"group", "run" or "acq"': st.sampled_from(["group", "run", "acq"]),
    '"open", "finished" or "aborted"': st.sampled_from(["open", "finished", "aborted"]),
    '"complete" or "partial"': st.sampled_from(["complete", "partial"]),
    '"queued", "running", "succeeded", "failed" or "cancelled"': st.sampled_from(["queued", "failed"]),
    "list of topic prefixes": st.lists(text, max_size=3).map(tuple),
    "str of 1 to 1024 printable characters": token,
    "str of 1 to 128 printable characters without /, not . or ..": token,
}


def argument(arg: Any) -> st.SearchStrategy[Any]:
    given = BY_TYPE[arg.type]
    return given if arg.required or arg.default is not None else st.one_of(st.none(), given)


def command_of(name: str) -> st.SearchStrategy[Command]:
    spec = COMMANDS[name]
    required = {each: argument(arg) for each, arg in spec.args.items() if arg.required}
    optional = {each: argument(arg) for each, arg in spec.args.items() if not arg.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda args: spec.command(**args))


commands = st.one_of([command_of(name) for name in sorted(COMMANDS)])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_arrives_as_it_was_sent(name: str) -> None:
    @settings(max_examples=40)
    @given(command_of(name), st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=9)))
    def arrives(command: Command, id: Any) -> None:
        mutating = command.MUTATING
        raw = codec.encode_command(id, command, "k")
        assert decode_command(raw, LIMITS) == Request(id, command, "k" if mutating else None, mutating)
        read = decode_command(raw, LIMITS)
        assert isinstance(read, Request)
        assert fingerprint(read.command) == fingerprint(command)

    arrives()


@settings(max_examples=600)
@given(commands, st.data())
def test_a_broken_command_is_answered(command: Command, data: st.DataObject) -> None:
    raw = bytearray(codec.encode_command(7, command, "k"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(at, min(len(raw), at + 4)))
        raw[at:end] = data.draw(st.binary(max_size=4))
    check(bytes(raw))


# Fingerprints


@given(commands, st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_does_not_matter(command: Command, random: Any) -> None:
    def shuffled(node: Any) -> Any:
        if isinstance(node, dict):
            items = [(key, shuffled(each)) for key, each in node.items()]
            random.shuffle(items)
            return dict(items)
        return [shuffled(each) for each in node] if isinstance(node, list) else node

    told = msgpack.unpackb(codec.encode_command(7, command))
    other = decode_command(msgpack.packb(shuffled(told)), LIMITS)
    assert isinstance(other, Request)
    assert fingerprint(other.command) == fingerprint(command)


@settings(max_examples=400)
@given(commands, commands)
def test_other_arguments_have_another_fingerprint(one: Command, other: Command) -> None:
    same = type(one) is type(other) and codec.encode_value(one) == codec.encode_value(other)
    if same or one != other:
        assert (fingerprint(one) == fingerprint(other)) == same


def test_the_fingerprint_fills_the_defaults_in_and_keeps_types_apart() -> None:
    plain = c.NewRun(storage_id="s", run_name="r")
    assert fingerprint(plain) == fingerprint(c.NewRun(storage_id="s", run_name="r", mode="append", params={}))
    kinds: list[Any] = [1, 1.0, True, "1", None, "", 0, False, 0.0]
    prints = {fingerprint(c.NewRun(storage_id="s", run_name="r", params={"x": each})) for each in kinds}
    assert len(prints) == len(kinds)
    assert fingerprint(c.GetRun(run_id="x")) != fingerprint(c.GetNode(node_id="x"))
    args: dict[str, Any] = {"storage_id": "s", "acq_id": "a"}
    assert fingerprint(c.CloseAcq(**args)) != fingerprint(c.AbortAcq(**args))


# Bombs: headers that promise more than the frame holds

SIZE = 64 << 10
HEADERS = {
    "array 32": b"\xdd\xff\xff\xff\xff",
    "array 16": b"\xdc\xff\xff",
    "array 16 of more than the most": b"\xdc\x04\x00",
    "array 16 of the most": b"\xdc\x01\x90",
    "array 15": b"\x9f",
    "map 32": b"\xdf\xff\xff\xff\xff\xa1x",
    "map 16": b"\xde\xff\xff\xa1x",
    "map 16 of the most": b"\xde\x04\x01\xa1x",
    "map 16 of as many as parameters": b"\xde\x04\x00\xa1x",
    "map 15": b"\x8f\xa1x",
    "map as key": b"\x8f",
    "text": b"\xdb\x00\x00\xff\xff",
    "bytes": b"\xc6\x00\x00\xff\xff",
    "extension": b"\xc9\x00\x00\xff\xff\x01",
}
PLACES = [b"", b"\x81\xa2id", b"\x82\xa2id\x07\xa4args", b"\x82\xa3cmd\xa4ping\xa1x"]


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_bomb_costs_no_memory(header: bytes) -> None:
    for place in PLACES:
        raw = (place + header * (SIZE // len(header) + 1))[:SIZE]
        assert isinstance(decode_command(raw, LIMITS), Rejected)
        assert peak([raw]) <= MOST_BYTES
