"""Logbooks of a real service: entries, replies, kills at every step, and servers that are away, hang or refuse."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.elog_server import Book, ElogServer, Entry
from tests.support.failpoints import Lives, places
from tests.support.polling import eventually
from tests.support.service import Service, Settings
from tests.support.wire import Storage, Wire

Make = Callable[..., Service]

# What glibc's crypt makes of "secret" with the salt "$5$$".
SECRET = "o1w7HPzHt8gHmL5zUzDkRqt6Az.BjDfkvuDNNLWnXx5"
LOGBOOK = {"elog_server": "main", "elog_name": "demo"}


@pytest.fixture
def elogd() -> Iterator[ElogServer]:
    with ElogServer() as server:
        yield server


def settings(url: str, entries: str = "run", **more: object) -> Settings:
    main = {"url": url, "timeout_s": 1.0, "attributes": {"Author": "DAQ", "Type": "Run"}, **more}
    return {"logbooks": {"main": main}, "storages": {"*": {"entries": entries, "manifest": "off"}}}


def storage_on(wire: Wire, name: str = "s", **more: Any) -> Storage:
    return Storage(wire, name, **{"brg_name": f"g{name}", "brg_path": f"p{name}", **LOGBOOK, **more}).open()


def caught_up(wire: Wire) -> bool:
    return not wire.call("get_status")["queues"]["entries"]


def told(wire: Wire, *topics: str) -> list[dict[str, Any]]:
    return wire.journal(topics=list(topics or ("logbook.", "storage.warning")))


def entry_of(elogd: ElogServer, key: str) -> Entry:
    (entry,) = elogd.with_key(key)
    return entry


def test_a_run_has_one_entry_and_a_reply_for_what_went_wrong(own_service: Make, elogd: ElogServer) -> None:
    service = own_service(settings(elogd.url))
    service.script("bad.sh", "#!/bin/sh\nexit 3\n")
    with service.connect() as wire:
        storage = storage_on(wire)
        run = storage.run(params={"beam_GeV": 4.5})
        opened = eventually(lambda: elogd.with_key(f"run-{run['uid']}"))
        assert "No acquisitions yet." in opened[0].text
        good = storage.acq("good", producers=["p"], params={"threshold": 200}, convert_script="bad.sh")
        storage.mark(good, "p")
        wire_end = storage.acq("short", producers=["p", "q"])
        storage.mark(wire_end, "p")
        storage.close(wire_end, reason="end of the shift")
        lost = storage.acq("lost")
        wire.call("abort_acq_storage", storage_id="s", acq_id=lost["acq_id"], reason="no beam")
        eventually(lambda: elogd.with_key(f"aborted-1-{lost['uid']}"))
        eventually(lambda: len(elogd.entries()) == 4 and caught_up(wire))
        written = told(wire, "logbook.written")
    entry = entry_of(elogd, f"run-{run['uid']}")
    assert (entry.number, entry.head["Subject"], entry.head["Author"]) == (1, "Run run", "DAQ")
    for line in (
        run["run_id"], "beam_GeV = 4.5", "3 acquisitions: 1 aborted, 1 complete, 1 partial, newest first:",
        "complete    good", "partial     short", "aborted     lost", "missing: q", "threshold = 200",
        "conversion: failed", "reason: no beam",
    ):  # fmt: skip
        assert line in entry.text, entry.text
    replies = {each.head["Subject"]: each for each in elogd.entries() if each.number != 1}
    assert set(replies) == {"good of run was not converted", "short of run is partial", "lost of run was aborted"}
    assert {each.head["In reply to"] for each in replies.values()} == {"1"}
    assert "failed: exit code 3." in replies["good of run was not converted"].text
    assert "Missing: q" in replies["short of run is partial"].text
    content = elogd.books["demo"].files[f"{replies['lost of run was aborted'].number}/acquisition.json"]
    assert b'"reason": "no beam"' in content
    assert "1/acquisition.json" in elogd.books["demo"].files
    assert {event["subject"] for event in written} == {
        run["run_id"],
        *(a["acq_id"] for a in (good, wire_end, lost)),
    }
    assert {event["data"]["entry"] for event in written} == {1, 2, 3, 4}


def test_the_entry_of_a_long_run_is_bounded_and_seldom_written(own_service: Make, elogd: ElogServer) -> None:
    service = own_service(settings(elogd.url))
    with service.connect() as wire:
        storage = storage_on(wire)
        run = storage.run(params={f"param{n:03}": "x" * 500 for n in range(100)})
        for n in range(130):
            acq = storage.acq(f"a{n:03}", producers=["p"], params={f"p{n:02}": n for n in range(20)})
            storage.mark(acq, "p")
        eventually(lambda: caught_up(wire))
    text = entry_of(elogd, f"run-{run['uid']}").text
    assert "130 acquisitions: 130 complete; the newest 100 of them:" in text
    assert ("a129" in text, "a030" in text, "a029" in text) == (True, True, False)
    assert "and 8 more parameters" in text
    assert len(text) < 100_000
    assert len([line for line in elogd.requests if line.startswith("POST")]) < 100


def test_one_entry_an_acquisition_where_that_is_configured(own_service: Make, elogd: ElogServer) -> None:
    service = own_service(settings(elogd.url, "acquisition"))
    with service.connect() as wire:
        storage = storage_on(wire)
        storage.run()
        acq = storage.acq("a", producers=["p"])
        storage.close(acq)
        eventually(lambda: len(elogd.entries()) == 2 and caught_up(wire))
        again = storage.acq("a", producers=["p"])
        storage.mark(again, "p")
        eventually(lambda: "complete" in entry_of(elogd, f"acq-{acq['uid']}").head["Subject"])
    assert len(elogd.entries()) == 2
    assert elogd.entries()[1].head["In reply to"] == "1"


STEPS = ("entry.read", "entry.write", "entry.search", "entry.accepted", "entry.told")


def test_the_kills_go_through_every_failpoint_of_an_entry() -> None:
    assert {place.name for place in places() if place.room == "entry"} == set(STEPS)


@pytest.mark.parametrize("lost", ["", "lost"])
@pytest.mark.timeout(300)
def test_killed_at_every_step_each_entry_is_there_once(own_service: Make, elogd: ElogServer, lost: str) -> None:
    """Also where the answers of the logbook get lost now and then."""
    service = own_service(settings(elogd.url), start=False)
    names = [name for name in STEPS for _ in range(2)]
    lives = Lives(service, names)
    runs, partial, keys = list[str](), list[str](), list[str]()
    elogd.accepted = lambda name, form: keys.append(form["Key"] if "edit_id" not in form else "")
    try:
        for number in lives.rounds():
            elogd.broken = {"POST": lost} if lost else {}
            storage, run = {"storage_id": f"s{number}"}, f"r{number}"
            lives.call("init_storage", **storage, brg_name=f"g{number}", brg_path="p", **LOGBOOK)
            lives.call("config_storage", **storage)
            runs.append(lives.call("new_run_storage", **storage, run_name=run)["uid"])
            acq = lives.call("new_acq_storage", **storage, run_name=run, acq_name="a", producers=["p"])
            lives.call("close_acq_storage", **storage, acq_id=acq["acq_id"])
            partial.append(acq["uid"])
            elogd.broken = {}
            lives.until(lambda status: not status["queues"]["entries"], "get_status")
        assert lives.deaths == names
    finally:
        lives.close()
    with service.connect() as wire:
        eventually(lambda: caught_up(wire))
    new = [key for key in keys if key]
    assert sorted(new) == sorted([*(f"run-{uid}" for uid in runs), *(f"partial-1-{uid}" for uid in partial)])
    for run, acq in zip(runs, partial, strict=True):
        entry, reply = entry_of(elogd, f"run-{run}"), entry_of(elogd, f"partial-1-{acq}")
        assert (entry.number < reply.number, reply.head["In reply to"]) == (True, str(entry.number))
        assert "1 acquisition: 1 partial" in entry.text


def test_a_logbook_that_is_away_delays_nothing_and_gets_everything_later(own_service: Make) -> None:
    with ElogServer() as gone:
        pass
    service = own_service(settings(gone.url))
    with service.connect() as wire:
        storage = storage_on(wire)
        runs = [storage.run(f"r{n}") for n in range(3)]
        failed = eventually(lambda: told(wire, "logbook.failed"))
        (warned,) = eventually(lambda: told(wire, "storage.warning"))
        sentence = "The logbook server main: it cannot be reached"
        assert failed[0]["data"]["logbook"] == failed[0]["subject"] == "main/demo"
        assert failed[0]["data"]["message"].startswith(sentence)
        assert (warned["storage_id"], warned["data"]["what"]) == ("s", "logbook")
        status = wire.call("get_status")
        assert status["queues"]["entries"] == 3
        (logbook,) = status["logbooks"]
        assert (logbook["logbook"], logbook["waiting"], logbook["state"]) == ("main/demo", 3, "failed")
        service.restart()
    with ElogServer(port=gone.port) as back, service.connect() as wire:
        eventually(lambda: caught_up(wire))
        assert [each.head["Key"] for each in back.entries()] == [f"run-{run['uid']}" for run in runs]
        assert wire.call("get_status")["logbooks"][0] == {
            "logbook": "main/demo", "waiting": 0, "state": "ok", "reason": None,
        }  # fmt: skip


def test_it_fails_and_recovers_and_tells_each_once(own_service: Make, elogd: ElogServer) -> None:
    elogd.broken = {"POST": "cut"}
    service = own_service(settings(elogd.url))
    with service.connect() as wire:
        storage = storage_on(wire)
        storage.run("r0")
        eventually(lambda: len([line for line in elogd.requests if "POST" in line]) > 1)
        elogd.broken = {}
        eventually(lambda: caught_up(wire))
        types = [event["type"] for event in told(wire)]
    assert types == ["logbook.failed", "storage.warning", "logbook.written", "logbook.recovered"]
    assert len(elogd.entries()) == 1


@pytest.mark.parametrize("how", ["hang", "slow"])
def test_a_logbook_that_hangs_delays_no_command_and_no_stop(
    own_service: Make, elogd: ElogServer, how: str
) -> None:
    elogd.broken = {"GET": how, "POST": how}
    service = own_service(settings(elogd.url, timeout_s=60))
    with service.connect() as wire:
        began = time.monotonic()
        storage = storage_on(wire)
        for n in range(5):
            storage.run(f"r{n}")
            acq = storage.acq("a", f"r{n}", producers=["p"])
            storage.mark(acq, "p")
        eventually(lambda: elogd.requests)
        assert time.monotonic() - began < 20
    began = time.monotonic()
    assert service.signal(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
    elogd.broken = {}
    service.start()
    with service.connect() as wire:
        eventually(lambda: caught_up(wire))
    assert len(elogd.entries()) == 5


@pytest.mark.parametrize(
    ("of_logbook", "of_server", "said"),
    [
        ({"elog_server": "other"}, {}, "The logbook server other is not in [logbooks] of the configuration"),
        ({"elog_name": "nothing"}, {}, 'The logbook main/nothing: it says: Logbook "nothing" does not exist'),
        ({}, {"user": "daq"}, "The logbook main/demo: it does not take the login of 'daq'."),
        ({}, {"attributes": {}}, "The logbook main/demo: it says: Error: Attribute Author not supplied."),
        ({}, {"key_attribute": "Mark"}, "The logbook main/demo: it has no attribute Mark, by which entries"),
    ],
    ids=["an unknown server", "an unknown logbook", "a wrong password", "a missing attribute", "no key attribute"],
)
def test_what_is_wrong_with_a_logbook_is_said_and_nothing_lost(
    own_service: Make,
    elogd: ElogServer,
    tmp_path: Path,
    of_logbook: dict[str, str],
    of_server: dict[str, Any],
    said: str,
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/password").write_text("hunter2\n")
    if "user" in of_server:
        elogd.books["demo"].users = {"daq": SECRET}
        of_server = {**of_server, "password_file": "password"}
    elogd.books["demo"].text = "$@MID@$: 1\nAuthor: somebody\n" + "=" * 40 + "\nof before\n"
    elogd.books["demo"].newest = 1
    service = own_service(settings(elogd.url, **of_server))
    with service.connect() as wire:
        storage = storage_on(wire, **of_logbook)
        run = storage.run()
        (warned,) = eventually(lambda: told(wire, "storage.warning"))
        assert warned["data"]["message"].startswith(said), warned
        assert wire.call("get_storage", storage_id="s")["warnings"][0]["what"] == "logbook"
        eventually(lambda: wire.call("get_status")["queues"]["entries"] == 1)
        text = repr([*wire.journal(), wire.call("get_status")])
    service.terminate()
    assert "hunter2" not in text + service.log_text() + repr(elogd.requests)
    # Put right, what was owed is written.
    (tmp_path / "own/password").write_text("secret")
    elogd.books["nothing"] = Book()
    config = service.config.read_text()
    for wrong, right in (("[logbooks]", "[logbooks]\n" + _other(elogd)), ('"Mark"', '"Key"')):
        config = config.replace(wrong, right)
    if of_server == {"attributes": {}}:
        config = config.replace('"attributes" = {  }', '"attributes" = { "Author" = "DAQ" }')
    service.config.write_text(config)
    service.start()
    name = of_logbook.get("elog_name", "demo")
    eventually(lambda: elogd.with_key(f"run-{run['uid']}", name))


def _other(elogd: ElogServer) -> str:
    return f'other = {{ url = "{elogd.url}", attributes = {{ Author = "DAQ" }} }}'


def test_a_table_may_be_named_by_the_address_that_clients_give(own_service: Make, elogd: ElogServer) -> None:
    given = {"url": elogd.url, "attributes": {"Author": "DAQ"}}
    service = own_service({"logbooks": {"http://elog.lab:8080": given}})
    with service.connect() as wire:
        run = storage_on(wire, elog_server="http://elog.lab:8080").run()
        eventually(lambda: elogd.with_key(f"run-{run['uid']}"))


def test_a_removed_run_keeps_its_entry_and_the_next_has_its_own(own_service: Make, elogd: ElogServer) -> None:
    service = own_service(settings(elogd.url))
    with service.connect() as wire:
        storage = storage_on(wire)
        first = storage.run()
        eventually(lambda: caught_up(wire))
        second = storage.run(mode="remove")
        eventually(lambda: caught_up(wire))
        first_entry, second_entry = (entry_of(elogd, f"run-{run['uid']}") for run in (first, second))
        (reply,) = [each for each in elogd.entries() if "was removed" in each.head["Subject"]]
        assert reply.head["In reply to"] == str(first_entry.number) != str(second_entry.number)
        wire.call("restore_trash", uid=first["uid"], replace=True)
        eventually(lambda: caught_up(wire))
        # The next end of an acquisition of it is in the first entry again.
        acq = storage.acq("a", producers=["p"])
        storage.mark(acq, "p")
        eventually(lambda: "1 complete" in entry_of(elogd, f"run-{first['uid']}").text)
    assert len(elogd.entries()) == 4
