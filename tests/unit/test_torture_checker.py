"""The outside checker of the long tier finds what is planted into a journal, a reply or a script's account."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.torture import verdicts
from tests.torture.asked import Asked, result_bytes
from tests.torture.fold import Fold
from tests.torture.trap import Trap

Map = dict[str, Any]
UID = "0195-acq"
ACQ = "root/g/r/a"


def acq(**more: Any) -> Map:
    made = {
        "acq_id": ACQ,
        "uid": UID,
        "segment": 1,
        "state": "open",
        "sealed": False,
        "params": {},
        "run_id": "root/g/r",
    }
    rest = {"producers": [], "finished": 0, "missing": [], "failed": [], "expected": 1, "storage_id": "s"}
    beside: Map = {}
    return made | rest | beside | {"convert_script": "quick.sh", "conversion": None, "warnings": []} | more


def conversion(state: str, attempt: int) -> Map:
    return {"conversion_id": "c1", "uid": UID, "segment": 1, "state": state, "attempt": attempt, "acq_id": ACQ}


def life() -> list[tuple[str, str, Map]]:
    """Type, subject and data of a sound life: one command of each kind, ids 1 to 4."""
    storage = {"storage_id": "s", "state": "ready", "producers": [], "producers_unnamed": 0, "warnings": []}
    storage |= {"open_acqs": []}
    run = {"run_id": "root/g/r", "uid": "0195-run", "run_name": "r", "storage_id": "s", "params": {"with0": 1}}
    mark = {"acq_id": ACQ, "uid": UID, "segment": 1, "producer": "calo", "ok": True, "summary": {"id": 3}}
    ended = acq(state="finished", params={"own1": 2}, finished=1)
    ended["producers"] = [{"producer": "calo", "ok": True, "summary": {"id": 3}, "time": "t"}]
    return [
        ("storage.initialized", "s", storage),
        ("run.created", "root/g/r", run),
        ("acquisition.started", ACQ, acq()),
        ("acquisition.param_set", ACQ, {"param": "own1", "value": 2}),
        ("acquisition.producer_finished", ACQ, {**mark, "finished": 1, "expected": 1}),
        ("acquisition.finished", ACQ, ended),
        ("conversion.queued", ACQ, conversion("queued", 0)),
        ("acquisition.sealed", ACQ, {"acq_id": ACQ, "uid": UID, "segment": 1}),
        ("conversion.started", ACQ, conversion("running", 1)),
        ("conversion.succeeded", ACQ, conversion("succeeded", 1)),
    ]


def measured(when: str, start: int | None, end: int | None) -> tuple[str, str, Map]:
    """What one reading tells."""
    head = {"acq_id": ACQ, "uid": UID, "segment": 1, "when": when}
    saved = [{"file": "config.xml"}] if when == "start" else []
    told = {**head, "statistics": {"x": {"start": start, "end": end}}, "configurations": saved}
    return "acquisition.measured", ACQ, told


def measured_life() -> list[tuple[str, str, Map]]:
    """A sound life that is measured: its start is the fourth event, its end the eighth, then the seal."""
    events = life()[:8]
    events[2][2]["statistics"] = {"x": {"start": None, "end": None}}
    events[5][2].update(measured("start", 1, None)[2])
    del events[6]
    events.insert(3, measured("start", 1, None))
    events.insert(7, measured("end", 1, 4))
    config = {"name": "config.xml", "blake3": "af13", "bytes": 3}
    return [*events, ("storage.config_set", "s", config)]


def told(events: list[tuple[str, str, Map]], tamper: Callable[[list[Map]], Any] = lambda rows: None) -> Fold:
    """The journal of these events, after somebody has tampered with its rows."""
    rows: list[Map] = []
    tails: dict[str, int] = {}
    for seq, (type_, subject, data) in enumerate(events, 1):
        before, tails[type_] = tails.get(type_, 0), seq
        head = {"v": 1, "seq": seq, "time": "t", "type": type_, "storage_id": "s", "prev_seq": before}
        rows.append(head | {"subject": subject, "data": data})
    tamper(rows)
    fold = Fold()
    for row in rows:
        fold.take(row)
    return fold


def asked(id: int, cmd: str, result: Map | None, **args: Any) -> Asked:
    made = Asked(random.Random(id), cmd, {"storage_id": "s", **args})
    made.id, made.copies, made.first_sent = id, 1, 10 * id
    if result is not None:
        made.answered, made.result = 10 * id + 5, result
    return made


def book() -> dict[int, Asked]:
    where = {"acq_id": ACQ, "uid": UID, "segment": 1}
    several = [
        asked(1, "new_run_storage", {"uid": "0195-run", "run_name": "r"}, run_name="{n}"),
        asked(2, "set_param_acq_storage", {"stored": True}, param="own1", value=2),
        asked(3, "mark_as_finished_storage", {**where, "counted": True}, producer="calo"),
        asked(4, "close_acq_storage", {**where, "state": "finished"}),
    ]
    return {each.id: each for each in several}


def found(fold: Fold, commands: dict[int, Asked]) -> list[str]:
    wrong = verdicts.effects(commands, set(), fold) + verdicts.ends(commands, fold)
    return fold.wrong + wrong + verdicts.order(commands, set(), fold)


def test_a_sound_life_has_nothing() -> None:
    assert found(told(life()), book()) == []


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda rows: rows.pop(3), "seq 5 after 3"),
        (lambda rows: rows[4].update(prev_seq=3), "prev_seq"),
        (lambda rows: rows.insert(5, rows[4]), "doubled: mark"),
        (lambda rows: rows.insert(6, rows[5]), "doubled: end"),
        (lambda rows: rows.insert(8, rows[8]), "out of turn"),
        (lambda rows: rows.append(rows[9]), "doubled: accepted result"),
        (lambda rows: rows[5]["data"].update(finished=2), "the end tells others of"),
        (lambda rows: rows[8]["data"].update(attempt=2), "out of turn"),
        (lambda rows: rows.__setitem__(slice(7, 8), []), "started before the seal"),
    ],
)
def test_a_journal_that_cannot_be_true_is_found(tamper: Callable[[list[Map]], Any], says: str) -> None:
    assert any(says in each for each in told(life(), tamper).wrong)


def test_a_measured_life_has_nothing_and_what_was_measured_stands_in_it() -> None:
    fold = told(measured_life())
    assert fold.wrong == []
    assert fold.acqs[ACQ]["statistics"] == {"x": {"start": 1, "end": 4}}
    assert fold.acqs[ACQ]["configurations"] == [{"file": "config.xml"}]
    assert fold.storages["s"]["config"]["blake3"] == "af13"


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda rows: rows.insert(4, rows[3]), "doubled: measured"),
        (lambda rows: rows.insert(8, rows[7]), "doubled: measured"),
        (lambda rows: rows.pop(7), "sealed before its end was read"),
        (lambda rows: rows.pop(3), "before its start"),
        (lambda rows: rows.insert(4, rows.pop(7)), "before it ended"),
        (lambda rows: rows.append(rows.pop(7)), "after the seal"),
        (lambda rows: rows[3]["data"].update(segment=2), "of another one"),
    ],
)
def test_readings_that_cannot_be_true_are_found(tamper: Callable[[list[Map]], Any], says: str) -> None:
    found = told(measured_life(), tamper).wrong
    assert any(says in each for each in found), found


def without(*types: str) -> Fold:
    return told([event for event in life() if event[0] not in types])


def test_an_effect_that_is_missing_is_lost() -> None:
    for type_ in ("run.created", "acquisition.param_set", "acquisition.producer_finished", "acquisition.finished"):
        assert any(each.startswith("lost:") for each in found(without(type_), book())), type_


def test_a_conversion_that_was_never_queued_is_lost() -> None:
    gone = ("conversion.queued", "conversion.started", "conversion.succeeded")
    assert any("never queued" in each for each in verdicts.ends(book(), without(*gone)))


def test_an_effect_that_is_there_twice_is_doubled() -> None:
    events = life()
    twice = told([*events[:4], events[3], *events[4:]])
    assert any("took effect 2 times" in each for each in found(twice, book()))


def test_an_effect_of_what_was_refused_or_never_asked_is_wrong() -> None:
    commands = book()
    commands[2].answered, commands[2].result, commands[2].code = 0, None, "wrong_state"
    assert any("took effect, but was answered wrong_state" in each for each in found(told(life()), commands))
    del commands[2]
    assert any("nobody asked for" in each for each in found(told(life()), commands))


def test_a_number_that_two_commands_have_is_doubled() -> None:
    commands = book()
    commands[5] = asked(5, "new_run_storage", {"uid": "0195-run", "run_name": "r"}, run_name="{n}")
    assert any("was given to" in each for each in found(told(life()), commands))


def test_a_command_that_overtook_an_acknowledged_one_is_wrong() -> None:
    commands = book()
    commands[2].first_sent, commands[2].answered = 100, 105
    assert any("acknowledged earlier" in each for each in found(told(life()), commands))


def test_a_repeat_with_other_bytes_is_found() -> None:
    def reply(id: int, result: bytes) -> tuple[Map, bytes]:
        raw = b"\x84\xa1v\x01\xa2id" + msgpack.packb(id) + b"\xa2ok\xc3\xa6result" + result
        return msgpack.unpackb(raw), raw

    one = asked(7, "new_run_storage", None, run_name="r")
    first = msgpack.packb({"a": 1, "b": 2})
    assert one.take(*reply(7, first), 1) is None
    assert one.take(*reply(900, first), 2) is None
    assert "another reply" in (one.take(*reply(7, msgpack.packb({"b": 2, "a": 1})), 3) or "")
    assert result_bytes(reply(7, first)[1]) == first


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("start 1\nend 1\n", ""),
        ("start 1\n", "never came to its end"),
        ("start 1\noverlap 2\nend 1\n", "overlap"),
        ("start 1\nstart 1\nend 1\n", "ran twice"),
        ("start 1\nstart 2\nend 1\n", "ended after"),
    ],
)
def test_the_scripts_own_account_is_held_against_the_journal(tmp_path: Path, lines: str, says: str) -> None:
    (tmp_path / f"{UID}.1").write_text(lines)
    wrong = verdicts.conversions(told(life()), tmp_path)
    assert any(says in each for each in wrong) if says else wrong == []


def test_an_event_that_was_told_and_is_in_no_journal_is_found(tmp_path: Path) -> None:
    trap = Trap(f"ipc://{tmp_path}/events")
    try:
        fold = told(life())
        trap._heard = [(1, fold.rows[0][0]), (2, fold.rows[1][0] ^ 1), (11, 5)]
        assert "seq [2, 11]" in trap.strangers(fold.rows)[0]
        assert trap.strangers(fold.rows) == []
    finally:
        trap.close()
