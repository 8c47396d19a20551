"""Entries of logbooks as people read them, and that all of it is bounded."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from storage_protocol.records import CountedMark, Reading, Statistic
from storage_service.doors.elog_form import Listing, number_in, safe_attribute, safe_text
from storage_service.rules.logbook_records import Owed
from storage_service.rules.logbook_text import draft, statistics
from storage_service.rules.logbook_work import Content
from storage_service.rules.state import Acq, Places, Run

PLACES = Places({"file:///": "/srv/data"})
TIME = "2026-05-04T07:30:00.123456Z"
RUN = Run("root/g/r", "run-uid", "r", "root/g", "s", "life", "file:///", "p/r", True, TIME, {"beam": 4.5})
ACQ = Acq(
    "root/g/r/a", "acq-uid", "a", "root/g/r", "r", "s", "file:///", "p/r/a", True, TIME, TIME,
    state="finished", verdict="partial", finished_at="2026-05-04T07:42:10.250000Z",
    required=("p", "q"), expected=2,
    marks=(CountedMark("p", False, {"error": "FIFO\noverflow"}, TIME),), params={"threshold": 200, "note": None},
)  # fmt: skip
OF_RUN = Owed("root/g/r", "run", "s", "main", "demo", "root/g/r", "root/g/r")
OF_ACQ = replace(OF_RUN, id="root/g/r/a", kind="acquisition", node_id="root/g/r/a")
PROBLEM = replace(
    OF_ACQ, id="partial-1-acq-uid", kind="problem", uid="acq-uid", title="a of r is partial", text="Missing: q",
    time=TIME,
)  # fmt: skip


def text_of(owed: Owed, content: Content) -> str:
    made = draft(owed, content, PLACES)
    assert made is not None
    return made.text


def test_the_entry_of_a_run_is_a_table_of_its_acquisitions() -> None:
    made = draft(OF_RUN, Content(run=RUN, acqs=(ACQ,), ended=ACQ, counts={"partial": 1}), PLACES)
    assert made is not None
    assert (made.key, made.title) == ("run-run-uid", "Run r")
    assert made.text == (
        "root/g/r\n"
        "storage       s\n"
        "folder        p/r on file:///\n"
        "on this host  /srv/data/p/r\n"
        "begun         2026-05-04 07:30:00 UTC\n"
        "beam = 4.5\n"
        "\n"
        "1 acquisition: 1 partial, newest first:\n"
        "\n"
        "2026-05-04 07:42:10 UTC  partial     a\n"
        "    missing: q\n"
        "    failed: p\n"
        "    note = None\n"
        "    threshold = 200\n"
    )
    (attached,) = made.attachments
    assert attached.name == "acquisition.json"
    assert json.loads(attached.content)["acq_id"] == "root/g/r/a"


def test_a_fresh_run_says_that_there_is_nothing_yet() -> None:
    made = draft(OF_RUN, Content(run=RUN), PLACES)
    assert made is not None
    assert (made.text.endswith("\n\nNo acquisitions yet.\n"), made.attachments) == (True, ())


def test_the_newest_that_ended_is_attached_and_an_open_one_misses_nobody() -> None:
    still = replace(ACQ, name="b", state="open", verdict=None, finished_at=None)
    made = draft(OF_RUN, Content(run=RUN, acqs=(still, ACQ), ended=ACQ, counts={"open": 1, "partial": 1}), PLACES)
    assert made is not None
    assert "open        b\n    failed: p" in made.text
    assert json.loads(made.attachments[0].content)["acq_name"] == "a"


def test_the_entry_of_an_acquisition_has_its_verdict_in_the_title() -> None:
    made = draft(OF_ACQ, Content(acq=replace(ACQ, segment=2)), PLACES)
    assert made is not None
    assert (made.key, made.title) == ("acq-acq-uid", "Acquisition a of run r: partial")
    assert "a, segment 2" in made.text


def test_a_problem_is_told_also_when_what_it_is_about_is_gone() -> None:
    text = "a of r is partial, 2026-05-04 07:30:00 UTC.\n\nMissing: q\n\nroot/g/r/a\n"
    assert text_of(PROBLEM, Content(acq=ACQ)) == text_of(PROBLEM, Content()) == text
    for content, attached in ((Content(acq=ACQ), 1), (Content(), 0), (Content(acq=replace(ACQ, uid="x")), 0)):
        made = draft(PROBLEM, content, PLACES)
        assert made is not None
        assert len(made.attachments) == attached


def test_what_is_gone_has_no_entry() -> None:
    assert draft(OF_RUN, Content(), PLACES) is draft(OF_ACQ, Content(), PLACES) is None


def test_however_large_the_records_are_the_entry_is_not() -> None:
    params = {f"p{n:04}": "x" * 60_000 for n in range(4)} | {f"q{n:04}": n for n in range(1000)}
    names = tuple(f"producer_{n}" for n in range(400))
    acq = replace(ACQ, params=params, required=names, marks=(), reason="why\n" * 10_000)
    text = text_of(OF_RUN, Content(run=replace(RUN, params=params), acqs=(acq,) * 100, counts={"partial": 9999}))
    assert "9999 acquisitions: 9999 partial; the newest 100 of them:" in text
    assert "and 964 more parameters" in text
    assert "producer_39 and 360 more" in text
    assert len(text) < 250_000


def test_statistics_are_told_where_there_are_any() -> None:
    def read(value: int | None, missing: str | None = None) -> Reading:
        return Reading(value, "V" if value is not None else None, "MAJOR", missing, "")

    found = {
        "later": Statistic(),
        "grown": Statistic(read(5), read(12), 7),
        "gone": Statistic(read(5), read(None, "It was not there.")),
    }
    assert statistics(ACQ, 5) == []
    assert statistics(replace(ACQ, statistics=found), 5) == [
        "    gone = missing: It was not there.",
        "    grown = 12 V (MAJOR), +7 since its start",
        "    later = not read yet",
    ]


# What elogd reads and writes


@pytest.mark.parametrize("line", ["$@MID@$: 7", "$@MID@$:", "$@MID@$: x"])
def test_a_line_that_would_begin_an_entry_is_indented(line: str) -> None:
    for end in ("\n", "\r\n", "\r"):
        assert safe_text(f"a{end}{line}{end}b", "utf-8").decode() == f"a\n {line}\nb"


def test_control_characters_do_not_come_through() -> None:
    assert safe_text("a\x00\x1b\x7f\x85\tb", "utf-8") == b"a????\tb"
    assert safe_attribute("a\x00\nb\t c", "utf-8") == b"a b c"


def test_what_is_cut_ends_at_a_character() -> None:
    assert safe_attribute("ü" * 5000, "utf-8").decode().strip("ü") == " ..."
    for size in (249_000, 249_499, 249_500, 400_000):
        assert len(safe_text("ü" * (size // 2), "utf-8")) <= 249_600
        safe_text("ü" * (size // 2), "utf-8").decode()
    assert len(safe_text("\n" * 300_000, "utf-8")) < 250_000


def test_a_listing_is_read_in_whatever_pieces_it_comes() -> None:
    line = "=" * 40
    text = (
        f"$@MID@$: 3\r\nDate: x\r\nKey: a\r\n{line}\r\nKey: not this\r\n{line}\r\n$@MID@$: 14\nKey:  b \n{line}\n"
    )
    for size in (1, 7, 1000):
        listing = Listing("Key", "utf-8")
        for at in range(0, len(text), size):
            listing.feed(text[at : at + size].encode())
        assert (listing.found, listing.lacks) == ([(3, "a"), (14, "b")], False)


def test_a_listing_of_entries_without_the_attribute_says_so() -> None:
    listing = Listing("Key", "utf-8")
    listing.feed(f"$@MID@$: 3\nKeys: a\n{'=' * 40}\nKey: in the text\n".encode())
    assert (listing.found, listing.lacks) == ([], True)


@pytest.mark.parametrize(
    ("location", "number"),
    [
        ("http://elog:8080/demo/17", 17),
        ("https://elog/base/demo/17", 17),
        ("/Shift+log/17", 17),
        ("http://elog:8080/2026/2026", 2026),
        ("http://elog:8080/2026", None),
        ("http://elog:8080/base/2026", None),
        ("/demo/17/", None),
        ("17", None),
        ("http://elog:8080/demo/", None),
        ("http://elog:8080/demo/?cmd=17", None),
        ("http://elog:8080/2026/?fail=1", None),
        ("", None),
    ],
)
def test_an_entry_number_is_what_the_location_ends_in(location: str, number: int | None) -> None:
    assert number_in(location, "2026") == number
