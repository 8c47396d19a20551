"""The bench runs: every part of it, at its smallest, against the real service. No figure is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.disk import MEMORY, file_system

ROOT = Path(__file__).parents[2]
ON_A_DISK = pytest.mark.skipif(file_system(ROOT) in MEMORY, reason="the bench refuses a file system in memory")
ROWS = {"commands": 5, "finishes": 2, "replay": 2, "growth": 8, "conversions": 1, "manifest": 1}


def bench(module: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run of the bench in the checkout."""
    return subprocess.run(
        [sys.executable, "-m", module, "--quick", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def results(folder: Path, *words: str) -> dict[str, Any]:
    """What a run wrote, whatever the figures."""
    done = bench("bench", "--results", str(folder), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    assert found["failed"] == {}
    for each in found["table"]:
        assert each["what"] in done.stdout
    return found


@ON_A_DISK
@pytest.mark.parametrize("part", ROWS)
def test_every_part_measures_its_rows(tmp_path: Path, part: str) -> None:
    found = results(tmp_path, "--only", part, "--seconds", "0.1", "--load-minutes", "0")
    assert len(found["table"]) == ROWS[part]
    assert all(each["measured"] >= 0 for each in found["table"])
    curves = {"commands": ["outstanding"], "growth": ["store-size"]}
    assert [each["name"] for each in found["curves"]] == curves.get(part, [])
    # What was acknowledged is counted again, in the journals and at the subscriber.
    for count in found[part].get("journal", ()):
        assert count["rows"] == count["acknowledged"] > 0


@ON_A_DISK
def test_a_peer_that_is_not_installed_is_skipped_and_named(tmp_path: Path) -> None:
    done = bench("bench.peers", "--results", str(tmp_path), PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "peers.json").read_text())
    assert {*found["configured"], *found["skipped"]} == {"(b) store", "service", "NATS", "Redis", "RCDB"}
    for name, why in found["skipped"].items():
        assert f"{name:12}SKIPPED: {why}" in done.stdout


def test_a_file_system_in_memory_is_refused(tmp_path: Path) -> None:
    place = Path("/dev/shm")
    if not place.is_dir() or file_system(place) not in MEMORY:
        pytest.skip("there is no file system in memory here")
    done = bench("bench", "--folder", str(place), "--results", str(tmp_path))
    assert done.returncode == 1
    assert "a sync costs nothing" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"), [(("--only", "speed"), "the parts are commands"), (("--seconds", "0"), "--seconds is 0")]
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], said: str) -> None:
    done = bench("bench", *words)
    assert done.returncode == 2
    assert said in done.stderr
