"""Planted bugs stay ones: each patch applies to the code, says what it breaks, and names tests that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.mutants.mutant import FOLDER, PROMISES, ROOT, BadPatchError, Mutant, read

PATCHES = sorted(FOLDER.glob("*.patch"))

DIFF = "\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n"


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_mutant_applies_and_what_catches_it_is_there(path: Path) -> None:
    mutant = read(path)
    ran = subprocess.run(["git", "apply", "--check", path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert mutant.touches
    assert all(name.startswith(("storage_service/", "protocol/")) for name in mutant.touches)
    assert unknown(mutant) == []


def unknown(mutant: Mutant) -> list[str]:
    """What its `caught-by` names and is not there."""
    missing = []
    for words in mutant.caught_by:
        if words[2] != "pytest":
            place = ROOT / words[2].replace(".", "/")
            missing += (
                [] if place.with_suffix(".py").is_file() or (place / "__main__.py").is_file() else [words[2]]
            )
            continue
        tests = [word for word in words[3:] if word.startswith("tests/")]
        missing += [] if tests else [f"no test in {words}"]
        for word in tests:
            file, *names = word.split("::")
            text = (ROOT / file).read_text("utf-8") if (ROOT / file).is_file() else ""
            named = [re.escape(name.partition("[")[0]) for name in names]
            if not (ROOT / file).exists() or not all(re.search(rf"(def|class) {name}\b", text) for name in named):
                missing.append(word)
    return missing


def test_every_promise_has_a_mutant_that_breaks_it() -> None:
    assert {read(path).promise for path in PATCHES} == set(PROMISES)


def test_every_promise_that_is_told_is_one_of_the_mutants() -> None:
    told = re.findall(r"^\| (R\d+) \|", (ROOT / "docs" / "reliability.md").read_text("utf-8"), re.MULTILINE)
    assert {name for name in PROMISES if name[1:].isdigit()} == set(told) - {"R7"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("R1-x.patch", "promise: R1\nwhy: x\ncaught-by: tests/x.py\n", "no diff"),
        ("R1-x.patch", "promise: R1\nwhy: x\n" + DIFF, "caught-by"),
        ("R1-x.patch", "promise: R1\nwhy:\ncaught-by: tests/x.py\n" + DIFF, "why"),
        ("R1-x.patch", "promise: R2\nwhy: x\ncaught-by: tests/x.py\n" + DIFF, "its name begins"),
        ("R7-x.patch", "promise: R7\nwhy: x\ncaught-by: tests/x.py\n" + DIFF, "its name begins"),
        ("R1-x.patch", "promise: R1\nwhy: x\nsince: now\ncaught-by: tests/x.py\n" + DIFF, "since"),
    ],
)
def test_a_file_that_is_no_mutant_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadPatchError, match=says):
        read(tmp_path / name)


def test_a_test_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "R1-x.patch").write_text(
        "promise: R1\nwhy: x\ncaught-by: tests/unit/test_times.py::test_of_nothing\n"
        "caught-by: python -m tests.nothing\ncaught-by: python -m tests.mutants\n" + DIFF
    )
    assert unknown(read(tmp_path / "R1-x.patch")) == ["tests/unit/test_times.py::test_of_nothing", "tests.nothing"]
