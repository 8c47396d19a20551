"""Modules of Pyrame: what is asked of them, and all that one may answer instead of an answer."""

from __future__ import annotations

import asyncio
import re
import socket
import threading

import pytest

from storage_protocol.names import Value
from storage_service.doors.sources import pyrame
from storage_service.doors.sources.cmod import Cmod
from storage_service.doors.sources.pyrame import REQUEST_BYTES, Module, Unsayable, parse_address, request
from storage_service.doors.sources.varmod import CONNECTIONS, Varmod, parse_value
from storage_service.rules.readings import Reading
from storage_service.rules.work import Fault
from tests.support.polling import until
from tests.support.pyrame import Flood, PyrameModule, Raw, Silence, answer, understood
from tests.support.traces import held, nothing_left

MOST = 1000

# What is asked


def test_a_request_is_what_real_modules_were_seen_to_take() -> None:
    line = b'<cmd name="getvar_varmod"><param>0</param><param>x</param></cmd>\n'
    assert request("getvar_varmod", "0", "x") == line


@pytest.mark.parametrize("text", ["a<b", "a&b", "a>b", "&amp;", "a'b", "\\a", "ä€", "a]]b", "]]", ">", "a b"])
def test_any_text_that_is_asked_for_arrives_as_it_is(text: str) -> None:
    assert understood(request("getvar_varmod", "0", text)) == ("getvar_varmod", ["0", text])


@pytest.mark.parametrize("text", ['a"b', "a\\", "a\nb", "a\tb", "\x7f", "\x9b", "a]]>b", "\ud800"], ids=ascii)
def test_what_a_module_would_not_survive_is_never_asked(text: str) -> None:
    with pytest.raises(Unsayable):
        request("getvar_varmod", "0", text)


