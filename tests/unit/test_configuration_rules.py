"""Configurations: what may be handed in under which name, and where the service's own may come from (SPEC 4.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from storage_protocol import commands as c
from storage_protocol.codec import decode_command, encode_command
from storage_protocol.configuration import DOCUMENT_BYTES
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.records import Document
from storage_service.config import ConfigError, ConfigSource, load
from storage_service.config_rules import config_source, storage_files
from storage_service.rules.configuration import is_own
from storage_service.rules.scope import Scope, scope_of
from tests.support.world import Outcome, World

OWN = [
    "run.json", "acquisition.json", "acquisition.log", "acquisition-2.log", "acquisition-13.log",
    "manifest-1.json", "manifest-1-conversion-2.json", "manifest.json", "conversion-1-1.log", "conversion.log",
]  # fmt: skip
OTHERS = [
    "config.xml", "acquisition-json", "acquisitionXlog", "acquisition.log.xml", "acquisition-a.log", "runXjson",
    "run-2.json", "manifest.xml", "manifests.json", "conversion.json", "a", "a.", "x-2.tar.gz",
]  # fmt: skip


def hand_in(world: World, content: bytes | None, name: str = "config.xml") -> Outcome:
    return world.do(c.SetConfig(storage_id="s", document=content, name=name))


def refusal(outcome: Outcome) -> Refusal:
    assert isinstance(outcome.reply, Refusal)
    assert outcome.events == []
    assert outcome.reply.message.endswith(".")
    return outcome.reply


# What is handed in


def test_what_is_handed_in_stands_in_the_storage_and_is_told() -> None:
    world = World().init()
    outcome = hand_in(world, b"<config/>", "daq.xml")
    digest = blake3(b"<config/>").hexdigest()
    assert (outcome.types, outcome.reply) == (["storage.config_set"], {"blake3": digest})
    assert world.storage().config == Document("daq.xml", digest, 9)


def test_the_same_again_makes_no_event_and_another_name_does() -> None:
    world = World().init()
    first = hand_in(world, b"one")
    again = hand_in(world, b"one")
    assert (again.types, again.reply) == ([], first.reply)
    assert hand_in(world, b"one", "other.xml").types == ["storage.config_set"]
    assert hand_in(world, b"two", "other.xml").types == ["storage.config_set"]


def test_nil_takes_back_what_is_there_and_nothing_where_nothing_is() -> None:
    world = World().init()
    assert (hand_in(world, None).types, hand_in(world, None).reply) == ([], {"blake3": None})
    hand_in(world, b"one")
    assert hand_in(world, None).types == ["storage.config_set"]
    assert world.storage().config is None
    assert hand_in(world, None).types == []


def test_an_empty_document_is_one() -> None:
    world = World().init()
    assert hand_in(world, b"").types == ["storage.config_set"]
    assert world.storage().config == Document("config.xml", blake3(b"").hexdigest(), 0)


def test_a_text_and_its_bytes_are_the_same_document() -> None:
    frames = [
        encode_command(1, c.SetConfig(storage_id="s", document=b"f\xc3\xbcr"), None),
        encode_command(1, c.SetConfig(storage_id="s", document=b"f\xc3\xbcr"), None).replace(
            b"\xc4\x04f\xc3\xbcr", b"\xa4f\xc3\xbcr"
        ),
    ]
    assert frames[0] != frames[1]
    told = [decode_command(frame, Limits()) for frame in frames]
    assert told[0].command == told[1].command == c.SetConfig(storage_id="s", document=b"f\xc3\xbcr")


@pytest.mark.parametrize("name", OWN)
def test_a_name_of_the_services_own_files_or_what_could_become_one_is_refused(name: str) -> None:
    told = refusal(hand_in(World().init(), b"x", name))
    assert (told.code, told.details["field"]) == ("invalid_name", "name")
    assert is_own(name)


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_taken(name: str) -> None:
    assert hand_in(World().init(), b"x", name).types == ["storage.config_set"]


def test_what_is_taken_back_needs_no_other_name_than_what_is_handed_in() -> None:
    assert refusal(hand_in(World().init(), None, "run.json")).code == "invalid_name"


def test_a_document_over_the_limit_is_too_large_and_one_at_it_is_not() -> None:
    world = World().init()
    assert hand_in(world, bytes(DOCUMENT_BYTES)).types == ["storage.config_set"]
    told = refusal(hand_in(world, bytes(DOCUMENT_BYTES + 1)))
    assert (told.code, told.details) == ("too_large", {"limit": "document_bytes", "maximum": DOCUMENT_BYTES})
    assert world.storage().config is not None
    assert world.storage().config.bytes == DOCUMENT_BYTES


def test_one_at_the_limit_fits_a_frame() -> None:
    command = c.SetConfig(storage_id="s" * 64, document=bytes(DOCUMENT_BYTES), name="n" * 128)
    assert len(encode_command(1 << 60, command, "k" * 36)) < Limits().frame_bytes


def test_of_a_storage_that_is_not_there_it_is_not_found() -> None:
    assert refusal(hand_in(World(), b"x")).code == "not_found"


@pytest.mark.parametrize("state", ["ready", "configured", "acquiring"])
def test_it_may_be_handed_in_in_every_state(state: str) -> None:
    world = World().init()
    if state != "ready":
        world.config()
    if state == "acquiring":
        world.run().acq()
    assert world.storage_state() == state
    assert hand_in(world, b"x").types == ["storage.config_set"]


def test_it_touches_the_storage_as_a_whole() -> None:
    world = World().init()
    assert scope_of(world.state, c.SetConfig(storage_id="s", document=None)) == Scope("s", whole=True)


def test_an_acquisition_keeps_what_was_handed_in_when_it_began_and_when_it_ended() -> None:
    world = World().init().config().run()
    hand_in(world, b"one")
    world.acq()
    hand_in(world, b"two")
    assert world.acquisition().config == Document("config.xml", blake3(b"one").hexdigest(), 3)
    world.close()
    hand_in(world, None)
    assert world.acquisition().config_end == Document("config.xml", blake3(b"two").hexdigest(), 3)


# Where the service's own comes from


@pytest.mark.parametrize(
    "given",
    [
        {"file": "setup.xml"},
        {"file": "/etc/daq.xml", "name": "daq.xml"},
        {"cmod": "daq1:9001"},
        {"cmod": "[::1]:65535", "name": "x"},
        {"program": ["/opt/daq/dump"]},
        {"program": ["dump", "--all"], "name": "dump.json"},
    ],
)
def test_a_source_is_one_of_three(given: dict[str, Any]) -> None:
    assert config_source(given) is None
    assert storage_files("a*", {"config": given}) is None


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("setup.xml", "must be a table with one of file, cmod and program"),
        ({}, "must be a table with one of"),
        ({"name": "x"}, "must be a table with one of"),
        ({"file": "a", "cmod": "b:1"}, "must be a table with one of"),
        ({"file": "a", "path": "b"}, "has no key 'path'; there are: file, cmod, program, name"),
        ({"file": ""}, "has a file that is no path"),
        ({"file": 3}, "has a file that is no path"),
        ({"file": "a\0"}, "has a file that is no path"),
        ({"cmod": "daq1"}, "has a cmod that is no HOST:PORT"),
        ({"cmod": ""}, "has a cmod that is no HOST:PORT"),
        ({"cmod": ":9001"}, "has a cmod that is no HOST:PORT"),
        ({"cmod": "daq1:0"}, "has a cmod that is no HOST:PORT"),
        ({"cmod": "daq1:65536"}, "has a cmod that is no HOST:PORT"),
        ({"cmod": "daq1:9001\n"}, "has a cmod that is no HOST:PORT"),
        ({"cmod": 9001}, "has a cmod that is no HOST:PORT"),
        ({"program": "dump"}, "has a program that is no list of texts"),
        ({"program": []}, "has a program that is no list of texts"),
        ({"program": [""]}, "has a program that is no list of texts"),
        ({"program": ["dump", 3]}, "has a program that is no list of texts"),
        ({"program": ["dump\0"]}, "has a program that is no list of texts"),
        ({"file": "a", "name": ""}, "has the name ''"),
        ({"file": "a", "name": "b/c"}, "has the name 'b/c', which must be that of a file without a folder"),
        ({"file": "a", "name": ".hidden"}, "has the name '.hidden'"),
        ({"file": "a", "name": 3}, "has the name 3"),
        *(({"file": "a", "name": name}, f"has the name {name!r}") for name in OWN),
    ],
)
def test_what_is_no_source_is_told_in_a_sentence(given: Any, wrong: str) -> None:
    said = config_source(given)
    assert said is not None
    assert said.startswith(wrong)
    told = storage_files("a*", {"config": given})
    assert told == f"its config {said}"


def test_the_first_table_that_fits_says_what_a_storage_has(tmp_path: Path) -> None:
    path = tmp_path / "storage.toml"
    path.write_text(
        '[storages."a1"]\nmanifest = "off"\n[storages."a*"]\nconfig = {file = "daq.xml"}\n'
        '[storages."*"]\nconfig = {program = ["dump"], name = "d.json"}\n'
    )
    config = load(path, {}, {})
    assert config.files_of("a1").config is None
    assert config.files_of("a2").config == ConfigSource(file=tmp_path / "daq.xml")
    assert config.files_of("b").config == ConfigSource(program=("dump",), name="d.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sources.timeout_s = 0", "sources.timeout_s is 0; it must be a number above 0 and at most 600."),
        ("sources.timeout_s = 601", "sources.timeout_s is 601; it must be a number above 0 and at most 600."),
        ("sources.settle_s = -1", "sources.settle_s is -1; it must be a number of at least 0 and at most 600."),
        ("sources.varmod = 'daq1'", "sources.varmod is 'daq1'; it must be HOST:PORT."),
        ("sources.varmod = 'daq1:99999'", "sources.varmod is 'daq1:99999'; it must be HOST:PORT."),
        (
            "sources.varmod_dialect = 4",
            "sources.varmod_dialect is 4; it must be an int of at least 2 and at most 3.",
        ),
        ("sources.cmod = 'daq1:1'", "sources.cmod is not a known key"),
        ("storages.'a*'.config = 3", "its config must be a table with one of file, cmod and program"),
        ("storages.'a*'.config = {file = 'x', name = 'run.json'}", "its config has the name 'run.json'"),
    ],
)
def test_a_wrong_key_of_sources_is_told(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "storage.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert expected in str(caught.value)


@pytest.mark.parametrize("address", ["", "daq1:1", "10.0.0.1:65535"])
def test_an_address_of_a_module_or_none_is_taken(tmp_path: Path, address: str) -> None:
    path = tmp_path / "storage.toml"
    path.write_text(f"sources.varmod = '{address}'")
    assert load(path, {}, {}).sources.varmod == address
