"""The door to ELOG, against a stand-in and real servers of it: what is accepted, found, edited, refused."""

from __future__ import annotations

import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from storage_service.config_logbooks import LogbookServer
from storage_service.doors.elog import Elog
from storage_service.doors.logbook import bring_in
from storage_service.rules.logbook_work import ENTRY, LOGBOOK, SERVER, Attachment, Content, Draft
from storage_service.rules.work import Fault
from tests.support.elog_places import ATTRIBUTES, PLACES, ElogPlace, why_not
from tests.support.elog_server import Book, ElogServer

# What glibc's crypt makes of these with the salt "$5$$".
SECRET = "o1w7HPzHt8gHmL5zUzDkRqt6Az.BjDfkvuDNNLWnXx5"


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ElogPlace]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    with PLACES[request.param](tmp_path) as found:  # type: ignore[attr-defined]
        yield found


@pytest.fixture
def elogd() -> Iterator[ElogServer]:
    with ElogServer() as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key, and a certificate that nobody else has signed."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=elog".split()
    subprocess.run([program, *made, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return key, cert


def door_to(server: ElogServer, **more: Any) -> Elog:
    return door(LogbookServer(server.url, **{"attributes": ATTRIBUTES, "timeout_s": 10, **more}))


def door(given: LogbookServer) -> Elog:
    made = Elog("main", given)
    made.prepare()
    return made


def draft(key: str = "", text: str = "text", title: str = "title", *attachments: Attachment) -> Draft:
    return Draft(key or f"key-{secrets.token_hex(8)}", title, text, attachments)


async def fault_of(doing: Any) -> tuple[str, str]:
    """What a fault concerns, and its sentence."""
    with pytest.raises(Fault) as caught:
        await doing
    assert caught.value.code == "unavailable"
    return caught.value.details["concerns"], caught.value.message


# On every server


async def test_an_entry_is_read_back_as_it_was_written(place: ElogPlace) -> None:
    given = draft("", "Grüße\n  indented, 25 °C\n\nlast line", "A run: größer", Attachment("a.json", b'{"x": 1}'))
    number = await door(place.given).write(place.name, given, None, None)
    entry = place.entry(number)
    told = {name: entry.head[name] for name in ("Author", "Type", "Subject", "Key", "Encoding")}
    assert told == {
        "Author": "test", "Type": "Run", "Subject": "A run: größer", "Key": given.key, "Encoding": "plain",
    }  # fmt: skip
    assert entry.text.rstrip() == given.text
    assert entry.head["Attachment"].endswith("a.json")


async def test_an_entry_is_found_by_exactly_its_key(place: ElogPlace) -> None:
    elog, key = door(place.given), f"key-{secrets.token_hex(8)}"
    for other in (f"{key}-1", f"a-{key}"):
        await elog.write(place.name, draft(other), None, None)
    assert await elog.find(place.name, key) is None
    number = await elog.write(place.name, draft(key), None, None)
    assert await elog.find(place.name, key) == number


async def test_an_edit_changes_the_entry_and_makes_no_other(place: ElogPlace) -> None:
    elog, given = door(place.given), draft()
    number = await elog.write(place.name, given, None, None)
    assert await elog.write(place.name, replace(given, text="new", title="other"), number, None) == number
    entry = place.entry(number)
    assert (entry.text.rstrip(), entry.head["Subject"], entry.head["Key"]) == ("new", "other", given.key)
    assert await elog.find(place.name, given.key) == number


async def test_a_reply_names_its_entry(place: ElogPlace) -> None:
    elog = door(place.given)
    number = await elog.write(place.name, draft(), None, None)
    reply = await elog.write(place.name, draft(), None, number)
    assert place.entry(reply).head["In reply to"] == str(number)


async def test_no_text_and_no_title_can_be_taken_for_another_entry(place: ElogPlace) -> None:
    elog, line = door(place.given), "=" * 40
    hostile = f"$@MID@$: 1\nKey: other\n{line}\n\r\n$@MID@$: 2\r$@MID@$: 3\x00\x1b[2J\n{line}\nend"
    given = draft("", hostile, "a\n$@MID@$: 4\r\nKey: other")
    before = await elog.write(place.name, draft(), None, None)
    number = await elog.write(place.name, given, None, None)
    after = await elog.write(place.name, draft(), None, None)
    assert [before, number, after] == list(range(before, before + 3))
    entry = place.entry(number)
    assert (entry.number, entry.head["Key"]) == (number, given.key)
    assert entry.text.rstrip().endswith("end")
    assert entry.head["Subject"] == "a $@MID@$: 4 Key: other"
    assert await elog.find(place.name, given.key) == number


async def test_what_is_too_long_is_cut_and_says_so(place: ElogPlace) -> None:
    elog = door(place.given)
    number = await elog.write(place.name, draft("", "é\n" * 200_000, "ü" * 2000), None, None)
    entry = place.entry(number)
    assert "too long for the logbook" in entry.text[-100:]
    assert len(entry.text.encode()) <= 250_000
    assert entry.head["Subject"].endswith("ü ...")


async def test_a_logbook_that_is_not_there_is_named(place: ElogPlace) -> None:
    elog = door(place.given)
    for doing in (elog.look("no_such_one"), elog.write("no_such_one", draft(), None, None)):
        concerns, message = await fault_of(doing)
        assert (concerns in (ENTRY, LOGBOOK), "The logbook main/no_such_one: " in message) == (True, True)


async def test_a_missing_attribute_is_named(place: ElogPlace) -> None:
    elog = door(replace(place.given, attributes={}))
    concerns, message = await fault_of(elog.write(place.name, draft(), None, None))
    assert (concerns, "Author" in message) == (ENTRY, True)


async def test_an_option_that_is_not_one_is_named(place: ElogPlace) -> None:
    if place.stand_in is None and place.name != "demo":
        pytest.skip("nobody knows which options that logbook has")
    elog = door(replace(place.given, attributes={**ATTRIBUTES, "Type": "Nonsense"}))
    concerns, message = await fault_of(elog.write(place.name, draft(), None, None))
    assert (concerns, "Nonsense" in message) == (ENTRY, True)


async def test_a_look_writes_nothing(place: ElogPlace) -> None:
    elog = door(place.given)
    await elog.look(place.name)
    number = await elog.write(place.name, draft(), None, None)
    await elog.look(place.name)
    assert await elog.write(place.name, draft(), None, None) == number + 1


async def test_what_was_written_is_found_and_not_written_again(place: ElogPlace) -> None:
    elog, given = door(place.given), draft()
    number = await bring_in(elog, place.name, given, Content(), search=True, is_final=False)
    again = replace(given, text="newer")
    assert await bring_in(elog, place.name, again, Content(), search=True, is_final=False) == number
    assert place.entry(number).text.rstrip() == "newer"
    last = replace(given, text="never")
    assert await bring_in(elog, place.name, last, Content(), search=True, is_final=True) == number
    assert place.entry(number).text.rstrip() == "newer"


# On the stand-in, which can be made to fail


@pytest.mark.parametrize("how", ["hang", "slow", "cut", "lost"])
async def test_a_server_that_does_not_answer_is_left_in_time(elogd: ElogServer, how: str) -> None:
    elog = door_to(elogd, timeout_s=0.5)
    elogd.broken = {"GET": how, "POST": how}
    began = time.monotonic()
    concerns, message = await fault_of(elog.look("demo"))
    elogd.broken = {"POST": how}
    assert (await fault_of(elog.write("demo", draft(), None, None)))[0] == SERVER
    assert (concerns, "The logbook server main: it " in message) == (SERVER, True)
    assert time.monotonic() - began < 5


async def test_a_server_that_is_not_there_is_named() -> None:
    with ElogServer() as gone:
        elog = door_to(gone)
    assert (await fault_of(elog.look("demo")))[0] == SERVER


async def test_an_answer_that_was_lost_makes_no_second_entry(elogd: ElogServer) -> None:
    elog, given = door_to(elogd), draft()
    elogd.broken = {"POST": "lost"}
    await fault_of(bring_in(elog, "demo", given, Content(), search=False, is_final=True))
    elogd.broken = {}
    number = await bring_in(elog, "demo", given, Content(), search=True, is_final=True)
    assert [entry.number for entry in elogd.entries()] == [number]


@pytest.mark.parametrize("page", ["<html>welcome</html>", "<html>/demo/7</html>"])
async def test_a_page_that_is_no_number_is_no_success(elogd: ElogServer, page: str) -> None:
    elogd.broken = {"POST": page}
    assert (await fault_of(door_to(elogd).write("demo", draft(), None, None)))[0] == ENTRY


async def test_a_login_goes_with_every_request(elogd: ElogServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\nof nobody\n")
    elogd.books["demo"].users = {"daq": SECRET}
    elog = door_to(elogd, user="daq", password_file=tmp_path / "password")
    number = await elog.write("demo", draft("key"), None, None)
    assert await elog.find("demo", "key") == number


@pytest.mark.parametrize("user", ["", "daq", "other"])
async def test_a_wrong_login_is_said_without_the_password(elogd: ElogServer, tmp_path: Path, user: str) -> None:
    (tmp_path / "password").write_text("hunter2")
    elogd.books["demo"].users = {"daq": SECRET}
    elog = door_to(elogd, user=user, password_file=tmp_path / "password" if user else None)
    for doing in (elog.look("demo"), elog.find("demo", "key"), elog.write("demo", draft(), None, None)):
        concerns, message = await fault_of(doing)
        assert (concerns, "login" in message, user in message) == (LOGBOOK, True, True)
        assert "hunter2" not in message
    elogd.broken = {"GET": "<html></html>"}  # guests may read, and not write
    assert (await fault_of(elog.write("demo", draft(), None, None)))[0] == LOGBOOK
    assert not any("hunter2" in line or "upwd" in line for line in elogd.requests)


def test_a_password_that_cannot_be_read_is_said(elogd: ElogServer, tmp_path: Path) -> None:
    elog = Elog("main", LogbookServer(elogd.url, user="daq", password_file=tmp_path / "none"))
    with pytest.raises(Fault, match="none cannot be read: No such file"):
        elog.prepare()


def test_certificates_that_are_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    elog = Elog("main", LogbookServer("https://elog.example", ca_file=tmp_path / "ca.pem"))
    with pytest.raises(Fault, match=r"ca\.pem cannot be read"):
        elog.prepare()


async def test_an_https_server_is_checked(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with ElogServer(tls=tls) as server:
        concerns, message = await fault_of(door_to(server).write("demo", draft(), None, None))
        assert (concerns, "certificate" in message.lower()) == (SERVER, True)
        assert server.entries() == []
        await door_to(server, ca_file=cert).write("demo", draft("key"), None, None)
        assert [entry.head["Key"] for entry in server.entries()] == ["key"]


async def test_a_logbook_without_the_key_attribute_is_refused_before_anything_is_doubled(
    elogd: ElogServer,
) -> None:
    elogd.books["demo"].attributes.remove("Key")
    elog = door_to(elogd)
    await elog.write("demo", draft(), None, None)  # it was empty: nothing could be seen
    for doing in (elog.write("demo", draft(), None, None), elog.find("demo", "key"), elog.look("demo")):
        concerns, message = await fault_of(doing)
        assert (concerns, "no attribute Key" in message) == (LOGBOOK, True)
    assert len(elogd.entries()) == 1


async def test_an_attribute_of_several_words_is_searched_and_compared(elogd: ElogServer) -> None:
    elogd.books["demo"].attributes = ["Author", "Type", "The title", "Entry Key"]
    elog = door_to(elogd, title_attribute="The title", key_attribute="Entry Key")
    number = await elog.write("demo", draft("key"), None, None)
    assert await elog.find("demo", "key") == number


async def test_an_entry_that_a_person_deleted_is_written_anew(elogd: ElogServer) -> None:
    elog, given = door_to(elogd), draft()
    number = await elog.write("demo", given, None, None)
    elogd.delete(number)
    content = Content(number=number)
    again = await bring_in(elog, "demo", given, content, search=False, is_final=False)
    assert [entry.number for entry in elogd.entries()] == [again]


async def test_a_reply_to_what_a_person_deleted_stands_by_itself(elogd: ElogServer) -> None:
    elog, given = door_to(elogd), draft()
    content = Content(reply_to=7, thread="run-x")
    await bring_in(elog, "demo", given, content, search=False, is_final=True)
    (entry,) = elogd.entries()
    assert (entry.head["Key"], "In reply to" in entry.head) == (given.key, False)


async def test_a_reply_finds_its_entry_when_nobody_knows_its_number(elogd: ElogServer) -> None:
    elog = door_to(elogd)
    number = await elog.write("demo", draft("run-x"), None, None)
    reply = await bring_in(elog, "demo", draft("y"), Content(thread="run-x"), search=False, is_final=True)
    assert elogd.entries()[-1].head["In reply to"] == str(number)
    assert elogd.entries()[-1].number == reply


async def test_an_edit_that_is_refused_for_another_reason_stays_refused(elogd: ElogServer) -> None:
    elog, given = door_to(elogd), draft()
    number = await elog.write("demo", given, None, None)
    elogd.books["demo"].required.append("Subject")
    bare = door_to(elogd, title_attribute="Nothing")
    concerns, message = await fault_of(bring_in(bare, "demo", given, Content(number=number), False, False))
    assert (concerns, "Subject" in message) == (ENTRY, True)
    assert len(elogd.entries()) == 1


async def test_a_name_with_blanks_and_slashes_stays_one_name(elogd: ElogServer) -> None:
    elogd.books["Shift log ü?#"] = Book()
    elog = door_to(elogd)
    number = await elog.write("Shift log ü?#", draft("key"), None, None)
    assert await elog.find("Shift log ü?#", "key") == number


async def test_what_the_charset_of_a_logbook_lacks_is_a_question_mark(elogd: ElogServer) -> None:
    elogd.accepted = lambda name, form: None
    elog = door_to(elogd, charset="ascii")
    await elog.write("demo", draft("key", "25 °C"), None, None)
    assert elogd.entries()[0].text == "25 ?C"
