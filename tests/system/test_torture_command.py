"""The long tier as a program: what it runs, what it says, what it writes, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.torture import report
from tests.torture.parts import PARTS, Part, Size, chosen
from tests.torture.progress import Progress
from tests.torture.tally import Goal, Tally

RESULT = {"promise": "R1", "cycles": 3, "faults": 4, "acknowledged": 5, "seconds": 1.0, "seed": 9}
FAILURES = {"lost": 0, "doubled": 0, "wrong": 0}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "tests.torture", *words]
    return subprocess.run(program, capture_output=True, text=True, timeout=110, check=False)


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Part:
    """A part that runs this body."""
    (folder / "part_of_a_test.py").write_text(body)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return Part("R1-x", "a title", "part_of_a_test", Size(), Size(), lambda size, seed, place: [])


def progress_of(part: Part, folder: Path) -> Progress:
    made = Progress(part, Size(cycles=3), 7)
    made.run(folder, threading.Event())
    return made


def test_a_short_run_says_what_it_did_and_leaves_nothing(tmp_path: Path) -> None:
    page, data, kept = tmp_path / "page.md", tmp_path / "run.json", tmp_path / "kept"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    words = ("R1-kill", "--cycles", "2", "--seed", "3", "--keep", str(kept))
    ran = run(*words, "--report", str(page), "--report", str(data))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "seed 3" in ran.stdout
    told = json.loads(data.read_text())
    (row,) = told["parts"]
    assert (row["part"], row["state"], row["cycles"], row["found"]) == ("R1-kill", "done", 2, [])
    assert row["acknowledged"] > 0
    assert told["conditions"]["seed"] == "3"
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert f"| {row['acknowledged']:,} |" in text
    assert not kept.exists()


def test_an_unknown_part_is_refused_in_a_sentence() -> None:
    ran = run("R99")
    assert ran.returncode == 2
    assert "there is no part R99" in ran.stderr


def test_a_promise_stands_for_all_its_parts() -> None:
    assert [part.name for part in chosen(["R1"])] == ["R1-kill", "R1-power"]
    assert [part.name for part in chosen(["R8-frames", "R5"])] == ["R5", "R8-frames"]
    assert chosen([]) == list(PARTS)


def test_a_part_that_is_not_there_is_skipped(tmp_path: Path) -> None:
    part = Part("R1-x", "a title", "tests.of_no_part", Size(), Size(), lambda size, seed, place: [])
    assert progress_of(part, tmp_path).state == "skipped"
    lines = report.markdown([progress_of(part, tmp_path)], {})
    assert "Not run, 1 of 1 parts: R1-x." in lines


@pytest.mark.parametrize(
    ("last", "code", "state"),
    [
        (RESULT | FAILURES, 0, "done"),
        (RESULT | FAILURES | {"lost": 1}, 1, "failed"),
        (RESULT | FAILURES, 1, "failed"),
        (RESULT | FAILURES | {"doing": "still at it"}, 0, "failed"),
        (None, 0, "failed"),
    ],
)
def test_a_part_is_done_only_with_a_result_without_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: object, code: int, state: str
) -> None:
    body = f"print({json.dumps(last)!r})\nraise SystemExit({code})" if last else "print('no result')"
    made = progress_of(program(tmp_path, monkeypatch, body), tmp_path / "kept")
    assert made.state == state
    assert (made.kept != "") == (state == "failed")
    assert "--cycles 3" in made.repeat


def test_a_goal_is_all_its_numbers_or_its_seconds() -> None:
    goal = Goal(cycles=10, seconds=60.0, acknowledged=100)
    assert not goal.reached(Tally("R1", 0, cycles=10, acknowledged=99))
    assert goal.reached(Tally("R1", 0, cycles=10, acknowledged=100))
    assert goal.reached(Tally("R1", 0, seconds=60.0))
    assert not Goal().reached(Tally("R1", 0, cycles=1000))
    assert goal.after(Tally("R1", 0, cycles=4, seconds=10.0)) == Goal(6, 50.0, 100)
