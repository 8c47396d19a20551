"""The rules of the house that a program can check, for every file that is shipped."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    path
    for folder in ("storage_service", "protocol/storage_protocol", "protocol/storage_client")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sql")
)
MOST_LINES = 400
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "handler", "base"}


def faults(path: str, text: str) -> list[str]:
    """What a file does that none may; `path` is the one below the project's folder."""
    found = []
    if (lines := text.count("\n")) > MOST_LINES:
        found.append(f"{path} has {lines} lines; split it by responsibility, {MOST_LINES} are the most")
    if VAGUE & set(re.split(r"[_.]", Path(path).name)):
        found.append(f"{path} has a vague name; name it by a noun of the field")
    if path.endswith(".py"):
        found += [f"{path}:{line} {what}" for line, what in _faults_of_code(path, text)]
    return found


def _faults_of_code(path: str, text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert):
            yield node.lineno, "asserts: raise an error that says what is wrong"
        called = node.func if isinstance(node, ast.Call) else None
        prints = isinstance(called, ast.Name) and called.id == "print"
        if prints and not path.startswith("storage_service/cli/"):
            yield getattr(node, "lineno", 0), "prints: that is for the command line"
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME)\b", line):
            yield number, "is not finished"


def test_there_are_files_to_look_at() -> None:
    assert len(SHIPPED) > 40


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_file_keeps_the_rules_of_the_house(path: Path) -> None:
    assert faults(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("storage_service/rules/long.py", "x = 1\n" * (MOST_LINES + 1)),
        ("storage_service/store/queries/long.sql", "--\n" * (MOST_LINES + 1)),
        ("storage_service/desk/key_utils.py", ""),
        ("storage_service/base.py", ""),
        ("storage_service/desk/lanes.py", "assert True\n"),
        ("storage_service/desk/lanes.py", "def f() -> None:\n    print(1)\n"),
        ("storage_service/desk/lanes.py", "# " + "TODO: later\n"),
    ],
)
def test_a_planted_fault_is_seen(path: str, text: str) -> None:
    assert len(faults(path, text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("storage_service/rules/enough.py", "x = 1\n" * MOST_LINES),
        ("storage_service/store/database.py", '"""It asserts, and prints nothing."""\n'),
        ("storage_service/cli/lines.py", "print(1)\n"),
    ],
)
def test_what_is_allowed_is_no_fault(path: str, text: str) -> None:
    assert faults(path, text) == []
