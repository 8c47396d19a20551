"""The log: run in a process of its own, since logging is set up once a process."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from storage_service import logs

PROGRAM = """
import logging, sys, warnings
import structlog
from storage_service import logs

logs.configure("info", {force_json})
log = structlog.get_logger("desk")

def fail():
    word = "hun" + "ter2"
    raise KeyError("lost")

log.debug("too quiet to be heard")
log.info("started", storages=3, odd=object, name="red\\x1b[31m")
logging.getLogger("foreign").debug("too quiet as well")
logging.getLogger("foreign").warning("slow %s", "task", extra=dict(task=7))
warnings.warn("old", DeprecationWarning)
try:
    fail()
except KeyError:
    log.exception("failed")
    logging.getLogger("foreign").exception("failed too")
logs.configure("error", {force_json})
log.warning("too quiet now")
log.error("once")
"""


def run(force_json: bool | None) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "always", "-c", PROGRAM.format(force_json=force_json)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(None).stderr.splitlines()]


def test_each_line_is_json_and_those_below_the_level_are_left_out(lines: list[dict[str, Any]]) -> None:
    assert [line["event"].split(":")[-1].strip() for line in lines if line["logger"] != "py.warnings"] == [
        *("started", "slow task", "failed", "failed too", "once"),
    ]
    assert lines[0] | {"timestamp": ""} == {
        "event": "started",
        "level": "info",
        "logger": "desk",
        "name": "red\x1b[31m",
        "odd": "<class 'object'>",
        "storages": 3,
        "timestamp": "",
    }


def test_times_are_utc(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        assert line["timestamp"].endswith("Z")
        assert abs((datetime.now(UTC) - datetime.fromisoformat(line["timestamp"])).total_seconds()) < 600


def test_foreign_loggers_and_warnings_go_the_same_way(lines: list[dict[str, Any]]) -> None:
    foreign = next(line for line in lines if line["logger"] == "foreign")
    assert (foreign["event"], foreign["level"], foreign["task"]) == ("slow task", "warning", 7)
    warning = next(line for line in lines if line["logger"] == "py.warnings")
    assert "DeprecationWarning: old" in warning["event"]


def test_a_traceback_names_places_but_no_values(lines: list[dict[str, Any]]) -> None:
    for event in ("failed", "failed too"):
        (error,) = next(line for line in lines if line["event"] == event)["exception"]
        assert (error["exc_type"], error["exc_value"]) == ("KeyError", "'lost'")
        assert [frame["name"] for frame in error["frames"]] == ["<module>", "fail"]
    assert "hunter2" not in json.dumps(lines)


def test_text_for_people_has_neither_colours_nor_values_of_variables() -> None:
    text = run(False).stderr
    assert "slow task" in text
    assert "KeyError: 'lost'" in text
    assert "\x1b" not in text
    assert "hunter2" not in text
    assert "too quiet" not in text


@pytest.mark.parametrize(("force_json", "is_json"), [(None, False), (True, True)])
def test_a_terminal_gets_text_unless_json_is_forced(force_json: bool | None, is_json: bool) -> None:
    program = f"from storage_service import logs; import structlog\nlogs.configure('info', {force_json})\n"
    program += "structlog.get_logger('desk').info('started')"
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True, timeout=60)
        line = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "started" in line
    assert line.startswith("{") == is_json


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="The log level is 'loud'; it must be one of debug, info, warning, error"):
        logs.configure("loud")