def test_a_request_has_at_most_1024_bytes_with_its_newline() -> None:
    room = REQUEST_BYTES - len(request("getvar_varmod", "0", ""))
    assert len(request("getvar_varmod", "0", "x" * room)) == 1024
    with pytest.raises(Unsayable, match="1025 bytes"):
        request("getvar_varmod", "0", "x" * (room + 1))
    with pytest.raises(Unsayable, match="bytes"):
        request("getvar_varmod", "0", "ä" * (room // 2 + 1))


@pytest.mark.parametrize(
    "address", ["", "daq1", "daq1:", ":9001", "daq1:x", "daq1:0", "daq1:65536", "a\nb:1", "a:²"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(address)


def test_an_address_may_be_one_of_ipv6() -> None:
    assert parse_address("[::1]:9001") == ("::1", 9001)


@pytest.mark.parametrize("dialect", [1, 4])
def test_a_dialect_that_nobody_speaks_is_refused(dialect: int) -> None:
    with pytest.raises(ValueError, match="2 or 3"):
        Varmod("daq1:9001", dialect)


@pytest.mark.parametrize(("dialect", "params"), [(2, ["m", "x"]), (3, ["m", "n", "x"])])
async def test_each_dialect_has_its_parameters(dialect: int, params: list[str], module: PyrameModule) -> None:
    await Varmod(module.address, dialect, "m", "n").read("x")
    assert [understood(line) for line in module.requests] == [("getvar_varmod", params)]


# What is answered


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"42",
        b"]]>",
        b"a]]>b]]>]]>c",
        b"]]]]>>",
        b"<config>\n</res>\n</config>\n",
        b"]]></res>\n",
        b"<![CDATA[x]]>",
        b"<![CDATA[x]]><![CDATA[y]]>",
        b"\xff\0\r\n<not closed",
        b"]]",
        b"x" * MOST,
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
async def test_a_text_comes_out_as_it_was_put_in(text: bytes, piece: int, module: PyrameModule) -> None:
    module.say.append(Raw(answer(1, text), piece=piece))
    given = await Module("varmod", module.address, MOST).ask(request("x"))
    assert (given.done, given.text) == (True, text)


@pytest.mark.parametrize("text", [b"<a><![CDATA[x]]></a>", b"<a><![CDATA[x]]><![CDATA[y]]></a>", b"]]>]]>"])
async def test_a_text_that_was_never_split_is_taken_as_it_stands(text: bytes, module: PyrameModule) -> None:
    module.say.append(Raw(b'<res retcode="1"><![CDATA[' + text + b"]]></res>\n"))
    assert await Cmod(module.address).fetch({}) == text


async def test_sections_may_join_anywhere(module: PyrameModule) -> None:
    module.say.append(Raw(b'<res retcode="1"><![CDATA[ab]]><![CDATA[]]><![CDATA[cd]]></res>\n'))
    assert await Cmod(module.address).fetch({}) == b"abcd"


async def test_an_answer_without_a_text_is_an_empty_one(module: PyrameModule) -> None:
    module.say.append(Raw(b'<res retcode="1"></res>\n'))
    assert await Cmod(module.address).fetch({}) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\n",
        b"\0",
        b"<res>",
        b'<res retcode="1">42</res>\n',
        b'<res retcode="one"><![CDATA[42]]></res>\n',
        b'<res retcode=""><![CDATA[42]]></res>\n',
        b'<res retcode="1" more="2"><![CDATA[42]]></res>\n',
        b'<res retcode="' + b"1" * 100,
        b'\n<res retcode="1"><![CDATA[42]]></res>\n',
        b'<res retcode="1"><![CDATA[42]]></res>\n' * 2,
        b'<res retcode="7"><![CDATA[42]]></res>\n',
        b'<res retcode="-1"><![CDATA[42]]></res>\n',
    ],
)
async def test_garbage_is_told_at_once_in_one_sentence_with_the_address(data: bytes, module: PyrameModule) -> None:
    module.say.append(Raw(data))
    with pytest.raises(Fault) as caught:
        await Module("varmod", module.address, MOST).ask(request("x"))
    message = caught.value.message
    assert message.startswith(f"varmod at {module.address} ")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize(
    "data", [b"", b"<res ret", b'<res retcode="1"><![CDATA[42', b'<res retcode="1"><![CDATA[4]]></res>']
)
async def test_a_connection_that_is_cut_is_told(data: bytes, module: PyrameModule) -> None:
    module.say.append(Raw(data, cut=True))
    with pytest.raises(Fault, match=f"varmod at {re.escape(module.address)} hung up"):
        await Module("varmod", module.address, MOST).ask(request("x"))


@pytest.mark.parametrize("data", [b'<res retcode="1"><![CDATA[', answer(1, b"]]>" * 400)[:-10]])
async def test_an_answer_without_an_end_is_given_up_at_the_limit(data: bytes, module: PyrameModule) -> None:
    before = held()
    module.say.append(Flood(data))
    with pytest.raises(Fault, match=f"more than {MOST} bytes") as caught:
        await Module("varmod", module.address, MOST).ask(request("x"))
    assert caught.value.code == "too_large"
    await until(lambda: module.peers == 0)
    assert module.flooded < 32 << 20  # what the kernel holds for a connection
    await nothing_left(before)


async def test_one_byte_over_the_limit_is_too_much(module: PyrameModule) -> None:
    module.say.append(Raw(answer(1, b"x" * (MOST + 1))))
    with pytest.raises(Fault, match=f"more than {MOST} bytes"):
        await Module("varmod", module.address, MOST).ask(request("x"))


async def test_a_module_that_woke_up_is_asked_again(module: PyrameModule) -> None:
    module.variables["0", "x"] = b"42"
    module.say.extend([Raw(answer(2, b"woken up"))] * 2)
    assert await Varmod(module.address, 2).read("x") == Reading(value=42)
    assert len(module.requests) == 3
    assert module.all_peers == 1


async def test_a_module_that_wakes_up_for_ever_is_given_up(
    module: PyrameModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyrame, "AGAIN_S", (0.0,) * 5)
    module.say.extend([Raw(answer(2, b""))] * 100)
    with pytest.raises(Fault, match="again and again"):
        await Varmod(module.address, 2).read("x")
    assert len(module.requests) == 6


async def test_a_failure_of_varmod_is_a_missing_value_with_its_words(module: PyrameModule) -> None:
    reading = await Varmod(module.address, 2).read("x")
    assert reading == Reading(missing=f"varmod at {module.address} does not give 'x': 'no such variable'.")


async def test_a_value_that_is_no_text_is_a_fault(module: PyrameModule) -> None:
    module.variables["0", "x"] = b"\xff"
    with pytest.raises(Fault, match=f"varmod at {module.address} answers what is not UTF-8"):
        await Varmod(module.address, 2).read("x")


# Connections


async def test_many_names_share_a_few_connections_with_one_question_each(module: PyrameModule) -> None:
    module.variables = {("0", f"x{number}"): str(number).encode() for number in range(100)}
    source = Varmod(module.address, 2)
    readings = await asyncio.gather(*(source.read(f"x{number}") for number in range(100)))
    assert [reading.value for reading in readings] == list(range(100))
    assert module.most_peers == module.all_peers == CONNECTIONS
    assert module.died == ""
    await until(lambda: module.peers == 0)


async def test_one_that_hangs_keeps_the_others_of_its_source_going(module: PyrameModule) -> None:
    module.variables["0", "x"] = b"1"
    module.say.append(Silence())
    source = Varmod(module.address, 2)
    hangs = asyncio.ensure_future(source.read("x"))
    await until(lambda: module.requests)
    assert [each.value for each in await asyncio.gather(*(source.read("x") for _ in range(20)))] == [1] * 20
    hangs.cancel()
    await asyncio.wait([hangs])
    await until(lambda: module.peers == 0)


@pytest.mark.parametrize("data", [b"", b'<res retcode="1"><![CDATA[old'])
async def test_a_cancel_in_the_middle_drops_the_connection(data: bytes, module: PyrameModule) -> None:
    module.variables["0", "x"] = b"new"
    source = Varmod(module.address, 2)
    module.say.append(Silence(data))
    read = asyncio.ensure_future(source.read("x"))
    await until(lambda: module.requests)
    read.cancel()
    others = asyncio.gather(*(source.read("x") for _ in range(CONNECTIONS)))
    assert await others == [Reading(value="new")] * CONNECTIONS
    await until(lambda: module.peers == 0)


async def test_a_module_that_hangs_up_after_each_answer_is_asked_on_a_new_connection(module: PyrameModule) -> None:
    module.say.extend([Raw(answer(1, b"1"), cut=True)] * 20)
    source = Varmod(module.address, 2)
    readings = await asyncio.gather(*(source.read("x") for _ in range(20)))
    assert readings == [Reading(value=1)] * 20
    assert len(module.requests) == 20


async def test_a_host_is_found_by_its_name(module: PyrameModule) -> None:
    module.document = b"<a/>"
    assert await Cmod(f"localhost:{module.address.rpartition(':')[2]}").fetch({}) == b"<a/>"


async def test_a_host_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Fault, match=r"cmod at daq1:9001 cannot be reached: Name or service not known\.$"):
        await Cmod("daq1:9001").fetch({})


async def test_a_host_whose_name_cannot_be_one_is_told() -> None:
    with pytest.raises(Fault, match=r"cmod at daq\.\.1:9001 cannot be reached: "):
        await Cmod("daq..1:9001").fetch({})


async def test_a_look_up_that_hangs_is_told_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Event(), threading.Event()

    def hangs(*_: object, **__: object) -> list[object]:
        begun.set()
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    source = Cmod("daq1:9001")
    first = asyncio.ensure_future(source.fetch({}))
    await until(begun.is_set)
    first.cancel()
    await asyncio.wait([first])
    with pytest.raises(Fault, match="an earlier look-up of its name still hangs"):
        await source.fetch({})
    over.set()
    await until(lambda: not [each for each in threading.enumerate() if each.name == "host name"])
    with pytest.raises(Fault, match="it has no address"):
        await source.fetch({})


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808", "9223372036854775808"),
        ("007", "007"),
        ("+5", "+5"),
        ("1_000", "1_000"),
        (" 1", " 1"),
        ("1\n", "1\n"),
        ("٣", "٣"),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("1e999", "1e999"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1.5.2", "1.5.2"),
        ("1e", "1e"),
        (".", "."),
        ("", ""),
        ("0x10", "0x10"),
        ("1" * 5000, "1" * 5000),
        ("0." + "1" * 5000, "0." + "1" * 5000),
    ],
)
def test_a_value_is_the_number_that_its_text_is_exactly(text: str, value: Value) -> None:
    assert (parse_value(text), type(parse_value(text))) == (value, type(value))


