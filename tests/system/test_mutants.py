"""The court that tries planted bugs: what changes nothing survives, and what cannot be tried is not caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant, read
from tests.mutants.trial import Court

LINE = "    return datetime.fromtimestamp(whole, UTC).isoformat()[:19]"
PATCH = '''promise: R10
why: another line of times.py
caught-by: {by}

diff --git a/protocol/storage_protocol/times.py b/protocol/storage_protocol/times.py
--- a/protocol/storage_protocol/times.py
+++ b/protocol/storage_protocol/times.py
@@ -25,3 +25,3 @@
     """A whole second of the calendar. The same one is told again and again."""
-{line}
+{instead}

'''
TESTS = "tests/unit/test_times.py"


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Court:
    return Court(tmp_path_factory.mktemp("court"))


def planted(folder: Path, instead: str, by: str = TESTS, line: str = LINE) -> Mutant:
    """A mutant that puts `instead` in place of a line."""
    path = folder / "R10-times.patch"
    path.write_text(PATCH.format(by=by, line=line, instead=instead))
    return read(path)


def test_what_breaks_a_test_is_caught(court: Court, tmp_path: Path) -> None:
    assert court.judge(planted(tmp_path, '    return "now"')).by == TESTS


def test_what_breaks_nothing_survives(court: Court, tmp_path: Path) -> None:
    verdict = court.judge(planted(tmp_path, f"{LINE}  # as it was"))
    assert (verdict.by, verdict.broken) == (None, "")


def test_a_second_line_is_tried_when_the_first_catches_nothing(court: Court, tmp_path: Path) -> None:
    by = f"tests/unit/test_names.py\ncaught-by: {TESTS}"
    assert court.judge(planted(tmp_path, '    return "now"', by)).by == TESTS


def test_a_test_that_cannot_run_has_caught_nothing(court: Court, tmp_path: Path) -> None:
    verdict = court.judge(planted(tmp_path, "    this is no line"))
    assert (verdict.by, "no failing test" in verdict.broken) == (None, True)


def test_what_does_not_apply_is_no_trial(court: Court, tmp_path: Path) -> None:
    verdict = court.judge(planted(tmp_path, "    return 1", line="    no such line"))
    assert (verdict.by, "does not apply" in verdict.broken) == (None, True)


def test_what_fails_without_the_mutant_is_no_trial(court: Court, tmp_path: Path) -> None:
    verdict = court.judge(planted(tmp_path, "    return 1", "python -m tests.nothing_at_all"))
    assert (verdict.by, "without it" in verdict.broken) == (None, True)
