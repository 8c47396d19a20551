"""Failpoints are literals, each in one place: the tests that die at them read them from the code."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.support.failpoints import places
from tests.system.test_failpoints import ELSEWHERE

ROOT = Path(__file__).parents[2]


def test_each_failpoint_is_a_literal_of_room_and_step() -> None:
    wrong = [place for place in places() if not re.fullmatch(r"[a-z_]+\.[a-z_]+", place.name or "")]
    assert wrong == []


def test_each_failpoint_is_in_one_place() -> None:
    assert [name for name, count in Counter(place.name for place in places()).items() if count > 1] == []


def test_every_room_that_makes_something_durable_has_failpoints() -> None:
    files = {place.file for place in places()}
    assert {"doors/directory.py", "doors/folders.py", "mounts.py", "shell.py", "bus/endpoint.py"} <= files


def test_failpoints_that_no_command_leads_to_are_gone_through_elsewhere() -> None:
    rooms = {place.room for place in places()}
    for room, test in ELSEWHERE.items():
        if room in rooms:
            assert "failpoint" in (ROOT / test).read_text().lower(), f"{test} is to go through {room}"