# The stand-in dies of what real modules die of, or the tests above would prove nothing


@pytest.mark.parametrize(
    ("line", "death"),
    [
        (b'<cmd name="x"> <param>0</param></cmd>\n', "text between the tags"),
        (b'<cmd name="x"><param><![CDATA[a"b]]></param></cmd>\n', "run as code"),
        (b'<cmd name="x"><param>a\\</param></cmd>\n', "run as code"),
        (b'<cmd name="x"><param>' + b"a" * 1000 + b"</param></cmd>\n", "too long"),
        (b'<cmd name="x"></cmd>\n<cmd name="x"></cmd>\n', "two requests"),
        (b"hello\n", "no XML"),
    ],
)
async def test_a_module_dies_of_what_it_was_seen_to_die_of(line: bytes, death: str, module: PyrameModule) -> None:
    with pytest.raises(Fault, match="hung up"):
        await Module("varmod", module.address, MOST).ask(line)
    assert death in module.died


def test_a_module_loses_the_text_before_an_entity_or_a_section() -> None:
    assert understood(b'<cmd name="x"><param>a&amp;b</param></cmd>\n') == ("x", ["b"])
    assert understood(b'<cmd name="x"><param><![CDATA[a]]><![CDATA[b]]></param></cmd>\n') == ("x", ["b"])
