"""Everything that can be said is in SPEC.md and has golden bytes, which decode to what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

from storage_protocol import codec
from storage_protocol.codec import Rejected, Request
from storage_protocol.commands import COMMANDS
from storage_protocol.errors import CODES, FORBIDDEN
from storage_protocol.events import EVENTS, UNNUMBERED, decode_event, topic
from storage_protocol.limits import Limits

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "protocol/SPEC.md").read_text("utf-8")
SOURCES = [*ROOT.glob("storage_service/**/*.py"), *ROOT.glob("protocol/**/*.py")]


def vectors(name: str) -> list[dict[str, Any]]:
    text = (ROOT / f"protocol/vectors/{name}.json").read_text("utf-8")
    return list(json.loads(text, object_hook=bins)["vectors"])


def bins(value: dict[str, Any]) -> Any:
    """JSON has no bytes: a bin stands as a map with its hex."""
    return bytes.fromhex(value["bin"]) if list(value) == ["bin"] else value


COMMAND_VECTORS, REPLY_VECTORS = vectors("commands"), vectors("replies")
EVENT_VECTORS, REJECTED_VECTORS = vectors("events"), vectors("rejected")


def name_of(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("word", [*COMMANDS, *EVENTS, *UNNUMBERED, *CODES, *Limits.__struct_fields__])
def test_the_specification_names_it(word: str) -> None:
    assert f"`{word}`" in SPEC


@pytest.mark.parametrize("command", COMMANDS)
def test_the_specification_names_every_argument(command: str) -> None:
    for argument in COMMANDS[command].args:
        assert re.search(rf"`{argument}\b", SPEC), argument


def test_every_section_that_the_code_cites_is_there() -> None:
    sections = set(re.findall(r"^(?:#+ |\*\*)(\d+(?:\.\d+)*)", SPEC, re.M))
    cited = {
        (number, source.name)
        for source in SOURCES
        for number in re.findall(r"\bSPEC (\d+(?:\.\d+)*)", source.read_text("utf-8"))
    }
    assert cited
    assert {each for each in cited if each[0] not in sections} == set()


def test_every_section_has_a_number_of_its_own() -> None:
    numbers = re.findall(r"^(?:#+ |\*\*)(\d+(?:\.\d+)*)", SPEC, re.M)
    assert len(numbers) == len(set(numbers))


def test_everything_has_a_vector() -> None:
    assert [name_of(each) for each in COMMAND_VECTORS] == list(COMMANDS)
    assert {name_of(each) for each in EVENT_VECTORS} == {*EVENTS, *UNNUMBERED}
    # Nothing is forbidden to anybody in this version.
    assert {name_of(each) for each in REPLY_VECTORS if not each["message"]["ok"]} == set(CODES) - {FORBIDDEN}
    assert any(each["message"]["ok"] for each in REPLY_VECTORS)


@pytest.mark.parametrize("vector", COMMAND_VECTORS + REPLY_VECTORS + EVENT_VECTORS, ids=name_of)
def test_a_codec_that_knows_nothing_of_us_reads_the_vector(vector: dict[str, Any]) -> None:
    assert msgpack.unpackb(bytes.fromhex(vector["hex"])) == vector["message"]


@pytest.mark.parametrize("vector", COMMAND_VECTORS, ids=name_of)
def test_a_command_vector_is_the_command_and_nothing_else(vector: dict[str, Any]) -> None:
    frame, said = bytes.fromhex(vector["hex"]), vector["message"]
    request = codec.decode_command(frame, Limits())
    assert isinstance(request, Request)
    assert (request.command.CMD, request.id, request.key) == (vector["name"], said["id"], said.get("key"))
    assert codec.encode_command(request.id, request.command, request.key) == frame
    # What is said in other words of msgpack, by another codec, is the same command.
    again = codec.decode_command(msgpack.packb(dict(reversed(said.items()))), Limits())
    assert again == request


@pytest.mark.parametrize("vector", REPLY_VECTORS, ids=name_of)
def test_a_reply_vector_is_read_as_a_client_reads_it(vector: dict[str, Any]) -> None:
    reply, said = codec.decode_reply(bytes.fromhex(vector["hex"])), vector["message"]
    assert (reply.v, reply.id, reply.ok) == (1, said["id"], said["ok"])
    if reply.ok:
        assert reply.result == said["result"]
    else:
        assert reply.error is not None
        assert reply.error.code == vector["name"]
        assert reply.error.message.endswith((".", "?"))
        assert set(said["error"]) == {"code", "message", "details"}


@pytest.mark.parametrize("vector", EVENT_VECTORS, ids=name_of)
def test_an_event_vector_is_read_as_a_subscriber_reads_it(vector: dict[str, Any]) -> None:
    event, said = decode_event(bytes.fromhex(vector["hex"])), vector["message"]
    assert list(said) == ["v", "seq", "time", "type", "storage_id", "prev_seq", "subject", "data"]
    assert {name: getattr(event, name) for name in said} == said
    assert event.type == vector["name"]
    assert vector["topic"] == topic(event.type, event.subject if event.type == "variable" else event.storage_id)
    assert (event.seq is None) == (event.prev_seq is None) == (event.type in UNNUMBERED)


@pytest.mark.parametrize("vector", REJECTED_VECTORS, ids=name_of)
def test_a_frame_that_is_no_command_is_refused(vector: dict[str, Any]) -> None:
    read = codec.decode_command(bytes.fromhex(vector["hex"]), Limits())
    assert isinstance(read, Rejected)
    assert (read.id, read.refusal.code) == (vector["id"], vector["code"])
